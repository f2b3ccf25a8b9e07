\set ECHO none
\getenv source PG_ABS_SRCDIR
\set include :source /sql/include
\set schema recall_test
\set file :include /setup.sql
\i :file
\set file :include /search.sql
\i :file
\set ECHO all
CREATE TABLE t (id int, v real[]);
INSERT INTO t SELECT i, point(i, 8) FROM generate_series(1, 2000) i;
CREATE INDEX t_idx ON t USING ivfremote (v) WITH (flush_threshold = 1, lists = 10);
CREATE INDEX t_cosine ON t USING ivfremote (v real_cosine_ops) WITH (flush_threshold = 1, lists = 10);
CREATE INDEX t_btree ON t (id);

-- What it gives: the session's setting, then the targets

SELECT recall_target, recall BETWEEN 0 AND 1 AS recall, lists BETWEEN 1 AND 10 AS lists, rows_scored > 0 AS rows_scored,
       table_rows_read >= 10 AS table_rows_read, bytes > 0 AS bytes
FROM ivfremote_recall('t_idx');
SET ivfremote.probes = 10;
SELECT recall_target, recall > 0.99 AS recall, lists, rows_scored FROM ivfremote_recall('t_idx', (SELECT array_agg(v) FROM t WHERE id <= 20)) LIMIT 1;
RESET ivfremote.probes;
ALTER INDEX t_idx SET (probes = 3);
SELECT recall_target, lists FROM ivfremote_recall('t_idx', ARRAY[point(1, 8)]) LIMIT 1;
ALTER INDEX t_idx RESET (probes);
ALTER INDEX t_idx SET (recall_target = 0.7);
SELECT recall_target FROM ivfremote_recall('t_idx', ARRAY[point(1, 8)]) LIMIT 1;
ALTER INDEX t_idx RESET (recall_target);
-- More neighbours than the table has
BEGIN;
SET LOCAL ivfremote.probes = 10;
SELECT recall FROM ivfremote_recall('t_idx', ARRAY[point(1, 8)], 10000) LIMIT 1;
COMMIT;
SELECT index, scans FROM ivfremote_last_scan();

-- The curve

SELECT DISTINCT from_queries, queries FROM ivfremote_recall_curve('t_idx');
SELECT k, count(*), min(recall), max(recall), bool_and(lists BETWEEN 1 AND 10 AND rows > 0 AND bytes > 0) AS sane
FROM ivfremote_recall_curve('t_idx') GROUP BY k ORDER BY k;
SELECT count(*) FROM ivfremote_recall('t_idx', (SELECT array_agg(v) FROM t WHERE id <= 60), store => true);
SELECT DISTINCT from_queries, queries FROM ivfremote_recall_curve('t_idx');
SELECT count(*) FROM ivfremote_recall('t_idx', store => true);
SELECT DISTINCT from_queries, queries FROM ivfremote_recall_curve('t_idx');
INSERT INTO t SELECT i, point(i, 8) FROM generate_series(2001, 2100) i;
SET ivfremote.probes = 10;
SET ivfremote.epsilon = 100;
SELECT compare('t', '<->', point(5, 8), 2100);
RESET ivfremote.probes;
RESET ivfremote.epsilon;

-- Errors

SELECT attempt($$SELECT ivfremote_recall('t')$$);
SELECT attempt($$SELECT ivfremote_recall('t_btree')$$);
SELECT attempt($$SELECT ivfremote_recall(NULL)$$);
SELECT attempt($$SELECT ivfremote_recall('t_idx', NULL, NULL)$$);
SELECT attempt($$SELECT ivfremote_recall('t_idx', store => NULL)$$);
SELECT attempt($$SELECT ivfremote_recall('t_idx', NULL, 0)$$);
SELECT attempt($$SELECT ivfremote_recall('t_idx', NULL, 10001)$$);
SELECT attempt($$SELECT ivfremote_recall('t_idx', '{}')$$);
SELECT attempt($$SELECT ivfremote_recall('t_idx', point(1, 8))$$);
SELECT attempt($$SELECT ivfremote_recall('t_idx', ARRAY[ARRAY[point(1, 8)]])$$);
SELECT attempt($$SELECT ivfremote_recall('t_idx', ARRAY[point(1, 7)])$$);
SELECT attempt($$SELECT ivfremote_recall('t_idx', array_fill(NULL::real, '{3, 8}'))$$);
SELECT attempt($$SELECT ivfremote_recall('t_idx', ARRAY[point(1, 8), array_fill('NaN'::real, '{8}')])$$);
SELECT attempt($$SELECT ivfremote_recall('t_idx', ARRAY[point(1, 8), array_fill('-inf'::real, '{8}')])$$);
SELECT attempt($$SELECT ivfremote_recall('t_idx', array_fill(1::real, '{2001, 8}'))$$);
SELECT attempt($$SELECT ivfremote_recall('t_cosine', ARRAY[point(1, 8), array_fill(0::real, '{8}')])$$);
SELECT ivfremote_recall('t_cosine', ARRAY[point(1, 8), array_fill(0::real, '{8}')]);
SELECT attempt($$SELECT ivfremote_recall('t_idx', array_fill(1::real, '{49, 8}'), store => true)$$);
BEGIN READ ONLY;
SELECT attempt($$SELECT ivfremote_recall('t_idx', store => true)$$);
SELECT attempt($$SELECT ivfremote_recall('t_idx')$$);
COMMIT;
SELECT attempt($$SELECT ivfremote_recall_curve('t_btree')$$);
SELECT ivfremote_recall_curve(NULL);
-- Untrained, and without rows
CREATE TABLE few (v real[]);
CREATE INDEX few_idx ON few USING ivfremote (v);
SELECT attempt($$SELECT ivfremote_recall('few_idx')$$);
SELECT count(*) FROM ivfremote_recall_curve('few_idx');
DELETE FROM t;
SELECT attempt($$SELECT ivfremote_recall('t_idx')$$);
SELECT attempt($$SELECT ivfremote_recall('t_idx', array_fill(1::real, '{60, 8}'), store => true)$$);
-- One row has no other to find
INSERT INTO t VALUES (1, point(1, 8)), (2, NULL);
SELECT DISTINCT recall FROM ivfremote_recall('t_idx');
SELECT DISTINCT recall FROM ivfremote_recall('t_idx', ARRAY[point(1, 8)]);
CREATE TABLE parent (v real[]) PARTITION BY LIST ((v[1]));
CREATE INDEX parent_idx ON parent USING ivfremote (v);
SELECT attempt($$SELECT ivfremote_recall('parent_idx')$$);
\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA recall_test CASCADE;
