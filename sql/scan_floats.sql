\set ECHO none
\getenv source PG_ABS_SRCDIR
\set include :source /sql/include
\set schema scan_floats_test
\set file :include /setup.sql
\i :file
\set file :include /search.sql
\i :file
\set quantization none
\set file :include /scan.sql
\set ECHO all
\i :file
\set ECHO none
SET client_min_messages = warning;
DROP SCHEMA scan_floats_test CASCADE;
