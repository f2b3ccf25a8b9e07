#!/usr/bin/perl
# check_exports.pl MODULE SQL...: the module exports exactly what the SQL scripts name and what Postgres looks up itself.
use strict;
use warnings;

my ($module, @scripts) = @ARGV;
# ivfremote_build_worker, ivfremote_garbage_worker: what background workers are told to run.
my %expected = map { $_ => 1 } qw(Pg_magic_func _PG_init ivfremote_build_worker ivfremote_garbage_worker);
for my $script (@scripts) {
    open my $file, '<', $script or die "$script: $!\n";
    my $sql = do { local $/; <$file> };
    $sql =~ s/--.*//g;
    # Without a second string, the symbol is the function's name.
    while ($sql =~ /\bCREATE\s+(?:OR\s+REPLACE\s+)?(?:FUNCTION|PROCEDURE)\s+(?:\w+\.)?(\w+)
                    (?:(?!\bCREATE\b).)*?'MODULE_PATHNAME'(?:\s*,\s*'(\w+)')?/gisx) {
        my $symbol = $2 // $1;
        $expected{$symbol} = $expected{"pg_finfo_$symbol"} = 1;
    }
}
my %exported = map { /(\S+)$/ ? ($1 => 1) : () } `nm -D --defined-only '$module'`;
die "$module: no symbols\n" if $? || !%exported;

my @missing = grep { !$exported{$_} } sort keys %expected;
my @extra = grep { !$expected{$_} } sort keys %exported;
print "not exported (add to exports.txt, or define): $_\n" for @missing;
print "exported, but in no SQL script: $_\n" for @extra;
exit(@missing || @extra ? 1 : 0);
