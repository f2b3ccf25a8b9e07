# Space is used again: cycles of DELETE, INSERT and VACUUM do not let an index grow, and no page is used again while anybody,
# here or on a standby, may still read it.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('space', init => { allows_streaming => 1 });
add_store($node, 'store');
$node->safe_psql('postgres', qq{
	CREATE SEQUENCE ids START 10001;
	CREATE TABLE points_20 AS SELECT i AS id, point(i, 20) AS v FROM generate_series(1, 600) i;
	CREATE TABLE points_2100 AS SELECT i AS id, point(i, 2100) AS v FROM generate_series(1, 100) i});

sub pages
{
	my ($index, $on) = @_;
	return ($on || $node)->safe_psql('postgres', "SELECT pg_relation_size('$index') / 8192");
}

# What is no growth: rows of one cycle may begin a page more than those of another, and how many are samples is chance.
sub most { return 1 + 1.1 * $_[0]; }

# Name, dimensions, CREATE INDEX's options, kind of table
my @kinds = (
	[ 'embedded', 20, 'flush_threshold = 50, lists = 6', '' ],
	[ 'file', 20, "flush_threshold = 50, lists = 6, server = 'store'", '' ],
	[ 'floats', 20, 'flush_threshold = 50, lists = 6, quantization = none', '' ],
	[ 'few_pending', 20, 'flush_threshold = 500, lists = 3', '' ],
	[ 'untrained', 20, 'flush_threshold = 100000', '' ],
	[ 'wide', 2100, 'flush_threshold = 100000', '' ],
	[ 'unlogged', 20, 'flush_threshold = 50, lists = 6', 'UNLOGGED' ]);

# Cycles of a statement that deletes, INSERT and VACUUM; the index's pages after each.
sub cycle
{
	my ($name, $dims, $cycles, $delete, $rows) = @_;
	return split /\n/, $node->safe_psql('postgres', join("\n", map { qq{
		$delete;
		INSERT INTO $name SELECT nextval('ids'), v FROM points_$dims WHERE id <= $rows;
		VACUUM $name;
		SELECT pg_relation_size('${name}_idx') / 8192; }} 1 .. $cycles));
}

for my $kind (@kinds)
{
	my ($name, $dims, $options, $persistence) = @$kind;
	my $rows = $dims > 2000 ? 100 : 400;
	my $first = $name eq 'few_pending' ? 600 : $rows;
	$node->safe_psql('postgres', qq{
		CREATE $persistence TABLE $name (id int, v real[]);
		INSERT INTO $name SELECT id, v FROM points_$dims WHERE id <= $first;
		CREATE INDEX ${name}_idx ON $name USING ivfremote (v) WITH ($options)});
	my @pages = cycle($name, $dims, 20, "DELETE FROM $name", $rows);
	cmp_ok($pages[19], '<=', most($pages[3]), "$name: all rows again and again: @pages");
	kept_ok($node, $name, '<->', $dims, "$name: the rows of the last cycle");
	# Pages with a live row stay: bounded by how many halves one survives.
	@pages = cycle($name, $dims, 24, "DELETE FROM $name WHERE random() < 0.5", $rows / 2);
	cmp_ok($pages[23], '<=', 1.5 * $pages[11], "$name: random halves: @pages");
	kept_ok($node, $name, '<->', $dims, "$name: what random deletes have left");
	$node->safe_psql('postgres', "DELETE FROM $name; VACUUM $name");
	kept_ok($node, $name, '<->', $dims, "$name: no row is left");
}
my @pages = split /\n/, $node->safe_psql('postgres', q{
	CREATE TEMPORARY TABLE t (id int, v real[]);
	INSERT INTO t SELECT id, v FROM points_20;
	CREATE INDEX t_idx ON t USING ivfremote (v) WITH (flush_threshold = 50, lists = 6);} . q{
	DELETE FROM t; INSERT INTO t SELECT id, v FROM points_20; VACUUM t; SELECT pg_relation_size('t_idx') / 8192;} x 20);
cmp_ok($pages[19], '<=', most($pages[3]), "a temporary table: @pages");

# Rows that come and go without a flush do not fill the index with their samples
my @cycles = split /\n/, $node->safe_psql('postgres', q{
	CREATE TABLE samples (id int, v real[]);
	CREATE TABLE points_200 AS SELECT i AS id, point(i, 200) AS v FROM generate_series(1, 1500) i;
	INSERT INTO samples SELECT id, v FROM points_200;
	CREATE INDEX samples_idx ON samples USING ivfremote (v) WITH (flush_threshold = 1, lists = 6);
	ALTER INDEX samples_idx SET (flush_threshold = 2000);
	TRUNCATE samples; INSERT INTO samples SELECT id, v FROM points_200;
	ALTER INDEX samples_idx SET (flush_threshold = 1); VACUUM samples; ALTER INDEX samples_idx SET (flush_threshold = 2000);
	SELECT trained FROM ivfremote_info('samples_idx');
	DELETE FROM samples; VACUUM samples;} . q{
	INSERT INTO samples SELECT id, v FROM points_200; DELETE FROM samples; VACUUM samples; SELECT pg_relation_size('samples_idx') / 8192;} x 20);
is(shift @cycles, 't', 'samples: trained');
cmp_ok($cycles[19], '<=', $cycles[3], "samples: no growth by samples of rows that come and go: @cycles");
$node->safe_psql('postgres', 'INSERT INTO samples SELECT id, v FROM points_200 WHERE id <= 600');
kept_ok($node, 'samples', '<->', 200, 'samples: rows afterwards');
$node->safe_psql('postgres', 'DROP TABLE samples');

# An index that is not swept because nothing calls for it is not read.
$node->safe_psql('postgres', q{
	CREATE TABLE large (id int, v real[]);
	INSERT INTO large SELECT id + 1000 * k, v FROM points_20, generate_series(1, 3) k;
	CREATE INDEX large_idx ON large USING ivfremote (v) WITH (flush_threshold = 100, lists = 6, quantization = none);
	VACUUM large});
my $read = sub {
	$node->safe_psql('postgres', 'VACUUM large; SELECT pg_stat_force_next_flush()');
	return $node->safe_psql('postgres', q{SELECT idx_blks_read + idx_blks_hit FROM pg_statio_user_indexes WHERE indexrelname = 'large_idx'});
};
my $before = $read->();
cmp_ok($read->() - $before, '<', 15, 'VACUUM with nothing to do reads a few pages of ' . pages('large_idx'));

# Rows are inserted and flushed, segments compacted: nothing is vacuumed, so of the index alone depends which pages are used again.
# How many pages the index has grown by since they could have been.
sub use_pages_again
{
	my ($source) = @_;
	my $insert = "INSERT INTO $source SELECT nextval('ids'), v FROM points_20 WHERE id <= 200";
	$node->safe_psql('postgres', $insert);
	$node->safe_psql('postgres', "SELECT ivfremote_flush('${source}_idx')");
	$node->safe_psql('postgres', "CALL ivfremote_compact('${source}_idx')");
	$node->safe_psql('postgres', 'SELECT txid_current()') for 1 .. 2;
	$node->safe_psql('postgres', "SELECT ivfremote_flush('${source}_idx')");
	my $before = pages("${source}_idx");
	$node->safe_psql('postgres', "$insert; SELECT ivfremote_flush('${source}_idx')");
	return pages("${source}_idx") - $before;
}

# -- A cursor's pages

my $exact = 'SET enable_seqscan = off; SET enable_sort = off; SET ivfremote.probes = 1000; SET ivfremote.epsilon = 100';
for my $source ('embedded', 'file', 'floats')
{
	$node->safe_psql('postgres', "TRUNCATE $source; INSERT INTO $source SELECT id, v FROM points_20; REINDEX TABLE $source");
	is(use_pages_again($source), 0, "$source: pages are used again");
	my $session = start_session($node);
	my ($expected) = ask($session, "$exact; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT sum(id), count(*) FROM $source");
	my $start = ask($session, "DECLARE c CURSOR FOR SELECT id FROM $source ORDER BY v <-> point(3, 20); FETCH 7 FROM c");
	cmp_ok(use_pages_again($source), '>', 0, "$source: but not those a cursor may need");
	my ($rest, $errors) = ask($session, 'FETCH ALL FROM c');
	my @ids = split /\n/, "$start\n$rest";
	my $sum = 0;
	$sum += $_ for @ids;
	is("$sum|" . @ids . ($errors || ''), $expected, "$source: the cursor returns its snapshot's rows");
	ask($session, 'COMMIT');
	quit($session);
	my @after = cycle($source, 20, 6, "DELETE FROM $source", 600);
	cmp_ok($after[5], '<=', most($after[2]), "$source: they are used again after it: @after");
	kept_ok($node, $source, '<->', 20, "$source: after the cursor");
}

# A scan on its way through a chain of pending pages, of which most leave it
SKIP:
{
	skip 'this build has no test points', 8
	  unless $node->safe_psql('postgres', q{LOAD 'ivfremote'; SELECT count(*) FROM pg_settings WHERE name = 'ivfremote.test_point'});
	for my $source ('untrained', 'wide')
	{
		my $dims = $source eq 'wide' ? 2100 : 20;
		$node->safe_psql('postgres', "TRUNCATE $source; INSERT INTO $source SELECT id, v FROM points_$dims; DELETE FROM $source WHERE id % 100 <> 0");
		my $gate = start_session($node);
		ask($gate, 'SELECT pg_advisory_lock(1)');
		my $session = start_session($node, name => 'scan');
		my ($expected) = ask($session, "$exact; SELECT sum(id), count(*) FROM $source");
		say_to($session, "SET ivfremote.test_point = 'search.pending=pause'; SELECT sum(id), count(*) FROM (SELECT id FROM $source ORDER BY v <-> point(3, $dims)) x");
		$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'scan' AND wait_event = 'advisory'}) or die;
		$node->safe_psql('postgres', "VACUUM $source");
		$node->safe_psql('postgres', 'SELECT txid_current()') for 1 .. 2;
		$node->safe_psql('postgres', "VACUUM $source");
		my $pages = pages("${source}_idx");
		$node->safe_psql('postgres', "INSERT INTO $source SELECT nextval('ids'), v FROM points_$dims");
		cmp_ok(pages("${source}_idx"), '>', $pages, "$source: pages a scan may come across are not used again");
		quit($gate);
		my ($found, $errors) = ask($session, 'SELECT');
		is($found . $errors, $expected, "$source: the scan finds its snapshot's rows");
		quit($session);
		my @after = cycle($source, $dims, 8, "DELETE FROM $source", 100);
		cmp_ok($after[7], '<=', most($after[3]), "$source: they are used again after it: @after");
		kept_ok($node, $source, '<->', $dims, "$source: after the scan");
	}
}

# -- A standby's queries

$node->safe_psql('postgres', q{
	DROP TABLE embedded, file, floats, few_pending, untrained, wide, unlogged, large;
	-- Reads 50 rows, waits as long as the lock is held, and reads the others.
	CREATE FUNCTION slow_sum() RETURNS text LANGUAGE plpgsql SET enable_seqscan = off SET enable_sort = off
	  SET ivfremote.probes = 1000 SET ivfremote.epsilon = 100 AS $$
	DECLARE
	  r record; n int := 0; sum int := 0;
	BEGIN
	  FOR r IN SELECT id FROM shared ORDER BY v <-> point(3, 20) LOOP
	    n := n + 1; sum := sum + r.id;
	    IF n = 50 THEN PERFORM pg_advisory_lock(7); PERFORM pg_advisory_unlock(7); END IF;
	  END LOOP;
	  RETURN n || ' ' || sum;
	END $$;
	CREATE TABLE shared (id int, v real[]);
	INSERT INTO shared SELECT id, v FROM points_20;
	CREATE INDEX shared_idx ON shared USING ivfremote (v) WITH (flush_threshold = 50, lists = 6)});
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('reader');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "max_standby_streaming_delay = 0\n");
$standby->start;

# Starts slow_sum() on the standby, and returns when it has read its first rows.
sub start_reader
{
	$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
	my $gate = start_session($standby, name => 'gate');
	ask($gate, 'SELECT pg_advisory_lock(7)');
	my $reader = start_session($standby, name => 'reader');
	say_to($reader, 'SELECT count(*), sum(id) FROM shared; SELECT slow_sum()');
	$standby->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'reader' AND wait_event = 'advisory'}) or die;
	return ($gate, $reader);
}

sub conflicts { return $standby->safe_psql('postgres', q{SELECT confl_snapshot FROM pg_stat_database_conflicts WHERE datname = 'postgres'}); }

# Without delay the query is cancelled
my ($gate, $reader) = start_reader();
is(use_pages_again('shared'), 0, 'the primary uses pages again');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
quit($gate);
my ($out, $err) = ask($reader, 'SELECT 1');
like($err, qr/canceling statement due to conflict with recovery/, 'a query on the standby that might need them is cancelled');
unlike("$out$err", qr/corrupted/, 'and sees none of them');
ok($standby->poll_query_until('postgres', q{SELECT confl_snapshot = 1 FROM pg_stat_database_conflicts WHERE datname = 'postgres'}), 'pg_stat_database_conflicts counts it');
quit($reader);
kept_ok($standby, 'shared', '<->', 20, 'the standby after it');

# With a delay replay waits for it
$standby->safe_psql('postgres', q{ALTER SYSTEM SET max_standby_streaming_delay = '-1'; SELECT pg_reload_conf()});
($gate, $reader) = start_reader();
is(use_pages_again('shared'), 0, 'the primary uses pages again, as before');
$standby->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'startup' AND wait_event = 'RecoveryConflictSnapshot'}) or die;
quit($gate);
($out, $err) = ask($reader, 'SELECT 1');
my ($counted, $summed) = split /\n/, $out;
$counted =~ tr/|/ /;
is("$summed$err", $counted, 'replay waits for a query, which gets its rows');
quit($reader);
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
kept_ok($standby, 'shared', '<->', 20, 'the standby after that');

# With feedback the primary waits
$standby->safe_psql('postgres', q{ALTER SYSTEM SET max_standby_streaming_delay = 0; ALTER SYSTEM SET hot_standby_feedback = on;
	ALTER SYSTEM SET wal_receiver_status_interval = 1; SELECT pg_reload_conf()});
($gate, $reader) = start_reader();
$node->poll_query_until('postgres', 'SELECT count(*) = 1 FROM pg_stat_replication WHERE backend_xmin IS NOT NULL') or die;
cmp_ok(use_pages_again('shared'), '>', 0, 'with hot_standby_feedback the primary lets the index grow');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
quit($gate);
($out, $err) = ask($reader, 'SELECT 1');
($counted, $summed) = split /\n/, $out;
$counted =~ tr/|/ /;
is("$summed$err", $counted, 'and the query gets its rows');
quit($reader);
is(conflicts(), 1, 'no further conflict');
kept_ok($_, 'shared', '<->', 20, $_->name . ' at last') for $node, $standby;

no_crash($node);
no_crash($standby);
$standby->stop;
$node->stop;
done_testing();
