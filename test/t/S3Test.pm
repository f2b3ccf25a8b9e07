# What the tests of S3 servers share: servers with a user mapping, and rows.
package S3Test;

use strict;
use warnings;
use Exporter 'import';

our @EXPORT = qw(add_s3_server mapping_options random_items);

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

1;
