# Standbys and restores while the primary inserts, flushes, compacts and vacuums: equal results at equal places in the log, promotion,
# and points in time before a flush, a compaction and DROP INDEX.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dims = 16;
my $primary = new_node('primary', init => { allows_streaming => 1, has_archiving => 1 }, conf => "wal_consistency_checking = 'generic'\nwal_keep_size = 1GB\n");
my $store = add_store($primary, 'store');
my @tables = (
	[ 'embedded', '<->', 'v', 'flush_threshold = 150, lists = 8' ],
	[ 'file', '<=>', 'v real_cosine_ops', "flush_threshold = 150, lists = 8, server = 'store'" ],
	[ 'untrained', '<#>', 'v real_ip_ops', 'flush_threshold = 100000, quantization = none' ]);
$primary->safe_psql('postgres', "CREATE SEQUENCE ids START 10001;
	CREATE TABLE points AS SELECT i AS id, point(i, $dims) AS v FROM generate_series(1, 1000) i");
$primary->safe_psql('postgres', "CREATE TABLE $_->[0] AS SELECT * FROM points WHERE id <= 400;
	CREATE INDEX $_->[0]_idx ON $_->[0] USING ivfremote ($_->[2]) WITH ($_->[3])") for @tables;
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "max_standby_streaming_delay = 200ms\n");
$standby->start;
my $start_lsn = $primary->lsn('insert');

# One round of everything; what it does to the index is different each time.
sub work
{
	my ($round) = @_;
	for my $table (@tables)
	{
		my $source = $table->[0];
		my $delete = $round % 4 == 3 ? "DELETE FROM $source" : "DELETE FROM $source WHERE (id * 7919 + $round) % 5 < 2";
		$primary->safe_psql('postgres', "$delete;
			INSERT INTO $source SELECT nextval('ids'), v FROM points WHERE (id + $round) % 5 = 0;
			UPDATE $source SET v = point(id % 911, $dims) WHERE id % 11 = $round");
		$primary->safe_psql('postgres', "SELECT ivfremote_flush('${source}_idx')") if $round % 2;
		$primary->safe_psql('postgres', "CALL ivfremote_compact('${source}_idx')") if $round % 3 == 2;
		$primary->safe_psql('postgres', "VACUUM $source");
	}
	return;
}

# -- Equal results at equal places in the log

# Beside each round a reader on the standby compares index and table in one snapshot. A conflict between two statements ends it.
sub reading
{
	my ($round) = @_;
	return join("\n", map { my $i = $_; map { qq{BEGIN ISOLATION LEVEL REPEATABLE READ;
	SELECT compare('$_->[0]', '$_->[1]', point($i, $dims), 1000);
	SELECT compare('$_->[0]', '$_->[1]', point($i + 50, $dims), 30);
	COMMIT;} } @tables } 5 * $round - 4 .. 5 * $round);
}
my ($out, $err) = ('', '');
for my $round (1 .. 8)
{
	my $reader = start_psql($standby, reading($round));
	work($round);
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
	for my $table (@tables)
	{
		my ($source, $op) = @$table;
		my $search = "SET enable_seqscan = off; SET ivfremote.probes = 3; SELECT string_agg(id::text, ',') FROM (SELECT id FROM $source ORDER BY v $op point(77, $dims) LIMIT 20) x";
		is($standby->safe_psql('postgres', $search), $primary->safe_psql('postgres', $search), "$source: standby and primary agree after round $round");
		kept_ok($standby, $source, $op, $dims, "$source: standby, round $round") if $round % 4 == 0;
	}
	my ($rows, $errors) = finish_psql($reader);
	$out .= $rows;
	$err .= $errors;
}
my @wrong = grep { $_ !~ /^(same)?$/ } split /\n/, $out;
push @wrong, grep { /ERROR|FATAL/ && !/conflict with recovery|current transaction is aborted/ } split /\n/, $err;
is(join('; ', @wrong), '', 'a reader on the standby gets right rows, or the conflict');
cmp_ok(scalar(grep { $_ eq 'same' } split /\n/, $out), '>', 40, 'mostly right rows');
is($standby->safe_psql('postgres', "SELECT count(*) FROM ivfremote_verify('$_->[0]_idx')"), 0, "$_->[0]: the standby's pages and objects are whole") for @tables;
my $said;
$standby->psql('postgres', "SELECT ivfremote_flush('embedded_idx')", stderr => \$said);
like($said, qr/cannot execute ivfremote_flush\(\) during recovery/, 'a standby does not flush');

# -- The log needs no library to be replayed

my $end_lsn = $primary->lsn('insert');
my %managers;

sub dump_log
{
	my ($dump, $error) = run_command([ $primary->installed_command('pg_waldump'), '-p', $primary->data_dir . '/pg_wal', '-s', $start_lsn, '-e', $end_lsn, @_ ]);
	note $error if $error;
	return $dump;
}

for my $table (@tables)
{
	my $relation = $primary->safe_psql('postgres', "SELECT (SELECT oid FROM pg_tablespace WHERE spcname = 'pg_default') || '/' || (SELECT oid FROM pg_database WHERE datname = 'postgres') || '/' || pg_relation_filenode('$table->[0]_idx')");
	$managers{$_} = 1 for dump_log('-R', $relation) =~ /^rmgr: (\S+)/mg;
}
is(join(' ', grep { $_ ne 'XLOG' } sort keys %managers), 'Generic', 'records about pages of indexes are of generic WAL, or full page images');
like(dump_log('-r', 'Btree'), qr/REUSE_PAGE/, 'pages were used again');
SKIP:
{
	my $startup = $standby->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'});
	skip 'no /proc', 1 unless -r "/proc/$startup/maps";
	unlike(slurp_file("/proc/$startup/maps"), qr/ivfremote\.so/, 'the process that replays has not loaded the library');
}

# -- Points in time

my %expected;
sub restore_point
{
	my ($name) = @_;
	$primary->safe_psql('postgres', "SELECT pg_create_restore_point('$name')");
	$expected{$name} = join ' ', map { $primary->safe_psql('postgres', "SELECT count(*), sum(id) FROM $_->[0]") } @tables;
	return;
}
$primary->safe_psql('postgres', "INSERT INTO $_->[0] SELECT nextval('ids'), v FROM points WHERE id <= 100") for @tables;
restore_point('before_flush');
$primary->safe_psql('postgres', "DELETE FROM $_->[0] WHERE id % 3 = 0; SELECT ivfremote_flush('$_->[0]_idx')") for @tables;
restore_point('before_compaction');
$primary->safe_psql('postgres', "CALL ivfremote_compact('$_->[0]_idx')") for @tables;
$primary->safe_psql('postgres', "VACUUM $_->[0]") for @tables;
restore_point('before_drop');
$primary->safe_psql('postgres', "INSERT INTO $_->[0] SELECT * FROM points; DROP INDEX $_->[0]_idx") for @tables;
# Not by a later place in the log: whatever comes meanwhile, its file is archived when it is full
my $last_file = $primary->safe_psql('postgres', 'SELECT pg_walfile_name(pg_switch_wal())');
$primary->poll_query_until('postgres', "SELECT last_archived_wal >= '$last_file' FROM pg_stat_archiver") or die "$last_file is not archived";

for my $point ('before_flush', 'before_compaction', 'before_drop')
{
	my $restored = PostgreSQL::Test::Cluster->new($point);
	$restored->init_from_backup($primary, 'base', has_restoring => 1, standby => 0);
	$restored->append_conf('postgresql.conf', "recovery_target_name = '$point'\nrecovery_target_action = promote\narchive_mode = off\n");
	$restored->start;
	$restored->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die;
	is(join(' ', map { $restored->safe_psql('postgres', "SELECT count(*), sum(id) FROM $_->[0]") } @tables), $expected{$point}, "$point: the rows of that time");
	for my $table (@tables)
	{
		my ($source, $op) = @$table;
		kept_ok($restored, $source, $op, $dims, "$point: $source");
		$restored->safe_psql('postgres', "INSERT INTO $source SELECT nextval('ids'), v FROM points WHERE id <= 200; SELECT ivfremote_flush('${source}_idx')");
		$restored->safe_psql('postgres', "DELETE FROM $source WHERE id % 2 = 0");
		$restored->safe_psql('postgres', "VACUUM $source");
		kept_ok($restored, $source, $op, $dims, "$point: $source, after more work");
		is($restored->safe_psql('postgres', "SELECT string_agg(problem, '; ') FROM ivfremote_verify('${source}_idx', true)"), '', "$point: $source is whole");
	}
	no_crash($restored);
	$restored->stop;
}

# -- Promotion

$primary->safe_psql('postgres', "CREATE INDEX $_->[0]_idx ON $_->[0] USING ivfremote ($_->[2]) WITH ($_->[3])") for @tables;
work(9);
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
my %before = map { $_ => 1 } files_below($store, qr/\.seg/);
$primary->stop;
$standby->promote;
for my $table (@tables)
{
	my ($source, $op) = @$table;
	kept_ok($standby, $source, $op, $dims, "promoted: $source");
	$standby->safe_psql('postgres', "INSERT INTO $source SELECT nextval('ids'), v FROM points WHERE id <= 300; SELECT ivfremote_flush('${source}_idx')");
	$standby->safe_psql('postgres', "DELETE FROM $source WHERE id % 2 = 0");
	$standby->safe_psql('postgres', "CALL ivfremote_compact('${source}_idx')");
	$standby->safe_psql('postgres', "VACUUM $source");
	kept_ok($standby, $source, $op, $dims, "promoted: $source, after more work");
	is($standby->safe_psql('postgres', "SELECT string_agg(problem, '; ') FROM ivfremote_verify('${source}_idx', true)"), '', "promoted: $source is whole");
}
my %incarnations = map { m{^([0-9a-f]{32})/} ? ($1 => 1) : () } grep { !$before{$_} } files_below($store, qr/\.seg/);
my %old = map { m{^([0-9a-f]{32})/} ? ($1 => 1) : () } keys %before;
is(scalar(keys %incarnations), 1, 'the promoted server writes new objects');
is(scalar(grep { $old{$_} } keys %incarnations), 0, 'under an incarnation of its own');

no_crash($primary);
no_crash($standby);
unlike(slurp_file($standby->logfile), qr/inconsistent page found/, "standby: every replayed page is the primary's");
$standby->stop;
done_testing();
