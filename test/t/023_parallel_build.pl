# Builds with parallel workers: the index is the serial one, to the byte; errors, cancels and killed workers end a build
# cleanly; and rows that come and go meanwhile are not lost.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $limit_ms = 2000;  # as in 003_cancel.pl; the aim is 200
my $node = new_node('parallel', conf => q{
max_parallel_maintenance_workers = 2
max_worker_processes = 8
max_parallel_workers = 8
maintenance_work_mem = 64MB
});
my $directory = add_store($node, 'store');
my $dims = 16;
$node->safe_psql('postgres', qq{
SELECT setseed(0.5);
-- Clouds apart from each other: a row between two lists might go to either, as products are rounded.
CREATE FUNCTION noise(i int, dims int) RETURNS real[] LANGUAGE sql AS
  'SELECT array_agg((3 * p + random() - 0.5)::real) FROM unnest(point(i % 60, dims)) p';
CREATE TABLE items (id int PRIMARY KEY, v real[], part int);
-- Every 50th is NULL; under cosine every 70th has no direction; some are equal.
INSERT INTO items SELECT i, CASE WHEN i % 50 = 0 THEN NULL WHEN i % 70 = 0 THEN array_fill(0::real, '{$dims}') WHEN i % 30 = 0 THEN array_fill(0.1::real, '{$dims}') ELSE noise(i, $dims) END, i % 3
  FROM generate_series(1, 6000) i;
DELETE FROM items WHERE id % 97 = 0;
UPDATE items SET part = part WHERE id % 11 = 0;
ANALYZE items;

CREATE FUNCTION is_worker() RETURNS bool LANGUAGE sql PARALLEL SAFE AS
  'SELECT leader_pid IS NOT NULL FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()';
CREATE FUNCTION head(v real[]) RETURNS real[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT v[1:8]';
CREATE FUNCTION unsafe_head(v real[]) RETURNS real[] LANGUAGE plpgsql IMMUTABLE PARALLEL UNSAFE AS 'BEGIN RETURN v[1:8]; END';
-- Not what they promise: these tell workers from others.
CREATE FUNCTION shorter(v real[]) RETURNS real[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS
  'BEGIN RETURN CASE WHEN public.is_worker() THEN v[1:3] ELSE v[1:4] END; END';
CREATE FUNCTION slower(v real[]) RETURNS real[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS
  'BEGIN IF public.is_worker() THEN PERFORM pg_catalog.pg_sleep(0.001); END IF; RETURN v; END';
CREATE FUNCTION stopping(v real[]) RETURNS real[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS
  'BEGIN IF public.is_worker() THEN PERFORM pg_catalog.pg_sleep(600); END IF; RETURN v; END';
});

# Runs a build with the table's parallel_workers; returns how many were launched.
sub build
{
	my ($table, $workers, $settings, $statement) = @_;
	my ($code, $out, $err) = $node->psql('postgres',
		"ALTER TABLE $table SET (parallel_workers = $workers); SET client_min_messages = debug1; $settings; $statement");
	is($code, 0, $statement) or diag($err);
	return $err =~ /with (\d+) of \d+ parallel workers/ ? $1 : 0;
}

# A segment's bytes but for its header, which has its name.
sub segment_bytes
{
	my ($index) = @_;
	my $key = $node->safe_psql('postgres', "SELECT object_key FROM ivfremote_segments('$index')");
	return substr(slurp_file("$directory/$key"), 128);
}

sub no_temporary_files
{
	my ($name) = @_;
	my $temporary = $node->data_dir . '/base/pgsql_tmp';
	is_deeply([ -d $temporary ? files_below($temporary, qr/./) : () ], [], "$name: no temporary file is left");
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker'}), 0, "$name: no worker is left");
	return;
}

# Serial and parallel builds write the same: with rows as floats nothing depends on an index's random rotation.
my $leader = 'SET parallel_leader_participation = off';
for my $kind ([ 'l2', 'v', '' ], [ 'spill', 'v', ', spill = on' ], [ 'ip', 'v real_ip_ops', '' ], [ 'cosine', 'v real_cosine_ops', '' ])
{
	my ($name, $column, $options) = @$kind;
	my $create = "ON items USING ivfremote ($column) WITH (flush_threshold = 1, lists = 80, quantization = none, server = 'store'$options)";
	is(build('items', 0, '', "CREATE INDEX serial $create"), 0, "$name: a serial build has no workers");
	is(build('items', 2, '', "CREATE INDEX shared $create"), 2, "$name: two workers and the leader");
	is(build('items', 2, $leader, "CREATE INDEX workers $create"), 2, "$name: two workers alone");
	my $expected = segment_bytes('serial');
	cmp_ok(length($expected), '>', 5000 * $dims * 4, "$name: a segment with all rows");
	for my $index ('shared', 'workers')
	{
		ok(segment_bytes($index) eq $expected, "$name: $index has the serial build's segment");
		# Neighbours at the same distance but for rounding may change places.
		is($node->safe_psql('postgres', qq{
			SELECT count(*), sum(a.queries) = sum(b.queries), max(abs(a.lists / b.lists - 1)) < 0.01, max(abs(a.rows / b.rows - 1)) < 0.01
			FROM ivfremote_recall_curve('serial') a JOIN ivfremote_recall_curve('$index') b USING (k, recall)}), '50|t|t|t', "$name: $index has its recall curve");
		is($node->safe_psql('postgres', "SELECT reltuples FROM pg_class WHERE relname = '$index'"),
			$node->safe_psql('postgres', "SELECT reltuples FROM pg_class WHERE relname = 'serial'"), "$name: $index counts its rows");
	}
	$node->safe_psql('postgres', 'DROP INDEX serial, workers');
	my $op = { l2 => '<->', spill => '<->', ip => '<#>', cosine => '<=>' }->{$name};
	kept_ok($node, "(SELECT * FROM items WHERE v IS NOT NULL) s", $op, $dims, "$name: every row is found") unless $name eq 'cosine';
	$node->safe_psql('postgres', 'DROP INDEX shared');
}

# The tid map knows every row: what VACUUM removes is gone, and nothing else.
$node->safe_psql('postgres', 'CREATE TABLE few AS SELECT * FROM items WHERE v IS NOT NULL');
is(build('few', 2, $leader, q{CREATE INDEX few_idx ON few USING ivfremote (v) WITH (flush_threshold = 1, lists = 30)}), 2, 'embedded and coded: two workers');
$node->safe_psql('postgres', 'DELETE FROM few WHERE id % 3 = 0');
$node->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP on) few');
is($node->safe_psql('postgres', q{SELECT reltuples = (SELECT count(*) FROM few) FROM pg_class WHERE relname = 'few_idx'}), 't', 'VACUUM counts the rows that are left');
$node->safe_psql('postgres', 'INSERT INTO few SELECT 10000 + i, noise(i, 16), 0 FROM generate_series(1, 3000) i');
kept_ok($node, 'few', '<->', $dims, 'and new rows in their places are no others');

# Rows in other tables and by other columns
is(build('items', 2, $leader, q{CREATE INDEX head_idx ON items USING ivfremote (head(v)) WITH (flush_threshold = 1, lists = 20)}), 2, 'an expression');
my $by_head = q{SELECT array_agg(id) FROM (SELECT id FROM items WHERE v IS NOT NULL ORDER BY head(v) <-> '{0.1,0.2,0.3,0,0,0,-0.1,0.2}'::real[], id LIMIT 10) x};
is($node->safe_psql('postgres', "SET ivfremote.probes = 100; SET ivfremote.epsilon = 100; SET enable_seqscan = off; $by_head"),
	$node->safe_psql('postgres', "SET ivfremote.enable_scan = off; $by_head"), 'the expression finds the same rows');
is($node->safe_psql('postgres', q{SELECT segment_rows = (SELECT count(v) FROM items) FROM ivfremote_info('head_idx')}), 't', 'all of them');
$node->safe_psql('postgres', 'DROP INDEX head_idx');
is(build('items', 2, '', q{CREATE INDEX head_idx ON items USING ivfremote (unsafe_head(v)) WITH (flush_threshold = 1, lists = 20)}), 0, 'an expression that is not parallel safe');
$node->safe_psql('postgres', 'DROP INDEX head_idx');
is(build('items', 2, $leader, q{CREATE INDEX part_idx ON items USING ivfremote (v) WITH (flush_threshold = 1, lists = 20) WHERE part = 1}), 2, 'a partial index');
is($node->safe_psql('postgres', q{SELECT segment_rows = (SELECT count(v) FROM items WHERE part = 1) FROM ivfremote_info('part_idx')}), 't', 'has its rows');
$node->safe_psql('postgres', 'DROP INDEX part_idx');
$node->safe_psql('postgres', 'CREATE UNLOGGED TABLE unlogged AS SELECT * FROM few');
is(build('unlogged', 2, $leader, q{CREATE INDEX unlogged_idx ON unlogged USING ivfremote (v) WITH (flush_threshold = 1, lists = 20)}), 2, 'an unlogged table');
kept_ok($node, 'unlogged', '<->', $dims, 'an unlogged table');
my ($code, $out, $err) = $node->psql('postgres', q{CREATE TEMPORARY TABLE mine AS SELECT * FROM few; ALTER TABLE mine SET (parallel_workers = 2); SET client_min_messages = debug1;
	CREATE INDEX mine_idx ON mine USING ivfremote (v) WITH (flush_threshold = 1, lists = 20); SELECT segment_rows = (SELECT count(*) FROM mine) FROM ivfremote_info('mine_idx')});
unlike($err, qr/parallel workers/, 'a temporary table has no workers');
is($out, 't', 'and is built');

# How many workers, where the table doesn't say: by its vectors, which are in TOAST
SKIP:
{
	skip 'needs two processors', 4 if `getconf _NPROCESSORS_ONLN` < 2;
	$node->safe_psql('postgres', q{CREATE TABLE wide AS SELECT i AS id, array_fill((i % 13)::real, '{1500}') AS v FROM generate_series(1, 2000) i; ALTER TABLE wide ALTER v SET STORAGE EXTERNAL});
	my $wide = 'CREATE INDEX wide_idx ON wide USING ivfremote (v) WITH (flush_threshold = 1, lists = 4)';
	my $launched = sub { my ($settings) = @_;
		my ($code, $out, $err) = $node->psql('postgres', "SET client_min_messages = debug1; $settings; $wide; DROP INDEX wide_idx");
		return $err =~ /with (\d+) of \d+ parallel workers/ ? $1 : 0; };
	is($launched->(''), 1, '12 MB of vectors: one worker');
	is($launched->(q{SET maintenance_work_mem = '63MB'}), 0, 'each participant needs 32 MB of maintenance_work_mem');
	is($launched->('SET max_parallel_maintenance_workers = 0'), 0, 'none if none may be');
	$node->safe_psql('postgres', 'DELETE FROM wide WHERE id > 1000; VACUUM wide');
	is($launched->(''), 0, '6 MB of vectors: not worth a worker');
}

# Fewer than asked for, or none, are no error.
for my $most (1, 0)
{
	is(build('few', 2, "SET max_parallel_workers = $most; DROP INDEX few_idx", q{CREATE INDEX few_idx ON few USING ivfremote (v) WITH (flush_threshold = 1, lists = 30)}), $most, "$most of 2 workers");
	kept_ok($node, 'few', '<->', $dims, "$most of 2 workers: every row is found");
}

# Concurrent builds while rows come and go
$node->safe_psql('postgres', "CREATE SEQUENCE ids START 100000; CREATE TABLE late (id int PRIMARY KEY, v real[]); INSERT INTO late SELECT i, noise(i, $dims) FROM generate_series(1, 4000) i");
for my $settings ('', $leader)
{
	my $writers = start_psql($node, join("\n", map { "INSERT INTO late SELECT nextval('ids'), noise(i, $dims) FROM generate_series(1, 20) i; DELETE FROM late WHERE id % 197 = $_; UPDATE late SET v = noise(2, $dims) WHERE id % 189 = $_;" } 0 .. 80));
	is(build('late', 2, $settings, q{CREATE INDEX CONCURRENTLY late_idx ON late USING ivfremote (v) WITH (flush_threshold = 1, lists = 20)}), 2, "CREATE INDEX CONCURRENTLY has workers");
	is(build('late', 2, $settings, q{REINDEX INDEX CONCURRENTLY late_idx}), 2, 'REINDEX CONCURRENTLY has workers');
	my ($out, $err) = finish_psql($writers);
	is($err, '', 'writers beside it');
	kept_ok($node, 'late', '<->', $dims, 'no row is missed');
	$node->safe_psql('postgres', 'DROP INDEX late_idx');
}
no_temporary_files('after builds');

# Errors of a worker
my $with = 'WITH (flush_threshold = 1, lists = 20)';
$node->safe_psql('postgres', 'ALTER TABLE items SET (parallel_workers = 2)');
($code, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$leader; CREATE INDEX bad ON items USING ivfremote (shorter(v)) $with");
like($err, qr/ERROR:  22000: expected 4 dimensions, not 3\n(?s:.*)CONTEXT:(?s:.*)parallel worker/, 'a worker\'s error arrives as it is');
no_temporary_files('a worker\'s error');
my ($limited) = $node->safe_psql('postgres', qq{SET temp_file_limit = '1kB'; SELECT attempt('CREATE INDEX bad ON items USING ivfremote (v) $with')});
like($limited, qr/^53400 \| temporary file size exceeds temp_file_limit/, 'temp_file_limit holds for what workers are handed');
no_temporary_files('a full temp_file_limit');

# Progress counts workers' rows, reported by a leader that does none.
my $slow = start_psql($node, "$leader; CREATE INDEX slow_idx ON items USING ivfremote (slower(v)) $with");
ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_progress_create_index WHERE phase ~ 'assigning' AND tuples_done BETWEEN 1000 AND 5000 AND tuples_total > 5000}), 'progress of workers');
($out, $err) = finish_psql($slow);
is($err, '', 'the slow build ends');

# Workers that would go on for minutes
my $workers_wait = q{SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'parallel worker' AND wait_event = 'PgSleep'};
for my $end ('cancel', 'terminate', 'worker')
{
	my $beside = start_psql($node, "$leader;\nCREATE INDEX bad ON items USING ivfremote (stopping(v)) $with;\nSELECT 'still here';\n");
	ok($node->poll_query_until('postgres', $workers_wait), "$end: workers wait");
	my $victim = $end eq 'worker' ? q{backend_type = 'parallel worker' AND leader_pid IS NOT NULL} : q{application_name = 'beside' AND leader_pid IS NULL};
	my $how = $end eq 'cancel' ? 'pg_cancel_backend' : 'pg_terminate_backend';
	my $ms = $node->safe_psql('postgres', qq{
		SELECT clock_timestamp() AS since \\gset
		SELECT $how(pid) AS told FROM pg_stat_activity WHERE $victim LIMIT 1 \\gset
		DO \$\$ BEGIN
		  WHILE EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'beside' AND query ~ 'stopping' AND state = 'active') LOOP
		    PERFORM pg_stat_clear_snapshot();
		    PERFORM pg_sleep(0.005);
		  END LOOP;
		END \$\$;
		SELECT extract(epoch FROM clock_timestamp() - :'since') * 1000});
	($out, $err) = finish_psql($beside);
	note(sprintf('%s: ended after %.1f ms', $end, $ms));
	cmp_ok($ms, '<', $limit_ms, "$end: ends soon");
	my %errors = (cancel => qr/canceling statement due to user request/, terminate => qr/terminating connection/,
		worker => qr/ERROR:  terminating background worker "parallel worker" due to administrator command\nCONTEXT:  (?s:.*)parallel worker/);
	like($err, $errors{$end}, "$end: and says why");
	is($out, $end eq 'terminate' ? '' : "still here\n", "$end: the session");
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'parallel worker'}), "$end: its workers end");
	no_temporary_files($end);
}

no_crash($node);
$node->stop;
done_testing();
