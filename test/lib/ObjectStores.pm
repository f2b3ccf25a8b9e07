# Real object stores for TAP tests: radosgw, and nginx in front of it (see test/stores). To be started before the first
# test: if a package is missing, all of them are skipped. The stores stop with the test, however it ends.
#
#   use FindBin;
#   use lib "$FindBin::Bin/../lib";
#   use ObjectStores;
#
#   my $store = start_radosgw();
#   my $front = start_nginx($store);
#   $store->create_bucket('items');
#   $front->fault(delay => 30, jitter => 10);
#   ... url 's3://items', endpoint $front->endpoint('faulty_http') ...
#   is(scalar waves(grep { $_->{method} eq 'GET' } $front->access_log), 1, 'one wave');
package ObjectStores;

use strict;
use warnings;
use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename;
use File::Temp;
use Test::More;

our @EXPORT = qw(start_radosgw start_nginx waves concurrency);

my $scripts = abs_path(dirname(__FILE__) . '/../stores');
my $missing_packages = 77;
my @started;

# An S3 server: a hash of access_key, secret_key, region, http_port, https_port, domain and ca_file. sts => 1: with
# session tokens; memory => bytes.
sub start_radosgw
{
	my (%options) = @_;
	local $ENV{STS} = $options{sts} || '';
	local $ENV{MEMORY} = $options{memory} || '';
	my ($directory, %env) = _start('radosgw.sh');
	return _keep(
		'ObjectStores::Radosgw',
		script => 'radosgw.sh',
		directory => $directory,
		access_key => $env{AWS_ACCESS_KEY_ID},
		secret_key => $env{AWS_SECRET_ACCESS_KEY},
		region => $env{AWS_DEFAULT_REGION},
		http_port => $env{S3_HTTP_PORT},
		https_port => $env{S3_HTTPS_PORT},
		domain => $env{S3_DOMAIN},
		ca_file => $env{S3_CA_FILE});
}

# A front of what start_radosgw returned, or of a port: a hash of http_port, https_port, faulty_http_port,
# faulty_https_port, ca_file and log_file.
sub start_nginx
{
	my ($upstream) = @_;
	my ($directory, %env) = _start('nginx.sh', ref $upstream ? $upstream->{http_port} : $upstream);
	return _keep(
		'ObjectStores::Nginx',
		script => 'nginx.sh',
		directory => $directory,
		log_offset => 0,
		http_port => $env{FRONT_HTTP_PORT},
		https_port => $env{FRONT_HTTPS_PORT},
		faulty_http_port => $env{FRONT_FAULTY_HTTP_PORT},
		faulty_https_port => $env{FRONT_FAULTY_HTTPS_PORT},
		ca_file => $env{FRONT_CA_FILE},
		log_file => $env{FRONT_ACCESS_LOG});
}

# Requests of an access log as a list of waves: arrays of requests, each begun before all of those before it had ended.
sub waves
{
	my @waves;
	my $end = 0;
	for my $request (sort { $a->{start} <=> $b->{start} } @_)
	{
		push @waves, [] if !@waves || $request->{start} >= $end;
		push @{ $waves[-1] }, $request;
		$end = $request->{end} if $request->{end} > $end;
	}
	return @waves;
}

# How many requests of an access log were under way at a time, at most.
sub concurrency
{
	my ($now, $most) = (0, 0);
	# At the same time, ends come first.
	for my $event (sort { $a->[0] <=> $b->[0] || $a->[1] <=> $b->[1] } map { ([ $_->{start}, 1 ], [ $_->{end}, -1 ]) } @_)
	{
		$now += $event->[1];
		$most = $now if $now > $most;
	}
	return $most;
}

sub _start
{
	my ($script, @arguments) = @_;
	my $directory = File::Temp::tempdir('ivfremote-store.XXXXXX', TMPDIR => 1);
	local $ENV{OWNER_PID} = $$;
	my ($status, $output) = _run("$scripts/$script", 'start', $directory, @arguments);
	rmdir $directory if $status;
	if ($status == $missing_packages)
	{
		diag("SKIPPED: $output");
		plan skip_all => $output;
	}
	BAIL_OUT($output) if $status;
	return ($directory, map { /^(\w+)=(.*)/ ? ($1 => $2) : () } split /\n/, $output);
}

sub _keep
{
	my ($class, %fields) = @_;
	push @started, bless {%fields}, $class;
	return $started[-1];
}

# Exit status and trimmed output.
sub _run
{
	my (@command) = @_;
	my $pid = open(my $out, '-|') // die "fork: $!";
	if (!$pid)
	{
		open(STDERR, '>&', \*STDOUT);
		exec(@command) || exit 127;
	}
	my $output = do { local $/; <$out> } // '';
	close($out);
	$output =~ s/\s+\z//;
	return ($? >> 8, $output);
}

my $owner = $$;

END
{
	my $status = $?;
	if ($$ == $owner)
	{
		_run("$scripts/$_->{script}", 'stop', $_->{directory}) for reverse @started;
	}
	$? = $status;
}

# What both have.
package ObjectStores::Store;

sub command
{
	my ($self, $command, @arguments) = @_;
	my ($status, $output) = ObjectStores::_run("$scripts/$self->{script}", $command, $self->{directory}, @arguments);
	die "$self->{script} $command: $output\n" if $status;
	return $output;
}

# endpoint('http'), endpoint('faulty_https') ... as a url, by address.
sub endpoint
{
	my ($self, $kind) = @_;
	my $scheme = $kind =~ /https$/ ? 'https' : 'http';
	return "${scheme}://127.0.0.1:" . $self->{"${kind}_port"};
}

package ObjectStores::Radosgw;

our @ISA = ('ObjectStores::Store');

sub create_bucket { my ($self, $name) = @_; $self->command('bucket', $name); return; }
sub kill_gateway { my ($self) = @_; $self->command('gateway-kill'); return; }
# With its clock off by `offset`, e.g. '+20m', if given.
sub start_gateway { my ($self, @offset) = @_; $self->command('gateway-start', @offset); return; }

# A user who owns nothing.
sub create_user
{
	my ($self, $name, $access_key, $secret_key) = @_;
	$self->command('user', $name, $access_key, $secret_key);
	return;
}

# Other keys for its user; the old ones are worth nothing any more.
sub rotate
{
	my ($self, $access_key, $secret_key) = @_;
	$self->command('rotate', $access_key, $secret_key);
	@{$self}{qw(access_key secret_key)} = ($access_key, $secret_key);
	return;
}

# Temporary access_key, secret_key and session_token, as a hash; only if started with sts => 1.
sub session
{
	my ($self) = @_;
	my %env = $self->command('session') =~ /^AWS_(\w+)=(.*)$/mg;
	return (
		access_key => $env{ACCESS_KEY_ID},
		secret_key => $env{SECRET_ACCESS_KEY},
		session_token => $env{SESSION_TOKEN});
}

# Status and body of a request by curl, straight to the gateway. The target is encoded, its query sorted, `?name=` has
# its '='; more arguments are curl's.
sub request
{
	my ($self, $method, $target, @arguments) = @_;
	my ($status, $output) = ObjectStores::_run(
		'curl', '-s', '-S', '--globoff', '--path-as-is', '--aws-sigv4', "aws:amz:$self->{region}:s3", '-u',
		"$self->{access_key}:$self->{secret_key}", '-H', 'x-amz-content-sha256: UNSIGNED-PAYLOAD', '-w', '\n%{http_code}',
		($method eq 'HEAD' ? '-I' : ('-X', $method)), @arguments, $self->endpoint('http') . $target);
	die "$method $target: $output\n" if $status || $output !~ s/\n?(\d+)\z//;
	return ($1, $output);
}

# Keys of a bucket's first 1000 objects, or of its unfinished uploads.
sub objects { my ($self, $bucket) = @_; return $self->_keys("/$bucket?list-type=2"); }
sub uploads { my ($self, $bucket) = @_; return $self->_keys("/$bucket?uploads="); }

sub _keys
{
	my ($self, $target) = @_;
	my ($status, $body) = $self->request('GET', $target);
	die "$target: $status $body\n" if $status != 200;
	return $body =~ m{<Key>([^<]*)</Key>}g;
}

package ObjectStores::Nginx;

use HTTP::Tiny;

our @ISA = ('ObjectStores::Store');

my @fields = qw(start end port connection request method uri range status sent received complete fault);

# What the faulty ports do from now on, instead of what they did; nothing: no faults. test/stores/faults.lua has the
# names.
sub fault
{
	my ($self, %faults) = @_;
	$self->_ask('_fault?' . HTTP::Tiny->new->www_form_urlencode(\%faults));
	return;
}

# All requests that ended since the start or the last clear_log, in the order of their end: hashes of start, end
# (seconds), port, connection, request, method, uri, range, status, sent, received (bytes), complete and fault; undef is
# nothing.
sub access_log
{
	my ($self) = @_;
	my $log = $self->_open_log;
	my @requests;
	while (my $line = <$log>)
	{
		chomp $line;
		my %request;
		@request{@fields} = map { $_ eq '-' || $_ eq '' ? undef : $_ } split /\t/, $line, -1;
		push @requests, \%request;
	}
	return @requests;
}

sub clear_log
{
	my ($self) = @_;
	my $log = $self->_open_log;
	seek($log, 0, 2);
	$self->{log_offset} = tell $log;
	return;
}

sub _open_log
{
	my ($self) = @_;
	# nginx has one process: once it answers, it has written of what it answered before.
	$self->_ask('_sync');
	open my $log, '<', $self->{log_file} or die "$self->{log_file}: $!";
	seek($log, $self->{log_offset}, 0);
	return $log;
}

sub _ask
{
	my ($self, $target) = @_;
	my $answer = HTTP::Tiny->new(timeout => 10)->get($self->endpoint('faulty_http') . "/$target");
	die "nginx: $target: $answer->{status} $answer->{content}" unless $answer->{success};
	return;
}

1;
