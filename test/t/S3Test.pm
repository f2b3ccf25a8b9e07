# What the tests of S3 servers share: servers with a user mapping, a session that goes on between checks, and numbers of
# what a process holds.
package S3Test;

use strict;
use warnings;
use Exporter 'import';
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

our @EXPORT = qw(add_s3_server start_session ask say_to quit mapping_options random_items);

# Options of a user mapping: a store's keys, or those given.
sub mapping_options
{
	my (%keys) = @_;
	my @options = ("access_key_id '$keys{access_key}'", "secret_access_key '$keys{secret_key}'");
	push @options, "session_token '$keys{session_token}'" if $keys{session_token};
	return 'OPTIONS (' . join(', ', @options) . ')';
}

# Server `name` for s3://`path` of a started store, with its keys for PUBLIC; more options by name.
sub add_s3_server
{
	my ($node, $name, $store, $path, %options) = @_;
	my $options = join '', map { ", $_ '$options{$_}'" } sort keys %options;
	$node->safe_psql('postgres', "CREATE SERVER $name FOREIGN DATA WRAPPER ivfremote OPTIONS (url 's3://$path', region '$store->{region}'$options);"
		. " CREATE USER MAPPING FOR PUBLIC SERVER $name " . mapping_options(%$store));
	return;
}

# Table `name` (id, v) of random rows.
sub random_items
{
	my ($node, $name, $rows, $dims) = @_;
	$node->safe_psql('postgres', qq{
SELECT setseed(0.25);
CREATE TABLE $name AS
  SELECT i AS id, (SELECT array_agg(random()::real) FROM generate_series(1, $dims) WHERE i > 0) AS v FROM generate_series(1, $rows) i;
ALTER TABLE $name ADD PRIMARY KEY (id);
ANALYZE $name});
	return;
}

# A psql that stays.
sub start_session
{
	my ($node, %options) = @_;
	my %session = (in => '', out => '', err => '', number => 0);
	local $ENV{PGAPPNAME} = $options{name} || 'session';
	my @user = $options{user} ? ('-U', $options{user}) : ();
	$session{run} = IPC::Run::start([ $node->installed_command('psql'), '-XAtq', @user, '-d', $node->connstr('postgres'), '-f', '-' ],
		'<', \$session{in}, '>', \$session{out}, '2>', \$session{err}, IPC::Run::timeout(120));
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
	$session->{run}->pump until $session->{out} =~ /^$marker$/m && $session->{err} =~ /^$marker$/m;
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

1;
