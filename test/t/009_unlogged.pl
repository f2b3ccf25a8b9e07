# An unlogged table is empty after a crash, and so is its index: usable at once, and trained again by a rebuild.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('unlogged');
$node->init;
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION ivfremote;
	CREATE UNLOGGED TABLE items (id int, embedding real[]);
	INSERT INTO items SELECT i, ARRAY[sin(i), cos(i), i % 7]::real[] FROM generate_series(1, 2000) i;
	CREATE INDEX ON items USING ivfremote (embedding) WITH (lists = 10, flush_threshold = 1);
	CREATE UNLOGGED TABLE empty (id int, embedding real[]);
	CREATE INDEX ON empty USING ivfremote (embedding);
});
my $search = q{SET enable_seqscan = off; SELECT id FROM %s ORDER BY embedding <-> '{1,2,3}' LIMIT 3};
is($node->safe_psql('postgres', q{SELECT trained FROM ivfremote_info('items_embedding_idx')}), 't', 'trained');
isnt($node->safe_psql('postgres', sprintf($search, 'items')), '', 'rows before the crash');

$node->stop('immediate');
$node->start;
for my $table ('items', 'empty')
{
	is($node->safe_psql('postgres', sprintf($search, $table)), '', "$table: no rows after the crash");
	is($node->safe_psql('postgres', qq{SELECT trained FROM ivfremote_info('${table}_embedding_idx')}),
		'f', "$table: untrained after the crash");
	$node->safe_psql('postgres', qq{INSERT INTO $table VALUES (1, '{1,2,3}'), (2, '{9,9,9}')});
	is($node->safe_psql('postgres', sprintf($search, $table)), "1\n2", "$table: takes rows after the crash");
	$node->safe_psql('postgres', qq{DELETE FROM $table WHERE id = 1});
	$node->safe_psql('postgres', qq{VACUUM $table});
	is($node->safe_psql('postgres', sprintf($search, $table)), '2', "$table: can be vacuumed after the crash");
}
$node->safe_psql('postgres', 'REINDEX INDEX items_embedding_idx');
is($node->safe_psql('postgres', sprintf($search, 'items')), '2', 'rebuilt');
$node->stop;
done_testing();
