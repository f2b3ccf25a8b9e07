#!/bin/bash
# Wrote the golden indexes: files of real indexes, their object, and texts that say what they hold; README.md says when it
# may run again.
#
#   test/golden/write_indexes.sh DIRECTORY        never overwrites a file
set -euo pipefail
[ $# = 1 ] || { echo "usage: $0 DIRECTORY" >&2; exit 2; }
directory=$(realpath -m "$1")
cd "$(dirname "$0")/../.."
# shellcheck source=test/lib/private_server.sh
. test/lib/private_server.sh
private_server_create test
private_server_start 'autovacuum = off' 'max_parallel_maintenance_workers = 0'
store=$work/store
as_server_user mkdir "$store"

psql -X -q -v ON_ERROR_STOP=1 -v store="$store" <<'SQL'
CREATE EXTENSION ivfremote;
SELECT format('CREATE SERVER golden FOREIGN DATA WRAPPER ivfremote OPTIONS (url %L)', 'file://' || :'store') \gexec
-- As Row() in golden.h.
CREATE FUNCTION golden(i int, dims int) RETURNS real[] LANGUAGE sql IMMUTABLE AS $$
  SELECT array_agg((((i * 37 + j * 101 + i * j % 17 * 13) % 257 - 128) / 64.0)::real ORDER BY j) FROM generate_series(0, dims - 1) j
$$;
CREATE TABLE coded (id int, v real[]);
INSERT INTO coded SELECT i, golden(i, 20) FROM generate_series(1, 250) i;
CREATE INDEX ON coded USING ivfremote (v) WITH (flush_threshold = 1, lists = 6, bits = 4);
-- Pending rows of few lists.
INSERT INTO coded SELECT i, golden(i % 3 + 1, 20) FROM generate_series(251, 270) i;
DELETE FROM coded WHERE id % 7 = 0;
VACUUM (INDEX_CLEANUP ON) coded;

CREATE TABLE stored (id int, v real[]);
INSERT INTO stored SELECT i, golden(i, 20) FROM generate_series(1, 120) i;
CREATE INDEX ON stored USING ivfremote (v real_cosine_ops)
  WITH (flush_threshold = 1, lists = 4, bits = 1, spill = true, server = golden);

CREATE TABLE plain (id int, v real[]);
INSERT INTO plain SELECT i, golden(i, 20) FROM generate_series(1, 60) i;
CREATE INDEX ON plain USING ivfremote (v real_ip_ops) WITH (flush_threshold = 1, lists = 3, quantization = none);

CREATE TABLE untrained (id int, v real[]);
INSERT INTO untrained SELECT i, golden(i, 20) FROM generate_series(1, 100) i;
CREATE INDEX ON untrained USING ivfremote (v real_cosine_ops);
DELETE FROM untrained WHERE id = 50;
VACUUM (INDEX_CLEANUP ON) untrained;

CREATE TABLE wide (id int, v real[]);
INSERT INTO wide SELECT 1, golden(1, 2100);
CREATE INDEX ON wide USING ivfremote (v);

-- Of each heap block the last row alone has a vector: a tid map of two leaves. Three recall curves: the build's, among the routing's
-- pages; one whose owner nobody names any more; and one with an owner of its own. Pending rows of a length that is padded.
CREATE TABLE sparse (id int, v real[]);
INSERT INTO sparse SELECT i / 224, CASE WHEN i % 224 = 0 THEN golden(i / 224, 16) END FROM generate_series(1, 270 * 224) i;
CREATE INDEX ON sparse USING ivfremote (v) WITH (flush_threshold = 1, lists = 2, bits = 1);
SELECT FROM ivfremote_recall('sparse_v_idx', store => true) \g /dev/null
SELECT FROM ivfremote_recall('sparse_v_idx', (SELECT array_agg(golden(i, 16)) FROM generate_series(5001, 5050) i), store => true) \g /dev/null
INSERT INTO sparse SELECT i, golden(1, 16) FROM generate_series(271, 290) i;
DELETE FROM sparse WHERE id % 7 = 0;
VACUUM (INDEX_CLEANUP ON) sparse;

-- Pages taken out of a chain of three, and two deleted ones: the first and the second.
CREATE TABLE gaps (id int, v real[]);
INSERT INTO gaps SELECT i, golden(i, 20) FROM generate_series(1, 250) i;
CREATE INDEX ON gaps USING ivfremote (v);
DELETE FROM gaps WHERE id <= 168 AND id <> 40;
VACUUM (INDEX_CLEANUP ON) gaps;
INSERT INTO gaps SELECT i, golden(i % 3 + 1, 20) FROM generate_series(251, 300) i;
DELETE FROM gaps WHERE id = 40;
VACUUM (INDEX_CLEANUP ON) gaps;
CHECKPOINT;
SQL

mkdir -p "$directory"
set -o noclobber
for table in coded stored plain untrained wide sparse gaps; do
    {
        psql -X -q -A -t -F ' ' -c "
            SELECT key, value FROM ivfremote_info('${table}_v_idx') i, jsonb_each_text(to_jsonb(i)) WHERE key <> 'probes'" -c "
            SELECT 'row', id, replace(trim(both '()' FROM ctid::text), ',', ' ') FROM $table WHERE v IS NOT NULL ORDER BY id"
    } >"$directory/$table.txt"
    data=$(psql -X -q -A -t -c "SELECT current_setting('data_directory') || '/' || pg_relation_filepath('${table}_v_idx')")
    # Without the places in the log of that server (pd_lsn).
    perl -e 'local $/ = \8192; while (<STDIN>) { substr($_, 0, 8) = "\0" x 8; print }' <"$data" >"$directory/$table.index"
done
objects=$(cd "$store" && find . -name '*.seg*' | sed 's,^\./,,')
for object in $objects; do
    mkdir -p "$directory/$(dirname "$object")"
    cat "$store/$object" >"$directory/$object"
done
