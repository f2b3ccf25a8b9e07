#!/bin/bash
# Queries over a distant S3 server, through SQL: 32 blocks of 100 kB, each answer delayed by 30 +- 10 ms, against the slowest
# of the same requests one by one; and a new backend's first query against the same again, by http and https, the server
# being 30 ms away.
set -euo pipefail
# shellcheck source=bench/lib/bench.sh
. "$(dirname "$0")/lib/bench.sh"
test/lib/packages.sh
directory=$(mktemp -d)
trap 'private_server_cleanup; bench_stop_s3 "$directory"' EXIT
bench_start_s3 "$directory"
private_server_create release
bench_build s3_sql
private_server_start 'shared_buffers = 256MB' 'max_wal_size = 4GB' 'maintenance_work_mem = 256MB'
# The server's user cannot read that of the S3 server.
# shellcheck disable=SC2154 # set by private_server_create
install -m 644 "$S3_CA_FILE" "$work/ca.crt"
build/bench/s3_sql "$work/ca.crt"
