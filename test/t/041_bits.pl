# Bits by Hamming distance: the index's distances are the table's through the whole life of an index, in pages and in a server,
# trained or not; options and lengths it refuses; and the most bits there may be.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Cluster;
use Test::More;

my $node = new_vector_node('bits', init => { allows_streaming => 1 });
my $store = add_store($node, 'store');
$node->safe_psql('postgres', q{
-- The k least distances, and the rows they are of.
CREATE FUNCTION nearest(source text, query bit, k int, OUT ids int[], OUT distances float8[]) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('SELECT array_agg(id), array_agg(d) FROM (SELECT id, b <~> $1 AS d FROM %s WHERE b IS NOT NULL ORDER BY b <~> $1 LIMIT %s) s', source, k)
    INTO ids, distances USING query;
END $$;
CREATE FUNCTION bits_by_table(source text, query bit, k int, OUT ids int[], OUT distances float8[]) LANGUAGE sql
  SET ivfremote.enable_scan = off SET enable_seqscan = on AS 'SELECT * FROM nearest($1, $2, $3)';
CREATE FUNCTION bits_by_index(source text, query bit, k int, OUT ids int[], OUT distances float8[]) LANGUAGE sql
  SET ivfremote.enable_scan = on SET enable_seqscan = off SET enable_sort = off AS 'SELECT * FROM nearest($1, $2, $3)';
-- 'same', or how the index's answer differs, all lists probed. Many rows are equally far: which are first is open.
CREATE FUNCTION compare_bits(source text, query bit, k int) RETURNS text LANGUAGE plpgsql SET ivfremote.probes = 1048576 AS $$
DECLARE
  expected record := bits_by_table(source, query, k);
  found record := bits_by_index(source, query, k);
  wrong int;
BEGIN
  IF found.distances IS DISTINCT FROM expected.distances THEN
    RETURN format('%s distances unlike the %s of the table', coalesce(cardinality(found.distances), 0), coalesce(cardinality(expected.distances), 0));
  ELSIF (SELECT count(DISTINCT i) FROM unnest(found.ids) i) <> cardinality(found.ids) THEN
    RETURN 'a row twice';
  END IF;
  EXECUTE format('SELECT count(*) FROM unnest($1, $2) u (i, d) LEFT JOIN %s ON id = i WHERE (b <~> $3) IS DISTINCT FROM d', source)
    INTO wrong USING found.ids, found.distances, query;
  RETURN CASE WHEN wrong > 0 THEN wrong || ' rows with distances of others' ELSE 'same' END;
END $$;
-- Around one of 20 centres; an eighth of the bits is another.
CREATE FUNCTION some_bits(i int, n int) RETURNS bit LANGUAGE sql IMMUTABLE AS $$
  SELECT string_agg(CASE WHEN hashint8extended(i % 20, j) & 1 = (hashint8extended(i + 1000, j) & 7 = 0)::int THEN '1' ELSE '0' END, '' ORDER BY j)::varbit
  FROM generate_series(1, n) j
$$;
});

# For rows of the table and others as queries
sub same_ok
{
	my ($on, $source, $bits, $name) = @_;
	is($on->safe_psql('postgres', "SELECT string_agg(DISTINCT compare_bits('$source', some_bits(i, $bits), k), ';') FROM unnest(ARRAY[3, 500, 777, 5000, 5001]) i, unnest(ARRAY[1, 10, 5000]) k"),
		'same', $name);
	return;
}

sub sound_ok
{
	my ($index, $name) = @_;
	is($node->safe_psql('postgres', "SELECT string_agg(v::text, E'\\n') FROM ivfremote_verify('$index', heapallindexed => true) v"), '', "$name: sound");
	return;
}

# -- a life, once with the segments in pages and once in a server, where rows are in two lists each

for my $place ('embedded', 'file')
{
	my $bits = $place eq 'file' ? 70 : 64;
	my $options = $place eq 'file' ? ", server = 'store', spill = true, quantization = none" : '';
	$node->safe_psql('postgres', qq{
		CREATE TABLE life (id int, b bit($bits));
		CREATE INDEX life_idx ON life USING ivfremote (b bit_hamming_ops) WITH (lists = 12$options);
		INSERT INTO life SELECT i, some_bits(i, $bits) FROM generate_series(1, 700) i;
		INSERT INTO life VALUES (701, NULL), (702, repeat('0', $bits)::varbit), (703, repeat('1', $bits)::varbit)});
	same_ok($node, 'life', $bits, "$place, untrained");
	is($node->safe_psql('postgres', q{SELECT metric, dimensions, quantization, bits, trained FROM ivfremote_info('life_idx')}),
		"hamming|$bits|none|1|f", "$place: what it is");
	sound_ok('life_idx', "$place, untrained");
	# As floats they would take 26 pages.
	cmp_ok($node->safe_psql('postgres', q{SELECT pg_relation_size('life_idx')}), '<=', 8192 * 5, "$place: pending rows are bits");

	$node->safe_psql('postgres', q{ALTER INDEX life_idx SET (flush_threshold = 1)});
	is($node->safe_psql('postgres', q{SELECT ivfremote_flush('life_idx')}), 702, "$place: the first flush");
	same_ok($node, 'life', $bits, "$place, trained by its flush");
	$node->safe_psql('postgres', "INSERT INTO life SELECT i, some_bits(i, $bits) FROM generate_series(704, 900) i");
	same_ok($node, 'life', $bits, "$place, with pending rows");
	sound_ok('life_idx', "$place, with pending rows");
	is($node->safe_psql('postgres', q{SELECT ivfremote_flush('life_idx')}), 197, "$place: the second flush");
	$node->safe_psql('postgres', qq{
		DELETE FROM life WHERE id % 3 = 0;
		UPDATE life SET b = ~b WHERE id % 10 = 1;
		VACUUM (INDEX_CLEANUP ON) life;
		INSERT INTO life SELECT i, some_bits(i % 7, $bits) FROM generate_series(1001, 1400) i});
	same_ok($node, 'life', $bits, "$place, after VACUUM");
	$node->safe_psql('postgres', q{CALL ivfremote_compact('life_idx')});
	same_ok($node, 'life', $bits, "$place, compacted");
	sound_ok('life_idx', "$place, compacted");
	# Many more rows near one centre
	$node->safe_psql('postgres', qq{
		INSERT INTO life SELECT i, some_bits(i * 20 + 5, $bits) FROM generate_series(2000, 4000) i;
		SELECT ivfremote_flush('life_idx');
		CALL ivfremote_compact('life_idx')});
	cmp_ok($node->safe_psql('postgres', q{SELECT lists FROM ivfremote_info('life_idx')}), '>', 12, "$place: lists were split")
	  if $place eq 'embedded';  # rows of two lists are not
	same_ok($node, 'life', $bits, "$place, with split lists");
	is($node->safe_psql('postgres', q{
		SET enable_seqscan = off;
		SELECT count(*) = (SELECT count(b) FROM life) FROM (SELECT id FROM life ORDER BY b <~> (SELECT NULL::bit) LIMIT 10000) s}), 't',
		"$place: all rows, in no order, for NULL");
	$node->safe_psql('postgres', q{REINDEX INDEX life_idx});
	same_ok($node, 'life', $bits, "$place, built");
	sound_ok('life_idx', "$place, built");
	# The rows that are no nearer than the last of the true ones
	my $recall = $node->safe_psql('postgres', q{
		SELECT avg((SELECT count(*) FROM unnest((bits_by_index('life', q, 10)).distances) d WHERE d <= t.distances[10]) / 10.0)
		FROM (SELECT b AS q FROM life WHERE id % 40 = 2) s, bits_by_table('life', q, 10) t});
	cmp_ok($recall, '>=', 0.9, "$place: recall at the default target");
	is($node->safe_psql('postgres', qq{
		SET ivfremote.probes = 1048576;
		SELECT recall, table_rows_read FROM ivfremote_recall('life_idx', $_) LIMIT 1}), '1|0', "$place: measured with all lists, no row is reranked")
	  for 'NULL', q{(SELECT array_agg(string_to_array(b::text, NULL)::real[]) FROM life WHERE id % 50 = 2)};
	error_like($node, '', "SELECT ivfremote_recall('life_idx', ARRAY[array_fill(0.5::real, ARRAY[$bits])])", qr/^22023 \| bits must be 0 or 1/,
		"$place: halves are no bits");
	$node->safe_psql('postgres', 'DROP TABLE life');
}

# -- by parallel workers, of an expression, on a standby

$node->safe_psql('postgres', q{
	CREATE TABLE items (id int, b bit(100)) WITH (parallel_workers = 2);
	INSERT INTO items SELECT i, some_bits(i, 100) FROM generate_series(1, 1500) i;
	SET max_parallel_maintenance_workers = 2;
	CREATE INDEX ON items USING ivfremote (b bit_hamming_ops) WITH (lists = 10, flush_threshold = 1)});
same_ok($node, 'items', 100, 'built by workers');

$node->safe_psql('postgres', q{
	CREATE TABLE vectors (id int, v vector(9));
	INSERT INTO vectors SELECT i, ARRAY(SELECT sin(i * j) FROM generate_series(1, 9) j) FROM generate_series(1, 300) i;
	CREATE VIEW signs AS SELECT id, binary_quantize(v)::bit(9) AS b FROM vectors;
	CREATE INDEX ON vectors USING ivfremote ((binary_quantize(v)::bit(9)) bit_hamming_ops) WITH (lists = 4, flush_threshold = 1)});
same_ok($node, 'signs', 9, 'of an expression, nine bits');
is($node->safe_psql('postgres', q{
	SET enable_seqscan = off;
	EXPLAIN (COSTS OFF) SELECT FROM vectors ORDER BY binary_quantize(v)::bit(9) <~> B'101010101' LIMIT 5}) =~ /Index Scan using vectors_/, 1, 'which is scanned');

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('bits_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->safe_psql('postgres', q{INSERT INTO items SELECT i, some_bits(i, 100) FROM generate_series(1501, 1600) i});
$node->wait_for_catchup($standby);
same_ok($standby, 'items', 100, 'on a standby');
$standby->stop;

# -- what is refused

for my $refused (
	[ 'bits', q{CREATE INDEX ON items USING ivfremote (b bit_hamming_ops) WITH (bits = 1)}, qr/^22023 \| option "bits" does not apply/ ],
	[ 'quantization', q{CREATE INDEX ON items USING ivfremote (b bit_hamming_ops) WITH (quantization = rabitq)},
		qr/^22023 \| option "quantization" does not apply/ ],
	[ 'no operator class', q{CREATE INDEX ON items USING ivfremote (b)}, qr/^42704 \| data type bit has no default operator class/ ],
	[ 'a query of another length', q{SET LOCAL enable_seqscan = off; SELECT FROM items ORDER BY b <~> B'101' LIMIT 1}, qr/^22000 \| different bit lengths 100 and 3/ ],
	[ 'a column with too many bits', q{CREATE TABLE x (b bit(64001)); CREATE INDEX ON x USING ivfremote (b bit_hamming_ops)},
		qr/^54000 \| column cannot have more than 64000 dimensions/ ],
	[ 'too many bits', q{CREATE TABLE x (b varbit); CREATE INDEX ON x USING ivfremote ((b::bit) bit_hamming_ops);
		CREATE INDEX ON x USING ivfremote ((bitcat(b, b)::varbit::bit(64001)) bit_hamming_ops)}, qr/^54000 \| column cannot have more than 64000/ ],
	[ 'rows of two lengths', q{CREATE TABLE x (v vector); INSERT INTO x VALUES ('[1,2,3]'), ('[1,2]');
		CREATE INDEX ON x USING ivfremote (binary_quantize(v) bit_hamming_ops)}, qr/^22000 \| expected 3 dimensions, not 2/ ])
{
	my ($name, $statement, $pattern) = @$refused;
	error_like($node, 'SET client_min_messages = warning', $statement, $pattern, "refused: $name");
}

# -- after a crash an unlogged index is empty, and takes bits again

$node->safe_psql('postgres', q{
	CREATE UNLOGGED TABLE unlogged (id int, b bit(64));
	CREATE INDEX ON unlogged USING ivfremote (b bit_hamming_ops);
	INSERT INTO unlogged SELECT i, some_bits(i, 64) FROM generate_series(1, 10) i});
$node->stop('immediate');
$node->start;
$node->safe_psql('postgres', q{INSERT INTO unlogged SELECT i, some_bits(i, 64) FROM generate_series(11, 50) i});
same_ok($node, 'unlogged', 64, 'unlogged, after a crash');

# -- the most bits

$node->safe_psql('postgres', q{
	CREATE FUNCTION many_bits(i int) RETURNS bit LANGUAGE sql IMMUTABLE AS $$
	  SELECT string_agg(lpad(((hashint8extended(i % 5, j) & hashint8extended(i, j)) & 65535)::int::bit(16)::text, 16, '0'), '' ORDER BY j)::varbit FROM generate_series(1, 4000) j
	$$;
	CREATE TABLE wide (id int, b bit(64000));
	INSERT INTO wide SELECT i, many_bits(i) FROM generate_series(1, 100) i;
	CREATE INDEX wide_idx ON wide USING ivfremote (b bit_hamming_ops) WITH (lists = 3, flush_threshold = 1, server = store);
	INSERT INTO wide SELECT i, many_bits(i) FROM generate_series(101, 110) i});
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT compare_bits('wide', many_bits(i), 20), ';') FROM unnest(ARRAY[1, 105, 300]) i}),
	'same', '64000 bits');
$node->safe_psql('postgres', q{SELECT ivfremote_flush('wide_idx'); CALL ivfremote_compact('wide_idx')});
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT compare_bits('wide', many_bits(i), 20), ';') FROM unnest(ARRAY[1, 105, 300]) i}),
	'same', '64000 bits, flushed and compacted');
sound_ok('wide_idx', '64000 bits');

no_crash($node);
$node->stop;
done_testing();
