\set ECHO none
\getenv source PG_ABS_SRCDIR
\set include :source /sql/include
\set schema servers_test
\set store servers
\set file :include /setup.sql
\i :file
\set file :include /store.sql
\i :file
\set ECHO all

-- Options of servers

CREATE SERVER bad FOREIGN DATA WRAPPER ivfremote;
CREATE SERVER bad FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file:///regress_nowhere', uri 'x');
CREATE SERVER bad FOREIGN DATA WRAPPER ivfremote OPTIONS (url '');
CREATE SERVER bad FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'regress_nowhere');
CREATE SERVER bad FOREIGN DATA WRAPPER ivfremote OPTIONS (url '/regress_nowhere');
CREATE SERVER bad FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file:/regress_nowhere');
CREATE SERVER bad FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file://');
CREATE SERVER bad FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file:///');
CREATE SERVER bad FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file://regress_nowhere/below');
CREATE SERVER bad FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file:///regress_nowhere/../etc');
CREATE SERVER bad FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file:///regress_nowhere/a/..');
CREATE SERVER bad FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'http://example.org/bucket');
CREATE SERVER bad FOREIGN DATA WRAPPER ivfremote OPTIONS (url 's3://');
CREATE SERVER bad FOREIGN DATA WRAPPER ivfremote OPTIONS (url 's3://bucket/prefix');
CREATE SERVER bad FOREIGN DATA WRAPPER ivfremote OPTIONS (url 's3://bucket', endpoint 'minio:9000');
CREATE SERVER bad FOREIGN DATA WRAPPER ivfremote OPTIONS (url 's3://bucket', region 'eu-west-1', addressing 'dns');
CREATE SERVER bad FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file:///regress_nowhere', request_latency 'soon');
CREATE SERVER bad FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file:///regress_nowhere', request_latency '-1');
CREATE SERVER bad FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file:///regress_nowhere', request_latency 'nan');
SELECT srvname FROM pg_foreign_server WHERE srvname = 'bad';

CREATE SERVER good FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file:///regress_nowhere/', request_latency '30.5');
ALTER SERVER good OPTIONS (DROP url);
ALTER SERVER good OPTIONS (SET url 'relative');
ALTER SERVER good OPTIONS (SET url 'file:///regress_elsewhere', DROP request_latency);
SELECT srvoptions FROM pg_foreign_server WHERE srvname = 'good';
ALTER FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file:///regress_nowhere');

-- Secrets belong to user mappings, and no message shows one

CREATE SERVER bad FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file:///regress_nowhere', secret_access_key 'hush');
SELECT attempt($$ALTER SERVER good OPTIONS (ADD access_key_id 'hush')$$);
CREATE USER MAPPING FOR public SERVER good OPTIONS (access_key_id 'id', secret_access_key 'hush', session_token 'hush');
ALTER USER MAPPING FOR public SERVER good OPTIONS (DROP session_token);
ALTER USER MAPPING FOR public SERVER good OPTIONS (DROP secret_access_key);
ALTER USER MAPPING FOR public SERVER good OPTIONS (SET secret_access_key '');
ALTER USER MAPPING FOR public SERVER good OPTIONS (ADD secret_key 'hush');
ALTER USER MAPPING FOR public SERVER good OPTIONS (ADD url 'hush');
DROP USER MAPPING FOR public SERVER good;
DROP SERVER good;

-- Directories are for superusers, or below ivfremote.local_roots

CREATE ROLE regress_ivfremote_owner;
GRANT USAGE ON FOREIGN DATA WRAPPER ivfremote TO regress_ivfremote_owner;
GRANT ALL ON SCHEMA servers_test TO regress_ivfremote_owner;
SET ivfremote.local_roots = '/regress_roots';
ALTER SYSTEM SET ivfremote.local_roots = 'regress_roots';
SET ROLE regress_ivfremote_owner;
CREATE SERVER roots FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file:///regress_roots/below');
SHOW ivfremote.local_roots;
RESET ROLE;
\set ECHO none
SELECT format('ALTER SYSTEM SET ivfremote.local_roots = %L', '/regress_roots, ' || current_setting('data_directory') || '/ivfremote_regress_servers') AS command \gset
:command;
\set ECHO all
SELECT pg_reload_conf();
SELECT pg_sleep(1);
SET ROLE regress_ivfremote_owner;
CREATE SERVER roots FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file:///regress_roots/below');
ALTER SERVER roots OPTIONS (SET url 'file:///regress_roots');
ALTER SERVER roots OPTIONS (SET url 'file:///regress_roots_not');
ALTER SERVER roots OPTIONS (SET url 'file:///regress_roots/../etc');
DROP SERVER roots;
RESET ROLE;

-- USAGE is needed to build an index there; it is the owner of the table that must have it

CREATE TABLE items (id int, v real[]);
INSERT INTO items SELECT i, ARRAY[i, i % 10, 1]::real[] FROM generate_series(1, 500) i;
CREATE TABLE owned (LIKE items);
INSERT INTO owned TABLE items;
ALTER TABLE owned OWNER TO regress_ivfremote_owner;
SET ROLE regress_ivfremote_owner;
CREATE INDEX owned_idx ON owned USING ivfremote (v) WITH (server = 'servers', lists = 5, flush_threshold = 1);
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER servers TO regress_ivfremote_owner;
SET ROLE regress_ivfremote_owner;
CREATE INDEX owned_idx ON owned USING ivfremote (v) WITH (server = 'servers', lists = 5, flush_threshold = 1);
RESET ROLE;
-- Whoever may read the table may search it
REVOKE USAGE ON FOREIGN SERVER servers FROM regress_ivfremote_owner;
CREATE ROLE regress_ivfremote_reader;
GRANT USAGE ON SCHEMA servers_test TO regress_ivfremote_reader;
GRANT SELECT ON owned TO regress_ivfremote_reader;
SET enable_seqscan = off;
SET ROLE regress_ivfremote_reader;
SELECT id FROM owned ORDER BY v <-> '{77,7,1}' LIMIT 1;
SELECT index, scans, waves FROM ivfremote_last_scan();
RESET ROLE;
-- The rights of the server's owner count, not those of whoever made it
CREATE SERVER given FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file:///regress_nowhere');
GRANT regress_ivfremote_owner TO CURRENT_USER;
ALTER SERVER given OWNER TO regress_ivfremote_owner;
SELECT attempt($$CREATE INDEX given_idx ON items USING ivfremote (v) WITH (server = 'given', flush_threshold = 1)$$);
DROP SERVER given;
DROP TABLE owned;

-- Other servers

CREATE INDEX items_idx ON items USING ivfremote (v) WITH (server = 'nowhere');
CREATE FOREIGN DATA WRAPPER regress_wrapper;
CREATE SERVER other_wrapper FOREIGN DATA WRAPPER regress_wrapper;
CREATE INDEX items_idx ON items USING ivfremote (v) WITH (server = 'other_wrapper');
DROP FOREIGN DATA WRAPPER regress_wrapper CASCADE;

-- A server cannot be dropped while an index uses it

CREATE INDEX items_idx ON items USING ivfremote (v) WITH (server = 'servers', lists = 5, flush_threshold = 1);
SELECT server, trained FROM ivfremote_info('items_idx');
DROP SERVER servers;
REINDEX INDEX items_idx;
DROP SERVER servers;
REINDEX INDEX CONCURRENTLY items_idx;
DROP SERVER servers;
SELECT count(*) FROM pg_depend WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_foreign_server'::regclass;
TRUNCATE items;
DROP SERVER servers;
INSERT INTO items SELECT i, ARRAY[i, i % 10, 1]::real[] FROM generate_series(1, 500) i;
REINDEX INDEX items_idx;

-- After a rename the reloption says where to look

ALTER SERVER servers RENAME TO renamed;
SELECT id FROM items ORDER BY v <-> '{77,7,1}' LIMIT 1;
ALTER INDEX items_idx SET (server = 'renamed');
SELECT id FROM items ORDER BY v <-> '{77,7,1}' LIMIT 1;
SELECT server FROM ivfremote_info('items_idx');
DROP SERVER renamed;
ALTER SERVER renamed RENAME TO servers;
ALTER INDEX items_idx SET (server = 'servers');

-- An index that was rebuilt elsewhere holds its old server no longer, and stays where it is without the option

DO $$
BEGIN
  EXECUTE format('CREATE SERVER second FOREIGN DATA WRAPPER ivfremote OPTIONS (url %L)',
                 'file://' || current_setting('data_directory') || '/ivfremote_regress_servers/second');
END
$$;
ALTER INDEX items_idx SET (server = 'second');
REINDEX INDEX items_idx;
SELECT server FROM ivfremote_info('items_idx');
BEGIN;
DROP SERVER servers;
ROLLBACK;
DROP SERVER second;
-- A rebuild keeps the server unless the option names another
ALTER INDEX items_idx RESET (server);
SELECT server FROM ivfremote_info('items_idx');
REINDEX INDEX items_idx;
SELECT server, trained FROM ivfremote_info('items_idx');
SELECT id FROM items ORDER BY v <-> '{77,7,1}' LIMIT 1;
REINDEX INDEX CONCURRENTLY items_idx;
SELECT server, trained FROM ivfremote_info('items_idx');
DROP SERVER second;
-- Also beside others of almost the same name
CREATE INDEX items_idx2 ON items USING ivfremote (v) WITH (lists = 5, flush_threshold = 1);
REINDEX INDEX CONCURRENTLY items_idx;
SELECT server FROM ivfremote_info('items_idx');
SELECT server FROM ivfremote_info('items_idx2');
SELECT objid::regclass AS depends FROM pg_depend WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_foreign_server'::regclass;
SET ivfremote.default_server = 'servers';
REINDEX INDEX CONCURRENTLY items_idx2;
REINDEX INDEX items_idx2;
RESET ivfremote.default_server;
SELECT server FROM ivfremote_info('items_idx2');
DROP INDEX items_idx, items_idx2;

-- The default server is for indexes that name none, and not for temporary ones

SET ivfremote.default_server = 'nowhere';
SET ivfremote.default_server = 'servers';
CREATE INDEX items_idx ON items USING ivfremote (v) WITH (lists = 5, flush_threshold = 1);
CREATE INDEX second_idx ON items USING ivfremote (v) WITH (server = 'second', lists = 5, flush_threshold = 1);
CREATE TEMPORARY TABLE temporary AS TABLE items;
CREATE INDEX temporary_idx ON temporary USING ivfremote (v) WITH (lists = 5, flush_threshold = 1);
CREATE INDEX temporary_idx2 ON temporary USING ivfremote (v) WITH (server = 'servers', lists = 5, flush_threshold = 1);
RESET ivfremote.default_server;
SELECT i.oid::regclass AS index, server, trained, object_key IS NOT NULL AS object, objects
FROM pg_class i, ivfremote_info(i.oid), ivfremote_segments(i.oid)
WHERE relname IN ('items_idx', 'second_idx', 'temporary_idx', 'temporary_idx2') ORDER BY relname;
-- The server recorded at build is the one that is searched
SELECT id FROM items ORDER BY v <-> '{77,7,1}' LIMIT 1;
SELECT id FROM temporary ORDER BY v <-> '{77,7,1}' LIMIT 1;
DROP SERVER servers;
DROP INDEX items_idx;
DROP SERVER second CASCADE;
SELECT relname FROM pg_class WHERE relname IN ('items_idx', 'second_idx');
DROP SERVER servers;

ALTER SYSTEM RESET ivfremote.local_roots;
SELECT pg_reload_conf();
REVOKE ALL ON FOREIGN DATA WRAPPER ivfremote FROM regress_ivfremote_owner;
DROP TABLE temporary;
\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA servers_test CASCADE;
DROP ROLE regress_ivfremote_owner, regress_ivfremote_reader;
\set file :include /remove_store.sql
\i :file
