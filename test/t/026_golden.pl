# Indexes that were written when version 1 of the formats was frozen (test/golden), under today's library: searched, inserted
# into, vacuumed.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use File::Basename qw(dirname);
use File::Copy qw(copy);
use File::Path qw(make_path);
use IvfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $golden = "$FindBin::RealBin/../golden/indexes";
my $node = new_node('golden', init => { no_data_checksums => 1 });
my $store = add_store($node, 'golden');
# The tables and statements of test/golden/write_indexes.sh: the same rows at the same TIDs.
$node->safe_psql('postgres', q{
CREATE FUNCTION golden(i int, dims int) RETURNS real[] LANGUAGE sql IMMUTABLE AS $$
  SELECT array_agg((((i * 37 + j * 101 + i * j % 17 * 13) % 257 - 128) / 64.0)::real ORDER BY j) FROM generate_series(0, dims - 1) j
$$;
CREATE TABLE coded AS SELECT i AS id, golden(CASE WHEN i > 250 THEN i % 3 + 1 ELSE i END, 20) AS v FROM generate_series(1, 270) i;
DELETE FROM coded WHERE id % 7 = 0;
VACUUM coded;
CREATE TABLE stored AS SELECT i AS id, golden(i, 20) AS v FROM generate_series(1, 120) i;
CREATE TABLE plain AS SELECT i AS id, golden(i, 20) AS v FROM generate_series(1, 60) i;
CREATE TABLE untrained AS SELECT i AS id, golden(i, 20) AS v FROM generate_series(1, 100) i;
DELETE FROM untrained WHERE id = 50;
VACUUM untrained;
CREATE TABLE gaps AS SELECT i AS id, golden(i, 20) AS v FROM generate_series(1, 250) i;
DELETE FROM gaps WHERE id <= 168 AND id <> 40;
VACUUM gaps;
INSERT INTO gaps SELECT i, golden(i % 3 + 1, 20) FROM generate_series(251, 300) i;
DELETE FROM gaps WHERE id = 40;
VACUUM gaps;
CREATE TABLE wide AS SELECT 1 AS id, golden(1, 2100) AS v;
CREATE TABLE sparse (id int, v real[]);
INSERT INTO sparse SELECT i / 224, CASE WHEN i % 224 = 0 THEN golden(i / 224, 16) END FROM generate_series(1, 270 * 224) i;
INSERT INTO sparse SELECT i, golden(1, 16) FROM generate_series(271, 290) i;
DELETE FROM sparse WHERE id % 7 = 0;
VACUUM sparse;
CREATE INDEX sparse_v_idx ON sparse USING ivfremote (v) WITH (lists = 2, bits = 1);
CREATE INDEX coded_v_idx ON coded USING ivfremote (v) WITH (lists = 6, bits = 4);
CREATE INDEX stored_v_idx ON stored USING ivfremote (v real_cosine_ops) WITH (lists = 4, bits = 1, spill = true, server = golden);
CREATE INDEX plain_v_idx ON plain USING ivfremote (v real_ip_ops) WITH (lists = 3, quantization = none);
CREATE INDEX untrained_v_idx ON untrained USING ivfremote (v real_cosine_ops);
CREATE INDEX gaps_v_idx ON gaps USING ivfremote (v);
CREATE INDEX wide_v_idx ON wide USING ivfremote (v);
});

my %operators = (coded => '<->', stored => '<=>', plain => '<#>', untrained => '<=>', wide => '<->', sparse => '<->', gaps => '<->');
my %dimensions = (wide => 2100, sparse => 16);
my %text = map { $_ => slurp_file("$golden/$_.txt") } keys %operators;
my %path;
for my $table (sort keys %operators)
{
	is($node->safe_psql('postgres', "SELECT string_agg(format('row %s %s', id, replace(trim(both '()' FROM ctid::text), ',', ' ')), E'\\n' ORDER BY id) FROM $table WHERE v IS NOT NULL"),
		join("\n", grep { /^row/ } split /\n/, $text{$table}), "$table: rows are where the index has them");
	$path{$table} = $node->data_dir . '/' . $node->safe_psql('postgres', "SELECT pg_relation_filepath('${table}_v_idx')");
}
$node->stop;
for my $table (sort keys %path)
{
	copy("$golden/$table.index", $path{$table}) or die "$table: $!";
}
for my $object (files_below($golden, qr/\.seg/))
{
	make_path(dirname("$store/$object"));
	copy("$golden/$object", "$store/$object") or die "$object: $!";
}
$node->start;
# They were there for the places of the others.
$node->safe_psql('postgres', 'DELETE FROM sparse WHERE v IS NULL');

for my $table (sort keys %operators)
{
	my $dims = $dimensions{$table} // 20;
	my $operator = $operators{$table};
	my $same = sub {
		$node->safe_psql('postgres', "SELECT string_agg(DISTINCT compare('$table', '$operator', golden(i, $dims), 1000), ';') FROM generate_series(5000, 5010) i");
	};
	my %said = map { /^(\w+) (.+)$/ ? ($1 => $2) : () } split /\n/, $text{$table};
	my $info = sub { $node->safe_psql('postgres', "SELECT $_[0] FROM ivfremote_info('${table}_v_idx')") };
	is($info->($_), $said{$_}, "$table: $_") for qw(index_uuid metric dimensions segment_rows pending_rows segment_bytes relation_bytes);
	is($same->(), 'same', "$table: searched");
	$node->safe_psql('postgres', "INSERT INTO $table SELECT i, golden(i, $dims) FROM generate_series(301, 340) i");
	is($same->(), 'same', "$table: inserted into");
	$node->safe_psql('postgres', "DELETE FROM $table WHERE id % 3 = 0; VACUUM (INDEX_CLEANUP ON) $table; INSERT INTO $table SELECT i, golden(i, $dims) FROM generate_series(341, 420) i");
	is($same->(), 'same', "$table: vacuumed");
}
no_crash($node);
$node->stop;
done_testing();
