# ivfremote_recall(): the recall it measures is that of a comparison with the table, for given and for sampled queries;
# with store, searches for queries unlike the table's rows reach their target, which they missed before.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $dims = 24;
my $node = new_node('recall_function', init => { allows_streaming => 1 },
	conf => "shared_buffers = 128MB\nwal_consistency_checking = 'generic'\nhot_standby_feedback = on\n");
add_store($node, 'store');
add_items($node, 'items', 12_000, $dims, 200);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Queries unlike the table's rows: in its midst, where the rows around belong to many lists
sql(qq{CREATE FUNCTION strange(seed float8, n int, OUT v real[]) RETURNS SETOF real[] LANGUAGE sql AS \$\$
	WITH s AS MATERIALIZED (SELECT setseed(seed)),
	rows AS MATERIALIZED (SELECT id, v FROM s, items ORDER BY random() LIMIT n)
	SELECT array_agg((e * 0.1 + random() - 0.5)::real ORDER BY j) FROM rows, unnest(v) WITH ORDINALITY u (e, j) GROUP BY id \$\$;
	CREATE TABLE strange_queries AS SELECT * FROM strange(0.5, 1200);
	CREATE TABLE more_strange_queries AS SELECT * FROM strange(0.7, 1200)});

# -- What it says is what a comparison says

my $ids = 'ARRAY(SELECT generate_series(7, 12000, 197))';
my %indexes = (
	'spilled' => [ 'items', 'v', '<->', ', spill = on' ],
	'l2' => [ 'items', 'v', '<->', '' ],
	'inner product' => [ 'items', 'v real_ip_ops', '<#>', '' ],
	'cosine' => [ 'items', 'v real_cosine_ops', '<=>', '' ],
	'floats' => [ 'items', 'v', '<->', ', quantization = none' ],
	'server' => [ 'items', 'v', '<->', ", server = 'store'" ]);
for my $name (sort keys %indexes)
{
	my ($source, $column, $op, $options) = @{ $indexes{$name} };
	sql("CREATE INDEX compared_idx ON $source USING ivfremote ($column) WITH (lists = 60, flush_threshold = 1$options)");
	for my $case ([ 'ivfremote.probes = 4', 10, '' ], [ 'ivfremote.recall_target = 0.9', 10, 0.9 ], [ 'ivfremote.probes = 9', 100, '' ])
	{
		next if $case->[1] == 100 && $name ne 'l2';
		my ($setting, $k, $target) = @$case;
		my ($said_target, $said) = split(/\|/, sql("SET $setting; SELECT * FROM ivfremote_recall('compared_idx', (SELECT array_agg(v) FROM $source WHERE id = ANY ($ids)), $k) LIMIT 1"));
		my $compared = sql("SET $setting; SELECT recall('$source', '$op', $ids, $k)");
		is($said_target, $target, "$name, $setting: the row's target");
		cmp_ok(abs($said - $compared), '<=', 0.005, "$name, $setting, k = $k: recall $said, compared with the table $compared");
		cmp_ok($compared, '<', 1, "$name: the test can tell") if $setting =~ /probes = 4/;
	}
	sql('DROP INDEX compared_idx');
}
sql('CREATE INDEX items_idx ON items USING ivfremote (v) WITH (lists = 60, flush_threshold = 1)');
is(sql(q{SELECT string_agg(recall_target::text, ',') FROM ivfremote_recall('items_idx')}), '0.95,0.8,0.9,0.95,0.98,0.99,0.999', 'one row for the session, then the targets');
is(sql(q{SELECT bool_and(recall > recall_target - 0.04 AND lists BETWEEN 1 AND 60 AND rows_scored >= 10 AND table_rows_read >= 10 AND bytes > 0) FROM ivfremote_recall('items_idx')}),
	't', 'sampled queries reach the targets of a curve from rows of the table');
is(sql(q{SET ivfremote.probes = 7; SELECT recall_target IS NULL, lists FROM ivfremote_recall('items_idx') LIMIT 1}), 't|7', 'a number of probes has no target');
# A row that counted as its own neighbour would always be found
cmp_ok(sql(q{SET ivfremote.probes = 1; SELECT recall FROM ivfremote_recall('items_idx', k => 1) LIMIT 1}), '<', 0.8, 'a sampled row is not its own neighbour');
cmp_ok(sql(q{SET ivfremote.probes = 1; SELECT recall FROM ivfremote_recall('items_idx', (SELECT array_agg(v) FROM items WHERE id <= 100), 1) LIMIT 1}), '>', 0.9,
	'a given query may find itself');
# The larger k, the more it takes
is(sql(q{SELECT ARRAY(SELECT lists FROM ivfremote_recall('items_idx', k => 1000) WHERE recall_target IN (0.9, 0.99))
	> ARRAY(SELECT lists FROM ivfremote_recall('items_idx', k => 10) WHERE recall_target IN (0.9, 0.99))}), 't', 'targets are about the k asked for');
is(sql(q{SET ivfremote.epsilon = 50; SELECT recall FROM ivfremote_recall('items_idx', (SELECT array_agg(v) FROM items WHERE id <= 20), 10000) WHERE recall_target = 0.999}) > 0.99, 1, 'the largest k');

# -- Rows of the table: pending, deleted, moved, of an expression, of a part

sql(q{CREATE FUNCTION halved(real[]) RETURNS real[] LANGUAGE sql IMMUTABLE AS 'SELECT array_agg(e / 2 ORDER BY j) FROM unnest($1) WITH ORDINALITY u (e, j)';
	CREATE TABLE changed (id int PRIMARY KEY, v real[], kind int) WITH (fillfactor = 70);
	INSERT INTO changed SELECT id, v, id % 3 FROM items WHERE id <= 4000;
	CREATE INDEX changed_idx ON changed USING ivfremote (public.halved(v)) WITH (lists = 30, flush_threshold = 1) WHERE kind = 1;
	DELETE FROM changed WHERE id % 5 = 0;
	INSERT INTO changed SELECT id, v, id % 3 FROM items WHERE id > 11000;
	INSERT INTO changed SELECT -id, NULL, 1 FROM items WHERE id < 100;
	UPDATE changed SET id = id + 100000 WHERE id % 7 = 0;
	UPDATE changed SET kind = 1 WHERE id % 11 = 0 AND kind = 2});
my $partial = q{SELECT recall FROM ivfremote_recall('changed_idx', (SELECT array_agg(halved(v)) FROM changed WHERE kind = 1 AND v IS NOT NULL AND id % 29 = 0)) LIMIT 1};
sql(q{CREATE VIEW part AS SELECT id, halved(v) AS v FROM changed WHERE kind = 1 AND v IS NOT NULL});
for my $setting ('ivfremote.probes = 3', 'ivfremote.recall_target = 0.95')
{
	my $said = sql("SET $setting; $partial");
	my $compared = sql("SET $setting; SELECT recall('part', '<->', ARRAY(SELECT id FROM part WHERE id % 29 = 0), 10)");
	cmp_ok(abs($said - $compared), '<=', 0.005, "expression, part, changes, $setting: recall $said, compared with the table $compared");
}
cmp_ok(sql(q{SELECT recall FROM ivfremote_recall('changed_idx') WHERE recall_target = 0.95}), '>', 0.9, 'and sampled');
# A snapshot sees what it sees
is(sql(q{BEGIN; DELETE FROM changed WHERE id > 20; CREATE TEMP TABLE r AS SELECT recall FROM ivfremote_recall('changed_idx', (SELECT array_agg(halved(v)) FROM items WHERE id < 30)) LIMIT 1;
	ROLLBACK; SELECT 1}), 1, 'rows deleted by the transaction itself');

# -- Queries unlike the rows: the point of store

sub measure
{
	return map { split(/\|/, $_) } split(/\n/, sql(q{SELECT recall_target, recall FROM ivfremote_recall('items_idx', (SELECT array_agg(v) FROM more_strange_queries)) OFFSET 1}));
}

my @targets = (0.8, 0.9, 0.95);
my %before = measure();
note('strange queries before: ' . join(', ', map { "$before{$_} of $_" } @targets));
cmp_ok($before{$_}, '<', $_ - 0.1, "the build's curve misses $_") for @targets;
# A session that has the old curve in memory
my $other = start_psql($node, q{SELECT probes FROM ivfremote_info('items_idx');
DO $$ BEGIN WHILE NOT (SELECT bool_and(from_queries) FROM ivfremote_recall_curve('items_idx')) LOOP PERFORM pg_sleep(0.05); END LOOP; END $$;
SELECT probes FROM ivfremote_info('items_idx');});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'beside' AND wait_event = 'PgSleep'}) or die;
is(sql(q{SELECT DISTINCT from_queries FROM ivfremote_recall_curve('items_idx')}), 'f', 'the build\'s curve is from rows');
sql(q{SELECT count(*) FROM ivfremote_recall('items_idx', (SELECT array_agg(v) FROM strange_queries), store => true)});
my %after = measure();
note('strange queries after: ' . join(', ', map { "$after{$_} of $_" } @targets));
cmp_ok($after{$_} - $_, '>=', -0.02, "other queries of the kind reach $_ after store") for @targets;
# A curve errs on the side of more lists, by a standard error
cmp_ok($after{$_} - $_, '<=', 0.035, "and do no more than that: $_") for @targets;
is(sql(q{SELECT DISTINCT from_queries, queries FROM ivfremote_recall_curve('items_idx')}), 't|1200', 'the curve says what it is from');
is(sql(q{SELECT string_agg(DISTINCT k::text, ','), count(*) > 20 FROM ivfremote_recall_curve('items_idx')}), '1,10,100,1000,10000|t', 'and has every k');
my ($seen, $error) = finish_psql($other);
my ($old_probes, $new_probes) = split(/\n/, $seen);
cmp_ok($old_probes, '!=', $new_probes, "a running session takes the new curve: $old_probes lists, then $new_probes") or diag($error);
# As other maintenance it is no part of the transaction
sql(q{BEGIN; SELECT count(*) FROM ivfremote_recall('items_idx', store => true); ROLLBACK});
is(sql(q{SELECT DISTINCT from_queries, queries FROM ivfremote_recall_curve('items_idx')}), 'f|400', 'store with sampled queries, and after ROLLBACK');
sql('REINDEX INDEX items_idx');
is(sql(q{SELECT DISTINCT from_queries FROM ivfremote_recall_curve('items_idx')}), 'f', 'REINDEX finds its own curve');

# Rows in two lists each: the curve found in the same way as the build's is the build's, but for the sample
sql(q{CREATE INDEX spilled_idx ON items USING ivfremote (v) WITH (lists = 60, flush_threshold = 1, spill = on)});
my $spilled_lists = q{SELECT lists FROM ivfremote_recall_curve('spilled_idx') WHERE k = 10 AND recall = 0.95};
my ($built, $found) = (sql($spilled_lists), sql(qq{SELECT count(*) FROM ivfremote_recall('spilled_idx', store => true); $spilled_lists}) =~ s/^7\n//r);
cmp_ok(abs($found / $built - 1), '<', 0.25, "spilled: $found lists, the build found $built");
cmp_ok(abs(sql(q{SELECT recall - recall_target FROM ivfremote_recall('spilled_idx') WHERE recall_target = 0.95})), '<', 0.04, 'spilled: reaches the target');
sql('DROP INDEX spilled_idx');

# -- Settings are as they were, also after an error amid the targets

my $show = q{SELECT concat_ws(' ', current_setting('ivfremote.probes'), current_setting('ivfremote.recall_target'), current_setting('ivfremote.recall_k'))};
is(sql("SET ivfremote.probes = 3; SET ivfremote.recall_target = 0.7; SET ivfremote.recall_k = 5; SELECT count(*) FROM ivfremote_recall('items_idx'); $show"), "7\n3 0.7 5",
	'settings after success');
sql(q{CREATE FUNCTION fails(real[]) RETURNS real[] LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN IF current_setting('ivfremote.recall_target', true) = '0.95' THEN RAISE 'at 0.95'; END IF; RETURN $1; END $$;
	CREATE TABLE failing AS SELECT * FROM items WHERE id <= 1500;
	CREATE INDEX failing_idx ON failing USING ivfremote (public.fails(v)) WITH (lists = 10, flush_threshold = 1)});
is(sql("SET ivfremote.probes = 3; SET ivfremote.recall_target = 0.7; BEGIN; SET LOCAL ivfremote.recall_k = 6;
	SELECT attempt(\$\$SELECT count(*) FROM ivfremote_recall('failing_idx')\$\$); $show; SELECT current_user; COMMIT; $show"), "P0001 | at 0.95\n3 0.7 6\npostgres\n3 0.7 10",
	'settings after an error in a subtransaction');
my ($status, $out, $err) = $node->psql('postgres', "SET ivfremote.probes = 3; SET ivfremote.recall_target = 0.7; SELECT count(*) FROM ivfremote_recall('failing_idx');
	$show", on_error_stop => 0);
is($out, '3 0.7 10', 'settings after an error');
like($err, qr/at 0\.95/, 'which there was');

# -- Who may

sql(q{CREATE ROLE owner_; CREATE ROLE member IN ROLE owner_; CREATE ROLE monitor IN ROLE pg_monitor; CREATE ROLE reader;
	GRANT ALL ON SCHEMA public TO owner_;
	CREATE FUNCTION as_owner(real[]) RETURNS real[] LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN IF current_user <> 'owner_' THEN RAISE 'called by %', current_user; END IF; RETURN $1; END $$;
	CREATE TABLE owned AS SELECT * FROM items WHERE id <= 1500; ALTER TABLE owned OWNER TO owner_; GRANT SELECT ON owned TO reader;
	SET ROLE owner_; CREATE INDEX owned_idx ON owned USING ivfremote (public.as_owner(v)) WITH (lists = 10, flush_threshold = 1) WHERE public.as_owner(v) IS NOT NULL});
my %may = (owner_ => [ 'done', 'done' ], member => [ 'done', 'done' ], postgres => [ 'done', 'done' ],
	monitor => [ '42501 | must be owner of table owned', 'done' ], reader => [ '42501 | must be owner of table owned', '42501 | must be owner of index owned_idx' ]);
for my $role (sort keys %may)
{
	is(sql("SET ROLE $role; SELECT attempt(\$\$SELECT ivfremote_recall('owned_idx', store => $_)\$\$)"), $may{$role}[0], "$role: ivfremote_recall, store $_") for qw(false true);
	is(sql("SET ROLE $role; SELECT attempt(\$\$SELECT ivfremote_recall_curve('owned_idx')\$\$)"), $may{$role}[1], "$role: ivfremote_recall_curve");
}

# -- It can be stopped, in the pass over the table and in the searches

for my $case ([ 'the pass', '(SELECT array_agg(v) FROM items WHERE id <= 2000), 10000', 300 ], [ 'the searches', '(SELECT array_agg(v) FROM items WHERE id <= 400), 10000', 2500 ])
{
	my ($phase, $arguments, $timeout) = @$case;
	my $start = time;
	like(sql("SET statement_timeout = $timeout; SELECT attempt(\$\$SELECT count(*) FROM ivfremote_recall('items_idx', $arguments)\$\$)"), qr/^57014/, "cancelled in $phase");
	my $took = time - $start;
	cmp_ok($took, '<', $timeout / 1000 + 1.5, sprintf('at once: %.0f ms of %d', $took * 1000, $timeout));
}

# -- Inserts, vacuums and searches go on beside store

sql(q{CREATE TABLE busy (id int, v real[]); INSERT INTO busy SELECT * FROM items WHERE id <= 3000;
	CREATE INDEX busy_idx ON busy USING ivfremote (v) WITH (lists = 20, flush_threshold = 1)});
my @beside = map { start_psql($node, join("\n", map { "INSERT INTO busy SELECT id + 100000, v FROM items WHERE id % 2000 = $_;" } ($_ * 1000) .. ($_ * 1000 + 999))) } 0 .. 1;
my $stored = 0;
while (sql(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'beside'}) > 0)
{
	sql(q{SELECT count(*) FROM ivfremote_recall('busy_idx', (SELECT array_agg(v) FROM items WHERE id <= 60), store => true)});
	++$stored;
}
for my $psql (@beside)
{
	my ($printed, $errors) = finish_psql($psql);
	is("$printed$errors", '', 'inserts beside store');
}
cmp_ok($stored, '>=', 2, "stored $stored times beside them");
is(sql(q{SELECT pending_rows FROM ivfremote_info('busy_idx')}), sql(q{SELECT count(*) - 3000 FROM busy}), 'no insert is lost');
# All bounds below the distances, so that all rows come in order
is(sql(qq{SET ivfremote.epsilon = 100; SELECT string_agg(DISTINCT compare('busy', '<->', point(i, $dims), 15000), '; ') FROM generate_series(1, 40, 13) i}), 'same', 'and each is found');

# -- Other kinds of tables

sql(q{CREATE UNLOGGED TABLE unlogged AS SELECT * FROM items WHERE id <= 1500; CREATE INDEX unlogged_idx ON unlogged USING ivfremote (v) WITH (lists = 10, flush_threshold = 1)});
is(sql(q{SELECT count(*) FROM ivfremote_recall('unlogged_idx', store => true)}), 7, 'unlogged');
is(sql(q{CREATE TEMP TABLE temporary AS SELECT * FROM items WHERE id <= 1500; CREATE INDEX temporary_idx ON temporary USING ivfremote (v) WITH (lists = 10, flush_threshold = 1);
	SELECT count(*) FROM ivfremote_recall('temporary_idx', store => true)}), 7, 'temporary');

# -- On a standby

$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
sql(q{SELECT count(*) FROM ivfremote_recall('items_idx', (SELECT array_agg(v) FROM strange_queries), store => true)});
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
my $same = q{SELECT string_agg(r::text, ';') FROM ivfremote_recall('items_idx', (SELECT array_agg(v) FROM strange_queries)) r};
is($standby->safe_psql('postgres', $same), sql($same), 'a standby measures what the primary does, with the curve stored there');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM ivfremote_recall('items_idx')}), 7, 'sampled, too');
is($standby->safe_psql('postgres', q{SELECT DISTINCT from_queries FROM ivfremote_recall_curve('items_idx')}), 't', 'and has the curve');
like($standby->safe_psql('postgres', q{SELECT attempt($$SELECT ivfremote_recall('items_idx', store => true)$$)}), qr/^25006/, 'store is refused there');
like($standby->safe_psql('postgres', q{SELECT attempt($$SELECT ivfremote_recall('unlogged_idx')$$)}), qr/^0A000/, 'and an unlogged index');

no_crash($node);
no_crash($standby);
unlike(slurp_file($standby->logfile), qr/inconsistent page found/, 'every replayed page is the primary\'s');
$standby->stop;
$node->stop;
done_testing();
