# The README's reference is the catalogue's: functions with their arguments and defaults, views
# with their columns, settings, jobs, events.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = dirname(dirname(dirname(abs_path(__FILE__))));
my $readme = slurp_file("$root/README.md");
my ($reference) = $readme =~ /^## Reference\n(.*?)^## /ms or die 'the README has no reference';
my ($settings) = $readme =~ /^## Settings\n(.*?)^## /ms or die 'the README has no settings';
my $node = new_node('readme_reference');

# What two lists do not share, in words.
sub difference
{
	my ($documented, $present) = @_;
	my %documented = map { $_ => 1 } @$documented;
	my %present = map { $_ => 1 } @$present;

	return join "\n", (map { "not there: $_" } grep { !$present{$_} } sort keys %documented),
	  map { "not in the README: $_" } grep { !$documented{$_} } sort keys %present;
}

sub rows_of
{
	my ($sql) = @_;
	return split /\n/, $node->safe_psql('postgres', $sql);
}

# A default as a value, for a literal can be written in many ways; a call as its name.
my %values;

sub value_of
{
	my ($default, $type) = @_;

	return $default =~ s/::\w+|leyser\.|[()]//gr if $default =~ /\w\(/;
	return $values{"$default $type"} //= $node->safe_psql('postgres', "SELECT coalesce(($default)::$type\::text, 'null')");
}

sub function_line
{
	my ($name, @arguments) = @_;
	return sprintf '%s(%s)', $name, join ', ', map { defined $_->[2] ? "$_->[0] $_->[1] = " . value_of(@$_[ 2, 1 ]) : "$_->[0] $_->[1]" } @arguments;
}

# ---- functions ----

my %types = map { split /\|/ } rows_of(q{SELECT a || '|' || a::regtype FROM unnest('{bigint,integer,text,text[],name,name[],boolean,interval,
	timestamptz,date,time,jsonb,uuid,inet,bytea,pg_lsn,regclass,regrole,regnamespace,regprocedure,anyelement}'::text[]) a});
my @documented;
while ($reference =~ /^\| ([^|]*`[^|]*) \|/mg)
{
	my $cell = $1;
	while ($cell =~ /`(?:CALL )?([a-z]\w*)\(((?:[^()`]|\(\))*)\)[^`]*`/g)
	{
		my ($name, $arguments) = ($1, $2);
		push @documented, function_line($name, map { /^(\w+) (\S+)(?: DEFAULT (.*))?$/ or die "$name: $_"; [ $1, $types{$2} // die("type $2"), $3 ] } split /, /, $arguments);
	}
}
my %functions;
foreach (rows_of(q{
	SELECT concat_ws('|', p.oid, p.proname, p.proargnames[n.i], p.proargtypes[n.i - 1]::regtype, pg_get_function_arg_default(p.oid, n.i))
	FROM pg_proc p LEFT JOIN LATERAL generate_series(1, p.pronargs) n (i) ON true
	WHERE p.pronamespace = 'leyser'::regnamespace AND obj_description(p.oid, 'pg_proc') !~ '^internal'
	ORDER BY p.oid, n.i}))
{
	my ($oid, $name, @argument) = split /\|/;
	$functions{$oid} //= [$name];
	push @{ $functions{$oid} }, \@argument if @argument;
}

# A date, a text and the refused timestamp are told in words.
my @present = grep { !/^terminate_contract\(.*effective_at (?!timestamp with time)/ } map { function_line(@$_) } values %functions;
cmp_ok(scalar(@documented), '>', 120, 'the reference has functions');
is(difference(\@documented, \@present), '', 'functions, arguments and defaults');

# ---- views, settings, jobs ----

my @views = map { my ($view, $columns) = @$_; "$view: " . join ', ', map { s/ .*//r } split /, /, $columns } pairs_of($reference, qr/view `(\w+) \(([^)]*)\)`/);
is(difference(\@views, [ rows_of(q{
	SELECT c.relname || ': ' || string_agg(a.attname, ', ' ORDER BY a.attnum) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
	WHERE c.relnamespace = 'leyser'::regnamespace AND c.relkind = 'v' AND obj_description(c.oid, 'pg_class') !~ '^internal' GROUP BY c.oid}) ]), '', 'views and columns');

sub pairs_of
{
	my ($text, $pattern) = @_;
	my @pairs;

	push @pairs, [ $1, $2 ] while $text =~ /$pattern/g;
	return @pairs;
}

my %contexts = ('`postgresql.conf`, restart' => 'postmaster', '`postgresql.conf`, reload' => 'sighup', superuser => 'superuser');
my @settings = map { "$_->[0] $contexts{$_->[1]}" } grep { $contexts{ $_->[1] } } pairs_of($settings, qr/^\| `(leyser\.\w+)` \| ([^|]+) \|/m);
is(difference(\@settings, [ rows_of(q{SELECT name || ' ' || context FROM pg_settings WHERE name ~ '^leyser\.'}) ]), '', 'settings, and who sets them');

my ($jobs) = $readme =~ /^\| job \| when \| what \|\n\|.*?\n(.*?)^$/ms or die 'the README has no jobs';
is(difference([ map { /`([^`]+)`/g } $jobs =~ /^\| ([^|]+) \|/mg ], [ rows_of('SELECT job FROM leyser.job_kinds()') ]), '', 'jobs of the heartbeat');

# ---- events ----

# Where one is recorded its name stands among the first arguments.
my $sources = join '', map { slurp_file($_) } glob("$root/sql/*.sql $root/src/*.c");
my %events;
while ($sources =~ /record_?(?:\w*event|event_lasting|event_record\w*|disclosure|change)\w*\((.{0,160})/sg)
{
	my $arguments = $1 =~ s/;.*//sr;
	$events{$_} = 1 foreach grep { !/^cron\.|\.h$/ } $arguments =~ /['"]([a-z_]+\.[a-z_]+)['"]/g;
}
cmp_ok(scalar(keys %events), '>', 100, 'the sources record events');
my ($told) = $readme =~ /^\| of \| events \|\n(.*?)^$/ms or die 'the README has no events';
my %told = map { $_ => 1 } $told =~ /`([a-z_]+\.[a-z_]+)`/g;
is(join(' ', grep { !$told{$_} } sort keys %events), '', 'each event that is recorded is told');
is(join(' ', grep { $sources !~ /['"\\]\Q$_\E['"\\]/ && !/^notice\./ } sort keys %told), '', 'each event that is told is recorded');

$node->stop;
done_testing();
