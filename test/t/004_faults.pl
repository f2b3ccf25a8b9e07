# What a misbehaving store does: the documented error, never a wrong answer, a crash or a write that waits. Then real damage,
# to objects and to the index's own pages.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $dims = 16;
my $node = new_node('faults');
need_faults($node);
my $directory = add_store($node, 'store');
$node->safe_psql('postgres', qq{
CREATE TABLE items (id int PRIMARY KEY, v real[]);
INSERT INTO items SELECT i, point(i, $dims) FROM generate_series(1, 3000) i;
CREATE INDEX items_idx ON items USING ivfremote (v) WITH (flush_threshold = 1, lists = 30, server = 'store');
CREATE TABLE empty (id int, v real[]);
});
my $search = "SELECT array_agg(id) FROM (SELECT id FROM items ORDER BY v <-> point(42, $dims) LIMIT 10) x";
my $scan = 'SET enable_seqscan = off; SET ivfremote.probes = 10';
my $answer = $node->safe_psql('postgres', "$scan; $search");
my $key = qr/[0-9a-f]{32}\/[0-9a-f-]{36}\/[0-9a-f]{16}-[0-9a-f]{16}\.seg/;

# Reads

my %reads = (
	get_missing => qr/^58P01 \| object of index "items_idx" is missing in server "store" \| .+ \| .*REINDEX INDEX CONCURRENTLY public\.items_idx; the table holds all its data/,
	get_fail => qr/^58030 \| could not read index "items_idx" from server "store" \| .*\d+ of \d+ requests.*503.* \| Set ivfremote\.enable_scan = off/,
	get_fail_one => qr/^58030 \| could not read index "items_idx" from server "store" \| .*1 of \d+ requests.* \| Set ivfremote\.enable_scan = off/,
	get_denied => qr/^42501 \| server "store" refused access to index "items_idx" \| .*403/,
	get_flip_byte => qr/^XX001 \| .*"items_idx".* \| .*"$key" bytes \d+-\d+ \| .*REINDEX INDEX CONCURRENTLY public\.items_idx/);
# All lists: bytes between those that are needed may be wrong
my $all = 'SET enable_seqscan = off; SET ivfremote.probes = 30; SET ivfremote.epsilon = 100';
error_like($node, "$all; SET ivfremote.test_fault = '$_'", $search, $reads{$_}, "$_: its error") for sort keys %reads;
error_like($node, "$scan; SET ivfremote.test_fault = 'get_stall'; SET ivfremote.scan_timeout = '300ms'", $search,
	qr/^58030 \| could not read index "items_idx" from server "store" \| (\d+) of \1 requests were not answered .*scan_timeout.* \| Set ivfremote\.enable_scan = off/,
	'get_stall: scan_timeout');
error_like($node, "$scan; SET ivfremote.test_fault = 'get_stall'; SET statement_timeout = '300ms'", $search,
	qr/^57014 \| canceling statement due to statement timeout/, 'get_stall: statement_timeout');
is($node->safe_psql('postgres', "$scan; SET ivfremote.test_fault = 'get_reorder'; $search"), $answer, 'get_reorder: the same rows');
is($node->safe_psql('postgres', "SET ivfremote.test_fault = 'get_reorder'; SELECT compare('items', '<->', point(42, $dims), 3000)"), 'same', 'get_reorder: in order');
is($node->safe_psql('postgres', "$scan; SET ivfremote.test_fault = 'get_fail'; SET ivfremote.enable_scan = off; SELECT count(*) FROM ($search) x"), 1, 'as the hint says');
# A session survives all of it, in one transaction too
my ($code, $out, $err) = $node->psql('postgres', "$all; " . join('', map { "SET ivfremote.test_fault = '$_'; $search;" } sort keys %reads)
	. "SET ivfremote.test_fault = ''; $search; BEGIN; $search; SAVEPOINT s; SET LOCAL ivfremote.test_fault = 'get_fail'; $search; ROLLBACK TO s; $search; COMMIT", on_error_stop => 0);
is($out, "$answer\n$answer\n$answer", 'a session goes on after every fault');

# Writes to the table make no request; what flushes and compactions do is in 027 and 028

$node->safe_psql('postgres', 'ALTER INDEX items_idx SET (flush_threshold = 1000000)');
for my $fault ('get_stall', 'get_fail', 'put_stall', 'put_fail')
{
	is($node->safe_psql('postgres', qq{
		SET ivfremote.test_fault = '$fault'; SET statement_timeout = '20s';
		INSERT INTO items SELECT i, point(i, $dims) FROM generate_series(4001, 4020) i;
		UPDATE items SET v = point(id + 1, $dims) WHERE id % 500 = 3;
		DELETE FROM items WHERE id IN (9, 10, 4003);
		COPY items TO '/dev/null';
		VACUUM items;
		ANALYZE items;
		SELECT pending_rows > 0 FROM ivfremote_info('items_idx')}), 't', "$fault: INSERT, UPDATE, DELETE, VACUUM go on");
	kept_ok($node, 'items', '<->', $dims, "$fault: and are right after");
	$node->safe_psql('postgres', "DELETE FROM items WHERE id > 4000; INSERT INTO items SELECT i, point(i, $dims) FROM generate_series(9, 10) i; VACUUM items");
}
rename $directory, "$directory.away" or die $!;
error_like($node, $scan, $search, $reads{get_missing}, 'the directory is gone');
is($node->safe_psql('postgres', qq{
	INSERT INTO items SELECT i, point(i, $dims) FROM generate_series(4001, 4020) i;
	DELETE FROM items WHERE id % 7 = 0;
	VACUUM items;
	INSERT INTO items SELECT i, point(-i, $dims) FROM generate_series(5001, 5200) i;
	SELECT count(*) FROM ivfremote_segments('items_idx')}), 1, 'writes go on without it');
rename "$directory.away", $directory or die $!;
kept_ok($node, 'items', '<->', $dims, 'it is back');

# Builds

$node->safe_psql('postgres', 'ALTER INDEX items_idx SET (flush_threshold = 1)');
my $build = q{CREATE INDEX other_idx ON items USING ivfremote (v) WITH (flush_threshold = 1, lists = 30, server = 'store')};
my @before = files_below($directory, qr/./);
my %writes = (
	put_fail => qr/^58030 \| could not write index "other_idx" to server "store" \| .*500/,
	put_no_space => qr/^53100 \| could not write index "other_idx" to server "store" \| .*No space left/);
error_like($node, "SET ivfremote.test_fault = '$_'", $build, $writes{$_}, "$_: its error") for sort keys %writes;
error_like($node, "SET ivfremote.test_fault = 'put_stall'; SET statement_timeout = '300ms'", $build, qr/^57014/, 'put_stall: statement_timeout');
is_deeply([ files_below($directory, qr/./) ], \@before, 'a failed build leaves no object');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relname = 'other_idx'}), 0, 'a failed build leaves no index');
is($node->safe_psql('postgres', "SET ivfremote.test_fault = 'put_fail'; SELECT attempt('REINDEX INDEX items_idx') ~ '^58030'"), 't', 'a failed REINDEX');
kept_ok($node, 'items', '<->', $dims, 'and the index is as it was');
# Untrained indexes need no store
is($node->safe_psql('postgres', qq{
	SET ivfremote.test_fault = 'put_fail';
	CREATE INDEX empty_idx ON empty USING ivfremote (v) WITH (server = 'store');
	INSERT INTO empty VALUES (1, '{1,2}');
	TRUNCATE empty;
	SET ivfremote.test_fault = 'get_fail';
	INSERT INTO empty VALUES (1, '{1,2}');
	SET enable_seqscan = off;
	SELECT id FROM empty ORDER BY v <-> '{1,1}' LIMIT 1}), 1, 'untrained, without the store');
# What the file system says
SKIP:
{
	skip 'the superuser may read everything', 2 if $> == 0;
	chmod 0500, $directory;
	$node->safe_psql('postgres', "CREATE SERVER closed FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file://$directory/closed')");
	error_like($node, '', 'CREATE INDEX ON items USING ivfremote (v) WITH (flush_threshold = 1, server = \'closed\')', qr/^42501 \| could not write index .* to server "closed" \| .*Permission denied/, 'a directory we may not write');
	chmod 0700, $directory;
	my ($object) = files_below($directory, qr/\.seg$/);
	chmod 0, "$directory/$object";
	error_like($node, $scan, $search, qr/^42501 \| server "store" refused access to index "items_idx" \| .*Permission denied \| Let the user that runs Postgres/, 'an object we may not read');
	chmod 0600, "$directory/$object";
}

# Damaged objects

is(scalar(files_below($directory, qr/\.seg/)), 1, 'one object');

sub put
{
	my ($object, $content) = @_;
	open(my $file, '>:raw', "$directory/$object") or die $!;
	print $file $content;
	close $file;
	return;
}

my $count = 'SELECT count(*) FROM (SELECT id FROM items ORDER BY v <-> (SELECT v FROM items WHERE id = 43) LIMIT 10000) x';
for my $quantization ('rabitq', 'none')
{
	$node->safe_psql('postgres', "ALTER INDEX items_idx SET (quantization = $quantization); REINDEX INDEX items_idx");
	my $object = $node->safe_psql('postgres', q{SELECT object_key FROM ivfremote_segments('items_idx')});
	my $bytes = slurp_file("$directory/$object", 0);
	my $good = $node->safe_psql('postgres', "$scan; $search");
	my %damages = (
		'empty' => '',
		'cut to one byte' => substr($bytes, 0, 1),
		'cut in a block' => substr($bytes, 0, int(length($bytes) / 2)),
		'cut at its header' => substr($bytes, 0, 128),
		'zeros' => "\0" x length($bytes),
		'ones' => "\xff" x length($bytes),
		'shifted' => "x" . $bytes,
		'reversed' => scalar reverse($bytes));
	for my $damage (sort keys %damages)
	{
		put($object, $damages{$damage});
		error_like($node, $all, $count, qr/^XX001 \| .*"items_idx".* \| .*"$key" bytes \d+-\d+/, "$quantization: an object that is $damage");
	}
	# One flipped bit anywhere in a block is found; elsewhere it does not matter to a scan
	srand(17);
	my ($errors, $right, $wrong) = (0, 0, 0);
	my $expected = $node->safe_psql('postgres', 'SELECT count(*) FROM items');
	for my $i (1 .. 40)
	{
		my $content = $bytes;
		my $at = int(rand(length($bytes)));
		substr($content, $at, 1) = chr(ord(substr($content, $at, 1)) ^ (1 << int(rand(8))));
		put($object, $content);
		my $said = $node->safe_psql('postgres', "$all; SELECT attempt('DO \$\$ BEGIN ASSERT ($count) = $expected; END \$\$')");
		if ($said =~ /^XX001 .*$key/) { $errors++ } elsif ($said eq 'done') { $right++ } else { $wrong++; diag("byte $at: $said"); }
	}
	note("$quantization: flipped bits: $errors found, $right without effect");
	cmp_ok($errors, '>=', 20, "$quantization: flipped bits are found");
	is($wrong, 0, "$quantization: flipped bits give no wrong answer");
	unlink "$directory/$object" or die $!;
	error_like($node, $scan, $search, $reads{get_missing}, "$quantization: an object that was deleted");
	my ($name, $path) = (substr($object, rindex($object, '/') + 1), substr($object, 0, rindex($object, '/')));
	mkdir "$directory/$object";
	error_like($node, $scan, $search, qr/^(XX001|58030|58P01|22023) \|/, "$quantization: a directory in its place");
	rmdir "$directory/$object";
	put($object, $bytes);
	is($node->safe_psql('postgres', "$scan; $search"), $good, "$quantization: and with the bytes back all is well");
}

no_crash($node);
$node->stop;
done_testing();
