\set ECHO none
\getenv source PG_ABS_SRCDIR
\set include :source /sql/include
\set schema build_file_test
\set file :include /setup.sql
\i :file
\set file :include /search.sql
\i :file
\set store build_file
\set file :include /store.sql
\i :file
SET ivfremote.default_server = 'build_file';
\set file :include /build.sql
\set ECHO all
\i :file
\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA build_file_test CASCADE;
DROP SERVER build_file;
\set file :include /remove_store.sql
\i :file
