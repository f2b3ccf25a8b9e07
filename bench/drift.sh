#!/bin/bash
# Indexes that were not built from all of their rows, against one that was: created empty before the rows came, and trained on half of
# the classes of Fashion-MNIST (labels 0 to 4) before the other half came. Recall and cost of a query at the default recall target.
set -euo pipefail
# shellcheck source=bench/lib/bench.sh
. "$(dirname "$0")/lib/bench.sh"
bench_run drift 'jit = off' 'autovacuum = off' "maintenance_work_mem = ${MAINTENANCE_WORK_MEM:-256MB}"
