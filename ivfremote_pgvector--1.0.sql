-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION ivfremote_pgvector" to load this file. \quit

-- Distances of a vector and an array. Without them, ivfremote's operators of arrays would take them, by pgvector's implicit
-- cast of vector to real[], and no index of vectors would be used. Literals and untyped parameters beside a vector are vectors,
-- and the operator is pgvector's.

CREATE FUNCTION vector_array_l2_distance(vector, real[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_vector_array_l2_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION vector_array_l2_distance(vector, real[]) IS 'Euclidean distance';
CREATE FUNCTION array_vector_l2_distance(real[], vector) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_array_vector_l2_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION array_vector_l2_distance(real[], vector) IS 'Euclidean distance';
CREATE FUNCTION vector_array_l2_distance(vector, float8[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_vector_array_l2_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION vector_array_l2_distance(vector, float8[]) IS 'Euclidean distance; the array is rounded to real first';
CREATE FUNCTION array_vector_l2_distance(float8[], vector) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_array_vector_l2_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION array_vector_l2_distance(float8[], vector) IS 'Euclidean distance; the array is rounded to real first';
CREATE FUNCTION vector_array_l2_distance(vector, numeric[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_vector_array_l2_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION vector_array_l2_distance(vector, numeric[]) IS 'Euclidean distance; the array is rounded to real first';
CREATE FUNCTION array_vector_l2_distance(numeric[], vector) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_array_vector_l2_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION array_vector_l2_distance(numeric[], vector) IS 'Euclidean distance; the array is rounded to real first';
CREATE FUNCTION vector_array_l2_distance(vector, integer[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_vector_array_l2_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION vector_array_l2_distance(vector, integer[]) IS 'Euclidean distance; the array is rounded to real first';
CREATE FUNCTION array_vector_l2_distance(integer[], vector) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_array_vector_l2_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION array_vector_l2_distance(integer[], vector) IS 'Euclidean distance; the array is rounded to real first';
CREATE FUNCTION vector_array_negative_inner_product(vector, real[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_vector_array_negative_inner_product' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION vector_array_negative_inner_product(vector, real[]) IS 'negative inner product';
CREATE FUNCTION array_vector_negative_inner_product(real[], vector) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_array_vector_negative_inner_product' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION array_vector_negative_inner_product(real[], vector) IS 'negative inner product';
CREATE FUNCTION vector_array_negative_inner_product(vector, float8[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_vector_array_negative_inner_product' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION vector_array_negative_inner_product(vector, float8[]) IS 'negative inner product; the array is rounded to real first';
CREATE FUNCTION array_vector_negative_inner_product(float8[], vector) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_array_vector_negative_inner_product' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION array_vector_negative_inner_product(float8[], vector) IS 'negative inner product; the array is rounded to real first';
CREATE FUNCTION vector_array_negative_inner_product(vector, numeric[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_vector_array_negative_inner_product' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION vector_array_negative_inner_product(vector, numeric[]) IS 'negative inner product; the array is rounded to real first';
CREATE FUNCTION array_vector_negative_inner_product(numeric[], vector) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_array_vector_negative_inner_product' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION array_vector_negative_inner_product(numeric[], vector) IS 'negative inner product; the array is rounded to real first';
CREATE FUNCTION vector_array_negative_inner_product(vector, integer[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_vector_array_negative_inner_product' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION vector_array_negative_inner_product(vector, integer[]) IS 'negative inner product; the array is rounded to real first';
CREATE FUNCTION array_vector_negative_inner_product(integer[], vector) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_array_vector_negative_inner_product' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION array_vector_negative_inner_product(integer[], vector) IS 'negative inner product; the array is rounded to real first';
CREATE FUNCTION vector_array_cosine_distance(vector, real[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_vector_array_cosine_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION vector_array_cosine_distance(vector, real[]) IS 'cosine distance';
CREATE FUNCTION array_vector_cosine_distance(real[], vector) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_array_vector_cosine_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION array_vector_cosine_distance(real[], vector) IS 'cosine distance';
CREATE FUNCTION vector_array_cosine_distance(vector, float8[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_vector_array_cosine_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION vector_array_cosine_distance(vector, float8[]) IS 'cosine distance; the array is rounded to real first';
CREATE FUNCTION array_vector_cosine_distance(float8[], vector) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_array_vector_cosine_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION array_vector_cosine_distance(float8[], vector) IS 'cosine distance; the array is rounded to real first';
CREATE FUNCTION vector_array_cosine_distance(vector, numeric[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_vector_array_cosine_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION vector_array_cosine_distance(vector, numeric[]) IS 'cosine distance; the array is rounded to real first';
CREATE FUNCTION array_vector_cosine_distance(numeric[], vector) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_array_vector_cosine_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION array_vector_cosine_distance(numeric[], vector) IS 'cosine distance; the array is rounded to real first';
CREATE FUNCTION vector_array_cosine_distance(vector, integer[]) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_vector_array_cosine_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION vector_array_cosine_distance(vector, integer[]) IS 'cosine distance; the array is rounded to real first';
CREATE FUNCTION array_vector_cosine_distance(integer[], vector) RETURNS float8
    AS 'MODULE_PATHNAME', 'ivfremote_array_vector_cosine_distance' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION array_vector_cosine_distance(integer[], vector) IS 'cosine distance; the array is rounded to real first';

CREATE OPERATOR <-> (LEFTARG = vector, RIGHTARG = real[], FUNCTION = vector_array_l2_distance, COMMUTATOR = <->);
COMMENT ON OPERATOR <-> (vector, real[]) IS 'Euclidean distance';
CREATE OPERATOR <-> (LEFTARG = real[], RIGHTARG = vector, FUNCTION = array_vector_l2_distance, COMMUTATOR = <->);
COMMENT ON OPERATOR <-> (real[], vector) IS 'Euclidean distance';
CREATE OPERATOR <-> (LEFTARG = vector, RIGHTARG = float8[], FUNCTION = vector_array_l2_distance, COMMUTATOR = <->);
COMMENT ON OPERATOR <-> (vector, float8[]) IS 'Euclidean distance';
CREATE OPERATOR <-> (LEFTARG = float8[], RIGHTARG = vector, FUNCTION = array_vector_l2_distance, COMMUTATOR = <->);
COMMENT ON OPERATOR <-> (float8[], vector) IS 'Euclidean distance';
CREATE OPERATOR <-> (LEFTARG = vector, RIGHTARG = numeric[], FUNCTION = vector_array_l2_distance, COMMUTATOR = <->);
COMMENT ON OPERATOR <-> (vector, numeric[]) IS 'Euclidean distance';
CREATE OPERATOR <-> (LEFTARG = numeric[], RIGHTARG = vector, FUNCTION = array_vector_l2_distance, COMMUTATOR = <->);
COMMENT ON OPERATOR <-> (numeric[], vector) IS 'Euclidean distance';
CREATE OPERATOR <-> (LEFTARG = vector, RIGHTARG = integer[], FUNCTION = vector_array_l2_distance, COMMUTATOR = <->);
COMMENT ON OPERATOR <-> (vector, integer[]) IS 'Euclidean distance';
CREATE OPERATOR <-> (LEFTARG = integer[], RIGHTARG = vector, FUNCTION = array_vector_l2_distance, COMMUTATOR = <->);
COMMENT ON OPERATOR <-> (integer[], vector) IS 'Euclidean distance';
CREATE OPERATOR <#> (LEFTARG = vector, RIGHTARG = real[], FUNCTION = vector_array_negative_inner_product, COMMUTATOR = <#>);
COMMENT ON OPERATOR <#> (vector, real[]) IS 'negative inner product';
CREATE OPERATOR <#> (LEFTARG = real[], RIGHTARG = vector, FUNCTION = array_vector_negative_inner_product, COMMUTATOR = <#>);
COMMENT ON OPERATOR <#> (real[], vector) IS 'negative inner product';
CREATE OPERATOR <#> (LEFTARG = vector, RIGHTARG = float8[], FUNCTION = vector_array_negative_inner_product, COMMUTATOR = <#>);
COMMENT ON OPERATOR <#> (vector, float8[]) IS 'negative inner product';
CREATE OPERATOR <#> (LEFTARG = float8[], RIGHTARG = vector, FUNCTION = array_vector_negative_inner_product, COMMUTATOR = <#>);
COMMENT ON OPERATOR <#> (float8[], vector) IS 'negative inner product';
CREATE OPERATOR <#> (LEFTARG = vector, RIGHTARG = numeric[], FUNCTION = vector_array_negative_inner_product, COMMUTATOR = <#>);
COMMENT ON OPERATOR <#> (vector, numeric[]) IS 'negative inner product';
CREATE OPERATOR <#> (LEFTARG = numeric[], RIGHTARG = vector, FUNCTION = array_vector_negative_inner_product, COMMUTATOR = <#>);
COMMENT ON OPERATOR <#> (numeric[], vector) IS 'negative inner product';
CREATE OPERATOR <#> (LEFTARG = vector, RIGHTARG = integer[], FUNCTION = vector_array_negative_inner_product, COMMUTATOR = <#>);
COMMENT ON OPERATOR <#> (vector, integer[]) IS 'negative inner product';
CREATE OPERATOR <#> (LEFTARG = integer[], RIGHTARG = vector, FUNCTION = array_vector_negative_inner_product, COMMUTATOR = <#>);
COMMENT ON OPERATOR <#> (integer[], vector) IS 'negative inner product';
CREATE OPERATOR <=> (LEFTARG = vector, RIGHTARG = real[], FUNCTION = vector_array_cosine_distance, COMMUTATOR = <=>);
COMMENT ON OPERATOR <=> (vector, real[]) IS 'cosine distance';
CREATE OPERATOR <=> (LEFTARG = real[], RIGHTARG = vector, FUNCTION = array_vector_cosine_distance, COMMUTATOR = <=>);
COMMENT ON OPERATOR <=> (real[], vector) IS 'cosine distance';
CREATE OPERATOR <=> (LEFTARG = vector, RIGHTARG = float8[], FUNCTION = vector_array_cosine_distance, COMMUTATOR = <=>);
COMMENT ON OPERATOR <=> (vector, float8[]) IS 'cosine distance';
CREATE OPERATOR <=> (LEFTARG = float8[], RIGHTARG = vector, FUNCTION = array_vector_cosine_distance, COMMUTATOR = <=>);
COMMENT ON OPERATOR <=> (float8[], vector) IS 'cosine distance';
CREATE OPERATOR <=> (LEFTARG = vector, RIGHTARG = numeric[], FUNCTION = vector_array_cosine_distance, COMMUTATOR = <=>);
COMMENT ON OPERATOR <=> (vector, numeric[]) IS 'cosine distance';
CREATE OPERATOR <=> (LEFTARG = numeric[], RIGHTARG = vector, FUNCTION = array_vector_cosine_distance, COMMUTATOR = <=>);
COMMENT ON OPERATOR <=> (numeric[], vector) IS 'cosine distance';
CREATE OPERATOR <=> (LEFTARG = vector, RIGHTARG = integer[], FUNCTION = vector_array_cosine_distance, COMMUTATOR = <=>);
COMMENT ON OPERATOR <=> (vector, integer[]) IS 'cosine distance';
CREATE OPERATOR <=> (LEFTARG = integer[], RIGHTARG = vector, FUNCTION = array_vector_cosine_distance, COMMUTATOR = <=>);
COMMENT ON OPERATOR <=> (integer[], vector) IS 'cosine distance';

-- Operator classes, by pgvector's names and with its operators. Support function 1 tells the access method the metric and the
-- layout of the values.

CREATE FUNCTION ivfremote_vector_l2_support(internal) RETURNS internal
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE;
COMMENT ON FUNCTION ivfremote_vector_l2_support(internal) IS 'tells the access method what vector_l2_ops is';
CREATE FUNCTION ivfremote_vector_ip_support(internal) RETURNS internal
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE;
COMMENT ON FUNCTION ivfremote_vector_ip_support(internal) IS 'tells the access method what vector_ip_ops is';
CREATE FUNCTION ivfremote_vector_cosine_support(internal) RETURNS internal
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE;
COMMENT ON FUNCTION ivfremote_vector_cosine_support(internal) IS 'tells the access method what vector_cosine_ops is';
CREATE FUNCTION ivfremote_halfvec_l2_support(internal) RETURNS internal
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE;
COMMENT ON FUNCTION ivfremote_halfvec_l2_support(internal) IS 'tells the access method what halfvec_l2_ops is';
CREATE FUNCTION ivfremote_halfvec_ip_support(internal) RETURNS internal
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE;
COMMENT ON FUNCTION ivfremote_halfvec_ip_support(internal) IS 'tells the access method what halfvec_ip_ops is';
CREATE FUNCTION ivfremote_halfvec_cosine_support(internal) RETURNS internal
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE;
COMMENT ON FUNCTION ivfremote_halfvec_cosine_support(internal) IS 'tells the access method what halfvec_cosine_ops is';
CREATE FUNCTION ivfremote_bit_hamming_support(internal) RETURNS internal
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE;
COMMENT ON FUNCTION ivfremote_bit_hamming_support(internal) IS 'tells the access method what bit_hamming_ops is';

CREATE OPERATOR CLASS vector_l2_ops DEFAULT FOR TYPE vector USING ivfremote AS
    OPERATOR 1 <-> (vector, vector) FOR ORDER BY float_ops,
    OPERATOR 1 <-> (vector, real[]) FOR ORDER BY float_ops,
    OPERATOR 1 <-> (vector, float8[]) FOR ORDER BY float_ops,
    OPERATOR 1 <-> (vector, numeric[]) FOR ORDER BY float_ops,
    OPERATOR 1 <-> (vector, integer[]) FOR ORDER BY float_ops,
    FUNCTION 1 ivfremote_vector_l2_support(internal);
COMMENT ON OPERATOR CLASS vector_l2_ops USING ivfremote IS 'Euclidean distance (<->)';
CREATE OPERATOR CLASS vector_ip_ops FOR TYPE vector USING ivfremote AS
    OPERATOR 1 <#> (vector, vector) FOR ORDER BY float_ops,
    OPERATOR 1 <#> (vector, real[]) FOR ORDER BY float_ops,
    OPERATOR 1 <#> (vector, float8[]) FOR ORDER BY float_ops,
    OPERATOR 1 <#> (vector, numeric[]) FOR ORDER BY float_ops,
    OPERATOR 1 <#> (vector, integer[]) FOR ORDER BY float_ops,
    FUNCTION 1 ivfremote_vector_ip_support(internal);
COMMENT ON OPERATOR CLASS vector_ip_ops USING ivfremote IS 'negative inner product (<#>)';
CREATE OPERATOR CLASS vector_cosine_ops FOR TYPE vector USING ivfremote AS
    OPERATOR 1 <=> (vector, vector) FOR ORDER BY float_ops,
    OPERATOR 1 <=> (vector, real[]) FOR ORDER BY float_ops,
    OPERATOR 1 <=> (vector, float8[]) FOR ORDER BY float_ops,
    OPERATOR 1 <=> (vector, numeric[]) FOR ORDER BY float_ops,
    OPERATOR 1 <=> (vector, integer[]) FOR ORDER BY float_ops,
    FUNCTION 1 ivfremote_vector_cosine_support(internal);
COMMENT ON OPERATOR CLASS vector_cosine_ops USING ivfremote IS 'cosine distance (<=>); zero vectors are not indexed';
CREATE OPERATOR CLASS halfvec_l2_ops FOR TYPE halfvec USING ivfremote AS
    OPERATOR 1 <-> (halfvec, halfvec) FOR ORDER BY float_ops,
    FUNCTION 1 ivfremote_halfvec_l2_support(internal);
COMMENT ON OPERATOR CLASS halfvec_l2_ops USING ivfremote IS 'Euclidean distance (<->)';
CREATE OPERATOR CLASS halfvec_ip_ops FOR TYPE halfvec USING ivfremote AS
    OPERATOR 1 <#> (halfvec, halfvec) FOR ORDER BY float_ops,
    FUNCTION 1 ivfremote_halfvec_ip_support(internal);
COMMENT ON OPERATOR CLASS halfvec_ip_ops USING ivfremote IS 'negative inner product (<#>)';
CREATE OPERATOR CLASS halfvec_cosine_ops FOR TYPE halfvec USING ivfremote AS
    OPERATOR 1 <=> (halfvec, halfvec) FOR ORDER BY float_ops,
    FUNCTION 1 ivfremote_halfvec_cosine_support(internal);
COMMENT ON OPERATOR CLASS halfvec_cosine_ops USING ivfremote IS 'cosine distance (<=>); zero vectors are not indexed';
CREATE OPERATOR CLASS bit_hamming_ops FOR TYPE bit USING ivfremote AS
    OPERATOR 1 <~> (bit, bit) FOR ORDER BY float_ops,
    FUNCTION 1 ivfremote_bit_hamming_support(internal);
COMMENT ON OPERATOR CLASS bit_hamming_ops USING ivfremote IS 'Hamming distance (<~>); rows are stored as they are';

-- A vector beside an array column: the operator above is nearer than pgvector's cast of the vector and ours of two arrays. Without
-- these, an index on real[] would no longer be used for queries of type vector.

ALTER OPERATOR FAMILY real_l2_ops USING ivfremote ADD OPERATOR 1 <-> (real[], vector) FOR ORDER BY float_ops;
ALTER OPERATOR FAMILY real_ip_ops USING ivfremote ADD OPERATOR 1 <#> (real[], vector) FOR ORDER BY float_ops;
ALTER OPERATOR FAMILY real_cosine_ops USING ivfremote ADD OPERATOR 1 <=> (real[], vector) FOR ORDER BY float_ops;

-- Names above were looked up in the schema of this extension, then in those of ivfremote and vector. Who may create objects in
-- one of them can have put a type or an operator of his own in the way: what we refer to must be of these extensions.

DO $$
DECLARE
    stranger text;
BEGIN
    -- Nor may what follows call an operator of theirs, such as = (oid, regclass): it would run as a superuser.
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    WITH trusted AS (
        SELECT d.classid, d.objid, e.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
        WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
        AND e.extname IN ('ivfremote_pgvector', 'ivfremote', 'vector')
    ), own AS (
        SELECT classid, objid FROM trusted WHERE extname = 'ivfremote_pgvector'
    ), part AS (  -- and the members of operator families
        SELECT d.classid, d.objid FROM own JOIN pg_catalog.pg_depend d ON d.refclassid = own.classid AND d.refobjid = own.objid
        WHERE d.classid IN ('pg_catalog.pg_amop'::pg_catalog.regclass, 'pg_catalog.pg_amproc'::pg_catalog.regclass)
        UNION SELECT classid, objid FROM own
    ), used AS (
        SELECT d.refclassid, d.refobjid FROM part JOIN pg_catalog.pg_depend d ON d.classid = part.classid AND d.objid = part.objid
        WHERE d.refclassid NOT IN ('pg_catalog.pg_extension'::pg_catalog.regclass, 'pg_catalog.pg_namespace'::pg_catalog.regclass)
    )
    SELECT i.type || ' ' || i.identity INTO stranger FROM used, pg_catalog.pg_identify_object(refclassid, refobjid, 0) i
    WHERE NOT EXISTS (SELECT FROM trusted t WHERE t.classid = refclassid AND t.objid = refobjid)
    ORDER BY 1 LIMIT 1;
    IF stranger IS NOT NULL THEN
        RAISE EXCEPTION '% is in the way of what extension "ivfremote_pgvector" needs', stranger
            USING ERRCODE = 'duplicate_object', HINT = 'Drop or rename it, or create the extension in another schema.';
    END IF;
END
$$;
