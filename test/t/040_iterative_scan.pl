# A scan goes on with further lists until LIMIT is filled, whatever the WHERE clause leaves, in order, each row once; it says which
# bound ended it; and a query that its first lists are enough for costs what it did without.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dims = 16;
my $node = new_node('iterative', conf => "fsync = off\n", init => { allows_streaming => 1 });
need_faults($node);
my $directory = add_store($node, 'lake');
add_items($node, 'raw', 4000, $dims, 30);
# Attributes of half of the rows, a tenth, a hundredth and 4 rows, by lot, and one that lies in one direction
$node->safe_psql('postgres', qq{
SELECT setseed(0.5);
CREATE TABLE items AS SELECT id, v, (random() * 1000)::int AS lot, rank() OVER (ORDER BY v[1]) AS place FROM raw;
UPDATE items SET lot = 1000 WHERE lot = 0;
UPDATE items SET lot = 0 WHERE id % 1000 = 7;
VACUUM FULL items;
ALTER TABLE items ADD PRIMARY KEY (id);
CREATE INDEX items_l2 ON items USING ivfremote (v) WITH (flush_threshold = 1, lists = 80, server = 'lake');
CREATE INDEX items_ip ON items USING ivfremote (v real_ip_ops) WITH (flush_threshold = 1, lists = 80, spill = on, server = 'lake');
CREATE INDEX items_cosine ON items USING ivfremote (v real_cosine_ops) WITH (flush_threshold = 1, lists = 80, quantization = none);
-- Pending rows, and rows that are gone
ALTER INDEX items_l2 SET (flush_threshold = 1000000);
ALTER INDEX items_ip SET (flush_threshold = 1000000);
ALTER INDEX items_cosine SET (flush_threshold = 1000000);
INSERT INTO items SELECT id + 10000, v, lot, place FROM items WHERE id % 11 = 5;
DELETE FROM items WHERE id % 13 = 4;
VACUUM ANALYZE items;
-- What a filtered search gives for each of some queries, beside the truth.
CREATE FUNCTION filtered(op text, condition text, k int, queries int, OUT short int, OUT unsorted int, OUT twice int, OUT recall float8) LANGUAGE plpgsql
  SET enable_sort = off AS \$\$
DECLARE
  query real[];
  truth float8[];
  ids int[];
  distances float8[];
BEGIN
  short := 0; unsorted := 0; twice := 0; recall := 0;
  FOR i IN 1 .. queries LOOP
    SELECT v INTO query FROM raw WHERE id = i * 31;
    PERFORM set_config('enable_seqscan', 'on', true), set_config('ivfremote.enable_scan', 'off', true);
    EXECUTE format('SELECT array_agg(d) FROM (SELECT v %s \$1 AS d FROM items WHERE %s ORDER BY d LIMIT %s) x', op, condition, k) INTO truth USING query;
    PERFORM set_config('enable_seqscan', 'off', true), set_config('ivfremote.enable_scan', 'on', true);
    EXECUTE format('SELECT array_agg(id), array_agg(d) FROM (SELECT id, v %1\$s \$1 AS d FROM items WHERE %2\$s ORDER BY v %1\$s \$1 LIMIT %3\$s) x', op, condition, k)
      INTO ids, distances USING query;
    short := short + (coalesce(cardinality(ids), 0) < cardinality(truth))::int;
    unsorted := unsorted + (distances IS DISTINCT FROM (SELECT array_agg(d ORDER BY d) FROM unnest(distances) d))::int;
    twice := twice + coalesce(cardinality(ids) - (SELECT count(DISTINCT j) FROM unnest(ids) j), 0);
    recall := recall + (SELECT count(*) FROM unnest(distances) d WHERE d <= truth[cardinality(truth)]) / cardinality(truth)::float8 / queries;
  END LOOP;
END \$\$;
});

sub sql { return $node->safe_psql('postgres', join('; ', @_)) }

my %share = ('lot <= 500' => '50 %', 'lot <= 100' => '10 %', 'lot <= 10' => '1 %', 'lot = 0' => '0.1 %', 'place <= 400' => '10 %, in one direction');
my $all = 'SET ivfremote.max_probes = 1048576';
my $relaxed = 'SET ivfremote.iterative_scan = relaxed_order';
my %index = ('<->' => 'items_l2', '<#>' => 'items_ip', '<=>' => 'items_cosine');

# -- LIMIT is filled, in order

for my $op (sort keys %index)
{
	for my $condition (sort keys %share)
	{
		my $rows = sql("SELECT count(*) FROM items WHERE $condition");
		my $k = $condition eq 'lot = 0' ? 1 : 10;
		my ($short, $unsorted, $twice, $recall) = split /\|/, sql($all, "SELECT * FROM filtered('$op', '$condition', $k, 8)");
		is("$short $unsorted $twice", '0 0 0', "$op, $share{$condition}: filled, in order, each row once");
		cmp_ok($recall, '>=', 0.8, "$op, $share{$condition}: recall $recall") if $k > 1;
		is(sql($all, $relaxed, "SELECT short, twice FROM filtered('$op', '$condition', $rows, 2)"), '0|0', "$op, $share{$condition}: all $rows in relaxed order");
	}
}
# What the scan does without it: the test can tell
cmp_ok(sql('SET ivfremote.iterative_scan = off', q{SELECT short FROM filtered('<->', 'lot <= 10', 10, 8)}), '>', 0, 'off: too few rows');
# Rows are held back for nearer ones of lists yet to come: the first lists alone hold some 500 rows
for my $op ('<->', '<=>')
{
	my ($held, $off) = map { (split /\|/, sql($all, $_, "SELECT * FROM filtered('$op', 'true', 400, 6)"))[3] } 'SELECT 1', 'SET ivfremote.iterative_scan = off';
	s/^1\n// for $held, $off;
	cmp_ok($held, '>=', 0.9, "$op, LIMIT 400: recall $held");
	cmp_ok($off, '<', 0.85, "$op, LIMIT 400 of the first lists: recall $off");
}

# -- What it costs, and which bound ends it

my $plain = 'SELECT count(*) FROM (SELECT id FROM items ORDER BY v <-> (SELECT v FROM raw WHERE id = 77) LIMIT 10) x';
sub last_scan
{
	my ($columns, @statements) = @_;
	my $out = sql('SET enable_seqscan = off', @statements, "SELECT $columns FROM ivfremote_last_scan()");
	return (split /\n/, $out)[-1];
}
my $first = last_scan('lists_probed, waves, requests, ended_by IS NULL', 'SET ivfremote.iterative_scan = off', $plain);
like($first, qr/^\d+\|1\|\d+\|t$/, 'a plain LIMIT 10');
is(last_scan('lists_probed, waves, requests, ended_by IS NULL', $plain), $first, 'is the same with it on');
is(last_scan('lists_probed, waves, requests, ended_by IS NULL', $all, 'SET ivfremote.max_scan_requests = 1', $plain), $first, 'and with any bound');
my ($lists, undef, $requests) = split /\|/, $first;
my $none = 'SELECT count(*) FROM (SELECT id FROM items WHERE lot < 0 ORDER BY v <-> (SELECT v FROM raw WHERE id = 77) LIMIT 10) x';
is(last_scan('ended_by, lists_probed, waves', 'SET ivfremote.iterative_scan = off', $none), "iterative_scan|$lists|1", 'ended by iterative_scan');
is(last_scan('ended_by, lists_probed', $none), 'max_probes|' . 8 * $lists, 'by max_probes: 8 times the first lists');
is(last_scan('ended_by, lists_probed', "SET ivfremote.max_probes = @{[$lists + 3]}", $none), 'max_probes|' . ($lists + 3), 'by max_probes');
is(last_scan('ended_by, lists_probed, waves', 'SET ivfremote.max_probes = 1', $none), "max_probes|$lists|1", 'which never cuts the first wave');
is(last_scan('ended_by, lists_probed', $all, $none), 'all_lists|80', 'by all lists');
is(last_scan('ended_by, lists_probed, waves, rows_returned, rows_scored >= rows_returned', $all, $relaxed, 'SET ivfremote.probes = 80', $none),
	'all_lists|80|1|' . sql('SELECT count(*) FROM items') . '|t', 'in one wave');
for my $most ($requests, $requests + 2, $requests + 5)
{
	my ($end, $sent, $waves) = split /\|/, last_scan('ended_by, requests, waves', $all, "SET ivfremote.max_scan_requests = $most", $none);
	is($end, 'max_scan_requests', "by $most requests");
	cmp_ok($sent, '<=', $most, "of which $sent were sent");
	cmp_ok($sent, '>', $requests, 'a wave is cut to them') if $most > $requests + 2;
}
is(last_scan('ended_by, requests', 'SET ivfremote.max_scan_requests = 1', $none), "max_scan_requests|$requests", 'the first wave is sent whatever they are');
my ($waves) = split /\|/, last_scan('waves, lists_probed', $all, $none);
cmp_ok($waves, '>=', 4, "$waves waves");
cmp_ok($waves, '<=', 9, 'each larger than the one before');
# Rows 31 to 40 are given while the lists for 160 are read
my ($in_time, $waited_for) = map { last_scan('lists_probed, waves, requests', $plain =~ s/LIMIT 10/LIMIT $_/r) } 35, 41;
is($in_time, $waited_for, 'what a wave sends counts, whether or not it is waited for');
is(last_scan('ended_by, waves, rows_returned', 'SELECT count(*) FROM (SELECT id FROM items WHERE lot < 0 ORDER BY v <-> (SELECT NULL::real[]) LIMIT 10) x'),
	'all_lists|0|' . sql('SELECT count(*) FROM items'), 'a query without distances has all rows');
# Left out in strict order, late in relaxed order
my ($strict_rows, $left_out) = split /\|/, last_scan('rows_returned, rows_left_out', $all, 'SET ivfremote.probes = 1', $none);
my ($relaxed_rows, $relaxed_left) = split /\|/, last_scan('rows_returned, rows_left_out', $all, 'SET ivfremote.probes = 1', $relaxed, $none);
cmp_ok($left_out, '>', 0, "$left_out rows left out");
is("$relaxed_rows $relaxed_left", sql('SELECT count(*) FROM items') . ' 0', 'none in relaxed order');
is($strict_rows + $left_out, $relaxed_rows, 'all are accounted for');
is(last_scan('table_rows_read - rows_returned', $all, 'SET ivfremote.probes = 1', $relaxed, $none), '0', 'each is read in the table once, whatever the wave');
# A row that the caller leaves out asks for no list
is(sql('SET ivfremote.probes = 5', q{SELECT lists FROM ivfremote_recall('items_l2') LIMIT 1}), '5', 'ivfremote_recall reads the first lists for k = recall_k');
cmp_ok(sql(q{SELECT recall FROM ivfremote_recall('items_l2', k => 100) LIMIT 1}), '>', 0.9, 'and those for 100 with k = 100');

# -- LATERAL

my $lateral = q{SELECT string_agg(n.ids::text, ' ' ORDER BY q.id) FROM (SELECT id, v FROM raw WHERE id % 500 = 3) q,
	LATERAL (SELECT array_agg(id ORDER BY id) AS ids FROM (SELECT id FROM items WHERE lot <= 3 ORDER BY v <-> q.v LIMIT 40) y) n};
is(sql($all, $relaxed, 'SET enable_seqscan = off', 'SET enable_bitmapscan = off', $lateral), sql('SET ivfremote.enable_scan = off', $lateral), 'rescans with other queries');

# -- A cursor over waves, while the index changes

my $session = start_session($node);
ask($session, 'SET enable_seqscan = off; SET ivfremote.max_probes = 1048576; SET ivfremote.iterative_scan = relaxed_order');
my $cursor = "BEGIN; DECLARE c CURSOR FOR SELECT id FROM items ORDER BY v <-> (SELECT v FROM raw WHERE id = 77)";
my $before = sql('SELECT md5(array_agg(id ORDER BY id)::text) FROM items');
my @fetched = split /\n/, ask($session, "$cursor; FETCH 15 FROM c");
sql(q{DELETE FROM items WHERE id % 3 = 0}, q{INSERT INTO items SELECT id + 20000, v, lot, place FROM items WHERE id % 4 = 1});
sql(q{SELECT ivfremote_flush('items_l2')});
push @fetched, split /\n/, ask($session, 'FETCH 30 FROM c');
$node->safe_psql('postgres', q{VACUUM items});
$node->safe_psql('postgres', q{CALL ivfremote_compact('items_l2')});
$node->safe_psql('postgres', q{INSERT INTO items SELECT id + 40000, v, lot, place FROM items WHERE id % 4 = 1});
push @fetched, split /\n/, ask($session, 'FETCH ALL FROM c; COMMIT');
is(sql("SELECT md5(array_agg(id ORDER BY id)::text) FROM unnest('{" . join(',', @fetched) . "}'::int[]) id"), $before, 'a cursor gives every row of its snapshot once');
is(ask($session, 'SELECT waves >= 3 FROM ivfremote_last_scan()'), 't', 'in waves');

# -- The store fails between waves

my $fetch = "$cursor; FETCH 10 FROM c";
my $ten = ask($session, "$fetch; ROLLBACK");
sub failing
{
	my ($fault, $statements, $expected, $name) = @_;
	is(scalar ask($session, $fetch), $ten, "$name: the first rows");
	my (undef, $said) = ask($session, "\\set VERBOSITY sqlstate\nSET ivfremote.test_fault = '$fault'; $statements");
	like($said, $expected, $name);
	is(scalar ask($session, "ROLLBACK; RESET ivfremote.test_fault; RESET statement_timeout; RESET ivfremote.scan_timeout; $fetch; ROLLBACK"), $ten, "$name: the session goes on");
}
failing('get_fail', 'FETCH 1 FROM c', qr/58030/, 'unavailable');
failing('get_missing', 'FETCH 1 FROM c', qr/58P01/, 'a missing object');
failing('get_stall', 'SET statement_timeout = 300; FETCH 1 FROM c', qr/57014/, 'statement_timeout');
failing('get_stall', 'SET ivfremote.scan_timeout = 200; FETCH 1 FROM c', qr/58030/, 'scan_timeout');
# A wave under way: rows 31 to 40 are given while lists for 160 are read
sub under_way
{
	my ($fault) = @_;
	ask($session, "$cursor; FETCH 30 FROM c; SET ivfremote.test_fault = '$fault'");
	my @ahead = map { scalar ask($session, 'SELECT pg_sleep(0.01); FETCH 1 FROM c') =~ s/^\n//r } 1 .. 10;
	return join ' ', @ahead;
}
my $ahead = under_way('');
ask($session, 'ROLLBACK');
for my $fault ('get_fail', 'get_denied', 'get_missing', 'get_stall')
{
	is(under_way($fault), $ahead, "$fault: what is read is given");
	my (undef, $said) = ask($session, "SET statement_timeout = 300; FETCH 1 FROM c");
	like($said, qr/ERROR/, "$fault: and then an error");
	ask($session, 'ROLLBACK; RESET ivfremote.test_fault; RESET statement_timeout');
	is(under_way($fault), $ahead, "$fault: once more");
	(my $out, $said) = ask($session, "RESET ivfremote.test_fault; FETCH 100 FROM c");
	is(scalar(split(/\n/, $out)) . $said, '100', "$fault: over before the rows are needed: it is not met") if $fault ne 'get_stall';
	ask($session, 'ROLLBACK; RESET ivfremote.test_fault');
}
# Abandoned
under_way('get_stall');
is(scalar ask($session, "CLOSE c; COMMIT; RESET ivfremote.test_fault; $fetch; ROLLBACK"), $ten, 'a wave under way at the end of a scan');
under_way('get_stall');
is(scalar ask($session, "SAVEPOINT s; SELECT 1/0; ROLLBACK TO s; RESET ivfremote.test_fault; COMMIT; $fetch; ROLLBACK"), $ten, 'or at that of a transaction');
like(scalar ask($session, 'BEGIN; DECLARE h CURSOR WITH HOLD FOR SELECT id FROM items WHERE lot <= 10 ORDER BY v <-> (SELECT v FROM raw WHERE id = 77) LIMIT 12; FETCH 5 FROM h; COMMIT; FETCH ALL FROM h; CLOSE h'),
	qr/^(\d+\n){11}\d+$/, 'a cursor that outlives its transaction');
quit($session);

# -- A standby

$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
my $on_both = "$all; SET enable_seqscan = off; SELECT array_agg(id) FROM (SELECT id FROM items WHERE lot <= 10 ORDER BY v <-> (SELECT v FROM raw WHERE id = 78) LIMIT 15) x";
is($standby->safe_psql('postgres', $on_both), sql($on_both), 'a standby goes on as the primary does');
$standby->stop;

no_crash($node);
$node->stop;
done_testing();
