# Garbage collection: what nothing refers to is deleted in the end, and nothing else ever is. Files below the store's directory are
# its objects; an object's state is what ivfremote_gc says of it.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $dims = 8;
my $node = new_node('main', conf => "max_prepared_transactions = 2\n");
need_faults($node);
my $directory = add_store($node, 'store');
$node->safe_psql('postgres', "CREATE TABLE source AS SELECT i AS id, point(i, $dims) AS v FROM generate_series(1, 300) i");

# A table with an index in the store.
sub add_table
{
	my ($name, $database) = @_;
	$node->safe_psql($database || 'postgres', qq{
CREATE TABLE $name AS TABLE source;
CREATE INDEX ${name}_idx ON $name USING ivfremote (v) WITH (flush_threshold = 1, lists = 4, server = 'store')});
	return;
}

sub key_of
{
	my ($table, $database) = @_;
	return $node->safe_psql($database || 'postgres', "SELECT object_key FROM ivfremote_segments('${table}_idx')");
}

sub objects { return files_below($directory, qr/\.seg(\.\d+)?$/); }

# Runs a collection; returns its rows as "key|state", and what it warns of.
sub collect
{
	my ($retention, %options) = @_;
	my $on = $options{on} || $node;
	my $dry = $options{dry} ? 'true' : 'false';
	# Others have transactions, too.
	$on->safe_psql('postgres', 'SELECT pg_current_xact_id()');
	my ($out, $err);
	my $status = $on->psql('postgres', "SELECT object_key || '|' || state FROM ivfremote_gc('store', $dry, $retention) ORDER BY 1", stdout => \$out, stderr => \$err);
	return $options{quiet} ? ($status, $out, $err) : do { is($err, '', 'nothing to complain of'); [ split /\n/, $out ] };
}

sub collect_all
{
	collect("'0'") for 1 .. 2;
	return;
}

# -- OWNER

add_table('kept');
my $kept = key_of('kept');
my ($incarnation) = $kept =~ m{^([0-9a-f]{32})/};
my $owner_file = "$directory/$incarnation/OWNER";
sub token { return slurp_file($owner_file) =~ /"token": (\d+)/ ? $1 : undef; }
like(slurp_file($owner_file), qr/"cluster_name": "main"/, 'OWNER says whose it is');
my $system_identifier = $node->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()');
like(slurp_file($owner_file), qr/"system_identifier": "$system_identifier"/, 'and of which cluster');
is(token(), 1, 'the first token');
add_table('dropped');
is(token(), 2, 'each segment takes the next');
is_deeply(collect('NULL', dry => 1), [], 'no garbage');
is(token(), 2, 'a dry run writes nothing');
is_deeply(collect('NULL'), [], 'no garbage still');
is(token(), 3, 'a collection takes a token');
ok(!-e "$directory/$incarnation/GARBAGE", 'and writes no list of nothing');

# -- everything that leaves garbage

add_table($_) for 'truncated', 'reindexed', 'rewritten';
my %garbage = map { key_of($_) => $_ } 'dropped', 'truncated', 'reindexed', 'rewritten';
$node->safe_psql('postgres', "DROP TABLE dropped; TRUNCATE truncated; REINDEX INDEX reindexed_idx; ALTER TABLE rewritten ALTER id TYPE int8");
my %before = map { $_ => 1 } objects();
$node->safe_psql('postgres', "BEGIN; CREATE INDEX ON source USING ivfremote (v) WITH (flush_threshold = 1, lists = 4, server = 'store'); ROLLBACK");
$garbage{$_} = 'rolled back' for grep { !$before{$_} } objects();
$node->safe_psql('template1', 'CREATE DATABASE other TEMPLATE postgres');
add_table('gone', 'other');
$garbage{ key_of('gone', 'other') } = 'database';
$node->safe_psql('postgres', 'DROP DATABASE other');
is(scalar(keys %garbage), 6, 'six objects of garbage');
my @all = objects();

is_deeply(collect("'0'", dry => 1), [ map { "$_|waiting" } sort keys %garbage ], 'all of it is found, and nothing else');
ok(!-e "$directory/$incarnation/GARBAGE", 'a dry run does not begin to wait');
is_deeply(collect("'0'"), [ map { "$_|waiting" } sort keys %garbage ], 'the first collection deletes nothing');
ok(-e "$directory/$incarnation/GARBAGE", 'it writes down what it found');
is_deeply([ objects() ], \@all, 'really nothing');
is_deeply(collect('NULL'), [ map { "$_|waiting" } sort keys %garbage ], 'the server says 7 days');
is_deeply(collect("'1 hour'"), [ map { "$_|waiting" } sort keys %garbage ], 'an hour has not passed');
$node->safe_psql('postgres', "ALTER SERVER store OPTIONS (ADD retention '0 s')");
is_deeply(collect('NULL', dry => 1), [ map { "$_|would delete" } sort keys %garbage ], 'the server says at once; dry');
is_deeply([ objects() ], \@all, 'dry runs delete nothing');
is_deeply(collect("'1 month'"), [ map { "$_|waiting" } sort keys %garbage ], 'the argument is stronger');
is_deeply(collect('NULL'), [ map { "$_|deleted" } sort keys %garbage ], 'deleted');
is_deeply([ objects() ], [ grep { !$garbage{$_} } @all ], 'exactly the garbage');
is_deeply(collect('NULL'), [], 'no garbage left');
unlike(slurp_file("$directory/$incarnation/GARBAGE"), qr/\.seg/, 'nor in the list');
kept_ok($node, $_, '<->', $dims, "$_: searches find everything") for 'kept', 'reindexed', 'rewritten', 'truncated';
$node->safe_psql('postgres', "ALTER SERVER store OPTIONS (DROP retention)");

# -- objects of others, and of nobody

mkdir "$directory/$incarnation/check";
append_to_file("$directory/$incarnation/check/1.check", 'x');
append_to_file("$directory/stranger", 'x');
is_deeply(collect("'0'"), ["$incarnation/check/1.check|unknown"], 'an object it does not know is left alone') for 1 .. 3;
ok(-e "$directory/$incarnation/check/1.check" && -e "$directory/stranger", 'they are there');
unlink "$directory/$incarnation/check/1.check";

# -- a directory that nobody but its owner may read, as file systems have

mkdir "$directory/lost+found", 0 or die;
is_deeply(collect("'0'"), [], 'what is beside the objects, does not matter');
rmdir "$directory/lost+found" or die;

# -- of a cluster that is gone, and had more transactions

{
	my $gone = '0123456789abcdef' x 2;
	my ($folder, $name) = $kept =~ m{^[^/]+/([^/]+)/([^/]+)$};
	my $key = "$gone/$folder/" . ($name =~ s/^[0-9a-f]{16}/00000000ffffffff/r);
	mkdir "$directory/$gone"; mkdir "$directory/$gone/$folder";
	append_to_file("$directory/$key", 'x' x 17);
	append_to_file("$directory/$gone/GARBAGE", 'what it was about to delete');
	is_deeply(collect("'0'"), ["$gone/|other incarnation"], 'what is nobody\'s, is not deleted, and not forgotten') for 1 .. 3;
	is_deeply(collect("'0'", dry => 1), ["$gone/|other incarnation"], 'nor by a dry run');
	$node->safe_psql('postgres', "SELECT ivfremote_adopt('store', '$gone')");
	ok(!-e "$directory/$gone/GARBAGE", 'adopted, its garbage waits anew');
	is_deeply(collect("'0'"), ["$key|waiting"], 'it is found');
	is_deeply(collect("'0'"), ["$key|deleted"], 'and deleted');
	is_deeply(collect("'0'"), [], 'nothing is left');
}

# -- WAL that ends with a page: the insert position is behind the next page's header

{
	add_table('waste');
	my $waste = key_of('waste');
	$node->safe_psql('postgres', 'DROP TABLE waste');
	is_deeply(collect("'0'"), ["$waste|waiting"], 'garbage');
	$node->safe_psql('postgres', 'SELECT pg_current_xact_id(); CHECKPOINT');
	is($node->safe_psql('postgres', q{
DO $$ DECLARE left_bytes int; BEGIN LOOP
  left_bytes := 8192 - (pg_current_wal_insert_lsn() - '0/0') % 8192;
  EXIT WHEN left_bytes = 8192 - 24;
  PERFORM pg_logical_emit_message(false, '', repeat('x', CASE WHEN left_bytes BETWEEN 56 AND 250 THEN left_bytes - 51 ELSE 5 END));
END LOOP; END $$;
SELECT object_key || '|' || state FROM ivfremote_gc('store', false, '0')}), "$waste|deleted", 'WAL ends with a page');
}

# -- an index that CREATE INDEX CONCURRENTLY has not built

{
	$node->psql('postgres', q{SET ivfremote.test_fault = 'tagged_fail'; SET ivfremote.write_timeout = '1s'; CREATE INDEX CONCURRENTLY unbuilt_idx ON kept USING ivfremote (v) WITH (flush_threshold = 1, lists = 4, server = 'store')});
	is($node->safe_psql('postgres', q{SELECT indisready FROM pg_index WHERE indexrelid = 'unbuilt_idx'::regclass}), 'f', 'an index that is not ready');
	my $path = $node->data_dir . '/' . $node->safe_psql('postgres', "CHECKPOINT; SELECT pg_relation_filepath('unbuilt_idx')");
	$node->stop;
	# As a crash leaves pages that were allocated, and not logged
	open my $file, '>:raw', $path or die "$path: $!";
	print $file "\0" x 16384;
	close $file;
	$node->start;
	is_deeply(collect("'0'"), [], 'refers to nothing');
	is($node->safe_psql('postgres', 'SELECT incarnation FROM ivfremote_stat_servers'), $incarnation, 'and stops no view');
	$node->safe_psql('postgres', 'DROP INDEX unbuilt_idx');
}

# -- what is not committed yet

{
	my $session = start_session($node);
	ask($session, "BEGIN; CREATE INDEX idle_idx ON source USING ivfremote (v) WITH (flush_threshold = 1, lists = 4, server = 'store')");
	is_deeply(collect("'0'"), [], 'CREATE INDEX idle in transaction') for 1 .. 3;
	ask($session, 'COMMIT');
	quit($session);
	is_deeply(collect("'0'"), [], 'committed');
	kept_ok($node, 'source', '<->', $dims, 'searches find everything');

	$node->safe_psql('postgres', "BEGIN; CREATE INDEX prepared_idx ON kept USING ivfremote (v) WITH (flush_threshold = 1, lists = 4, server = 'store'); PREPARE TRANSACTION 'p'");
	# Its table is locked, the index of the same table is not.
	is_deeply(collect("'0'"), [], 'CREATE INDEX prepared') for 1 .. 3;
	$node->safe_psql('postgres', "ROLLBACK PREPARED 'p'");
	my $rows = collect("'0'");
	like("@$rows", qr/^\S+\|waiting$/, 'rolled back, it is garbage');
	$rows = collect("'0'");
	like("@$rows", qr/^\S+\|deleted$/, 'and deleted');
}

# Whoever has been running since garbage was found first keeps it: he may know of what we do not, such as a copy being made.
{
	add_table('seen');
	my $key = key_of('seen');
	my $session = start_session($node);
	$node->safe_psql('postgres', 'DROP TABLE seen; SELECT pg_current_xact_id()');
	ask($session, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	is_deeply(collect("'0'"), ["$key|waiting"], 'while a transaction lasts') for 1 .. 3;
	ask($session, 'COMMIT');
	quit($session);
	is_deeply(collect("'0'"), ["$key|deleted"], 'when it has ended');
}

# Segments that flush and compaction replace, and those they are about to publish
{
	$node->safe_psql('postgres', "INSERT INTO kept SELECT 1000 + i, point(i, $dims) FROM generate_series(1, 100) i");
	for my $case ([ 'flush.uploaded', "SELECT ivfremote_flush('kept_idx')" ], [ 'compact.uploaded', "CALL ivfremote_compact('kept_idx')" ])
	{
		my ($point, $statement) = @$case;
		my %segments = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', q{SELECT object_key FROM ivfremote_segments('kept_idx')});
		my $holder = start_session($node);
		ask($holder, 'SELECT pg_advisory_lock(1)');
		my $maintainer = start_session($node, name => 'maintainer');
		say_to($maintainer, "SET ivfremote.test_point = '$point=pause'; $statement");
		$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'maintainer' AND wait_event = 'advisory'}) or die 'no pause';
		is_deeply(collect("'0'"), [], "$point: what is not published yet") for 1 .. 3;
		ask($holder, 'SELECT pg_advisory_unlock(1)');
		ask($maintainer, 'SELECT 1');
		quit($_) for $holder, $maintainer;
		my @now = split /\n/, $node->safe_psql('postgres', q{SELECT object_key FROM ivfremote_segments('kept_idx')});
		delete @segments{@now};
		collect("'0'");
		is_deeply(collect("'0'"), [ map { "$_|deleted" } sort keys %segments ], "$point: and what is no more");
		kept_ok($node, 'kept', '<->', $dims, "$point: searches find everything");
		is(scalar(keys %segments), $point =~ /compact/ ? 2 : 0, "$point: segments replaced");
	}
}

# -- copies of a database

{
	add_table('copied');
	my $key = key_of('copied');
	$node->safe_psql('template1', 'CREATE DATABASE copy TEMPLATE postgres');
	$node->safe_psql('postgres', 'DROP TABLE copied; ALTER DATABASE copy ALLOW_CONNECTIONS false');
	is_deeply(collect("'0'"), [], 'a copy that allows no connections needs it') for 1 .. 3;
	$node->safe_psql('postgres', 'ALTER DATABASE copy ALLOW_CONNECTIONS true');
	is($node->safe_psql('copy', "SELECT compare('copied', '<->', point(7, $dims), 300)"), 'same', 'searches in the copy find everything');
	# As DROP DATABASE leaves one that fails in the middle: nobody can use it again.
	$node->safe_psql('postgres', "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'copy'");
	is_deeply(collect("'0'"), ["$key|waiting"], 'a database that was half dropped needs nothing');
	$node->safe_psql('postgres', 'DROP DATABASE copy');
	is_deeply(collect("'0'"), ["$key|deleted"], 'the last copy is gone');
}

# -- one failure, and nothing is deleted

add_table('locked');
add_table('waste');
my $waste = key_of('waste');
$node->safe_psql('postgres', 'DROP TABLE waste');
is_deeply(collect("'0'"), ["$waste|waiting"], 'garbage waits');

# A collection that fails, and deletes nothing.
sub fails_like
{
	my ($pattern, $name) = @_;
	my ($status, $out, $err) = collect("'0'", quiet => 1);
	isnt($status, 0, "$name: an error");
	like($err, $pattern, "$name: says why");
	is($out, '', "$name: no rows");
	ok(-e "$directory/$waste", "$name: nothing is deleted");
	return;
}

{
	my $session = start_session($node);
	ask($session, 'BEGIN; REINDEX INDEX locked_idx');
	fails_like(qr/database "postgres" needs: could not obtain lock on index "locked_idx".*Nothing was deleted/s, 'locked index');
	ask($session, 'ROLLBACK');
	quit($session);
}
{
	my $path = $node->data_dir . '/' . $node->safe_psql('postgres', "CHECKPOINT; SELECT pg_relation_filepath('locked_idx')");
	$node->stop;
	my $meta;
	open my $file, '+<:raw', $path or die "$path: $!";
	read $file, $meta, 8192;
	seek $file, 24, 0;
	print $file 'x' x 100;
	close $file;
	$node->start;
	fails_like(qr/index "locked_idx" is corrupted at block 0/, 'damaged meta page');
	my ($out, $err);
	is($node->psql('postgres', 'SELECT incarnation FROM ivfremote_stat_servers', stdout => \$out, stderr => \$err), 0, 'the view of servers goes on');
	is($out, $incarnation, 'without it');
	like($err, qr/WARNING:  index "locked_idx" is left out: its meta page can't be read/, 'and says so');
	# As a file system may leave it after a crash
	$node->stop;
	my $pages = slurp_file($path);
	truncate $path, 0 or die "$path: $!";
	$node->start;
	fails_like(qr/database "postgres" needs: could not read block 0/, 'no pages');
	is($node->psql('postgres', 'SELECT incarnation FROM ivfremote_stat_servers', stdout => \$out, stderr => \$err), 0, 'the view of servers goes on, too');
	like($err, qr/WARNING:  index "locked_idx" is left out: its meta page can't be read/, 'and says so');
	$node->stop;
	substr($pages, 0, 8192) = $meta;
	open $file, '>:raw', $path or die "$path: $!";
	print $file $pages;
	close $file;
	$node->start;
}
$node->append_conf('postgresql.conf', 'max_worker_processes = 0');
$node->restart;
fails_like(qr/could not start a background worker to look at database .*increase max_worker_processes/s, 'no workers');
$node->append_conf('postgresql.conf', 'max_worker_processes = 8');
$node->restart;
chmod 0500, "$directory/$incarnation" or die;
SKIP:
{
	skip 'root writes everywhere', 4 if $> == 0;
	fails_like(qr/could not collect garbage in server "store".*Permission denied.*HINT:  Check the server/s, 'a store that refuses');
}
chmod 0700, "$directory/$incarnation" or die;
my ($deleted) = grep { /deleted/ } @{ collect("'0'") };
is($deleted, "$waste|deleted", 'all is well again');

append_to_file("$directory/$incarnation/GARBAGE", 'x');
$node->safe_psql('postgres', 'DROP TABLE locked');
{
	my ($status, $out, $err) = collect("'0'", quiet => 1);
	like($err, qr/WARNING:  object GARBAGE of incarnation $incarnation is damaged/m, 'a damaged list is begun anew');
	like($out, qr/\|waiting$/, 'and all garbage waits');
	my $rows = collect("'0'");
	like("@$rows", qr/\|deleted$/, 'until the next time');
}

# -- what makes an object garbage must be on disk before it is deleted: compaction publishes without waiting for the disk

{
	$node->append_conf('postgresql.conf', "synchronous_commit = off\nwal_writer_delay = 10s");
	$node->restart;
	add_table('compacted');
	$node->safe_psql('postgres', "INSERT INTO compacted SELECT 1000 + i, point(i, $dims) FROM generate_series(1, 100) i; SELECT ivfremote_flush('compacted_idx')");
	my @before = split /\n/, $node->safe_psql('postgres', q{SELECT object_key FROM ivfremote_segments('compacted_idx')});
	is(scalar(@before), 2, 'two segments');
	$node->safe_psql('postgres', 'CHECKPOINT');
	my $writer = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'});
	kill 'STOP', $writer or die;
	$node->safe_psql('postgres', q{CALL ivfremote_compact('compacted_idx')});
	is_deeply(collect("'0'"), [ map { "$_|waiting" } sort @before ], 'they are garbage');
	$node->safe_psql('postgres', 'SELECT pg_current_xact_id()');
	my $holder = start_session($node);
	ask($holder, 'SELECT pg_advisory_lock(1)');
	my $collector = start_session($node, name => 'collector');
	say_to($collector, "SET ivfremote.test_point = 'gc.deleted=pause'; SELECT * FROM ivfremote_gc('store', false, '0')");
	$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'collector' AND wait_event = 'advisory'}) or die 'no pause';
	is(scalar(grep { -e "$directory/$_" } @before), 0, 'they are deleted');
	# The postmaster kills the WAL writer, which stands still.
	$node->stop('immediate');
	$node->start;
	is($node->safe_psql('postgres', q{SELECT count(*) FROM ivfremote_segments('compacted_idx')}), 1, 'after a crash they are still replaced');
	kept_ok($node, 'compacted', '<->', $dims, 'and searches find everything');
	$_->{run}->kill_kill for $holder, $collector;
	$node->append_conf('postgresql.conf', 'synchronous_commit = on');
	$node->restart;
	$node->safe_psql('postgres', 'DROP TABLE compacted');
}

# -- who may

$node->safe_psql('postgres', 'CREATE ROLE someone');
error_like($node, 'SET ROLE someone', "SELECT ivfremote_gc('store')", qr/^42501 .*permission denied for function ivfremote_gc/, 'not for everyone');
error_like($node, 'GRANT EXECUTE ON FUNCTION ivfremote_gc, ivfremote_adopt TO someone; SET ROLE someone', "SELECT ivfremote_gc('store')", qr/^42501 .*must be owner of foreign server store/, 'for the owner of the server');
error_like($node, 'SET ROLE someone', "SELECT ivfremote_adopt('store', repeat('0', 32))", qr/^42501 .*must be owner of foreign server store/, 'adopt, too');
error_like($node, '', "SELECT ivfremote_gc('store', retention => '-1 s')", qr/^22023 .*retention must not be negative/, 'negative retention');
error_like($node, '', "ALTER SERVER store OPTIONS (ADD retention '-1 day')", qr/^HV024 .*invalid value for option "retention"/, 'nor of a server');
error_like($node, '', "ALTER SERVER store OPTIONS (ADD retention 'long')", qr/^22007 .*invalid input syntax for type interval/, 'nor one that is none');
error_like($node, '', "SELECT ivfremote_gc('nowhere')", qr/^42704 .*server "nowhere" does not exist/, 'no server');
error_like($node, '', "SELECT ivfremote_adopt('store', 'x')", qr/^22023 .*invalid incarnation "x"/, 'no incarnation');
error_like($node, '', "SELECT ivfremote_adopt('store', '$incarnation')", qr/^22023 .*is this cluster's own/, 'its own');
error_like($node, '', "SELECT ivfremote_adopt('store', repeat('0', 32))", qr/^42704 .*has no objects of incarnation 0{32}/, 'nobody\'s');
is($node->safe_psql('postgres', 'SELECT incarnation, indexes, segments, adopted, unadopted_predecessors FROM ivfremote_stat_servers'),
	"$incarnation|5|4|{0123456789abcdef0123456789abcdef}|{}", 'the view of servers');

no_crash($node);
$node->stop;
done_testing();
