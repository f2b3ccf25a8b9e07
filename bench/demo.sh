#!/bin/bash
# make demo: builds, starts a throw-away server, shows the product on real data, leaves nothing behind but build/.
#   STORE=file       the index's segment is an object below a directory, to be looked at
#   STORE=s3         an object in a bucket, on an S3 server that is started for it
#   STORE=embedded   nothing but CREATE EXTENSION and CREATE INDEX: the segment is in the index's own pages
set -euo pipefail
case ${STORE:=file} in
    file | embedded | s3) ;;
    *) echo "STORE is file, s3 or embedded, not \"$STORE\"." >&2; exit 1 ;;
esac
export STORE
# shellcheck source=bench/lib/bench.sh
. "$(dirname "$0")/lib/bench.sh"
if [ "$STORE" = s3 ]; then
    test/lib/packages.sh test/stores/packages.txt
    s3=$(mktemp -d)
    trap 'test/stores/radosgw.sh stop "$s3" >/dev/null; private_server_cleanup' EXIT
    test/stores/radosgw.sh start "$s3" >/dev/null
    test/stores/radosgw.sh bucket "$s3" demo >/dev/null
    set -a
    # shellcheck source=/dev/null
    . "$s3/store.env"
    S3_ENDPOINT=http://127.0.0.1:$S3_HTTP_PORT
    set +a
fi
bench_run demo
