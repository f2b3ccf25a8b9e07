# The life of extension ivfremote_pgvector: what it needs and what needs it, dump and restore, other schemas, other types under
# the same names, databases without it.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_vector_node('extension');
add_store($node, 'lake');

my $tables = q{
CREATE TABLE items (id int PRIMARY KEY, embedding vector(8), half halfvec(8), plain real[]);
INSERT INTO items SELECT i, v, v, v FROM (
	SELECT i, array_agg(sin(i * j * 0.7)::real ORDER BY j) AS v FROM generate_series(1, 500) i, generate_series(1, 8) j GROUP BY i) s;
CREATE INDEX items_l2 ON items USING ivfremote (embedding) WITH (lists = 5, flush_threshold = 1);
CREATE INDEX items_cosine ON items USING ivfremote (embedding vector_cosine_ops) WITH (lists = 5, flush_threshold = 1);
CREATE INDEX items_half ON items USING ivfremote (half halfvec_ip_ops) WITH (lists = 5, flush_threshold = 1);
CREATE INDEX items_cast ON items USING ivfremote ((embedding::halfvec(8)) halfvec_l2_ops) WITH (lists = 5, flush_threshold = 1);
CREATE INDEX items_plain ON items USING ivfremote (plain) WITH (lists = 5, flush_threshold = 1);
ANALYZE items;
};
my @indexes = qw(items_l2 items_cosine items_half items_cast items_plain);
my $query = '[0.6,-0.9,0.3,0.1,-0.8,0.9,0.2,-0.4]';
# What the indexes give; operators by their schema, so that any search_path will do.
my $searches = q{SELECT
	(SELECT array_agg(id) FROM (SELECT id FROM public.items ORDER BY embedding OPERATOR(VECTOR.<->) 'QUERY' LIMIT 9) x),
	(SELECT array_agg(id) FROM (SELECT id FROM public.items ORDER BY embedding OPERATOR(VECTOR.<=>) 'QUERY' LIMIT 9) x),
	(SELECT array_agg(id) FROM (SELECT id FROM public.items ORDER BY half OPERATOR(VECTOR.<#>) 'QUERY' LIMIT 9) x),
	(SELECT array_agg(id) FROM (SELECT id FROM public.items ORDER BY embedding::VECTOR.halfvec(8) OPERATOR(VECTOR.<->) 'QUERY' LIMIT 9) x),
	(SELECT array_agg(id) FROM (SELECT id FROM public.items ORDER BY plain OPERATOR(IVFREMOTE.<->) 'ARRAY' LIMIT 9) x)};
$searches =~ s/QUERY/$query/g;
$searches =~ s/ARRAY/$query =~ tr{[]}{{}}r/e;

sub search_of
{
	my ($vector, $ivfremote) = @_;
	return $searches =~ s/\bVECTOR\b/$vector/gr =~ s/\bIVFREMOTE\b/$ivfremote/gr;
}

# All indexes are used, and give the rows of the table.
sub indexes_work
{
	my ($database, $vector, $ivfremote, $name) = @_;
	my $search = search_of($vector, $ivfremote);
	my $settings = 'SET ivfremote.probes = 5; SET enable_seqscan = off';
	my $plan = $node->safe_psql($database, "$settings; EXPLAIN (COSTS OFF) $search");
	is(join(' ', sort $plan =~ /Index Scan using (\S+)/g), join(' ', sort @indexes), "$name: indexes are used");
	is($node->safe_psql($database, "$settings; $search"),
		$node->safe_psql($database, "SET ivfremote.enable_scan = off; $search"), "$name: and right");
	return;
}

# Dependencies

$node->safe_psql('postgres', 'CREATE DATABASE life');
my ($status, $out, $err) = $node->psql('life', 'CREATE EXTENSION ivfremote_pgvector');
like($err, qr/required extension "(ivfremote|vector)" is not installed/, 'needs two extensions');
$node->safe_psql('life', 'CREATE EXTENSION ivfremote_pgvector CASCADE');
is($node->safe_psql('life', q{SELECT string_agg(extname, ' ' ORDER BY extname) FROM pg_extension WHERE extname <> 'plpgsql'}),
	'ivfremote ivfremote_pgvector vector', 'CASCADE creates them');
$node->safe_psql('life', $tables);
indexes_work('life', 'public', 'public', 'in one schema');

# Objects in a bucket, too, for what follows
$node->safe_psql('life', q{
	CREATE SERVER lake FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file://} . PostgreSQL::Test::Utils::tempdir() . q{');
	DROP INDEX items_cosine;
	CREATE INDEX items_cosine ON items USING ivfremote (embedding vector_cosine_ops) WITH (lists = 5, flush_threshold = 1, server = 'lake')});

# Dump and restore: extensions in their order, indexes after the rows

sub dump_and_restore
{
	my ($to, $vector, $ivfremote, $name) = @_;
	my $directory = PostgreSQL::Test::Utils::tempdir;
	$node->command_ok([ 'pg_dump', '-Fc', '-f', "$directory/dump", $node->connstr('life') ], "$name: pg_dump");
	$node->safe_psql('postgres', "CREATE DATABASE $to");
	my $list = run_ok([ 'pg_restore', '-f', '-', "$directory/dump" ]);
	my @created = $list =~ /^CREATE EXTENSION IF NOT EXISTS (\w+)/mg;
	is($created[-1], 'ivfremote_pgvector', "$name: after those it needs (@created)");
	$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr($to), "$directory/dump" ], "$name: pg_restore");
	indexes_work($to, $vector, $ivfremote, $name);
	my $search = search_of($vector, $ivfremote);
	is($node->safe_psql($to, $search), $node->safe_psql('life', $search), "$name: the same rows");
	return;
}

sub run_ok
{
	my ($command) = @_;
	my ($stdout, $stderr) = run_command($command);
	is($stderr, '', "@$command[0 .. 1]");
	return $stdout;
}

dump_and_restore('restored', 'public', 'public', 'dump');

# Other schemas. A session that has scanned in the old ones, and a view, which is of oids

$node->safe_psql('life', 'CREATE VIEW nearest (a, b, c, d, e) AS ' . search_of('public', 'public'));
my $session = start_session($node, database => 'life');
ask($session, 'SET enable_seqscan = off; SET ivfremote.probes = 5; PREPARE search AS SELECT * FROM public.nearest');
my $before = ask($session, 'EXECUTE search');
my ($vector, $ivfremote) = ('public', 'public');
for my $move ([ 'vector', 'types' ], [ 'ivfremote_pgvector', 'classes' ], [ 'ivfremote', 'method' ])
{
	my ($extension, $schema) = @$move;
	$node->safe_psql('life', "CREATE SCHEMA $schema; ALTER EXTENSION $extension SET SCHEMA $schema");
	$vector = $schema if $extension eq 'vector';
	$ivfremote = $schema if $extension eq 'ivfremote';
	indexes_work('life', $vector, $ivfremote, "$extension in schema $schema");
	is(ask($session, 'EXECUTE search'), $before, "$extension in schema $schema: a view");
}
quit($session);
$node->safe_psql('life', qq{
	SET search_path = '';
	INSERT INTO public.items SELECT id + 1000, v, v, v
		FROM (SELECT id, ARRAY(SELECT e * 1.1 FROM pg_catalog.unnest(plain) e) AS v FROM public.items WHERE id <= 100) x;
	DELETE FROM public.items WHERE id % 7 = 0;
	VACUUM public.items;
	REINDEX TABLE public.items;
	UPDATE public.items SET embedding = '$query' WHERE id = 5});
indexes_work('life', $vector, $ivfremote, 'written to with an empty search_path');
like($node->safe_psql('life', "SET search_path = ''; SELECT pg_get_indexdef('public.items_half'::regclass)"),
	qr/USING ivfremote \(half classes.halfvec_ip_ops\)/, 'an operator class has its schema');
dump_and_restore('restored2', $vector, $ivfremote, 'dump of three schemas');
is($node->safe_psql('life', q{
	SELECT count(*) FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid AND d.deptype = 'e'
	WHERE extname = 'ivfremote_pgvector' AND classid = 'pg_opclass'::regclass}),
	$node->safe_psql('restored2', q{SELECT count(*) FROM pg_opclass WHERE opcmethod = (SELECT oid FROM pg_am WHERE amname = 'ivfremote') AND opcname !~ '^real'}),
	'operator classes belong to it');

# What goes with what

for my $case ([ 'ivfremote_pgvector', 'index items_l2' ], [ 'vector', 'extension ivfremote_pgvector' ], [ 'ivfremote', 'extension ivfremote_pgvector' ])
{
	my ($extension, $dependent) = @$case;
	($status, $out, $err) = $node->psql('life', "DROP EXTENSION $extension");
	like($err, qr/cannot drop extension $extension because other objects depend on it.*$dependent/s, "$dependent depends on $extension");
}
my $vectors = $node->safe_psql('life', 'SELECT count(embedding) FROM items');
$node->safe_psql('life', 'SET client_min_messages = warning; DROP EXTENSION ivfremote_pgvector CASCADE');
is($node->safe_psql('life', q{SELECT string_agg(indexrelid::regclass::text, ' ') FROM pg_index WHERE indrelid = 'items'::regclass}),
	'items_pkey items_plain', 'without it only indexes on arrays stay');
is($node->safe_psql('life', 'SELECT count(embedding) FROM items'), $vectors, 'and the vectors');
error_of('life', 'CREATE INDEX ON items USING ivfremote (embedding)', qr/data type types.vector has no default operator class for access method "ivfremote"/,
	'which can not be indexed');
$node->safe_psql('life', 'CREATE EXTENSION ivfremote_pgvector SCHEMA classes');
$node->safe_psql('life', q{
	SET search_path = public, types, classes;
	CREATE INDEX items_l2 ON items USING ivfremote (embedding) WITH (lists = 5, flush_threshold = 1);
	CREATE INDEX items_cosine ON items USING ivfremote (embedding vector_cosine_ops) WITH (lists = 5, flush_threshold = 1);
	CREATE INDEX items_half ON items USING ivfremote (half halfvec_ip_ops) WITH (lists = 5, flush_threshold = 1);
	CREATE INDEX items_cast ON items USING ivfremote ((embedding::halfvec(8)) halfvec_l2_ops) WITH (lists = 5, flush_threshold = 1)});
indexes_work('life', 'types', 'method', 'created again');
$node->safe_psql('life', 'SET client_min_messages = warning; DROP EXTENSION vector CASCADE');
is($node->safe_psql('life', q{SELECT string_agg(extname, ' ' ORDER BY extname) FROM pg_extension WHERE extname <> 'plpgsql'}), 'ivfremote',
	'it goes with vector');
is($node->safe_psql('life', q{SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'items'::regclass AND attnum > 0 AND NOT attisdropped}),
	'id plain', 'as vectors do');

# A type's oid differs between databases, and from one day to the next. In one session, since nothing may be remembered.

my $oids = q{SELECT 'vector'::regtype::oid || ' ' || 'halfvec'::regtype::oid};
isnt($node->safe_psql('postgres', $oids), $node->safe_psql('restored', $oids), 'two databases, other oids');
$node->safe_psql('postgres', $tables);
indexes_work('postgres', 'public', 'public', 'in another database');
$session = start_session($node);
ask($session, 'SET client_min_messages = error; SET enable_seqscan = off; SET ivfremote.probes = 5');
my $search = search_of('public', 'public');
my @round;
for (1 .. 3)
{
	push @round, [ ask($session, $oids), ask($session, $search) ];
	ask($session, "DROP EXTENSION vector CASCADE; DROP TABLE items; CREATE EXTENSION ivfremote_pgvector CASCADE; $tables");
}
isnt($round[0][0], $round[1][0], 'types anew in one session');
is($round[$_][1], $round[0][1], "the same rows, time $_") for 1, 2;
quit($session);

# A database with arrays only

$node->safe_psql('postgres', 'CREATE DATABASE arrays');
$node->safe_psql('arrays', q{
	CREATE EXTENSION ivfremote;
	CREATE TABLE items (id int, plain real[]);
	INSERT INTO items SELECT i, ARRAY[i, 1] FROM generate_series(1, 100) i;
	CREATE INDEX items_plain ON items USING ivfremote (plain) WITH (flush_threshold = 1)});
is($node->safe_psql('arrays', q{SET enable_seqscan = off; SELECT string_agg(id::text, ' ') FROM (SELECT id FROM items ORDER BY plain <-> '{50,1}' LIMIT 1) x}),
	50, 'a database without it');
error_of('arrays', 'CREATE INDEX ON items USING ivfremote (plain vector_l2_ops)', qr/operator class "vector_l2_ops" does not exist for access method "ivfremote"/,
	'has no operator class for vectors');
$node->safe_psql('arrays', 'CREATE EXTENSION vector; ALTER TABLE items ADD v vector(3)');
error_of('arrays', 'CREATE INDEX ON items USING ivfremote (v)', qr/data type vector has no default operator class/,
	'nor with pgvector alone');
$node->safe_psql('arrays', 'CREATE EXTENSION ivfremote_pgvector; CREATE INDEX ON items USING ivfremote (v)');

no_crash($node);
$node->stop;
done_testing();

sub error_of
{
	my ($database, $statement, $pattern, $name) = @_;
	my (undef, undef, $stderr) = $node->psql($database, $statement);
	like($stderr, $pattern, $name);
	return;
}
