# Flush: VACUUM and ivfremote_flush() make a segment of pending rows, and train an untrained index. Searches are exact before,
# after and in between, wherever it fails or waits; inserts never wait for it; a store that fails is a warning in VACUUM.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('flush', conf => "fsync = off\nmin_parallel_index_scan_size = 0\n");
need_faults($node);
my $directory = add_store($node, 'store');

sub sql { return $node->safe_psql('postgres', $_[0]); }

# Trained, pending rows, segments and their rows
sub state_of
{
	my ($index) = @_;
	return sql("SELECT trained, pending_rows, segments, segment_rows FROM ivfremote_info('$index')");
}

# ---------------------------------------------------------------------------------------------------------------------
# Each kind of index, from its first row on

my %kinds = (
	embedded => [ '<->', 'v', 16, 400, '' ],
	file => [ '<->', 'v', 16, 400, ", server = 'store'" ],
	floats => [ '<->', 'v', 5, 400, ', quantization = none' ],
	wide => [ '<->', 'v', 2100, 40, ', quantization = none' ],
	wide_codes => [ '<->', 'v', 8200, 30, ', bits = 8' ],
	ip => [ '<#>', 'v real_ip_ops', 16, 400, '' ],
	cosine => [ '<=>', 'v real_cosine_ops', 16, 400, ", bits = 4, server = 'store'" ],
	spill => [ '<->', 'v', 16, 400, ', spill = on' ]);
for my $kind (sort keys %kinds)
{
	my ($op, $column, $dims, $rows, $options) = @{ $kinds{$kind} };
	my $next = 1;
	my $insert = sub {
		my ($count) = @_;
		my $first = $next;
		$next += $count;
		sql("INSERT INTO $kind SELECT i, point(i, $dims) FROM generate_series($first, $next - 1) i");
	};
	my $kept = sub { kept_ok($node, $kind, $op, $dims, "$kind: $_[0]"); };
	my $flush = "SELECT attempt(\$\$SELECT ivfremote_flush('${kind}_idx')\$\$)";
	my $fail = sub {
		my ($point) = @_;
		like(sql("SET ivfremote.test_point = '$point=error'; $flush"), qr/test point $point/, "$kind: $point fails");
		$insert->(3);
		$kept->("after $point");
	};
	sql("CREATE TABLE $kind (id int, v real[]);
		CREATE INDEX ${kind}_idx ON $kind USING ivfremote ($column) WITH (flush_threshold = 20, lists = 6$options)");
	$insert->($rows);
	sql("DELETE FROM $kind WHERE id % 10 = 4; VACUUM (INDEX_CLEANUP off) $kind; DELETE FROM $kind WHERE id % 10 = 5");
	$kept->('untrained');
	$fail->($_) for qw(seal.directory seal.published flush.uploaded flush.pages);
	is((split /\|/, state_of("${kind}_idx"))[0], 'f', "$kind: not trained by half");
	# Trained, and floats pending: those that came since it was sealed
	$fail->('train.published');
	like(state_of("${kind}_idx"), qr/^t\|\d+\|1\|/, "$kind: trained");
	# They have no lists: every search looks at them
	is(sql("SET enable_seqscan = off; SET ivfremote.probes = 1; SELECT count(*) FROM generate_series($rows + 4, $rows + 12) i
		WHERE i = (SELECT id FROM $kind ORDER BY v $op point(i, $dims) LIMIT 1)"), 9, "$kind: floats are found whatever is probed") if $kind ne 'ip';
	$fail->($_) for qw(flush.uploaded flush.pages flush.published);
	is(sql("SELECT ivfremote_flush('${kind}_idx')"), 12, "$kind: what was inserted since");
	$kept->('trained');
	like(state_of("${kind}_idx"), qr/^t\|0\|3\|/, "$kind: nothing is pending");
	is(sql("SELECT count(*) FROM (SELECT id FROM $kind ORDER BY v $op NULL LIMIT 10000) s"), sql("SELECT count(*) FROM $kind"), "$kind: without distances");

	# Codes, with dead rows among them
	$insert->(40);
	sql("DELETE FROM $kind WHERE id > $next - 20 AND id % 2 = 0");
	$fail->($_) for qw(seal.directory seal.published flush.uploaded flush.pages flush.published);
	sql("VACUUM $kind");
	$kept->('vacuumed');
	is(sql("SELECT ivfremote_flush('${kind}_idx')"), 12, "$kind: fewer than its threshold, by hand");
	is(sql("SELECT ivfremote_flush('${kind}_idx')"), 0, "$kind: and no more");
	$kept->('flushed');
	# All of it dead
	sql("INSERT INTO $kind SELECT -i, point(i, $dims) FROM generate_series(1, 30) i");
	my $before = state_of("${kind}_idx");
	sql("DELETE FROM $kind WHERE id < 0; SET ivfremote.test_point = 'flush.uploaded=error'; VACUUM $kind");
	is(sql("SELECT ivfremote_flush('${kind}_idx')"), 0, "$kind: nothing alive is pending");
	is((split /\|/, state_of("${kind}_idx"))[2], (split /\|/, $before)[2], "$kind: dead rows make no segment");
	$kept->('again');
	sql("UPDATE $kind SET v = point(id + 1, $dims) WHERE id % 3 = 0; VACUUM $kind; VACUUM $kind");
	$kept->('updated');
}

# ---------------------------------------------------------------------------------------------------------------------
# Beside inserts

my $dims = 8;
sql("CREATE TABLE items (id serial, v real[]);
	CREATE INDEX items_idx ON items USING ivfremote (v) WITH (flush_threshold = 50, lists = 8);
	INSERT INTO items (v) SELECT point(i, $dims) FROM generate_series(1, 300) i");
my $holder = start_session($node, name => 'holder');
my $flusher = start_session($node, name => 'flusher');
my $waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = '%s' AND wait_event_type = '%s'";

# A flush that waits at a point, and what goes on meanwhile
sub paused
{
	my ($point, $flushed) = @_;
	ask($holder, 'SELECT pg_advisory_lock(1)');
	ask($flusher, "SET ivfremote.test_point = '$point=pause'");
	say_to($flusher, "SELECT ivfremote_flush('items_idx')");
	$flusher->{run}->pump_nb;
	$node->poll_query_until('postgres', sprintf($waiting, 'flusher', 'Lock'), '1') or die "no wait at $point";
	sql("INSERT INTO items (v) SELECT point(i, $dims) FROM generate_series(301, 310) i; UPDATE items SET v = point(id + 7, $dims) WHERE id % 50 = 1; DELETE FROM items WHERE id % 50 = 2");
	kept_ok($node, 'items', '<->', $dims, "waits at $point");
	ask($holder, 'SELECT pg_advisory_unlock(1)');
	my $rows = ask($flusher, 'SELECT 1');
	like($rows, $flushed, "$point: rows flushed");
	kept_ok($node, 'items', '<->', $dims, "after $point");
	return;
}
# Of 300 rows; then what came while it was trained
paused('flush.pages', qr/^317\n1$/);
like(state_of('items_idx'), qr/^t\|0\|2\|317$/, 'trained beside inserts: all flushed');
sql("INSERT INTO items (v) SELECT point(i, $dims) FROM generate_series(311, 320) i"), paused($_, qr/^[1-9]\d+\n1$/)
  for qw(seal.directory seal.published flush.uploaded flush.pages flush.published);

# An insert that has seen the current generation, and not yet appended to it: whoever seals that waits for it
ask($holder, 'SELECT pg_advisory_lock(1)');
my $inserter = start_session($node, name => 'inserter');
ask($inserter, "SET ivfremote.test_point = 'insert.compared=pause'");
say_to($inserter, "INSERT INTO items (v) VALUES (point(1000, $dims))");
$inserter->{run}->pump_nb;
$node->poll_query_until('postgres', sprintf($waiting, 'inserter', 'Lock'), '1') or die 'no wait of the insert';
ask($flusher, "SET ivfremote.test_point = ''");
say_to($flusher, "SELECT ivfremote_flush('items_idx')");
$flusher->{run}->pump_nb;
# It waits for a page lock; if it did not, it would end
$node->poll_query_until('postgres', "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'flusher' AND (wait_event = 'BufferContent' OR state = 'idle')", '1')
  or die 'no wait of the flush';
ask($holder, 'SELECT pg_advisory_unlock(1)');
is(join('', ask($inserter, 'SELECT 1')) =~ /ERROR/, '', 'the insert ends well');
ask($flusher, 'SELECT 1');
is(sql("SELECT count(*) FROM items WHERE v = point(1000, $dims)"), 1, 'its row is there');
is(sql("SELECT compare('items', '<->', point(1000, $dims), 1000)"), 'same', 'a flush waits for inserts into what it seals');
like(state_of('items_idx'), qr/^t\|0\|/, 'and has their rows');

# Two at a time
sql("INSERT INTO items (v) SELECT point(i, $dims) FROM generate_series(1, 100) i");
ask($holder, 'SELECT pg_advisory_lock(1)');
ask($flusher, "SET ivfremote.test_point = 'flush.uploaded=pause'");
say_to($flusher, "SELECT ivfremote_flush('items_idx')");
$flusher->{run}->pump_nb;
$node->poll_query_until('postgres', sprintf($waiting, 'flusher', 'Lock'), '1') or die 'no wait of the first';
say_to($inserter, "SET ivfremote.test_point = ''; SELECT ivfremote_flush('items_idx')");
$inserter->{run}->pump_nb;
$node->poll_query_until('postgres', sprintf($waiting, 'inserter', 'Extension'), '1') or die 'no wait of the second';
ask($holder, 'SELECT pg_advisory_unlock(1)');
is(ask($flusher, 'SELECT 1'), "100\n1", 'the first of two flushes');
is(ask($inserter, 'SELECT 1'), "0\n1", 'the second finds nothing');
kept_ok($node, 'items', '<->', $dims, 'two flushes');

# A transaction's end changes nothing
sql("BEGIN; INSERT INTO items (v) SELECT point(i, $dims) FROM generate_series(1, 70) i; SELECT ivfremote_flush('items_idx'); ROLLBACK");
like(state_of('items_idx'), qr/^t\|0\|/, 'a flush stays after ROLLBACK');
kept_ok($node, 'items', '<->', $dims, 'after ROLLBACK');
sql('VACUUM items');
kept_ok($node, 'items', '<->', $dims, 'rows of a rolled back insert vacuumed');
quit($_) for $holder, $flusher, $inserter;

# ---------------------------------------------------------------------------------------------------------------------
# When VACUUM does, and when not

sql("INSERT INTO items (v) SELECT point(i, $dims) FROM generate_series(1, 49) i; VACUUM items");
like(state_of('items_idx'), qr/^t\|49\|/, 'VACUUM leaves less than flush_threshold');
sql("INSERT INTO items (v) SELECT point(i, $dims) FROM generate_series(1, 10) i; DELETE FROM items WHERE id IN (SELECT id FROM items ORDER BY id DESC LIMIT 20); VACUUM items");
like(state_of('items_idx'), qr/^t\|59\|/, 'dead rows do not count');
sql("INSERT INTO items (v) SELECT point(i, $dims) FROM generate_series(1, 20) i; ANALYZE items; VACUUM (INDEX_CLEANUP off) items");
like(state_of('items_idx'), qr/^t\|79\|/, 'nor does ANALYZE flush, or VACUUM without index cleanup');
sql('CREATE INDEX items_second ON items USING ivfremote (v) WITH (flush_threshold = 50, lists = 8);
	CREATE INDEX items_id ON items (id); DELETE FROM items WHERE id % 40 = 3; VACUUM (PARALLEL 2) items');
like(state_of('items_idx'), qr/^t\|0\|/, 'parallel VACUUM flushes');
kept_ok($node, 'items', '<->', $dims, 'after it');
sql("CREATE UNLOGGED TABLE unlogged AS SELECT * FROM items;
	CREATE INDEX unlogged_idx ON unlogged USING ivfremote (v) WITH (flush_threshold = 50, lists = 8, server = 'store');
	INSERT INTO unlogged SELECT id + 100000, v FROM items LIMIT 60; VACUUM unlogged");
like(state_of('unlogged_idx'), qr/^t\|0\|/, 'unlogged');
kept_ok($node, 'unlogged', '<->', $dims, 'unlogged');
is(sql("CREATE TEMP TABLE temporary AS SELECT * FROM items;
	CREATE INDEX temporary_idx ON temporary USING ivfremote (v) WITH (flush_threshold = 50, lists = 8, server = 'store');
	INSERT INTO temporary SELECT id + 100000, v FROM items LIMIT 60; VACUUM temporary;
	SELECT pending_rows FROM ivfremote_info('temporary_idx');
	SELECT compare('temporary', '<->', point(1, $dims), 1000)"), "0\nsame", 'temporary');

# By hand an untrained index must be large enough, too
sql('CREATE TABLE few (id int, v real[]); CREATE INDEX few_idx ON few USING ivfremote (v)');
my ($code, $out, $err) = $node->psql('postgres', "SELECT ivfremote_flush('few_idx')");
is($out, 0, 'an empty index has nothing to flush');
sql("INSERT INTO few SELECT i, point(i, $dims) FROM generate_series(1, 30) i");
($code, $out, $err) = $node->psql('postgres', "SELECT ivfremote_flush('few_idx')");
is($out, 0, 'too few rows to train on');
like($err, qr/NOTICE:  index "few_idx" is not flushed before it has 10000 rows\nDETAIL:  It has 30, and is trained by its first flush\./, 'which it says');
is(sql("ALTER INDEX few_idx SET (flush_threshold = 0); SELECT ivfremote_flush('few_idx')"), 30, 'as the hint says');
kept_ok($node, 'few', '<->', $dims, 'few');

# As many segments as there can be
sql('CREATE TABLE crowded (id int, v real[]); CREATE INDEX crowded_idx ON crowded USING ivfremote (v) WITH (flush_threshold = 10, lists = 2)');
sql(join('', map { "INSERT INTO crowded SELECT i, point(i, $dims) FROM generate_series($_ * 20 + 1, $_ * 20 + 20) i; SELECT ivfremote_flush('crowded_idx');" } 0 .. 39));
sql("INSERT INTO crowded SELECT i, point(i, $dims) FROM generate_series(1001, 1015) i");
is(state_of('crowded_idx'), 't|15|40|800', '40 segments');
error_like($node, '', "SELECT ivfremote_flush('crowded_idx')", qr/^54000 \| index "crowded_idx" has 40 segments, as many as there can be \| Run VACUUM, or CALL ivfremote_compact\(\)\./, 'and no more');
($code, $out, $err) = $node->psql('postgres', 'VACUUM crowded');
is("$code$err", '0', 'VACUUM makes room');
like(state_of('crowded_idx'), qr/^t\|0\|/, 'and then flushes');
kept_ok($node, 'crowded', '<->', $dims, 'crowded');

# And a store that does not let VACUUM make room
sql("DROP TABLE crowded; CREATE TABLE crowded (id int, v real[]); CREATE INDEX crowded_idx ON crowded USING ivfremote (v) WITH (flush_threshold = 10, lists = 2, server = 'store')");
sql(join('', map { "INSERT INTO crowded SELECT i, point(i, $dims) FROM generate_series($_ * 20 + 1, $_ * 20 + 20) i; SELECT ivfremote_flush('crowded_idx');" } 0 .. 39));
sql("INSERT INTO crowded SELECT i, point(i, $dims) FROM generate_series(1001, 1015) i");
($code, $out, $err) = $node->psql('postgres', q{SET ivfremote.test_fault = 'get_fail'; VACUUM crowded});
is($code, 0, 'VACUUM of a full index whose store fails');
like($err, qr/WARNING:  index "crowded_idx" has 40 segments, as many as there can be\nDETAIL:  Its rows stay pending.*\nHINT:  CALL ivfremote_compact\('crowded_idx'\)\./, 'says that nothing is flushed');
like(state_of('crowded_idx'), qr/^t\|15\|40\|/, 'which is so');
kept_ok($node, 'crowded', '<->', $dims, 'crowded and pending');
sql('VACUUM crowded');
like(state_of('crowded_idx'), qr/^t\|0\|/, 'until the store is well');

# Whose
sql('CREATE ROLE other; GRANT SELECT ON few TO other');
error_like($node, 'SET ROLE other', "SELECT ivfremote_flush('few_idx')", qr/^42501 \| must be owner of table few/, 'only the owner may flush');
error_like($node, 'SET default_transaction_read_only = on', "SELECT ivfremote_flush('few_idx')", qr/^25006 \| cannot execute ivfremote_flush\(\) in a read-only transaction/, 'not in a read-only transaction');
error_like($node, '', "SELECT ivfremote_flush('pg_class_oid_index')", qr/^42809 \| "pg_class_oid_index" is not an ivfremote index/, 'only our indexes');
error_like($node, '', "SELECT ivfremote_flush('few')", qr/^42809 \| "few" is not an ivfremote index/, 'no tables');
is(sql('SELECT ivfremote_flush(NULL) IS NULL'), 't', 'NULL');

# ---------------------------------------------------------------------------------------------------------------------
# Stores that fail

sql("CREATE TABLE remote (id int, v real[]);
	CREATE INDEX remote_idx ON remote USING ivfremote (v) WITH (flush_threshold = 50, lists = 8, server = 'store');
	INSERT INTO remote SELECT i, point(i, $dims) FROM generate_series(1, 100) i");

# What VACUUM says
sub vacuum
{
	my ($settings) = @_;
	($code, $out, $err) = $node->psql('postgres', "$settings; VACUUM remote");
	is($code, 0, "VACUUM succeeds ($settings)");
	return $err;
}
my $hint = qr/HINT:  Its rows stay pending and are searched; VACUUM will try again\./;
for my $trained ('untrained', 'trained')
{
	my $state = state_of('remote_idx');
	for my $fault ('put_fail', 'put_no_space', $trained eq 'untrained' ? 'get_fail' : ())
	{
		$err = vacuum("SET ivfremote.test_fault = '$fault'");
		like($err, qr/^\S*\s*WARNING:  could not flush index "remote_idx"\nDETAIL:  .+\.\n$hint$/, "$trained, $fault: one warning");
		is(state_of('remote_idx'), $state, "$trained, $fault: rows stay pending");
		kept_ok($node, 'remote', '<->', $dims, "$trained, $fault: rows are searched");
		error_like($node, "SET ivfremote.write_timeout = '10ms'; SET ivfremote.test_fault = '$fault'", "SELECT ivfremote_flush('remote_idx')",
			qr/^(58030|53100|42501) \| could not write index "remote_idx" to server "store" \| /, "$trained, $fault: an error by hand");
	}
	error_like($node, "SET ivfremote.test_fault = 'put_stall'; SET statement_timeout = '500ms'", "SELECT ivfremote_flush('remote_idx')", qr/^57014/, "$trained: cancelled");
	($code, $out, $err) = $node->psql('postgres', "SET ivfremote.test_fault = 'put_stall'; SET statement_timeout = '500ms'; VACUUM remote");
	like($err, qr/canceling statement due to statement timeout/, "$trained: VACUUM cancelled");
	kept_ok($node, 'remote', '<->', $dims, "$trained, cancelled");
	sql('ALTER SERVER store RENAME TO moved');
	like(vacuum(''), qr/WARNING:  could not flush index "remote_idx"\nDETAIL:  server "store" does not exist\.\n/, "$trained: no such server");
	sql('ALTER SERVER moved RENAME TO store');
	is(vacuum(''), '', "$trained: no warning");
	like(state_of('remote_idx'), qr/^t\|0\|/, "$trained: flushed");
	kept_ok($node, 'remote', '<->', $dims, "$trained: flushed");
	sql("INSERT INTO remote SELECT i, point(i, $dims) FROM generate_series(101, 200) i");
}
# Below its threshold VACUUM does not ask
sql("VACUUM remote; INSERT INTO remote SELECT i, point(i, $dims) FROM generate_series(201, 240) i; DELETE FROM remote WHERE id = 240");
is(vacuum("SET ivfremote.test_fault = 'put_fail'"), '', 'VACUUM makes no request for few rows');

# ---------------------------------------------------------------------------------------------------------------------
# Rows kept as they are: docs/format.md "Rows of the sample"

# The sample of the index's newest segment, as text of vectors by TID
sub sample_of
{
	my ($index) = @_;
	my $key = sql("SELECT object_key FROM ivfremote_segments('$index') ORDER BY segment_id DESC LIMIT 1");
	my $bytes = slurp_file("$directory/$key");
	my $trailer = substr($bytes, -128);
	my $section = substr($bytes, unpack('Q<', substr($trailer, 32 + 16, 8)), unpack('Q<', substr($trailer, 64 + 16, 8)));
	return {} if $section eq '';
	my ($magic, $rows, $dimensions) = unpack('a4 x12 V V', $section);
	die 'no sample' if $magic ne 'RSMP';
	my %sample;
	for my $i (0 .. $rows - 1)
	{
		my ($block, $offset) = unpack('V v', substr($section, 64 + 4 * $rows * $dimensions + 6 * $i, 6));
		$sample{"($block,$offset)"} = '{' . join(',', unpack("f<$dimensions", substr($section, 64 + 4 * $dimensions * $i, 4 * $dimensions))) . '}';
	}
	return \%sample;
}
# How many rows of the sample the table has, with the same vector
sub kept_of
{
	my ($table, $sample) = @_;
	my $values = join(',', map { "('$_'::tid, '$sample->{$_}'::real[])" } keys %$sample) || "('(0,0)'::tid, '{}'::real[])";
	return sql("SELECT count(*) FROM $table t JOIN (VALUES $values) s (tid, v) ON t.ctid = s.tid AND (SELECT max(abs(x - y)) FROM unnest(t.v, s.v) u (x, y)) < 1e-5");
}
for my $quantization ('rabitq', 'none')
{
	my $table = "sampled_$quantization";
	sql("CREATE TABLE $table (id int, v real[]);
		CREATE INDEX ${table}_idx ON $table USING ivfremote (v) WITH (flush_threshold = 1000, lists = 4, quantization = $quantization, server = 'store');
		INSERT INTO $table SELECT i, point(i, $dims) FROM generate_series(1, 40) i;
		ALTER INDEX ${table}_idx SET (flush_threshold = 0); SELECT ivfremote_flush('${table}_idx'); ALTER INDEX ${table}_idx SET (flush_threshold = 1000)");
	my $sample = sample_of("${table}_idx");
	is(scalar(keys %$sample) . ' ' . kept_of($table, $sample), '40 40', "$quantization: all of few rows, from their training");
	# Rows die, and others take their places, before the flush
	sql("INSERT INTO $table SELECT i, point(i, $dims) FROM generate_series(101, 200) i");
	sql("DELETE FROM $table WHERE id BETWEEN 121 AND 160; VACUUM $table; INSERT INTO $table SELECT i, point(i, $dims) FROM generate_series(201, 230) i; DELETE FROM $table WHERE id > 225");
	my $reused = sql("SELECT count(*) FROM $table WHERE id > 200 AND ctid < (SELECT ctid FROM $table WHERE id = 200)");
	cmp_ok($reused, '>', 10, "$quantization: TIDs are used again");
	sql("VACUUM $table");
	is(sql("SELECT ivfremote_flush('${table}_idx')"), 85, "$quantization: flushed");
	$sample = sample_of("${table}_idx");
	is(scalar(keys %$sample) . ' ' . kept_of($table, $sample), '85 85', "$quantization: its sample has the live rows, as they are");
	kept_ok($node, $table, '<->', $dims, "$quantization: after it");
}
# About 400 of many, whatever they were when the first came
sql("INSERT INTO sampled_rabitq SELECT i, point(i, $dims) FROM generate_series(1000, 6999) i; SELECT ivfremote_flush('sampled_rabitq_idx')");
my $sample = sample_of('sampled_rabitq_idx');
my $sampled = keys %$sample;
note("$sampled rows sampled of 6000");
ok($sampled >= 400 && $sampled <= 1000, 'a part of many');
is(kept_of('sampled_rabitq', $sample), $sampled, 'which are rows');
is(sql("SELECT count(*) FROM ivfremote_verify('sampled_rabitq_idx', true)"), 0, 'verified');
sql("INSERT INTO sampled_rabitq SELECT i, point(i, $dims) FROM generate_series(7000, 7100) i");
is(sql("SELECT count(*) FROM ivfremote_verify('sampled_rabitq_idx', true)"), 0, 'verified with rows pending');

# ---------------------------------------------------------------------------------------------------------------------
# An index that was created empty is as good as one built now

add_items($node, 'clusters', 4000, 24, 60);
sql('CREATE TABLE grown (id int, v real[]);
	CREATE INDEX grown_idx ON grown USING ivfremote (v) WITH (flush_threshold = 1000);
	INSERT INTO grown SELECT * FROM clusters; VACUUM grown;
	CREATE INDEX clusters_idx ON clusters USING ivfremote (v) WITH (flush_threshold = 1000)');
is(sql("SELECT lists FROM ivfremote_info('grown_idx')"), sql("SELECT lists FROM ivfremote_info('clusters_idx')"), 'as many lists');
my ($grown, $built) = map { sql("SELECT recall('$_', '<->', ARRAY(SELECT generate_series(1, 4000, 13)), 10)") } 'grown', 'clusters';
note("recall of an index created empty $grown, of a build $built");
cmp_ok($grown, '>=', $built - 0.02, 'the recall of an index created empty is that of a build');
my ($of_grown, $of_built) = map { sql("SELECT lists FROM ivfremote_recall_curve('${_}_idx') WHERE k = 10 AND recall = 0.95") } 'grown', 'clusters';
cmp_ok($of_grown, '<=', 1.3 * $of_built, 'and so is what its curve says');

no_crash($node);
$node->stop;
done_testing();
