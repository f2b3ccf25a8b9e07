-- Builds, into pages or a server as ivfremote.default_server says.
-- All lists are probed: what an index finds must be what the table holds.
SET ivfremote.probes = 1000000;
CREATE FUNCTION about(index regclass) RETURNS TABLE (trained bool, lists int, automatic bool, segment_rows bigint,
                                                     pending_rows bigint, dimensions int, placed bool)
  LANGUAGE sql AS $$
  SELECT i.trained, i.lists, i.lists_automatic, i.segment_rows, i.pending_rows, i.dimensions,
         coalesce((SELECT bool_and((object_key IS NOT NULL) = (i.server IS NOT NULL) AND (objects > 0) = (i.server IS NOT NULL))
                   FROM ivfremote_segments(index)), true)
  FROM ivfremote_info(index) i
$$;

-- An empty table: rows come as they are inserted

CREATE TABLE t (id int, v real[]);
CREATE INDEX t_idx ON t USING ivfremote (v);
SELECT * FROM about('t_idx');
SELECT compare('t', '<->', '{1,2}', 3);
INSERT INTO t VALUES (1, '{1,2}'), (2, '{3,4}'), (3, NULL), (4, '{5,6}');
SELECT * FROM about('t_idx');
SELECT compare('t', '<->', '{1,2}', 3);
SELECT attempt($$INSERT INTO t VALUES (5, '{1,2,3}')$$);
DROP TABLE t;

-- One row, untrained and trained

CREATE TABLE t (id int, v real[]);
INSERT INTO t VALUES (1, '{1,2,3}');
CREATE INDEX t_idx ON t USING ivfremote (v);
SELECT * FROM about('t_idx');
SELECT compare('t', '<->', '{1,2,2}', 10);
DROP INDEX t_idx;
CREATE INDEX t_idx ON t USING ivfremote (v) WITH (flush_threshold = 1);
SELECT * FROM about('t_idx');
SELECT compare('t', '<->', '{1,2,2}', 10);
INSERT INTO t VALUES (2, '{1,2,2}');
SELECT compare('t', '<->', '{1,2,2}', 10);
DROP TABLE t;

-- All rows equal

CREATE TABLE t (id int, v real[]);
INSERT INTO t SELECT i, '{0.25,-1,3e10}' FROM generate_series(1, 2000) i;
CREATE INDEX t_l2 ON t USING ivfremote (v) WITH (flush_threshold = 1);
CREATE INDEX t_ip ON t USING ivfremote (v real_ip_ops) WITH (flush_threshold = 1, lists = 50);
CREATE INDEX t_cosine ON t USING ivfremote (v real_cosine_ops) WITH (flush_threshold = 1, lists = 3000);
SELECT * FROM about('t_l2');
SELECT lists, segment_rows FROM ivfremote_info('t_ip');
SELECT lists, segment_rows FROM ivfremote_info('t_cosine');
SELECT compare('t', op, '{0.25,-1,3e10}', 2000), compare('t', op, '{1,1,1}', 7) FROM (VALUES ('<->'), ('<#>'), ('<=>')) x (op);
DROP TABLE t;

-- Fewer rows than lists; rows in few places

CREATE TABLE t (id int, v real[]);
INSERT INTO t SELECT i, point(i, 4) FROM generate_series(1, 5) i;
CREATE INDEX t_idx ON t USING ivfremote (v) WITH (flush_threshold = 1, lists = 100);
SELECT segment_rows, lists <= 100 AS lists, lists_automatic FROM ivfremote_info('t_idx');
SELECT compare('t', '<->', point(3, 4), 5);
DROP INDEX t_idx;
INSERT INTO t SELECT i, point(i % 3, 4) FROM generate_series(6, 900) i;
CREATE INDEX t_idx ON t USING ivfremote (v) WITH (flush_threshold = 1, lists = 100);
SELECT segment_rows FROM ivfremote_info('t_idx');
SELECT * FROM compare_all('t', '<->', 'SELECT point(i, 4) FROM generate_series(0, 6) i', 400);
DROP TABLE t;

-- NULL rows are not indexed, zero vectors not under cosine

CREATE TABLE t (id int, v real[]);
INSERT INTO t SELECT i, CASE WHEN i % 3 = 0 THEN NULL WHEN i % 5 = 0 THEN '{0,0,0}' ELSE point(i, 3) END FROM generate_series(1, 600) i;
CREATE INDEX t_l2 ON t USING ivfremote (v) WITH (flush_threshold = 1);
CREATE INDEX t_cosine ON t USING ivfremote (v real_cosine_ops) WITH (flush_threshold = 1, lists = 4);
SELECT * FROM about('t_l2');
SELECT * FROM about('t_cosine');
SELECT compare('t', '<->', '{0,0,0}', 400), compare('t', '<=>', '{1,2,3}', 320);
INSERT INTO t VALUES (601, NULL), (602, '{0,0,0}'), (603, '{-0,0,0}'), (604, '{1,1,1}');
SELECT compare('t', '<->', '{0,0,0}', 403), compare('t', '<=>', '{1,2,3}', 321);
SELECT pending_rows FROM ivfremote_info('t_cosine');
DROP INDEX t_l2;
UPDATE t SET v = NULL;
VACUUM t;
REINDEX INDEX t_cosine;
SELECT * FROM about('t_cosine');
UPDATE t SET v = '{0,0,0}';
VACUUM t;
REINDEX INDEX t_cosine;
SELECT * FROM about('t_cosine');
DROP TABLE t;

-- Expressions and predicates

CREATE TABLE t (id int, a real, b real, kind int, v real[]);
INSERT INTO t SELECT i, sin(i), cos(i), i % 4, point(i, 5) FROM generate_series(1, 1000) i;
CREATE INDEX t_expression ON t USING ivfremote ((ARRAY[a, b, a * b])) WITH (flush_threshold = 1, lists = 8);
CREATE INDEX t_partial ON t USING ivfremote (v) WITH (flush_threshold = 1, lists = 8) WHERE kind = 2;
CREATE VIEW e AS SELECT id, ARRAY[a, b, a * b] AS v FROM t;
SELECT segment_rows FROM ivfremote_info('t_expression');
SELECT segment_rows FROM ivfremote_info('t_partial');
SELECT compare('e', '<->', '{0.1,0.2,0.3}', 50), compare('t WHERE kind = 2', '<->', point(7, 5), 250);
INSERT INTO t SELECT i, sin(i), cos(i), i % 4, point(i, 5) FROM generate_series(1001, 1100) i;
UPDATE t SET kind = kind + 1 WHERE id % 5 = 0;
SELECT compare('e', '<->', '{0.1,0.2,0.3}', 50), compare('t WHERE kind = 2', '<->', point(7, 5), 250);
DROP VIEW e;
DROP TABLE t;

-- Few rows in many pages, so that a sample of pages may miss them

CREATE TABLE t (id int, v real[], filler text) WITH (fillfactor = 10);
INSERT INTO t SELECT i, point(i, 3), repeat('x', 900) FROM generate_series(1, 2500) i;
DO $$
BEGIN
  FOR i IN 1 .. 8 LOOP
    CREATE INDEX t_idx ON t USING ivfremote (v) WITH (flush_threshold = 1) WHERE id % 100 = 7;
    ASSERT compare('t WHERE id % 100 = 7', '<->', '{1,2,3}', 25) = 'same';
    DROP INDEX t_idx;
  END LOOP;
END $$;
DROP TABLE t;

-- Rows of every width, in segments and pending

CREATE FUNCTION build_dimensions(dims int, number int, quantization text) RETURNS TABLE (pending text, segment text, together text, segment_rows bigint, pending_rows bigint)
  LANGUAGE plpgsql AS $$
DECLARE
  query real[] := array_fill(2.5::real, ARRAY[dims]);
BEGIN
  CREATE TABLE w (id int, v real[]);
  EXECUTE format('CREATE INDEX w_idx ON w USING ivfremote (v) WITH (flush_threshold = 1, lists = 3, quantization = %s)', quantization);
  INSERT INTO w SELECT i, array_fill((i % 7)::real, ARRAY[dims - 1]) || i::real FROM generate_series(1, number) i;
  pending := compare('w', '<->', query, number);
  REINDEX INDEX w_idx;
  segment := compare('w', '<->', query, number);
  INSERT INTO w SELECT i, array_fill((i % 7)::real, ARRAY[dims - 1]) || i::real FROM generate_series(number + 1, 2 * number) i;
  together := compare('w', '<->', query, 2 * number);
  SELECT i.segment_rows, i.pending_rows INTO build_dimensions.segment_rows, build_dimensions.pending_rows FROM ivfremote_info('w_idx') i;
  RETURN NEXT;
  DROP TABLE w;
END $$;
SELECT dims, x.* FROM unnest('{1,2,3,15,16,17,507,508,1014,1015,1016,1017,2027,2028,2029,2032,2033,16000}'::int[]) dims,
  build_dimensions(dims, 12, 'rabitq') x;
SELECT dims, x.* FROM unnest('{1,507,508,1014,1015,2028,2029,16000}'::int[]) dims, build_dimensions(dims, 12, 'none') x;
SELECT kind, x.* FROM unnest('{rabitq,none}'::text[]) kind, build_dimensions(100, 700, kind) x;
CREATE TABLE t (id int, v real[]);
INSERT INTO t VALUES (1, array_fill(1::real, '{16001}'));
SELECT attempt($$CREATE INDEX t_idx ON t USING ivfremote (v)$$);
DROP TABLE t;

-- Lists

CREATE TABLE t (id int, v real[]);
INSERT INTO t SELECT i, point(i, 16) FROM generate_series(1, 3000) i;
CREATE INDEX t_default ON t USING ivfremote (v);
CREATE INDEX t_automatic ON t USING ivfremote (v) WITH (flush_threshold = 3000);
CREATE INDEX t_explicit ON t USING ivfremote (v) WITH (flush_threshold = 0, lists = 37);
CREATE INDEX t_one ON t USING ivfremote (v) WITH (flush_threshold = 1, lists = 1);
SELECT relname, a.* FROM pg_class, about(oid) a WHERE relname ~ '^t_' ORDER BY 1;
DROP INDEX t_default, t_automatic, t_explicit, t_one;
-- Little memory is no error: a notice
SET maintenance_work_mem = '1MB';
SET client_min_messages = warning;
CREATE INDEX t_idx ON t USING ivfremote (v) WITH (flush_threshold = 1, lists = 400);
SELECT segment_rows FROM ivfremote_info('t_idx');
SELECT * FROM compare_all('t', '<->', 'SELECT point(i, 16) FROM generate_series(1, 20) i', 10);
DROP INDEX t_idx;
UPDATE t SET v = point(id, 80);
CREATE INDEX t_idx ON t USING ivfremote (v) WITH (flush_threshold = 1, lists = 100);
SELECT segment_rows FROM ivfremote_info('t_idx');
SELECT * FROM compare_all('t', '<->', 'SELECT point(i, 80) FROM generate_series(1, 20) i', 10);
RESET maintenance_work_mem;
RESET client_min_messages;
DROP INDEX t_idx;

-- Ways to build

BEGIN;
DELETE FROM t WHERE id > 1000;
CREATE INDEX t_idx ON t USING ivfremote (v) WITH (flush_threshold = 1);
SELECT compare('t', '<->', point(7, 80), 1000);
ROLLBACK;
DELETE FROM t WHERE id > 2000;
UPDATE t SET v = point(id, 24);
CREATE INDEX CONCURRENTLY t_idx ON t USING ivfremote (v) WITH (flush_threshold = 1);
SELECT compare('t', '<->', point(7, 24), 2000);
REINDEX INDEX t_idx;
SELECT compare('t', '<->', point(7, 24), 2000);
INSERT INTO t SELECT i, point(i, 24) FROM generate_series(2001, 2100) i;
REINDEX INDEX CONCURRENTLY t_idx;
SELECT * FROM about('t_idx');
SELECT compare('t', '<->', point(7, 24), 2100);
REINDEX TABLE t;
ALTER TABLE t ALTER COLUMN id TYPE bigint;
SELECT * FROM about('t_idx');
ALTER TABLE t ALTER COLUMN id TYPE int;
VACUUM FULL t;
SELECT compare('t', '<->', point(7, 24), 2100);
ALTER TABLE t SET UNLOGGED;
SELECT compare('t', '<->', point(7, 24), 2100);
INSERT INTO t VALUES (2101, point(2101, 24));
ALTER TABLE t SET LOGGED;
SELECT compare('t', '<->', point(7, 24), 2101);
TRUNCATE t;
SELECT * FROM about('t_idx');
-- The index is as new: rows of another width are welcome
INSERT INTO t SELECT i, point(i, 6) FROM generate_series(1, 50) i;
SELECT compare('t', '<->', point(7, 6), 50);
BEGIN;
TRUNCATE t;
INSERT INTO t VALUES (1, '{1}');
SELECT compare('t', '<->', '{2}', 50);
ROLLBACK;
SELECT compare('t', '<->', point(7, 6), 50);
SELECT attempt($$ALTER TABLE t ALTER COLUMN v TYPE float8[]$$);
DROP TABLE t;

CREATE UNLOGGED TABLE t (id int, v real[]);
CREATE INDEX t_idx ON t USING ivfremote (v) WITH (flush_threshold = 1);
INSERT INTO t SELECT i, point(i, 6) FROM generate_series(1, 500) i;
REINDEX INDEX t_idx;
SELECT * FROM about('t_idx');
SELECT compare('t', '<->', point(7, 6), 50);
DROP TABLE t;

CREATE TABLE t (id int, v real[]) PARTITION BY RANGE (id);
CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (500);
CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (500) TO (2000);
INSERT INTO t SELECT i, point(i, 6) FROM generate_series(1, 1000) i;
CREATE INDEX t_idx ON t USING ivfremote (v) WITH (flush_threshold = 1);
SELECT compare('t', '<->', point(7, 6), 50);
DROP TABLE t;

-- Rows that do not fit the first, and rows that are no vectors

CREATE TABLE t (id int, v real[]);
INSERT INTO t SELECT i, point(i, CASE i WHEN 77 THEN 4 ELSE 3 END) FROM generate_series(1, 100) i;
SELECT attempt($$CREATE INDEX t_idx ON t USING ivfremote (v)$$);
SELECT attempt($$CREATE INDEX t_idx ON t USING ivfremote (v) WITH (flush_threshold = 1)$$);
UPDATE t SET v = '{1,NaN,2}' WHERE id = 77;
SELECT attempt($$CREATE INDEX t_idx ON t USING ivfremote (v) WITH (flush_threshold = 1)$$);
UPDATE t SET v = '{{1,2,3}}' WHERE id = 77;
SELECT attempt($$CREATE INDEX t_idx ON t USING ivfremote (v)$$);
UPDATE t SET v = '{}' WHERE id = 77;
SELECT attempt($$CREATE INDEX t_idx ON t USING ivfremote (v)$$);
UPDATE t SET v = '[5:7]={1,2,3}' WHERE id = 77;
SELECT attempt($$CREATE INDEX t_idx ON t USING ivfremote (v) WITH (flush_threshold = 1)$$);
SELECT attempt($$INSERT INTO t VALUES (101, '{1,2}')$$);
SELECT attempt($$INSERT INTO t VALUES (101, '{1,NULL,2}')$$);
SELECT attempt($$INSERT INTO t VALUES (101, '{1,Infinity,2}')$$);
SELECT attempt($$INSERT INTO t VALUES (101, '{}')$$);
SELECT compare('t', '<->', '{1,2,3}', 100);
-- Far away from the rest, and far from each other
INSERT INTO t VALUES (102, '{3e38,3e38,3e38}'), (103, '{-3e38,-3e38,3e38}'), (104, '{1e-45,0,0}');
REINDEX INDEX t_idx;
SELECT compare('t', '<->', '{1,2,3}', 103), compare('t', '<->', '{3e38,3e38,3e38}', 3);
DROP TABLE t;
