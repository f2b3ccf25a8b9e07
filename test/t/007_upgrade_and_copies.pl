# Copies of a database, of its schema and of the whole cluster go on reading what the original wrote, and never write under
# its name: the first component of an object's key is the incarnation of the cluster that wrote it.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dims = 12;
my $original = new_node('original', init => { allows_streaming => 1 });
my $directory = add_store($original, 'store');
$original->safe_psql('postgres', qq{
CREATE TABLE items (id int, v real[]);
INSERT INTO items SELECT i, point(i, $dims) FROM generate_series(1, 1000) i;
CREATE INDEX items_idx ON items USING ivfremote (v) WITH (flush_threshold = 1, lists = 10, server = 'store');
CREATE TABLE embedded AS TABLE items;
CREATE INDEX embedded_idx ON embedded USING ivfremote (v) WITH (flush_threshold = 1, lists = 10);
});

# The incarnation of the index's object, and its objects in the store
sub incarnation
{
	my ($node, $database) = @_;
	return $node->safe_psql($database || 'postgres', q{SELECT split_part(object_key, '/', 1) FROM ivfremote_segments('items_idx')});
}

sub incarnations_in_store
{
	my %found = map { m{^([0-9a-f]{32})/} ? ($1 => 1) : () } files_below($directory, qr/\.seg$/);
	return sort keys %found;
}

sub compared
{
	my ($node, $database, $name) = @_;
	for my $table ('items', 'embedded')
	{
		is($node->safe_psql($database, "SELECT string_agg(DISTINCT compare('$table', '<->', point(i, $dims), 5000), ';') FROM generate_series(1, 20, 3) i"),
			'same', "$name: $table");
	}
	return;
}

my $first = incarnation($original);
like($first, qr/^[0-9a-f]{32}$/, 'an incarnation');
ok(-f $original->data_dir . '/ivfremote/pgsql_tmp_incarnation', 'kept in the data directory');
my ($object) = files_below($directory, qr/\.seg$/);
is($original->safe_psql('postgres', q{SELECT object_key FROM ivfremote_segments('items_idx')}), $object, 'the key is the path below the url');
$original->restart;
$original->safe_psql('postgres', 'REINDEX INDEX items_idx');
is(incarnation($original), $first, 'a restart keeps it');
is($original->safe_psql('postgres', "SELECT object_key <> '$object' FROM ivfremote_segments('items_idx')"), 't', 'a name is never used again');
ok(-f "$directory/$object", 'and the old object is still there');
my $mode = (stat("$directory/$object"))[2] & 0777;
is($mode & 077, 0, 'objects are for the server alone');

# CREATE DATABASE ... TEMPLATE copies the index, uuid and all
my $uuid = $original->safe_psql('postgres', q{SELECT index_uuid FROM ivfremote_info('items_idx')});
for my $strategy ('wal_log', 'file_copy')
{
	my $database = "copy_$strategy";
	$original->safe_psql('template1', "CREATE DATABASE $database TEMPLATE postgres STRATEGY $strategy");
	is($original->safe_psql($database, q{SELECT index_uuid FROM ivfremote_info('items_idx')}), $uuid, "$strategy: a copy, uuid and all");
	compared($original, $database, "$strategy: a copied database");
	# Both go their ways
	$original->safe_psql($database, "DELETE FROM $_ WHERE id % 2 = 0; INSERT INTO $_ SELECT i, point(-i, $dims) FROM generate_series(2001, 2100) i") for 'items', 'embedded';
	$original->safe_psql($database, 'VACUUM items');
	compared($original, $database, "$strategy: a changed copy");
	compared($original, 'postgres', "$strategy: its original");
	$original->safe_psql($database, 'REINDEX INDEX items_idx');
	isnt($original->safe_psql($database, q{SELECT index_uuid FROM ivfremote_info('items_idx')}), $uuid, "$strategy: rebuilt, it has a uuid of its own");
	compared($original, $database, "$strategy: a rebuilt copy");
	compared($original, 'postgres', "$strategy: the original after that");
	$original->safe_psql('template1', "DROP DATABASE $database");
	compared($original, 'postgres', "$strategy: and without the copy");
}

# pg_dump and restore, servers included
my $dump = PostgreSQL::Test::Utils::tempdir . '/dump.sql';
$original->safe_psql('postgres', q{CREATE USER MAPPING FOR public SERVER store OPTIONS (access_key_id 'id', secret_access_key 'hush')});
$original->command_ok([ 'pg_dump', '-d', $original->connstr('postgres'), '-f', $dump ], 'pg_dump');
my $dumped = slurp_file($dump);
like($dumped, qr/CREATE EXTENSION IF NOT EXISTS ivfremote/, 'the dump has the extension');
like($dumped, qr/CREATE SERVER store FOREIGN DATA WRAPPER ivfremote/, 'and the server');
unlike($dumped, qr/CREATE OPERATOR|CREATE ACCESS METHOD|CREATE FOREIGN DATA WRAPPER/, 'and nothing that the extension brings');
$original->safe_psql('template1', 'CREATE DATABASE restored');
$original->command_ok([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d', $original->connstr('restored'), '-f', $dump ], 'restore');
compared($original, 'restored', 'restored');
is($original->safe_psql('restored', q{SELECT trained, server, lists FROM ivfremote_info('items_idx')}), 't|store|10', 'restored: the index is as it was');
is(incarnation($original, 'restored'), $first, 'restored: the same cluster writes');

# A base backup does not take the incarnation along
$original->backup('base');
my $copy = PostgreSQL::Test::Cluster->new('copy');
$copy->init_from_backup($original, 'base');
ok(!-e $original->backup_dir . '/base/ivfremote/pgsql_tmp_incarnation', 'a base backup has no incarnation');
$copy->start;
compared($copy, 'postgres', 'base backup');
is(incarnation($copy), $first, 'base backup: reads the objects of its original');
$copy->safe_psql('postgres', 'REINDEX INDEX items_idx');
my $second = incarnation($copy);
isnt($second, $first, 'base backup: writes under an incarnation of its own');
compared($copy, 'postgres', 'base backup, rebuilt');
compared($original, 'postgres', 'the original of the base backup');
is($original->safe_psql('postgres', 'REINDEX INDEX items_idx') . incarnation($original), $first, 'the original keeps its own');
is_deeply([ incarnations_in_store() ], [ sort $first, $second ], 'two incarnations in the store');
$copy->stop;

# A copy of all files does not either: it is another place
my $cold = PostgreSQL::Test::Cluster->new('cold');
$original->stop;
$original->backup_fs_cold('cold');
$original->start;
$cold->init_from_backup($original, 'cold');
$cold->start;
$cold->safe_psql('postgres', 'REINDEX INDEX items_idx');
isnt(incarnation($cold), $first, 'a copied directory writes under an incarnation of its own');
compared($cold, 'postgres', 'a copied directory');
$cold->stop;
is($original->safe_psql('postgres', 'REINDEX INDEX items_idx') . incarnation($original), $first, 'and the original keeps its own');

# A promoted standby is another, by its timeline
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($original, 'base', has_streaming => 1);
$standby->start;
$original->wait_for_catchup($standby, 'replay', $original->lsn('insert'));
$original->stop;
$standby->promote;
compared($standby, 'postgres', 'promoted');
$standby->safe_psql('postgres', 'REINDEX INDEX items_idx');
my $third = incarnation($standby);
isnt($third, $first, 'a promoted standby writes under an incarnation of its own');
# ... and when it is promoted once more
$standby->stop;
$standby->set_standby_mode;
$standby->start;
$standby->promote;
$standby->safe_psql('postgres', 'REINDEX INDEX items_idx');
isnt(incarnation($standby), $third, 'a new timeline, a new incarnation');
compared($standby, 'postgres', 'promoted again');

# A damaged file is replaced, not trusted
my $file = $standby->data_dir . '/ivfremote/pgsql_tmp_incarnation';
my $before = incarnation($standby);
for my $content ('', 'incarnation ' . ('0' x 32) . "\n", "\0" x 5000, "incarnation ../../etc\n")
{
	open(my $handle, '>', $file) or die $!;
	print $handle $content;
	close $handle;
	$standby->safe_psql('postgres', 'REINDEX INDEX items_idx');
	my $now = incarnation($standby);
	like($now, qr/^(?!$before)[0-9a-f]{32}$/, 'a damaged file: another incarnation');
	$before = $now;
}
compared($standby, 'postgres', 'after all that');

no_crash($_) for $original, $copy, $cold, $standby;
$standby->stop;
done_testing();
