#!/bin/bash
# Waves and uploads over S3, without Postgres: 32 blocks of 100 kB in one wave against the slowest of as many single GETs,
# each answer delayed by 30 +- 10 ms; and 1 GiB uploaded against curl sending the same bytes, 4 requests at a time. Needs 5 GB of
# memory for the store.
set -euo pipefail
# shellcheck source=bench/lib/bench.sh
. "$(dirname "$0")/lib/bench.sh"
test/lib/packages.sh
directory=$(mktemp -d)
trap 'bench_stop_s3 "$directory"' EXIT
bench_start_s3 "$directory"
bench_build s3

# The peer: the same number of bytes in requests of the same size.
head -c $((8 << 20)) /dev/urandom >"$directory/part"
for i in $(seq 128); do
    printf -- 'next\nfail\nsilent\noutput = /dev/null\nupload-file = "%s"\nurl = "%s/bench/peer/%d"\nuser = "%s:%s"\naws-sigv4 = "aws:amz:us-east-1:s3"\nheader = "x-amz-content-sha256: UNSIGNED-PAYLOAD"\n' \
        "$directory/part" "$S3_ENDPOINT" "$i" "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY"
done | sed 1d >"$directory/curl.conf"
start=$(date +%s.%N)
curl -sS -Z --parallel-max 4 -K "$directory/curl.conf"
PEER_UPLOAD_S=$(awk "BEGIN { print $(date +%s.%N) - $start }")
export PEER_UPLOAD_S
build/bench/s3 "http://127.0.0.1:$FRONT_FAULTY_HTTP_PORT"
