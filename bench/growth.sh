#!/bin/bash
# What CREATE INDEX costs as a table grows, on synthetic embeddings of 768 dimensions (lib/mixture.h) and an S3 server: time by
# phase, memory, temporary files, WAL, PUTs counted in the server's log; then what a query costs, and its recall at the
# default target. From the environment:
#   ROWS='60000 250000 1000000'   ascending
#   MAINTENANCE_WORK_MEM=256MB
#   WORKERS=2                     max_parallel_maintenance_workers
#   INDEX_OPTIONS='lists = 2000'  of the index
#   QUERIES=1000
#   STORAGE=EXTERNAL              of the vector column
# 1,000,000 rows need 12 GB of disk and 5 GB of memory.
set -euo pipefail
# shellcheck source=bench/lib/bench.sh
. "$(dirname "$0")/lib/bench.sh"
stores=$(mktemp -d)
trap 'bench_stop_s3 "$stores"; private_server_cleanup' EXIT
bench_start_s3 "$stores"
# Small shared buffers: what a backend touches of them would count as its memory.
bench_run growth 'shared_buffers = 64MB' 'jit = off' 'max_wal_size = 16GB' "max_parallel_maintenance_workers = ${WORKERS:-2}"
