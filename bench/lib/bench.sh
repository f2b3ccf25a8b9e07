#!/bin/bash
# For the scripts of bench/: builds, starts a throw-away server, runs one of the programs against it.
#
#   . "$(dirname "$0")/lib/bench.sh"
#   bench_run PROGRAM                 with the directory of a file:// server as its argument
#   bench_start_s3 DIRECTORY          an S3 server with a bucket `bench`, and a front whose faulty port answers 30 +- 10 ms late;
#                                     their ports and keys are then in the environment
#   bench_stop_s3 DIRECTORY

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
unset MAKEFLAGS MAKELEVEL
# shellcheck source=test/lib/private_server.sh
. test/lib/private_server.sh

# The core is built here a second time, as a plain library.
bench_build() {
    local directory=build/bench
    mkdir -p "$directory" || return 1
    # CMake refuses the cache of a clone that was moved or copied.
    grep -qsxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" "$directory/CMakeCache.txt" ||
        rm -rf "$directory"/CMake{Cache.txt,Files}
    { cmake -S . -B "$directory" -DIVFREMOTE_BENCH=ON &&
        cmake --build "$directory" -j"$(nproc)" --target "$@"; } >"$directory/log" 2>&1 && return
    tail -n 60 "$directory/log" >&2
    return 1
}

bench_run() {
    local program=$1
    test/lib/packages.sh || return 1
    echo "Building ivfremote and $program" >&2
    private_server_create release && bench_build "$program" &&
        private_server_start 'shared_buffers = 1GB' 'max_wal_size = 4GB' || return 1
    # shellcheck disable=SC2154 # set by private_server_create
    "build/bench/$program" "$work/lake"
}

bench_start_s3() {
    test/lib/packages.sh test/stores/packages.txt || return 1
    mkdir "$1/s3" "$1/nginx"
    MEMORY=6442450944 test/stores/radosgw.sh start "$1/s3" >/dev/null || return 1
    test/stores/radosgw.sh bucket "$1/s3" bench >/dev/null || return 1
    set -a
    # shellcheck source=/dev/null
    . "$1/s3/store.env"
    S3_ENDPOINT=http://127.0.0.1:$S3_HTTP_PORT
    test/stores/nginx.sh start "$1/nginx" "$S3_HTTP_PORT" >/dev/null || return 1
    # shellcheck source=/dev/null
    . "$1/nginx/store.env"
    set +a
    curl -fsS "http://127.0.0.1:$FRONT_FAULTY_HTTP_PORT/_fault?delay=30&jitter=10" >/dev/null
}

bench_stop_s3() {
    test/stores/nginx.sh stop "$1/nginx" >/dev/null
    test/stores/radosgw.sh stop "$1/s3" >/dev/null
    rm -rf "$1"
}
