# Inserts, deletes, updates, vacuums, searches and rebuilds at the same time: within one snapshot a search of all lists finds
# exactly the rows that the table has, each once.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $seconds = $ENV{LONG} ? 120 : 6;
my $dims = 6;
my $node = new_node('concurrency', conf => "fsync = off\nshared_buffers = 64MB\n");
add_store($node, 'store');
$node->safe_psql('postgres', q{
-- Raises an error unless index and table have the same rows. `q` makes other lists near.
CREATE FUNCTION check_rows(source text, op text, q real[]) RETURNS void LANGUAGE plpgsql
  SET ivfremote.probes = 1048576 SET ivfremote.epsilon = 100 AS $$
DECLARE
  expected int[];
  got int[];
  misplaced int;
BEGIN
  SET LOCAL enable_seqscan = on; SET LOCAL ivfremote.enable_scan = off;
  EXECUTE format('SELECT array_agg(id ORDER BY id) FROM %s', source) INTO expected;
  SET LOCAL enable_seqscan = off; SET LOCAL ivfremote.enable_scan = on;
  EXECUTE format('SELECT array_agg(id ORDER BY id) FROM (SELECT id FROM %s ORDER BY v %s $1 LIMIT 1000000) x', source, op) INTO got USING q;
  IF got IS DISTINCT FROM expected THEN
    RAISE 'index of % has % rows, % distinct; table has %; missing %, wrong %', source, cardinality(got),
      (SELECT count(DISTINCT i) FROM unnest(got) i), cardinality(expected),
      (SELECT array_agg(i) FROM (SELECT unnest(expected) EXCEPT SELECT unnest(got)) m (i)),
      (SELECT array_agg(i) FROM (SELECT unnest(got) EXCEPT SELECT unnest(expected)) m (i));
  END IF;
  -- In order, too
  EXECUTE format('SELECT count(*) FROM (SELECT d < lag(d) OVER () AS wrong FROM (SELECT v %1$s $1 AS d FROM %2$s ORDER BY v %1$s $1 LIMIT 1000000) x) y WHERE wrong', op, source)
    INTO misplaced USING q;
  IF misplaced > 0 THEN RAISE 'order of % is wrong', source; END IF;
END $$;
CREATE FUNCTION noise(i int, dims int) RETURNS real[] LANGUAGE sql AS
  'SELECT array_agg((random() - 0.5)::real) FROM generate_series(1, dims + 0 * i)';
CREATE SEQUENCE ids START 100000;
});

my %tables = (
	embedded => [ '<->', 'v', 'flush_threshold = 1, lists = 20' ],
	file => [ '<=>', 'v real_cosine_ops', "flush_threshold = 1, lists = 20, server = 'store'" ],
	floats => [ '<->', 'v', 'flush_threshold = 1, lists = 20, quantization = none' ],
	untrained => [ '<#>', 'v real_ip_ops', 'flush_threshold = 1000000' ]);
for my $source (sort keys %tables)
{
	my ($op, $column, $options) = @{ $tables{$source} };
	$node->safe_psql('postgres', "CREATE TABLE $source (id int PRIMARY KEY, v real[], mark int DEFAULT 0) WITH (fillfactor = 80);
		INSERT INTO $source (id, v) SELECT i, noise(i, $dims) FROM generate_series(1, 1500) i;
		CREATE INDEX ${source}_idx ON $source USING ivfremote ($column) WITH ($options)");
	my $directory = PostgreSQL::Test::Utils::tempdir;
	my %scripts = (
		insert => "INSERT INTO $source (id, v) SELECT nextval('ids'), noise(i, $dims) FROM generate_series(1, 8) i;",
		rollback => "BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO $source (id, v) SELECT nextval('ids'), noise(i, $dims) FROM generate_series(1, 8) i; SELECT check_rows('$source', '$op', noise(1, $dims)); ROLLBACK;",
		delete => "DELETE FROM $source WHERE id IN (SELECT id FROM $source OFFSET (random() * 1400)::int LIMIT 12 FOR UPDATE SKIP LOCKED);",
		update => "UPDATE $source SET v = noise(1, $dims) WHERE id IN (SELECT id FROM $source OFFSET (random() * 1400)::int LIMIT 5 FOR UPDATE SKIP LOCKED);",
		hot => "UPDATE $source SET mark = mark + 1 WHERE id IN (SELECT id FROM $source OFFSET (random() * 1400)::int LIMIT 5 FOR UPDATE SKIP LOCKED);",
		search => "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT check_rows('$source', '$op', noise(1, $dims)); SELECT pg_sleep(0.02 * random()); SELECT check_rows('$source', '$op', noise(2, $dims)); COMMIT;");
	append_to_file("$directory/$_", $scripts{$_}) for keys %scripts;

	# Maintenance beside it, one at a time
	my $maintenance = start_psql($node, join("\n", ("VACUUM (INDEX_CLEANUP on) $source; SELECT pg_sleep(0.1);") x ($seconds * 3))
		. ($source eq 'untrained' ? '' : "\nREINDEX INDEX CONCURRENTLY ${source}_idx;"));
	my ($out, $err);
	my $result = IPC::Run::run([ $node->installed_command('pgbench'), '-n', '-c', 6, '-j', 1, '-T', $seconds, '-h', $node->host, '-p', $node->port,
		'-f', "$directory/insert\@6", '-f', "$directory/rollback\@1", '-f', "$directory/delete\@4", '-f', "$directory/update\@4", '-f', "$directory/hot\@4",
		'-f', "$directory/search\@5", 'postgres' ], '>', \$out, '2>', \$err);
	ok($result, "$source: every search finds the rows of its snapshot");
	my @errors = grep { /ERROR|aborted/ } split(/\n/, $err);
	is(join("\n", @errors), '', "$source: no errors");
	my ($transactions) = $out =~ /actually processed: (\d+)/;
	note("$source: $transactions transactions");
	cmp_ok($transactions, '>', 100, "$source: there was something to find");
	my ($vacuum_out, $vacuum_err) = finish_psql($maintenance);
	unlike($vacuum_err, qr/ERROR/, "$source: VACUUM, REINDEX CONCURRENTLY beside it");
	is($node->safe_psql('postgres', "SELECT check_rows('$source', '$op', noise(1, $dims))"), '', "$source: and at the end");
	$node->safe_psql('postgres', "VACUUM $source; DELETE FROM $source WHERE id % 2 = 0; VACUUM $source; INSERT INTO $source (id, v) SELECT nextval('ids'), noise(i, $dims) FROM generate_series(1, 1000) i");
	is($node->safe_psql('postgres', "SELECT check_rows('$source', '$op', noise(1, $dims))"), '', "$source: after one more VACUUM");
}

# Inserts that fill pages of one chain at the same moment
$node->safe_psql('postgres', q{CREATE TABLE chain (id int PRIMARY KEY, v real[]); CREATE INDEX chain_idx ON chain USING ivfremote (v)});
my $chain = PostgreSQL::Test::Utils::tempdir . '/chain';
append_to_file($chain, "INSERT INTO chain SELECT nextval('ids'), array_fill(random()::real, '{900}') FROM generate_series(1, 20) i;");
my $filled = IPC::Run::run([ $node->installed_command('pgbench'), '-n', '-c', 8, '-j', 2, '-T', $seconds / 3, '-h', $node->host, '-p', $node->port, '-f', $chain, 'postgres' ],
	'>', \my $chain_out, '2>', \my $chain_err);
ok($filled, 'inserts that fill pages') or diag($chain_err);
is($node->safe_psql('postgres', q{SELECT check_rows('chain', '<->', array_fill(0::real, '{900}'))}), '', 'no row is lost');
is($node->safe_psql('postgres', q{SELECT pending_rows = (SELECT count(*) FROM chain) FROM ivfremote_info('chain_idx')}), 't', 'and all are counted');

# CREATE INDEX CONCURRENTLY while rows come and go
$node->safe_psql('postgres', "CREATE TABLE late (id int PRIMARY KEY, v real[]); INSERT INTO late SELECT i, noise(i, $dims) FROM generate_series(1, 4000) i");
my $writers = start_psql($node, join("\n", map { "INSERT INTO late SELECT nextval('ids'), noise(i, $dims) FROM generate_series(1, 20) i; DELETE FROM late WHERE id % 97 = $_; UPDATE late SET v = noise(2, $dims) WHERE id % 89 = $_;" } 0 .. 60));
$node->safe_psql('postgres', q{CREATE INDEX CONCURRENTLY late_idx ON late USING ivfremote (v) WITH (flush_threshold = 1, lists = 20)});
$node->safe_psql('postgres', q{REINDEX INDEX CONCURRENTLY late_idx});
my ($out, $err) = finish_psql($writers);
is($err, '', 'writers beside CREATE INDEX CONCURRENTLY');
is($node->safe_psql('postgres', "SELECT check_rows('late', '<->', noise(1, $dims))"), '', 'CREATE INDEX CONCURRENTLY misses no row');

# A snapshot for which VACUUM no longer keeps rows is told so, by this index as by Postgres's own
SKIP:
{
	skip 'this server always keeps them', 1 if $node->safe_psql('postgres', 'SHOW server_version_num') >= 170000;
	$node->append_conf('postgresql.conf', 'old_snapshot_threshold = 0');
	$node->restart;
	my $old = start_session($node);
	ask($old, 'SET enable_seqscan = off; SET enable_sort = off; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM chain');
	$node->safe_psql('postgres', 'DELETE FROM late WHERE id % 2 = 0');
	my $said = '';
	# Such a snapshot is at least 5 s old
	for (1 .. 60)
	{
		$node->safe_psql('postgres', 'VACUUM late');
		(undef, $said) = ask($old, "SELECT count(*) FROM (SELECT id FROM late ORDER BY v <-> array_fill(0::real, '{$dims}') LIMIT 10) x");
		last if $said;
		usleep(200_000);
	}
	like($said, qr/^[^\n]*ERROR:  snapshot too old/, 'a snapshot that is too old');
	quit($old);
}

no_crash($node);
$node->stop;
done_testing();
