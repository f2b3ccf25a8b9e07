# What a session keeps of an index it has searched, centroids, directories and recall curve, is never taken for that of
# another: whatever becomes of the index, its next answer is right, on the primary and on a standby.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Cluster;
use Test::More;

my $dims = 20;
my $primary = new_node('primary', init => { allows_streaming => 1 },
	conf => "fsync = off\nallow_in_place_tablespaces = on\nhot_standby_feedback = on\n");
add_store($primary, 'store');
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

# The same table three times: what happens to one tells nothing of the others
my %tables = (
	coded => [ '<->', 'v', '' ],
	file => [ '<=>', 'v real_cosine_ops', ", server = 'store', bits = 1" ],
	floats => [ '<#>', 'v real_ip_ops', ', quantization = none' ]);
$primary->safe_psql('postgres', q{SET allow_in_place_tablespaces = on; CREATE TABLESPACE other LOCATION ''});
for my $table (sort keys %tables)
{
	my ($op, $column, $options) = @{ $tables{$table} };
	$primary->safe_psql('postgres', qq{
		CREATE TABLE $table (id int PRIMARY KEY, v real[], mark int DEFAULT 0);
		INSERT INTO $table SELECT i, point(i, $dims) FROM generate_series(1, 1200) i;
		CREATE INDEX ${table}_idx ON $table USING ivfremote ($column) WITH (flush_threshold = 1, lists = 20$options)});
}

my $session = start_session($primary);
my $reader = start_session($standby);
ask($_, 'SET enable_seqscan = off') for $session, $reader;

# What a session says of a table: compared with the table, all lists probed; some neighbours by the recall curve; rows read.
sub answers
{
	my ($session, $table) = @_;
	my $op = $tables{$table}[0];
	my ($out, $err) = ask($session, qq{
		SELECT string_agg(DISTINCT compare('$table', '$op', point(i, $dims), 100000), '; ') FROM generate_series(1, 40, 13) i;
		SELECT string_agg(id::text, ' ') FROM (SELECT id FROM $table ORDER BY v $op point(42, $dims) LIMIT 20) x;
		SELECT lists, lists_probed, table_rows_read > 0 FROM ivfremote_last_scan()});
	return "$out$err";
}

# The session with its copy, one without, and one on the standby with its copy agree, and are right.
sub agree
{
	my ($name) = @_;
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
	for my $table (sort keys %tables)
	{
		my $fresh = start_session($primary);
		ask($fresh, 'SET enable_seqscan = off');
		my $expected = answers($fresh, $table);
		quit($fresh);
		like($expected, qr/\Asame\n[\d ]+\n\d+\|\d+\|[tf]\z/, "$name: $table is right");
		is(answers($session, $table), $expected, "$name: $table in the session that knew it");
		is(answers($reader, $table), $expected, "$name: $table in a session on the standby");
	}
	return;
}
agree('at first');
like(answers($reader, 'coded'), qr/t\z/, 'a standby reads the rows of coded indexes');

my $shift = 0;
# Other rows, so that the lists are others too
sub change_rows
{
	my ($table) = @_;
	$shift += 500;
	return "UPDATE $table SET v = point(id + $shift, $dims) WHERE id % 3 > 0; ";
}

# By another session
my @steps = (
	[ 'INSERT', sub { my ($t) = @_; "INSERT INTO $t SELECT i, point(i, $dims) FROM generate_series(2001, 2200) i" } ],
	[ 'DELETE, VACUUM', sub { my ($t) = @_; "DELETE FROM $t WHERE id % 7 = 0; VACUUM $t" } ],
	[ 'REINDEX', sub { my ($t) = @_; change_rows($t) . "REINDEX INDEX ${t}_idx" } ],
	[ 'REINDEX with other lists', sub { my ($t) = @_; change_rows($t) . "ALTER INDEX ${t}_idx SET (lists = 33); REINDEX INDEX ${t}_idx" } ],
	[ 'REINDEX with as many lists', sub { my ($t) = @_; change_rows($t) . "REINDEX INDEX ${t}_idx" } ],
	[ 'REINDEX CONCURRENTLY', sub { my ($t) = @_; change_rows($t) . "REINDEX INDEX CONCURRENTLY ${t}_idx" } ],
	[ 'TRUNCATE', sub { my ($t) = @_; "CREATE TEMP TABLE kept AS TABLE $t; TRUNCATE $t; INSERT INTO $t SELECT * FROM kept; DROP TABLE kept" } ],
	[ 'training after TRUNCATE', sub { my ($t) = @_; "REINDEX INDEX ${t}_idx" } ],
	[ 'DROP, CREATE', sub { my ($t) = @_; change_rows($t) . "DROP INDEX ${t}_idx; CREATE INDEX ${t}_idx ON $t USING ivfremote ($tables{$t}[1]) WITH (flush_threshold = 1, lists = 25$tables{$t}[2])" } ],
	[ 'another code', sub { my ($t) = @_; $t eq 'floats' ? 'SELECT 1' : "ALTER INDEX ${t}_idx SET (bits = 2); REINDEX INDEX ${t}_idx" } ],
	[ 'ALTER INDEX SET TABLESPACE', sub { my ($t) = @_; "ALTER INDEX ${t}_idx SET TABLESPACE other" } ],
	[ 'ALTER TABLE SET TABLESPACE', sub { my ($t) = @_; "ALTER TABLE $t SET TABLESPACE other" } ],
	[ 'CLUSTER', sub { my ($t) = @_; change_rows($t) . "CLUSTER $t USING ${t}_pkey" } ],
	[ 'VACUUM FULL', sub { my ($t) = @_; "DELETE FROM $t WHERE id % 11 = 0; VACUUM FULL $t" } ],
	[ 'a table rewritten', sub { my ($t) = @_; change_rows($t) . "ALTER TABLE $t ALTER mark TYPE bigint" } ],
	[ 'DROP TABLE, CREATE TABLE', sub { my ($t) = @_; "CREATE TEMP TABLE kept AS SELECT * FROM $t WHERE id % 5 > 0; DROP TABLE $t; CREATE TABLE $t (id int PRIMARY KEY, v real[], mark int DEFAULT 0);
		INSERT INTO $t SELECT * FROM kept; CREATE INDEX ${t}_idx ON $t USING ivfremote ($tables{$t}[1]) WITH (flush_threshold = 1, lists = 25$tables{$t}[2]); DROP TABLE kept" } ]);
for my $step (@steps)
{
	my ($name, $statements) = @$step;
	$primary->safe_psql('postgres', $statements->($_)) for sort keys %tables;
	agree($name);
}

# By the session itself, in a transaction that comes to nothing: what it learned in there is wrong after it
sub undone
{
	my ($name, $statements, $begin, $end) = @_;
	for my $table (sort keys %tables)
	{
		my ($out, $err) = ask($session, "$begin; " . $statements->($table));
		is($err, '', "$name: $table");
		like(answers($session, $table), qr/\Asame\n/, "$name: $table inside");
		ask($session, $end);
	}
	agree("after $name");
	return;
}
my $rebuild = sub { my ($t) = @_; change_rows($t) . "DELETE FROM $t WHERE id % 2 = 0; ALTER INDEX ${t}_idx SET (lists = 9); REINDEX INDEX ${t}_idx" };
undone('REINDEX rolled back', $rebuild, 'BEGIN', 'ROLLBACK');
undone('REINDEX of a subtransaction rolled back', $rebuild, 'BEGIN; SAVEPOINT s', 'ROLLBACK TO s; COMMIT');
undone('TRUNCATE rolled back', sub { my ($t) = @_; "TRUNCATE $t; INSERT INTO $t SELECT i, point(-i, $dims) FROM generate_series(1, 300) i; REINDEX INDEX ${t}_idx" }, 'BEGIN', 'ROLLBACK');
undone('DROP INDEX rolled back', sub { my ($t) = @_; "DROP INDEX ${t}_idx; CREATE INDEX ${t}_idx ON $t USING ivfremote ($tables{$t}[1]) WITH (flush_threshold = 1, lists = 5$tables{$t}[2])" }, 'BEGIN', 'ROLLBACK');
undone('REINDEX', $rebuild, 'BEGIN', 'COMMIT');

# More indexes than a session keeps: each time another is forgotten
$primary->safe_psql('postgres', join ';', map {
	"CREATE TABLE many_$_ (id int, v real[]); INSERT INTO many_$_ SELECT i, point(i * $_, 8) FROM generate_series(1, 60) i; CREATE INDEX ON many_$_ USING ivfremote (v) WITH (flush_threshold = 1, lists = 4)" } 1 .. 20);
my ($out, $err) = ask($session, join ';', map { "SELECT compare('many_' || $_, '<->', point($_, 8), 60)" } 1 .. 20, reverse(1 .. 20), map { $_ * 3 % 20 + 1 } 1 .. 40);
is(join(' ', grep { $_ ne 'same' } split(/\n/, $out)) . $err, '', 'many indexes in one session');
agree('after many others');

# The standby takes over, and goes on with the copies its session has
$primary->stop;
$standby->promote;
for my $table (sort keys %tables)
{
	$standby->safe_psql('postgres', change_rows($table) . "REINDEX INDEX ${table}_idx");
	like(answers($reader, $table), qr/\Asame\n/, "promoted: $table");
}
$session->{run}->kill_kill;
quit($reader);

no_crash($primary, 'primary: no crash and no leak in the log');
no_crash($standby, 'standby: no crash and no leak in the log');
$standby->stop;
done_testing();
