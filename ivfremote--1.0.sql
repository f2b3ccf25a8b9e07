-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION ivfremote" to load this file. \quit

-- Access method

CREATE FUNCTION ivfremote_handler(internal) RETURNS index_am_handler
    AS 'MODULE_PATHNAME' LANGUAGE C STRICT;

COMMENT ON FUNCTION ivfremote_handler(internal) IS 'handler of the access method ivfremote';

CREATE ACCESS METHOD ivfremote TYPE INDEX HANDLER ivfremote_handler;
COMMENT ON ACCESS METHOD ivfremote IS 'IVF vector index with its lists in object storage or in its own pages';

-- Servers

CREATE FUNCTION ivfremote_fdw_validator(text[], oid) RETURNS void
    AS 'MODULE_PATHNAME' LANGUAGE C STRICT;
COMMENT ON FUNCTION ivfremote_fdw_validator(text[], oid) IS 'checks the options of servers and user mappings';

CREATE FOREIGN DATA WRAPPER ivfremote NO HANDLER VALIDATOR ivfremote_fdw_validator;
COMMENT ON FOREIGN DATA WRAPPER ivfremote IS 'object stores for ivfremote indexes';

-- Distances. A sequential scan pays these per row, so their cost tells the planner what they take: some hundred times a
-- simple operator at usual dimensions, and more when the vector has to be fetched from TOAST.

CREATE FUNCTION l2_distance(real[], real[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_l2_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION l2_distance(real[], real[]) IS
    'Euclidean distance of two vectors of the same 1 to 16000 dimensions; summed in float8, so within (dimensions + 3) ulps of float8';
CREATE FUNCTION inner_product(real[], real[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_inner_product' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION inner_product(real[], real[]) IS
    'inner product of two vectors of the same 1 to 16000 dimensions; summed in float8, the error is at most (dimensions + 3) * 2^-53 of the sum of the magnitudes of its terms';
CREATE FUNCTION negative_inner_product(real[], real[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_negative_inner_product' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION negative_inner_product(real[], real[]) IS
    'inner product times -1, so that the largest product comes first in ascending order';
CREATE FUNCTION cosine_distance(real[], real[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_cosine_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION cosine_distance(real[], real[]) IS
    '1 - cosine of the angle between two vectors of the same 1 to 16000 dimensions, from 0 to 2; NaN if one of them is zero';
CREATE FUNCTION l2_norm(real[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_l2_norm' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 50;
COMMENT ON FUNCTION l2_norm(real[]) IS 'Euclidean length of a vector';

-- Queries as drivers and people write them: lists of Python floats and JDBC's double[] are float8[], ARRAY[0.1, 0.2] is
-- numeric[], ARRAY[1, 2] is integer[]. The functions have names of their own: overloads of the above would make calls with
-- a literal ambiguous.

CREATE FUNCTION real_l2_distance(real[], float8[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_l2_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION real_l2_distance(real[], float8[]) IS
    'Euclidean distance; the second vector is rounded to real first';
CREATE FUNCTION real_l2_distance(real[], numeric[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_l2_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION real_l2_distance(real[], numeric[]) IS
    'Euclidean distance; the second vector is rounded to real first';
CREATE FUNCTION real_l2_distance(real[], integer[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_l2_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION real_l2_distance(real[], integer[]) IS
    'Euclidean distance; the second vector is rounded to real first';
CREATE FUNCTION real_negative_inner_product(real[], float8[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_negative_inner_product' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION real_negative_inner_product(real[], float8[]) IS
    'negative inner product; the second vector is rounded to real first';
CREATE FUNCTION real_negative_inner_product(real[], numeric[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_negative_inner_product' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION real_negative_inner_product(real[], numeric[]) IS
    'negative inner product; the second vector is rounded to real first';
CREATE FUNCTION real_negative_inner_product(real[], integer[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_negative_inner_product' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION real_negative_inner_product(real[], integer[]) IS
    'negative inner product; the second vector is rounded to real first';
CREATE FUNCTION real_cosine_distance(real[], float8[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_cosine_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION real_cosine_distance(real[], float8[]) IS
    'cosine distance; the second vector is rounded to real first';
CREATE FUNCTION real_cosine_distance(real[], numeric[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_cosine_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION real_cosine_distance(real[], numeric[]) IS
    'cosine distance; the second vector is rounded to real first';
CREATE FUNCTION real_cosine_distance(real[], integer[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_cosine_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION real_cosine_distance(real[], integer[]) IS
    'cosine distance; the second vector is rounded to real first';

CREATE OPERATOR <-> (LEFTARG = real[], RIGHTARG = real[], FUNCTION = l2_distance, COMMUTATOR = <->);
COMMENT ON OPERATOR <-> (real[], real[]) IS 'Euclidean distance';
CREATE OPERATOR <-> (LEFTARG = real[], RIGHTARG = float8[], FUNCTION = real_l2_distance);
COMMENT ON OPERATOR <-> (real[], float8[]) IS 'Euclidean distance';
CREATE OPERATOR <-> (LEFTARG = real[], RIGHTARG = numeric[], FUNCTION = real_l2_distance);
COMMENT ON OPERATOR <-> (real[], numeric[]) IS 'Euclidean distance';
CREATE OPERATOR <-> (LEFTARG = real[], RIGHTARG = integer[], FUNCTION = real_l2_distance);
COMMENT ON OPERATOR <-> (real[], integer[]) IS 'Euclidean distance';
CREATE OPERATOR <#> (LEFTARG = real[], RIGHTARG = real[], FUNCTION = negative_inner_product, COMMUTATOR = <#>);
COMMENT ON OPERATOR <#> (real[], real[]) IS 'negative inner product';
CREATE OPERATOR <#> (LEFTARG = real[], RIGHTARG = float8[], FUNCTION = real_negative_inner_product);
COMMENT ON OPERATOR <#> (real[], float8[]) IS 'negative inner product';
CREATE OPERATOR <#> (LEFTARG = real[], RIGHTARG = numeric[], FUNCTION = real_negative_inner_product);
COMMENT ON OPERATOR <#> (real[], numeric[]) IS 'negative inner product';
CREATE OPERATOR <#> (LEFTARG = real[], RIGHTARG = integer[], FUNCTION = real_negative_inner_product);
COMMENT ON OPERATOR <#> (real[], integer[]) IS 'negative inner product';
CREATE OPERATOR <=> (LEFTARG = real[], RIGHTARG = real[], FUNCTION = cosine_distance, COMMUTATOR = <=>);
COMMENT ON OPERATOR <=> (real[], real[]) IS 'cosine distance';
CREATE OPERATOR <=> (LEFTARG = real[], RIGHTARG = float8[], FUNCTION = real_cosine_distance);
COMMENT ON OPERATOR <=> (real[], float8[]) IS 'cosine distance';
CREATE OPERATOR <=> (LEFTARG = real[], RIGHTARG = numeric[], FUNCTION = real_cosine_distance);
COMMENT ON OPERATOR <=> (real[], numeric[]) IS 'cosine distance';
CREATE OPERATOR <=> (LEFTARG = real[], RIGHTARG = integer[], FUNCTION = real_cosine_distance);
COMMENT ON OPERATOR <=> (real[], integer[]) IS 'cosine distance';

-- Operator classes. Support function 1 tells the access method the metric.

CREATE FUNCTION ivfremote_real_l2_support(internal) RETURNS internal
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE;
COMMENT ON FUNCTION ivfremote_real_l2_support(internal) IS 'tells the access method the metric of real_l2_ops';
CREATE FUNCTION ivfremote_real_ip_support(internal) RETURNS internal
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE;
COMMENT ON FUNCTION ivfremote_real_ip_support(internal) IS 'tells the access method the metric of real_ip_ops';
CREATE FUNCTION ivfremote_real_cosine_support(internal) RETURNS internal
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE;
COMMENT ON FUNCTION ivfremote_real_cosine_support(internal) IS 'tells the access method the metric of real_cosine_ops';

CREATE OPERATOR CLASS real_l2_ops DEFAULT FOR TYPE real[] USING ivfremote AS
    OPERATOR 1 <-> (real[], real[]) FOR ORDER BY float_ops,
    OPERATOR 1 <-> (real[], float8[]) FOR ORDER BY float_ops,
    OPERATOR 1 <-> (real[], numeric[]) FOR ORDER BY float_ops,
    OPERATOR 1 <-> (real[], integer[]) FOR ORDER BY float_ops,
    FUNCTION 1 ivfremote_real_l2_support(internal);
COMMENT ON OPERATOR CLASS real_l2_ops USING ivfremote IS 'Euclidean distance (<->)';
CREATE OPERATOR CLASS real_ip_ops FOR TYPE real[] USING ivfremote AS
    OPERATOR 1 <#> (real[], real[]) FOR ORDER BY float_ops,
    OPERATOR 1 <#> (real[], float8[]) FOR ORDER BY float_ops,
    OPERATOR 1 <#> (real[], numeric[]) FOR ORDER BY float_ops,
    OPERATOR 1 <#> (real[], integer[]) FOR ORDER BY float_ops,
    FUNCTION 1 ivfremote_real_ip_support(internal);
COMMENT ON OPERATOR CLASS real_ip_ops USING ivfremote IS 'negative inner product (<#>)';
CREATE OPERATOR CLASS real_cosine_ops FOR TYPE real[] USING ivfremote AS
    OPERATOR 1 <=> (real[], real[]) FOR ORDER BY float_ops,
    OPERATOR 1 <=> (real[], float8[]) FOR ORDER BY float_ops,
    OPERATOR 1 <=> (real[], numeric[]) FOR ORDER BY float_ops,
    OPERATOR 1 <=> (real[], integer[]) FOR ORDER BY float_ops,
    FUNCTION 1 ivfremote_real_cosine_support(internal);
COMMENT ON OPERATOR CLASS real_cosine_ops USING ivfremote IS 'cosine distance (<=>); zero vectors are not indexed';

-- Looking at indexes and scans

CREATE FUNCTION ivfremote_info(
    index regclass,
    OUT format_version int, OUT index_uuid uuid, OUT metric text, OUT dimensions int,
    OUT quantization text, OUT bits int, OUT server text, OUT trained bool, OUT lists int, OUT lists_automatic bool, OUT probes int,
    OUT segments int, OUT segment_rows int8, OUT pending_rows int8, OUT segment_bytes int8, OUT relation_bytes int8,
    OUT header_bytes int8, OUT live_rows int8, OUT dead_rows int8, OUT sealed_rows int8, OUT remote_bytes int8,
    OUT reclaimable_bytes int8, OUT imbalance float8, OUT pending_since timestamptz, OUT last_flush timestamptz)
    AS 'MODULE_PATHNAME' LANGUAGE C STRICT;
COMMENT ON FUNCTION ivfremote_info(regclass) IS
    'one row about an ivfremote index: what it is, where its rows are and how many bytes they take; header_bytes is the part of relation_bytes that is not segments; rows vacuum has found dead count in segment_rows and pending_rows until a flush or compaction; sealed_rows are pending rows of a flush that has not ended; reclaimable_bytes is what dead rows take of segment_bytes; imbalance is the share of rows in lists more than twice as long as a new index would have; no pending row is older than pending_since; reads all live bits; owner of the table, or pg_monitor';

CREATE FUNCTION ivfremote_segments(
    index regclass,
    OUT segment_id int8, OUT object_key text, OUT objects int, OUT rows int8, OUT lists int, OUT blocks int,
    OUT bytes int8, OUT live_rows int8, OUT reclaimable_bytes int8)
    RETURNS SETOF record AS 'MODULE_PATHNAME' LANGUAGE C STRICT;
COMMENT ON FUNCTION ivfremote_segments(regclass) IS
    'one row for each segment of an ivfremote index; object_key is relative to the server''s url, and null for a segment in the index itself; owner of the table, or pg_monitor';

CREATE FUNCTION ivfremote_last_scan(
    OUT index regclass, OUT scans int8, OUT lists int8, OUT lists_probed int8, OUT waves int8, OUT requests int8,
    OUT blocks int8, OUT bytes_fetched int8, OUT bytes_used int8, OUT rows_scored int8, OUT pending_rows_scored int8,
    OUT table_rows_read int8, OUT rows_returned int8, OUT rows_left_out int8, OUT ended_by text, OUT quantizer_ms float8, OUT fetch_ms float8, OUT score_ms float8)
    RETURNS SETOF record AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION ivfremote_last_scan() IS
    'what the scans of this session''s last statement that used ivfremote indexes did: one row for each index, summed over rescans; rows_left_out are nearer than a row returned before them; ended_by says why the last scan that ran out of rows read no more lists: all_lists, max_probes, max_scan_requests or iterative_scan, null if none did; times in milliseconds';

CREATE FUNCTION ivfremote_last_scan_requests(
    OUT index regclass, OUT request int, OUT wave int8, OUT object_offset int8, OUT bytes int8, OUT start_ms float8,
    OUT end_ms float8)
    RETURNS SETOF record AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION ivfremote_last_scan_requests() IS
    'one row for each range read of the same scans, in the order they ended; times in milliseconds since the start of the scan';

CREATE FUNCTION ivfremote_verify(
    index regclass, heapallindexed bool DEFAULT false,
    OUT part text, OUT problem text, OUT block int8, OUT object text, OUT tid tid)
    RETURNS SETOF record AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE COST 100000;
COMMENT ON FUNCTION ivfremote_verify(regclass, bool) IS
    'one row for each thing that is wrong with an ivfremote index, none if all is well: reads its pages and all of its segments, from the store too; with heapallindexed also compares it with the table; block is a page of the index, tid a row of the table; owner of the table';

-- Recall

CREATE FUNCTION ivfremote_recall(
    index regclass, queries real[] DEFAULT NULL, k int DEFAULT 10, store bool DEFAULT false,
    OUT recall_target float8, OUT recall float8, OUT lists float8, OUT rows_scored float8, OUT table_rows_read float8,
    OUT bytes float8)
    RETURNS SETOF record AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION ivfremote_recall(regclass, real[], int, bool) IS
    'searches for the k nearest of each of these queries (rows of a two-dimensional array; null: rows of the table) and compares with a pass over the table: one row for the session''s settings, then one for each recall target, means of a query; with store, searches probe from now on what these queries need; owner of the table';

CREATE FUNCTION ivfremote_recall_curve(
    index regclass,
    OUT k int, OUT recall float8, OUT lists float8, OUT rows float8, OUT bytes float8, OUT from_queries bool, OUT queries int)
    RETURNS SETOF record AS 'MODULE_PATHNAME' LANGUAGE C STRICT;
COMMENT ON FUNCTION ivfremote_recall_curve(regclass) IS
    'what an ivfremote index knows of itself: lists, rows and bytes that searches for k neighbors need on average for a recall, found with rows of the table or with queries of ivfremote_recall; owner of the table, or pg_monitor';

-- Maintenance

CREATE FUNCTION ivfremote_flush(index regclass) RETURNS int8
    AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION ivfremote_flush(regclass) IS
    'writes the pending rows of an ivfremote index to a new segment, as VACUUM does once they are flush_threshold, and returns how many; stays if the transaction is rolled back; owner of the table';

CREATE PROCEDURE ivfremote_compact(index regclass, purge bool DEFAULT false) AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE ivfremote_compact(regclass, bool) IS
    'makes one segment of all rows alive and splits lists that have grown too large; commits between its steps; with purge, no object in use holds anything of a deleted row afterwards; owner of the table';

-- Servers, for those who run them

CREATE FUNCTION ivfremote_check_server(server name, OUT "check" text, OUT ok bool, OUT detail text, OUT hint text)
    RETURNS SETOF record AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION ivfremote_check_server(name) IS
    'checks everything an index needs of a server, with the user mapping of the caller: one row a check; writes, reads and deletes a few objects of its own; owner of the server';
REVOKE EXECUTE ON FUNCTION ivfremote_check_server(name) FROM PUBLIC;

CREATE FUNCTION ivfremote_gc(
    server name, dry_run bool DEFAULT true, retention interval DEFAULT NULL,
    OUT object_key text, OUT bytes int8, OUT state text, OUT since timestamptz)
    RETURNS SETOF record AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION ivfremote_gc(name, bool, interval) IS
    'finds objects of this cluster in the server''s place that no index of any database refers to, and deletes those that earlier calls found to be garbage at least the retention ago (null: the server''s option): one row for each, waiting, deleted, would delete (dry_run), unknown (left alone), upload aborted or would abort upload; and one row, other incarnation, for all objects that another cluster wrote, or a predecessor that is not adopted; owner of the server';
REVOKE EXECUTE ON FUNCTION ivfremote_gc(name, bool, interval) FROM PUBLIC;

CREATE FUNCTION ivfremote_adopt(server name, incarnation text) RETURNS text
    AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION ivfremote_adopt(name, text) IS
    'makes the objects that another, dead cluster wrote under this incarnation this cluster''s to collect; returns what its OWNER object said; owner of the server';
REVOKE EXECUTE ON FUNCTION ivfremote_adopt(name, text) FROM PUBLIC;

CREATE FUNCTION ivfremote_servers(
    OUT server text, OUT incarnation text, OUT indexes int, OUT segments int8, OUT adopted text[],
    OUT unadopted_predecessors text[])
    RETURNS SETOF record AS 'MODULE_PATHNAME' LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION ivfremote_servers() IS 'the rows of ivfremote_stat_servers';
REVOKE EXECUTE ON FUNCTION ivfremote_servers() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ivfremote_servers() TO pg_monitor;

CREATE VIEW ivfremote_stat_servers AS SELECT * FROM ivfremote_servers();
COMMENT ON VIEW ivfremote_stat_servers IS
    'one row for each server: the incarnation under which this cluster writes, what this database''s indexes have there, incarnations this cluster has adopted, and those it has not, of objects that the indexes refer to: nobody collects their garbage (ivfremote_adopt)';
REVOKE ALL ON ivfremote_stat_servers FROM PUBLIC;
GRANT SELECT ON ivfremote_stat_servers TO pg_monitor;
