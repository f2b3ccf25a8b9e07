\set ECHO none
\getenv source PG_ABS_SRCDIR
\set include :source /sql/include
\set schema options_test
\set file :include /setup.sql
\i :file
\set ECHO all
CREATE TABLE t (id int, v real[], w real[]);
INSERT INTO t SELECT i, ARRAY[sin(i), cos(i), i % 10]::real[] FROM generate_series(1, 1000) i;

-- Options of indexes

CREATE INDEX ON t USING ivfremote (v) WITH (lists = 0);
CREATE INDEX ON t USING ivfremote (v) WITH (lists = -1);
CREATE INDEX ON t USING ivfremote (v) WITH (lists = 1048577);
CREATE INDEX ON t USING ivfremote (v) WITH (lists = 'many');
CREATE INDEX ON t USING ivfremote (v) WITH (probes = 0);
CREATE INDEX ON t USING ivfremote (v) WITH (probes = 1048577);
CREATE INDEX ON t USING ivfremote (v) WITH (quantization = 'bad');
CREATE INDEX ON t USING ivfremote (v) WITH (flush_threshold = -2);
CREATE INDEX ON t USING ivfremote (v) WITH (fillfactor = 90);
CREATE INDEX t_idx ON t USING ivfremote (v) WITH (lists = 5, probes = 2, quantization = none, flush_threshold = 1);
SELECT reloptions FROM pg_class WHERE relname = 't_idx';
ALTER INDEX t_idx SET (probes = 0);
ALTER INDEX t_idx SET (probes = 3, flush_threshold = -1);
ALTER INDEX t_idx SET (lists = 1048576);
SELECT lists, probes FROM ivfremote_info('t_idx');
ALTER INDEX t_idx RESET (lists, probes, flush_threshold, quantization);
SELECT reloptions FROM pg_class WHERE relname = 't_idx';
-- No more lists than rows to train on
ALTER INDEX t_idx SET (lists = 1048576, flush_threshold = 0);
REINDEX INDEX t_idx;
SELECT lists, lists_automatic, segment_rows FROM ivfremote_info('t_idx');
DROP INDEX t_idx;

-- What the access method does not do

CREATE UNIQUE INDEX ON t USING ivfremote (v);
CREATE INDEX ON t USING ivfremote (v, w);
CREATE INDEX ON t USING ivfremote (v) INCLUDE (id);
CREATE INDEX ON t USING ivfremote (v DESC);
CREATE INDEX ON t USING ivfremote (id);
CREATE INDEX ON t USING ivfremote ((v::float8[]));
ALTER TABLE t ADD EXCLUDE USING ivfremote (v WITH <->);
CREATE INDEX t_idx ON t USING ivfremote (v);
CLUSTER t USING t_idx;
DROP INDEX t_idx;

-- Little memory is no error. Where lists are fewer or worse for it, a notice says how much would do.

SET maintenance_work_mem = '1MB';
CREATE INDEX t_idx ON t USING ivfremote (v) WITH (lists = 50, flush_threshold = 1);
DROP INDEX t_idx;
CREATE TABLE wide AS SELECT i AS id, array_fill(i::real, '{600}') AS v FROM generate_series(1, 1000) i;
CREATE INDEX wide_idx ON wide USING ivfremote (v) WITH (lists = 50, flush_threshold = 1);
SELECT segment_rows, lists FROM ivfremote_info('wide_idx');
DROP TABLE wide;
CREATE TABLE wide AS SELECT i AS id, array_fill(i::real, '{16000}') AS v FROM generate_series(1, 300) i;
CREATE INDEX wide_idx ON wide USING ivfremote (v) WITH (lists = 300, flush_threshold = 1);
SELECT segment_rows, lists FROM ivfremote_info('wide_idx');
DROP INDEX wide_idx;
CREATE INDEX wide_idx ON wide USING ivfremote (v) WITH (lists = 10, flush_threshold = 1);
SELECT segment_rows, lists FROM ivfremote_info('wide_idx');
DROP INDEX wide_idx;
SET maintenance_work_mem = '74MB';
CREATE INDEX wide_idx ON wide USING ivfremote (v) WITH (lists = 1000, flush_threshold = 1);
SELECT segment_rows, lists FROM ivfremote_info('wide_idx');
DROP INDEX wide_idx;
CREATE INDEX wide_idx ON wide USING ivfremote (v) WITH (lists = 10, flush_threshold = 1);
SELECT segment_rows, lists FROM ivfremote_info('wide_idx');
RESET maintenance_work_mem;
DROP TABLE wide;

-- Settings

SET ivfremote.probes = -2;
SET ivfremote.probes = 1048577;
SET ivfremote.iterative_scan = on;
SET ivfremote.max_probes = 0;
SET ivfremote.max_probes = -2;
SET ivfremote.max_probes = 1048577;
SET ivfremote.max_scan_requests = -1;
SET ivfremote.max_concurrent_requests = 0;
SET ivfremote.scan_timeout = '1min';
SHOW ivfremote.scan_timeout;
SET ivfremote.scan_timeout = -1;
RESET ivfremote.scan_timeout;
SET ivfremote.local_roots = '/';
SET ivfremote.no_such_setting = 1;
SELECT name, context, unit, boot_val FROM pg_settings WHERE name LIKE 'ivfremote.%' AND name NOT LIKE 'ivfremote.test%' ORDER BY name;

-- What ivfremote_info says

CREATE INDEX t_trained ON t USING ivfremote (v real_ip_ops) WITH (flush_threshold = 1, probes = 4);
CREATE INDEX t_untrained ON t USING ivfremote (v real_cosine_ops);
CREATE INDEX t_empty ON t USING ivfremote (w);
INSERT INTO t SELECT i, ARRAY[sin(i), cos(i), i % 10]::real[] FROM generate_series(1, 10) i;
SELECT relname, format_version, metric, dimensions, quantization, bits, server, trained, lists, lists_automatic, probes, segments, segment_rows, pending_rows
FROM pg_class, ivfremote_info(oid) WHERE relname ~ '^t_' ORDER BY relname;
SELECT relname, (segment_bytes > 1000 * 3 * 4) = trained AS segment_bytes, relation_bytes = pg_relation_size(oid) AS relation_bytes,
       header_bytes BETWEEN 2 * 8192 AND relation_bytes AS header_bytes, length(index_uuid::text) AS uuid
FROM pg_class, ivfremote_info(oid) WHERE relname ~ '^t_' ORDER BY relname;
SELECT count(DISTINCT index_uuid) FROM pg_class, ivfremote_info(oid) WHERE relname ~ '^t_';
SELECT relname, segment_id > 0 AS segment_id, object_key, objects, rows, s.lists, blocks, bytes = segment_bytes AS bytes
FROM pg_class, ivfremote_info(oid), ivfremote_segments(oid) s WHERE relname ~ '^t_' ORDER BY relname;
-- A rebuilt index is another
CREATE TABLE before AS SELECT index_uuid FROM ivfremote_info('t_trained');
REINDEX INDEX t_trained;
SELECT count(*) FROM before WHERE index_uuid = (SELECT index_uuid FROM ivfremote_info('t_trained'));
SELECT * FROM ivfremote_info('t');
SELECT * FROM ivfremote_segments('pg_class_oid_index');
SELECT * FROM ivfremote_info(0);
SELECT * FROM ivfremote_info(NULL);

-- Owners and monitors may look

CREATE ROLE regress_ivfremote_owner;
CREATE ROLE regress_ivfremote_other;
CREATE ROLE regress_ivfremote_monitor IN ROLE pg_monitor;
GRANT USAGE ON SCHEMA options_test TO regress_ivfremote_owner, regress_ivfremote_other, regress_ivfremote_monitor;
GRANT SELECT ON t TO regress_ivfremote_other;
ALTER TABLE t OWNER TO regress_ivfremote_owner;
SET ROLE regress_ivfremote_owner;
SELECT pending_rows FROM ivfremote_info('t_trained');
SELECT rows FROM ivfremote_segments('t_trained');
SET ROLE regress_ivfremote_monitor;
SELECT pending_rows FROM ivfremote_info('t_trained');
SELECT rows FROM ivfremote_segments('t_trained');
SET ROLE regress_ivfremote_other;
SELECT pending_rows FROM ivfremote_info('t_trained');
SELECT rows FROM ivfremote_segments('t_trained');
-- Everybody may look at their own scans
SET enable_seqscan = off;
SELECT id FROM t ORDER BY v <#> '{1,1,1}' LIMIT 1;
SELECT index, rows_returned FROM ivfremote_last_scan();
SELECT count(*) FROM ivfremote_last_scan_requests();
RESET ROLE;

\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA options_test CASCADE;
DROP ROLE regress_ivfremote_owner, regress_ivfremote_other, regress_ivfremote_monitor;
