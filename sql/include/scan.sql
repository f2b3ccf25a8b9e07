-- Searches of segments in pages or in a server, as ivfremote.default_server says, of rows coded as :quantization says.
CREATE TABLE t (id int PRIMARY KEY, v real[], mark int) WITH (autovacuum_enabled = off);
-- Every tenth row is the same as the one before: ties
INSERT INTO t SELECT i, point(i - CASE WHEN i % 10 = 0 THEN 1 ELSE 0 END, 12), i % 100 FROM generate_series(1, 3000) i;
CREATE INDEX t_l2 ON t USING ivfremote (v) WITH (flush_threshold = 1, lists = 40, quantization = :quantization);
CREATE INDEX t_ip ON t USING ivfremote (v real_ip_ops) WITH (flush_threshold = 1, lists = 40, quantization = :quantization);
CREATE INDEX t_cosine ON t USING ivfremote (v real_cosine_ops) WITH (flush_threshold = 1, lists = 40, quantization = :quantization);
VACUUM ANALYZE t;

-- All lists: what the table says, in its order

SET ivfremote.probes = 1048576;
SELECT op, k, x.* FROM (VALUES ('<->'), ('<#>'), ('<=>')) o (op), (VALUES (1), (10), (3000)) n (k),
  compare_all('t', op, 'SELECT point(i * 97, 12) FROM generate_series(1, 12) i', k) x;
SELECT compare('t', op, array_fill('3e38'::real, '{12}'), 100), compare('t', op, array_fill('1e-45'::real, '{12}'), 100)
FROM (VALUES ('<->'), ('<#>'), ('<=>')) o (op);

-- How many lists are probed: the settings, the index's options, the default; never more than there are

SET enable_seqscan = off;
CREATE FUNCTION probed() RETURNS TABLE (index regclass, scans bigint, lists bigint, probed bigint) LANGUAGE sql AS
  'SELECT index, scans, lists, lists_probed FROM ivfremote_last_scan()';
RESET ivfremote.probes;
SELECT id FROM t ORDER BY v <-> point(42, 12) LIMIT 1;
SELECT index, scans, lists, probed BETWEEN 1 AND 20 AS some FROM probed();
SET ivfremote.recall_target = 1;
SELECT id FROM t ORDER BY v <-> point(42, 12) LIMIT 1;
SELECT * FROM probed();
RESET ivfremote.recall_target;
ALTER INDEX t_l2 SET (recall_target = 1);
SELECT id FROM t ORDER BY v <-> point(42, 12) LIMIT 1;
SELECT * FROM probed();
ALTER INDEX t_l2 RESET (recall_target);
ALTER INDEX t_l2 SET (probes = 3);
SELECT id FROM t ORDER BY v <-> point(42, 12) LIMIT 1;
SELECT * FROM probed();
SELECT probes FROM ivfremote_info('t_l2');
SET ivfremote.recall_target = 1;
SELECT id FROM t ORDER BY v <-> point(42, 12) LIMIT 1;
SELECT * FROM probed();
SET ivfremote.probes = 1;
SELECT id FROM t ORDER BY v <-> point(42, 12) LIMIT 1;
SELECT * FROM probed();
SET ivfremote.probes = 1048576;
SELECT id FROM t ORDER BY v <-> point(42, 12) LIMIT 1;
SELECT * FROM probed();
SET ivfremote.probes = -1;
ALTER INDEX t_l2 SET (probes = 1048576);
SELECT id FROM t ORDER BY v <-> point(42, 12) LIMIT 1;
SELECT * FROM probed();
ALTER INDEX t_l2 RESET (probes);
RESET ivfremote.recall_target;

-- A LIMIT beyond what the probed lists hold gives what they hold, if the scan may not go on; from here on no coded row is lost to its bound

SET ivfremote.probes = 1;
SET ivfremote.epsilon = 100;
SET ivfremote.iterative_scan = off;
CREATE TABLE held AS SELECT id, row_number() OVER () AS place FROM (SELECT id FROM t ORDER BY v <-> point(42, 12) LIMIT 3000) s;
SELECT (SELECT count(*) FROM held) = rows_scored AND rows_scored = rows_returned AND rows_scored BETWEEN 1 AND 2999 AS only_those
FROM ivfremote_last_scan();
SELECT id FROM held ORDER BY place LIMIT 1;
RESET ivfremote.iterative_scan;
SET ivfremote.probes = 1048576;

-- What the last statement's scans did

SELECT id FROM t ORDER BY v <-> point(42, 12) LIMIT 3;
CREATE FUNCTION remote() RETURNS bool LANGUAGE sql AS $$ SELECT current_setting('ivfremote.default_server') <> '' $$;
SELECT index, scans, lists, lists_probed, waves = remote()::int AS waves, (requests > 0) = remote() AS requests, blocks > 0 AS blocks,
       bytes_used > 3000 * 12 * CASE (SELECT quantization FROM ivfremote_info(index)) WHEN 'none' THEN 4 ELSE 1 END AS bytes_used, bytes_fetched >= bytes_used AS bytes_fetched,
       rows_scored, pending_rows_scored, rows_returned, quantizer_ms >= 0 AND fetch_ms >= 0 AND score_ms >= 0 AS times
FROM ivfremote_last_scan();
SELECT (count(*) > 0) = remote() AS requests, count(*) = max(request) OR NOT remote() AS numbered,
       coalesce(bool_and(wave = 1 AND bytes > 0 AND start_ms >= 0 AND end_ms >= start_ms), true) AS sane
FROM ivfremote_last_scan_requests();
SELECT coalesce(sum(r.bytes), 0) = CASE WHEN remote() THEN max(s.bytes_fetched) ELSE 0 END AS bytes
FROM ivfremote_last_scan() s LEFT JOIN ivfremote_last_scan_requests() r USING (index);
-- Two indexes in one statement, and a statement without any
SELECT (SELECT id FROM t ORDER BY v <-> point(1, 12) LIMIT 1) AS l2, (SELECT id FROM t ORDER BY v <=> point(2, 12) LIMIT 1) AS cosine;
SELECT 1 AS one;
SELECT * FROM probed() ORDER BY 1;

-- Rescans

SELECT q.i, s.id FROM generate_series(7, 2900, 700) q (i), LATERAL (SELECT id FROM t ORDER BY v <-> point(q.i, 12) LIMIT 2) s;
SELECT index, scans, waves = 5 * remote()::int AS waves, rows_scored, rows_returned FROM ivfremote_last_scan();
SELECT count(*) AS wrong FROM generate_series(1, 300) q (i)
WHERE (SELECT id FROM t ORDER BY v <-> point(q.i * 10 - 3, 12) LIMIT 1) IS DISTINCT FROM q.i * 10 - 3;
SELECT index, scans FROM ivfremote_last_scan();
-- NULL among the outer rows, then a vector again
SELECT n, s.ids IS NOT NULL AS found, s.rows FROM (VALUES (1, point(42, 12)), (2, NULL), (3, point(43, 12))) q (n, query),
  LATERAL (SELECT array_agg(id) AS ids, count(*) AS rows FROM (SELECT id FROM t ORDER BY v <-> q.query LIMIT 20) x) s ORDER BY n;

-- A query without distances: all indexed rows, in some order

INSERT INTO t VALUES (3001, NULL, 1), (3002, array_fill(0::real, '{12}'), 1), (3003, point(3003, 12), 1);
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM t ORDER BY v <-> (SELECT NULL::real[]) LIMIT 4000) x;
SELECT waves, requests, rows_returned FROM ivfremote_last_scan();
SELECT count(*) FROM (SELECT id FROM t ORDER BY v <-> (SELECT NULL::float8[]) LIMIT 10) x;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM t ORDER BY v <=> array_fill(0::real, '{12}') LIMIT 4000) x;
DELETE FROM t WHERE id > 3000;

-- Queries that are no vectors of the index

SELECT attempt($$SELECT id FROM t ORDER BY v <-> '{1,2,3}' LIMIT 1$$);
SELECT attempt($$SELECT id FROM t ORDER BY v <=> point(1, 13)::float8[] LIMIT 1$$);
SELECT attempt($$SELECT id FROM t ORDER BY v <-> ARRAY[1, 2, NULL] LIMIT 1$$);
SELECT attempt($$SELECT id FROM t ORDER BY v <-> '{}' LIMIT 1$$);
SELECT attempt($$SELECT id FROM t ORDER BY v <-> '{1,NaN}'::float8[] LIMIT 1$$);
SELECT attempt($$SELECT id FROM t ORDER BY v <-> '{1e39}'::float8[] LIMIT 1$$);
-- Lower bounds do not matter
SELECT id FROM t ORDER BY v <-> ('[0:11]=' || point(42, 12)::text)::real[] LIMIT 1;

-- Cursors

BEGIN;
DECLARE c CURSOR FOR SELECT id FROM t ORDER BY v <-> point(42, 12);
FETCH 1 FROM c;
MOVE 1998 FROM c;
MOVE 1000 FROM c;
FETCH 1 FROM c;
SAVEPOINT s;
SELECT attempt('MOVE BACKWARD 1 FROM c');
ROLLBACK TO s;
CLOSE c;
DECLARE c SCROLL CURSOR FOR SELECT id FROM t ORDER BY v <-> point(42, 12);
FETCH 3 FROM c;
FETCH BACKWARD 2 FROM c;
FETCH LAST FROM c \g /dev/null
FETCH FIRST FROM c;
CLOSE c;
-- Two at a time, interleaved with writes of the same transaction, which they do not see
DECLARE a CURSOR FOR SELECT id FROM t ORDER BY v <-> point(42, 12);
DECLARE b CURSOR FOR SELECT id FROM t ORDER BY v <-> point(77, 12);
FETCH 1 FROM a;
FETCH 1 FROM b;
DELETE FROM t WHERE id BETWEEN 100 AND 2000;
INSERT INTO t VALUES (5000, point(42, 12), 0);
MOVE ALL FROM a;
MOVE 2999 FROM b;
FETCH 1 FROM b;
ROLLBACK;
BEGIN;
DECLARE c CURSOR WITH HOLD FOR SELECT id FROM t ORDER BY v <-> point(42, 12) LIMIT 3;
COMMIT;
FETCH ALL FROM c;
CLOSE c;

-- Prepared statements, with plans for a query unknown

SET plan_cache_mode = force_generic_plan;
PREPARE nearest(real[], int) AS SELECT id FROM t ORDER BY v <-> $1 LIMIT $2;
EXPLAIN (COSTS OFF) EXECUTE nearest(NULL, 3);
EXECUTE nearest(point(42, 12), 1);
EXECUTE nearest(point(77, 12), 1);
SELECT attempt('EXECUTE nearest(''{1,2}'', 1)');
SET ivfremote.probes = 2;
EXECUTE nearest(point(77, 12), 1);
SELECT * FROM probed();
SET ivfremote.probes = 1048576;
DEALLOCATE nearest;
RESET plan_cache_mode;

-- Conditions beside the order

SELECT id FROM t WHERE mark = 7 ORDER BY v <-> point(42, 12) LIMIT 3;
SELECT array_agg(id) = (SELECT array_agg(id) FROM (SELECT id FROM t WHERE mark = 7 ORDER BY (v <-> point(42, 12)) + 0 LIMIT 3) x) AS same
FROM (SELECT id FROM t WHERE mark = 7 ORDER BY v <-> point(42, 12) LIMIT 3) y;
SELECT id FROM (SELECT id, v <-> point(9, 12) AS d FROM t ORDER BY v <-> point(9, 12) LIMIT 2) x ORDER BY d, id DESC;
SELECT id FROM t ORDER BY v <-> point(42, 12) OFFSET 2 LIMIT 1 FOR UPDATE;
RESET enable_seqscan;

-- Rows inserted are there at once, until a rollback

BEGIN;
INSERT INTO t SELECT i, point(i, 12), i % 100 FROM generate_series(4001, 4200) i;
SELECT op, x.* FROM (VALUES ('<->'), ('<#>'), ('<=>')) o (op), compare_all('t', op, 'SELECT point(i, 12) FROM generate_series(3990, 4030, 4) i', 20) x;
SET enable_seqscan = off;
SELECT count(*) FROM (SELECT id FROM t ORDER BY v <=> point(1, 12) LIMIT 3200) x;
SELECT index, pending_rows_scored, rows_scored FROM ivfremote_last_scan();
RESET enable_seqscan;
SAVEPOINT s;
DELETE FROM t WHERE id % 2 = 0;
SELECT compare('t', '<->', point(4007, 12), 4000);
ROLLBACK TO s;
SELECT compare('t', '<->', point(4007, 12), 4000);
ROLLBACK;
SELECT op, x.* FROM (VALUES ('<->'), ('<#>'), ('<=>')) o (op), compare_all('t', op, 'SELECT point(i, 12) FROM generate_series(3990, 4030, 4) i', 20) x;

-- Deleted rows, before and after VACUUM, and TIDs used again by other rows

DELETE FROM t WHERE id % 3 = 0;
SELECT op, x.* FROM (VALUES ('<->'), ('<#>'), ('<=>')) o (op), compare_all('t', op, 'SELECT point(i, 12) FROM generate_series(3, 2903, 290) i', 4000) x;
VACUUM t;
SELECT op, x.* FROM (VALUES ('<->'), ('<#>'), ('<=>')) o (op), compare_all('t', op, 'SELECT point(i, 12) FROM generate_series(3, 2903, 290) i', 4000) x;
INSERT INTO t SELECT i, point(-i, 12), i % 100 FROM generate_series(10001, 10900) i;
SELECT count(*) > 800 AS reused FROM t WHERE id > 10000 AND ctid < (SELECT max(ctid) FROM t WHERE id < 10000);
SELECT op, x.* FROM (VALUES ('<->'), ('<#>'), ('<=>')) o (op), compare_all('t', op, 'SELECT point(i, 12) FROM generate_series(3, 2903, 290) i', 4000) x;
-- The same with rows that are still pending
DELETE FROM t WHERE id > 10000 AND id % 2 = 0;
VACUUM t;
INSERT INTO t SELECT i, point(i * 2, 12), i % 100 FROM generate_series(20001, 20400) i;
SELECT op, x.* FROM (VALUES ('<->'), ('<#>'), ('<=>')) o (op), compare_all('t', op, 'SELECT point(i, 12) FROM generate_series(3, 2903, 290) i', 4000) x;
DELETE FROM t WHERE id < 2000 OR id % 2 = 1;
VACUUM (PARALLEL 2) t;
VACUUM (INDEX_CLEANUP on, FREEZE) t;
SELECT op, x.* FROM (VALUES ('<->'), ('<#>'), ('<=>')) o (op), compare_all('t', op, 'SELECT point(i, 12) FROM generate_series(3, 2903, 290) i', 4000) x;

-- Updates: of the vector, and of other columns in place

UPDATE t SET v = point(id + 5, 12) WHERE id % 4 = 0;
SELECT compare('t', '<->', point(2008, 12), 4000), compare('t', '<=>', point(2008, 12), 4000);
VACUUM t;
CREATE TABLE h (id int, v real[], mark int) WITH (fillfactor = 50, autovacuum_enabled = off);
INSERT INTO h SELECT i, point(i, 12), 0 FROM generate_series(1, 1000) i;
CREATE INDEX h_idx ON h USING ivfremote (v) WITH (flush_threshold = 1, quantization = :quantization);
UPDATE h SET mark = 1 WHERE id % 2 = 0;
UPDATE h SET mark = 2 WHERE id % 4 = 0;
SELECT pending_rows = 0 AS hot FROM ivfremote_info('h_idx');
SELECT compare('h', '<->', point(8, 12), 1000), compare('h WHERE mark = 2', '<->', point(8, 12), 250);
VACUUM h;
UPDATE h SET mark = 3 WHERE id % 8 = 0;
SELECT compare('h', '<->', point(8, 12), 1000), compare('h WHERE mark = 3', '<->', point(8, 12), 125);
DELETE FROM h;
VACUUM h;
SELECT compare('h', '<->', point(8, 12), 1000);
DROP TABLE h;

-- Rows with a value outside of the row, and a table without any

CREATE TABLE w (id int, v real[]) WITH (autovacuum_enabled = off);
INSERT INTO w SELECT i, array_fill((i % 7)::real, '{2999}') || i::real FROM generate_series(1, 60) i;
CREATE INDEX w_idx ON w USING ivfremote (v) WITH (flush_threshold = 1, lists = 5, quantization = :quantization);
SELECT compare('w', '<->', array_fill(2::real, '{3000}'), 60);
DELETE FROM w WHERE id % 2 = 0;
VACUUM w;
INSERT INTO w SELECT i, array_fill((i % 7)::real, '{2999}') || i::real FROM generate_series(61, 90) i;
SELECT compare('w', '<->', array_fill(2::real, '{3000}'), 60);
DELETE FROM w;
VACUUM w;
SELECT compare('w', '<->', array_fill(2::real, '{3000}'), 60);
DROP TABLE w;
