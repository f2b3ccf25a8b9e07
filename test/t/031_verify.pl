# ivfremote_verify() names every kind of damage, goes on after it, and finds nothing wrong with healthy indexes. The server is
# stopped while files are damaged.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $page_bytes = 8192;
my $no_block = 0xffffffff;
my ($stream, $tree, $tid_map, $directory, $pending) = (3, 2, 4, 5, 6);    # kinds of pages

my $node = new_node('verify', conf => "fsync = off\n");
my $store = add_store($node, 'store');
my ($faults) = $node->safe_psql('postgres', q{LOAD 'ivfremote'; SELECT count(*) FROM pg_settings WHERE name = 'ivfremote.test_part_bytes'});

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub problems { return sql("SELECT v.* FROM ivfremote_verify('$_[0]_idx', $_[1]) v") }

# --------------------------------------------------------------------------------------------------------------------
# Pages of a file, by what docs/format.md says of them

sub number_at { return unpack($_[2], substr(${ $_[0] }, $_[1], { v => 2, V => 4, 'Q<' => 8 }->{ $_[2] })) }
sub set_number { substr(${ $_[0] }, $_[1], { v => 2, V => 4, 'Q<' => 8 }->{ $_[2] }) = pack($_[2], $_[3]); return }
sub payload { return $_[0] * $page_bytes + 24 }
sub special { return ($_[0] + 1) * $page_bytes - 40 }

sub flip { substr(${ $_[0] }, $_[1], 1) ^= "\x01"; return }

# Where the metapage has streams
my %streams = (routing => 152, curve => 240, directory => 376 + 88, tid_map => 376 + 104, data => 376 + 120);
sub leaves
{
	my ($file, $name) = @_;
	my $at = payload(0) + $streams{$name};
	my ($root, $depth) = map { number_at($file, $at + $_, 'V') } 0, 4;
	return $root if $depth == 0;
	return map { number_at($file, payload($root) + 8 * $_ + 4, 'V') } 0 .. number_at($file, special($root) + 36, 'V') - 1;
}
sub root { return number_at($_[0], payload(0) + $streams{ $_[1] }, 'V') }
sub pages_of
{
	my ($file, $kind) = @_;
	return grep { number_at($file, special($_) + 6, 'v') == $kind } 0 .. length($$file) / $page_bytes - 1;
}
# The page of pending rows that others follow
sub first_pending { my ($file) = @_; return (grep { number_at($file, special($_) + 12, 'V') != $no_block } pages_of($file, $pending))[0] }

# --------------------------------------------------------------------------------------------------------------------
# Tables: name => options, rows that are pending in the end, dimensions

my %kinds = (
	pages => [ "lists = 12, flush_threshold = 1, bits = 8", 300, 20 ],
	float => [ "lists = 12, flush_threshold = 1, quantization = none", 0, 20 ],
	remote => [ "lists = 12, flush_threshold = 1, server = store", 30, 20 ],
	spilled => [ "lists = 12, flush_threshold = 1, server = store, spill = on", 30, 20 ],
	parts => [ "lists = 12, flush_threshold = 1, server = store, quantization = none", 0, 20 ],
	untrained => [ "flush_threshold = 100000", 0, 20 ],
	wide => [ "flush_threshold = 100000", 0, 2100 ]);

sub make
{
	my ($name, $kind) = @_;
	my ($options, $more, $dims) = @{ $kinds{$kind} };
	my $rows = $dims > 1000 ? 8 : 500;
	sql(($kind eq 'parts' && $faults ? "SET ivfremote.test_part_bytes = '16kB';" : '') . qq{
		CREATE TABLE $name (id int, v real[]);
		INSERT INTO $name SELECT i, point(i, $dims) FROM generate_series(1, $rows) i;
		CREATE INDEX ${name}_idx ON $name USING ivfremote (v) WITH ($options);
		INSERT INTO $name SELECT i, point(i, $dims) FROM generate_series($rows + 1, $rows + $more) i});
	return;
}

# --------------------------------------------------------------------------------------------------------------------
# What is done to a file, and patterns for all lines of the report, each of which has to be there: part|problem|block|object|tid.
# < > stands for what the damage returned.

my $lost = 'table\|row is not in the index\|\|\|.*';
my @damage = (
	[ 'empty page', 'pages', sub { my ($f) = @_; my ($p) = leaves($f, 'routing'); substr($$f, $p * $page_bytes, $page_bytes) = "\0" x $page_bytes; $p },
		'routing\|page is empty\|< >\|\|' ],
	[ 'noise', 'pages', sub { my ($f) = @_; my ($p) = leaves($f, 'routing'); substr($$f, $p * $page_bytes, $page_bytes) = "\xa5" x $page_bytes; $p },
		'routing\|invalid page in block < > of relation .*\|< >\|\|' ],
	[ 'foreign page', 'pages', sub { my ($f) = @_; my ($p) = leaves($f, 'curve'); set_number($f, special($p) + 16, 'Q<', 77); $p },
		'recall curve\|page belongs to 77, not to \d+\|< >\|\|' ],
	[ 'kind of page', 'pages', sub { my ($f) = @_; my ($p) = leaves($f, 'directory'); set_number($f, special($p) + 6, 'v', $tid_map); $p },
		'segment \d+\|page is of kind 4, not 3\|< >\|\|' ],
	[ 'deleted page', 'pages', sub { my ($f) = @_; my ($p) = leaves($f, 'data'); set_number($f, special($p) + 10, 'v', 1); $p },
		'segment \d+\|page is in use but deleted\|< >\|\|' ],
	[ 'page referred to twice', 'float', sub { my ($f) = @_; my @p = leaves($f, 'data'); set_number($f, payload(root($f, 'data')) + 8 + 4, 'V', $p[0]); $p[0] },
		'segment \d+\|page is referred to twice\|< >\|\|' ],
	[ 'page beyond the end', 'float', sub { my ($f) = @_; set_number($f, payload(root($f, 'data')) + 8 + 4, 'V', 4711); 4711 },
		'segment \d+\|page lies beyond the end of the index, which has \d+\|< >\|\|' ],
	[ 'page out of place', 'float', sub { my ($f) = @_; my @p = leaves($f, 'data'); set_number($f, special($p[1]) + 32, 'V', 5); $p[1] },
		'segment \d+\|page of a stream is out of place\|< >\|\|' ],
	[ 'pages out of order', 'float', sub { my ($f) = @_; my $p = root($f, 'data'); set_number($f, payload($p) + 8, 'V', 9); $p },
		'segment \d+\|inner page of a stream is out of place or order\|< >\|\|' ],
	[ 'too few pages', 'float', sub { my ($f) = @_; my $p = root($f, 'data'); set_number($f, special($p) + 36, 'V', number_at($f, special($p) + 36, 'V') - 1); $p },
		'segment \d+\|stream has \d+ pages instead of \d+\|< >\|\|' ],
	[ 'length of a page', 'float', sub { my ($f) = @_; my @p = leaves($f, 'data'); set_number($f, special($p[0]) + 36, 'V', 8000); $p[0] },
		'segment \d+\|page of a stream has the wrong length\|< >\|\|' ],
	[ 'metapage', 'pages', sub { my ($f) = @_; flip($f, payload(0)); 0 }, 'metapage\|metapage has the wrong magic number\|0\|\|' ],
	[ 'routing', 'pages', sub { my ($f) = @_; my ($p) = leaves($f, 'routing'); flip($f, payload($p) + 16); $p }, 'routing\|.*\|< >\|\|' ],
	[ 'recall curve', 'pages', sub { my ($f) = @_; my ($p) = leaves($f, 'curve'); flip($f, payload($p)); $p }, 'recall curve\|not a recall curve\|< >\|\|' ],
	[ 'rows of a segment', 'pages', sub { my ($f) = @_; set_number($f, payload(0) + 376 + 16, 'Q<', 499); },
		'segment \d+\|segment has 500 rows instead of 499\|\|\|', 'segment \d+\|segment has another number of rows than the metapage \(offset \d+, 128 bytes\)\|\|\|' ],
	# The entry of the third block: 12 lists, one block each
	[ 'overlapping blocks', 'float', sub { my ($f) = @_; my ($p) = leaves($f, 'directory'); my $at = payload($p) + 64 + 12 * 8; set_number($f, $at + 2 * 32, 'Q<', number_at($f, $at + 32, 'Q<')); $p },
		'segment \d+\|directory has two blocks at offset \d+\|< >\|\|', 'segment \d+\|block of list 2: .* \(offset \d+, \d+ bytes\)\|\|\|', 'segment \d+\|directory is not the segment.s .*\|\|\|' ],
	[ 'list of a block', 'float', sub { my ($f) = @_; my ($p) = leaves($f, 'directory'); set_number($f, payload($p) + 64 + 12 * 8 + 20, 'V', 7); $p },
		'segment \d+\|directory has an impossible entry for list 0\|< >\|\|' ],
	[ 'lost live bit', 'pages', sub { my ($f) = @_; my ($p) = leaves($f, 'tid_map'); my $bitmap = payload($p) + number_at($f, payload($p) + 10, 'v'); flip($f, $bitmap); },
		'table\|row is not in the index\|\|\|\(0,1\)' ],
	[ 'live bit of nothing', 'pages', sub { my ($f) = @_; my ($p) = leaves($f, 'tid_map'); my $end = payload($p) + 8128 - 1; substr($$f, $end, 1) |= "\x80"; },
		'segment \d+\|row is alive but in no block\|\|\|\(0,\d+\)', 'segment \d+\|index has a row that is not in the table\|\|\|\(0,\d+\)' ],
	[ 'tid map page', 'remote', sub { my ($f) = @_; my ($p) = leaves($f, 'tid_map'); set_number($f, payload($p) + 10, 'v', 9000); $p },
		'segment \d+\|tid map page has an impossible entry\|< >\|\|', $lost ],
	[ 'lost pending row', 'pages', sub { my ($f) = @_; my ($p) = pages_of($f, $pending); flip($f, payload($p) + 6); sprintf '(%d,%d)', number_at($f, payload($p), 'V'), number_at($f, payload($p) + 4, 'v') },
		'table\|row is not in the index\|\|\|< >' ],
	[ 'row twice', 'pages', sub { my ($f) = @_; my ($p) = pages_of($f, $pending); set_number($f, payload($p), 'V', 0); set_number($f, payload($p) + 4, 'v', 1); $p },
		'pending rows\|row is in the index 2 times\|< >\|\|\(0,1\)', $lost ],
	[ 'impossible TID', 'untrained', sub { my ($f) = @_; my ($p) = pages_of($f, $pending); set_number($f, payload($p) + 4, 'v', 0); $p },
		'pending rows\|pending row 0 has an impossible TID\|< >\|\|', $lost ],
	[ 'list of a pending row', 'pages', sub { my ($f) = @_; my ($p) = pages_of($f, $pending); set_number($f, payload($p) + 8, 'V', 4711); $p },
		'pending rows\|pending row is of list 4711 and centroid \d+, in the chain of group \d+\|< >\|\|\(\d+,\d+\)' ],
	[ 'loop of pending pages', 'untrained', sub { my ($f) = @_; my $p = first_pending($f); set_number($f, special($p) + 12, 'V', $p); $p },
		'pending rows\|page is referred to twice\|< >\|\|', $lost ],
	[ 'fewer rows on a page', 'untrained', sub { my ($f) = @_; my ($p) = pages_of($f, $pending); set_number($f, special($p) + 36, 'V', number_at($f, special($p) + 36, 'V') - 1); },
		'pending rows\|chain of group 0 has 499 rows instead of 500\|\d+\|\|', $lost ],
	[ 'chain cut', 'untrained', sub { my ($f) = @_; my $p = first_pending($f); set_number($f, special($p) + 12, 'V', $no_block); },
		'pending rows\|chain of group 0 does not reach its last page, \d+\|\d+\|\|', 'pending rows\|chain of group 0 has \d+ rows instead of 500\|\d+\|\|', $lost ],
	[ 'rows of a chain', 'untrained', sub { my ($f) = @_; my ($p) = pages_of($f, $directory); set_number($f, payload($p) + 8, 'Q<', 20); $p },
		'pending rows\|chain of group 0 has 500 rows instead of 20\|< >\|\|' ],
	[ 'chains of a directory', 'pages', sub { my ($f) = @_; my ($p) = pages_of($f, $directory); set_number($f, special($p) + 36, 'V', 3); $p },
		'pending rows\|pending directory page has 3 chains instead of 13\|< >\|\|', $lost ],
	# The chain after those of the 12 lists
	[ 'sample of pending rows', 'pages', sub { my ($f) = @_; my ($p) = pages_of($f, $directory); set_number($f, payload($p) + 12 * 16, 'V', 4711); 4711 },
		'pending rows\|page lies beyond the end of the index, which has \d+\|< >\|\|' ],
	[ 'wide pending row', 'wide', sub { my ($f) = @_; my ($p) = pages_of($f, $stream); set_number($f, special($p) + 32, 'V', 3); $p },
		'pending rows\|page of a stream is out of place\|< >\|\|' ],
	[ 'wide pending row without a code', 'wide', sub { my ($f) = @_; my ($p) = pages_of($f, $pending); set_number($f, payload($p) + 16 + 8, 'Q<', 3); $p },
		'pending rows\|pending row has no code\|< >\|\|\(\d+,\d+\)' ],
	[ 'embedded block', 'float', sub { my ($f) = @_; my ($p) = leaves($f, 'data'); flip($f, payload($p) + 256); },
		'segment \d+\|block of list 0: checksum mismatch \(offset 128, \d+ bytes\)\|\|\|' ],
	[ 'block of an object', 'remote', { object => sub { flip($_[0], 300) } }, 'segment \d+\|block of list 0: checksum mismatch \(offset 128, \d+ bytes\)\|\|< >\|' ],
	[ 'header of an object', 'remote', { object => sub { flip($_[0], 70) } }, 'segment \d+\|checksum mismatch in the segment.s header \(offset 0, 128 bytes\)\|\|< >\|' ],
	[ 'another segment', 'remote', { object => sub { flip($_[0], 0) } }, 'segment \d+\|not a segment of ivfremote \(offset 0, 128 bytes\)\|\|< >\|' ],
	[ 'trailer of an object', 'remote', { object => sub { flip($_[0], length(${ $_[0] }) - 100) } }, 'segment \d+\|checksum mismatch in the segment.s trailer \(offset \d+, 128 bytes\)\|\|< >\|' ],
	[ 'directory of an object', 'remote', { object => sub { flip($_[0], number_at($_[0], length(${ $_[0] }) - 128 + 40, 'Q<') + 40) } }, 'segment \d+\|directory: checksum mismatch \(offset \d+, \d+ bytes\)\|\|< >\|' ],
	[ 'sample rows of an object', 'remote', { object => sub { flip($_[0], number_at($_[0], length(${ $_[0] }) - 128 + 48, 'Q<') + 10) } }, 'segment \d+\|sample rows: checksum mismatch \(offset \d+, \d+ bytes\)\|\|< >\|' ],
	[ 'routing of an object', 'remote', { object => sub { flip($_[0], number_at($_[0], length(${ $_[0] }) - 128 + 32, 'Q<') + 200) } }, 'segment \d+\|routing: checksum mismatch \(offset \d+, \d+ bytes\)\|\|< >\|' ],
	[ 'object cut', 'spilled', { object => sub { ${ $_[0] } = substr(${ $_[0] }, 0, 1000) } }, 'segment \d+\|object has 1000 bytes instead of \d+\|\|< >\|' ],
	[ 'object missing', 'remote', { object => sub { ${ $_[0] } = undef } }, 'segment \d+\|object is missing\|\|< >\|' ],
	$faults ? (
		[ 'part missing', 'parts', { object => sub { ${ $_[0] } = undef }, part => '.1' }, 'segment \d+\|object is missing\|\|< >\.1\|' ],
		[ 'part cut', 'parts', { object => sub { ${ $_[0] } = substr(${ $_[0] }, 0, 100) }, part => '.1' }, 'segment \d+\|object has 100 bytes instead of \d+ to \d+\|\|< >\.1\|' ]) : ());

make("t$_", $damage[$_][1]) for 0 .. $#damage;
make($_, $_) for sort keys %kinds;
make('heap', 'pages');
my %healthy = map { ($_ => 1) } keys %kinds;
sql(q{
CREATE TABLE many (id int, v real[], w real[], part int) WITH (fillfactor = 50);
INSERT INTO many SELECT i, point(i, 20), CASE WHEN i % 9 > 0 THEN point(i, 30) END, i % 4 FROM generate_series(1, 600) i;
INSERT INTO many SELECT i, NULL, array_fill(0::real, ARRAY[30]), 1 FROM generate_series(1, 10) i;
CREATE FUNCTION shifted(v real[]) RETURNS real[] LANGUAGE sql IMMUTABLE AS 'SELECT array_agg(e + 1) FROM unnest(v) e';
CREATE INDEX cosine_idx ON many USING ivfremote (w real_cosine_ops) WITH (lists = 10, flush_threshold = 1, server = store);
CREATE INDEX ip_idx ON many USING ivfremote (v real_ip_ops) WITH (lists = 10, flush_threshold = 1);
CREATE INDEX partial_idx ON many USING ivfremote (v) WITH (lists = 10, flush_threshold = 1) WHERE part = 2;
CREATE INDEX expression_idx ON many USING ivfremote (shifted(v)) WITH (lists = 10, flush_threshold = 1);
-- In place (HOT), and not
UPDATE many SET part = 5 WHERE part = 3;
UPDATE many SET id = id + 1000 WHERE part = 0;
UPDATE many SET v = point(id + 1, 20), w = point(id + 1, 30) WHERE id % 11 = 0;
DELETE FROM many WHERE id % 5 = 0;
BEGIN; INSERT INTO many SELECT i, point(i, 20), point(i, 30), 2 FROM generate_series(700, 720) i; ROLLBACK;
INSERT INTO many SELECT i, point(i, 20), point(i, 30), 2 FROM generate_series(700, 720) i;
CREATE TABLE empty (v real[]);
CREATE INDEX empty_idx ON empty USING ivfremote (v);
CREATE UNLOGGED TABLE unlogged AS SELECT id, v FROM many;
CREATE INDEX unlogged_idx ON unlogged USING ivfremote (v) WITH (lists = 5, flush_threshold = 1);
});
$healthy{$_} = 1 for 'cosine', 'ip', 'partial', 'expression', 'empty', 'unlogged';
for my $vacuumed (0, 1)
{
	sql('VACUUM many; INSERT INTO many SELECT i, point(i, 20), point(i, 30), 2 FROM generate_series(900, 950) i') if $vacuumed;
	is(problems($_, 'true'), '', "nothing is wrong with $_" . ($vacuumed ? ', vacuumed' : '')) for sort keys %healthy;
}
is(problems("t$_", 'true'), '', "nor with $damage[$_][0]") for grep { problems("t$_", 'true') ne '' } 0 .. $#damage;

my @paths = map { $node->data_dir . '/' . sql("SELECT pg_relation_filepath('t${_}_idx')") } 0 .. $#damage;
my @objects = map { sql("SELECT object_key FROM ivfremote_segments('t${_}_idx')") } 0 .. $#damage;
my $heap_path = $node->data_dir . '/' . sql(q{SELECT pg_relation_filepath('heap')});
$node->stop;
my @expected;
sub rewrite
{
	my ($path, $change) = @_;
	my $content = slurp_file($path, 0);
	my $returned = $change->(\$content);
	unlink $path or die $!;
	return $returned unless defined $content;
	open(my $file, '>:raw', $path) or die $!;
	print $file $content;
	close $file;
	return $returned;
}
for my $i (0 .. $#damage)
{
	my (undef, undef, $what, @patterns) = @{ $damage[$i] };
	my $returned = $objects[$i];
	if (ref $what eq 'CODE') { $returned = rewrite($paths[$i], $what) }
	else { rewrite("$store/$objects[$i]" . ($what->{part} || ''), $what->{object}) }
	s/< >/quotemeta $returned/ge for @patterns;
	push @expected, \@patterns;
}
# A line pointer that is used no more: an entry of the index outlives its row
rewrite($heap_path, sub { my ($f) = @_; set_number($f, 24 + 4 * 6, 'V', 0) });
$node->start;

for my $i (0 .. $#damage)
{
	my ($name) = @{ $damage[$i] };
	my ($status, $out, $err) = $node->psql('postgres', "SELECT v.* FROM ivfremote_verify('t${i}_idx', true) v");
	my @lines = split /\n/, $out;
	my @missing = grep { my $pattern = $_; !grep { /^$pattern$/ } @lines } @{ $expected[$i] };
	my @other = grep { my $line = $_; !grep { $line =~ /^$_$/ } @{ $expected[$i] } } @lines;
	ok($status == 0 && !@missing && !@other, "$name is named") or diag("expected ", join("\n", @{ $expected[$i] }), "\nfound $out\n$err");
}
like(problems('heap', 'true'), qr/^segment \d+\|index has a row that is not in the table\|\|\|\(0,7\)$/, 'an entry that outlives its row');
is(problems('heap', 'false'), '', '... is seen only beside the table');
is(problems('remote', 'true'), '', 'what is not damaged is healthy');

# A store that does not answer is an error, not damage
if ($faults)
{
	my $call = q{SELECT problem FROM ivfremote_verify('remote_idx')};
	error_like($node, q{SET ivfremote.test_fault = 'get_fail'}, $call, qr/^58030 \| could not read index "remote_idx" from server "store" \| .* \| Check the server/, 'an outage');
	error_like($node, q{SET ivfremote.test_fault = 'get_stall'; SET ivfremote.scan_timeout = '200ms'}, $call, qr/^58030 .*no answer within ivfremote.scan_timeout/, 'no answer');
	error_like($node, q{SET ivfremote.test_fault = 'get_stall'; SET statement_timeout = '300ms'}, $call, qr/^57014 /, 'cancelled');
	error_like($node, q{SET ivfremote.test_fault = 'get_denied'}, $call, qr/^42501 /, 'refused');
	like(sql(q{SET ivfremote.test_fault = 'get_flip_byte'; SELECT problem FROM ivfremote_verify('remote_idx')}), qr/^checksum mismatch in the segment's header.*block of list \d+: checksum mismatch/s, 'wrong bytes are problems, and it goes on');
}

# Who may, on what
sql(q{CREATE ROLE somebody; CREATE ROLE monitor IN ROLE pg_monitor});
error_like($node, 'SET ROLE somebody', q{SELECT ivfremote_verify('pages_idx')}, qr/^42501 \| must be owner of table pages/, 'the owner may, others not');
error_like($node, 'SET ROLE monitor', q{SELECT ivfremote_verify('pages_idx')}, qr/^42501/, 'nor pg_monitor');
error_like($node, '', q{SELECT ivfremote_verify('pg_class_oid_index')}, qr/^42809 /, 'only our indexes');
is(sql('SELECT ivfremote_verify(NULL)'), '', 'NULL');
# --------------------------------------------------------------------------------------------------------------------
# What ivfremote_info and ivfremote_segments say of dead rows, flushes and lists

sub info { return sql("SELECT $_[0] FROM ivfremote_info('info_idx')") }
sql(q{
CREATE TABLE info AS SELECT i AS id, point(i, 20) AS v FROM generate_series(1, 1000) i;
CREATE INDEX info_idx ON info USING ivfremote (v) WITH (lists = 20, flush_threshold = 1000000, server = store)});
is(info('trained, segments, segment_rows, pending_rows, live_rows, dead_rows, last_flush'), 'f|0|0|1000|1000|0|', 'untrained: all rows are pending');
sql(q{ALTER INDEX info_idx SET (flush_threshold = 1)});
sql(q{REINDEX INDEX info_idx; ALTER INDEX info_idx SET (flush_threshold = 1000000)});
my $counts = 'segments, segment_rows, pending_rows, live_rows, dead_rows, sealed_rows';
is(info($counts), '1|1000|0|1000|0|0', 'built');
is(info('pending_since, last_flush, reclaimable_bytes, remote_bytes = segment_bytes'), '||0|t', 'nothing pending, nothing flushed, nothing to reclaim, all remote');
sql(q{INSERT INTO info SELECT i, point(i, 20) FROM generate_series(1001, 1100) i; DELETE FROM info WHERE id % 4 = 0});
is(info($counts), '1|1000|100|1100|0|0', 'deleted, not yet vacuumed');
sql(q{VACUUM info});
is(info($counts), '1|1000|100|825|275|0', 'vacuumed');
is(info('pending_since BETWEEN now() - interval \'1 hour\' AND now(), abs(reclaimable_bytes - segment_bytes / 4) < 2'), 't|t', 'since when, and a quarter to reclaim');
is(sql(q{SELECT rows, live_rows, abs(reclaimable_bytes - bytes / 4) < 2 FROM ivfremote_segments('info_idx')}), '1000|750|t', 'the same of the segment');
if ($faults)
{
	my $failed = sql(q{SET ivfremote.test_point = 'seal.published=error'; SELECT attempt($$SELECT ivfremote_flush('info_idx')$$)});
	like($failed, qr/test point/, 'a flush fails');
	is(info($counts), '1|1000|100|825|275|100', 'its rows are sealed') or diag($failed);
}
is(sql(q{SELECT ivfremote_flush('info_idx')}), 75, 'flushed');
is(info($counts), '2|1075|0|825|250|0', 'a second segment');
is(info('pending_since, last_flush BETWEEN now() - interval \'1 hour\' AND now(), remote_bytes = segment_bytes'), '|t|t', 'flushed when');
is(sql(q{SELECT string_agg(rows || ' ' || live_rows, ', ' ORDER BY segment_id) FROM ivfremote_segments('info_idx')}), '1000 750, 75 75', 'rows of each');
cmp_ok(info('imbalance'), '<', 0.3, 'lists as long as they should be');
sql(q{INSERT INTO info SELECT i, point(7, 20) FROM generate_series(2001, 2400) i; SELECT ivfremote_flush('info_idx')});
cmp_ok(info('imbalance'), '>', 0.27, 'of 1475 rows 400 and more are in one list');
is(problems('info', 'true'), '', 'nothing is wrong with it');
no_crash($node);
$node->stop;
done_testing();
