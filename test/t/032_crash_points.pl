# A crash at each named point of the protocol (src/pg/test_point.h), as kill -9 of the backend and as an immediate stop of the
# server: after recovery the index agrees with the table exactly, the step is whole or absent, and can be done again.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('points', conf => "restart_after_crash = on\nfsync = off\nstatement_timeout = '60s'\n");
need_faults($node);
my $directory = add_store($node, 'store');
sub sql { return $node->safe_psql('postgres', $_[0]) }

my $built = 'flush_threshold = 1, lists = 4';
my $flush = q{SELECT ivfremote_flush('%s_idx')};
my $compact = q{CALL ivfremote_compact('%s_idx')};
my $add = 'INSERT INTO %1$s SELECT i, point(i, 8) FROM generate_series(201, 240) i;';

# A step: rows that the index is created on and its options, dimensions, what comes before the step, the step, states (trained,
# segments, their rows, pending rows) before and after it
my %steps = (
	flush => [ 200, $built, 8, $add, $flush, 't|1|200|40', 't|2|240|0' ],
	train => [ 0, $built, 8, 'INSERT INTO %1$s SELECT i, point(i, 8) FROM generate_series(1, 200) i;', $flush, 'f|0|0|200', 't|1|200|0' ],
	compact => [ 200, "$built, quantization = none", 8, "$add SELECT ivfremote_flush('%1\$s_idx');", $compact, 't|2|240|0', 't|1|240|0' ],
	sweep => [ 200, "$built, bits = 8", 8, "$add SELECT ivfremote_flush('%1\$s_idx');", $compact, 't|2|240|0', 't|1|240|0' ],
	insert => [ 200, $built, 8, $add, 'INSERT INTO %s SELECT 500, point(500, 8)', 't|1|200|40', 't|1|200|41' ],
	wide => [ 0, 'flush_threshold = 1000', 2100, '', 'INSERT INTO %s SELECT 500, point(500, 2100)', 'f|0|0|0', 'f|0|0|1' ]);
# Point, step, and whether the step may have been done by then
my @points = (
	[ 'seal.directory', 'flush', 0 ], [ 'seal.published', 'flush', 0 ], [ 'flush.uploaded', 'flush', 0 ],
	[ 'flush.pages', 'flush', 0 ], [ 'flush.published', 'flush', 1 ],
	[ 'seal.directory', 'train', 0 ], [ 'seal.published', 'train', 0 ], [ 'flush.uploaded', 'train', 0 ],
	[ 'flush.pages', 'train', 0 ], [ 'train.published', 'train', 1 ],
	[ 'compact.pages', 'compact', 0 ], [ 'compact.uploaded', 'compact', 0 ], [ 'compact.published', 'compact', 1 ],
	[ 'sweep.page', 'sweep', 1 ], [ 'insert.compared', 'insert', 0 ], [ 'insert.overflow', 'wide', 0 ],
	[ 'owner.written', 'flush', 0, 'remote' ]);
my %tables;    # by name: point, step, whether it may be done
# A table for each kind of index, ready for the step
sub prepare
{
	my ($prefix, $point) = @_;
	my ($name, $step, $done, $only) = @$point;
	my ($rows, $options, $dims, $before) = @{ $steps{$step} };
	my @made;
	for my $kind ($only || ('embedded', 'remote'))
	{
		my $table = join '_', $prefix, $name =~ s/\./_/r, $step, $kind;
		my $server = $kind eq 'remote' ? ", server = 'store'" : '';
		sql("CREATE TABLE $table (id int, v real[]); INSERT INTO $table SELECT i, point(i, $dims) FROM generate_series(1, $rows) i;
			CREATE INDEX ${table}_idx ON $table USING ivfremote (v) WITH ($options$server); " . sprintf("$before SELECT '%1\$s'", $table));
		$tables{$table} = $point;
		push @made, $table;
	}
	# Flushes and compactions do not wait for the disk: the commit of a transaction that wrote WAL does
	sql(q{SELECT pg_logical_emit_message(true, '', '')});
	return @made;
}

sub at_point
{
	my ($table, $action) = @_;
	my ($point, $step) = @{ $tables{$table} };
	# All of them pause together, however long it takes to start the last
	my $limit = $action eq 'pause' ? 'SET statement_timeout = 0; ' : '';
	return "${limit}SET ivfremote.test_point = '$point=$action'; " . sprintf($steps{$step}[4], $table);
}

sub state_of { return sql("SELECT trained, segments, segment_rows, pending_rows FROM ivfremote_info('$_[0]_idx')") }

# 'same' if all is well with it
sub healthy
{
	my ($table, $dims) = @_;
	return sql(qq{SELECT v FROM ivfremote_verify('${table}_idx', true) v;
		SELECT DISTINCT compare('$table', '<->', point(i, $dims), 1000) FROM generate_series(1, 40, 13) i});
}

sub check
{
	my ($table, $how) = @_;
	my ($point, $step, $may_be_done) = @{ $tables{$table} };
	my (undef, undef, $dims, undef, $statement, $before, $after) = @{ $steps{$step} };
	my $name = "$table, $how";
	is(healthy($table, $dims), 'same', "$name: the index agrees with the table");
	my $state = state_of($table);
	ok($state eq $before || $may_be_done && $state eq $after, "$name: the step is whole or absent: $state");
	# Others go on, and the step is done again
	sql("DELETE FROM $table WHERE id % 7 = 3; INSERT INTO $table SELECT i, point(i, $dims) FROM generate_series(601, 605) i");
	sql(sprintf $statement, $table);
	is(healthy($table, $dims), 'same', "$name: again");
	my $segments = $step eq 'flush' ? '[23]' : '[12]';
	like(state_of($table), $step eq 'insert' || $step eq 'wide' ? qr/\|0\|0\|[67]$|^t\|1\|200\|4[67]$/ : qr/^t\|$segments\|\d+\|0$/, "$name: done");
	sql("VACUUM $table");
	is(healthy($table, $dims), 'same', "$name: vacuumed");
	return;
}

# Runs what crashes its backend, and all others are gone when it is back: a server that has not noticed yet would answer, too
sub crash
{
	my ($statement, $name) = @_;
	my $offset = -s $node->logfile;
	my ($status, $out, $err) = $node->psql('postgres', $statement);
	like($err, qr/server closed the connection/, $name);
	$node->wait_for_log(qr/database system is ready to accept connections/, $offset);
	return;
}

sub wait_for_pauses
{
	my ($count, $what) = @_;
	$node->poll_query_until('postgres', "SELECT count(*) = $count FROM pg_stat_activity WHERE application_name = 'beside' AND wait_event = 'advisory'")
	  or die "$what does not pause";
	return;
}

# --------------------------------------------------------------------------------------------------------------------
# kill -9, one point at a time; in turn in an embedded index and in one with a store, while the other waits at the same point

my $turn = 0;
for my $point (@points)
{
	my @made = prepare('killed', $point);
	@made = reverse @made if $turn++ % 2;
	my ($killed, $other) = @made;
	my $holder = start_session($node);
	ask($holder, 'SELECT pg_advisory_lock(1)');
	my $paused;
	if ($other)
	{
		$paused = start_psql($node, at_point($other, 'pause'));
		wait_for_pauses(1, $other);
	}
	crash(at_point($killed, 'crash'), "$killed is killed");
	finish_psql($paused) if $paused;
	eval { quit($holder) };
	check($_, 'killed') for @made;
	sql("DROP TABLE $_") for @made;
}

# --------------------------------------------------------------------------------------------------------------------
# An immediate stop while all of them wait at their points

{
	my @made = map { prepare('stopped', $_) } @points;
	my $holder = start_session($node);
	ask($holder, 'SELECT pg_advisory_lock(1)');
	my @paused;
	for my $table (@made)
	{
		push @paused, start_psql($node, at_point($table, 'pause'));
		wait_for_pauses(scalar @paused, $table);
	}
	$node->stop('immediate');
	finish_psql($_) for @paused;
	eval { quit($holder) };
	$node->start;
	check($_, 'stopped') for @made;
	sql("DROP TABLE $_") for @made;
}

# --------------------------------------------------------------------------------------------------------------------
# Garbage collection

# Rows of a collection
sub collect { sql('SELECT pg_current_xact_id()'); return sql(q{SELECT object_key || ' ' || state FROM ivfremote_gc('store', false, '0') ORDER BY 1}) }

sql(qq{CREATE TABLE needed (id int, v real[]); INSERT INTO needed SELECT i, point(i, 8) FROM generate_series(1, 200) i;
	CREATE INDEX needed_idx ON needed USING ivfremote (v) WITH ($built, server = 'store')});
for my $how ('killed', 'stopped')
{
	for my $point (qw(gc.listed gc.marked gc.deleted))
	{
		sql(qq{CREATE TABLE dropped_$_ AS TABLE needed; CREATE INDEX dropped_${_}_idx ON dropped_$_ USING ivfremote (v) WITH ($built, server = 'store'); DROP TABLE dropped_$_})
		  for 1 .. 2;
		# Garbage that waits, and some that is new
		collect();
		sql(qq{CREATE TABLE dropped AS TABLE needed; CREATE INDEX dropped_idx ON dropped USING ivfremote (v) WITH ($built, server = 'store'); DROP TABLE dropped; SELECT pg_current_xact_id()});
		my $statement = q{SELECT ivfremote_gc('store', false, '0')};
		if ($how eq 'killed')
		{
			crash("SET ivfremote.test_point = '$point=crash'; $statement", "$point: killed");
		}
		else
		{
			my $holder = start_session($node);
			ask($holder, 'SELECT pg_advisory_lock(1)');
			my $paused = start_psql($node, "SET ivfremote.test_point = '$point=pause'; $statement");
			wait_for_pauses(1, $point);
			$node->stop('immediate');
			finish_psql($paused);
			eval { quit($holder) };
			$node->start;
		}
		is(healthy('needed', 8), 'same', "$point, $how: nothing needed is deleted");
		collect() for 1 .. 2;
		my $needed = sql(q{SELECT object_key FROM ivfremote_segments('needed_idx')});
		# Those of killed flushes, too
		is_deeply([ files_below($directory, qr/\.seg/) ], [$needed], "$point, $how: and all else finally is");
		is(collect(), '', "$point, $how: nothing is left to do");
	}
}

unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|terminated by signal (6|7|8|11):|refcount leak|leaked/, 'no other crash in the log');
$node->stop;
done_testing();
