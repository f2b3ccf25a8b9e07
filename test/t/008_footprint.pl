# What an index costs the server: memory, file descriptors and threads of a session stay as they are, and with a server little
# goes into WAL and pages.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use Test::More;

plan skip_all => 'needs /proc' unless -r '/proc/self/status';
my $node = new_node('footprint', conf => "shared_buffers = 32MB\nmax_parallel_maintenance_workers = 2\nmaintenance_work_mem = 64MB\nwal_compression = off\n");
add_store($node, 'store');
$node->safe_psql('postgres', q{
SELECT setseed(0.5);
CREATE TABLE items AS
  SELECT i AS id, (SELECT array_agg(random()::real) FROM generate_series(1, 128) WHERE i > 0) AS v FROM generate_series(1, 20000) i;
CREATE TABLE small AS SELECT id, v[1:32] AS v FROM items WHERE id <= 2000;
CREATE TABLE queries AS SELECT * FROM small WHERE id <= 100;
VACUUM ANALYZE;
});

my $usage = q{SELECT (regexp_match(pg_read_file('/proc/self/status'), 'VmRSS:\s+(\d+)'))[1], (regexp_match(pg_read_file('/proc/self/status'), 'RssAnon:\s+(\d+)'))[1],
  (SELECT count(*) FROM pg_ls_dir('/proc/self/fd')), (SELECT count(*) FROM pg_ls_dir('/proc/self/task'));};

# Usage after warming up and after many statements, where QUERY is a row's id: resident and private kB, descriptors, threads
sub usage_over
{
	my ($statement, $times, $warm_up) = @_;
	my $script = "SET enable_seqscan = off;\n";
	for my $part ($warm_up, $times)
	{
		$script .= ($statement =~ s/QUERY/1 + $_ % 100/er) . ";\n" for 1 .. $part;
		$script .= "SELECT 'usage';$usage\n";
	}
	my $out = $node->safe_psql('postgres', $script);
	return map { [ split /\|/ ] } $out =~ /^usage\n(\d+\|\d+\|\d+\|\d+)$/mg;
}

# The bytes of a build, as shares of the rows' own
my $row_bytes = 20_000 * 128 * 4;
my %kinds = (rabitq => { least => 0.125, most => 0.22 }, none => { least => 1, most => 1.1 });
for my $kind ([ 'embedded', 'none' ], [ 'file', 'none' ], [ 'embedded', 'rabitq' ], [ 'file', 'rabitq' ])
{
	my ($place, $quantization) = @$kind;
	my $limits = $kinds{$quantization};
	my $server = $place eq 'file' ? ", server = 'store'" : '';
	$node->safe_psql('postgres', 'CHECKPOINT');
	my $lsn = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
	$node->safe_psql('postgres', "CREATE INDEX items_idx ON items USING ivfremote (v) WITH (flush_threshold = 1, lists = 100, quantization = $quantization$server)");
	my ($wal, $segment, $header, $relation) = split /\|/,
	  $node->safe_psql('postgres', "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '$lsn'), segment_bytes, header_bytes, relation_bytes FROM ivfremote_info('items_idx')");
	note(sprintf('%s %s: segment %d bytes, WAL %.2f %%, header %.2f %%, relation %.2f %%', $place, $quantization, $segment, map { 100 * $_ / $segment } $wal, $header, $relation));
	cmp_ok($segment, '>=', $limits->{least} * $row_bytes, "$place $quantization: segment bytes");
	cmp_ok($segment, '<=', $limits->{most} * $row_bytes, "$place $quantization: and no more");
	cmp_ok($header, '<=', 0.03 * $row_bytes, "$place $quantization: header bytes");
	if ($place eq 'file')
	{
		cmp_ok($wal, '<', 0.03 * $row_bytes, "file $quantization: WAL of a build");
		cmp_ok($relation, '==', $header, "file $quantization: the relation is the header");
	}
	else
	{
		cmp_ok($wal, '<', 1.1 * $relation, "embedded $quantization: WAL of a build");
	}
	$node->safe_psql('postgres', 'DROP INDEX items_idx');
}

for my $place ('embedded', 'file')
{
	my $server = $place eq 'file' ? ", server = 'store'" : '';
	$node->safe_psql('postgres', "CREATE INDEX small_idx ON small USING ivfremote (v) WITH (flush_threshold = 1, lists = 20$server)");

	# Scans: through an index and an empty result, a rescan, an error
	my %statements = (
		scan => q{SELECT count(*) FROM (SELECT id FROM small ORDER BY v <-> (SELECT v FROM queries WHERE id = QUERY) LIMIT 10) x},
		rescans => q{SELECT count(*) FROM (SELECT v FROM queries LIMIT 10) q, LATERAL (SELECT id FROM small ORDER BY v <-> q.v LIMIT 3) x},
		error => q{SELECT attempt('SELECT id FROM small ORDER BY v <-> ARRAY[1, 2] LIMIT 1')});
	for my $statement (sort keys %statements)
	{
		my $times = $statement eq 'rescans' ? 100 : 1000;
		my ($before, $after) = usage_over($statements{$statement}, $times, 60);
		note("$place $statement: " . join(' ', @$before) . ' -> ' . join(' ', @$after) . ' (VmRSS, RssAnon, descriptors, threads)');
		cmp_ok($after->[1] - $before->[1], '<', 1024, "$place: $times x $statement: no memory kept");
		is($after->[2], $before->[2], "$place: $times x $statement: no file left open");
		is($after->[3], 1, "$place: $times x $statement: one thread");
	}
	my ($before, $after) = usage_over("INSERT INTO small SELECT id, v FROM queries LIMIT 1; SELECT attempt('INSERT INTO small VALUES (0, ARRAY[1, 2])')", 500, 60);
	cmp_ok($after->[1] - $before->[1], '<', 1024, "$place: inserts: no memory kept");

	ok($node->poll_query_until('postgres', q{SELECT idx_scan >= 2000 FROM pg_stat_user_indexes WHERE indexrelname = 'small_idx'}), "$place: the scans went through the index");

	# Builds, one of them failing
	($before, $after) = usage_over("REINDEX INDEX small_idx", 3, 1);
	note("$place build: " . join(' ', @$before) . ' -> ' . join(' ', @$after));
	is($after->[3], 1, "$place: no thread is left after a build");
	is($after->[2], $before->[2], "$place: no file is left open after a build");
	cmp_ok($after->[1] - $before->[1], '<', 16 * 1024, "$place: builds keep no memory");
	($before, $after) = usage_over("SET statement_timeout = 400; SELECT attempt('CREATE INDEX x ON items USING ivfremote (v) WITH (flush_threshold = 1, lists = 9000)'); RESET statement_timeout", 3, 1);
	is($after->[3], 1, "$place: no thread is left after a cancelled build");
	$node->safe_psql('postgres', 'DROP INDEX small_idx');
}
no_crash($node);
$node->stop;
done_testing();
