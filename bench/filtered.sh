#!/bin/bash
# Filtered searches (WHERE attribute < n ORDER BY embedding <-> $1 LIMIT 10) at 50, 10, 1 and 0.1 % selectivity, by an attribute that
# has nothing to do with the vectors and by one that has: whether LIMIT is filled, and the recall of the filtered truth, at the
# defaults and with ivfremote.max_probes = all; then against pgvector's HNSW with iterative scans, each at its smallest
# setting that reaches the filtered recall. From the environment:
#   PGVECTOR=directory   a build of pgvector for this Postgres; without it HNSW is left out
#   DATA=fashion         or glove
#   RECALL=0.95          of the filtered truth, that both sides are brought to
#   SELECTIVITY=0.1      at which they are compared
#   STORAGE=EXTERNAL     of the vectors of both tables, or PLAIN
#   INDEX_OPTIONS, HNSW_OPTIONS='m = 16, ef_construction = 64'
#   QUERIES=400          of those of the data, for the first part
#   ROUNDS=9             of 200 queries, of the comparison
set -euo pipefail
# shellcheck source=bench/lib/bench.sh
. "$(dirname "$0")/lib/bench.sh"
bench_run filtered "shared_buffers = ${SHARED_BUFFERS:-4GB}" 'maintenance_work_mem = 2GB' 'jit = off' 'autovacuum = off' \
    'max_parallel_workers_per_gather = 0' 'enable_seqscan = off'
