# A scan probes enough lists for the recall it was told to reach, also for queries that are not in the table, and scores fewer
# rows for it than a fixed number of probes would.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $images = '/usr/share/datasets/fashion-mnist';
my ($rows, $queries) = $ENV{LONG} ? (60_000, 1000) : (20_000, 250);
my $k = 10;
plan skip_all => 'needs the package dataset-fashion-mnist' unless -r "$images/train-images-idx3-ubyte.gz";

# Rows of COPY: number and pixels of the first images of a file.
sub images
{
	my ($file, $limit) = @_;
	open(my $pipe, '-|', 'zcat', "$images/$file") or die $!;
	binmode $pipe;
	local $/;
	my $content = <$pipe>;
	close $pipe;
	my ($magic, $count, $height, $width) = unpack('N4', $content);
	die "$file holds no images" unless $magic == 0x803 && $count >= $limit;
	my $pixels = $height * $width;
	return join '', map { $_ + 1 . "\t{" . join(',', unpack('C*', substr($content, 16 + $_ * $pixels, $pixels))) . "}\n" } 0 .. $limit - 1;
}

my $node = new_node('recall_target', conf => "fsync = off\nshared_buffers = 256MB\nmaintenance_work_mem = 256MB\nmax_parallel_maintenance_workers = 1\nmax_wal_size = 4GB\n");
my $directory = PostgreSQL::Test::Utils::tempdir;
append_to_file("$directory/items", images('train-images-idx3-ubyte.gz', $rows));
append_to_file("$directory/queries", images('t10k-images-idx3-ubyte.gz', $queries));
$node->safe_psql('postgres', qq{
CREATE TABLE items (id int, v real[]);
CREATE TABLE queries (id int PRIMARY KEY, v real[]);
ALTER TABLE items ALTER v SET STORAGE PLAIN;
COPY items FROM '$directory/items';
COPY queries FROM '$directory/queries';
CREATE INDEX items_idx ON items USING ivfremote (v) WITH (flush_threshold = 1);
ANALYZE});

# The distances of the nearest rows of each query. Those of ties are equal, so recall counts distances.
sub searches
{
	my ($settings) = @_;
	my $out = $node->safe_psql('postgres', "SET max_parallel_workers_per_gather = 0; $settings;\n" . join '', map { qq{
SELECT string_agg(d::text, ' ') FROM (SELECT v <-> (SELECT v FROM queries WHERE id = $_) AS d FROM items ORDER BY v <-> (SELECT v FROM queries WHERE id = $_) LIMIT $k) x;
SELECT 'scanned ' || rows_scored || ' ' || lists_probed || ' ' || table_rows_read FROM ivfremote_last_scan();} } 1 .. $queries);
	my @scanned = map { [ split / / ] } $out =~ /^scanned (.*)$/mg;
	return ([ map { [ split / / ] } $out =~ /^(\d.*)$/mg ], map { my $column = $_; my $sum = 0; $sum += $_->[$column] for @scanned; $sum / $queries } 0 .. 2);
}

my ($truth) = searches('SET ivfremote.enable_scan = off; SET enable_indexscan = off');
is(scalar(@$truth), $queries, 'true neighbors');
my ($lists) = $node->safe_psql('postgres', q{SELECT lists FROM ivfremote_info('items_idx')});

# Recall, and means for a query: rows scored, lists, rows of the table read
sub measure
{
	my ($settings) = @_;
	my ($found, @means) = searches("SET enable_seqscan = off; $settings");
	my $hits = 0;
	for my $query (0 .. $queries - 1)
	{
		$hits += grep { $_ <= $truth->[$query][-1] } @{ $found->[$query] };
	}
	return ($hits / ($k * $queries), @means);
}

my %fixed;
for my $target (0.90, 0.95, 0.99)
{
	my ($recall, $scored, $probed, $read) = measure("SET ivfremote.recall_target = $target");
	# The fewest probes that reach as much
	my ($low, $high) = (1, $lists);
	while ($low < $high)
	{
		my $probes = int(($low + $high) / 2);
		$fixed{$probes} ||= [ measure("SET ivfremote.probes = $probes") ];
		if ($fixed{$probes}[0] >= $recall) { $high = $probes } else { $low = $probes + 1 }
	}
	$fixed{$low} ||= [ measure("SET ivfremote.probes = $low") ];
	my ($fixed_recall, $fixed_scored, undef, $fixed_read) = @{ $fixed{$low} };
	diag(sprintf('recall target %.2f: recall %.4f, %.0f rows scored, %.1f lists of %d, %.0f rows read; %d probes: recall %.4f, %.0f rows scored (%.2f), %.0f rows read',
			$target, $recall, $scored, $probed, $lists, $read, $low, $fixed_recall, $fixed_scored, $scored / $fixed_scored, $fixed_read));
	cmp_ok($recall, '>=', $target - 0.02, "recall target $target: reached");
	cmp_ok($scored, '<=', 0.9 * $fixed_scored, "recall target $target: fewer rows scored than with $low probes");
}

no_crash($node);
$node->stop;
done_testing();
