# What goes wrong with an S3 server, and what is said about it: SQLSTATE, detail and hint for each; whose keys are used;
# and that no key is shown or logged anywhere.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin, "$FindBin::RealBin/../lib";
use IvfTest;
use ObjectStores;
use PostgreSQL::Test::Utils;
use S3Test;
use Test::More;

my $dims = 32;
my $store = start_radosgw();
$store->create_bucket('items');
$store->create_user('nobody', 'nobodysaccess', 'nobodyssecret0123456789');
my $node = new_node('s3_errors', conf => "log_min_messages = debug5\nlog_statement = none\nlog_min_error_statement = panic\ntrack_activity_query_size = 4096\n");
random_items($node, 'items', 4000, $dims);
my $endpoint = $store->endpoint('http');
add_s3_server($node, 'lake', $store, 'items/lake', endpoint => $endpoint);
$node->safe_psql('postgres', q{
CREATE ROLE app LOGIN;
CREATE ROLE reader LOGIN;
GRANT ALL ON SCHEMA public TO app;
ALTER TABLE items OWNER TO app;
GRANT SELECT ON items TO reader;
GRANT USAGE ON FOREIGN SERVER lake TO app;
CREATE INDEX items_idx ON items USING ivfremote (v) WITH (flush_threshold = 1, lists = 20, server = 'lake')});
my $key = $node->safe_psql('postgres', q{SELECT object_key FROM ivfremote_segments('items_idx')});
my $object = "/items/lake/$key";

my $search = "SELECT array_agg(id) FROM (SELECT id FROM items ORDER BY v <-> (SELECT v FROM items WHERE id = 42) LIMIT 10) x";
my $scan = 'SET enable_seqscan = off; SET ivfremote.probes = 20';
my $answer = $node->safe_psql('postgres', "$scan; $search");
my $hint_scan = qr/Set ivfremote\.enable_scan = off to search the table itself\.$/;
my $hint_copy = qr/Restore the object .*REINDEX INDEX CONCURRENTLY public\.items_idx; the table holds all its data\.$/;
my $running = start_session($node);
is(ask($running, "$scan; $search"), $answer, 'all is well');

sub same_answer
{
	my ($name) = @_;
	is(scalar ask($running, $search), $answer, "$name: a running session");
	is($node->safe_psql('postgres', "$scan; $search"), $answer, "$name: a new session");
	return;
}

# Both kinds of session get the same error.
sub both_fail
{
	my ($pattern, $name) = @_;
	like(scalar ask($running, "SELECT attempt(\$\$$search\$\$)"), $pattern, "$name: a running session");
	error_like($node, $scan, $search, $pattern, "$name: a new session");
	return;
}

# Objects

my ($status, $bytes) = $store->request('GET', $object);
is($status, 200, 'the object');
my $directory = PostgreSQL::Test::Utils::tempdir;
sub put_object
{
	my ($content) = @_;
	open(my $file, '>:raw', "$directory/content") or die $!;
	print $file $content;
	close $file;
	my ($said) = $store->request('PUT', $object, '--data-binary', "\@$directory/content", '-H', 'Content-Type: application/octet-stream');
	is($said, 200, 'an object is replaced');
	return;
}

$bytes = do { $store->request('GET', $object, '-o', "$directory/good"); slurp_file("$directory/good") };
($status) = $store->request('DELETE', $object);
both_fail(qr/^58P01 \| object of index "items_idx" is missing in server "lake" \| .*\Q$key\E.*HTTP 404.* \| $hint_copy/, 'a missing object');
put_object('x' x length $bytes);
both_fail(qr/^XX001 \| index "items_idx" read wrong bytes from server "lake" \| .*\Q$key\E" bytes \d+-\d+.* \| $hint_copy/, 'wrong bytes');
put_object(substr($bytes, 0, length($bytes) / 2));
both_fail(qr/^XX001 \| index "items_idx" read wrong bytes from server "lake" \| .*\Q$key\E" bytes \d+-\d+.* \| $hint_copy/, 'an object cut in half');
put_object($bytes);
same_answer('with the object back');

# Keys

my $wrong = q{ALTER USER MAPPING FOR PUBLIC SERVER lake OPTIONS (SET secret_access_key 'wrongsecret0123456789')};
my $right = "ALTER USER MAPPING FOR PUBLIC SERVER lake OPTIONS (SET access_key_id '$store->{access_key}', SET secret_access_key '$store->{secret_key}')";
my $refused = qr/^42501 \| server "lake" refused access to index "items_idx" \| .*HTTP 403 \w+.*role "app" \(owner of the index\).* \| .*ALTER USER MAPPING FOR PUBLIC SERVER lake/;
my $refused_owner = qr/^42501 \| server "lake" refused access to index "items_idx" .* \| .*ALTER USER MAPPING FOR app SERVER lake/;
$node->safe_psql('postgres', $wrong);
both_fail(qr/$refused/, 'a wrong secret');
like(scalar ask($running, "SELECT attempt(\$\$$search\$\$)"), qr/SignatureDoesNotMatch/, 'a wrong secret: what the store says');
like(scalar ask($running, 'SELECT attempt($$REINDEX INDEX items_idx$$)'), qr/^42501 \| could not write index "items_idx" to server "lake" \| Nothing had been stored; last: .*HTTP 403 SignatureDoesNotMatch\. \| Use ALTER USER MAPPING FOR PUBLIC SERVER lake OPTIONS \(SET \.\.\.\), then run the statement again\.$/, 'a wrong secret: a build');
$node->safe_psql('postgres', $right);
same_answer('another session repairs the user mapping');
like(scalar ask($running, "$wrong; SELECT attempt(\$\$$search\$\$); $right; $search"), qr/^42501.*\n\Q$answer\E$/, 'the session repairs it itself');
is(scalar ask($running, "BEGIN; $wrong; SELECT left(attempt(\$\$$search\$\$), 5); ROLLBACK; $search"), "42501\n$answer", 'a change is rolled back');
$node->safe_psql('postgres', q{ALTER USER MAPPING FOR PUBLIC SERVER lake OPTIONS (SET access_key_id 'unknown')});
both_fail(qr/^42501 .*InvalidAccessKeyId/, 'an unknown key');
$node->safe_psql('postgres', q{ALTER USER MAPPING FOR PUBLIC SERVER lake OPTIONS (SET access_key_id 'nobodysaccess', SET secret_access_key 'nobodyssecret0123456789')});
both_fail(qr/^42501 .*AccessDenied/, 'keys that may not');
# Within a transaction, which takes no new locks and so hears of no change by itself
ask($running, 'BEGIN');
like(scalar ask($running, "SELECT attempt(\$\$$search\$\$)"), qr/^42501/, 'in a transaction: refused');
$node->safe_psql('postgres', $right);
is(scalar ask($running, "$search; COMMIT"), $answer, 'in a transaction: what was refused is tried with what the user mapping is now');

# Whose keys

my ($good, $bad) = (mapping_options(%$store), q{OPTIONS (access_key_id 'nobodysaccess', secret_access_key 'nobodyssecret0123456789')});
$node->safe_psql('postgres', "CREATE USER MAPPING FOR reader SERVER lake $bad; CREATE USER MAPPING FOR CURRENT_USER SERVER lake $bad");
same_answer('not those of who searches');
my $reader = start_session($node, user => 'reader');
is(scalar ask($reader, "$scan; $search"), $answer, 'a role without keys of its own and without USAGE searches');
$node->safe_psql('postgres', "CREATE USER MAPPING FOR app SERVER lake $bad");
both_fail($refused_owner, 'those of the owner, not PUBLIC\'s');
$node->safe_psql('postgres', "ALTER USER MAPPING FOR app SERVER lake OPTIONS (SET access_key_id '$store->{access_key}', SET secret_access_key '$store->{secret_key}'); DROP USER MAPPING FOR PUBLIC SERVER lake");
same_answer('those of the owner alone');
is(scalar ask($reader, $search), $answer, 'those of the owner: for another role');
is($node->safe_psql('postgres', 'SET ROLE app; SELECT attempt($$REINDEX INDEX items_idx$$)'), 'done', 'those of the owner: a build');
is($node->safe_psql('postgres', 'REINDEX INDEX CONCURRENTLY items_idx; SELECT 1'), 1, 'those of the owner: a build by another role');
same_answer('after builds');
$node->safe_psql('postgres', 'DROP USER MAPPING FOR app SERVER lake');
both_fail(qr/^42704 \| no user mapping on server "lake" for .*"app".* \| .*CREATE USER MAPPING FOR app .*SERVER lake/, 'no user mapping');
error_like($node, '', 'REINDEX INDEX items_idx', qr/^42704 \| no user mapping on server "lake" for .*"app"/, 'no user mapping: a build');
error_like($node, '', "CREATE INDEX ON items USING ivfremote (v) WITH (server = 'lake', flush_threshold = 1)", qr/^42704 \| no user mapping/, 'no user mapping: a new index');
$node->safe_psql('postgres', "CREATE USER MAPPING FOR PUBLIC SERVER lake $good");
same_answer('a user mapping again');
error_like($node, '', "ALTER SERVER lake OPTIONS (ADD secret_access_key '$store->{secret_key}')", qr/^HV00D \| option "secret_access_key" belongs to a user mapping/, 'a secret on a server');

# Where

for my $case ([ 'no bucket', "SET url 's3://nowhere/lake'", qr/^58030 .*HTTP 404 NoSuchBucket/ ],
	[ 'nobody listens', "SET endpoint 'http://127.0.0.1:1'", qr/^58030 \| could not read index "items_idx" from server "lake" \| (\d+) of \1 requests failed.*3 attempts.* \| $hint_scan/ ],
	[ 'an unknown certificate', "SET endpoint '" . $store->endpoint('https') . q{'}, qr/^58030 \| .*(TLS|certificate)/i ])
{
	my ($name, $option, $pattern) = @$case;
	$node->safe_psql('postgres', "ALTER SERVER lake OPTIONS ($option)");
	both_fail($pattern, $name);
	$node->safe_psql('postgres', "ALTER SERVER lake OPTIONS (SET url 's3://items/lake', SET endpoint '$endpoint')");
	is(scalar ask($running, $search), $answer, "$name: and back");
}
error_like($node, "ALTER SERVER lake OPTIONS (SET url 's3://nowhere/lake')", 'REINDEX INDEX items_idx', qr/^58\w+ \| could not write index "items_idx" to server "lake" \| .*NoSuchBucket/, 'no bucket: a build');
$node->safe_psql('postgres', "ALTER SERVER lake OPTIONS (SET url 's3://items/lake')");

# The server goes away and comes back

$store->kill_gateway;
my ($said, $err, $seconds) = ask($running, "SELECT attempt(\$\$$search\$\$)");
like($said, qr/^58030 \| could not read index "items_idx" from server "lake" \| (\d+) of \1 requests failed.*3 attempts.* \| $hint_scan/, 'the server is gone');
note(sprintf 'a search failed after %.0f ms', $seconds * 1000);
cmp_ok($seconds, '<', 5, 'the server is gone: in bounded time');
is(scalar ask($running, "SET ivfremote.enable_scan = off; $search; RESET ivfremote.enable_scan"), $answer, 'the server is gone: as the hint says');
($said, $err, $seconds) = ask($running, qq{
	BEGIN; INSERT INTO items SELECT 100000 + id, v FROM items WHERE id <= 50;
	UPDATE items SET v = v WHERE id = 100001;
	DELETE FROM items WHERE id > 100010; COMMIT;
	DELETE FROM items WHERE id > 100000;
	VACUUM items; ANALYZE items;
	SELECT count(*) FROM items});
is("$said$err", 4000, 'the server is gone: INSERT, UPDATE, DELETE, COMMIT, VACUUM go on');
note(sprintf 'writes and VACUUM took %.0f ms', $seconds * 1000);
cmp_ok($seconds, '<', 5, 'the server is gone: writes do not wait');
like(scalar ask($running, q{SET ivfremote.write_timeout = '1ms'; SELECT attempt($$REINDEX INDEX items_idx$$); RESET ivfremote.write_timeout}), qr/^58030 \| could not write index "items_idx" to server "lake" \| Nothing had been stored; last: .*3 attempts(?: in \d+ s)?\)\. \| Check the server with SELECT \* FROM ivfremote_check_server\('lake'\), then run the statement again\.$/, 'the server is gone: a build');
$store->start_gateway;
same_answer('the server is back');

# Clocks that differ

SKIP:
{
	skip 'libfaketime is not installed', 8 if !glob '/usr/lib/*/faketime/libfaketimeMT.so.1';
	for my $case ([ '+20m', 'behind' ], [ '-20m', 'ahead of' ])
	{
		my ($offset, $how) = @$case;
		$store->kill_gateway;
		$store->start_gateway($offset);
		like($node->safe_psql('postgres', q{SELECT string_agg(concat_ws('|', "check", ok, detail, hint), E'\n') FROM ivfremote_check_server('lake')}),
			qr/^connect\|t\|.*\ntls\|t\|.*\nclock\|f\|this clock is 1\d\d\d s $how the store's\|Set this machine's clock: .*\z/, "a clock $how the store's: checks end with it");
		both_fail(qr/^42501 \| server "lake" refused access to index "items_idx" \| .*HTTP 403 RequestTimeTooSkewed \(this clock is 1\d\d\d s $how the store's\) \| Set the clock of this machine\.$/, "a clock $how the store's");
		like(scalar ask($running, 'SELECT attempt($$REINDEX INDEX items_idx$$)'), qr/^42501 \| could not write index .*RequestTimeTooSkewed \(this clock is 1\d\d\d s $how/, "a clock $how the store's: a build");
	}
	$store->kill_gateway;
	$store->start_gateway;
}
same_answer('clocks agree again');

# Secrets

is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity a WHERE a::text ~ '$store->{secret_key}' AND pid <> pg_backend_pid()"), 0, 'pg_stat_activity has no secret');
for my $view ('ivfremote_info(\'items_idx\')', 'ivfremote_segments(\'items_idx\')', 'ivfremote_check_server(\'lake\')', 'pg_foreign_server', 'ivfremote_last_scan_requests()')
{
	unlike($node->safe_psql('postgres', "$scan; SELECT * FROM $view"), qr/\Q$store->{secret_key}\E/, "$view has no secret");
}
is(scalar ask($reader, "SELECT count(*) FROM pg_user_mappings WHERE srvname = 'lake' AND umoptions IS NOT NULL"), 0, 'others see no user mapping');
quit($_) for $running, $reader;
$node->stop;
my $log = slurp_file($node->logfile);
like($log, qr/DEBUG/, 'the log has everything');
for my $secret ($store->{secret_key}, 'wrongsecret0123456789', 'nobodyssecret0123456789')
{
	my @lines = grep { /\Q$secret\E/ } split /\n/, $log;
	is(join("\n", @lines), '', 'the log has no secret');
}
unlike($log, qr/AWS4-HMAC-SHA256|Signature=/, 'nor a signature');
no_crash($node);
done_testing();
