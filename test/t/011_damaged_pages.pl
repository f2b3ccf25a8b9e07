# Garbage in an index's own pages gives an error or, where only a neighbour's bytes are hit, another answer; it never ends
# the server, and never makes a statement run for ever. The server is stopped while its files are damaged.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $dims = 20;
my $page_bytes = 8192;
my $copies = $ENV{LONG} ? 400 : 90;
my $node = new_node('damaged', conf => "restart_after_crash = on\nfsync = off\n");
$node->safe_psql('postgres', qq{
CREATE TABLE source (id int, v real[]);
INSERT INTO source SELECT i, point(i, $dims) FROM generate_series(1, 600) i;
DO \$\$
BEGIN
  FOR i IN 1 .. $copies LOOP
    EXECUTE format('CREATE TABLE t%s AS SELECT * FROM source WHERE id <= 400', i);
    EXECUTE format('CREATE INDEX t%s_idx ON t%s USING ivfremote (v) WITH (lists = 12, flush_threshold = %s, quantization = %s)', i, i,
      CASE i % 5 WHEN 0 THEN 100000 ELSE 1 END, CASE i % 2 WHEN 0 THEN 'rabitq' ELSE 'none' END);
    EXECUTE format('INSERT INTO t%s SELECT * FROM source WHERE id > 400', i);
  END LOOP;
END \$\$;
});
my @paths = split /\n/, $node->safe_psql('postgres', "SELECT pg_relation_filepath(('t' || i || '_idx')::regclass) FROM generate_series(1, $copies) i");
$node->stop;

srand(4711);
my @damage;
my @kinds = ('noise', 'payload', 'zeros', 'one byte', 'one word', 'special', 'swapped', 'cut', 'ones');
for my $i (0 .. $copies - 1)
{
	my $path = $node->data_dir . '/' . $paths[$i];
	my $content = slurp_file($path, 0);
	my $pages = length($content) / $page_bytes;
	my $page = int($i / @kinds) % $pages;
	my $kind = $kinds[ $i % @kinds ];
	my $noise = join '', map { chr int rand 256 } 1 .. $page_bytes;
	my $at = $page * $page_bytes;
	if ($kind eq 'noise') { substr($content, $at, $page_bytes) = $noise }
	elsif ($kind eq 'payload') { substr($content, $at + 24, $page_bytes - 64) = substr($noise, 0, $page_bytes - 64) }
	elsif ($kind eq 'zeros') { substr($content, $at, $page_bytes) = "\0" x $page_bytes }
	elsif ($kind eq 'one byte') { substr($content, $at + 24 + int rand 400, 1) = substr($noise, 0, 1) }
	elsif ($kind eq 'one word') { substr($content, $at + 24 + 4 * int rand 100, 4) = substr($noise, 0, 4) }
	elsif ($kind eq 'special') { substr($content, $at + $page_bytes - 40 + 8 + 4 * int rand 8, 4) = rand() < 0.5 ? pack('V', int rand 20) : substr($noise, 0, 4) }
	elsif ($kind eq 'swapped') { my $other = ($page + 1) % $pages * $page_bytes; my $kept = substr($content, $at, $page_bytes); substr($content, $at, $page_bytes) = substr($content, $other, $page_bytes); substr($content, $other, $page_bytes) = $kept }
	elsif ($kind eq 'cut') { $content = substr($content, 0, $at) }
	elsif ($kind eq 'ones') { substr($content, $at + 24, $page_bytes - 64) = "\xff" x ($page_bytes - 64) }
	open(my $file, '>:raw', $path) or die $!;
	print $file $content;
	close $file;
	push @damage, "$kind in page $page of $pages";
}
$node->start;

my %said;
my $crashes = 0;
my (@never, @odd, @objects);
for my $i (1 .. $copies)
{
	my @statements = (
		"SELECT count(*) FROM (SELECT id FROM t$i ORDER BY v <-> point(7, $dims) LIMIT 1000) x",
		"SELECT count(*) FROM (SELECT id FROM t$i ORDER BY v <-> (SELECT NULL::real[]) LIMIT 1000) x",
		"EXPLAIN SELECT id FROM t$i ORDER BY v <-> point(7, $dims) LIMIT 10",
		"SELECT * FROM ivfremote_info('t${i}_idx')",
		"SELECT * FROM ivfremote_segments('t${i}_idx')",
		"INSERT INTO t$i SELECT id + 1000, v FROM source WHERE id <= 30",
		"DELETE FROM t$i WHERE id % 3 = 0",
		"SELECT count(*) FROM (SELECT id FROM t$i ORDER BY v <-> point(7, $dims) LIMIT 1000) x");
	my ($code, $out, $err) = $node->psql('postgres', "SET enable_seqscan = off; SET ivfremote.probes = 12; SET statement_timeout = '30s'; SET client_min_messages = error;\n"
		. join('', map { "SELECT 'said: ' || left(attempt(\$s\$$_\$s\$), 200);\n" } @statements) . "VACUUM t$i;\n", on_error_stop => 0);
	$said{$_}++ for $out =~ /said: (\w{4,5})/g, $err =~ /ERROR:  (\w+ \w+)/g;
	# Core's own words for a block beyond the end are a missing file
	push @odd, map { "$_ ($damage[$i - 1])" } grep { !/could not open file "base/ } $out =~ /said: ((?:XX000|58P01).*)/g;
	# Postgres's own word for pages it can't make sense of
	push @objects, map { "$_ ($damage[$i - 1])" } grep { !/invalid page in block|read only \d+ of/ } $out =~ /said: (XX001.*)/g;
	push @never, "t$i ($damage[$i - 1])" if $out =~ /57014/ || $err =~ /statement timeout/;
	if ($err =~ /server closed the connection|terminated by signal|connection to server/)
	{
		$crashes++;
		diag("$damage[$i - 1] ends the server: " . (split /\n/, $err)[0]);
		$node->poll_query_until('postgres', 'SELECT true') or die 'the server does not come back';
	}
}
note(join ', ', map { "$_: $said{$_}" } sort keys %said);
is($crashes, 0, 'no statement ended the server');
is(join(', ', @never), '', 'no statement ran for ever');
cmp_ok($said{XX002} || 0, '>', $copies / 3, 'most damage is found and called so');
is(join("\n", @objects), '', 'none is called an object\'s');
is(join("\n", @odd), '', 'none is called an internal error or a missing object');
no_crash($node, 'no crash in the log');

# What can be done about it
$node->safe_psql('postgres', "REINDEX INDEX t${_}_idx") for 1 .. 20;
is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT compare('t' || i, '<->', point(7, $dims), 1000), ';') FROM generate_series(1, 20) i"), 'same', 'REINDEX repairs');
$node->safe_psql('postgres', "DROP TABLE t$_") for 21 .. $copies;
$node->stop;
done_testing();
