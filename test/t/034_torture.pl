# Clients insert, update, delete and search while others flush, compact, vacuum, rebuild and collect garbage; backends and servers are killed, and
# steps of the protocol crash or fail. Each search is compared with an exact answer in its snapshot, and after each round the
# indexes are verified and compared with the tables. ROUNDS and SEED come from the environment (bench/torture.sh); what
# clients do follows from the seed, how they interleave does not.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $rounds = $ENV{ROUNDS} || 20;
my $seed = $ENV{SEED} || 6;
my $dims = 8;
my @tables = ('embedded', 'remote');
my @points = qw(seal.directory seal.published flush.uploaded flush.pages flush.published train.published
  compact.uploaded compact.pages compact.published sweep.page);

my $node = new_node('torture', init => { extra => ['--data-checksums'] },
	conf => "restart_after_crash = on\nfsync = off\nmax_wal_size = 64MB\nmin_wal_size = 32MB\nmaintenance_work_mem = 1MB\nstatement_timeout = '60s'\ndeadlock_timeout = '100ms'\n");
my $store = add_store($node, 'store');
my $faults = $node->safe_psql('postgres', q{LOAD 'ivfremote'; SELECT count(*) FROM pg_settings WHERE name = 'ivfremote.test_point'});
$node->safe_psql('postgres', qq{
-- The vector of a row follows from its id and version
CREATE FUNCTION vector_of(id int, version int) RETURNS real[] LANGUAGE sql IMMUTABLE AS \$\$
  SELECT array_agg((sin(id * 0.7 * j) + 0.3 * cos(version * 1.3 + j) + (id % 5) * (j % 3))::real ORDER BY j) FROM generate_series(1, $dims) j
\$\$;
-- As compare(), but the rows come through a cursor that pauses
CREATE FUNCTION compare_slowly(source text, op text, query real[]) RETURNS text LANGUAGE plpgsql
  SET ivfremote.probes = 1048576 SET ivfremote.epsilon = 100 SET enable_seqscan = off SET enable_sort = off AS \$\$
DECLARE
  expected record := through_table(source, op, query, 1000000);
  found int[] := '{}';
  row record;
BEGIN
  FOR row IN EXECUTE format('SELECT id FROM %s ORDER BY v %s \$1', source, op) USING query LOOP
    IF cardinality(found) IN (5, 70) THEN PERFORM pg_sleep(0.2); END IF;
    found := found || row.id;
  END LOOP;
  RETURN CASE WHEN (SELECT array_agg(i ORDER BY i) FROM unnest(found) i) IS NOT DISTINCT FROM (SELECT array_agg(i ORDER BY i) FROM unnest(expected.ids) i)
    THEN 'same' ELSE format('%s rows, slowly, unlike the %s of the table', cardinality(found), cardinality(expected.ids)) END;
END \$\$;
});
$node->safe_psql('postgres', "CREATE TABLE $_ (id int, version int, v real[])") for @tables;

sub pick { return $_[ int rand @_ ] }
my %operator;
my $next_id = 1;

# --------------------------------------------------------------------------------------------------------------------
# What clients do

sub insert_rows
{
	my ($table) = @_;
	my $count = 10 + int rand 70;
	my $first = $next_id;
	$next_id += $count;
	return "INSERT INTO $table SELECT i, 0, vector_of(i, 0) FROM generate_series($first, $first + $count - 1) i";
}
sub change
{
	my ($table) = @_;
	my $part = 3 + int rand 12;
	my $which = "id % $part = " . int rand $part;
	return pick("DELETE FROM $table WHERE $which", insert_rows($table), insert_rows($table),
		"UPDATE $table SET version = version + 1, v = vector_of(id, version + 1) WHERE $which",
		"UPDATE $table SET version = version WHERE $which");
}
# Rows of one table are changed by one client in odd rounds, by both in even ones
sub writer
{
	my ($table) = @_;
	my @statements;
	for (1 .. 25)
	{
		my $some = join ";\n", map { change($table || pick(@tables)) } 1 .. 1 + int rand 3;
		push @statements, pick("$some;", "$some;", "BEGIN;\n$some;\nCOMMIT;", "BEGIN;\n$some;\nROLLBACK;",
			"BEGIN;\n$some;\nSAVEPOINT s;\n" . change($table || pick(@tables)) . ";\nROLLBACK TO s;\nCOMMIT;");
	}
	return join("\n", @statements) . "\n";
}
# Says whether it has made one segment of several
sub compact
{
	my ($table) = @_;
	return "SELECT count(*) > 1 AS several FROM ivfremote_segments('${table}_idx') \\gset\nCALL ivfremote_compact('${table}_idx');\n\\if :ERROR\n\\elif :several\n\\echo compacted\n\\endif";
}
# Two that REINDEX a table CONCURRENTLY at once are a deadlock of Postgres's own: one waits for the other's lock with a snapshot that the
# other waits for. So only one does.
sub maintainer
{
	my ($reindexes, $point) = @_;
	my @statements = map { my $table = pick(@tables);
		pick("VACUUM $table;", "VACUUM $table;", "SELECT ivfremote_flush('${table}_idx');", "SELECT ivfremote_flush('${table}_idx');",
			compact($table), 'CHECKPOINT;', $reindexes && rand() < 0.4 ? "REINDEX INDEX CONCURRENTLY ${table}_idx;" : "VACUUM $table;") } 1 .. 15;
	if ($point)
	{
		# Something to do for each step there is, whatever the others leave
		my @steps = map { my $table = $_; (insert_rows($table) . ';', "SELECT ivfremote_flush('${table}_idx');", "DELETE FROM $table WHERE id % 10 = 7;", "VACUUM $table;", compact($table)) } @tables;
		splice @statements, int(rand 8), 0, "SET ivfremote.test_point = '$point';", @steps;
	}
	return join("\n", @statements) . "\n";
}
# Deletes at once what nothing refers to: whatever is needed still, searches miss
sub collector { return "SELECT count(*) FROM ivfremote_gc('store', false, '0'); SELECT pg_sleep(0.1);\n" x 12 }
sub query { return sprintf 'vector_of(%d, %d)', int rand $next_id, int rand 4 }
sub searcher
{
	my @statements;
	for (1 .. 12)
	{
		my $table = pick(@tables);
		my $all = "(SELECT greatest(count(*), 1)::int FROM $table)";
		my @searches = map { rand() < 0.3 ? "compare_slowly('$table', '$operator{$table}', " . query() . ')'
			: "compare('$table', '$operator{$table}', " . query() . ', ' . pick(10, $all, $all) . ')' } 1 .. 2;
		push @statements, 'BEGIN ISOLATION LEVEL REPEATABLE READ;', (map { "SELECT '$table: ' || $_;" } @searches), 'COMMIT;';
		push @statements, "SELECT 'verify: $table: ' || v::text FROM ivfremote_verify('${table}_idx', true) v;" if rand() < 0.5;
	}
	return join("\n", @statements) . "\n";
}

# --------------------------------------------------------------------------------------------------------------------
# What may go wrong without being wrong

my $gone = qr/server closed the connection|terminating connection|connection to server|the database system is|connection already closed|abnormally|could not send|no connection to the server/;
sub allowed
{
	my ($kind, $what, $line) = @_;
	return 1 if $kind =~ /kill|stop|terminate|crash/ && $line =~ /$gone/;
	return 1 if $kind eq 'error' && $line =~ /test point/ || $kind eq 'cancel' && $line =~ /canceling statement due to user request/;
	return 1 if $what eq 'writer' && $line =~ /deadlock detected/;
	# What follows an error in a transaction
	return 1 if $line =~ /current transaction is aborted|SAVEPOINT can only|savepoint "s" does not exist/;
	# A collection ends with nothing deleted if it can't look at an index
	return 1 if $line =~ /could not find the objects that database "\w+" needs: (could not obtain lock on index|its background worker has ended|terminating)/;
	# REINDEX CONCURRENTLY has put another index in its place, or holds the lock
	return $line =~ /relation with OID \d+ does not exist|could not open relation with OID|could not obtain lock on relation/;
}
my @wrong;
my %done = map { $_ => 0 } qw(rounds searches flushes compactions recoveries);
sub check_client
{
	my ($round, $kind, $what, $psql) = @_;
	my ($out, $err) = finish_psql($psql);
	my @lines = split /\n/, $out;
	push @wrong, map { "round $round, $kind, $what: $_" } grep { /: / && !/: same$/ } @lines;
	# No store fails here
	push @wrong, map { "round $round, $kind, $what: $_" } grep { /WARNING:  could not/ || /ERROR:|FATAL:|PANIC:/ && !allowed($kind, $what, $_) } split /\n/, $err;
	$done{searches} += grep { /: same$/ } @lines;
	$done{compactions} += grep { $_ eq 'compacted' } @lines;
	$done{flushes} += grep { /^[1-9]\d*$/ } @lines;
	return;
}

# --------------------------------------------------------------------------------------------------------------------

# The index, built anew in another way
sub rebuild
{
	my ($table) = @_;
	my ($class, $operator) = @{ pick([ 'real_l2_ops', '<->' ], [ 'real_l2_ops', '<->' ], [ 'real_ip_ops', '<#>' ], [ 'real_cosine_ops', '<=>' ]) };
	$operator{$table} = $operator;
	my @options = ('lists = ' . (4 + int rand 12), 'flush_threshold = ' . pick(1, 50, 50, 200));
	push @options, pick('quantization = none', 'bits = 1', 'bits = 4', 'bits = 8');
	push @options, 'spill = on' if rand() < 0.2;
	push @options, 'server = store' if $table eq 'remote';
	my $empty = rand() < 0.4 ? "TRUNCATE $table;" : '';
	$node->safe_psql('postgres', "DROP INDEX IF EXISTS ${table}_idx; $empty CREATE INDEX ${table}_idx ON $table USING ivfremote (v $class) WITH (" . join(', ', @options) . '); '
		. insert_rows($table) . '; ' . insert_rows($table));
	note("$table: $class, ", join(', ', @options), $empty && ', empty');
	return;
}

# Ends backends in the way of the round while clients run
sub disturb
{
	my ($kind) = @_;
	return if $kind !~ /kill|stop|terminate|cancel/;
	sleep(0.05 + rand 0.8);
	if ($kind eq 'stop')
	{
		$node->stop('immediate');
		$node->start;
		return;
	}
	my ($status, $out) = $node->psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE application_name = 'beside' ORDER BY pid});
	my $pid = pick(split /\n/, $out || '') or return;
	if ($kind eq 'kill') { kill 'KILL', $pid }
	else { $node->psql('postgres', "SELECT pg_${kind}_backend($pid)") }
	return;
}

sub check_round
{
	my ($round) = @_;
	$node->poll_query_until('postgres', 'SELECT true') or die 'the server does not come back';
	# Of REINDEX CONCURRENTLY that did not end
	my $invalid = $node->safe_psql('postgres', q{SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid});
	$node->safe_psql('postgres', "DROP INDEX $_") for split /\n/, $invalid;
	for my $table (@tables)
	{
		my $out = $node->safe_psql('postgres', qq{SELECT 'verify: ' || v::text FROM ivfremote_verify('${table}_idx', true) v;}
			. join('', map { "SELECT 'search: ' || compare('$table', '$operator{$table}', " . query() . ", (SELECT greatest(count(*), 1)::int FROM $table));" } 1 .. 3));
		push @wrong, map { "after round $round, $table: $_" } grep { !/: same$/ } split /\n/, $out;
		# Not too many rows, nor too few
		my $rows = $node->safe_psql('postgres', "SELECT count(*) FROM $table");
		$node->safe_psql('postgres', "DELETE FROM $table WHERE id % 2 = 0") if $rows > 800;
		$node->safe_psql('postgres', insert_rows($table) . ';' . insert_rows($table)) if $rows < 100;
	}
	return;
}

for my $round (1 .. $rounds)
{
	srand($seed + $round);
	if ($round % 5 == 1) { rebuild($_) for @tables }
	my @kinds = ('quiet', 'kill', 'kill', 'stop', 'terminate', 'cancel', $faults ? ('crash', 'crash', 'crash', 'error') : ());
	my $kind = pick(@kinds);
	$done{$kind}++;
	my $point = $kind =~ /crash|error/ ? pick(@points) . "=$kind" : undef;
	note("round $round: $kind", $point ? " at $point" : '');
	my @each = $round % 2 ? @tables : (undef, undef);
	my @scripts = ([ 'writer', writer($each[0]) ], [ 'writer', writer($each[1]) ], [ 'maintainer', maintainer(0, $point) ], [ 'maintainer', maintainer(1) ], [ 'search', searcher() ], [ 'collector', collector() ]);
	my @clients = map { [ $_->[0], start_psql($node, $_->[1]) ] } @scripts;
	disturb($kind);
	check_client($round, $kind, @$_) for @clients;
	check_round($round);
	++$done{rounds};
	last if @wrong > 20;
}
push @wrong, grep { /PANIC|TRAP:|terminated by signal (6|7|8|11):|refcount leak|leaked/ } split /\n/, slurp_file($node->logfile);
$done{recoveries} = grep { /database system was not properly shut down/ } split /\n/, slurp_file($node->logfile);
$node->stop;
# Of what there was to go wrong
push @wrong, map { "no $_ in $done{rounds} rounds" } grep { $done{$_} == 0 } sort keys %done if $done{rounds} >= 10;

my $summary = "rounds=$done{rounds} wrong=" . @wrong . " seed=$seed";
append_to_file($ENV{TORTURE_SUMMARY}, "$summary\n") if $ENV{TORTURE_SUMMARY};
is(join("\n", @wrong), '', $summary) or diag("again: bench/torture.sh --rounds $rounds --seed $seed");
note(join ', ', map { "$_: $done{$_}" } sort keys %done);
done_testing();
