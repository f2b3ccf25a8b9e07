#!/bin/bash
# The time of CREATE INDEX on a file:// server against Faiss's train and add in memory; the local part of the index and
# the WAL of its build as shares of the segment's bytes. From the environment:
#   ROUNDS=5                   after one that warms up
#   STORAGE=EXTERNAL           of the vector column: real embeddings are stored like that, they don't compress
#   MAINTENANCE_WORK_MEM=1GB
set -euo pipefail
# shellcheck source=bench/lib/bench.sh
. "$(dirname "$0")/lib/bench.sh"
bench_run build_vs_faiss
