# The planner estimates an index without looking into it, as extensions for hypothetical indexes need.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('hypothetical');
$node->init;
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION ivfremote;
	CREATE TABLE items (id int, embedding real[]);
	INSERT INTO items SELECT i, ARRAY[sin(i), cos(i), i % 7]::real[] FROM generate_series(1, 20000) i;
	CREATE INDEX ON items USING ivfremote (embedding) WITH (lists = 10);
	ANALYZE items;
});
if ($node->safe_psql('postgres', q{LOAD 'ivfremote'; SELECT count(*) FROM pg_settings WHERE name = 'ivfremote.test_hypothetical'}) eq '0')
{
	$node->stop;
	plan skip_all => 'the library is built without TEST_FAULTS';
}
my $query = q{EXPLAIN (COSTS OFF) SELECT id FROM items ORDER BY embedding <-> '{1,2,3}'};
my $hypothetical = q{LOAD 'ivfremote'; SET ivfremote.test_hypothetical = on;};
like($node->safe_psql('postgres', "$hypothetical $query LIMIT 5"), qr/Index Scan using items_embedding_idx/, 'with LIMIT');
unlike($node->safe_psql('postgres', "$hypothetical $query"), qr/Index Scan/, 'without LIMIT');

# A metapage of zeros shows whether it is read: planning fails without the setting, and does not with it
my $file = $node->data_dir . '/' . $node->safe_psql('postgres', q{SELECT pg_relation_filepath('items_embedding_idx')});
$node->stop;
open(my $handle, '+<:raw', $file) or die "$file: $!";
print $handle "\0" x 8192;
close($handle);
$node->start;
my ($status, $out, $error) = $node->psql('postgres', "$query LIMIT 5");
like($error, qr/index "items_embedding_idx" is corrupted at block 0/, 'a metapage of zeros is noticed');
like($node->safe_psql('postgres', "$hypothetical $query LIMIT 5"), qr/Index Scan using items_embedding_idx/, 'and not needed');
$node->stop;
done_testing();
