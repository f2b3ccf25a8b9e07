# The order of the rows that a scan returns is the exact order of those rows, always, and none comes twice: any metric, code,
# epsilon, number of probes and LIMIT, while rows come, go and change.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use Test::More;

my $rounds = $ENV{LONG} ? 60 : 8;
my $dims = 40;
my $node = new_node('order', conf => "fsync = off\nshared_buffers = 64MB\n");
$node->safe_psql('postgres', q{
CREATE FUNCTION noise(dims int) RETURNS real[] LANGUAGE sql VOLATILE AS
  'SELECT array_agg((random() - 0.4)::real) FROM generate_series(1, dims)';
-- How many rows a search returned, and what is wrong with them.
CREATE FUNCTION search(source text, op text, query real[], k int, OUT number int, OUT wrong text) LANGUAGE plpgsql
  SET enable_seqscan = off SET enable_sort = off AS $$
DECLARE
  ids int[];
  distances float8[];
BEGIN
  EXECUTE format('SELECT array_agg(id), array_agg(d) FROM (SELECT id, v %1$s $1 AS d FROM %2$s ORDER BY v %1$s $1 LIMIT %3$s) x', op, source, k)
    INTO ids, distances USING query;
  number := coalesce(cardinality(ids), 0);
  IF distances IS DISTINCT FROM (SELECT array_agg(d ORDER BY d) FROM unnest(distances) d) THEN
    wrong := 'out of order';
  ELSIF number <> (SELECT count(DISTINCT i) FROM unnest(ids) i) THEN
    wrong := 'a row twice';
  END IF;
END $$;
-- Searches with settings drawn by lot; what was wrong with any of them, and the rows returned in all.
CREATE FUNCTION searches(source text, times int, OUT wrong text, OUT number bigint) LANGUAGE plpgsql AS $$
DECLARE
  found record;
  op text;
  epsilon text;
  k int;
  query real[];
  dims int;
BEGIN
  number := 0;
  EXECUTE format('SELECT cardinality(v) FROM %s LIMIT 1', source) INTO dims;
  FOR i IN 1 .. times LOOP
    FOREACH op IN ARRAY '{<->,<#>,<=>}'::text[] LOOP
      epsilon := (ARRAY['-1', '0', '0.7', '3'])[1 + floor(random() * 4)];
      k := (ARRAY[1, 10, 100, 1000000])[1 + floor(random() * 4)];
      PERFORM set_config('ivfremote.epsilon', epsilon, true), set_config('ivfremote.probes', (ARRAY['-1', '1', '7', '1000000'])[1 + floor(random() * 4)], true);
      IF random() < 0.5 THEN
        query := noise(dims);
      ELSE
        EXECUTE format('SELECT v FROM %s OFFSET (random() * (SELECT count(*) - 1 FROM %1$s))::int LIMIT 1', source) INTO query;
      END IF;
      found := search(source, op, query, k);
      number := number + found.number;
      IF found.wrong IS NOT NULL THEN
        wrong := concat_ws('; ', wrong, format('%s, %s, epsilon %s, limit %s, probes %s: %s', source, op, epsilon, k, current_setting('ivfremote.probes'), found.wrong));
      END IF;
    END LOOP;
  END LOOP;
  wrong := coalesce(wrong, 'in order');
END $$;
CREATE SEQUENCE ids START 100000;
});

# What may happen between searches
my @changes = (
	"INSERT INTO ITEMS SELECT nextval('ids'), noise($dims) FROM generate_series(1, 60) i",
	"INSERT INTO ITEMS SELECT nextval('ids'), v FROM ITEMS WHERE id % 19 = 3",
	"UPDATE ITEMS SET v = noise($dims) WHERE random() < 0.1",
	'UPDATE ITEMS SET v = ARRAY(SELECT e * 3 FROM unnest(v) e) WHERE random() < 0.1',
	'UPDATE ITEMS SET mark = mark + 1 WHERE random() < 0.3',
	'UPDATE ITEMS SET mark = mark + 1 WHERE random() < 0.3',
	'DELETE FROM ITEMS WHERE random() < 0.1',
	'VACUUM ITEMS',
	'VACUUM (INDEX_CLEANUP off) ITEMS',
	'BEGIN; DELETE FROM ITEMS WHERE random() < 0.4; UPDATE ITEMS SET v = noise(' . $dims . ') WHERE random() < 0.4; SEARCH; ROLLBACK',
	'BEGIN; SAVEPOINT s; UPDATE ITEMS SET mark = -1; ROLLBACK TO s; UPDATE ITEMS SET mark = -2 WHERE random() < 0.2; SEARCH; COMMIT',
	'BEGIN ISOLATION LEVEL SERIALIZABLE; SEARCH; DELETE FROM ITEMS WHERE random() < 0.05; SEARCH; COMMIT',
	'REINDEX TABLE ITEMS');
srand(16);
for my $bits (1, 2, 4, 8)
{
	my $table = "of_$bits";
	my $options = "(flush_threshold = 1, lists = 25, bits = $bits)";
	$node->safe_psql('postgres', qq{
		SELECT setseed(0.$bits);
		CREATE TABLE $table (id int, v real[], mark int DEFAULT 0) WITH (fillfactor = 60);
		INSERT INTO $table SELECT i, noise($dims) FROM generate_series(1, 1500) i;
		CREATE INDEX ON $table USING ivfremote (v) WITH $options;
		CREATE INDEX ON $table USING ivfremote (v real_ip_ops) WITH $options;
		CREATE INDEX ON $table USING ivfremote (v real_cosine_ops) WITH $options});
	# Each change once, and more by lot
	my @order = sort { $a->[0] <=> $b->[0] } map { [ rand, $_ ] } @changes, map { $changes[ int rand @changes ] } 1 .. $rounds;
	my $script = "SELECT setseed(0.5$bits);\n";
	for my $change ('SELECT 1', map { $_->[1] } @order)
	{
		my $search = "SELECT wrong || ' ' || number FROM searches('$table', 3)";
		$script .= $change =~ s/\bITEMS\b/$table/gr =~ s/SEARCH/$search/gr . ";\n$search;\n";
	}
	my $out = $node->safe_psql('postgres', $script);
	my @searches = grep { / \d+$/ } split /\n/, $out;
	my ($wrong, $rows) = (join("\n", grep { !/^in order \d+$/ } @searches), 0);
	/(\d+)$/ and $rows += $1 for @searches;
	is($wrong, '', "$bits bits: in order");
	cmp_ok($rows, '>', 1000 * @searches, "$bits bits: there were rows to be out of order");
	note("$bits bits: " . @searches * 9 . " searches, $rows rows");
}

no_crash($node);
$node->stop;
done_testing();
