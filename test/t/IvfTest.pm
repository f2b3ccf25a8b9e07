# What the TAP tests share: nodes with the extension, stores, data, and comparisons with a sequential scan.
package IvfTest;

use strict;
use warnings;
use Exporter 'import';
use File::Find;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

our @EXPORT = qw(new_node new_vector_node need_faults add_store add_functions add_items files_below no_crash start_psql finish_psql
  start_session say_to ask quit kept_ok error_like);

# A started node with the extension, its functions below, and no autovacuum. `conf` is appended to postgresql.conf.
sub new_node
{
	my ($name, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(%{ $options{init} || {} });
	$node->append_conf('postgresql.conf', "wal_level = replica\nautovacuum = off\njit = off\nmax_parallel_maintenance_workers = 0\n" . ($options{conf} || ''));
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION ivfremote');
	add_functions($node, 'postgres');
	return $node;
}

# Such a node with extension ivfremote_pgvector too. Skips the whole test where extension vector is not installed, and says so.
sub new_vector_node
{
	my $node = new_node(@_);
	if (!$node->safe_psql('postgres', q{SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'}))
	{
		$node->stop;
		plan skip_all => 'extension vector is not installed in this server';
	}
	$node->safe_psql('postgres', 'CREATE EXTENSION ivfremote_pgvector CASCADE');
	return $node;
}

# Skips the whole test on a build without fault injection, and says so.
sub need_faults
{
	my ($node) = @_;
	my $found = $node->safe_psql('postgres',
		q{LOAD 'ivfremote'; SELECT count(*) FROM pg_settings WHERE name = 'ivfremote.test_fault'});
	return if $found;
	$node->stop;
	plan skip_all => 'this build has no fault injection (make TEST_FAULTS=1)';
}

# Creates server `name` on a new directory, which is returned.
sub add_store
{
	my ($node, $name) = @_;
	my $directory = PostgreSQL::Test::Utils::tempdir;
	$node->safe_psql('postgres',
		"CREATE SERVER $name FOREIGN DATA WRAPPER ivfremote OPTIONS (url 'file://$directory')");
	return $directory;
}

sub add_functions
{
	my ($node, $database) = @_;
	$node->safe_psql($database, q{
-- SQLSTATE, message, detail and hint of what a command raises.
CREATE FUNCTION attempt(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  state text; message text; detail text; hint text;
BEGIN
  EXECUTE command;
  RETURN 'done';
EXCEPTION WHEN OTHERS OR query_canceled THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
  RETURN concat_ws(' | ', state, message, nullif(detail, ''), nullif(hint, ''));
END $$;

CREATE FUNCTION through_table(source text, op text, query real[], k int, OUT ids int[], OUT distances float8[])
  LANGUAGE plpgsql SET ivfremote.enable_scan = off SET enable_seqscan = on AS $$
BEGIN
  EXECUTE format('SELECT array_agg(id), array_agg(d) FROM (SELECT id, v %1$s $1 AS d FROM %2$s ORDER BY v %1$s $1 LIMIT %3$s) s', op, source, k)
    INTO ids, distances USING query;
END $$;
CREATE FUNCTION through_index(source text, op text, query real[], k int, OUT ids int[], OUT distances float8[])
  LANGUAGE plpgsql SET ivfremote.enable_scan = on SET enable_seqscan = off SET enable_sort = off AS $$
BEGIN
  EXECUTE format('SELECT array_agg(id), array_agg(d) FROM (SELECT id, v %1$s $1 AS d FROM %2$s ORDER BY v %1$s $1 LIMIT %3$s) s', op, source, k)
    INTO ids, distances USING query;
END $$;
-- 'same', or how the index's answer differs from the table's, all lists probed and no row lost to its bound. Ties for the
-- last place may differ.
CREATE FUNCTION compare(source text, op text, query real[], k int) RETURNS text LANGUAGE plpgsql
  SET ivfremote.probes = 1048576 SET ivfremote.epsilon = 100 AS $$
DECLARE
  expected record := through_table(source, op, query, k);
  found record := through_index(source, op, query, k);
  differing int;
BEGIN
  IF (SELECT count(DISTINCT i) FROM unnest(found.ids) i) <> cardinality(found.ids) THEN
    RETURN 'a row twice';
  ELSIF found.distances IS DISTINCT FROM expected.distances THEN
    RETURN format('%s distances unlike the %s of the table', coalesce(cardinality(found.distances), 0), coalesce(cardinality(expected.distances), 0));
  END IF;
  SELECT count(*) INTO differing FROM (
    (SELECT i, d FROM unnest(found.ids, found.distances) u (i, d) WHERE d <> expected.distances[cardinality(expected.distances)]
     EXCEPT SELECT i, d FROM unnest(expected.ids, expected.distances) u (i, d))) x;
  RETURN CASE WHEN differing > 0 THEN differing || ' other rows' ELSE 'same' END;
END $$;
-- The share of the k nearest that the index finds for the rows with these ids as queries.
CREATE FUNCTION recall(source text, op text, queries int[], k int) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
  query real[];
  hits int := 0;
BEGIN
  FOR query IN EXECUTE format('SELECT v FROM %s WHERE id = ANY ($1)', source) USING queries LOOP
    hits := hits + (SELECT count(*) FROM (
      SELECT unnest((through_table(source, op, query, k)).ids) INTERSECT SELECT unnest((through_index(source, op, query, k)).ids)) x);
  END LOOP;
  RETURN hits::float8 / (k * cardinality(queries));
END $$;
CREATE FUNCTION point(i int, dims int) RETURNS real[] LANGUAGE sql IMMUTABLE AS $$
  SELECT array_agg((sin(i * 0.37 * j) + cos(i * 0.11 + j))::real ORDER BY j) FROM generate_series(1, dims) j
$$;
});
	return;
}

# Table `name` (id, v) of `rows` rows around `clusters` centres.
sub add_items
{
	my ($node, $name, $rows, $dims, $clusters) = @_;
	$node->safe_psql('postgres', qq{
SELECT setseed(0.25);
CREATE TABLE $name (id int, v real[]);
WITH centres AS MATERIALIZED (
  SELECT c, array_agg((random() - 0.5) * 2 ORDER BY j) AS centre FROM generate_series(0, $clusters - 1) c, generate_series(1, $dims) j GROUP BY c)
INSERT INTO $name
SELECT i, array_agg((e + random() + random() + random() + random() - 2)::real ORDER BY j)
FROM generate_series(1, $rows) i JOIN centres ON c = i % $clusters, unnest(centre) WITH ORDINALITY u (e, j)
GROUP BY i;
ANALYZE $name});
	return;
}

# Names of the files below a directory that match, without the directory.
sub files_below
{
	my ($directory, $pattern) = @_;
	my @found;
	find({ no_chdir => 1, wanted => sub { push @found, substr($_, length($directory) + 1) if -f $_ && m{$pattern} } }, $directory);
	@found = sort @found;
	return @found;
}

# The server's log has no crash and no leak.
sub no_crash
{
	my ($node, $name) = @_;
	my @bad = grep { /PANIC|TRAP:|terminated by signal|refcount leak|resource was not closed|leaked/ }
	  split(/\n/, slurp_file($node->logfile));
	is(join("\n", @bad), '', $name || 'no crash and no leak in the log');
	return;
}

# A psql beside the test; ends when its script does.
sub start_psql
{
	my ($node, $script) = @_;
	my $directory = PostgreSQL::Test::Utils::tempdir;
	append_to_file("$directory/script", $script);
	local $ENV{PGAPPNAME} = 'beside';
	my $run = IPC::Run::start([ $node->installed_command('psql'), '-XAtq', '-d', $node->connstr('postgres'), '-f', "$directory/script" ],
		'<', '/dev/null', '>', "$directory/out", '2>', "$directory/err");
	return { run => $run, directory => $directory };
}

# What it printed, and its errors.
sub finish_psql
{
	my ($psql) = @_;
	$psql->{run}->finish;
	return (slurp_file("$psql->{directory}/out"), slurp_file("$psql->{directory}/err"));
}

# A psql that stays.
sub start_session
{
	my ($node, %options) = @_;
	my %session = (in => '', out => '', err => '', number => 0);
	local $ENV{PGAPPNAME} = $options{name} || 'session';
	my @user = $options{user} ? ('-U', $options{user}) : ();
	$session{run} = IPC::Run::start([ $node->installed_command('psql'), '-XAtq', @user, '-d', $node->connstr($options{database} || 'postgres'), '-f', '-' ],
		'<', \$session{in}, '>', \$session{out}, '2>', \$session{err}, IPC::Run::timeout(300));
	return \%session;
}

# Statements without waiting for their end.
sub say_to
{
	my ($session, $sql) = @_;
	$session->{in} .= "$sql;\n";
	$session->{run}->pump_nb;
	return;
}

# What all statements so far print, in list context with errors and notices, and with the seconds it took.
sub ask
{
	my ($session, $sql) = @_;
	my $marker = 'done ' . ++$session->{number};
	my $start = time;
	$session->{in} .= "$sql;\n\\echo $marker\n\\warn $marker\n";
	$session->{run}->pump until $session->{out} =~ /^$marker\n/m && $session->{err} =~ /^$marker\n/m;
	my $seconds = time - $start;
	my ($out, $err) = @{$session}{qw(out err)};
	@{$session}{qw(out err)} = ('', '');
	s/^$marker\n//m, s/\n\z// for $out, $err;
	return wantarray ? ($out, $err, $seconds) : $out;
}

sub quit
{
	my ($session) = @_;
	$session->{in} .= "\\q\n";
	$session->{run}->finish;
	return;
}

# A statement of a table of checks: what `attempt` says of it.
sub error_like
{
	my ($node, $settings, $statement, $pattern, $name) = @_;
	my $said = $node->safe_psql('postgres', "$settings; SELECT attempt(\$attempt\$$statement\$attempt\$)");
	like($said, $pattern, $name);
	return;
}

# Every metric's index gives what the table does for a few queries.
sub kept_ok
{
	my ($node, $source, $op, $dims, $name) = @_;
	is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT compare('$source', '$op', point(i, $dims), (SELECT greatest(count(*), 1)::int FROM $source)), '; ')
		FROM generate_series(1, 40, 13) i"),
		'same', $name);
	return;
}

1;
