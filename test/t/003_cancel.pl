# Every wait ends when told to: a cancel, statement_timeout or pg_terminate_backend, in every phase of a build and in a scan.
# Afterwards nothing is left: no lock, no relation file, no temporary object, and the session goes on.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use Test::More;

# The aim is 200 ms; a busy machine may need longer, a wait that does not look for interrupts much longer.
my $limit_ms = 2000;
my $node = new_node('cancel', conf => "shared_buffers = 256MB\nmax_parallel_maintenance_workers = 2\nmaintenance_work_mem = 256MB\n");
need_faults($node);
my $directory = add_store($node, 'store');
$node->safe_psql('postgres', q{
SELECT setseed(0.5);
CREATE TABLE items AS
  SELECT i AS id, (SELECT array_agg(random()::real) FROM generate_series(1, 64) WHERE i > 0) AS v FROM generate_series(1, 30000) i;
CREATE TABLE few AS SELECT * FROM items WHERE id <= 4000;
CREATE INDEX few_idx ON few USING ivfremote (v) WITH (flush_threshold = 1, lists = 20, server = 'store');
ANALYZE;
-- Waits until a session is where `condition` says, ends its statement, and returns how many milliseconds that took.
CREATE FUNCTION cancel_when(condition text, terminate bool) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
  victim int;
  since timestamptz;
BEGIN
  FOR i IN 1 .. 30000 LOOP
    PERFORM pg_stat_clear_snapshot();
    EXECUTE 'SELECT a.pid FROM pg_stat_activity a LEFT JOIN pg_stat_progress_create_index p USING (pid)
             WHERE application_name = ''beside'' AND state = ''active'' AND ' || condition INTO victim;
    EXIT WHEN victim IS NOT NULL;
    PERFORM pg_sleep(0.002);
  END LOOP;
  IF victim IS NULL THEN RAISE 'nobody is where %', condition; END IF;
  -- Not at its very start
  PERFORM pg_sleep(0.05);
  since := clock_timestamp();
  IF terminate THEN PERFORM pg_terminate_backend(victim); ELSE PERFORM pg_cancel_backend(victim); END IF;
  LOOP
    PERFORM pg_stat_clear_snapshot();
    EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = victim AND state = 'active' AND query ~ 'victim');
    IF clock_timestamp() > since + interval '60 s' THEN RETURN 60000; END IF;
    PERFORM pg_sleep(0.001);
  END LOOP;
  RETURN extract(epoch FROM clock_timestamp() - since) * 1000;
END $$;
});

sub left_behind
{
	my ($name) = @_;
	$node->safe_psql('postgres', 'CHECKPOINT');
	is($node->safe_psql('postgres', q{
		SELECT count(*) FROM pg_database d, pg_ls_dir('base/' || d.oid) f
		WHERE datname = current_database() AND f ~ '^[0-9]+$' AND pg_filenode_relation(0, f::oid) IS NULL}), 0, "$name: no relation file left");
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relname = 'items_idx'}), 0, "$name: no index");
	is_deeply([ files_below($directory, qr/\.tmp$/) ], [], "$name: no temporary object left");
	return;
}

my $locks = q{SELECT 'locks: ' || count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation IN (SELECT oid FROM pg_class WHERE relname ~ '^(items|few)')};
my $after = "$locks;\nSELECT 'still here: ' || count(*) FROM (SELECT id FROM few ORDER BY v <-> (SELECT v FROM few WHERE id = 7) LIMIT 3) x;\n";

# Name, settings, statement, where it has to be
my $build = 'CREATE INDEX /* victim */ items_idx ON items USING ivfremote (v)';
my @waits = (
	[ 'sampling', '', "$build WITH (flush_threshold = 1, lists = 1000)", "phase ~ 'sampling'" ],
	[ 'training', '', "$build WITH (flush_threshold = 1, lists = 7000)", "phase ~ 'training'" ],
	[ 'training on one thread', 'SET max_parallel_maintenance_workers = 0', "$build WITH (flush_threshold = 1, lists = 7000)", "phase ~ 'training'" ],
	[ 'assigning', '', "$build WITH (flush_threshold = 1, lists = 500)", "phase ~ 'assigning'" ],
	[ 'assigning with workers', 'ALTER TABLE items SET (parallel_workers = 2)', "$build WITH (flush_threshold = 1, lists = 500)", "phase ~ 'assigning' AND EXISTS (SELECT FROM pg_stat_activity w WHERE w.leader_pid = a.pid)" ],
	[ 'writing to the server', "SET ivfremote.test_fault = 'put_stall'", "$build WITH (flush_threshold = 1, lists = 50, server = 'store')", "phase ~ 'writing'" ],
	[ 'loading pending rows', '', "$build WITH (flush_threshold = 1000000)", "phase ~ 'pending'" ],
	[ 'a scan', "SET ivfremote.test_fault = 'get_stall'", q{SELECT /* victim */ id FROM few ORDER BY v <-> (SELECT v FROM few WHERE id = 7) LIMIT 3}, "query ~ 'victim' AND query_start < clock_timestamp() - interval '0.2 s'" ]);
for my $wait (@waits)
{
	my ($name, $settings, $statement, $condition) = @$wait;
	my $psql = start_psql($node, "$settings;\nSET enable_seqscan = off;\n$statement;\nRESET ivfremote.test_fault;\n$after");
	my $ms = $node->safe_psql('postgres', "SELECT cancel_when(\$c\$$condition\$c\$, false)");
	my ($out, $err) = finish_psql($psql);
	note(sprintf('%s: cancelled after %.1f ms%s', $name, $ms, $ms > 200 ? ' (more than 200)' : ''));
	cmp_ok($ms, '<', $limit_ms, "$name: cancelled soon");
	like($err, qr/ERROR:  canceling statement due to user request/, "$name: cancelled");
	is($out, "locks: 0\nstill here: 3\n", "$name: the session goes on, without locks");
	left_behind($name);
}

# The same by a timeout, and by the end of the session
for my $wait ($waits[1], $waits[5], $waits[7])
{
	my ($name, $settings, $statement, $condition) = @$wait;
	my $timeout = $name =~ /training/ ? '1500ms' : '800ms';
	my ($code, $out, $err) = $node->psql('postgres',
		"$settings; SET enable_seqscan = off; SET statement_timeout = '$timeout';\n\\timing on\n$statement;\n\\timing off\nRESET statement_timeout; RESET ivfremote.test_fault;\n$after",
		on_error_stop => 0);
	like($err, qr/ERROR:  canceling statement due to statement timeout/, "$name: statement_timeout");
	my ($ms) = $out =~ /Time: ([\d.]+) ms/;
	note("$name: statement_timeout $timeout ended it after $ms ms");
	cmp_ok($ms, '<', $timeout + $limit_ms, "$name: at its time") if $timeout =~ s/ms//;
	like($out, qr/locks: 0\nstill here: 3/, "$name: the session goes on after statement_timeout");

	my $psql = start_psql($node, "$settings;\nSET enable_seqscan = off;\n$statement;\n");
	$ms = $node->safe_psql('postgres', "SELECT cancel_when(\$c\$$condition\$c\$, true)");
	($out, $err) = finish_psql($psql);
	note(sprintf('%s: terminated after %.1f ms', $name, $ms));
	cmp_ok($ms, '<', $limit_ms, "$name: terminated soon");
	like($err, qr/terminating connection due to administrator command/, "$name: terminated");
	left_behind("$name, terminated");
}

# What was cancelled can be done
$node->safe_psql('postgres', "CREATE INDEX items_idx ON items USING ivfremote (v) WITH (flush_threshold = 1, lists = 20, server = 'store')");
is($node->safe_psql('postgres', q{SELECT compare('items', '<->', (SELECT v FROM items WHERE id = 7), 10)}), 'same', 'a later build works');

no_crash($node);
$node->stop;
done_testing();
