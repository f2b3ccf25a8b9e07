# A streaming standby answers from its own copy of an index's pages and from the shared store, sees inserts and vacuum, and
# takes over. Every replayed page is compared with the primary's.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dims = 24;
my $primary = new_node('primary', init => { allows_streaming => 1 },
	conf => "wal_consistency_checking = 'generic'\nhot_standby_feedback = on\n");
my $directory = add_store($primary, 'store');
$primary->safe_psql('postgres', "CREATE TABLE before (id int, v real[]); INSERT INTO before SELECT i, point(i, $dims) FROM generate_series(1, 2000) i;
	CREATE INDEX before_idx ON before USING ivfremote (v) WITH (flush_threshold = 1, lists = 20)");
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

# Table, right-hand side of the comparison, options of its index
my @tables = (
	[ 'embedded', '<->', 'v', 'flush_threshold = 1, lists = 20' ],
	[ 'file', '<=>', 'v real_cosine_ops', "flush_threshold = 1, lists = 20, server = 'store'" ],
	[ 'floats', '<->', 'v', 'flush_threshold = 1, lists = 20, quantization = none' ],
	[ 'untrained', '<#>', 'v real_ip_ops', 'flush_threshold = 100000' ]);

sub both_same
{
	my ($name) = @_;
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
	kept_ok($standby, 'before', '<->', $dims, "standby: an index of the base backup, $name");
	for my $table (@tables)
	{
		my ($source, $op) = @$table;
		kept_ok($standby, $source, $op, $dims, "standby: $source, $name");
		my $search = "SET enable_seqscan = off; SET ivfremote.probes = 5; SELECT string_agg(id::text, ',') FROM (SELECT id FROM $source ORDER BY v $op point(77, $dims) LIMIT 20) x";
		is($standby->safe_psql('postgres', $search), $primary->safe_psql('postgres', $search), "standby and primary agree: $source, $name");
	}
	return;
}

for my $table (@tables)
{
	my ($source, $op, $column, $options) = @$table;
	$primary->safe_psql('postgres', "CREATE TABLE $source (id int, v real[]); INSERT INTO $source SELECT i, point(i, $dims) FROM generate_series(1, 2500) i;
		CREATE INDEX ${source}_idx ON $source USING ivfremote ($column) WITH ($options)");
}
both_same('after CREATE INDEX');
$primary->safe_psql('postgres', "INSERT INTO $_->[0] SELECT i, point(i, $dims) FROM generate_series(3001, 3300) i") for @tables;
both_same('after INSERT');
# A reader on the standby sees one snapshot while the primary goes on
my $psql = start_psql($standby, "SET enable_seqscan = off; BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM (SELECT id FROM embedded ORDER BY v <-> point(7, $dims) LIMIT 10) x;
SELECT pg_sleep(4);
SET ivfremote.probes = 20;
SET ivfremote.epsilon = 100;
SELECT count(*) FROM (SELECT id FROM embedded ORDER BY v <-> point(7, $dims) LIMIT 5000) x;
SELECT compare('embedded', '<->', point(7, $dims), 5000);
COMMIT;");
$standby->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'beside' AND wait_event = 'PgSleep'}) or die;
$primary->safe_psql('postgres', "DELETE FROM $_->[0] WHERE id % 4 = 0") for @tables;
$primary->safe_psql('postgres', "VACUUM $_->[0]") for @tables;
$primary->safe_psql('postgres', "INSERT INTO $_->[0] SELECT i, point(-i, $dims) FROM generate_series(4001, 4600) i") for @tables;
my ($out, $err) = finish_psql($psql);
is("$out$err", "10\n\n2800\nsame\n", 'a snapshot on the standby outlives DELETE, VACUUM and INSERT');
$primary->safe_psql('postgres', "VACUUM $_->[0]") for @tables;
both_same('after DELETE, VACUUM, INSERT');
$primary->safe_psql('postgres', "UPDATE $_->[0] SET v = point(id + 3, $dims) WHERE id % 3 = 0; REINDEX INDEX $_->[0]_idx") for @tables;
both_same('after UPDATE, REINDEX');
$primary->safe_psql('postgres', "INSERT INTO $_->[0] SELECT i, point(i % 5, $dims) FROM generate_series(5001, 5100) i") for @tables;
# What a standby cannot do
like($standby->safe_psql('postgres', q{SELECT attempt('REINDEX INDEX file_idx')}), qr/^25006/, 'standby: no REINDEX');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is($standby->safe_psql('postgres', q{SELECT trained, pending_rows FROM ivfremote_info('embedded_idx')}), 't|100', 'standby: ivfremote_info');
# A restart of the standby in recovery
$standby->restart;
both_same('after a restart');

# It takes over
my ($old) = map { m{^([0-9a-f]{32})/} } files_below($directory, qr/\.seg$/);
$primary->stop;
$standby->promote;
$standby->safe_psql('postgres', "INSERT INTO $_->[0] SELECT i, point(i, $dims) FROM generate_series(6001, 6100) i") for @tables;
kept_ok($standby, $_->[0], $_->[1], $dims, "promoted: $_->[0]") for @tables;
$standby->safe_psql('postgres', "DELETE FROM $_->[0] WHERE id % 2 = 0") for @tables;
$standby->safe_psql('postgres', "VACUUM $_->[0]") for @tables;
kept_ok($standby, $_->[0], $_->[1], $dims, "promoted, vacuumed: $_->[0]") for @tables;
$standby->safe_psql('postgres', 'REINDEX INDEX file_idx');
kept_ok($standby, 'file', '<=>', $dims, 'promoted, rebuilt: file');
my %incarnations = map { m{^([0-9a-f]{32})/} ? ($1 => 1) : () } files_below($directory, qr/\.seg$/);
is(scalar(keys %incarnations), 2, 'the promoted server writes under an incarnation of its own');
ok($incarnations{$old}, 'and what the primary wrote is still there');

no_crash($primary, 'primary: no crash in the log');
no_crash($standby, 'standby: no crash, no page unlike the primary\'s');
unlike(slurp_file($standby->logfile), qr/inconsistent page found/, 'standby: every replayed page is the primary\'s');
$standby->stop;
done_testing();
