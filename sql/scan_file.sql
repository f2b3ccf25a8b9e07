\set ECHO none
\getenv source PG_ABS_SRCDIR
\set include :source /sql/include
\set schema scan_file_test
\set file :include /setup.sql
\i :file
\set file :include /search.sql
\i :file
\set store scan_file
\set file :include /store.sql
\i :file
SET ivfremote.default_server = 'scan_file';
\set quantization rabitq
\set file :include /scan.sql
\set ECHO all
\i :file
\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA scan_file_test CASCADE;
DROP SERVER scan_file;
\set file :include /remove_store.sql
\i :file
