#!/bin/bash
# The time of a warm scan, SQL included, against Faiss's IndexIVFFlat in memory with the same centroids and assignment;
# and whether the results are the same. Two Faiss: as Debian ships it (scan_ratio), whose distance is a scalar loop, and
# with a distance vectorised for this machine (scan_vectorised_ratio). From the environment:
#   ROUNDS=15          of 200 queries each
#   STORAGE=EXTERNAL   of the vector column: real embeddings are stored like that, they don't compress
set -euo pipefail
# shellcheck source=bench/lib/bench.sh
. "$(dirname "$0")/lib/bench.sh"
bench_run scan_vs_faiss
