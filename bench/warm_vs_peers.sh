#!/bin/bash
# Warm scans through SQL against pgvector's HNSW and IVFFlat and Faiss's IndexIVFFlat in memory, each at its smallest
# setting that reaches the recall on the same queries; and the sizes of the indexes. From the environment:
#   DATA=fashion         Fashion-MNIST at recall 0.99, or glove: words from npm, cosine, at 0.95; RECALL=... another
#   PGVECTOR=directory   a build of pgvector for this Postgres: vector.so, vector.control, vector--*.sql (or sql/vector--*.sql);
#                        without it its two indexes are left out
#   INDEX_OPTIONS='quantization = rabitq, bits = 1'   of our indexes
#   TUNE=recall_target   what is raised until the recall is reached; or probes
#   PEER_LISTS=256       of pgvector's IVFFlat and Faiss (glove: 1200); HNSW_OPTIONS='m = 16, ef_construction = 64'
#   CLIENTS=1            at the same time; with several, each and its backend stay on a processor of their own
#   COLD_HEAP=1          before each side's turn the server is restarted, its index read into shared buffers, and the
#                        table's pages taken from the kernel's cache (needs a TMPDIR on a disk)
#   ROUNDS=9             of 200 queries
#   STORAGE=EXTERNAL     of the vector columns of all tables, or PLAIN
#   SHARED_BUFFERS=4GB   enough for four tables with their indexes
set -euo pipefail
# shellcheck source=bench/lib/bench.sh
. "$(dirname "$0")/lib/bench.sh"
bench_run warm_vs_peers "shared_buffers = ${SHARED_BUFFERS:-4GB}" 'maintenance_work_mem = 2GB' 'jit = off' \
    'max_parallel_workers_per_gather = 0'
