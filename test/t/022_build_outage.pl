# A build while its server is away for a while, wants other keys, or stays away: it goes on where it was, or says how far it
# was, and what it leaves behind nothing refers to. What it sends, counted; and what the progress view shows meanwhile.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin, "$FindBin::RealBin/../lib";
use Fcntl qw(:flock);
use IvfTest;
use ObjectStores;
use PostgreSQL::Test::Utils;
use S3Test;
use Test::More;
use Time::HiRes qw(sleep time);

# The aim is 200 ms; a busy machine may need longer, a wait that does not look for interrupts much longer.
my $limit_s = 2;
my $part_bytes = 8 << 20;
my $store = start_radosgw();
my $front = start_nginx($store);
$store->create_bucket('items');
my $node = new_node('build_outage');
# 42 MB in segments, and few in the table
$node->safe_psql('postgres', q{
SELECT setseed(0.25);
CREATE TABLE items AS
  SELECT i AS id, array_fill(random()::real, ARRAY[500]) || array_fill(random()::real, ARRAY[500]) AS v FROM generate_series(1, 10000) i;
ANALYZE items});
add_s3_server($node, 'lake', $store, 'items/lake', endpoint => $front->endpoint('faulty_http'));
my $build = q{CREATE INDEX items_idx ON items USING ivfremote (v) WITH (flush_threshold = 1, lists = 20, quantization = none, server = 'lake')};
my $compare = q{SELECT compare('items', '<->', (SELECT v FROM items WHERE id = 9), 10)};
my $progress = q{FROM pg_stat_progress_create_index WHERE phase ~ 'writing segment'};

sub wait_until
{
	my ($condition, $what) = @_;
	for (1 .. 600) { return if $condition->(); sleep 0.1 }
	die "never: $what";
}

# How often each part was sent, and how often it arrived.
sub parts
{
	my (%sent, %stored);
	for my $request ($front->access_log)
	{
		my ($part) = ($request->{uri} // '') =~ /partNumber=(\d+)/ or next;
		++$sent{$part};
		++$stored{$part} if ($request->{status} // 0) == 200;
	}
	return (\%sent, \%stored);
}

sub no_uploads
{
	my ($name) = @_;
	# The store is told before the session goes on; it may need a moment itself.
	my @uploads;
	for (1 .. 20) { @uploads = $store->uploads('items'); last if !@uploads; sleep 0.1 }
	is(join(' ', @uploads), '', "$name: no upload left");
	return;
}

# What an undisturbed build sends: docs/s3.md

$front->fault;
$front->clear_log;
$node->safe_psql('postgres', $build);
my $bytes = $node->safe_psql('postgres', q{SELECT bytes FROM ivfremote_segments('items_idx')});
my $part_count = int(($bytes + $part_bytes - 1) / $part_bytes);
my %methods;
++$methods{ $_->{method} } for grep { $_->{uri} !~ m{/OWNER$} } $front->access_log;
is_deeply(\%methods, { GET => 1, POST => 2, PUT => $part_count, HEAD => 1 }, "the requests of a build of $bytes bytes");
is($part_count, 6, 'six parts');
is($node->safe_psql('postgres', "$compare; DROP INDEX items_idx"), 'same', 'undisturbed');

# Away for 12 s, in the middle: the third part hangs, until the server is gone

my $short = q{SET ivfremote.request_timeout = '3s'};
$front->fault(phang => 100, method => 'PUT', match => 'partNumber=3', limit => 1);
$front->clear_log;
my $builder = start_psql($node, "$short;\n$build;\n$compare;\n");
wait_until(sub { $node->safe_psql('postgres', "SELECT count(*) $progress AND blocks_done >= 2 * $part_bytes / 8192") }, 'two parts are stored');
my ($rows, $all_rows, $blocks, $all_blocks) = split /\|/, $node->safe_psql('postgres', "SELECT tuples_done, tuples_total, blocks_done, blocks_total $progress");
note("progress: $rows of $all_rows rows, $blocks of $all_blocks blocks");
is($all_rows, 10000, 'progress: all rows');
cmp_ok($rows, '<=', $all_rows, 'progress: rows');
cmp_ok($rows, '>=', 2 * $part_bytes / 4006, 'progress: rows of two parts');
cmp_ok($blocks, '<', $all_blocks, 'progress: blocks');
cmp_ok(abs($all_blocks - $bytes / 8192), '<', 0.02 * $all_blocks, 'progress: about all blocks');
my ($sent_before, $stored_before) = parts();
$store->kill_gateway;
sleep 12;
$store->start_gateway;
my ($out, $err) = finish_psql($builder);
is($out, "same\n", 'away for 12 s: the build succeeds');
my @warnings = $err =~ /(WARNING: .*)/g;
is(scalar(@warnings), 1, 'away for 12 s: one warning');
like($err, qr/WARNING:  server "lake" is not answering\nDETAIL:  \d+ attempts have failed in 1\d s; last: .*\.\nHINT:  Writing index "items_idx" is tried until a request has failed for ivfremote\.write_timeout \(300 s\)\./, 'away for 12 s: what it says');
my ($sent, $stored) = parts();
is_deeply($stored, { map { $_ => 1 } 1 .. $part_count }, 'away for 12 s: each part is stored once');
is_deeply([ map { $sent->{$_} } grep { $stored_before->{$_} } sort keys %$sent ], [ map { 1 } keys %$stored_before ], 'away for 12 s: what was stored is not sent again');
cmp_ok(scalar(keys %$stored_before), '>=', 2, 'away for 12 s: some was');
cmp_ok($sent->{3}, '>', 1, 'away for 12 s: what was not is');
no_uploads('away for 12 s');
$node->safe_psql('postgres', 'DROP INDEX items_idx');

# Other keys, in the middle

$front->fault(phang => 100, method => 'PUT', match => 'partNumber=3', limit => 1);
$front->clear_log;
$builder = start_psql($node, "$short;\n$build;\n$compare;\n");
wait_until(sub { $node->safe_psql('postgres', "SELECT count(*) $progress AND blocks_done >= 2 * $part_bytes / 8192") }, 'two parts are stored');
$store->rotate('secondaccess', 'secondsecret0123456789');
wait_until(sub { grep { ($_->{status} // 0) == 403 } $front->access_log }, 'the old keys are refused');
is($node->safe_psql('postgres', "SELECT count(*) $progress"), 1, 'keys are replaced: the build waits for them');
# Not ALTER: for a moment there is no mapping.
$node->safe_psql('postgres', 'DROP USER MAPPING FOR PUBLIC SERVER lake');
my $refused = grep { ($_->{status} // 0) == 403 } $front->access_log;
wait_until(sub { $refused < grep { ($_->{status} // 0) == 403 } $front->access_log }, 'refused without a mapping');
sleep 0.5;
is($node->safe_psql('postgres', "SELECT count(*) $progress"), 1, 'keys are replaced: the build waits for a mapping');
$node->safe_psql('postgres', 'CREATE USER MAPPING FOR PUBLIC SERVER lake ' . mapping_options(%$store));
($out, $err) = finish_psql($builder);
is($out, "same\n", 'keys are replaced: the build goes on with the new ones');
unlike($err, qr/ERROR/, 'keys are replaced: no error');
(undef, $stored) = parts();
is_deeply($stored, { map { $_ => 1 } 1 .. $part_count }, 'keys are replaced: each part is stored once');
no_uploads('keys are replaced');
$node->safe_psql('postgres', 'DROP INDEX items_idx');

# Away for good

my @objects = $store->objects('items');
$front->fault(p503 => 100, method => 'PUT', match => 'partNumber=3');
like($node->safe_psql('postgres', "SET ivfremote.write_timeout = '2s'; SELECT attempt(\$\$$build\$\$)"),
	qr/^58030 \| could not write index "items_idx" to server "lake" \| \d+\.\d of about 4\d\.\d MB had been stored; last: object "[^"]*\.seg": HTTP 503 SlowDown \(\d+ attempts in \d+ s\)\. \| Check the server with SELECT \* FROM ivfremote_check_server\('lake'\), then run the statement again; nothing refers to what was stored\.$/,
	'away for good: how far it was');
no_uploads('away for good');
is_deeply([ $store->objects('items') ], \@objects, 'away for good: no object left');

# Found out before the work

$node->safe_psql('postgres', q{ALTER USER MAPPING FOR PUBLIC SERVER lake OPTIONS (SET secret_access_key 'wrongsecret0123456789')});
like($node->safe_psql('postgres', "SELECT attempt(\$\$$build\$\$)"),
	qr/^42501 \| could not write index "items_idx" to server "lake" \| Nothing had been stored; last: .*HTTP 403 SignatureDoesNotMatch\. \|/, 'wrong keys: before the build begins');
$node->safe_psql('postgres', "ALTER USER MAPPING FOR PUBLIC SERVER lake OPTIONS (SET secret_access_key '$store->{secret_key}')");
my ($owner) = grep { m{/OWNER$} } $store->objects('items');
$store->request('DELETE', "/items/$owner");
$front->clear_log;
$front->fault(p403 => 100, code => 'AccessDenied', method => 'GET', limit => 2);
is($node->safe_psql('postgres', "SELECT attempt(\$\$$build\$\$)"), 'done', 'keys that may write, and not list: the build begins, and makes an OWNER');
is(scalar(grep { ($_->{status} // 0) == 403 } $front->access_log), 2, 'keys that may write, and not list: they are told nothing') or note(map { "$_->{method} $_->{uri} $_->{status}\n" } $front->access_log);
$front->fault(p403 => 100, code => 'AccessDenied', method => 'GET');
like($node->safe_psql('postgres', "SELECT attempt(\$\$" . $build =~ s/items_idx/other_idx/r . "\$\$)"),
	qr/^42501 \| object OWNER of incarnation [0-9a-f]{32} exists, but cannot be read \| Let the keys/, 'keys that may write, and not read');
$front->fault;
$node->safe_psql('postgres', "DROP INDEX items_idx; $build");
is($node->safe_psql('postgres', q{SELECT split_part(object_key, '/', 1) FROM ivfremote_segments('items_idx')}), $owner =~ m{/([0-9a-f]{32})/} ? $1 : '', 'they do not make the cluster forget what it wrote');
$node->safe_psql('postgres', 'DROP INDEX items_idx');

# While one waits for the store to take OWNER, nobody waits for him

{
	$front->clear_log;
	$front->fault(p503 => 100, method => 'PUT', match => 'OWNER');
	$builder = start_psql($node, "$build;\n$compare;\n");
	wait_until(sub { 4 <= grep { ($_->{status} // 0) == 503 } $front->access_log }, 'OWNER is refused');
	my ($path) = glob $node->data_dir . '/ivfremote/pgsql_tmp_owner.*.lock';
	open my $file, '+<', $path or die "$path: $!";
	wait_until(sub { flock $file, LOCK_EX | LOCK_NB }, 'the lock is free');
	pass('between attempts the place is not locked');
	$front->fault;
	sleep 11;
	close $file;
	($out, $err) = finish_psql($builder);
	is($out, "same\n", 'and the build goes on');
	like($err, qr/WARNING:  another backend holds file "ivfremote\/pgsql_tmp_owner\.[0-9a-f]+\.lock" locked/, 'who waits for long, says so');
	$node->safe_psql('postgres', 'DROP INDEX items_idx');
}

# Cancelled at every step

sub cancel
{
	my ($condition) = @_;
	wait_until(sub { $node->safe_psql('postgres', "SELECT count(*) $progress AND $condition") }, $condition);
	sleep 0.5;
	return $node->safe_psql('postgres', qq{
		CREATE TEMP TABLE victim AS SELECT pid, clock_timestamp() AS since $progress;
		DO \$\$ BEGIN
		  PERFORM pg_cancel_backend(pid) FROM victim;
		  FOR i IN 1 .. 20000 LOOP
		    PERFORM pg_stat_clear_snapshot();
		    EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity JOIN victim USING (pid) WHERE state = 'active' AND query ~ 'CREATE INDEX');
		    PERFORM pg_sleep(0.001);
		  END LOOP;
		END \$\$;
		SELECT extract(epoch FROM clock_timestamp() - since) FROM victim});
}

my $all_sent = "tuples_done = tuples_total AND blocks_done > 0";
for my $case (
	[ 'between attempts', { p503 => 100, method => 'PUT', match => 'partNumber=' }, 'true', 0 ],
	[ 'at the start of an upload', { phang => 100, method => 'POST', match => 'uploads' }, 'true', 0 ],
	[ 'at a part', { phang => 100, method => 'PUT', match => 'partNumber=' }, 'true', 0 ],
	[ 'at the end of an upload', { phang => 100, method => 'POST', match => 'uploadId=' }, $all_sent, 0 ],
	[ 'at the look after it', { phang => 100, method => 'HEAD', match => 'seg' }, $all_sent, 1 ])
{
	my ($name, $fault, $condition, $left) = @$case;
	@objects = $store->objects('items');
	$front->fault(%$fault);
	$builder = start_psql($node, "$build;\nSELECT 'still here';\n");
	my $seconds = cancel($condition);
	($out, $err) = finish_psql($builder);
	like($err, qr/ERROR:  canceling statement due to user request/, "cancelled $name");
	is($out, "still here\n", "cancelled $name: the session goes on");
	note(sprintf 'cancelled %s: %.0f ms', $name, $seconds * 1000);
	cmp_ok($seconds, '<', $limit_s, "cancelled $name: soon");
	$front->fault;
	no_uploads("cancelled $name");
	my @now = $store->objects('items');
	is(scalar(@now), @objects + $left, "cancelled $name: " . ($left ? 'an object nobody refers to' : 'no object')) or note("before: @objects\nnow: @now");
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relname = 'items_idx'}), 0, "cancelled $name: no index");
}
@objects = $store->objects('items');
is($node->safe_psql('postgres', "BEGIN; $build; ROLLBACK; SELECT count(*) FROM pg_class WHERE relname = 'items_idx'"), 0, 'rolled back: no index');
is(scalar(my @now = $store->objects('items')), @objects + 1, 'rolled back: an object nobody refers to');
is($node->safe_psql('postgres', "$build; $compare"), 'same', 'and after all that');

no_crash($node);
$node->stop;
done_testing();
