#!/bin/bash
# What a query reads of a bucket when nothing is cached: requests, bytes and waves, at the smallest setting that reaches a
# recall; counted in the log of a front before the S3 server that delays each answer, so that waves can be told apart. From
# the environment:
#   DATA=fashion         Fashion-MNIST, or glove: words from npm, cosine
#   RECALL=0.95
#   INDEX_OPTIONS='quantization = rabitq, bits = 1'   of the index
#   TUNE=recall_target   what is raised until the recall is reached; or probes
#   DELAY=20             of an answer, in ms
set -euo pipefail
# shellcheck source=bench/lib/bench.sh
. "$(dirname "$0")/lib/bench.sh"
test/lib/packages.sh
test/lib/packages.sh test/stores/packages.txt
stores=$(mktemp -d)
trap 'test/stores/nginx.sh stop "$stores/nginx" >/dev/null; test/stores/radosgw.sh stop "$stores/s3" >/dev/null
      rm -rf "$stores"; private_server_cleanup' EXIT
mkdir "$stores/s3" "$stores/nginx"
MEMORY=2147483648 test/stores/radosgw.sh start "$stores/s3" >/dev/null
test/stores/radosgw.sh bucket "$stores/s3" bench >/dev/null
set -a
# shellcheck source=/dev/null
. "$stores/s3/store.env"
test/stores/nginx.sh start "$stores/nginx" "$S3_HTTP_PORT" >/dev/null
# shellcheck source=/dev/null
. "$stores/nginx/store.env"
set +a
curl -fsS "http://127.0.0.1:$FRONT_FAULTY_HTTP_PORT/_fault?delay=${DELAY:-20}" >/dev/null
bench_run cold
