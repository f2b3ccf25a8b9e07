\set ECHO none
\getenv source PG_ABS_SRCDIR
\set include :source /sql/include
\set schema operators_test
\set file :include /setup.sql
\i :file
\set ECHO all

-- The distances

SELECT '{1,2,2}'::real[] <-> '{1,5,6}'::real[] AS l2,
       '{1,2,2}'::real[] <#> '{1,5,6}'::real[] AS negative_ip,
       '{3,4}'::real[] <=> '{4,3}'::real[] AS cosine;
SELECT l2_distance('{1,2,2}', '{1,5,6}'), inner_product('{1,2,2}', '{1,5,6}'),
       negative_inner_product('{1,2,2}', '{1,5,6}'), cosine_distance('{3,4}', '{-3,-4}'), l2_norm('{3,4}');
SELECT pg_typeof('{1}'::real[] <-> '{1}'::real[]) AS l2, pg_typeof('{1}'::real[] <#> '{1}'::real[]) AS negative_ip,
       pg_typeof('{1}'::real[] <=> '{1}'::real[]) AS cosine;
SELECT '{1}'::real[] <-> NULL::real[] AS l2, NULL::real[] <#> '{1}'::real[] AS negative_ip, l2_norm(NULL);

-- Right-hand sides as clients write them

SELECT '{1,2}'::real[] <-> '{1,5}' AS literal,
       '{1,2}'::real[] <-> '{1,5}'::float8[] AS float8s,
       '{1,2}'::real[] <-> ARRAY[1.0, 5.0] AS numerics,
       '{1,2}'::real[] <-> ARRAY[1, 5] AS integers;
SELECT '{1,2}'::real[] <#> '{1,5}' AS literal,
       '{1,2}'::real[] <#> '{1,5}'::float8[] AS float8s,
       '{1,2}'::real[] <#> ARRAY[1.0, 5.0] AS numerics,
       '{1,2}'::real[] <#> ARRAY[1, 5] AS integers;
SELECT '{3,4}'::real[] <=> '{4,3}' AS literal,
       '{3,4}'::real[] <=> '{4,3}'::float8[] AS float8s,
       '{3,4}'::real[] <=> ARRAY[4.0, 3.0] AS numerics,
       '{3,4}'::real[] <=> ARRAY[4, 3] AS integers;
-- Rounded to real first: the same as the cast, to the last bit
SELECT '{0.1,0.7}'::real[] <-> '{0.3,0.9}'::float8[] = '{0.1,0.7}'::real[] <-> '{0.3,0.9}'::real[] AS float8s,
       '{0.1,0.7}'::real[] <-> ARRAY[0.3, 0.9] = '{0.1,0.7}'::real[] <-> '{0.3,0.9}'::real[] AS numerics,
       '{0.5,1}'::real[] <-> ARRAY[16777217, 3] = '{0.5,1}'::real[] <-> '{16777217,3}'::real[] AS integers;
SELECT '{0.1}'::real[] <-> '{0.1}'::float8[] AS float8s, '{0.1}'::real[] <-> ARRAY[0.1] AS numerics;
-- A type there is no operator for
SELECT '{1,2}'::real[] <-> '{a,b}'::text[];

-- Lower bounds

SELECT '[0:2]={1,2,2}'::real[] <-> '[-5:-3]={1,5,6}'::real[] AS l2, '[3:4]={3,4}'::real[] <=> '{4,3}'::float8[] AS cosine;

-- What is not a vector

SELECT '{{1,2},{3,4}}'::real[] <-> '{1,2,3,4}';
SELECT '{1,2,3,4}'::real[] <-> '{{1,2},{3,4}}'::float8[];
SELECT '{1,NULL}'::real[] <-> '{1,2}';
SELECT '{1,2}'::real[] <-> ARRAY[1.5, NULL];
SELECT '{1,2}'::real[] <#> ARRAY[1, NULL];
SELECT '{}'::real[] <-> '{}';
SELECT '{1,2}'::real[] <=> '{}';
SELECT l2_norm('{}');
SELECT '{1,NaN}'::real[] <-> '{1,2}';
SELECT '{1,2}'::real[] <-> '{NaN,2}'::float8[];
SELECT '{1,2}'::real[] <-> ARRAY['NaN'::numeric, 1];
SELECT '{1,2}'::real[] <#> '{1,Infinity}';
SELECT '{1,2}'::real[] <=> '{-Infinity,1}'::float8[];
SELECT '{1,2}'::real[] <=> ARRAY['Infinity'::numeric, 1];
SELECT '{1,2}'::real[] <-> '{1,2,3}';
SELECT '{1,2}'::real[] <#> ARRAY[1, 2, 3];
SELECT '{1,2}'::real[] <=> '{1}'::float8[];
-- A slot for a null bitmap is not a null
SELECT array_remove('{1,NULL,2}'::real[], NULL) <-> '{1,2}' AS removed, (ARRAY[NULL, 1, 2]::real[])[2:3] <-> '{1,2}' AS sliced;

-- Values that real does not have

SELECT '{1}'::real[] <-> '{1e39}'::float8[];
SELECT '{1}'::real[] <-> '{-1e300}'::float8[];
SELECT '{1}'::real[] <-> ARRAY[1e50];
SELECT '{1}'::real[] <-> '{1e39}';
SELECT '{0}'::real[] <-> '{1e-60}'::float8[] AS rounds_to_zero;

-- Dimensions

SELECT array_fill(1::real, '{16000}') <-> array_fill(2::real, '{16000}') AS l2,
       array_fill(1::real, '{16000}') <#> array_fill(2::real, '{16000}') AS negative_ip,
       array_fill(1::real, '{16000}') <=> array_fill(2::real, '{16000}') AS cosine;
SELECT array_fill(1::real, '{16001}') <-> array_fill(2::real, '{16001}');
SELECT l2_norm(array_fill(1::real, '{16001}'));
-- Every remainder of the vector width
SELECT bool_and(array_fill(1::real, ARRAY[n]) <-> array_fill(3::real, ARRAY[n]) = sqrt(4.0::float8 * n)) AS l2,
       bool_and(array_fill(1::real, ARRAY[n]) <#> array_fill(3::real, ARRAY[n]) = -3.0 * n) AS negative_ip,
       bool_and(abs(array_fill(1::real, ARRAY[n]) <=> array_fill(3::real, ARRAY[n])) < 1e-15) AS cosine
FROM generate_series(1, 130) n;

-- Huge and tiny values neither overflow nor vanish

SELECT '{3e38,3e38}'::real[] <-> '{-3e38,-3e38}' BETWEEN 8.48e38 AND 8.49e38 AS l2,
       '{3e38,3e38}'::real[] <#> '{3e38,3e38}' BETWEEN -1.81e77 AND -1.79e77 AS negative_ip,
       abs('{3e38,3e38}'::real[] <=> '{3e38,3e38}') < 1e-15 AS cosine,
       l2_norm('{3e38,3e38}') BETWEEN 4.24e38 AND 4.25e38 AS norm;
SELECT '{1e-45}'::real[] <-> '{0}' BETWEEN 1.40e-45 AND 1.41e-45 AS l2,
       '{1e-45}'::real[] <#> '{1e-45}' BETWEEN -1.97e-90 AND -1.96e-90 AS negative_ip,
       abs('{1e-45,1e-45}'::real[] <=> '{1e-45,1e-45}') < 1e-15 AS cosine,
       l2_norm('{1e-45}') BETWEEN 1.40e-45 AND 1.41e-45 AS norm;
SELECT array_fill('3e38'::real, '{16000}') <-> array_fill('-3e38'::real, '{16000}') < 'Infinity' AS l2,
       abs(array_fill('3e38'::real, '{16000}') <=> array_fill('1e-45'::real, '{16000}')) < 1e-9 AS cosine;
-- A large offset common to both does not swallow the difference
SELECT '{16777216,1}'::real[] <-> '{16777215,1}' AS l2;

-- Identical vectors are exactly 0 apart; cosine stays in [0, 2]

SELECT v <-> v AS l2, v <=> v >= 0 AND v <=> v < 1e-15 AS cosine
FROM (SELECT array_agg(sin(i)::real) FROM generate_series(1, 777) i) x (v);
SELECT '{0.1,0.2,0.3}'::real[] <-> '{0.1,0.2,0.3}' AS l2, '{1,1}'::real[] <=> '{-1,-1}' AS opposite,
       '{1,0}'::real[] <=> '{0,1}' AS orthogonal;
SELECT bool_and(v <=> v >= 0 AND v <=> minus <= 2) AS in_range
FROM (SELECT n, array_agg(cos(i * n)::real), array_agg(-cos(i * n)::real) FROM generate_series(1, 50) n, generate_series(1, 33) i
      GROUP BY n) x (n, v, minus);

-- A zero vector has no direction

SELECT '{0,0}'::real[] <=> '{1,2}' AS left_zero, '{1,2}'::real[] <=> ARRAY[0, 0] AS right_zero,
       '{0,0}'::real[] <-> '{3,4}' AS l2, '{0,-0}'::real[] <#> '{3,4}' = 0 AS negative_ip, l2_norm('{0,0}');

-- Symmetric, and usable in a sort and an aggregate

SELECT bool_and(a <-> b = b <-> a AND a <#> b = b <#> a AND a <=> b = b <=> a) AS symmetric
FROM (SELECT ARRAY[sin(i), cos(i), sin(2 * i)]::real[], ARRAY[sin(3 * i), cos(i / 7.0), 0.3]::real[] FROM generate_series(1, 99) i) x (a, b);
SELECT i FROM (VALUES (1, '{5,5}'::real[]), (2, '{1,1}'), (3, '{2,2}'), (4, NULL)) t (i, v) ORDER BY v <-> '{0,0}';

DROP SCHEMA operators_test CASCADE;
