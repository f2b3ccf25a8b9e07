# Indexes on a real S3 server: the same rows as without it, one parallel wave a query over connections that stay open, as
# the log of a front before the server has it; large uploads; the first hour's checks.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin, "$FindBin::RealBin/../lib";
use IvfTest;
use ObjectStores;
use S3Test;
use Test::More;

my $dims = 100;
my $lists = 60;
my $store = start_radosgw(sts => 1);
my $front = start_nginx($store);
$store->create_bucket('items');
my $node = new_node('s3');
random_items($node, 'items', 30000, $dims);
$node->safe_psql('postgres', "CREATE TABLE few AS SELECT * FROM items WHERE id <= 3000; ANALYZE few");

add_s3_server($node, 'path_http', $store, 'items/path', endpoint => $front->endpoint('faulty_http'));
add_s3_server($node, 'virtual_https', $store, 'items/virtual/host', addressing => 'virtual', ca_file => $front->{ca_file},
	endpoint => "https://s3.localhost:$front->{faulty_https_port}");
my %port = (path_http => $front->{faulty_http_port}, virtual_https => $front->{faulty_https_port});

# Requests of the log on a server's port.
sub requests
{
	my ($server, %with) = @_;
	return grep { $_->{port} == $port{$server} && (!$with{method} || $_->{method} eq $with{method}) && $_->{uri} !~ m{/OWNER$} } $front->access_log;
}

sub count_of
{
	my ($text, @requests) = @_;
	return scalar grep { "$_->{method} $_->{uri}" =~ $text } @requests;
}

my $search = "SELECT array_agg(id) FROM (SELECT id FROM items ORDER BY v <-> (SELECT v FROM items WHERE id = 77) LIMIT 10) x";
my $settings = 'SET enable_seqscan = off; SET ivfremote.probes = 20';
my $last_scan = 'SELECT waves, requests, bytes_fetched FROM ivfremote_last_scan()';

$node->safe_psql('postgres', "CREATE INDEX items_idx ON items USING ivfremote (v) WITH (flush_threshold = 1, lists = $lists, quantization = none)");
# Builds choose their lists by chance: all of them are probed where rows are compared.
my $all = 'SET enable_seqscan = off; SET ivfremote.probes = 1000';
my $expected = $node->safe_psql('postgres', "$all; $search");

for my $server ('path_http', 'virtual_https')
{
	# A build: several parts, nothing unfinished
	$front->clear_log;
	$node->safe_psql('postgres', "DROP INDEX items_idx; CREATE INDEX items_idx ON items USING ivfremote (v) WITH (flush_threshold = 1, lists = $lists, quantization = none, server = '$server')");
	my @requests = requests($server);
	my ($bytes, $key) = split /\|/, $node->safe_psql('postgres', "SELECT bytes, object_key FROM ivfremote_segments('items_idx')");
	cmp_ok($bytes, '>', 12e6, "$server: a large object");
	is(count_of(qr/^POST .*[?&]uploads=?/, @requests), 1, "$server: a multipart upload begun");
	is(count_of(qr/^PUT .*partNumber=/, @requests), int(($bytes + (8 << 20) - 1) / (8 << 20)), "$server: its parts");
	is(count_of(qr/^POST .*uploadId=/, @requests), 1, "$server: and completed");
	is(count_of(qr/^HEAD /, @requests), 1, "$server: and looked at");
	is(join(' ', map { "$_->{method} $_->{status}" } grep { $_->{status} !~ /^2/ } @requests), 'GET 404', "$server: no request failed but the first look");
	is(join(' ', $store->uploads('items')), '', "$server: no upload left");
	is(scalar(grep { m{/\Q$key\E$} } $store->objects('items')), 1, "$server: one object, below the url");
	$front->clear_log;
	$node->safe_psql('postgres', "CREATE INDEX few_idx ON few USING ivfremote (v) WITH (flush_threshold = 1, lists = 5, server = '$server')");
	is(join(' ', map { $_->{method} } requests($server)), 'GET PUT HEAD', "$server: a small object by a single PUT");
	is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT compare('few', '<->', (SELECT v FROM items WHERE id = i), 100), '; ') FROM generate_series(1, 3) i"),
		'same', "$server: coded, the same rows as the table");
	# Radosgw does not know the ETag as it gives it, with quotation marks.
	like(join(' ', map { "$_->{method} $_->{status}" } grep { $_->{port} == $port{$server} && $_->{uri} =~ m{/OWNER$} } $front->access_log),
		qr/^GET 200 (PUT 412 HEAD 200 )?PUT 200$/, "$server: OWNER is read and replaced");
	$node->safe_psql('postgres', 'DROP INDEX few_idx');

	# The same rows
	is($node->safe_psql('postgres', "$all; $search"), $expected, "$server: the same rows as embedded");
	is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT compare('items', '<->', (SELECT v FROM items WHERE id = i), 100), '; ') FROM generate_series(1, 3) i"),
		'same', "$server: the same rows as the table");

	# One wave, as the log has it, over connections that stay
	$front->fault(delay => 100, jitter => 20);
	my $session = start_session($node);
	my (@scans, $first);
	for my $n (1 .. 4)
	{
		$front->clear_log;
		my ($out, $err) = ask($session, "$settings; $search; $last_scan");
		my ($rows, $scan) = split /\n/, $out;
		$first //= $rows;
		is("$rows$err", $first, "$server: query $n: the same rows");
		my ($waves, $count, $fetched) = split /\|/, $scan;
		my @gets = requests($server);
		push @scans, \@gets;
		is(scalar(grep { $_->{method} ne 'GET' || !$_->{range} || $_->{status} != 206 } @gets), 0, "$server: query $n: range reads only");
		is(scalar(@gets), $count, "$server: query $n: requests in the log are ivfremote_last_scan()'s");
		is($waves, 1, "$server: query $n: one wave");
		is(scalar(waves(@gets)), 1, "$server: query $n: one wave in the log");
		is(concurrency(@gets), $count, "$server: query $n: all at once");
		my $sent = 0;
		$sent += $_->{sent} for @gets;
		is($sent, $fetched, "$server: query $n: bytes");
	}
	cmp_ok(scalar(@{ $scans[0] }), '>=', 8, "$server: several requests");
	my %known = map { $_->{connection} => 1 } @{ $scans[0] };
	is(scalar(keys %known), scalar(@{ $scans[0] }), "$server: a connection for each at first");
	for my $n (1 .. 3)
	{
		my @new = grep { !$known{ $_->{connection} }++ } @{ $scans[$n] };
		is(scalar(@new), 0, "$server: query " . ($n + 1) . ' opens no connection');
	}

	# Bounded
	$front->clear_log;
	my ($out, $err) = ask($session, "SET ivfremote.max_concurrent_requests = 4; $search; $last_scan");
	my @gets = requests($server);
	like($out, qr/^\Q$first\E\n1\|${\scalar @gets}\|/, "$server: max_concurrent_requests = 4: the same rows");
	is(concurrency(@gets), 4, "$server: max_concurrent_requests = 4: four at a time");

	# Further waves are requests of their own, over the same connections; those of a scan that ends before are dropped
	$front->clear_log;
	my $further = 'SELECT count(*) FROM (SELECT id FROM items WHERE id % 97 > 96 ORDER BY v <-> (SELECT v FROM items WHERE id = 77) LIMIT 5) x';
	$out = ask($session, "RESET ivfremote.max_concurrent_requests; SET ivfremote.probes = 5; SET ivfremote.max_probes = 1048576; $further; $last_scan");
	my (undef, $waves, $count) = split /[\n|]/, $out;
	@gets = requests($server);
	cmp_ok($waves, '>', 1, "$server: in $waves waves");
	is(scalar(waves(@gets)), $waves, "$server: as the log has them");
	is(scalar(@gets), $count, "$server: with ivfremote_last_scan()'s requests");
	ask($session, "BEGIN; DECLARE c CURSOR FOR SELECT id FROM items ORDER BY v <-> (SELECT v FROM items WHERE id = 77); MOVE 31 FROM c; CLOSE c; COMMIT");
	like(scalar ask($session, "RESET ivfremote.probes; $settings; $search"), qr/^\Q$first\E$/, "$server: a wave under way at the end of a scan");
	quit($session);
	$front->fault;
}

# What arrives while local rows are scored does not wait for their end: a request has ended when somebody looks.
$node->safe_psql('postgres', q{
CREATE TABLE mixed AS SELECT * FROM few;
CREATE INDEX mixed_idx ON mixed USING ivfremote (v) WITH (flush_threshold = 1, lists = 5, server = 'path_http');
INSERT INTO mixed SELECT id + 100000 * n, v FROM items, generate_series(1, 8) n});
my ($requests, $first_ms, $score_ms) = split /\|/, $node->safe_psql('postgres', q{
SET enable_seqscan = off; SET ivfremote.probes = 5;
SELECT FROM mixed ORDER BY v <-> point(3, 100) LIMIT 1;
SELECT FROM mixed ORDER BY v <-> point(3, 100) LIMIT 1;
SELECT requests, (SELECT min(end_ms - start_ms) FROM ivfremote_last_scan_requests()), score_ms FROM ivfremote_last_scan()}) =~ s/^\n+//r;
is($requests, 1, 'pending rows beside a segment: one request');
note("the answer came after $first_ms ms, scoring took $score_ms ms");
cmp_ok($first_ms, '<', $score_ms / 2, 'pending rows beside a segment: the answer is taken while they are scored');

# A store that knows no conditional writes gets the object without the condition
add_s3_server($node, 'refusing', $store, 'items/refusing', endpoint => $front->endpoint('faulty_http'));
$front->clear_log;
$front->fault(p501 => 100, method => 'PUT', limit => 1);
# OWNER is first.
my ($code, $out, $err) = $node->psql('postgres', "CREATE INDEX few_idx ON few USING ivfremote (v) WITH (flush_threshold = 1, lists = 5, server = 'refusing')");
is($code, 0, '501 to a conditional put: the index is built');
is(join(' ', map { "$_->{method} $_->{status}" } grep { $_->{port} == $port{path_http} } $front->access_log), 'GET 404 GET 404 PUT 501 PUT 200 PUT 200 HEAD 200', '501 to a conditional put: once more without the condition');
like($err, qr/NOTICE:  server "refusing": the store does not support conditional writes/, '501 to a conditional put: said');
$front->fault;

# With temporary credentials
my %session_keys = $store->session;
add_s3_server($node, 'temporary', { %$store, %session_keys }, 'items/temporary', endpoint => $store->endpoint('http'));
$node->safe_psql('postgres', "DROP INDEX few_idx; CREATE INDEX few_idx ON few USING ivfremote (v) WITH (flush_threshold = 1, lists = 5, server = 'temporary')");
is($node->safe_psql('postgres', "SELECT compare('few', '<->', point(3, $dims), 10)"), 'same', 'a session token');
is($node->safe_psql('postgres', q{ALTER USER MAPPING FOR PUBLIC SERVER temporary OPTIONS (DROP session_token);
	SET enable_seqscan = off; SELECT attempt('SELECT id FROM few ORDER BY v <-> point(3, 100) LIMIT 1') ~ '^42501'}), 't', 'without its session token');

# Checks

my @checks = ('connect', 'tls', 'clock', 'list', 'put', 'conditional put', 'conditional replace', 'ranged get', 'latency', 'multipart', 'bandwidth', 'abort', 'delete');
for my $server ('path_http', 'virtual_https')
{
	my $said = $node->safe_psql('postgres', qq{SELECT "check", ok, detail, hint FROM ivfremote_check_server('$server')});
	note($said);
	is($node->safe_psql('postgres', qq{SELECT count(*) FILTER (WHERE NOT ok), count(*), count(hint) FROM ivfremote_check_server('$server')}), "0|${\scalar @checks}|0", "$server: all checks are ok");
	like($said, qr/^\Q$_\E\|t\|/m, "$server: check $_") for @checks;
}
# A distant store: it has not been told of the end of an upload when that is destroyed
$front->fault(delay => 400, method => 'DELETE', match => 'uploadId=');
is($node->safe_psql('postgres', q{SELECT ok, detail, hint FROM ivfremote_check_server('path_http') WHERE "check" = 'abort'}), 't|an unfinished upload leaves nothing|', 'a distant store: uploads can be aborted');
$front->fault(p403 => 100, method => 'DELETE', match => 'uploadId=');
like($node->safe_psql('postgres', q{SELECT ok, detail, hint FROM ivfremote_check_server('path_http') WHERE "check" = 'abort'}), qr/^f\|.*HTTP 403.*\|Let the keys abort multipart uploads/, 'keys that may not abort uploads');
$front->fault;
for my $upload (join('', $store->request('GET', '/items?uploads=')) =~ m{<Upload>(.*?)</Upload>}gs)
{
	my ($key, $id) = $upload =~ m{<Key>([^<]*).*<UploadId>([^<]*)}s;
	$store->request('DELETE', "/items/$key?uploadId=$id");
}
is(scalar(grep { /check/ } $store->objects('items')), 0, 'checks leave no object');
is(join(' ', $store->uploads('items')), '', 'checks leave no upload');

# Garbage collection: objects that nothing refers to, and uploads that nobody finishes
{
	my $incarnation = $node->safe_psql('postgres', q{SELECT DISTINCT incarnation FROM ivfremote_stat_servers});
	my ($kept) = $node->safe_psql('postgres', q{SELECT object_key FROM ivfremote_segments('mixed_idx')});
	my @path = grep { m{^path/.*\.seg} } $store->objects('items');
	cmp_ok(scalar(@path), '>', 1, 'objects of dropped indexes');
	my $old = "$incarnation/00000000-0000-4000-8000-000000000000/0000000000000001-0123456789abcdef.seg";
	my $young = $old =~ s/0000000000000001/00000000ffffffff/r;
	for my $key ($old, $young) { my ($status) = $store->request('POST', "/items/path/$key?uploads="); is($status, 200, 'an unfinished upload'); }
	my $collect = "SELECT state, count(*) FROM ivfremote_gc('path_http', false, '0') GROUP BY 1 ORDER BY 1";
	$front->clear_log;
	is($node->safe_psql('postgres', $collect), "upload aborted|1\nwaiting|${\(@path - 1)}", 'they are found');
	is(join(' ', $store->uploads('items')), "path/$young", 'the old upload is aborted, the young one may be somebody\'s');
	is($node->safe_psql('postgres', $collect), "deleted|${\(@path - 1)}", 'and deleted');
	is(scalar(grep { $_->{method} eq 'POST' } requests('path_http')), 1, 'in one request');
	is(join(' ', grep { m{^path/.*\.seg} } $store->objects('items')), "path/$kept", 'but for the one in use');
	is($node->safe_psql('postgres', $collect), '', 'nothing is left');
	is(scalar ask(my $session = start_session($node), 'SET enable_seqscan = off; SELECT count(*) FROM (SELECT FROM mixed ORDER BY v <-> point(3, 100) LIMIT 1) x'), 1, 'searches go on');
	quit($session);
	$front->fault(p403 => 100);
	error_like($node, '', "SELECT ivfremote_gc('path_http', false)", qr/^42501 .*could not collect garbage in server "path_http".*HTTP 403.*ALTER USER MAPPING FOR PUBLIC SERVER path_http/, 'keys that are refused');
	$front->fault;
}
$node->safe_psql('postgres', q{CREATE ROLE other LOGIN; CREATE ROLE owner LOGIN; GRANT EXECUTE ON FUNCTION ivfremote_check_server TO owner; ALTER SERVER temporary OWNER TO owner});
error_like($node, 'SET ROLE other', q{SELECT * FROM ivfremote_check_server('path_http')}, qr/^42501 \| permission denied for function ivfremote_check_server/, 'checks are not for everyone');
error_like($node, 'SET ROLE owner', q{SELECT * FROM ivfremote_check_server('path_http')}, qr/^42501 \| must be owner of foreign server path_http/, 'checks are for the owner of the server');
is($node->safe_psql('postgres', q{ALTER USER MAPPING FOR PUBLIC SERVER temporary OPTIONS (SET access_key_id 'nobody'); SET ROLE owner; SELECT "check" || ': ' || detail FROM ivfremote_check_server('temporary') WHERE NOT ok}) =~ /^list: .*HTTP 403/m, 1, 'a failed check says what failed');
is($node->safe_psql('postgres', q{DROP USER MAPPING FOR PUBLIC SERVER temporary; SET ROLE owner; SELECT attempt($$SELECT * FROM ivfremote_check_server('temporary')$$) ~ '^42704'}), 't', 'checks without a user mapping');

# Checks of what is wrong
my $nobody = do { require IO::Socket::INET; my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1'); $socket->sockport };
my %wrong = (
	no_bucket => [ 'none', { endpoint => $store->endpoint('http') }, qr/^list\|.*404 NoSuchBucket.*\|.*bucket/m ],
	no_server => [ 'items', { endpoint => "http://127.0.0.1:$nobody" }, qr/^connect\|.+\|.*endpoint/m ],
	no_name => [ 'items', { endpoint => 'http://nowhere.invalid' }, qr/^connect\|.*resolve.*\|.*name resolution/mi ],
	no_ca => [ 'items', { endpoint => $front->endpoint('https') }, qr/^tls\|.*\|.*ca_file/m ]);
for my $name (sort keys %wrong)
{
	my ($path, $options, $pattern) = @{ $wrong{$name} };
	add_s3_server($node, $name, $store, $path, %$options);
	like($node->safe_psql('postgres', qq{SELECT "check", detail, hint FROM ivfremote_check_server('$name') WHERE NOT ok}), $pattern, "checks find $name");
}

no_crash($node);
$node->stop;
done_testing();
