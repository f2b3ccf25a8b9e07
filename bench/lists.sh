#!/bin/bash
# What the number of lists changes, at one recall: requests, bytes and rows a query, its time when warm, the time to rank
# lists, local pages, the build. Requests are planned as for S3 (30 ms, 50 MB/s). Behind the formula of automatic lists. From the
# environment:
#   DATA=fashion                       or glove, or mixture: ROWS=250000 synthetic rows (lib/mixture.h)
#   ROWS_PER_LIST='75 100 150 200 300 400 600'
#   LISTS=''                           numbers of lists instead
#   RECALL=0.95
#   MAINTENANCE_WORK_MEM=1GB
set -euo pipefail
# shellcheck source=bench/lib/bench.sh
. "$(dirname "$0")/lib/bench.sh"
bench_run lists 'jit = off' 'max_wal_size = 16GB' "maintenance_work_mem = ${MAINTENANCE_WORK_MEM:-1GB}"
