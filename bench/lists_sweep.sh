#!/bin/bash
# How long lists take to be ranked, and what is lost by it, from 300 to 50000 lists, without Postgres. Numbers of lists may be
# given.
set -euo pipefail
# shellcheck source=bench/lib/bench.sh
. "$(dirname "$0")/lib/bench.sh"
test/lib/packages.sh
bench_build lists_sweep
build/bench/lists_sweep "$@"
