# What happens to an index in a table's life besides queries, with flushed segments, dead and pending rows: VACUUM in its rarer
# forms, rewrites, copies, an upgrade while the store is away, and the loss of all objects.
use strict;
use warnings;
use File::Path qw(rmtree);
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dims = 8;
my $node = new_node('life', conf => "fsync = off\nsynchronous_commit = off\nautovacuum_freeze_max_age = 100000\nmin_parallel_index_scan_size = 0\n");
my $store = add_store($node, 'store');
my %kinds = (embedded => '', remote => ", server = 'store'");

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub state_of { return sql("SELECT segments, segment_rows, pending_rows FROM ivfremote_info('$_[0]_idx')") }

# A table with an index of two segments, one flushed, dead rows in both and pending rows
sub add_table
{
	my ($table, $on, $options) = @_;
	$on->safe_psql('postgres', "CREATE TABLE $table (id int, v real[]); INSERT INTO $table SELECT i, point(i, $dims) FROM generate_series(1, 200) i;
		CREATE INDEX ${table}_idx ON $table USING ivfremote (v) WITH (flush_threshold = 1, lists = 4$options);
		INSERT INTO $table SELECT i, point(i, $dims) FROM generate_series(201, 260) i; SELECT ivfremote_flush('${table}_idx');
		ALTER INDEX ${table}_idx SET (flush_threshold = 100000);
		DELETE FROM $table WHERE id % 9 = 2");
	$on->safe_psql('postgres', "VACUUM $table; INSERT INTO $table SELECT i, point(i, $dims) FROM generate_series(261, 300) i");
	return;
}

sub healthy
{
	my ($table, $name, $on, $database) = @_;
	is(($on || $node)->safe_psql($database || 'postgres', qq{SELECT v FROM ivfremote_verify('${table}_idx', true) v;
		SELECT DISTINCT compare('$table', '<->', point(i, $dims), 1000000) FROM generate_series(1, 40, 13) i}), 'same', "$table: $name");
	return;
}

sql('CREATE SEQUENCE ids START 10000');
add_table($_, $node, $kinds{$_}) for sort keys %kinds;
is(state_of($_), '2|260|40', "$_: two segments and pending rows") for sort keys %kinds;
healthy($_, 'as made') for sort keys %kinds;

# -- VACUUM

for my $table (sort keys %kinds)
{
	sql("DELETE FROM $table WHERE id % 9 = 3; ALTER INDEX ${table}_idx SET (flush_threshold = 1)");
	sql("VACUUM (INDEX_CLEANUP off) $table");
	is(state_of($table), '2|260|40', "$table: without index cleanup nothing is flushed");
	healthy($table, 'without index cleanup');
	# Several calls of bulk delete: more dead rows than have room, which need not be in the index
	my (undef, undef, $err) = $node->psql('postgres', "ALTER INDEX ${table}_idx SET (flush_threshold = 100000);
		INSERT INTO $table SELECT -1, NULL FROM generate_series(1, 200000); INSERT INTO $table SELECT i, point(i, $dims) FROM generate_series(301, 340) i;
		DELETE FROM $table WHERE id < 0 OR id % 9 = 4; SET maintenance_work_mem = '1MB'; VACUUM (VERBOSE) $table");
	like($err, qr/index scans: [2-9]/, "$table: several calls of bulk delete");
	healthy($table, 'several calls of bulk delete');
	sql("CREATE INDEX ${table}_second_idx ON $table USING ivfremote (v) WITH (flush_threshold = 1, lists = 4$kinds{$table}); DELETE FROM $table WHERE id % 9 = 5;
		INSERT INTO $table SELECT i, point(i, $dims) FROM generate_series(341, 350) i");
	(undef, undef, $err) = $node->psql('postgres', "SET max_parallel_maintenance_workers = 2; VACUUM (VERBOSE, INDEX_CLEANUP on, PARALLEL 2) $table");
	like($err, qr/launched [1-9]\d* parallel vacuum worker/, "$table: parallel VACUUM of two indexes");
	healthy($table, 'parallel VACUUM');
	is(sql("SELECT v FROM ivfremote_verify('${table}_second_idx', true) v"), '', "$table: its second index");
	sql("DROP INDEX ${table}_second_idx");
}
# Failsafe: the table is older than 105000 transactions
sql("DELETE FROM $_ WHERE id % 9 = 6; ALTER INDEX ${_}_idx SET (flush_threshold = 1)") for sort keys %kinds;
sql('DO $$ BEGIN FOR i IN 1 .. 106000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$');
# One command: its end starts autovacuum, against wraparound
my (undef, undef, $said) = $node->psql('postgres', 'SET vacuum_failsafe_age = 0; VACUUM embedded, remote');
for my $table (sort keys %kinds)
{
	like($said, qr/WARNING:  bypassing nonessential maintenance of table "postgres.public.$table" as a failsafe/, "$table: failsafe");
	healthy($table, 'failsafe');
	sql("VACUUM $table");
	like(state_of($table), qr/\|0$/, "$table: another VACUUM flushes");
	healthy($table, 'after failsafe');
}

# -- other files, other rows

sql(q{SET allow_in_place_tablespaces = on; CREATE TABLESPACE other LOCATION ''});
for my $table (sort keys %kinds)
{
	for my $change ("ALTER INDEX ${table}_idx SET TABLESPACE other", "ALTER TABLE $table SET TABLESPACE other", "ALTER TABLE $table ALTER id TYPE int8", "REINDEX INDEX ${table}_idx",
		"VACUUM FULL $table", "ALTER TABLE $table SET UNLOGGED", "ALTER TABLE $table SET LOGGED", "TRUNCATE $table")
	{
		sql("ALTER INDEX ${table}_idx SET (flush_threshold = 1); INSERT INTO $table SELECT nextval('ids'), point(i, $dims) FROM generate_series(1001, 1020) i; SELECT ivfremote_flush('${table}_idx'); INSERT INTO $table SELECT nextval('ids'), point(2000, $dims)");
		sql($change);
		healthy($table, $change);
	}
	# In a transaction that fails
	sql("INSERT INTO $table SELECT i, point(i, $dims) FROM generate_series(1, 100) i; SELECT ivfremote_flush('${table}_idx'); BEGIN; TRUNCATE $table; INSERT INTO $table SELECT i, point(-i, $dims) FROM generate_series(1, 50) i; ROLLBACK");
	healthy($table, 'TRUNCATE rolled back');
	sql("DROP TABLE $table");
	add_table($table, $node, $kinds{$table});
}

# -- copies

for my $strategy ('wal_log', 'file_copy')
{
	$node->safe_psql('template1', "CREATE DATABASE copy TEMPLATE postgres STRATEGY $strategy");
	for my $table (sort keys %kinds)
	{
		healthy($table, "$strategy: a copied database", $node, 'copy');
		$node->safe_psql('copy', "DELETE FROM $table WHERE id % 2 = 0; SELECT ivfremote_flush('${table}_idx')");
		$node->safe_psql('copy', "VACUUM $table");
		$node->safe_psql('copy', "CALL ivfremote_compact('${table}_idx', purge => true)");
		healthy($table, "$strategy: the copy, flushed and compacted", $node, 'copy');
		healthy($table, "$strategy: its original");
	}
	# Which needs what the copy no longer does
	$node->safe_psql('copy', q{SELECT ivfremote_gc('store', false, '0')}) for 1 .. 2;
	healthy($_, "$strategy: the original after a collection") for sort keys %kinds;
	$node->safe_psql('template1', 'DROP DATABASE copy');
}

# -- an upgrade to the same version, while the store is away

{
	my $old = new_node('old', conf => "fsync = off\n");
	$old->safe_psql('postgres', "CREATE SERVER store FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file://$store')");
	add_table($_, $old, $kinds{$_}) for sort keys %kinds;
	my $new = PostgreSQL::Test::Cluster->new('new');
	$new->init;
	$new->append_conf('postgresql.conf', "fsync = off\nautovacuum = off\n");
	$old->stop;
	rename $store, "$store.away" or die $!;
	my $bin = $new->config_data('--bindir');
	my $run = PostgreSQL::Test::Utils::tempdir;
	chdir $run or die $!;
	$new->command_ok([ 'pg_upgrade', '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $bin, '-B', $bin, '-s', $new->host, '-p', $old->port, '-P', $new->port ], 'pg_upgrade');
	$new->start;
	healthy('embedded', 'upgraded, the store away', $new);
	$new->safe_psql('postgres', "INSERT INTO remote SELECT i, point(i, $dims) FROM generate_series(401, 420) i");
	my ($status, $out, $err) = $new->psql('postgres', "SET enable_seqscan = off; SELECT id FROM remote ORDER BY v <-> point(1, $dims) LIMIT 1");
	like($err, qr/ERROR:  .*"remote_idx"/, 'upgraded, the store away: searches say so');
	rename "$store.away", $store or die $!;
	for my $table (sort keys %kinds)
	{
		healthy($table, 'upgraded', $new);
		$new->safe_psql('postgres', "DELETE FROM $table WHERE id % 9 = 7; SELECT ivfremote_flush('${table}_idx')");
		$new->safe_psql('postgres', "VACUUM $table");
		$new->safe_psql('postgres', "CALL ivfremote_compact('${table}_idx', purge => true)");
		healthy($table, 'upgraded, flushed and compacted', $new);
	}
	no_crash($new);
	$new->stop;
}

# -- as many segments as there can be, and pending rows

sql("CREATE TABLE crowded (id int, v real[]); CREATE INDEX crowded_idx ON crowded USING ivfremote (v) WITH (flush_threshold = 1, lists = 2);"
	. join('', map { "INSERT INTO crowded SELECT i, point(i, $dims) FROM generate_series($_ * 20 + 1, $_ * 20 + 20) i; SELECT ivfremote_flush('crowded_idx');" } 0 .. 39)
	. "INSERT INTO crowded SELECT i, point(i, $dims) FROM generate_series(1001, 1015) i");
is(state_of('crowded'), '40|800|15', '40 segments');
sql(q{CALL ivfremote_compact('crowded_idx')});
is(state_of('crowded'), '1|815|0', 'ivfremote_compact makes room for the flush it begins with');
healthy('crowded', 'compacted');

# -- all objects lost

healthy('remote', 'before the loss');
rmtree("$store/$_") for map { s{/.*}{}r } files_below($store, qr/\.seg$/);
my $search = "SET enable_seqscan = off; SELECT id FROM remote ORDER BY v <-> point(1, $dims) LIMIT 1";
my ($status, $out, $err) = $node->psql('postgres', $search);
like($err, qr/ERROR:  object of index "remote_idx" is missing in server "store".*HINT:  .*REINDEX INDEX CONCURRENTLY public\.remote_idx/s, 'without its objects: searches say what helps');
like(sql(q{SELECT string_agg(DISTINCT problem, ';') FROM ivfremote_verify('remote_idx')}), qr/object is missing/, 'and so does ivfremote_verify');
sql("INSERT INTO remote SELECT i, point(i, $dims) FROM generate_series(501, 520) i; UPDATE remote SET v = point(id + 1, $dims) WHERE id % 9 = 8; DELETE FROM remote WHERE id % 9 = 0");
sql('VACUUM remote');
sql('CREATE TABLE enough ()');
my $writers = start_psql($node, qq{DO \$\$ BEGIN FOR n IN 1 .. 100000 LOOP
	INSERT INTO remote SELECT n * 10 + i, point(i + n, $dims) FROM generate_series(1000, 1009) i; DELETE FROM remote WHERE id % 31 = n % 31; COMMIT;
	EXIT WHEN EXISTS (SELECT FROM enough); PERFORM pg_sleep(0.01); END LOOP; END \$\$});
$node->poll_query_until('postgres', 'SELECT count(*) > 0 FROM remote WHERE id >= 1010') or die 'no inserts';
sql('REINDEX INDEX CONCURRENTLY remote_idx');
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'beside'}), 1, 'rebuilt while rows come and go');
sql('INSERT INTO enough DEFAULT VALUES');
(undef, $err) = finish_psql($writers);
is($err, '', 'which meet no error');
healthy('remote', 'rebuilt');

no_crash($node);
$node->stop;
done_testing();
