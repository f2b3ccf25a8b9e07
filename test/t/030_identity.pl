# Who may write and delete under an incarnation: clones, clusters that share a place, a standby that takes over, and the old
# primary that comes back.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dims = 8;
my $main = new_node('main', init => { allows_streaming => 1 });
need_faults($main);
my $directory = add_store($main, 'store');
$main->safe_psql('postgres', "CREATE TABLE source AS SELECT i AS id, point(i, $dims) AS v FROM generate_series(1, 300) i");

sub add_table
{
	my ($node, $name) = @_;
	$node->safe_psql('postgres', "CREATE TABLE $name AS TABLE source; CREATE INDEX ${name}_idx ON $name USING ivfremote (v) WITH (flush_threshold = 1, lists = 4, server = 'store')");
	return;
}

sub key_of
{
	my ($node, $table) = @_;
	return $node->safe_psql('postgres', "SELECT object_key FROM ivfremote_segments('${table}_idx')");
}

sub incarnation_of { return $_[0] =~ m{^([0-9a-f]{32})/} ? $1 : undef; }
sub objects { return files_below($directory, qr/\.seg(\.\d+)?$/); }
sub own { return $_[0]->safe_psql('postgres', 'SELECT incarnation FROM ivfremote_stat_servers'); }

# Collections with retention 0, so often that garbage is gone; returns all rows of what they cover as "key|state", and what they warned of.
sub collect_all
{
	my ($node) = @_;
	my ($rows, $warnings) = ('', '');
	for (1 .. 3)
	{
		my ($out, $err);
		is($node->psql('postgres', "SELECT pg_current_xact_id() > '0'; SELECT object_key || '|' || state FROM ivfremote_gc('store', false, '0') WHERE state <> 'other incarnation'", stdout => \$out, stderr => \$err), 0, $node->name . ': collected');
		$out =~ s/^t\n?//;
		$rows .= "$out\n";
		$warnings .= $err;
	}
	return ($rows, $warnings);
}

add_table($main, $_) for 'kept', 'dropped';
my $first = incarnation_of(key_of($main, 'kept'));
is(own($main), $first, 'the view says which incarnation writes');
my $owner_file = "$directory/$first/OWNER";

# -- an answer that is lost, and a store that fails

$main->safe_psql('postgres', q{SET ivfremote.test_fault = 'tagged_lost'; REINDEX INDEX kept_idx});
is(incarnation_of(key_of($main, 'kept')), $first, 'a lost answer is no second cluster');
error_like($main, q{SET ivfremote.test_fault = 'tagged_fail'; SET ivfremote.write_timeout = '1s'}, 'REINDEX INDEX kept_idx',
	qr/could not write index "kept_idx" to server "store".*Nothing had been stored; last: HTTP 500/, 'a store that refuses OWNER takes no segment');
error_like($main, q{SET ivfremote.test_fault = 'tagged_fail'}, "SELECT ivfremote_gc('store', false)",
	qr/^58030 .*could not collect garbage in server "store".*HTTP 500 .*ivfremote_check_server/, 'nor a collection');
$main->safe_psql('postgres', 'REINDEX INDEX kept_idx');
is(incarnation_of(key_of($main, 'kept')), $first, 'when it is well again all goes on');

error_like($main, q{SET ivfremote.test_point = 'owner.written=error'}, 'REINDEX INDEX kept_idx', qr/test point owner.written/, 'an end after OWNER is written');
$main->safe_psql('postgres', 'REINDEX INDEX kept_idx');
is(incarnation_of(key_of($main, 'kept')), $first, 'what was about to be written is known');

# VACUUM gives up, as it does for any failure of the store.
$main->safe_psql('postgres', "INSERT INTO kept SELECT 1000 + i, point(i, $dims) FROM generate_series(1, 100) i");
{
	my ($out, $err);
	is($main->psql('postgres', q{SET ivfremote.test_fault = 'tagged_fail'; VACUUM kept}, stdout => \$out, stderr => \$err), 0, 'VACUUM does not fail with OWNER');
	like($err, qr/WARNING: .*kept_idx/, 'it warns');
	is($main->safe_psql('postgres', q{SELECT pending_rows FROM ivfremote_info('kept_idx')}), 100, 'its rows stay pending');
	chmod 0500, $main->data_dir . '/ivfremote' or die;
	is($main->psql('postgres', 'VACUUM kept', stdout => \$out, stderr => \$err), 0, 'nor with its own files');
	like($err, qr/WARNING: .*kept_idx.*could not create file "ivfremote[^"]*": Permission denied/s, 'it warns, too') unless $> == 0;
	error_like($main, '', "SELECT ivfremote_flush('kept_idx')", qr/^42501 .*could not create file "ivfremote/, 'by hand that is an error') unless $> == 0;
	chmod 0700, $main->data_dir . '/ivfremote' or die;
	my @files = glob $main->data_dir . '/ivfremote/pgsql_tmp_owner.*.' . $first;
	chmod 0000, @files or die;
	is($main->psql('postgres', 'VACUUM kept', stdout => \$out, stderr => \$err), 0, 'nor with one that it may not read');
	like($err, qr/could not flush index "kept_idx".*could not open file "ivfremote[^"]*": Permission denied/s, 'it warns') unless $> == 0;
	is(scalar(() = $err =~ /WARNING:/g), 1, 'once') unless $> == 0;
	chmod 0600, @files or die;
	$main->safe_psql('postgres', 'VACUUM kept');
	is($main->safe_psql('postgres', q{SELECT pending_rows FROM ivfremote_info('kept_idx')}), 0, 'until the next');
	$main->safe_psql('postgres', q{DELETE FROM kept WHERE id > 1000; CALL ivfremote_compact('kept_idx')});
}

# Backends of one cluster do not take each other for strangers.
{
	my @together = map { start_psql($main, "REINDEX INDEX $_;\n" x 5) } 'kept_idx', 'dropped_idx';
	is((finish_psql($_))[1], '', 'builds side by side') for @together;
	is(own($main), $first, 'under one incarnation');
}

# -- a crash in between

{
	add_table($main, 'waste');
	my $waste = key_of($main, 'waste');
	$main->safe_psql('postgres', 'DROP TABLE waste');
	my ($rows) = collect_all($main);
	like($rows, qr/^$waste\|deleted$/m, 'garbage');
	add_table($main, 'waste');
	$waste = key_of($main, 'waste');
	$main->safe_psql('postgres', 'DROP TABLE waste');
	is($main->safe_psql('postgres', "SELECT state FROM ivfremote_gc('store', false, '0') WHERE object_key = '$waste'"), 'waiting', 'more garbage');
	$main->safe_psql('postgres', 'SELECT pg_current_xact_id()');
	my ($out, $err);
	isnt($main->psql('postgres', "SET ivfremote.test_point = 'gc.listed=error'; SELECT * FROM ivfremote_gc('store', false, '0')", stdout => \$out, stderr => \$err), 0, 'ends after the list');
	ok(-e "$directory/$waste", 'nothing is deleted yet');
	isnt($main->psql('postgres', "SET ivfremote.test_point = 'gc.deleted=error'; SELECT * FROM ivfremote_gc('store', false, '0')", stdout => \$out, stderr => \$err), 0, 'ends after the deletion');
	ok(!-e "$directory/$waste", 'it is deleted');
	like(slurp_file("$directory/$first/GARBAGE"), qr/\.seg/, 'and still on the list');
	($rows) = collect_all($main);
	unlike($rows, qr/\|(deleted|waiting)/, 'which the next one forgets');
	unlike(slurp_file("$directory/$first/GARBAGE"), qr/\.seg/, 'for good');
	kept_ok($main, 'kept', '<->', $dims, 'searches find everything');
}

# -- what is committed between the marks and the list

{
	my $holder = start_session($main);
	ask($holder, 'SELECT pg_advisory_lock(1)');
	my $collector = start_session($main, name => 'collector');
	say_to($collector, "SET ivfremote.test_point = 'gc.marked=pause'; SELECT object_key FROM ivfremote_gc('store', false, '0')");
	$main->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'collector' AND wait_event = 'advisory'}) or die 'no pause';
	add_table($main, 'between');
	# Its transaction is over; only the horizon says that the marks may not know it.
	$main->safe_psql('postgres', 'SELECT pg_current_xact_id()');
	ask($holder, 'SELECT pg_advisory_unlock(1)');
	is(ask($collector, 'SELECT 1'), '1', 'an index committed after the marks is not garbage');
	quit($_) for $holder, $collector;
	my ($rows) = collect_all($main);
	unlike($rows, qr/\|(deleted|waiting)/, 'nor later');
}

# -- a clone, and its original

$main->safe_psql('postgres', 'CHECKPOINT');
$main->backup('base');
my $clone = PostgreSQL::Test::Cluster->new('clone');
$clone->init_from_backup($main, 'base');
$clone->start;
{
	my @before = objects();
	is($clone->safe_psql('postgres', 'SELECT incarnation IS NULL AND segments = 3 AND adopted = $${}$$ AND unadopted_predecessors = ARRAY[$$' . $first . '$$] FROM ivfremote_stat_servers'), 't', 'a clone refers to objects that are not its own');
	$clone->safe_psql('postgres', 'DROP TABLE kept; DROP TABLE between');
	my $bytes = 0;
	$bytes += -s "$directory/$_" for grep { m{^$first/} } files_below($directory, qr{(^|/)[^./][^/]*$});
	is($clone->safe_psql('postgres', q{SELECT object_key, bytes, state, since IS NULL FROM ivfremote_gc('store')}), "$first/|$bytes|other incarnation|t", 'its collections say that they are there');
	my ($rows, $warnings) = collect_all($clone);
	is("$rows$warnings", "\n\n\n", 'a clone finds no garbage among them');
	is_deeply([ objects() ], \@before, 'and deletes none');
	isnt(own($clone), $first, 'it has an incarnation of its own');
	add_table($clone, 'own_table');
	my $cloned = key_of($clone, 'own_table');
	is(incarnation_of($cloned), own($clone), 'and writes under it');
	$main->safe_psql('postgres', 'DROP TABLE dropped');
	($rows, $warnings) = collect_all($main);
	like($rows, qr/^\Q$first\E\/\S+\|deleted$/m, 'the original collects its own');
	unlike($rows, qr/^(?!\Q$first\E)\S/m, 'and nothing else');
	ok(-e "$directory/$cloned", 'the objects of the clone stay');
	kept_ok($clone, 'own_table', '<->', $dims, 'clone: searches find everything');
	kept_ok($main, 'kept', '<->', $dims, 'original: searches find everything');
	my $mine = own($clone);
	$clone->safe_psql('postgres', 'DROP TABLE own_table');
	($rows, $warnings) = collect_all($clone);
	like($rows, qr/^\Q$cloned\E\|deleted$/m, 'the clone collects its own');
	is(own($clone), $mine, 'under the same incarnation');
}

# It depends on the original until its segments are its own.
{
	add_table($main, 'shared');
	$main->safe_psql('postgres', 'CHECKPOINT');
	$main->backup('shared');
	my $lasting = PostgreSQL::Test::Cluster->new('lasting');
	$lasting->init_from_backup($main, 'shared');
	$lasting->start;
	my $key = key_of($lasting, 'shared');
	is(incarnation_of($key), $first, 'a second clone reads what is not its own');
	$lasting->safe_psql('postgres', q{CALL ivfremote_compact('shared_idx')});
	my $copied = key_of($lasting, 'shared');
	is(incarnation_of($copied), own($lasting), 'a compaction makes it its own');
	$lasting->safe_psql('postgres', q{CALL ivfremote_compact('shared_idx')});
	is(key_of($lasting, 'shared'), $copied, 'once');
	$main->safe_psql('postgres', 'DROP TABLE shared');
	my ($rows) = collect_all($main);
	like($rows, qr/^\Q$key\E\|deleted$/m, 'the original deletes its segment');
	kept_ok($lasting, 'shared', '<->', $dims, 'and the clone searches on');
	$lasting->stop;
}
$clone->stop;

# -- another cluster in the same place

{
	my $other = new_node('other');
	$other->safe_psql('postgres', "CREATE SERVER store FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file://$directory'); CREATE TABLE source AS SELECT i AS id, point(-i, $dims) AS v FROM generate_series(1, 300) i");
	add_table($other, 'items');
	my $key = key_of($other, 'items');
	my @before = objects();
	collect_all($other);
	collect_all($main);
	is_deeply([ objects() ], \@before, 'two clusters in one place delete nothing of each other');
	kept_ok($other, 'items', '<->', $dims, 'other: searches find everything');
	kept_ok($main, 'kept', '<->', $dims, 'main: searches find everything');
	$other->stop;
}

# -- a second cluster with the same incarnation: somebody writes OWNER whom this cluster doesn't know

{
	add_table($main, 'waste');
	my $waste = key_of($main, 'waste');
	$main->safe_psql('postgres', "DROP TABLE waste; SELECT pg_current_xact_id()");
	is($main->safe_psql('postgres', "SELECT state FROM ivfremote_gc('store', false, '0') WHERE object_key = '$waste'"), 'waiting', 'garbage waits');
	my $owner = slurp_file($owner_file);
	my $foreign = $owner =~ s/"nonce": "[0-9a-f]+"/"nonce": "00000000000000000000000000000000"/r =~ s/"host": "[^"]*"/"host": "elsewhere"/r;
	unlink $owner_file;
	append_to_file($owner_file, $foreign);
	my ($rows, $warnings) = collect_all($main);
	like($warnings, qr/WARNING:  another cluster writes under incarnation $first, too; this one uses [0-9a-f]{32} from now on\nDETAIL:  Host "elsewhere" .*\nHINT:  Nothing was deleted.*ivfremote_adopt\('store', '$first'\)/m, 'a second cluster is noticed');
	is(() = $warnings =~ /WARNING/g, 1, 'and said once');
	ok(-e "$directory/$waste", 'nothing is deleted');
	is(slurp_file($owner_file), $foreign, 'its OWNER is left alone');
	my $second = own($main);
	isnt($second, $first, 'another incarnation');
	kept_ok($main, 'kept', '<->', $dims, 'it reads on');
	is($main->safe_psql('postgres', 'SELECT unadopted_predecessors FROM ivfremote_stat_servers'), "{$first}", 'the view says what nobody collects');

	# By hand again, as a build finds it.
	add_table($main, 'built');
	is(incarnation_of(key_of($main, 'built')), $second, 'it writes under the new one');
	$owner = slurp_file("$directory/$second/OWNER") =~ s/"nonce": "[0-9a-f]+"/"nonce": "00000000000000000000000000000000"/r;
	unlink "$directory/$second/OWNER";
	append_to_file("$directory/$second/OWNER", $owner);
	my ($out, $err);
	is($main->psql('postgres', 'REINDEX INDEX built_idx', stdout => \$out, stderr => \$err), 0, 'a build goes on');
	like($err, qr/WARNING:  another cluster writes under incarnation $second, too/m, 'with a warning');
	my $third = own($main);
	is(incarnation_of(key_of($main, 'built')), $third, 'under a third');

	# The owner says that it was a mistake: they are all his.
	my $before = $main->safe_psql('postgres', "SELECT ivfremote_adopt('store', '$first')");
	is($before, $foreign, 'adopting says whose it was');
	$main->safe_psql('postgres', "SELECT ivfremote_adopt('store', '$second')");
	is($main->safe_psql('postgres', "SELECT cardinality(adopted), unadopted_predecessors FROM ivfremote_stat_servers"), '2|{}', 'the view says so');
	($rows) = collect_all($main);
	like($rows, qr/^\Q$waste\E\|deleted$/m, 'its garbage is collected');
	ok(!-e "$directory/$waste", 'it is gone');
	kept_ok($main, $_, '<->', $dims, "$_: searches find everything") for 'kept', 'built';
	$main->restart;
	is($main->safe_psql('postgres', "SELECT cardinality(adopted) FROM ivfremote_stat_servers"), '2', 'a restart keeps what was adopted');
}

# -- failover

$first = own($main);
$main->backup('failover');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($main, 'failover', has_streaming => 1);
$standby->start;
add_table($main, $_) for 'early', 'late';
my ($early, $late) = map { key_of($main, $_) } 'early', 'late';
$main->wait_for_catchup($standby);
error_like($standby, '', "SELECT ivfremote_gc('store')", qr/^25006 .*recovery is in progress/, 'a standby collects nothing');
error_like($standby, '', "SELECT ivfremote_adopt('store', '$first')", qr/^25006 .*recovery is in progress/, 'and adopts nothing');
is($standby->safe_psql('postgres', 'SELECT incarnation, segments, adopted FROM ivfremote_stat_servers'), '|5|', 'the view on a standby');
$main->stop('immediate');
$standby->promote;
{
	my @before = objects();
	$standby->safe_psql('postgres', 'DROP TABLE early');
	collect_all($standby);
	is_deeply([ objects() ], \@before, 'promoted, it deletes nothing of the old primary');
	$standby->safe_psql('postgres', "SELECT ivfremote_adopt('store', '$first')");
	my ($rows) = collect_all($standby);
	like($rows, qr/^\Q$early\E\|deleted$/m, 'adopted, its garbage is collected');
	ok(-e "$directory/$late" && !-e "$directory/$early", 'and what is needed stays');
	kept_ok($standby, 'late', '<->', $dims, 'standby: searches find everything');
	isnt(own($standby), $first, 'it writes under its own');
}

# The old primary comes back, and has dropped what the new one needs.
$main->start;
{
	my @before = objects();
	$main->safe_psql('postgres', 'DROP TABLE late; SELECT pg_current_xact_id()');
	my ($rows, $warnings) = collect_all($main);
	like($warnings, qr/another cluster writes under incarnation $first, too/, 'the old primary notices');
	isnt(own($main), $first, 'and has another incarnation');
	is_deeply([ objects() ], \@before, 'it deletes nothing');
	kept_ok($standby, 'late', '<->', $dims, 'the new primary: searches find everything');
	# Somebody else adopts what the new primary has adopted.
	$main->safe_psql('postgres', "SELECT ivfremote_adopt('store', '$first')");
	($rows, $warnings) = collect_all($standby);
	like($warnings, qr/WARNING:  the adopted incarnation $first belongs to another cluster now/m, 'which it hears at its next collection');
	is(() = $warnings =~ /WARNING/g, 1, 'once');
	is($standby->safe_psql('postgres', "SELECT unadopted_predecessors @> ARRAY['$first'] FROM ivfremote_stat_servers"), 't', 'it is no more adopted');
}

# -- the objects move to another bucket

{
	my $elsewhere = PostgreSQL::Test::Utils::tempdir . '/copy';
	PostgreSQL::Test::RecursiveCopy::copypath($directory, $elsewhere);
	my $before = own($standby);
	$standby->safe_psql('postgres', "ALTER SERVER store OPTIONS (SET url 'file://$elsewhere')");
	add_table($standby, 'moved');
	is(own($standby), $before, 'a copy of the objects is still of this cluster');
	ok(-e "$elsewhere/" . key_of($standby, 'moved'), 'which writes there');
	kept_ok($standby, $_, '<->', $dims, "$_: searches find everything") for 'late', 'moved';
}

no_crash($_) for $main, $standby, $clone;
$_->stop for $main, $standby;
done_testing();
