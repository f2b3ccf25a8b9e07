# A search that gets no memory is an error of its session, not the end of the server: no exception of the core may reach
# Postgres, in the search itself or when a cursor orders its next rows.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('out_of_memory', conf => "fsync = off\n");
$node->safe_psql('postgres', q{
CREATE TABLE items (id int, v real[]);
INSERT INTO items SELECT i, point(i, 16) FROM generate_series(1, 60000) i;
CREATE INDEX ON items USING ivfremote (v) WITH (flush_threshold = 1, lists = 10, bits = 1)});

# The soft limit of the session's address space: what it has now and `more` bytes.
sub limit_memory
{
	my ($pid, $more) = @_;
	my ($kilobytes) = slurp_file("/proc/$pid/status") =~ /^VmSize:\s+(\d+) kB/m;
	my $bytes = defined $more ? $kilobytes * 1024 + $more : 'unlimited';
	return system('prlimit', '--pid', $pid, "--as=$bytes:") == 0;
}

my $first;
foreach my $more (0, 50_000, 100_000, 200_000, 400_000, 1_000_000)
{
	my $session = start_session($node);
	my $pid = ask($session, 'SELECT pg_backend_pid()');
	$first //= $pid;
	ask($session, q{SET enable_seqscan = off; SET ivfremote.probes = 10; BEGIN;
		DECLARE c CURSOR FOR SELECT id FROM items ORDER BY v <-> point(1, 16); MOVE 1 FROM c});
	plan skip_all => 'cannot limit the memory of a session' unless limit_memory($pid, $more);
	ask($session, 'MOVE ALL FROM c');
	ask($session, 'ROLLBACK');
	limit_memory($pid);
	is(ask($session, 'SELECT pg_backend_pid()'), $pid, "the session goes on, limited to $more bytes more");
	quit($session);
}
no_crash($node);
done_testing();
