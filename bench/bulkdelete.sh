#!/bin/bash
# What an index adds to a VACUUM that removes rows: the same VACUUM with and without an index of 60,000 rows of 784 dimensions in a store
# that can't be reached meanwhile. A fifth of the rows is deleted each time; medians of 7 rounds, interleaved.
#   bench/bulkdelete.sh [--rows N] [--rounds N]
set -eu
cd "$(dirname "$0")/.." || exit 1
rows=60000 rounds=7
while [ $# -gt 0 ]; do
    case $1 in
        --rows) rows=$2 ;;
        --rounds) rounds=$2 ;;
        *) sed -n 's/^#   //p' "$0" >&2; exit 2 ;;
    esac
    shift 2
done
# shellcheck source=test/lib/private_server.sh
. test/lib/private_server.sh
private_server_create release
private_server_start 'autovacuum = off' 'shared_buffers = 1GB' 'max_wal_size = 8GB' 'synchronous_commit = off' 'checkpoint_timeout = 1h'
# shellcheck disable=SC2154 # set by private_server_create
store=$work/lake
as_server_user mkdir "$store"
psql -X -q -v ON_ERROR_STOP=1 <<SQL
CREATE EXTENSION ivfremote;
CREATE SERVER lake FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file://$store');
CREATE TABLE vectors AS SELECT i AS id, (SELECT array_agg(random()::real) FROM generate_series(1, 784) WHERE i > 0) AS v FROM generate_series(1, 1000) i;
CREATE TABLE plain (id int, v real[]) WITH (toast_tuple_target = 128);
ALTER TABLE plain ALTER v SET STORAGE EXTERNAL;
CREATE TABLE indexed (LIKE plain INCLUDING ALL);
SQL
now() { date +%s%N; }
vacuum() { # TABLE: milliseconds
    local begun
    begun=$(now)
    psql -XAtq -v ON_ERROR_STOP=1 -c "VACUUM (PARALLEL 0, TRUNCATE off) $1" 2>"$work/warnings" >/dev/null
    echo $((($(now) - begun) / 10000))
    [ ! -s "$work/warnings" ] || { cat "$work/warnings" >&2; exit 1; }
}
median() { sort -n | sed -n "$(((rounds + 1) / 2))p"; }
plain=() indexed=()
for _ in $(seq "$rounds"); do
    for table in plain indexed; do
        psql -XAtq -v ON_ERROR_STOP=1 <<SQL
SET client_min_messages = error;
DROP INDEX IF EXISTS indexed_v;
TRUNCATE $table;
INSERT INTO $table SELECT (random() * 1e9)::int, v FROM vectors, generate_series(1, $rows / 1000);
SELECT CASE '$table' WHEN 'indexed' THEN 'CREATE INDEX indexed_v ON indexed USING ivfremote (v) WITH (server = ''lake'')' ELSE 'SELECT' END \gexec
VACUUM $table;
DELETE FROM $table WHERE id % 5 = 0;
CHECKPOINT;
SQL
        mv "$store" "$store.away"
        if [ $table = plain ]; then plain+=("$(vacuum plain)"); else indexed+=("$(vacuum indexed)"); fi
        mv "$store.away" "$store"
    done
done
a=$(printf '%s\n' "${plain[@]}" | median) b=$(printf '%s\n' "${indexed[@]}" | median)
awk -v a="$a" -v b="$b" -v rows="$rows" 'BEGIN {
    printf "VACUUM of %d rows, a fifth of them dead: %.1f ms, with the index %.1f ms\n", rows, a / 100, b / 100
    printf "plain_ms=%.1f indexed_ms=%.1f bulkdelete_ms=%.1f requests=0\n", a / 100, b / 100, (b - a) / 100 }'
