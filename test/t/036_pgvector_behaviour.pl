# What pgvector's own tests pin of ivfflat holds for ivfremote's indexes on its types: NULLs, zero vectors, inserts, rescans,
# TRUNCATE, unlogged tables, iterative scans, errors, and when the planner uses an index.
#
# Lifted on purpose: 32768 lists and probes, 2000 dimensions, the memory that a build needs. An index on few rows comes without a
# notice, since it is exact. A query with no LIMIT at all is sorted from the table, so queries here have one.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use Test::More;

my $node = new_vector_node('behaviour', conf => "shared_buffers = 64MB\n");

# Which ids a query gives, by an index scan.
sub nearest
{
	my ($rest) = @_;
	my $query = "SELECT id FROM t $rest LIMIT 100";
	my ($plan, $ids) = split /--\n/, $node->safe_psql('postgres',
		"SET enable_seqscan = off; EXPLAIN (COSTS OFF) $query; SELECT '--'; SELECT string_agg(id::text, ' ') FROM ($query) x");
	return $plan =~ /Index Scan using/ ? $ids : "not an index scan: $plan";
}

sub number_of
{
	my ($rest) = @_;
	return scalar split / /, nearest($rest);
}

my $floats = [ '[0,0,0]', '[1,2,3]', '[1,1,1]', '[1,2,4]' ];
my $bits = [ '000', '100', '111', '110' ];
my @classes = (
	# type, class, operator, rows, query, ids in order (4 is NULL, and 5 inserted later)
	[ 'vector(3)', 'vector_l2_ops', '<->', $floats, '[3,3,3]', '2 5 3 1' ],
	[ 'vector(3)', 'vector_ip_ops', '<#>', $floats, '[3,3,3]', '5 2 3 1' ],
	[ 'vector(3)', 'vector_cosine_ops', '<=>', $floats, '[3,3,3]', '3 2 5' ],
	[ 'halfvec(3)', 'halfvec_l2_ops', '<->', $floats, '[3,3,3]', '2 5 3 1' ],
	[ 'halfvec(3)', 'halfvec_ip_ops', '<#>', $floats, '[3,3,3]', '5 2 3 1' ],
	[ 'halfvec(3)', 'halfvec_cosine_ops', '<=>', $floats, '[3,3,3]', '3 2 5' ],
	[ 'bit(3)', 'bit_hamming_ops', '<~>', $bits, '111', '3 5 2 1' ]);
for my $class (@classes)
{
	my ($type, $name, $operator, $rows, $query, $ids) = @$class;
	my $indexed = split / /, $ids;
	# As it is created, searched exactly; and trained, with a list for each
	for my $options ('lists = 1', 'lists = 3, flush_threshold = 1')
	{
		my $what = "$name, $options";
		$node->safe_psql('postgres', qq{
			CREATE TABLE t (id serial, val $type);
			INSERT INTO t (val) VALUES ('$rows->[0]'), ('$rows->[1]'), ('$rows->[2]'), (NULL);
			CREATE INDEX t_idx ON t USING ivfremote (val $name) WITH ($options)});
		is($node->safe_psql('postgres', qq{
			SET enable_seqscan = off; SET ivfremote.probes = 3;
			BEGIN; INSERT INTO t (val) VALUES ('$rows->[3]');
			SELECT string_agg(id::text, ' ') FROM (SELECT id FROM t ORDER BY val $operator '$query' LIMIT 100) x; COMMIT}),
			$ids, "$what: an insert is found in its own transaction; NULL is not");
		$node->safe_psql('postgres', 'ALTER DATABASE postgres SET ivfremote.probes = 3');
		is(nearest("ORDER BY val $operator '$query'"), $ids, "$what: and afterwards");
		(my $bare_type = $type) =~ s/\(.*//;
		is(number_of("ORDER BY val $operator (SELECT NULL::$bare_type)"), $indexed, "$what: a query of NULL gives all indexed rows");
		is(number_of("ORDER BY val $operator '[0,0,0]'"), $indexed, "$what: so does a zero vector") if $operator eq '<=>';
		is($node->safe_psql('postgres', 'SELECT count(*) FROM t'), 5, "$what: the table has them all");
		is($node->safe_psql('postgres', qq{
			SET enable_seqscan = off; SET enable_sort = off;
			SELECT string_agg(t.id || ':' || n.id, ' ' ORDER BY t.id) FROM t
			CROSS JOIN LATERAL (SELECT id FROM t t2 ORDER BY val $operator t.val LIMIT 1) n WHERE t.id IN (2, 3, 5)}),
			$operator eq '<#>' ? '2:5 3:5 5:5' : '2:2 3:3 5:5', "$what: a scan again with each row");
		$node->safe_psql('postgres', 'TRUNCATE t');
		is(nearest("ORDER BY val $operator '$query'"), '', "$what: nothing after TRUNCATE");
		$node->safe_psql('postgres', "INSERT INTO t (id, val) VALUES (7, '$rows->[1]')");
		is(nearest("ORDER BY val $operator '$query'"), '7', "$what: what is inserted then");
		$node->safe_psql('postgres', 'DROP TABLE t; ALTER DATABASE postgres RESET ivfremote.probes');
	}
}

# Without an operator class: for vectors Euclidean distance, for the others none
$node->safe_psql('postgres', q{CREATE TABLE t (id serial, val vector(3), half halfvec(3), bits bit(3)); CREATE INDEX t_idx ON t USING ivfremote (val)});
is($node->safe_psql('postgres', q{SELECT pg_get_indexdef('t_idx'::regclass)}), 'CREATE INDEX t_idx ON public.t USING ivfremote (val)', 'the default');
like($node->safe_psql('postgres', q{SET enable_seqscan = off; EXPLAIN SELECT id FROM t ORDER BY val <-> '[1,2,3]' LIMIT 1}), qr/Index Scan using t_idx/, 'is Euclidean');
error_like($node, '', "CREATE INDEX ON t USING ivfremote ($_)", qr/^42704 \| data type \w+ has no default operator class for access method "ivfremote"/, "$_ has no default")
  for 'half', 'bits';
$node->safe_psql('postgres', 'DROP TABLE t');

# Iterative scans. Three lists of a row each.
$node->safe_psql('postgres', q{
	CREATE TABLE t (id serial, val vector(3));
	INSERT INTO t (val) VALUES ('[0,0,0]'), ('[1,2,3]'), ('[1,1,1]'), (NULL);
	CREATE INDEX ON t USING ivfremote (val vector_l2_ops) WITH (lists = 3, probes = 1, flush_threshold = 1)});
for my $case ([ 'off', -1, '2' ], [ 'relaxed_order', -1, '2 3 1' ], [ 'relaxed_order', 1, '2' ], [ 'relaxed_order', 2, '2 3' ], [ 'strict_order', 2, '2 3' ])
{
	my ($order, $max_probes, $ids) = @$case;
	$node->safe_psql('postgres', "ALTER DATABASE postgres SET ivfremote.iterative_scan = $order; ALTER DATABASE postgres SET ivfremote.max_probes = $max_probes");
	is(nearest(q{ORDER BY val <-> '[3,3,3]'}), $ids, "$order, max_probes $max_probes");
}
$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET ALL; DROP TABLE t');

$node->safe_psql('postgres', q{
	CREATE UNLOGGED TABLE t (id serial, val vector(3));
	INSERT INTO t (val) VALUES ('[0,0,0]'), ('[1,2,3]'), ('[1,1,1]'), (NULL);
	CREATE INDEX ON t USING ivfremote (val vector_l2_ops) WITH (lists = 1)});
is(nearest(q{ORDER BY val <-> '[3,3,3]'}), '2 3 1', 'an unlogged table');
$node->stop('immediate');
$node->start;
is(nearest(q{ORDER BY val <-> '[3,3,3]'}), '', 'and after a crash');
$node->safe_psql('postgres', 'DROP TABLE t; CREATE TABLE t (id serial, val vector(3))');

# Options, settings, dimensions
$node->safe_psql('postgres', 'CREATE INDEX t_idx ON t USING ivfremote (val vector_l2_ops) WITH (lists = 1)');
error_like($node, q{LOAD 'ivfremote'}, @$_) for (
	[ 'CREATE INDEX ON t USING ivfremote (val vector_l2_ops) WITH (lists = 0)', qr/^22023 \| value 0 out of bounds for option "lists" \| Valid values are between "1" and/, 'no list' ],
	[ 'SET ivfremote.probes = -2', qr/^22023 \| -2 is outside the valid range for parameter "ivfremote.probes"/, 'probes' ],
	[ 'SET ivfremote.iterative_scan = on', qr/^22023 \| invalid value for parameter "ivfremote.iterative_scan": "on" \| Available values: off, relaxed_order, strict_order\./, 'iterative_scan = on' ],
	[ 'SET ivfremote.max_probes = 0', qr/^22023 \|.* "ivfremote.max_probes"/, 'max_probes' ],
	[ q{SELECT id FROM t ORDER BY val <-> '[1,2]' LIMIT 1}, qr/^22000 \| different vector dimensions 3 and 2/, 'a query of other dimensions, of the table' ],
	[ q{INSERT INTO t (val) VALUES ('[1,2]')}, qr/^22000 \| expected 3 dimensions, not 2/, 'a row of other dimensions' ]);
for my $rows ('no rows', 'a row')
{
	error_like($node, 'SET enable_seqscan = off', q{SELECT id FROM t ORDER BY val <-> '[1,2]' LIMIT 1}, qr/^22000 \| different vector dimensions 3 and 2/,
		"a query of other dimensions, of an index with $rows");
	$node->safe_psql('postgres', q{INSERT INTO t (val) VALUES ('[1,2,3]')});
}
$node->safe_psql('postgres', 'DROP TABLE t');

# bit varying, which ivfflat refuses: rows of one length, that of the first. Its modifier is the largest there may be.
$node->safe_psql('postgres', q{
	CREATE TABLE t (id serial, val varbit(8));
	CREATE INDEX ON t USING ivfremote (val bit_hamming_ops);
	INSERT INTO t (val) VALUES ('101'), ('011')});
is(nearest(q{ORDER BY val <~> '010'}), '2 1', 'bits of varying length');
error_like($node, '', q{INSERT INTO t (val) VALUES ('1')}, qr/^22\w+ \| .*\b1\b/, 'of one length, though');
$node->safe_psql('postgres', 'DROP TABLE t');

# Dimensions of the first row
$node->safe_psql('postgres', 'CREATE TABLE t (id serial, val vector)');
$node->safe_psql('postgres', q{CREATE INDEX ON t USING ivfremote (val vector_l2_ops); INSERT INTO t (val) VALUES ('[1,2,3]'), ('[4,5,6]')});
error_like($node, '', q{INSERT INTO t (val) VALUES ('[1,2]')}, qr/^22\w+ \| .*\b3\b.*\b2\b|^22\w+ \| .*\b2\b.*\b3\b/, 'without a type modifier the first row has the dimensions');
is(nearest(q{ORDER BY val <-> '[4,4,4]'}), '2 1', 'and they are searched');
$node->safe_psql('postgres', 'DROP TABLE t');

for my $case ([ 'vector', 'vector_l2_ops', '<->', 2001 ], [ 'vector', 'vector_l2_ops', '<->', 16000 ], [ 'halfvec', 'halfvec_l2_ops', '<->', 4001 ])
{
	my ($type, $class, $operator, $dimensions) = @$case;
	$node->safe_psql('postgres', qq{
		CREATE TABLE t (id serial, val $type($dimensions));
		INSERT INTO t (val) SELECT array_fill(i, ARRAY[$dimensions]) FROM generate_series(1, 30) i;
		SET maintenance_work_mem = '1MB';
		CREATE INDEX ON t USING ivfremote (val $class) WITH (lists = 3, flush_threshold = 1)});
	is(nearest("ORDER BY val $operator (SELECT val FROM t WHERE id = 7)") =~ s/^(\S+).*/$1/r, 7, "$type of $dimensions dimensions, 1 MB of maintenance_work_mem");
	$node->safe_psql('postgres', 'DROP TABLE t');
}
error_like($node, '', 'CREATE TABLE t (val vector(16001))', qr/^22023 \| dimensions for type vector cannot exceed 16000/, 'no more than the type has');

# When the planner uses an index. A third of the queries are such that it had better not (as pgvector's tests say of them, too); those with a
# filter that leaves nothing, or with no LIMIT, do without.
$node->safe_psql('postgres', q{
	SELECT setseed(0.5);
	CREATE TABLE t (i int, v vector(3), c int, t text);
	INSERT INTO t SELECT i, ARRAY[random(), random(), random()], i % 50, 'test ' || i FROM generate_series(1, 10000) i;
	CREATE INDEX idx ON t USING ivfremote (v vector_l2_ops) WITH (lists = 100);
	ANALYZE t});
my $q = "'[0.3,0.6,0.2]'";
sub plan_is
{
	my ($query, $pattern, $name) = @_;
	like($node->safe_psql('postgres', "EXPLAIN (COSTS OFF) SELECT i FROM t $query"), $pattern, $name);
}
my $index_scan = qr/Index Scan using idx/;
plan_is("WHERE $_ ORDER BY v <-> $q LIMIT 20", $index_scan, "where $_")
  for 'c = 7', 'c <> 7', 'c >= 1', 'c < 1', "t LIKE '%%test%%'", "v <-> $q < 1", "v <-> $q > 1";
plan_is("WHERE t LIKE '%%other%%' ORDER BY v <-> $q LIMIT 20", qr/Seq Scan/, 'where no row is left');
plan_is("WHERE v <-> $q < 1", qr/Seq Scan/, 'no ORDER BY');
plan_is("WHERE v <-> $q < 1 ORDER BY v <-> $q", qr/Seq Scan/, 'no LIMIT');
$node->safe_psql('postgres', 'CREATE INDEX partial ON t USING ivfremote (v vector_l2_ops) WITH (lists = 5) WHERE c = 7');
plan_is("WHERE c = 7 ORDER BY v <-> $q LIMIT 20", qr/Index Scan using partial/, 'a partial index is preferred');
$node->safe_psql('postgres', 'CREATE INDEX few_lists ON t USING ivfremote (v vector_l2_ops) WITH (lists = 10, probes = 1); ALTER INDEX idx SET (probes = 1)');
plan_is("ORDER BY v <-> $q LIMIT 10", $index_scan, 'so is one with more lists, which reads fewer rows');
is($node->safe_psql('postgres', q{
	SET enable_seqscan = off; SET ivfremote.probes = 1;
	SELECT count(*) FROM t a, LATERAL (SELECT i FROM t b ORDER BY b.v <-> a.v LIMIT 1) n WHERE a.i % 500 = 1 AND n.i = a.i}),
	20, 'with one list, a row is its own nearest neighbour');
$node->safe_psql('postgres', 'DROP TABLE t');

for my $dimensions (384, 1536)
{
	$node->safe_psql('postgres', qq{
		CREATE TABLE t (i int, v vector($dimensions));
		ALTER TABLE t ALTER v SET STORAGE EXTERNAL;
		INSERT INTO t SELECT i, (SELECT array_agg(sin(i * j)) FROM generate_series(1, $dimensions) j) FROM generate_series(1, 4000) i;
		CREATE INDEX idx ON t USING ivfremote (v vector_l2_ops) WITH (lists = 5, flush_threshold = 1);
		ANALYZE t});
	for my $where ('', "WHERE v <-> (SELECT v FROM t WHERE i = 5) < 1")
	{
		plan_is("$where ORDER BY v <-> (SELECT v FROM t WHERE i = 5) LIMIT 10", $index_scan, "$dimensions dimensions $where");
	}
	$node->safe_psql('postgres', 'DROP TABLE t');
}

no_crash($node);
$node->stop;
done_testing();
