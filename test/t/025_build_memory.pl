# What a build takes of memory and disk: the backend stays within maintenance_work_mem and 128 MB of its own, whatever the
# table; its sample goes to temporary files, which obey temp_file_limit and are gone afterwards. A slow BLAS is named.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IvfTest;
use Test::More;

plan skip_all => 'needs /proc' unless -r '/proc/self/status';
my $node = new_node('build_memory', conf => "fsync = off\nshared_buffers = 32MB\nmax_parallel_maintenance_workers = 1\nmax_wal_size = 4GB\n");
# 61 MB of rows; and few, but of 64 kB each
$node->safe_psql('postgres', q{
SELECT setseed(0.5);
CREATE TABLE items (id int, v real[]);
ALTER TABLE items ALTER v SET STORAGE EXTERNAL;
INSERT INTO items SELECT i, (SELECT array_agg(random()::real) FROM generate_series(1, 512) WHERE i > 0) FROM generate_series(1, 30000) i;
CREATE TABLE narrow AS SELECT id, v[1:64] AS v FROM items WHERE id <= 12000;
CREATE TABLE wide (id int, v real[]);
ALTER TABLE wide ALTER v SET STORAGE EXTERNAL;
INSERT INTO wide SELECT i, (SELECT array_agg(random()::real) FROM generate_series(1, 16000) WHERE i > 0) FROM generate_series(1, 600) i;
ANALYZE;
});

# How many temporary files the last build left, as its session saw.
my $left;

# Builds in a session of its own; returns its peak of private memory in kB, the bytes of temporary files, its notices.
sub build
{
	my ($table, $options, $memory, $settings) = @_;
	my $temp_bytes = q{SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()};
	my $before = $node->safe_psql('postgres', $temp_bytes);
	my ($code, $out, $err) = $node->psql('postgres', qq{
SET maintenance_work_mem = '$memory'; $settings
CREATE INDEX built ON $table USING ivfremote (v) WITH (flush_threshold = 1, $options);
SELECT 'kB', (regexp_match(status, 'VmHWM:\\s+(\\d+)'))[1]::int - (regexp_match(status, 'RssShmem:\\s+(\\d+)'))[1]::int FROM pg_read_file('/proc/self/status') status;
SELECT 'left', count(*) FROM pg_ls_dir('base/pgsql_tmp', true, false)}, on_error_stop => 0);
	($left) = $out =~ /^left\|(\d+)$/m;
	my ($kilobytes) = $out =~ /^kB\|(\d+)$/m;
	return ($kilobytes, $node->safe_psql('postgres', $temp_bytes) - $before, $err);
}

sub left_behind
{
	my ($name) = @_;
	# Those of workers are in directories, which pg_ls_tmpdir leaves out; when the session has ended all are gone anyway.
	is($left, 0, "$name: no temporary file is left");
	return;
}

my $items_bytes = 30_000 * 512 * 4;
# Table, options, MB, the least temporary bytes, notices
my @builds = (
	# all rows are the sample; they spill from the store and again from the sort
	[ 'items', 'lists = 500', 4, 2 * $items_bytes ],
	[ 'items', 'lists = 500', 64, 2 * $items_bytes ],
	# one group: no sort by groups. 3840 lists' centroids of 2 kB take half of what there may be
	[ 'items', 'lists = 50', 4, $items_bytes / 3 ],
	[ 'items', 'lists = 3840', 4, 2 * $items_bytes ],
	[ 'items', 'lists = 500, quantization = none', 4, 2 * $items_bytes ],
	[ 'wide', 'lists = 200', 1, 600 * 64000, qr/^NOTICE: k-means uses \d+ sample rows, as few as [\d.]+ per list HINT: Set maintenance_work_mem to at least \d+MB\.$/ ],
	[ 'narrow', 'lists = 100', 64, 0 ]);
for my $case (@builds)
{
	my ($table, $options, $megabytes, $least, $notices) = @$case;
	my $name = "$table, $options, $megabytes MB";
	my ($kilobytes, $temp_bytes, $err) = build($table, $options, "${megabytes}MB", '');
	note(sprintf('%s: %.1f MB, %.1f MB of temporary files; %s', $name, $kilobytes / 1024, $temp_bytes / 2**20, $err));
	cmp_ok($kilobytes, '<=', ($megabytes + 128) * 1024, "$name: memory");
	cmp_ok($temp_bytes, '>=', $least, "$name: the sample spills");
	like(join(' ', $err =~ /(?:psql:\S+ )?(.+)\n?/g) =~ s/ +/ /gr, $notices || qr/^$/, "$name: notices");
	left_behind($name);
	my ($lists) = $options =~ /lists = (\d+)/;
	is($node->safe_psql('postgres', q{SELECT lists FROM ivfremote_info('built')}), $lists, "$name: lists");
	$node->safe_psql('postgres', 'DROP INDEX built');
}

# More lists than memory holds the centroids of: 16 MB are 8192 of 2 kB
my ($kilobytes, $temp_bytes, $err) = build('items', 'lists = 20000', '4MB', '');
like($err, qr/NOTICE:  index "built" gets 8192 lists rather than 20000\nHINT:  Set maintenance_work_mem to at least 157MB\./, 'too many lists for memory: the notice');
cmp_ok($kilobytes, '<=', (4 + 128) * 1024, 'too many lists for memory: they are reduced');
is($node->safe_psql('postgres', q{SELECT lists FROM ivfremote_info('built')}), 8192, 'too many lists for memory: as many as fit');
$node->safe_psql('postgres', 'DROP INDEX built');

# The user's limit on temporary files, hit by the sample and by the sort of it; larger than that, the build succeeds
for my $limit ('10MB', '70MB')
{
	($kilobytes, $temp_bytes, $err) = build('items', 'lists = 500', '4MB', "SET temp_file_limit = '$limit'; \\set VERBOSITY verbose\n");
	like($err, qr/ERROR:  53400: temporary file size exceeds temp_file_limit/, "temp_file_limit = $limit: refused");
	left_behind("temp_file_limit = $limit");
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relname = 'built'}), 0, "temp_file_limit = $limit: no index");
}
($kilobytes, $temp_bytes, $err) = build('items', 'lists = 500', '4MB', "SET temp_file_limit = '300MB';");
unlike($err, qr/ERROR/, 'temp_file_limit = 300MB is enough');

# A session that has trained nothing measures recall on its own thread only
$node->safe_psql('postgres', 'CREATE INDEX narrow_idx ON narrow USING ivfremote (v) WITH (flush_threshold = 1, lists = 10)');
is($node->safe_psql('postgres', q{SELECT count(*) > 0 FROM ivfremote_recall('narrow_idx'); SELECT count(*) FROM pg_ls_dir('/proc/self/task')}), "t\n1", 'one thread after measuring recall');

# Another BLAS in place of OpenBLAS
SKIP:
{
	my $reference = `gcc -print-file-name=blas/libblas.so.3`;
	chomp $reference;
	skip 'libblas3 is not installed', 2 unless -e $reference;
	$node->stop;
	{
		local $ENV{LD_PRELOAD} = $reference;
		$node->start;
	}
	(undef, undef, $err) = build('narrow', 'lists = 10', '64MB', 'DROP INDEX built;');
	like($err, qr/NOTICE:  matrix products run at [\d.]+ GFLOP\/s with "libblas\.so\.3", which makes builds slow\nHINT:  Install OpenBLAS/, 'a slow BLAS is named');
	unlike($err, qr/ERROR/, 'and works');
}

no_crash($node);
$node->stop;
done_testing();
