# A crash loses nothing that was committed, and leaves no index that was not: right after CREATE INDEX, after INSERT, UPDATE,
# DELETE and VACUUM, and in the middle of a build.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $dims = 20;
my $node = new_node('crash', conf => "full_page_writes = on\ncheckpoint_timeout = 1h\nmax_wal_size = 10GB\n");
my $directory = add_store($node, 'store');

sub crash
{
	$node->stop('immediate');
	$node->start;
	return;
}

my @indexes = (
	[ 'embedded', 'flush_threshold = 1, lists = 30' ],
	[ 'file', "flush_threshold = 1, lists = 30, server = 'store'" ],
	[ 'floats', 'flush_threshold = 1, lists = 30, quantization = none' ],
	[ 'untrained', 'flush_threshold = 1000000' ]);
for my $index (@indexes)
{
	my ($name, $options) = @$index;
	$node->safe_psql('postgres', qq{
		CREATE TABLE $name (id int, v real[]);
		INSERT INTO $name SELECT i, point(i, $dims) FROM generate_series(1, 3000) i;
		CREATE INDEX ${name}_idx ON $name USING ivfremote (v) WITH ($options);
		CREATE TABLE ${name}_wide (id int, v real[]);
		CREATE INDEX ${name}_wide_idx ON ${name}_wide USING ivfremote (v) WITH ($options);
	});
}
crash();
kept_ok($node, $_->[0], '<->', $dims, "$_->[0]: after CREATE INDEX") for @indexes;
is($node->safe_psql('postgres', "SELECT trained, segment_rows FROM ivfremote_info('${_}_idx')"), 't|3000', "$_: trained")
  for 'embedded', 'file';

# Rows pending, with overflow pages too
for my $index (@indexes)
{
	my ($name) = @$index;
	$node->safe_psql('postgres', qq{
		INSERT INTO $name SELECT i, point(i, $dims) FROM generate_series(3001, 3500) i;
		INSERT INTO ${name}_wide SELECT i, point(i % 3, 3000) FROM generate_series(1, 20) i;
	});
}
crash();
for my $index (@indexes)
{
	my ($name) = @$index;
	kept_ok($node, $name, '<->', $dims, "$name: after INSERT");
	kept_ok($node, "${name}_wide", '<->', 3000, "$name: after INSERT of wide rows");
}
is($node->safe_psql('postgres', "SELECT count(*) FROM $_->[0]"), 3500, "$_->[0]: rows") for @indexes;

# An insert that was not committed
for my $index (@indexes)
{
	my ($name) = @$index;
	my $psql = start_psql($node, "BEGIN; INSERT INTO $name SELECT i, point(i, $dims) FROM generate_series(5001, 5050) i; SELECT pg_switch_wal(); SELECT pg_sleep(100);");
	$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'beside' AND query LIKE '%pg_sleep(100)%' AND wait_event = 'PgSleep'})
	  or die 'the insert does not end';
	crash();
	eval { finish_psql($psql) };
	kept_ok($node, $name, '<->', $dims, "$name: after an INSERT without COMMIT");
}

# After DELETE and VACUUM, TIDs are used again
for my $index (@indexes)
{
	my ($name) = @$index;
	$node->safe_psql('postgres', "DELETE FROM $name WHERE id % 3 = 0");
	$node->safe_psql('postgres', "VACUUM $name");
	$node->safe_psql('postgres', "INSERT INTO $name SELECT i, point(-i, $dims) FROM generate_series(6001, 6500) i");
}
crash();
kept_ok($node, $_->[0], '<->', $dims, "$_->[0]: after DELETE, VACUUM, INSERT") for @indexes;
$node->safe_psql('postgres', "UPDATE $_->[0] SET v = point(id + 1, $dims) WHERE id % 2 = 0") for @indexes;
crash();
kept_ok($node, $_->[0], '<->', $dims, "$_->[0]: after UPDATE") for @indexes;
$node->safe_psql('postgres', "REINDEX INDEX $_->[0]_idx") for @indexes;
crash();
kept_ok($node, $_->[0], '<->', $dims, "$_->[0]: after REINDEX") for @indexes;

# In the middle of a build: no index, the server starts, and the next build works
my $faults = $node->safe_psql('postgres', q{LOAD 'ivfremote'; SELECT count(*) FROM pg_settings WHERE name = 'ivfremote.test_fault'});
SKIP:
{
	skip 'this build has no fault injection (make TEST_FAULTS=1)', 4 unless $faults;
	my @before = files_below($directory, qr/\.seg/);
	my $psql = start_psql($node, "SET ivfremote.test_fault = 'put_stall'; CREATE INDEX half_idx ON file USING ivfremote (v) WITH (flush_threshold = 1, server = 'store')");
	$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_progress_create_index WHERE phase LIKE '%writing segment%'})
	  or die 'the build does not write';
	crash();
	eval { finish_psql($psql) };
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relname = 'half_idx'}), 0, 'no half index');
	is_deeply([ files_below($directory, qr/\.seg(\.\d+)?$/) ], \@before, 'no half object');
	kept_ok($node, 'file', '<->', $dims, 'the other index is as it was');
	$node->safe_psql('postgres', "CREATE INDEX half_idx ON file USING ivfremote (v) WITH (flush_threshold = 1, server = 'store')");
	kept_ok($node, 'file', '<->', $dims, 'and a new one can be built');
}
my $psql = start_psql($node, "BEGIN; CREATE INDEX open_idx ON embedded USING ivfremote (v real_ip_ops) WITH (flush_threshold = 1); SELECT pg_switch_wal(); SELECT pg_sleep(100);");
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'beside' AND wait_event = 'PgSleep'})
  or die 'the build does not end';
crash();
eval { finish_psql($psql) };
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relname = 'open_idx'}), 0, 'no index of an open transaction');

# A prepared transaction survives
$node->append_conf('postgresql.conf', "max_prepared_transactions = 2\n");
$node->restart;
$node->safe_psql('postgres', "BEGIN; INSERT INTO $_->[0] SELECT i, point(i, $dims) FROM generate_series(7001, 7010) i; PREPARE TRANSACTION '$_->[0]'; COMMIT PREPARED '$_->[0]'")
  for @indexes;
$node->safe_psql('postgres', "BEGIN; INSERT INTO embedded SELECT i, point(i, $dims) FROM generate_series(7011, 7020) i; PREPARE TRANSACTION 'open'");
crash();
kept_ok($node, 'embedded', '<->', $dims, 'before COMMIT PREPARED');
$node->safe_psql('postgres', "COMMIT PREPARED 'open'");
kept_ok($node, $_->[0], '<->', $dims, "$_->[0]: after COMMIT PREPARED") for @indexes;

no_crash($node);
$node->stop;
done_testing();
