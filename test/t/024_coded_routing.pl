# Lists so many that they are ranked by codes of their centroids: scans and inserts read only what they need of the routing,
# and find what they should.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my ($rows, $dims, $lists) = (6000, 384, 2000);
my $node = new_node('coded_routing', conf => "fsync = off\nshared_buffers = 256MB\n");
need_faults($node);

# Centroids as floats are 3 MB: beyond 1 MB there are codes.
my %operators = (l2 => [ '<->', 'v' ], ip => [ '<#>', 'v real_ip_ops' ], cosine => [ '<=>', 'v real_cosine_ops' ]);
for my $table (sort keys %operators)
{
	add_items($node, $table, $rows, $dims, 40);
	$node->safe_psql('postgres', "CREATE INDEX ${table}_idx ON $table USING ivfremote ($operators{$table}[1]) WITH (flush_threshold = 1, lists = $lists)");
}

# Pages of the index that a statement, given as one of a session that ran it before, reads.
sub pages
{
	my ($statement, $settings) = @_;
	my $plan = $node->safe_psql('postgres', "SET enable_seqscan = off; SET enable_sort = off; $settings;
		CREATE TEMP TABLE once AS $statement; EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) $statement");
	die $plan unless $plan =~ /Index Scan using.*?Buffers: shared hit=(\d+)/s;
	return $1;
}

for my $table (sort keys %operators)
{
	my $op = $operators{$table}[0];
	is($node->safe_psql('postgres', "SELECT DISTINCT compare('$table', '$op', v, 100) FROM $table WHERE id % 1300 = 7"),
		'same', "$table: all lists probed");
	my $queries = join ',', map { $_ * 37 } 1 .. 60;
	cmp_ok($node->safe_psql('postgres', "SELECT recall('$table', '$op', ARRAY[$queries], 10)"),
		'>=', 0.93, "$table: recall at the default target of 0.95");

	# Whether codes and the like are the session's or read from their pages is the same to the answer
	my $answers = "SELECT md5(string_agg((through_index('$table', '$op', v, 20))::text, ',' ORDER BY id)) FROM $table WHERE id % 100 = 3";
	for my $probes (1, 10, 999, 1000, 2000)
	{
		my ($kept, $streamed) = split /\n/, $node->safe_psql('postgres',
			"SET ivfremote.probes = $probes; $answers; SET ivfremote.test_stream_routing = on; $answers");
		is($streamed, $kept, "$table: $probes lists, routing from its pages");
	}

	# The rows' own pages are few: 10 lists of 3 rows
	my $statement = "SELECT id FROM $table ORDER BY v $op (SELECT array_fill(0.5::real, ARRAY[$dims])) LIMIT 1";
	my $kept = pages($statement, 'SET ivfremote.probes = 10');
	my $streamed = pages($statement, 'SET ivfremote.probes = 10; SET ivfremote.test_stream_routing = on');
	cmp_ok($kept, '<', 0.75 * $lists * 2 * $dims / 8128, "$table: a scan reads the centroids it compares exactly, not all");
	cmp_ok($streamed, '>', $kept + 15, "$table: without a copy codes are read, too");
}

# Rows that are inserted go where the build would have put them
$node->safe_psql('postgres', "CREATE TABLE half AS SELECT * FROM l2; CREATE TABLE rest AS SELECT * FROM l2 WHERE id % 10 = 0; DELETE FROM half WHERE id % 10 = 0;
	CREATE INDEX half_idx ON half USING ivfremote (v) WITH (flush_threshold = 1, lists = $lists); INSERT INTO half SELECT * FROM rest");
is($node->safe_psql('postgres', "SELECT DISTINCT compare('half', '<->', v, 50) FROM half WHERE id % 1300 = 10"),
	'same', 'all lists, rows inserted');
my $inserted = join ',', map { $_ * 70 } 1 .. 50;
cmp_ok($node->safe_psql('postgres', "SET ivfremote.probes = 1; SELECT recall('half', '<->', ARRAY[$inserted], 1)"),
	'>=', 0.9, 'rows that were inserted are found in the list nearest to them');

no_crash($node, 'no crash and no leak in the log');
$node->stop;
done_testing();
