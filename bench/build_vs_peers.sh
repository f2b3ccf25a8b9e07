#!/bin/bash
# The time of CREATE INDEX, at automatic lists, against pgvector's IVFFlat and HNSW with as many workers. From the environment:
#   PGVECTOR=directory   a build of pgvector for this Postgres (bench/warm_vs_peers.sh); needed
#   DATA=fashion         or glove
#   ROUNDS=5             one IVFFlat each; HNSW takes part in the first HNSW_ROUNDS=1
#   PEER_LISTS=256       of IVFFlat (glove: 1200); HNSW_OPTIONS='m = 16, ef_construction = 64'
#   INDEX_OPTIONS=''     of our index
#   WORKERS=2            max_parallel_maintenance_workers
#   STORAGE=EXTERNAL     of the vector columns
#   MAINTENANCE_WORK_MEM=2GB
set -euo pipefail
# shellcheck source=bench/lib/bench.sh
. "$(dirname "$0")/lib/bench.sh"
[ -n "$pgvector" ] || { echo 'PGVECTOR is not set: there is nothing to compare with' >&2; exit 1; }
bench_run build_vs_peers 'jit = off' 'max_wal_size = 16GB' "max_parallel_maintenance_workers = ${WORKERS:-2}" \
    "maintenance_work_mem = ${MAINTENANCE_WORK_MEM:-2GB}"
