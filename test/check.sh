#!/bin/bash
# Installs what is missing, builds, runs every kind of test on a private server. Called by `make check` and CI; the last line
# is `N passed, N failed, N skipped`. From the environment (or make's command line):
#   TESTS="unit regress"   only these kinds: exports unit sanitize fuzz regress isolation tap
#   TAP_FILES="test/t/003_cancel.pl"   only these, of the kind tap
#   TAP_JOBS=3             how many files of the kind tap run at a time: they wait more than they work
#   FUZZ_SECONDS=30        for each fuzz target; two run at a time
#   LONG=1                 longer limits, and what tests do for it themselves
#   KEEP=1                 keep the work directory (logs, cluster, results)
#   PG_CONFIG=...          test with this server
#   PGVECTOR=1             test beside the pgvector installed in it, or PGVECTOR=DIRECTORY in a built source tree, instead of
#                          the stand-in of test/vector
set -u
exec 2>&1
cd "$(dirname "$0")/.." || exit 1
unset MAKEFLAGS MAKELEVEL
# shellcheck source=test/lib/private_server.sh
. test/lib/private_server.sh

FUZZ_SECONDS=${FUZZ_SECONDS:-30}
TAP_JOBS=${TAP_JOBS:-3}
export LONG=${LONG:-}
limit_s=${LONG:+7200}
limit_s=${limit_s:-600}

TESTS=${TESTS:-}
if [ -z "${TESTS// /}" ]; then
    TESTS="exports unit ${LONG:+sanitize} fuzz regress"
    ! compgen -G 'test/specs/*.spec' >/dev/null || TESTS+=" isolation"
    TESTS+=" tap"
fi

all_passed=0 all_failed=0 all_skipped=0 complete=
# Of the kind that runs now; set by the functions below.
passed=0 failed=0 skipped=0

finish() {
    if [ -z "$complete" ]; then
        echo "FAILED: stopped before the end"
        all_failed=$((all_failed + 1))
    fi
    for group in $(jobs -p); do kill -TERM -- "-$group" 2>/dev/null; done
    true # no server log here: the kinds show theirs
    private_server_cleanup
    mkdir -p build
    echo "$all_passed passed, $all_failed failed, $all_skipped skipped" | tee build/summary
    [ $all_failed = 0 ] || exit 1
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# In a process group of its own, for finish() to end it with all that it started.
in_background() {
    set -m
    "$@" &
    set +m
}

fail() {
    failed=$((failed + 1))
    echo "FAILED: $*"
}

show_crashes() {
    grep -hE -A 5 'PANIC|TRAP:|terminated by signal' "$@" | head -n 50
}

# Where tests run: what they read of the clone, readable by the server's user wherever the clone is.
copy_tests() {
    mkdir "$work/repository" && cp -R test "$work/repository" &&
        for directory in sql expected docs README.md; do [ ! -e $directory ] || cp -R $directory "$work/repository"; done &&
        chown -R "$server_user" "$work/repository"
}

# cmake_build DIRECTORY [OPTION ...]
cmake_build() {
    local directory=build/$1
    shift
    mkdir -p "$directory"
    # CMake refuses the cache of a clone that was moved or copied.
    grep -qsxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" "$directory/CMakeCache.txt" || rm -rf "$directory"/CMake{Cache.txt,Files}
    { cmake -S . -B "$directory" "$@" && cmake --build "$directory" -j"$(nproc)"; } >"$directory/log" 2>&1 && return
    tail -n 60 "$directory/log"
    fail "cmake --build $directory"
    return 1
}

created=
need_extension() {
    if [ -z "$created" ]; then
        created=no
        private_server_create test && pgxs=$("$PG_CONFIG" --pkglibdir)/pgxs && created=yes
    fi
    [ $created = yes ] || { fail "building and installing the extension"; return 1; }
}

started=
need_server() {
    need_extension || return 1
    [ -z "$started" ] || return 0
    private_server_start 'fsync = off' 'max_prepared_transactions = 4' || { fail "starting the server"; return 1; }
    started=1
}

run_exports() {
    need_extension || return
    if test/lib/check_exports.pl build/test/ivfremote.so ivfremote--*.sql ivfremote_pgvector--*.sql; then passed=1; else fail exports.txt; fi
}

# The contract of object stores is tested against a real S3 server too; without one those tests skip, and say so.
run_unit() {
    cmake_build cmake || return
    local s3=$work/unit_s3 status=0
    if test/lib/packages.sh test/stores/packages.txt >/dev/null 2>&1 && as_server_user mkdir "$s3" &&
        as_server_user "$work/repository/test/stores/radosgw.sh" start "$s3" >/dev/null; then
        as_server_user "$work/repository/test/stores/radosgw.sh" bucket "$s3" contract >/dev/null
        set -a
        # shellcheck source=/dev/null
        . "$s3/store.env"
        set +a
    fi
    run_gtest build/cmake/ivfremote_unit_tests || status=$?
    [ ! -d "$s3" ] || as_server_user "$work/repository/test/stores/radosgw.sh" stop "$s3" >/dev/null
    unset "${!S3_@}" "${!AWS_@}"
    return $status
}

run_sanitize() {
    cmake_build sanitize -DIVFREMOTE_SANITIZE=ON && run_gtest build/sanitize/ivfremote_unit_tests
}

# Half of the tests: those that wait for time to pass let the others work.
gtest_shard() {
    cd "$work/repository" && as_server_user env TEST_TMPDIR="$TMPDIR" GTEST_TOTAL_SHARDS=2 GTEST_SHARD_INDEX="$1" \
        timeout --foreground "$limit_s" ./"$kind" >"$work/$kind.$1.log" 2>&1 </dev/null
}

run_gtest() {
    local log=$work/$kind.log status=0 begun shard
    cp "$1" "$work/repository/$kind" || return
    for shard in 0 1; do in_background gtest_shard $shard; done
    for shard in 0 1; do wait -n || status=$?; done
    cat "$work/$kind".[01].log >"$log"
    passed=$(grep -c '\[       OK \] ' "$log")
    skipped=$(grep -cE '\[  SKIPPED \] .* ms\)$' "$log")
    failed=$(grep -cE '\[  FAILED  \] .* ms\)$' "$log")
    awk '/^\[ RUN      \]/ { block = "" }
         { block = block $0 "\n" }
         /\[  FAILED  \] .* ms\)$/ { printf "%s", block }
         /\[  SKIPPED \] .* ms\)$/ { print "SKIP: " $4 ": " previous }
         { previous = $0 }' "$log"
    # A crash leaves a test that began and did not end.
    begun=$(grep -c '\[ RUN      \] ' "$log")
    if [ "$begun" -gt $((passed + failed + skipped)) ] || { [ $status != 0 ] && [ "$failed" = 0 ]; }; then
        tail -n 30 "$log"
        fail "$1 ended with status $status"
    fi
}

run_fuzz() {
    cmake_build fuzz -DCMAKE_CXX_COMPILER=clang++ -DIVFREMOTE_FUZZERS=ON || return
    local source name names=() running=()
    for source in test/fuzz/*_fuzz.cpp; do
        [ -e "$source" ] || return
        name=$(basename "$source" .cpp)
        names+=("$name")
        in_background fuzz "$name"
        running+=($!)
        # All take the same time.
        [ ${#running[@]} -lt 2 ] || { wait "${running[0]}"; running=("${running[@]:1}"); }
    done
    wait "${running[@]}"
    for name in "${names[@]}"; do
        if [ "$(cat "build/fuzz/$name.status")" = 0 ]; then
            passed=$((passed + 1))
            echo "$name: $(tail -n 1 "build/fuzz/$name.log")"
        else
            grep -vE '^#[0-9]+' "build/fuzz/$name.log" | tail -n 40
            fail "$name"
        fi
    done
}

# Goes on from the corpus of earlier runs, and from golden files.
fuzz() {
    local name=$1 corpus=build/fuzz/corpus/$1 file status=0
    rm -f "build/fuzz/$name.status"
    mkdir -p "$corpus"
    case $name in
        index_fuzz) cp test/golden/indexes/*.index "$corpus" ;;
        # The first byte chooses what is fuzzed: whole segments.
        segment_fuzz) for file in test/golden/segments/*.seg; do { printf '\3' && cat "$file"; } >"$corpus/$(basename "$file")"; done ;;
    esac
    "build/fuzz/$name" -max_total_time="$FUZZ_SECONDS" -timeout=20 -rss_limit_mb=2048 \
        -artifact_prefix="build/fuzz/$name-" "$corpus" >"build/fuzz/$name.log" 2>&1 </dev/null || status=$?
    echo "$status" >"build/fuzz/$name.status"
}

run_regress() {
    need_server && run_pg_regress regress/pg_regress "$work/repository" "$work"/repository/sql/*.sql
}

run_isolation() {
    need_server && run_pg_regress isolation/pg_isolation_regress "$work/repository/test" \
        "$work"/repository/test/specs/*.spec
}

# run_pg_regress PROGRAM INPUT_DIRECTORY FILE ...
run_pg_regress() {
    local program=$pgxs/src/test/$1 input=$2 output=$work/$kind status=0 names=() file
    shift 2
    for file in "$@"; do
        [ ! -e "$file" ] || names+=("$(basename "${file%.*}")")
    done
    [ ${#names[@]} -gt 0 ] || return
    as_server_user mkdir "$output"
    (cd "$output" && as_server_user "$program" --bindir="${PG_CONFIG%/*}" --inputdir="$input" --outputdir="$output" \
        --dbname="${kind}_test" "${names[@]}") >"$output.log" 2>&1 </dev/null || status=$?
    # The second form is that of Postgres 16 and later.
    passed=$(grep -cE '^(test .* \.\.\. ok|ok )' "$output.log")
    failed=$(grep -cE '^(test .* \.\.\. FAILED|not ok )' "$output.log")
    [ $status != 0 ] || [ "$failed" != 0 ] || return
    cat "$output.log"
    head -n 300 "$output/regression.diffs" 2>/dev/null
    show_crashes "$work/postgres.log"
    [ "$failed" != 0 ] || fail "$kind ended with status $status"
}

# Those that take longest first, so that none of them is left to run alone.
# shellcheck disable=SC2086
tap_files() {
    local long='/(001|005|006|014|022|028|032|033|034)_'
    printf '%s\n' ${TAP_FILES:-test/t/*.pl} | grep -E "$long"
    printf '%s\n' ${TAP_FILES:-test/t/*.pl} | grep -vE "$long"
}

run_tap() {
    need_extension || return
    local test busy=0
    as_server_user mkdir "$work/tap"
    for test in $(tap_files); do
        [ $busy -lt "$TAP_JOBS" ] || { wait -n; busy=$((busy - 1)); }
        in_background tap "$test"
        busy=$((busy + 1))
    done
    wait
    for test in $(tap_files | sort); do count_tap "$test"; done
    echo "The slowest: $(cd "$work/tap" && grep -H . -- *.seconds | tr : ' ' | sort -k2nr | head -n 8 | sed 's/\.seconds//; s/$/ s/' | paste -sd,)"
}

# Runs a test file; leaves its output, status and seconds in files.
tap() {
    local name=$work/tap/$(basename "$1" .pl) status=0 start=$SECONDS
    (cd "$work/repository" && as_server_user env TESTDIR="$work/tap" PGPORT=65432 \
        PG_REGRESS="$pgxs/src/test/regress/pg_regress" \
        timeout --foreground "$limit_s" prove -v -I "$pgxs/src/test/perl" -I . "$1") >"$name.out" 2>&1 </dev/null || status=$?
    echo $status >"$name.status"
    echo $((SECONDS - start)) >"$name.seconds"
}

count_tap() {
    local name log status ok not_ok skips
    name=$(basename "$1" .pl)
    log=$work/tap/$name.out status=$(cat "$work/tap/$name.status")
    skips=$(grep -ciE '^(ok [0-9].*|1\.\.0 *)# *skip' "$log")
    ok=$(($(grep -cE '^ok [0-9]' "$log") - $(grep -ciE '^ok [0-9].*# *skip' "$log")))
    not_ok=$(grep -E '^not ok [0-9]' "$log" | grep -civ '# *todo')
    grep -iE '^(ok [0-9].*|1\.\.0 *)# *skip' "$log" | sed "s/^/SKIP: $name: /"
    passed=$((passed + ok)) failed=$((failed + not_ok)) skipped=$((skipped + skips))
    [ "$status" != 0 ] || return
    cat "$log"
    echo "-- the end of its log:"
    tail -n 40 "$work/tap/tmp_check/log/regress_log_$name" 2>/dev/null
    show_crashes "$work/tap/tmp_check/log/${name}"_*.log
    if [ "$not_ok" = 0 ]; then fail "$1 ended with status $status"; else echo "FAILED: $1"; fi
}

test/lib/packages.sh && private_server_directory && copy_tests || exit 1
# Without these, tests of real stores are skipped.
[[ " $TESTS " != *" tap "* ]] || test/lib/packages.sh test/stores/packages.txt || echo "test/stores/packages.txt: not installed"
if [[ " $TESTS " == *" tap "* && ${TAP_FILES:-clients} == *clients* ]]; then
    test/lib/packages.sh python3-psycopg2 || echo "python3-psycopg2: not installed"
    # Debian's conflicts with one that came with a node from elsewhere.
    command -v npm >/dev/null || test/lib/packages.sh nodejs npm || echo "nodejs, npm: not installed"
fi

for kind in $TESTS; do
    passed=0 failed=0 skipped=0 start=$SECONDS
    echo "== $kind"
    if declare -F "run_$kind" >/dev/null; then "run_$kind"; else fail "there is no kind $kind"; fi
    [ $((passed + failed + skipped)) -gt 0 ] || fail "no test of this kind ran"
    echo "$kind: $passed passed, $failed failed, $skipped skipped in $((SECONDS - start)) s"
    all_passed=$((all_passed + passed)) all_failed=$((all_failed + failed)) all_skipped=$((all_skipped + skipped))
done
complete=1
