#!/bin/bash
# Long runs of test/t/034_torture.pl: clients change, search and maintain indexes while backends and servers are killed, and all
# of it is checked after each round. The last line says how it went; a seed repeats what clients do.
#   bench/torture.sh [--rounds N] [--seed S]
set -u
cd "$(dirname "$0")/.." || exit 1
rounds=200 seed=$((RANDOM * 32768 + RANDOM))
while [ $# -gt 0 ]; do
    case $1 in
        --rounds) rounds=$2 ;;
        --seed) seed=$2 ;;
        *) sed -n 's/^#   //p' "$0" >&2; exit 2 ;;
    esac
    shift 2
done
summary=$(mktemp) && chmod 666 "$summary" || exit 1
trap 'rm -f "$summary"' EXIT
ROUNDS=$rounds SEED=$seed TORTURE_SUMMARY=$summary LONG=1 TESTS=tap TAP_FILES=test/t/034_torture.pl test/check.sh
status=$?
[ -s "$summary" ] || echo "rounds=0 wrong=1 seed=$seed" >"$summary"
tail -n 1 "$summary"
exit $status
