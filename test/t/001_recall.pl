# Recall against a sequential scan, for every metric, in pages and in a server: good at moderate probes, growing with them,
# and complete when all lists are probed.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use Test::More;

my $lists = 100;
my $node = new_node('recall', conf => "shared_buffers = 256MB\nmax_parallel_maintenance_workers = 2\n");
add_store($node, 'store');
# Overlapping clusters: neighbours lie across the borders of lists
add_items($node, 'items', 20_000, 32, 300);

for my $metric ([ 'l2', '<->' ], [ 'ip', '<#>' ], [ 'cosine', '<=>' ])
{
	my ($ops, $op) = @$metric;
	for my $place ('embedded', 'file')
	{
		my $server = $place eq 'file' ? ", server = 'store'" : '';
		$node->safe_psql('postgres',
			"CREATE INDEX items_idx ON items USING ivfremote (v real_${ops}_ops) WITH (lists = $lists, flush_threshold = 1$server)");
		my %recall;
		for my $probes (1, 4, 20, $lists)
		{
			$recall{$probes} = $node->safe_psql('postgres',
				# Bounds that hold: what is missing is in lists not probed
				"SET ivfremote.epsilon = 10; SET ivfremote.probes = $probes; SELECT recall('items', '$op', ARRAY(SELECT generate_series(7, 20000, 497)), 10)");
		}
		note("$ops $place: recall\@10 " . join(', ', map { "$recall{$_} at $_" } sort { $a <=> $b } keys %recall));
		cmp_ok($recall{20}, '>=', 0.9, "$ops $place: recall at 20 of $lists lists");
		cmp_ok($recall{$lists}, '==', 1, "$ops $place: recall at all lists");
		cmp_ok($recall{1}, '<=', $recall{4}, "$ops $place: more probes, no fewer neighbours");
		cmp_ok($recall{4}, '<=', $recall{20}, "$ops $place: and more still");
		cmp_ok($recall{1}, '<', 1, "$ops $place: the test can tell");
		$node->safe_psql('postgres', 'DROP INDEX items_idx');
	}
}

# Created empty and filled, an index gives what the table does
$node->safe_psql('postgres', q{
	CREATE TABLE later (LIKE items);
	CREATE INDEX later_idx ON later USING ivfremote (v);
	INSERT INTO later SELECT * FROM items WHERE id <= 3000;
});
cmp_ok($node->safe_psql('postgres', q{SELECT recall('later', '<->', ARRAY(SELECT generate_series(7, 3000, 97)), 10)}),
	'==', 1, 'an index created empty is exact');

no_crash($node);
$node->stop;
done_testing();
