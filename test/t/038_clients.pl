# The examples for pgvector's users, run from the documents they are in: psql, Python with psycopg2, Node with the packages pg and
# pgvector. They print what the comment behind a line says, and their searches use the index.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use File::Copy;
use IvfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_vector_node('clients');
my $directory = PostgreSQL::Test::Utils::tempdir;
my $root = "$FindBin::RealBin/../..";

# How a block is run, and which of its lines print: the comment behind such a line is what it prints.
my %languages = (
	sql => { command => [ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-f' ], prints => qr/^SELECT\b.*?;\s*-- (.*)$/m, calls => qr/^SELECT\b/m },
	python => { command => ['python3'], prints => qr/^\s*print\(.*?\)\s*# (.*)$/m, calls => qr/\bprint\(/ },
	js => { command => ['node'], prints => qr/^\s*console\.log\(.*?\);\s*\/\/ (.*)$/m, calls => qr/console\.log\(/ });
my %missing = (
	python => can_run('python3', '-c', 'import psycopg2') ? '' : 'python3-psycopg2 is not installed',
	js => node_packages());

my $number = 0;
for my $document ('docs/pgvector.md', 'README.md')
{
	my $text = slurp_file("$root/$document");
	if ($document eq 'README.md')
	{
		($text) = $text =~ /^## From pgvector\n(.*?)(?=^## |\z)/ms or next;
	}
	my $database = 'examples' . ++$number;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => $database, PGOPTIONS => '-c enable_seqscan=off');
	my (%run, $block);
	while ($text =~ /^```(\w+)\n(.*?)^```$/msg)
	{
		my ($language, $code) = ($1, $2);
		next unless $languages{$language};
		my $name = "$document, example " . ++$block . " ($language)";
	  SKIP:
		{
			skip "$name: $missing{$language}", 2 if $missing{$language};
			my $file = "$directory/$number.$block.$language";
			append_to_file($file, $code);
			my ($out, $err) = run_command([ @{ $languages{$language}{command} }, $file ]);
			is($err =~ s/^.*NOTICE:  installing required extension.*\n?//mgr, '', "$name: no error");
			my @expected = $code =~ /$languages{$language}{prints}/g;
			# psql prints a row a line
			@expected = map { split /, / } @expected if $language eq 'sql';
			is($out, join("\n", @expected), "$name: what it prints");
			my @calls = $code =~ /$languages{$language}{calls}/g;
			$run{$language} += @calls;
		}
	}
	ok($run{sql}, "$document has an example for psql");
	if ($document eq 'docs/pgvector.md')
	{
		# The index of the first example is replaced in the second.
		my $searches = ($run{python} || 0) + ($run{js} || 0);
		$node->poll_query_until($database,
			"SELECT idx_scan >= $searches FROM pg_stat_user_indexes WHERE indexrelname = 'items_embedding_idx'");
		is($node->safe_psql($database, q{SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'items_embedding_idx'}),
			$searches, "$document: searches used the index");
	}
}

# The command for schemas with hnsw
my ($command) = slurp_file("$root/docs/pgvector.md") =~ /^```sh\n(.*?)^```$/ms;
append_to_file("$directory/schema.sql", <<'SCHEMA');
CREATE TABLE items (id bigint, embedding vector(3), half halfvec(3));
CREATE INDEX a ON items USING hnsw (embedding vector_l2_ops);
CREATE INDEX b ON items USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 64);
CREATE INDEX c ON items USING hnsw (half halfvec_ip_ops) WITH (ef_construction='200') WHERE (id > 5);
SCHEMA
my ($schema, $errors) = run_command([ 'sh', '-c', "cd $directory && $command" ]);
$node->safe_psql('postgres', $schema);
is($node->safe_psql('postgres', q{SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'items'::regclass ORDER BY 1}), <<'INDEXES' =~ s/\n\z//r, 'hnsw');
CREATE INDEX a ON public.items USING ivfremote (embedding)
CREATE INDEX b ON public.items USING ivfremote (embedding vector_cosine_ops)
CREATE INDEX c ON public.items USING ivfremote (half halfvec_ip_ops) WHERE (id > 5)
INDEXES

no_crash($node);
$node->stop;
done_testing();

sub can_run
{
	my (@command) = @_;
	my ($out, $err) = ('', '');
	return eval { IPC::Run::run(\@command, '<', '/dev/null', '>', \$out, '2>', \$err) };
}

# The packages of test/clients, below $directory; why not, if so.
sub node_packages
{
	return 'node or npm is not installed' unless can_run('node', '--version') && can_run('npm', '--version');
	copy("$root/test/clients/package.json", $directory) or die $!;
	my ($out, $err) = ('', '');
	my @install = (qw(timeout 120 npm --prefix), $directory, qw(install --no-package-lock --no-audit --no-fund --ignore-scripts --fetch-retries=1));
	return '' if IPC::Run::run(\@install, '<', '/dev/null', '>', \$out, '2>', \$err);
	diag($err);
	return 'npm install failed, no network?';
}
