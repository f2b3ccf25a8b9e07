#!/bin/bash
# make demo: builds, starts a throw-away server, shows the product on real data, leaves nothing behind but build/.
#   STORE=file       the index's segment is an object below a directory, to be looked at
#   STORE=embedded   nothing but CREATE EXTENSION and CREATE INDEX: the segment is in the index's own pages
set -euo pipefail
case ${STORE:=file} in
    file | embedded) ;;
    s3) echo "STORE=s3 comes with a later version; STORE=file and STORE=embedded work now." >&2; exit 1 ;;
    *) echo "STORE is file or embedded, not \"$STORE\"." >&2; exit 1 ;;
esac
export STORE
# shellcheck source=bench/lib/bench.sh
. "$(dirname "$0")/lib/bench.sh"
bench_run demo
