-- Compares a search through an index with the same search through the table.
CREATE FUNCTION through_table(source text, op text, query real[], k int, OUT ids int[], OUT distances float8[])
  LANGUAGE plpgsql SET ivfremote.enable_scan = off SET enable_seqscan = on AS $$
BEGIN
  EXECUTE format('SELECT array_agg(id), array_agg(d) FROM (SELECT id, v %1$s $1 AS d FROM %2$s ORDER BY v %1$s $1 LIMIT %3$s) s',
                 op, source, k)
    INTO ids, distances USING query;
END $$;

-- `source` is a table or a table and WHERE. Raises an error if the plan has no ivfremote index.
CREATE FUNCTION through_index(source text, op text, query real[], k int, OUT ids int[], OUT distances float8[])
  LANGUAGE plpgsql SET ivfremote.enable_scan = on SET enable_seqscan = off SET enable_sort = off AS $$
DECLARE
  line text;
  plan text := '';
BEGIN
  FOR line IN EXECUTE format('EXPLAIN (COSTS OFF) SELECT id FROM %s ORDER BY v %s %L::real[] LIMIT %s', source, op, query, k) LOOP
    plan := plan || line || E'\n';
  END LOOP;
  IF plan !~ 'Index Scan using' THEN
    RAISE 'not through an index: %', plan;
  END IF;
  EXECUTE format('SELECT array_agg(id), array_agg(d) FROM (SELECT id, v %1$s $1 AS d FROM %2$s ORDER BY v %1$s $1 LIMIT %3$s) s',
                 op, source, k)
    INTO ids, distances USING query;
END $$;

-- 'same', or how the index's answer differs. Rows that tie for the last place may be others. Of coded rows none is lost to
-- its bound.
CREATE FUNCTION compare(source text, op text, query real[], k int) RETURNS text LANGUAGE plpgsql
  SET ivfremote.epsilon = 100 AS $$
DECLARE
  expected record := through_table(source, op, query, k);
  found record := through_index(source, op, query, k);
  farthest float8;
  differing int;
BEGIN
  IF expected.ids IS NULL AND found.ids IS NULL THEN
    RETURN 'same, empty';
  END IF;
  IF cardinality(found.ids) IS DISTINCT FROM cardinality(expected.ids) THEN
    RETURN format('%s rows, not %s', cardinality(found.ids), cardinality(expected.ids));
  END IF;
  IF (SELECT count(DISTINCT i) FROM unnest(found.ids) i) <> cardinality(found.ids) THEN
    RETURN 'a row twice';
  END IF;
  IF found.distances IS DISTINCT FROM expected.distances THEN
    RETURN format('distances %s, not %s', found.distances, expected.distances);
  END IF;
  farthest := expected.distances[cardinality(expected.distances)];
  SELECT count(*) INTO differing FROM (
    (SELECT i, d FROM unnest(found.ids, found.distances) u (i, d) WHERE d <> farthest
     EXCEPT SELECT i, d FROM unnest(expected.ids, expected.distances) u (i, d))) x;
  IF differing > 0 THEN
    RETURN format('%s other rows', differing);
  END IF;
  RETURN 'same';
END $$;

-- How many of `queries` find what the table does.
CREATE FUNCTION compare_all(source text, op text, queries text, k int) RETURNS TABLE (result text, queries_count bigint)
  LANGUAGE plpgsql AS $$
BEGIN
  RETURN QUERY EXECUTE format('SELECT compare(%L, %L, q, %s), count(*) FROM (%s) x (q) GROUP BY 1 ORDER BY 1',
                              source, op, k, queries);
END $$;

-- A smooth curve through `dims` dimensions, without chance: point `i` of it.
CREATE FUNCTION point(i int, dims int) RETURNS real[] LANGUAGE sql IMMUTABLE AS $$
  SELECT array_agg((sin(i * 0.37 * j) + cos(i * 0.11 + j))::real ORDER BY j) FROM generate_series(1, dims) j
$$;
