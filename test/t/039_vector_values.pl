# pgvector's types in indexes: which operators use an index and what they give, values as they lie on disk, dimensions from the
# column's type, and what the second extension refuses to be built on.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dims = 8;
my $node = new_vector_node('vectors', conf => "fsync = off\n");
$node->safe_psql('postgres', q{
-- The plan's scan and its order, or the error.
CREATE FUNCTION plan(query text) RETURNS text LANGUAGE plpgsql SET enable_seqscan = off SET enable_sort = off AS $$
DECLARE
  line text; found text := '';
BEGIN
  FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
    IF line ~ 'Scan' THEN found := substring(line from '\w+ Scan'); END IF;
    IF line ~ 'Order By' THEN found := found || regexp_replace(line, '.*Order By:', ':'); END IF;
  END LOOP;
  RETURN found;
EXCEPTION WHEN undefined_function OR ambiguous_function THEN RETURN SQLSTATE;
END $$;
-- What an expression of `v`, or of another column, gives for the rows of a table in its order: 'same' through the index and
-- without it, or the first place where they differ.
CREATE FUNCTION same(source text, expression text, k int) RETURNS text LANGUAGE plpgsql
  SET ivfremote.probes = 1048576 SET ivfremote.epsilon = 100 SET enable_sort = off AS $$
DECLARE
  query text := format('SELECT array_agg(d) FROM (SELECT %1$s AS d FROM %2$s ORDER BY %1$s LIMIT %3$s) s', expression, source, k);
  expected float8[]; found float8[]; place int;
BEGIN
  PERFORM set_config('ivfremote.enable_scan', 'off', true), set_config('enable_seqscan', 'on', true);
  EXECUTE query INTO expected;
  PERFORM set_config('ivfremote.enable_scan', 'on', true), set_config('enable_seqscan', 'off', true);
  IF plan(query) !~ '^Index Scan' THEN RETURN 'no index: ' || plan(query); END IF;
  EXECUTE query INTO found;
  SELECT i INTO place FROM generate_series(1, greatest(cardinality(expected), cardinality(found))) i
  WHERE expected[i] IS DISTINCT FROM found[i] ORDER BY i LIMIT 1;
  RETURN CASE WHEN place IS NULL THEN 'same' ELSE format('%s: %s, not %s', place, found[place], expected[place]) END;
END $$;
});

# --------------------------------------------------------------------------------------------------------------------
# The extension

is($node->safe_psql('postgres', q{
SELECT string_agg(pg_describe_object(classid, objid, objsubid), ', ')
FROM pg_depend d
WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'ivfremote_pgvector') AND deptype = 'e'
  AND NOT EXISTS (SELECT FROM pg_description c WHERE c.classoid = d.classid AND c.objoid = d.objid AND c.objsubid = 0)
  AND classid <> 'pg_opfamily'::regclass}), '', 'every object is commented');
is($node->safe_psql('postgres', q{
SELECT opcintype::regtype::text, string_agg(opcname || CASE WHEN opcdefault THEN ' (default)' ELSE '' END, ' ' ORDER BY opcname), bool_and(amvalidate(c.oid))
FROM pg_opclass c JOIN pg_am a ON a.oid = opcmethod WHERE amname = 'ivfremote' AND opcintype::regtype::text ~ 'vec'
GROUP BY 1 ORDER BY 1}),
	"halfvec|halfvec_cosine_ops halfvec_ip_ops halfvec_l2_ops|t\nvector|vector_cosine_ops vector_ip_ops vector_l2_ops (default)|t",
	'operator classes have the names of pgvector');

# --------------------------------------------------------------------------------------------------------------------
# Operators

my %class = ('<->' => 'l2', '<#>' => 'ip', '<=>' => 'cosine');
$node->safe_psql('postgres', qq{
CREATE TABLE items (id int, v vector($dims), h halfvec($dims));
INSERT INTO items SELECT i, point(i, $dims)::vector, point(i, $dims)::halfvec FROM generate_series(1, 600) i;
ANALYZE items;
} . join('', map { "CREATE INDEX ON items USING ivfremote ($_->[0] $_->[1]_$class{$_->[2]}_ops) WITH (flush_threshold = 1, lists = 5, bits = 4);\n" }
	map { my $op = $_; ([ 'v', 'vector', $op ], [ 'h', 'halfvec', $op ]) } sort keys %class));
my $array = join(',', map { $_ / 4 } 1 .. $dims);
my $whole = join(',', 1 .. $dims);
# What stands beside a vector, and the type that the operator then has there
my @operands = (
	[ "'[$array]'", 'vector' ], [ "'[$array]'::vector", 'vector' ], [ "(SELECT v FROM items WHERE id = 7)", 'vector' ],
	[ "'{$array}'::real[]", 'real[]' ], [ "'{$array}'::float8[]", 'double precision[]' ], [ "'{$array}'::numeric[]", 'numeric[]' ],
	[ "'{$whole}'::integer[]", 'integer[]' ], [ "ARRAY[$array]", 'numeric[]' ], [ "ARRAY[$whole]", 'integer[]' ],
	[ "ARRAY(SELECT unnest(v::real[]) FROM items WHERE id = 7)", 'real[]' ]);
for my $op (sort keys %class)
{
	my @cases = map { my ($operand, $type) = @$_; map { [ $_, $type ] } "v $op $operand", "$operand $op v" } @operands;
	my @found = split /\n/, $node->safe_psql('postgres',
		"SELECT plan('SELECT id FROM items ORDER BY ' || e || ' LIMIT 3') || '; ' || same('items', e, 600) FROM unnest(ARRAY["
		  . join(',', map { "\$\$$_->[0]\$\$" } @cases) . ']) WITH ORDINALITY u (e, i) ORDER BY i');
	is(scalar(@found), scalar(@cases), "$op: cases");
	my @wrong;
	for my $i (0 .. $#cases)
	{
		my ($expression, $type) = @{ $cases[$i] };
		# A subquery's type is not in the plan; the order tells.
		push @wrong, "$expression: $found[$i]" unless $found[$i] =~ /^Index Scan: \(v \Q$op\E (?:.*::\Q$type\E(?:\($dims\))?\)|\$0\)); same$/;
	}
	is(join("\n", @wrong), '', "$op: an index, and the order of the table, whatever the type of the query and its side");
	# pgvector's own operators are told by the type of both operands.
	is($node->safe_psql('postgres', "SELECT plan(\$\$SELECT id FROM items ORDER BY v $op '[$whole]' LIMIT 3\$\$)"),
		"Index Scan: (v $op '[$whole]'::vector)", "$op: a literal beside a vector is a vector");
	is($node->safe_psql('postgres', "PREPARE p AS SELECT id FROM items ORDER BY v $op \$1 LIMIT 3; SELECT parameter_types FROM pg_prepared_statements"),
		'{vector}', "$op: so is a parameter");
	is($node->safe_psql('postgres', "SELECT same('items', \$\$h $op '[$array]'\$\$, 600)"), 'same', "$op: halfvec");
	# As in pgvector alone, an error; and where only an element's type is unlike, too. Never a pass over the table.
	is($node->safe_psql('postgres', "SELECT string_agg(plan('SELECT id FROM items ORDER BY ' || e || ' LIMIT 3'), ' ') FROM unnest(ARRAY["
			. join(',', map { "\$\$$_\$\$" } "h $op '{$array}'::real[]", "'{$array}'::real[] $op h", "h $op ARRAY[$whole]", "v $op '{$whole}'::bigint[]", "'{$whole}'::smallint[] $op v")
			. "]) e"),
		'42883 42883 42883 42725 42725', "$op: what has no operator is an error");
	# Ours sum in float64, pgvector's in float32.
	is($node->safe_psql('postgres', "SELECT count(*) FROM items, unnest(ARRAY[v $op '{$array}'::real[], '{$array}'::float8[] $op v, v $op '{$array}'::numeric[], "
			. "v::real[] $op '{$array}'::real[]]) d WHERE abs(d - (v $op '[$array]')) > 1e-5 * greatest(1, abs(d))"),
		'0', "$op: the distances of pgvector");
	is($node->safe_psql('postgres', "SELECT count(*) FROM items, unnest(ARRAY['{$array}'::float8[] $op v, v $op '{$array}'::numeric[], '{$array}'::real[] $op v]) d WHERE d <> v $op '{$array}'::real[]"),
		'0', "$op: one distance for all arrays");
}
# The other way round: operators of array and vector must not keep queries of type vector from indexes on arrays.
$node->safe_psql('postgres', "CREATE TABLE arrays AS SELECT id, v::real[] AS r FROM items;"
	  . join('', map { "CREATE INDEX ON arrays USING ivfremote (r real_$class{$_}_ops) WITH (flush_threshold = 1, lists = 5, quantization = "
			. ($_ eq '<->' ? 'none' : 'rabitq') . ');' } sort keys %class));
for my $expression (map { ("r $_ '[$array]'::vector", "'[$array]'::vector $_ r", "r $_ (SELECT v FROM items WHERE id = 7)") } sort keys %class)
{
	is($node->safe_psql('postgres', "SELECT same('arrays', \$\$$expression\$\$, 600)"), 'same', "an index on arrays: $expression");
}
is($node->safe_psql('postgres', "SET enable_seqscan = off; SELECT attempt('SELECT FROM arrays ORDER BY r <-> ''[1,2]''::vector LIMIT 1')"),
	"22000 | different vector dimensions $dims and 2", 'a vector of other dimensions');
is($node->safe_psql('postgres', "SELECT attempt(format('SELECT v <-> %L::real[] FROM items', '{1,2}'))"),
	"22000 | different vector dimensions $dims and 2", 'arrays of other dimensions');
is($node->safe_psql('postgres', "SELECT attempt('SELECT v <-> ARRAY[1,NULL] FROM items')"), '22004 | vector must not contain nulls', 'an array with a null');

# --------------------------------------------------------------------------------------------------------------------
# Rows whose float32 distances are not in the order of their exact ones

$node->safe_psql('postgres', q{
CREATE FUNCTION near(i int) RETURNS real[] LANGUAGE sql AS $$
  SELECT array_agg((7 + sin(j * 1.7) + 3e-6 * sin(i * 0.7 * j))::real ORDER BY j) FROM generate_series(1, 40) j
$$;
CREATE TABLE near (id int, v vector(40));
INSERT INTO near SELECT i, near(i)::vector FROM generate_series(1, 500) i});
my $query = "(SELECT array_agg(j % 3 + 0.1) FROM generate_series(1, 40) j)::vector";
for my $op (sort keys %class)
{
	# Trained, as floats and as codes; and untrained, which is floats. The last with some rows pending.
	for my $options ('flush_threshold = 1, lists = 3, quantization = none', 'flush_threshold = 1, lists = 3, bits = 8', 'flush_threshold = 10000')
	{
		$node->safe_psql('postgres', "CREATE INDEX near_index ON near USING ivfremote (v vector_$class{$op}_ops) WITH ($options)");
		is($node->safe_psql('postgres', "SELECT same('near', \$\$v $op $query\$\$, 500)"), 'same', "$op, $options: the operator's order");
		is($node->safe_psql('postgres', "SELECT same('near', \$\$v $op $query\::real[]\$\$, 500)"), 'same', "$op, $options: an array's too");
		$node->safe_psql('postgres', 'DROP INDEX near_index');
	}
}
# The test can see it: exact distances have another order.
isnt($node->safe_psql('postgres', "SELECT count(*) FROM (SELECT v <-> $query AS d, lag(v <-> $query) OVER (ORDER BY v::real[] <-> $query\::real[]) AS before FROM near) x WHERE d < before"),
	'0', 'float32 distances are out of order');

# --------------------------------------------------------------------------------------------------------------------
# Dimensions

is($node->safe_psql('postgres', q{
CREATE TABLE empty (id int, v vector(5), h halfvec, any_vector vector, big vector(16000));
CREATE DOMAIN embedding AS vector(6);
ALTER TABLE empty ADD d embedding;
CREATE UNLOGGED TABLE fleeting (v vector(7));
CREATE INDEX empty_v ON empty USING ivfremote (v);
CREATE INDEX empty_h ON empty USING ivfremote ((h::halfvec(4)) halfvec_l2_ops);
CREATE INDEX empty_any ON empty USING ivfremote (any_vector);
CREATE INDEX empty_big ON empty USING ivfremote (big);
CREATE INDEX empty_d ON empty USING ivfremote (d vector_cosine_ops);
CREATE INDEX empty_array ON empty USING ivfremote ((v::real[]));
CREATE INDEX fleeting_v ON fleeting USING ivfremote (v);
SELECT string_agg(coalesce((ivfremote_info(i::regclass)).dimensions::text, '-'), ' ')
FROM unnest('{empty_v,empty_h,empty_any,empty_big,empty_d,empty_array,fleeting_v}'::text[]) i}), '5 4 - 16000 6 - 7', "the type's dimensions, where it has some");
is($node->safe_psql('postgres', q{
SET enable_seqscan = off;
SELECT attempt('SELECT FROM empty ORDER BY v <-> ''[1,2]'' LIMIT 1');
SELECT attempt('SELECT FROM empty ORDER BY h::halfvec(4) <-> ''[1,2]'' LIMIT 1');
SELECT attempt('SELECT FROM empty ORDER BY any_vector <-> ''[1,2]'' LIMIT 1');
INSERT INTO empty (any_vector) VALUES ('[1,2,3]');
SELECT attempt('SELECT FROM empty ORDER BY any_vector <-> ''[1,2]'' LIMIT 1');
SELECT attempt('INSERT INTO empty (any_vector) VALUES (''[1,2]'')');
SELECT attempt('INSERT INTO empty (v) VALUES (''[1,2]'')');
TRUNCATE empty;
SELECT attempt('INSERT INTO empty (any_vector) VALUES (''[1,2]'')');
SELECT (ivfremote_info('empty_v')).dimensions, (ivfremote_info('empty_any')).dimensions}),
	"22000 | different vector dimensions 5 and 2\n22000 | different halfvec dimensions 4 and 2\ndone\n22000 | different vector dimensions 3 and 2\n"
	. "22000 | expected 3 dimensions, not 2\n22000 | expected 5 dimensions, not 2\ndone\n5|2", 'other dimensions');

# --------------------------------------------------------------------------------------------------------------------
# Values as they lie in tables: with headers of one byte at any address, and out of line

$node->safe_psql('postgres', q{
CREATE TABLE short (id int, filler text, v vector, h halfvec);
INSERT INTO short SELECT i, repeat('x', i % 5), point(i, 7)::vector, point(i, 7)::halfvec FROM generate_series(1, 200) i;
CREATE TABLE long (id int, filler text, v vector, h halfvec);
INSERT INTO long SELECT i, repeat('x', i % 5), point(i, 1200)::vector, point(i, 1200)::halfvec FROM generate_series(1, 60) i});
is($node->safe_psql('postgres', q{
SELECT max(pg_column_size(v)), max(pg_column_size(h)) FROM short;
SELECT bool_and(pg_relation_size(reltoastrelid) > 60 * 1200 * 6) FROM pg_class WHERE relname = 'long'}), "33|19\nt", 'short headers, and TOAST');
for my $table ('short', 'long')
{
	for my $column ('v', 'h')
	{
		my $type = $column eq 'v' ? 'vector' : 'halfvec';
		$node->safe_psql('postgres', "CREATE INDEX ON $table USING ivfremote ($column ${type}_l2_ops) WITH (flush_threshold = 1, lists = 2);
			CREATE INDEX ON $table USING ivfremote ($column ${type}_ip_ops)");
		is($node->safe_psql('postgres', "SELECT same('$table', \$\$$column $_ (SELECT $column FROM $table WHERE id = 9)\$\$, 200)"), 'same', "$table $type $_") for '<->', '<#>';
	}
}
# In workers, and inserted
is($node->safe_psql('postgres', q{
INSERT INTO long SELECT i, '', point(i, 1200)::vector, point(i, 1200)::halfvec FROM generate_series(61, 70) i;
SELECT same('long', $$h <-> (SELECT h FROM long WHERE id = 65)$$, 70), same('long', $$v <#> (SELECT v FROM long WHERE id = 65)$$, 70);
SET max_parallel_maintenance_workers = 2; SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = off;
ALTER TABLE items SET (parallel_workers = 2);
REINDEX TABLE items;
SELECT same('items', $$h <=> (SELECT h FROM items WHERE id = 65)$$, 600), same('items', $$v <-> (SELECT v FROM items WHERE id = 65)$$, 600)}),
	"same|same\nsame|same", 'inserted rows, and an index built by workers');

# --------------------------------------------------------------------------------------------------------------------
# Damaged values: bytes taken for vectors

$node->safe_psql('postgres', q{
CREATE CAST (bytea AS vector) WITHOUT FUNCTION;
CREATE CAST (bytea AS halfvec) WITHOUT FUNCTION;
CREATE TABLE damaged (v vector, h halfvec);
CREATE INDEX damaged_v ON damaged USING ivfremote (v);
CREATE INDEX damaged_h ON damaged USING ivfremote (h halfvec_l2_ops)});
my $damaged = 'damaged value of type TYPE | Its size does not fit its dimensions, or it is of an unknown version of the type.';
# dimensions and `unused` as they lie on disk, elements: bytes of a vector, of a halfvec; what is said
for my $case (
	[ '0300 0000', '0000803f 00000040 00004040', '003c 0040 0042', 'done', 'sound' ],
	[ '0400 0000', '0000803f 00000040 00004040', '003c 0040 0042', "XX001 | $damaged", 'more dimensions than bytes' ],
	[ '0200 0000', '0000803f 00000040 00004040', '003c 0040 0042', "XX001 | $damaged", 'fewer' ],
	[ '0300 0000', '0000803f 00000040 0000', '003c 0040 00', "XX001 | $damaged", 'half an element' ],
	[ '0300 0100', '0000803f 00000040 00004040', '003c 0040 0042', "XX001 | $damaged", 'unused bytes in use' ],
	[ '0000 0000', '', '', "XX001 | $damaged", 'no dimensions' ],
	[ 'ffff 0000', '', '', "XX001 | $damaged", 'less than none' ],
	[ '813e 0000', '00' x 64004, '00' x 32002, "XX001 | $damaged", '16001 dimensions' ],
	[ '', '', '', "XX001 | $damaged", 'nothing' ],
	[ '0300', '', '', "XX001 | $damaged", 'half a header' ],
	[ '0300 0000', '0000803f 0000c07f 00004040', '003c 007e 0042', '22000 | NaN not allowed in vector | Element 2 is NaN.', 'not a number' ],
	[ '0300 0000', '0000803f 00000040 000080ff', '003c 0040 00fc', '22000 | infinite value not allowed in vector | Element 3 is infinite.', 'infinite' ])
{
	my ($header, $vector, $halfvec, $said, $name) = @$case;
	s/ //g for $header, $vector, $halfvec;
	my %value = (v => "'\\x$header$vector'::bytea::vector", h => "'\\x$header$halfvec'::bytea::halfvec");
	my @statements = ("INSERT INTO damaged (v) VALUES ($value{v})", "INSERT INTO damaged (h) VALUES ($value{h})", "SELECT $value{v} <-> ''{1,2,3}''::real[]");
	my $found = $node->safe_psql('postgres', join(';', map { s/(?<!')'(?!')/''/gr =~ s/(.*)/SELECT attempt('$1')/sr } @statements));
	my @expected = map { $said =~ s/TYPE/$_/r } 'vector', 'halfvec', 'vector';
	is($found, join("\n", @expected), "damaged: $name");
}
is($node->safe_psql('postgres', q{
SET enable_seqscan = off;
SELECT attempt($$SELECT FROM damaged ORDER BY v <-> '\x04000000000000000000000000000000'::bytea::vector LIMIT 1$$);
DROP INDEX damaged_v;
INSERT INTO damaged (v) VALUES ('\x04000000000000000000000000000000'::bytea::vector);
SELECT attempt('CREATE INDEX ON damaged USING ivfremote (v)')}), join("\n", ("XX001 | $damaged" =~ s/TYPE/vector/r) x 2), 'damaged: a query, and a row of a build');
$node->safe_psql('postgres', 'DROP TABLE damaged; DROP CAST (bytea AS vector); DROP CAST (bytea AS halfvec)');

# --------------------------------------------------------------------------------------------------------------------
# NULL, zero, and the life of an index

is($node->safe_psql('postgres', q{
CREATE TABLE life (id int, v vector(8));
INSERT INTO life SELECT i, point(i, 8)::vector FROM generate_series(1, 500) i;
INSERT INTO life VALUES (501, NULL), (502, '[0,0,0,0,0,0,0,0]');
CREATE INDEX life_cosine ON life USING ivfremote (v vector_cosine_ops) WITH (flush_threshold = 100, lists = 5);
SET enable_seqscan = off;
SELECT count(*) FROM (SELECT FROM life ORDER BY v <=> (SELECT NULL::vector) LIMIT 1000) x;
SELECT count(*) FROM (SELECT FROM life ORDER BY v <=> '[0,0,0,0,0,0,0,0]' LIMIT 1000) x;
SELECT count(*) FROM (SELECT FROM life ORDER BY v <=> (SELECT NULL::real[]) LIMIT 1000) x}), "500\n500\n500", 'neither null nor zero is indexed, and as queries they give all rows');
is($node->safe_psql('postgres', q{
CREATE INDEX life_half ON life USING ivfremote ((v::halfvec(8)) halfvec_ip_ops) WITH (flush_threshold = 100, lists = 5);
DELETE FROM life WHERE id > 500 OR id % 7 = 0;
VACUUM life;
INSERT INTO life SELECT i, point(i, 8)::vector FROM generate_series(503, 560) i;
SELECT ivfremote_flush('life_cosine'), ivfremote_flush('life_half');
CALL ivfremote_compact('life_cosine');
CALL ivfremote_compact('life_half');
INSERT INTO life SELECT i, point(i, 8)::vector FROM generate_series(561, 570) i;
SELECT count(*) FROM ivfremote_verify('life_cosine', true);
SELECT count(*) FROM ivfremote_verify('life_half', true);
SELECT same('life', $$v <=> '[1,2,3,4,5,6,7,8]'$$, 600), same('life', $$v::halfvec(8) <#> '[1,2,3,4,5,6,7,8]'$$, 600)}), "58|58\n0\n0\nsame|same", 'flush, compaction, verify');
is($node->safe_psql('postgres', q{
SELECT count(*), min(recall) >= 0.7, max(recall) > 0.99 FROM ivfremote_recall(index => 'life_cosine');
SELECT count(*), min(recall) >= 0.7, max(recall) > 0.99 FROM ivfremote_recall('life_half', (SELECT array_agg(v::real[]) FROM life WHERE id < 100), store => true);
SELECT bool_and(from_queries) FROM ivfremote_recall_curve('life_half');
SELECT attempt($$SELECT ivfremote_recall('life_half', '{{1,2,3,4,5,6,7,70000}}')$$)}),
	"7|t|t\n7|t|t\nt\n22003 | value out of range for type halfvec | Element 8 of the vector is 70000.", 'recall, by rows and by queries');

# --------------------------------------------------------------------------------------------------------------------
# Objects in the way of the extension's script

my @traps = (
	[ "CREATE FUNCTION trap.d(public.vector, public.vector) RETURNS float8 LANGUAGE sql IMMUTABLE AS 'SELECT 0::float8';
	   CREATE OPERATOR trap.<=> (LEFTARG = public.vector, RIGHTARG = public.vector, FUNCTION = trap.d)",
		'operator trap.<=>(public.vector,public.vector)', 'an operator' ],
	[ "CREATE TYPE trap.halfvec AS ENUM ('x');
	   CREATE FUNCTION trap.d(trap.halfvec, trap.halfvec) RETURNS float8 LANGUAGE sql IMMUTABLE AS 'SELECT 0::float8';"
			. join(';', map { "CREATE OPERATOR trap.$_ (LEFTARG = trap.halfvec, RIGHTARG = trap.halfvec, FUNCTION = trap.d)" } sort keys %class),
		'operator trap.<#>(trap.halfvec,trap.halfvec)', 'a type' ]);
for my $i (0 .. $#traps)
{
	my ($trap, $object, $name) = @{ $traps[$i] };
	$node->safe_psql('postgres', "CREATE DATABASE trap$i");
	my ($code, $out, $err) = $node->psql("trap$i", "CREATE EXTENSION ivfremote; CREATE EXTENSION vector; CREATE SCHEMA trap; $trap;
		SET search_path = pg_catalog; CREATE EXTENSION ivfremote_pgvector SCHEMA trap");
	like($err, qr/ERROR:  \Q$object\E is in the way of what extension "ivfremote_pgvector" needs/, "$name in the way");
	is($node->safe_psql("trap$i", "DROP SCHEMA trap CASCADE; CREATE SCHEMA trap; CREATE EXTENSION ivfremote_pgvector SCHEMA trap; SELECT 'made'"), 'made', "and without it");
}

# Nor does it call what others have put there: it runs as a superuser.
$node->safe_psql('postgres', 'CREATE ROLE stranger; CREATE DATABASE trap');
is($node->safe_psql('trap', q{
	CREATE SCHEMA types; CREATE EXTENSION ivfremote SCHEMA types; CREATE EXTENSION vector SCHEMA types;
	GRANT CREATE ON SCHEMA public TO stranger;
	SET ROLE stranger;
	CREATE FUNCTION public.spring(oid, regclass) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RAISE ''called by %'', current_user; END';
	CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = public.spring);
	RESET ROLE;
	CREATE EXTENSION ivfremote_pgvector SCHEMA public;
	SELECT 'made'}), 'made', 'an operator that its script could call is not called');

no_crash($node);
$node->stop;
done_testing();
