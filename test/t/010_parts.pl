# A segment in several objects: built, searched, damaged.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use Test::More;

my $dims = 32;
my $node = new_node('parts');
need_faults($node);
my $directory = add_store($node, 'store');
$node->safe_psql('postgres', "CREATE TABLE items (id int PRIMARY KEY, v real[]); INSERT INTO items SELECT i, point(i, $dims) FROM generate_series(1, 4000) i");
# Blocks start at multiples of 64, also in parts
for my $parts ([ 'rabitq', 13_056 ], [ 'rabitq', 45_056 ], [ 'none', 45_056 ], [ 'none', 64_000 ], [ 'none', 200_000 ])
{
	my ($quantization, $part_bytes) = @$parts;
	my %before = map { $_ => 1 } files_below($directory, qr/\.seg/);
	$node->safe_psql('postgres', "SET ivfremote.test_part_bytes = $part_bytes; DROP INDEX IF EXISTS items_idx; CREATE INDEX items_idx ON items USING ivfremote (v) WITH (flush_threshold = 1, lists = 80, quantization = $quantization, server = 'store')");
	my ($objects, $bytes) = split /\|/, $node->safe_psql('postgres', q{SELECT objects, bytes FROM ivfremote_segments('items_idx')});
	my @files = grep { !$before{$_} } files_below($directory, qr/\.seg/);
	is(scalar(@files), $objects, "$quantization, parts of $part_bytes bytes: as many objects as are said");
	cmp_ok($objects, '>', 2, "$quantization, parts of $part_bytes bytes: several objects");
	ok(!(grep { -s "$directory/$_" > $part_bytes } @files), "$quantization, parts of $part_bytes bytes: none is larger");
	kept_ok($node, 'items', '<->', $dims, "$quantization, parts of $part_bytes bytes: searched");
	is($node->safe_psql('postgres', "SET enable_seqscan = off; SET ivfremote.probes = 80; SELECT count(*) FROM (SELECT id FROM items ORDER BY v <-> point(42, $dims) LIMIT 10) x; SELECT waves FROM ivfremote_last_scan()"), "10\n1", 'in one wave');
	my ($last) = grep { /\.seg\.1$/ } @files;
	rename "$directory/$last", "$directory/away" or die $!;
	error_like($node, 'SET enable_seqscan = off; SET ivfremote.probes = 80', "SELECT id FROM items ORDER BY v <-> point(42, $dims) LIMIT 10", qr/^58P01 .*\.seg\.1"/, 'a part is missing');
	rename "$directory/away", "$directory/$last" or die $!;
}
# Parts too small for one block
error_like($node, 'SET ivfremote.test_part_bytes = 100', q{CREATE INDEX small_idx ON items USING ivfremote (v) WITH (flush_threshold = 1, server = 'store')}, qr/does not fit a part/, 'parts too small give an error');
no_crash($node);
$node->stop;
done_testing();
