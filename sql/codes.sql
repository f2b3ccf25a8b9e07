\set ECHO none
\getenv source PG_ABS_SRCDIR
\set include :source /sql/include
\set schema codes_test
\set file :include /setup.sql
\i :file
\set file :include /search.sql
\i :file
\set ECHO all
CREATE TABLE t (id int PRIMARY KEY, v real[], mark int) WITH (autovacuum_enabled = off, fillfactor = 30);
-- Every tenth row is the same as the one before: ties
INSERT INTO t SELECT i, point(i - CASE WHEN i % 10 = 0 THEN 1 ELSE 0 END, 24), i % 10 FROM generate_series(1, 1000) i;

-- Options

CREATE INDEX ON t USING ivfremote (v) WITH (bits = 0);
CREATE INDEX ON t USING ivfremote (v) WITH (bits = 3);
CREATE INDEX ON t USING ivfremote (v) WITH (bits = 9);
CREATE INDEX ON t USING ivfremote (v) WITH (bits = 'few');
CREATE INDEX ON t USING ivfremote (v) WITH (bits = 8, quantization = none);
CREATE INDEX ON t USING ivfremote (v) WITH (quantization = pq);
CREATE INDEX ON t USING ivfremote (v) WITH (recall_target = 0);
CREATE INDEX ON t USING ivfremote (v) WITH (recall_target = 1.5);
CREATE INDEX ON t USING ivfremote (v) WITH (recall_target = -1);
CREATE INDEX ON t USING ivfremote (v) WITH (recall_target = 'most');
CREATE INDEX ON t USING ivfremote (v) WITH (recall_target = 0.9, probes = 3);
CREATE INDEX ON t USING ivfremote (v) WITH (spill = 'some');
CREATE INDEX t_idx ON t USING ivfremote (v) WITH (quantization = rabitq, bits = 2, recall_target = 0.8, spill = off);
ALTER INDEX t_idx SET (probes = 3);
ALTER INDEX t_idx SET (bits = 5);
ALTER INDEX t_idx SET (quantization = none);
ALTER INDEX t_idx SET (recall_target = 1);
ALTER INDEX t_idx RESET (recall_target);
ALTER INDEX t_idx SET (probes = 3);
ALTER INDEX t_idx SET (recall_target = 0.5);
SELECT reloptions FROM pg_class WHERE relname = 't_idx';
DROP INDEX t_idx;

-- Settings

SET ivfremote.recall_target = 0;
SET ivfremote.recall_target = 1.5;
SET ivfremote.recall_target = -0.5;
SET ivfremote.recall_target = 1;
SET ivfremote.recall_target = -1;
SET ivfremote.recall_k = 0;
SET ivfremote.recall_k = 1000001;
SET ivfremote.recall_k = 1000000;
SET ivfremote.epsilon = -0.5;
SET ivfremote.epsilon = 101;
SET ivfremote.epsilon = 0;
SET ivfremote.epsilon = -1;
SET ivfremote.rerank = maybe;
RESET ivfremote.recall_k;

-- Bits by dimension, known with the first row; ivfremote_info shows what is, not what the option says

CREATE FUNCTION bits_of(dims int, options text) RETURNS TABLE (quantization text, empty int, first_row int, built int) LANGUAGE plpgsql AS $$
BEGIN
  CREATE TABLE w (id int, v real[]);
  EXECUTE format('CREATE INDEX w_idx ON w USING ivfremote (v) WITH (flush_threshold = 1, %s)', options);
  SELECT bits INTO empty FROM ivfremote_info('w_idx');
  INSERT INTO w SELECT i, array_fill(i::real, ARRAY[dims]) FROM generate_series(1, 3) i;
  SELECT bits INTO first_row FROM ivfremote_info('w_idx');
  REINDEX INDEX w_idx;
  SELECT i.quantization, bits INTO bits_of.quantization, built FROM ivfremote_info('w_idx') i;
  RETURN NEXT;
  DROP TABLE w;
END $$;
SELECT dims, x.* FROM unnest('{1,31,32,383,384,511,512,2000}'::int[]) dims, bits_of(dims, 'lists = 2') x;
SELECT options, x.* FROM unnest('{bits = 1,bits = 8,quantization = none,quantization = rabitq}'::text[]) options, bits_of(40, options) x;
CREATE INDEX t_idx ON t USING ivfremote (v) WITH (flush_threshold = 1, lists = 4);
ALTER INDEX t_idx SET (bits = 1);
SELECT bits FROM ivfremote_info('t_idx');
REINDEX INDEX t_idx;
SELECT bits FROM ivfremote_info('t_idx');
DROP INDEX t_idx;

-- Every metric and code: what the table says, in its order; all lists probed and no row lost to its bound, from here on

SET ivfremote.probes = 1000000;
SET ivfremote.epsilon = 100;
CREATE FUNCTION of_every_code(source text, options text, queries text, k int) RETURNS TABLE (metric text, bits int, result text, queries_count bigint)
  LANGUAGE plpgsql AS $$
DECLARE
  op text;
BEGIN
  FOR metric, op IN VALUES ('l2', '<->'), ('ip', '<#>'), ('cosine', '<=>') LOOP
    FOREACH bits IN ARRAY '{1,2,4,8}'::int[] LOOP
      EXECUTE format('CREATE INDEX of_code ON %s USING ivfremote (v real_%s_ops) WITH (flush_threshold = 1, bits = %s, %s)', source, metric, bits, options);
      RETURN QUERY SELECT of_every_code.metric, of_every_code.bits, x.* FROM compare_all(source, op, queries, k) x;
      DROP INDEX of_code;
    END LOOP;
  END LOOP;
END $$;
SELECT * FROM of_every_code('t', 'lists = 12', 'SELECT point(i * 97, 24) FROM generate_series(1, 3) i UNION ALL SELECT array_fill(0.1::real, ''{24}'')', 1000);

-- The order of the rows returned is exact with any epsilon; rows may be lost

-- How many rows come after one that is farther
CREATE FUNCTION misplaced(source text, op text, query real[], k int) RETURNS bigint LANGUAGE plpgsql
  SET enable_seqscan = off SET enable_sort = off AS $$
DECLARE
  wrong bigint;
BEGIN
  EXECUTE format('SELECT count(*) FROM (SELECT d < lag(d) OVER () AS late FROM (SELECT v %1$s $1 AS d FROM %2$s ORDER BY v %1$s $1 LIMIT %3$s) x) y WHERE late', op, source, k)
    INTO wrong USING query;
  RETURN wrong;
END $$;
CREATE FUNCTION misplaced_of_every_code(source text, queries text, k int) RETURNS TABLE (metric text, bits int, rows_misplaced numeric) LANGUAGE plpgsql AS $$
DECLARE
  op text;
BEGIN
  FOR metric, op IN VALUES ('l2', '<->'), ('ip', '<#>'), ('cosine', '<=>') LOOP
    FOREACH bits IN ARRAY '{1,2,4,8}'::int[] LOOP
      EXECUTE format('CREATE INDEX of_code ON %s USING ivfremote (v real_%s_ops) WITH (flush_threshold = 1, bits = %s, lists = 12)', source, metric, bits);
      EXECUTE format('SELECT sum(misplaced(%L, %L, q, %s)) FROM (%s) x (q), set_config(''ivfremote.epsilon'', ''0'', true)', source, op, k, queries) INTO rows_misplaced;
      PERFORM set_config('ivfremote.epsilon', '100', true);
      RETURN NEXT;
      DROP INDEX of_code;
    END LOOP;
  END LOOP;
END $$;
SELECT * FROM misplaced_of_every_code('t', 'SELECT point(i * 97, 24) FROM generate_series(1, 3) i', 1000);

-- With the default epsilon few neighbours are lost, whatever the magnitude of the values

CREATE TABLE scaled (id int, v real[]) WITH (autovacuum_enabled = off);
CREATE FUNCTION kept_of_every_code(factor real) RETURNS TABLE (metric text, bits int, kept bool) LANGUAGE plpgsql AS $$
DECLARE
  op text;
BEGIN
  TRUNCATE scaled;
  INSERT INTO scaled SELECT id, (SELECT array_agg(e * factor ORDER BY n) FROM unnest(v) WITH ORDINALITY u (e, n)) FROM t;
  PERFORM set_config('ivfremote.epsilon', '-1', true);
  FOR metric, op IN VALUES ('l2', '<->'), ('ip', '<#>'), ('cosine', '<=>') LOOP
    FOREACH bits IN ARRAY '{1,2,4,8}'::int[] LOOP
      EXECUTE format('CREATE INDEX of_code ON scaled USING ivfremote (v real_%s_ops) WITH (flush_threshold = 1, bits = %s, lists = 12)', metric, bits);
      SELECT sum((SELECT count(*) FROM unnest((through_index('scaled', op, q, 20)).distances) d
                  WHERE d <= ((through_table('scaled', op, q, 20)).distances)[20])) >= 0.9 * 20 * 20 INTO kept
      FROM (SELECT scaled.v AS q FROM scaled WHERE id % 50 = 7) x;
      RETURN NEXT;
      DROP INDEX of_code;
    END LOOP;
  END LOOP;
  PERFORM set_config('ivfremote.epsilon', '100', true);
END $$;
SELECT factor, bool_and(kept) AS kept, count(*) AS codes FROM unnest('{1,0.001,1000}'::real[]) factor, kept_of_every_code(factor) GROUP BY factor ORDER BY factor;
DROP TABLE scaled;

-- What a scan looks at: some rows of the table, those it returns among them

CREATE INDEX t_l2 ON t USING ivfremote (v) WITH (flush_threshold = 1, lists = 12, bits = 4);
CREATE INDEX t_cosine ON t USING ivfremote (v real_cosine_ops) WITH (flush_threshold = 1, lists = 12, bits = 1);
SET enable_seqscan = off;
RESET ivfremote.epsilon;
SELECT id FROM t ORDER BY v <-> point(42, 24) LIMIT 1;
SELECT rows_scored, table_rows_read BETWEEN 1 AND 500 AS some_rows, rows_returned FROM ivfremote_last_scan();
SET ivfremote.epsilon = 100;

-- Without reranking: the order of estimates, the same rows in all, and none read from the table

SET ivfremote.rerank = off;
CREATE TABLE estimated AS SELECT id, row_number() OVER () AS place, d FROM (SELECT id, v <-> point(42, 24) AS d FROM t ORDER BY v <-> point(42, 24)) x;
SELECT table_rows_read, rows_returned FROM ivfremote_last_scan();
SELECT count(*), count(DISTINCT id) FROM estimated;
SELECT count(*) >= 8 AS nearly FROM (SELECT id FROM estimated WHERE place <= 10 INTERSECT (SELECT id FROM estimated ORDER BY d LIMIT 10)) x;
SELECT count(*) > 0 AS not_exact FROM (SELECT d < lag(d) OVER (ORDER BY place) AS late FROM estimated) x WHERE late;
SET ivfremote.rerank = on;

-- Queries of the other type, without a distance, and of every kind of place

SELECT array_agg(id) = (through_table('t', '<->', point(42, 24), 1000)).ids OR array_agg(d) = (through_table('t', '<->', point(42, 24), 1000)).distances AS same
FROM (SELECT id, v <-> point(42, 24)::float8[] AS d FROM t ORDER BY v <-> point(42, 24)::float8[] LIMIT 1000) x;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM t ORDER BY v <-> (SELECT NULL::real[])) x;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM t ORDER BY v <=> array_fill(0::real, '{24}')) x;
SELECT compare('t', '<->', array_fill(0::real, '{24}'), 1000);
INSERT INTO t VALUES (1001, array_fill(0::real, '{24}'), 1), (1002, NULL, 1);
SELECT count(*) FROM (SELECT id FROM t ORDER BY v <=> point(42, 24)) x;
SELECT count(*) FROM (SELECT id FROM t ORDER BY v <=> array_fill(0::real, '{24}')) x;
SELECT compare('t', '<->', point(42, 24), 1001);
DELETE FROM t WHERE id > 1000;
VACUUM t;

-- Pending rows are coded too

INSERT INTO t SELECT i, point(i - CASE WHEN i % 10 = 0 THEN 1 ELSE 0 END, 24), i % 10 FROM generate_series(1001, 1300) i;
SELECT pending_rows FROM ivfremote_info('t_l2');
SELECT op, x.* FROM (VALUES ('<->'), ('<=>')) o (op), compare_all('t', op, 'SELECT point(i * 97, 24) FROM generate_series(9, 13) i', 1300) x;
SELECT id FROM t ORDER BY v <=> point(1234, 24) LIMIT 1;
SELECT pending_rows_scored, table_rows_read >= 1 AS reranked FROM ivfremote_last_scan();

-- Updates in place: a row is returned once, by every index, whichever member of its chain is visible

CREATE FUNCTION both_indexes(k int) RETURNS TABLE (l2 text, cosine text) LANGUAGE sql AS $$
  SELECT compare('t', '<->', point(42, 24), k), compare('t', '<=>', point(1042, 24), k)
$$;
UPDATE t SET mark = 10 WHERE id % 2 = 0;
SELECT * FROM both_indexes(1300);
UPDATE t SET mark = 11 WHERE id % 4 = 0;
UPDATE t SET mark = 12 WHERE id % 8 = 0;
SELECT pending_rows AS as_before FROM ivfremote_info('t_l2');
SELECT * FROM both_indexes(1300);
SELECT compare('t WHERE mark = 12', '<->', point(42, 24), 1300), compare('t WHERE mark = 10', '<=>', point(42, 24), 1300);
VACUUM (INDEX_CLEANUP off) t;
SELECT * FROM both_indexes(1300);
VACUUM t;
UPDATE t SET mark = 13 WHERE id % 8 = 0;
SELECT * FROM both_indexes(1300);
-- In a transaction, and beside a snapshot that sees the members before
BEGIN;
DECLARE before CURSOR FOR SELECT mark FROM t ORDER BY v <-> point(42, 24);
UPDATE t SET mark = -1;
SAVEPOINT s;
UPDATE t SET mark = -2 WHERE id % 2 = 1;
SELECT * FROM both_indexes(1300);
ROLLBACK TO s;
SELECT * FROM both_indexes(1300);
CREATE FUNCTION drain(c refcursor) RETURNS TABLE (rows_seen bigint, lowest int) LANGUAGE plpgsql AS $$
DECLARE
  mark int;
BEGIN
  rows_seen := 0;
  LOOP
    FETCH c INTO mark;
    EXIT WHEN NOT FOUND;
    rows_seen := rows_seen + 1;
    lowest := least(lowest, mark);
  END LOOP;
  RETURN NEXT;
END $$;
SELECT * FROM drain('before');
ROLLBACK;
SELECT * FROM both_indexes(1300);
UPDATE t SET v = point(id + 5, 24) WHERE id % 5 = 0;
SELECT * FROM both_indexes(1300);
VACUUM t;
SELECT * FROM both_indexes(1300);

-- Deleted rows, and TIDs used again by others

DELETE FROM t WHERE id % 3 = 0;
SELECT * FROM both_indexes(1300);
VACUUM t;
SELECT * FROM both_indexes(1300);
INSERT INTO t SELECT i, point(-i, 24), i % 10 FROM generate_series(2001, 2400) i;
SELECT count(*) > 300 AS reused FROM t WHERE id > 2000 AND ctid < (SELECT max(ctid) FROM t WHERE id < 2000);
SELECT * FROM both_indexes(1400);
DELETE FROM t WHERE id % 2 = 0;
VACUUM t;
INSERT INTO t SELECT i, point(-i, 24), i % 10 FROM generate_series(3001, 3300) i;
SELECT * FROM both_indexes(1400);

-- Rescans

SELECT bool_and(s.ids = (through_table('t', '<->', q.query, 7)).ids), count(*)
FROM (VALUES (point(41, 24)), (point(3005, 24))) q (query),
  LATERAL (SELECT array_agg(id) AS ids FROM (SELECT id FROM t ORDER BY v <-> q.query LIMIT 7) x) s;
SELECT scans, rows_returned FROM ivfremote_last_scan();

-- A cursor that goes on, in exact order throughout

BEGIN;
DECLARE c CURSOR FOR SELECT id FROM t ORDER BY v <-> point(41, 24);
FETCH 3 FROM c;
MOVE 7 FROM c;
FETCH 1000 FROM c \g /dev/null
FETCH 1 FROM c;
CLOSE c;
-- In steps, with subtransactions that end in all ways between them
CREATE FUNCTION stepwise(epsilon text, aborts bool) RETURNS TABLE (rows_seen int, in_order bool, distinct_rows bool) LANGUAGE plpgsql AS $$
DECLARE
  c CURSOR FOR SELECT id, v <-> point(41, 24) AS d FROM t ORDER BY v <-> point(41, 24);
  r record;
  last float8 := '-infinity';
  ids int[] := '{}';
BEGIN
  PERFORM set_config('ivfremote.epsilon', epsilon, true);
  in_order := true;
  OPEN c;
  LOOP
    FETCH c INTO r;
    EXIT WHEN NOT FOUND;
    in_order := in_order AND r.d >= last;
    last := r.d;
    ids := ids || r.id;
    IF cardinality(ids) % 100 = 10 THEN
      BEGIN
        PERFORM id FROM t ORDER BY v <=> point(cardinality(ids), 24) LIMIT 1;
        IF aborts THEN PERFORM 1 / (id - id) FROM t ORDER BY v <-> point(3, 24) LIMIT 5; END IF;
      EXCEPTION WHEN division_by_zero THEN
      END;
    END IF;
  END LOOP;
  CLOSE c;
  rows_seen := cardinality(ids);
  distinct_rows := (SELECT count(DISTINCT i) FROM unnest(ids) i) = rows_seen;
  RETURN NEXT;
END $$;
SELECT rows_seen = (SELECT count(*) FROM t) AS complete, in_order, distinct_rows FROM stepwise('100', false);
SELECT rows_seen = (SELECT count(*) FROM t) AS complete, in_order, distinct_rows FROM stepwise('100', true);
SELECT rows_seen > 500 AS most, in_order, distinct_rows FROM stepwise('0', true);
SELECT rows_seen > 700 AS most, in_order, distinct_rows FROM stepwise('-1', true);
COMMIT;

-- Conditions beside the order

SELECT compare('t WHERE mark = 7', '<->', point(41, 24), 10), compare('t WHERE id % 100 = 1', '<=>', point(41, 24), 100);
SELECT compare('t WHERE mark = -5', '<->', point(41, 24), 10);

-- Isolation levels, and routing that is read from its pages

BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT * FROM both_indexes(1400);
INSERT INTO t VALUES (5000, point(41, 24), 0);
SELECT * FROM both_indexes(1400);
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM both_indexes(1400);
COMMIT;
SET ivfremote.probes = 3;
CREATE TABLE kept AS SELECT q, (through_index('t', '<->', point(q, 24), 50)).ids AS l2, (through_index('t', '<=>', point(q, 24), 50)).ids AS cosine FROM generate_series(1, 10) q;
-- Only builds for tests have it
SELECT count(set_config(name, 'on', false)) <= 1 AS set FROM pg_settings WHERE name = 'ivfremote.test_stream_routing';
SELECT count(*) AS same FROM kept WHERE l2 = (through_index('t', '<->', point(q, 24), 50)).ids AND cosine = (through_index('t', '<=>', point(q, 24), 50)).ids;
SET ivfremote.probes = 1000000;
SELECT * FROM both_indexes(1400);
RESET ivfremote.probes;
RESET ivfremote.epsilon;
CREATE TABLE streamed AS SELECT id FROM t ORDER BY v <-> point(41, 24) LIMIT 10;
SELECT count(set_config(name, 'off', false)) <= 1 AS set FROM pg_settings WHERE name = 'ivfremote.test_stream_routing';
SELECT count(*) AS same FROM streamed JOIN (SELECT id FROM t ORDER BY v <-> point(41, 24) LIMIT 10) x USING (id);
SET ivfremote.probes = 1000000;
SET ivfremote.epsilon = 100;
DROP INDEX t_l2, t_cosine;

-- Expressions and predicates

CREATE TABLE e (id int, a real, b real, c real, kind int, v real[]) WITH (autovacuum_enabled = off, fillfactor = 50);
INSERT INTO e SELECT i, sin(i), cos(i), sin(i * 0.7), i % 4, point(i, 5) FROM generate_series(1, 600) i;
CREATE FUNCTION turned(v real[]) RETURNS real[] LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN ARRAY[v[2], -v[1], v[3] * v[4]]; END';
CREATE INDEX e_columns ON e USING ivfremote ((ARRAY[a, b, c]::real[])) WITH (flush_threshold = 1, lists = 8);
CREATE INDEX e_function ON e USING ivfremote (turned(v) real_cosine_ops) WITH (flush_threshold = 1, lists = 8, bits = 2);
CREATE INDEX e_partial ON e USING ivfremote (v) WITH (flush_threshold = 1, lists = 8, bits = 1) WHERE kind = 2;
CREATE INDEX e_both ON e USING ivfremote (turned(v) real_ip_ops) WITH (flush_threshold = 1, lists = 8) WHERE kind = 3;
CREATE VIEW columns AS SELECT id, ARRAY[a, b, c]::real[] AS v FROM e;
CREATE VIEW function AS SELECT id, turned(v) AS v, kind FROM e;
CREATE FUNCTION all_of_e() RETURNS TABLE (columns text, function text, partial text, both_of_them text) LANGUAGE sql AS $$
  SELECT compare('columns', '<->', '{0.1,0.2,0.3}', 1000), compare('function', '<=>', '{0.1,0.2,0.3}', 1000),
    compare('e WHERE kind = 2', '<->', point(7, 5), 1000), compare('function WHERE kind = 3', '<#>', '{0.1,0.2,0.3}', 1000)
$$;
SELECT * FROM all_of_e();
INSERT INTO e SELECT i, sin(i), cos(i), sin(i * 0.7), i % 4, point(i, 5) FROM generate_series(601, 700) i;
UPDATE e SET kind = (kind + 1) % 4 WHERE id % 5 = 0;
UPDATE e SET a = a + 1 WHERE id % 7 = 0;
UPDATE e SET v = turned(v) || v[1:2] WHERE id % 11 = 0;
SELECT * FROM all_of_e();
VACUUM e;
SELECT * FROM all_of_e();
DROP TABLE e CASCADE;

-- Rows of every width, with every code, in segments and pending

CREATE FUNCTION coded_dimensions(dims int, bits int, number int) RETURNS TABLE (segment text, together text, vacuumed text) LANGUAGE plpgsql AS $$
DECLARE
  query real[] := array_fill(2.5::real, ARRAY[dims]);
BEGIN
  CREATE TABLE w (id int, v real[]);
  INSERT INTO w SELECT i, array_fill((i % 7)::real, ARRAY[dims - 1]) || i::real FROM generate_series(1, number) i;
  EXECUTE format('CREATE INDEX w_idx ON w USING ivfremote (v) WITH (flush_threshold = 1, lists = 3, bits = %s)', bits);
  segment := compare('w', '<->', query, number);
  INSERT INTO w SELECT i, array_fill((i % 7)::real, ARRAY[dims - 1]) || i::real FROM generate_series(number + 1, 2 * number) i;
  together := compare('w', '<->', query, 2 * number);
  DELETE FROM w WHERE id % 3 = 0;
  vacuumed := compare('w', '<->', query, 2 * number);
  RETURN NEXT;
  DROP TABLE w;
END $$;
SELECT dims, bits, x.* FROM unnest('{1,3,17,2000}'::int[]) dims, unnest('{1,2,4,8}'::int[]) bits, coded_dimensions(dims, bits, 40) x;
SELECT bits, x.* FROM unnest('{1,8}'::int[]) bits, coded_dimensions(16000, bits, 8) x;

-- Few different rows, and many equal ones

CREATE TABLE f (id int, v real[]) WITH (autovacuum_enabled = off);
INSERT INTO f SELECT i, '{0.25,-1,3e10}' FROM generate_series(1, 300) i;
SELECT metric, bits, result FROM of_every_code('f', 'lists = 7', 'SELECT q::real[] FROM unnest(ARRAY[''{0.25,-1,3e10}'', ''{1,1,1}'']) q', 300);
TRUNCATE f;
INSERT INTO f SELECT i, point(i % 5, 20) FROM generate_series(1, 300) i;
SELECT metric, bits, result FROM of_every_code('f', 'lists = 50', 'SELECT point(i, 20) FROM generate_series(1, 6) i', 300);

-- Few rows, and no training at all: exact, and no row is read from the table twice

TRUNCATE f;
INSERT INTO f VALUES (1, '{1,2,3}');
SELECT metric, bits, result FROM of_every_code('f', 'lists = 3', 'VALUES (''{1,2,2}''::real[])', 3);
INSERT INTO f SELECT i, point(i, 3) FROM generate_series(2, 200) i;
CREATE INDEX f_idx ON f USING ivfremote (v) WITH (bits = 1);
SELECT trained, bits, pending_rows FROM ivfremote_info('f_idx');
SELECT compare('f', '<->', point(42, 3), 200);
SELECT id FROM f ORDER BY v <-> point(42, 3) LIMIT 1;
SELECT rows_scored, table_rows_read FROM ivfremote_last_scan();
DROP INDEX f_idx;

-- Values of every magnitude

TRUNCATE f;
INSERT INTO f SELECT i, (SELECT array_agg(e * (ARRAY['1', '1e20', '1e-30', '-1e10', '1e18']::real[])[1 + i % 5] ORDER BY n) FROM unnest(point(i, 20)) WITH ORDINALITY u (e, n))
FROM generate_series(1, 400) i;
SELECT * FROM of_every_code('f', 'lists = 9', $$SELECT point(i, 20) FROM generate_series(1, 3) i
  UNION ALL SELECT array_fill('1e20'::real, '{20}')$$, 400);
TRUNCATE f;
INSERT INTO f SELECT i, (SELECT array_agg(1e6 + e ORDER BY n)::real[] FROM unnest(point(i, 20)) WITH ORDINALITY u (e, n)) FROM generate_series(1, 400) i;
SELECT * FROM of_every_code('f', 'lists = 9', $$SELECT point(i, 20) FROM generate_series(1, 3) i UNION ALL SELECT array_fill(1e6::real, '{20}')$$, 400);
DROP TABLE f;

-- Temporary and unlogged tables

CREATE TEMP TABLE brief (id int, v real[]) ON COMMIT DELETE ROWS;
CREATE INDEX brief_idx ON brief USING ivfremote (v) WITH (flush_threshold = 1, lists = 6);
BEGIN;
INSERT INTO brief SELECT i, point(i, 33) FROM generate_series(1, 200) i;
REINDEX INDEX brief_idx;
SELECT compare('brief', '<->', point(42, 33), 200);
INSERT INTO brief SELECT i, point(i, 33) FROM generate_series(201, 250) i;
SELECT compare('brief', '<->', point(42, 33), 250);
COMMIT;
SELECT compare('brief', '<->', point(42, 33), 250);
DROP TABLE brief;
CREATE UNLOGGED TABLE unlogged (id int, v real[]);
INSERT INTO unlogged SELECT i, point(i, 33) FROM generate_series(1, 200) i;
CREATE INDEX unlogged_idx ON unlogged USING ivfremote (v real_ip_ops) WITH (flush_threshold = 1, lists = 6);
SELECT compare('unlogged', '<#>', point(42, 33), 200);
DELETE FROM unlogged WHERE id % 2 = 0;
VACUUM unlogged;
INSERT INTO unlogged SELECT i, point(i, 33) FROM generate_series(201, 300) i;
SELECT compare('unlogged', '<#>', point(42, 33), 200);

\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA codes_test CASCADE;
