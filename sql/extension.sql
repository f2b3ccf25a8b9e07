\set ECHO none
\getenv source PG_ABS_SRCDIR
\set include :source /sql/include
\set schema extension_test
\set file :include /setup.sql
\i :file
\set ECHO all
-- Every object of the extension says what it is, except what is the access method's own business

SELECT pg_describe_object(classid, objid, objsubid) COLLATE "C" AS uncommented
FROM pg_depend d
WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'ivfremote') AND deptype = 'e'
  AND NOT EXISTS (SELECT FROM pg_description c WHERE c.classoid = d.classid AND c.objoid = d.objid AND c.objsubid = 0)
  AND NOT (classid = 'pg_opfamily'::regclass OR classid = 'pg_proc'::regclass AND objid::regprocedure::text ~ '\(internal\)')
ORDER BY 1;
SELECT obj_description(oid, 'pg_extension') IS NOT NULL AS commented FROM pg_extension WHERE extname = 'ivfremote';

-- Operator classes

SELECT opcname, opcintype::regtype, opcdefault, amvalidate(c.oid)
FROM pg_opclass c JOIN pg_am a ON a.oid = opcmethod WHERE amname = 'ivfremote' ORDER BY opcname;
SELECT opfname, amopopr::regoperator, amopstrategy, amoppurpose, (SELECT opfname FROM pg_opfamily WHERE oid = amopsortfamily) AS sort
FROM pg_amop JOIN pg_opfamily f ON f.oid = amopfamily JOIN pg_am a ON a.oid = amopmethod
WHERE amname = 'ivfremote' ORDER BY opfname, amopopr::regoperator::text COLLATE "C";
CREATE TABLE t (id int, v real[]);
CREATE INDEX i ON t USING ivfremote (v);
SELECT name, pg_index_column_has_property('i', 1, name) AS has
FROM unnest('{orderable,returnable,search_array,search_nulls}'::text[]) name;
SELECT name, pg_indexam_has_property(oid, name) AS has
FROM pg_am, unnest('{can_order,can_unique,can_multi_col,can_exclude,can_include}'::text[]) name WHERE amname = 'ivfremote';
SELECT name, pg_index_has_property('i', name) AS has
FROM unnest('{clusterable,index_scan,bitmap_scan,backward_scan}'::text[]) name;
-- Wrong classes are found out
CREATE OPERATOR FAMILY bad USING ivfremote;
CREATE OPERATOR CLASS bad_ops FOR TYPE int4 USING ivfremote FAMILY bad AS OPERATOR 1 = (int4, int4);
CREATE OPERATOR CLASS bad_ops2 FOR TYPE float8[] USING ivfremote FAMILY bad AS OPERATOR 1 <-> (real[], real[]) FOR ORDER BY float_ops;
SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = 'bad_ops';
SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = 'bad_ops2';
DROP OPERATOR FAMILY bad USING ivfremote CASCADE;

-- What functions promise the planner

SELECT p.oid::regprocedure AS function, provolatile AS volatile, proparallel AS parallel, proisstrict AS strict
FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid WHERE extname = 'ivfremote' ORDER BY p.oid::regprocedure::text COLLATE "C";

-- Away with everything, and back in a schema that is not in the path

DROP EXTENSION ivfremote;
DROP EXTENSION ivfremote CASCADE;
SELECT relname FROM pg_class WHERE relname = 'i';
SELECT '{1}'::real[] <-> '{2}'::real[];
CREATE SCHEMA elsewhere;
CREATE EXTENSION ivfremote SCHEMA elsewhere;
CREATE INDEX i ON t USING ivfremote (v elsewhere.real_l2_ops) WITH (flush_threshold = 1);
CREATE INDEX ON t USING ivfremote (v real_ip_ops);
INSERT INTO t VALUES (1, '{1,2}'), (2, '{3,4}');
REINDEX INDEX i;
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM t ORDER BY v OPERATOR(elsewhere.<->) '{3,4}' LIMIT 1;
SELECT id FROM t ORDER BY v OPERATOR(elsewhere.<->) '{3,4}' LIMIT 1;
SELECT elsewhere.l2_distance('{1}', '{3}');
SELECT trained, segment_rows FROM elsewhere.ivfremote_info('i');
ALTER EXTENSION ivfremote SET SCHEMA public;
SELECT id FROM t ORDER BY v <-> '{1,2}' LIMIT 1;
SELECT index, scans FROM ivfremote_last_scan();
DROP EXTENSION ivfremote CASCADE;
CREATE EXTENSION ivfremote SCHEMA public;
DROP SCHEMA elsewhere;
DROP SCHEMA extension_test CASCADE;
