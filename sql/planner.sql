\set ECHO none
\getenv source PG_ABS_SRCDIR
\set include :source /sql/include
\set schema planner_test
\set file :include /setup.sql
\i :file
\set file :include /search.sql
\i :file
\set store planner
\set file :include /store.sql
\i :file
\set ECHO all
CREATE TABLE t (id int PRIMARY KEY, kind int, v real[]);
INSERT INTO t SELECT i, i % 4, point(i, 16) FROM generate_series(1, 4000) i;
CREATE INDEX t_l2 ON t USING ivfremote (v) WITH (flush_threshold = 1, lists = 20, probes = 4);
CREATE INDEX t_ip ON t USING ivfremote (v real_ip_ops) WITH (flush_threshold = 1, lists = 20, probes = 4);
CREATE INDEX t_cosine ON t USING ivfremote (v real_cosine_ops) WITH (flush_threshold = 1, lists = 20, probes = 4, server = 'planner');
VACUUM ANALYZE t;
\set q '''{1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}'''

-- ORDER BY ... LIMIT, for every right-hand side

EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <-> :q LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <-> :q::real[] LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <-> :q::float8[] LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <-> :q::numeric[] LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <-> ARRAY[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16] LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <#> :q::real[] LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <#> :q::float8[] LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <#> :q::numeric[] LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <#> :q::integer[] LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <=> :q::real[] LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <=> :q::float8[] LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <=> :q::numeric[] LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <=> :q::integer[] LIMIT 10;
-- The operator commutes
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY :q::real[] <-> v LIMIT 10;

-- The same rows whatever the type of the query

SELECT array_agg(id) AS ids FROM (SELECT id FROM t ORDER BY v <-> point(7, 16) LIMIT 5) x;
SELECT array_agg(id) AS ids FROM (SELECT id FROM t ORDER BY v <-> point(7, 16)::float8[] LIMIT 5) x;
SELECT array_agg(id) AS ids FROM (SELECT id FROM t ORDER BY v <-> point(7, 16)::numeric[] LIMIT 5) x;
SELECT (SELECT array_agg(id) FROM (SELECT id FROM t ORDER BY v <=> :q::integer[] LIMIT 5) x) =
       (SELECT array_agg(id) FROM (SELECT id FROM t ORDER BY v <=> :q::real[] LIMIT 5) x) AS same;

-- Other places for the LIMIT and the query

EXPLAIN (COSTS OFF) SELECT id FROM t WHERE kind = 1 ORDER BY v <-> :q LIMIT 10;
EXPLAIN (COSTS OFF) SELECT q.id, n.id FROM t q CROSS JOIN LATERAL (SELECT id FROM t ORDER BY t.v <-> q.v LIMIT 3) n WHERE q.id < 5;
EXPLAIN (COSTS OFF) SELECT (SELECT id FROM t ORDER BY v <-> (SELECT v FROM t WHERE id = 7) LIMIT 1);
EXPLAIN (COSTS OFF) DECLARE c CURSOR FOR SELECT id FROM t ORDER BY v <-> :q;
-- As Postgres sees it, this is an ORDER BY and a LIMIT
EXPLAIN (COSTS OFF) SELECT min(v <-> :q) FROM t;

-- Not: without ORDER BY or LIMIT, farthest first, by another distance, as a condition

EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <-> :q;
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <-> :q DESC LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM t WHERE v <-> :q < 10;
EXPLAIN (COSTS OFF) SELECT id FROM t WHERE v <-> :q < 10 LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM t LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY (v <-> :q) + 1 LIMIT 10;
DROP INDEX t_cosine;
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <=> :q LIMIT 10;
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM t WHERE v IS NOT NULL;
EXPLAIN (COSTS OFF) SELECT id FROM t WHERE v = :q::real[];
RESET enable_seqscan;

-- Every row in order: only the table has them all

SELECT count(*) FROM (SELECT id FROM t ORDER BY v <-> :q) x;
SELECT count(*) FROM (SELECT id, row_number() OVER (ORDER BY v <-> :q) FROM t) x;
SELECT count(*) FROM (SELECT id FROM t ORDER BY v <-> :q) x WHERE id > 0;

-- ivfremote.enable_scan

SET ivfremote.enable_scan = off;
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <-> :q LIMIT 10;
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <-> :q LIMIT 10;
RESET enable_seqscan;
RESET ivfremote.enable_scan;

-- A table so small that the table itself is faster; a LIMIT so large

CREATE TABLE s AS SELECT * FROM t WHERE id <= 5;
CREATE INDEX s_idx ON s USING ivfremote (v);
CREATE INDEX s_trained ON s USING ivfremote (v) WITH (flush_threshold = 1);
ANALYZE s;
EXPLAIN (COSTS OFF) SELECT id FROM s ORDER BY v <-> :q LIMIT 3;
EXPLAIN (COSTS OFF) SELECT id FROM t WHERE id = 7 ORDER BY v <-> :q LIMIT 10;
-- Untrained, an index reads every row
CREATE INDEX t_untrained ON t USING ivfremote (v);
DROP INDEX t_l2;
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <-> :q LIMIT 10;
DROP INDEX t_untrained;

-- A server that takes its time

CREATE INDEX t_remote ON t USING ivfremote (v) WITH (flush_threshold = 1, lists = 20, probes = 4, server = 'planner');
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <-> :q LIMIT 10;
ALTER SERVER planner OPTIONS (ADD request_latency '60000');
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <-> :q LIMIT 10;
ALTER SERVER planner OPTIONS (DROP request_latency);
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v <-> :q LIMIT 10;
DROP INDEX t_remote;

-- Partial and expression indexes

CREATE INDEX t_partial ON t USING ivfremote (v) WITH (flush_threshold = 1, lists = 10) WHERE kind = 1;
EXPLAIN (COSTS OFF) SELECT id FROM t WHERE kind = 1 ORDER BY v <-> :q LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM t WHERE kind = 2 ORDER BY v <-> :q LIMIT 10;
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM t WHERE kind = 1;
RESET enable_seqscan;
CREATE INDEX t_expression ON t USING ivfremote ((v[1:8])) WITH (flush_threshold = 1, lists = 20);
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v[1:8] <-> '{1,2,3,4,5,6,7,8}' LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v[1:7] <-> '{1,2,3,4,5,6,7}' LIMIT 10;

-- Partitions: merged in order

CREATE TABLE p (id int, v real[]) PARTITION BY HASH (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE p2 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO p SELECT id, v FROM t;
CREATE INDEX p_idx ON p USING ivfremote (v) WITH (flush_threshold = 1, lists = 10, probes = 10);
ANALYZE p;
EXPLAIN (COSTS OFF) SELECT id FROM p ORDER BY v <-> :q LIMIT 10;
SELECT compare('p', '<->', point(7, 16), 100);

\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA planner_test CASCADE;
DROP SERVER planner;
\set file :include /remove_store.sql
\i :file
