#!/bin/bash
# Inserts into a trained index: rows a second from two clients, and WAL of a row in the steady state, that is with the flush and the
# sweep of VACUUM, beside the same table without the index, and with pgvector's IVFFlat (PGVECTOR=directory). Vectors are random, of
# 784 dimensions.
#   bench/inserts.sh [--rows N] [--dims D] [--seconds S]
set -eu
rows=20000 dims=784 seconds=20
while [ $# -gt 0 ]; do
    case $1 in
        --rows) rows=$2 ;;
        --dims) dims=$2 ;;
        --seconds) seconds=$2 ;;
        *) sed -n 's/^#   //p' "$0" >&2; exit 2 ;;
    esac
    shift 2
done
# shellcheck source=bench/lib/bench.sh
. "$(dirname "$0")/lib/bench.sh"
private_server_create release
bench_pgvector
private_server_start 'autovacuum = off' 'shared_buffers = 1GB' 'max_wal_size = 8GB' 'synchronous_commit = off' 'checkpoint_timeout = 1h'

# A thousand vectors made before: making them is not what is measured.
psql -X -q -v ON_ERROR_STOP=1 <<SQL
CREATE EXTENSION ivfremote;
CREATE TABLE vectors AS SELECT i AS id, (SELECT array_agg(random()::real) FROM generate_series(1, $dims) WHERE i > 0) AS v FROM generate_series(1, 1000) i;
ALTER TABLE vectors ADD PRIMARY KEY (id);
CREATE TABLE plain (v real[]);
ALTER TABLE plain ALTER v SET STORAGE EXTERNAL;
CREATE TABLE indexed (LIKE plain);
ALTER TABLE indexed ALTER v SET STORAGE EXTERNAL;
INSERT INTO indexed SELECT v FROM vectors, generate_series(1, ($rows + 999) / 1000);
CREATE INDEX indexed_v ON indexed USING ivfremote (v) WITH (flush_threshold = 10000);
VACUUM vectors;
SQL
tables="plain indexed"
if [ -n "$pgvector" ]; then
    tables+=" peer"
    psql -X -q -v ON_ERROR_STOP=1 <<SQL
CREATE EXTENSION vector;
CREATE TABLE vectors_peer AS SELECT id, v::vector($dims) AS v FROM vectors;
ALTER TABLE vectors_peer ADD PRIMARY KEY (id);
CREATE TABLE peer (v vector($dims));
INSERT INTO peer SELECT v FROM vectors_peer, generate_series(1, ($rows + 999) / 1000);
CREATE INDEX peer_v ON peer USING ivfflat (v vector_l2_ops);
VACUUM vectors_peer;
SQL
fi
lsn() { psql -XAtq -c 'SELECT pg_current_wal_insert_lsn()'; }
insert() { # TABLE SOURCE
    cat >"$work/insert.sql" <<SQL
\set first random(1, 991)
INSERT INTO $1 SELECT v FROM $2 WHERE id BETWEEN :first AND :first + 9;
SQL
    pgbench -n -M prepared -c 2 -j 1 -T "$seconds" -f "$work/insert.sql" | sed -n 's/^tps = \([0-9.]*\) .*/\1/p'
}
for table in $tables; do
    before=$(psql -XAtq -c "SELECT count(*) FROM $table")
    psql -XAtq -c 'CHECKPOINT'
    start=$(lsn)
    source=vectors
    [ $table != peer ] || source=vectors_peer
    rate=$(insert $table $source)
    inserted=$(lsn)
    psql -XAtq -c "VACUUM $table"
    vacuumed=$(lsn)
    declare "${table}_rate=$(psql -XAtq -c "SELECT round(10 * $rate)")"
    declare "${table}_wal=$(psql -XAtq -c "SELECT round(pg_wal_lsn_diff('$vacuumed', '$start') / (count(*) - $before)) FROM $table")"
    psql -XAtq -F' ' -c "SELECT '$table:', round(10 * $rate) || ' rows/s,', count(*) - $before || ' rows, WAL bytes a row:',
        round(pg_wal_lsn_diff('$inserted', '$start') / (count(*) - $before)), '+', round(pg_wal_lsn_diff('$vacuumed', '$inserted') / (count(*) - $before)) FROM $table"
done
psql -XAtq -F' ' -c "SELECT 'segments', segments, 'pending', pending_rows FROM ivfremote_info('indexed_v')"
line="plain_rows_s=$plain_rate rows_s=$indexed_rate index_wal_bytes=$((indexed_wal - plain_wal))"
[ -z "$pgvector" ] || line+=" ivfflat_rows_s=$peer_rate ivfflat_wal_bytes=$((peer_wal - plain_wal)) wal_ratio=$(awk "BEGIN { printf \"%.2f\", ($indexed_wal - $plain_wal) / ($peer_wal - $plain_wal) }")"
echo "$line"
