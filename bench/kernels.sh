#!/bin/bash
# The kernels of coded rows on one thread, without Postgres. Options go to Google Benchmark.
set -euo pipefail
# shellcheck source=bench/lib/bench.sh
. "$(dirname "$0")/lib/bench.sh"
test/lib/packages.sh
bench_build kernels
build/bench/kernels --benchmark_repetitions=5 --benchmark_min_time=0.05 --benchmark_report_aggregates_only=true "$@"
