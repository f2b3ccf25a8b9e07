#!/bin/bash
# What splitting lists makes of an index that has grown by rows unlike those it was trained on, without Postgres.
# DATA=fashion (the default) or glove.
set -euo pipefail
# shellcheck source=bench/lib/bench.sh
. "$(dirname "$0")/lib/bench.sh"
test/lib/packages.sh
bench_build splits
build/bench/splits "$@"
