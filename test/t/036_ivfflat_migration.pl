# A schema and its queries as written for pgvector's ivfflat: `sed s/ivfflat/ivfremote/` is the whole migration. Every query
# uses an index and gives the rows of a sequential scan; with the real pgvector (PGVECTOR, see test/check.sh) also what
# ivfflat gave.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_vector_node('migration');
my %written = map { $_ => slurp_file("$FindBin::RealBin/../vector/ivfflat_$_.sql") } qw(schema queries);
my %migrated = map { $_ => $written{$_} =~ s/ivfflat/ivfremote/gr } keys %written;
# What each query's plan is, in its place
my $explained = $migrated{queries} =~ s/^(?=SELECT|WITH)/EXPLAIN (COSTS OFF) /gmr;
my $queries = () = $explained =~ /^EXPLAIN/gm;

$node->safe_psql('postgres', 'CREATE DATABASE migrated');
$node->safe_psql('migrated', 'CREATE EXTENSION ivfremote_pgvector CASCADE');
is(run_script('migrated', $migrated{schema}) =~ s/^.*NOTICE:  extension "vector" already exists, skipping$//mr, '', 'the schema');
my %access_method = map { split /\|/ } split /\n/,
  $node->safe_psql('migrated', 'SELECT relname, amname FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE relkind = \'i\'');

my $found = run_script('migrated', $migrated{queries});
unlike($found, qr/ERROR|WARNING|NOTICE/, 'the queries');
{
	local $ENV{PGOPTIONS} = '-c enable_indexscan=off';
	is($found, run_script('migrated', $migrated{queries}), 'they give the rows of sequential scans');
}

my @plans = split /^(?=Limit|Sort|Incremental Sort)/m, run_script('migrated', $explained);
@plans = grep { /^(?:Limit|Sort|Incremental Sort)/ } @plans;
is(scalar @plans, $queries, 'plans of all queries');
my %scanned;
for my $plan (@plans)
{
	my @indexes = grep { ($access_method{$_} // '') eq 'ivfremote' } $plan =~ /Index Scan using (\S+)/g;
	$scanned{$_} = 1 for @indexes;
	ok(@indexes > 0 && $plan !~ /Seq Scan/, join(', ', @indexes) || $plan);
}
is_deeply([ sort keys %scanned ],
	[ sort grep { $access_method{$_} eq 'ivfremote' && !/^cache_./ || $_ eq 'cache_embedding_idx' } keys %access_method ],
	'every index is used by some query');

SKIP:
{
	skip 'ivfflat itself is not here: the stand-in for pgvector has no access method (PGVECTOR=1 or PGVECTOR=DIRECTORY has)', 2
	  if $node->safe_psql('migrated', q{SELECT count(*) FROM pg_am WHERE amname = 'ivfflat'}) == 0;
	$node->safe_psql('postgres', 'CREATE DATABASE flat');
	run_script('flat', $written{schema});
	my $before = run_script('flat', $written{queries});
	unlike($before, qr/ERROR/, 'the queries as they were');
	is($found, $before, 'give the same rows');
}

no_crash($node);
$node->stop;
done_testing();

# What psql prints, errors and notices too.
sub run_script
{
	my ($database, $script) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/script.sql';
	append_to_file($file, $script);
	my ($out, $err) = run_command([ 'psql', '-XAtq', '-d', $node->connstr($database), '-f', $file ]);
	return join("\n", grep { $_ ne '' } $out, $err);
}
