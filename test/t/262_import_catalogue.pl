# Catalogues that nobody's tool has written: each is refused as a whole or taken
# once; a random history against a model; a server that is killed.

use strict;
use warnings;

use LeyserImport;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $seed = $ENV{LEYSER_SEED} // time;
srand($seed);
note("LEYSER_SEED=$seed");

my $node = new_node('catalogue_input', conf => "restart_after_crash = on");
$node->safe_psql('postgres', q{
	CREATE ROLE keeper LOGIN; SELECT leyser.grant_usage('keeper', 'backup');
	CREATE ROLE nobody LOGIN;
});
my $system = $node->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()');
my $begin = time - 400 * 86400;

sub import_of
{
	my ($json, $more) = @_;

	return q{SELECT * FROM leyser.import_backups('pgbackrest', } . catalogue_of($json) . ($more // '') . ')';
}

# One test: refused with this SQLSTATE and a hint, and the books are unchanged.
sub is_no_catalogue
{
	my ($statement, $sqlstate, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	changes_nothing($node, sub {
		my ($got, $message) = sqlstate_of($node, $statement, user => 'keeper');
		is($got, $sqlstate, $name) or diag($message);
		like($message, qr/^HINT:  \S/m, '... with a hint');
	}, '... and the books unchanged');
	return;
}

my %full = (label => '20260101-000000F', start => $begin, type => 'full', lsn => 0x2000028);
my %diff = (label => '20260101-000000F_20260102-000000D', start => $begin + 86400, type => 'diff', lsn => 0x3000028,
	prior => '20260101-000000F');
my $good = pgbackrest_catalogue($system, \%full, \%diff);

# Who may call it, and with what.
is_refused($node, import_of($good), '42501', 'a role without usage may not import', user => 'nobody');
is_no_catalogue(q{SELECT leyser.import_backups('borg', '[]')}, '22023', 'an unknown tool');
is_no_catalogue(q{SELECT leyser.import_backups(NULL, '[]')}, '22023', 'no tool');
is_no_catalogue(q{SELECT leyser.import_backups('pgbackrest', NULL)}, '22023', 'no catalogue');
is_no_catalogue(import_of($good, q{, label => 'x'}), '22023', 'a label, where the catalogue has them');
is_no_catalogue(import_of($good, q{, region => 'US'}), '22023', 'a region that is not in the policy');
is_refused($node, import_of('[{'), '22P02', 'no JSON', user => 'keeper');
is_refused($node, 'BEGIN ISOLATION LEVEL REPEATABLE READ; ' . import_of($good), '25000', 'a snapshot from before');

# Foreign and damaged JSON.
for my $json ('null', '5', '"x"', '{}', '{"main": {}}', '[5]', '[null]', '[{}]', '[[]]', '{"PostgreSQL-Backup-Manifest-Version": 1}')
{
	is_no_catalogue(import_of($json), '22023', "$json for pgbackrest");
}
is_no_catalogue("SELECT leyser.import_backups('$_', " . catalogue_of($good) . ')', '22023', "pgBackRest's catalogue for $_")
  for qw(barman backup_manifest);
is_no_catalogue(q{SELECT leyser.import_backups('barman', '{"global": {"system_info": {"timestamp": "x"}}, "servers": []}')}, '22023',
	'servers that are no object');
my @damages = (
	[ '"label":"20260101-000000F"', '"label":5', '22023', 'a label that is a number' ],
	[ '"label":"20260101-000000F"', '"label":""', '22023', 'an empty label' ],
	[ '"label":"20260101-000000F"', '"label":"' . ('x' x 100_000) . '"', '22023', 'a huge label' ],
	[ '"type":"full"', '"type":"other"', '22023', 'an unknown type' ],
	[ '"type":"full"', '"kind":"full"', '22023', 'no type' ],
	[ '"system-id":\d+', '"system-id":"x"', '22023', 'a system that is no number' ],
	[ '"system-id":\d+', '"system-id":1e30', '22003', 'a huge system' ],
	[ '"system-id":\d+', '"system-id":1.5', '22P02', 'half a system' ],
	[ '"db":\[.*?\]', '"db":[]', '22023', 'a database that is not told' ],
	[ '"db":\[.*?\]', '"db":5', '22023', 'databases that are none' ],
	[ '"start":\d+', '"start":1e300', '22003', 'a huge time' ],
	[ '"start":\d+', '"start":9000000000000000', '22008', 'a time beyond all calendars' ],
	[ '"start":\d+', '"start":4000000000', '22023', 'a time to come' ],
	[ '"start":\d+', '"start":"now"', '22023', 'a time that is text' ],
	[ '"stop":\d+', '"stop":5', '22023', 'an end before the beginning' ],
	[ '"start":"0/2000028"', '"start":"0/9000028"', '22023', 'WAL that ends before it begins' ],
	[ '"start":"0/2000028"', '"start":"nowhere"', '22P02', 'an LSN that is none' ],
	[ '"start":"0{7}10{15}2"', '"start":"x"', '22023', 'a segment that is none' ],
	[ '"repository":\{"delta":1', '"repository":{"delta":-1', '22023', 'a negative size' ],
	[ '"repository":\{"delta":1', '"repository":{"delta":99999999999999999999', '22003', 'a huge size' ],
	[ '"prior":"20260101-000000F"', '"prior":"20250101-000000F"', '22023', 'a parent that nobody knows' ],
	[ '"prior":"20260101-000000F"', '"prior":"20260101-000000F_20260102-000000D"', '22023', 'a backup that needs itself' ],
	[ '"prior":"20260101-000000F"', '"prior":null', '22023', 'a differential one without a parent' ],
	[ '"backup":\[', '"backup":[5,', '22023', 'a backup that is a number' ],
	[ '"backup":\[', '"backups":[', '22023', 'no backups' ],
	[ '"repo":\[.*?\}\]', '"repo":null', '22023', 'no repositories' ],
	[ '_20260102-000000D"', '"', '22023', 'two of one label' ]);
for my $damage (@damages)
{
	my ($from, $to, $sqlstate, $name) = @$damage;
	(my $json = $good) =~ s/$from/$to/ or die "no $from";
	is_no_catalogue(import_of($json), $sqlstate, $name);
}

# Labels are data.
my $label = q{'; DROP TABLE x; -- "é};
(my $quoted = $label) =~ s/"/\\"/g;
is($node->safe_psql('postgres', import_of(pgbackrest_catalogue($system, { %full, label => $quoted }))), '1|0|0', 'a label with quotes and dashes');
is($node->safe_psql('postgres', 'SELECT label FROM leyser.generation_record'), $label, '... is kept as it is');
$node->safe_psql('postgres', 'DELETE FROM leyser.generation_record');

# Regions.
$node->safe_psql('postgres', q{SELECT leyser.set_backup_policy(regions => '{JP,KR}')});
is_no_catalogue(import_of($good), '22023', 'one of two regions must be named');
is($node->safe_psql('postgres', import_of($good, q{, region => 'KR', location => 's3://x'})), '2|0|0', '... and is');
my $later = pgbackrest_catalogue($system, \%full, \%diff, { %full, label => 'later', start => $begin + 3 * 86400, lsn => 0x4000028 });
is($node->safe_psql('postgres', import_of($later)), '1|0|0', 'a source stays where it was');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT region, ',') FROM leyser.generation_record}), 'KR', '... and is known to');
$node->safe_psql('postgres', q{SELECT leyser.set_backup_policy(regions => '{JP}'); DELETE FROM leyser.generation_record});

# Empty, partial and late catalogues delete nothing.
$node->safe_psql('postgres', import_of($later));
changes_nothing($node, import_of($_->[0]), "$_->[1] deletes nothing")
  for [ '[]', 'no stanza' ], [ pgbackrest_catalogue($system), 'a stanza without backups' ],
  [ pgbackrest_catalogue($system, \%full, \%diff), 'a catalogue of yesterday' ];
(my $unreadable = pgbackrest_catalogue($system, { %full, label => 'later', start => $begin + 3 * 86400, lsn => 0x4000028 })) =~
  s/"code":0/"code":99/g;
changes_nothing($node, import_of($unreadable), 'a repository with an error deletes nothing');
$node->safe_psql('postgres', 'DELETE FROM leyser.generation_record');

# ---- a random history ----

# What leyser is to hold: label => state.
my %model;
my %backups;
my $clock = $begin;
my ($moves, $rounds, $made) = (0, 40, 0);

sub model_orphans
{
	for my $backup (sort { $a->{start} <=> $b->{start} } values %backups)
	{
		my $parent = $backup->{prior};
		$model{ $backup->{label} } = 'orphan'
		  if defined $parent && $model{ $backup->{label} } =~ /^complete$/ && $model{$parent} =~ /^(failed|orphan|deleted)$/;
	}
	return;
}

for my $round (1 .. $rounds)
{
	for (1 .. int(rand(4)))
	{
		my @parents = grep { $backups{$_}{there} } sort keys %backups;
		my $parent = @parents && rand() < 0.5 ? $parents[ rand @parents ] : undef;
		my $new = { label => 'B' . ++$made, start => $clock += 3600, lsn => 0x2000028 + $clock - $begin,
			type => defined $parent ? (rand() < 0.5 ? 'diff' : 'incr') : 'full', prior => $parent, error => rand() < 0.15, there => 1 };
		$backups{ $new->{label} } = $new;
		$model{ $new->{label} } = $new->{error} ? 'failed' : 'complete';
	}
	# damage, and removal: with what needs it, or (a damaged repository) without
	for my $backup (grep { $_->{there} } map { $backups{$_} } sort keys %backups)
	{
		$backup->{error} = 1 if rand() < 0.05;
		# what another one needs was seen once: without it a catalogue is none
		my $needed = !$backup->{seen} && grep { ($_->{prior} // '') eq $backup->{label} } values %backups;
		$backup->{there} = 0 if rand() < 0.1 && !$needed;
		$model{ $backup->{label} } = 'failed' if $backup->{there} && $backup->{error};
	}
	my @there = sort { $a->{start} <=> $b->{start} } grep { $_->{there} } values %backups;
	my $json = pgbackrest_catalogue($system, @there);
	my $recorded = $node->safe_psql('postgres', import_of($json), extra_params => [ '-U', 'keeper' ]);
	# what was never seen is in no books; what is newer than the catalogue is not judged
	my $newest = @there ? $there[-1]{start} : 0;
	for my $backup (values %backups)
	{
		next if $backup->{there};
		if (!$backup->{seen}) { delete $model{ $backup->{label} } }
		elsif ($backup->{start} <= $newest) { $model{ $backup->{label} } = 'deleted' }
	}
	$_->{seen} = 1 for @there;
	delete $backups{ $_->{label} } for grep { !$_->{there} && !$_->{seen} } values %backups;
	model_orphans();
	is($node->safe_psql('postgres', q{SELECT string_agg(label || ' ' || state, ',' ORDER BY label COLLATE "C") FROM leyser.generation_record}),
		join(',', map { "$_ $model{$_}" } sort keys %model), "round $round: $recorded") or last;
	changes_nothing($node, import_of($json), '... and again nothing');
	$moves += $recorded ne '0|0|0';
}
cmp_ok($moves, '>', $rounds / 4, 'the history moved');

# ---- kill -9 ----

$node->safe_psql('postgres', 'DELETE FROM leyser.generation_record; DELETE FROM leyser.wal_archive_record');
my @many = map { { %full, label => "M$_", start => $begin + 3600 * $_, lsn => 0x2000028 + 4096 * $_ } } 1 .. 1000;
my $file = PostgreSQL::Test::Utils::tempdir() . '/import.sql';
append_to_file($file, import_of(pgbackrest_catalogue($system, @many)) . ";\n");
my %found;
my $killed = 0;
for my $kill (1 .. 8)
{
	my $run = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', $file ], '>', '/dev/null', '2>', '/dev/null');
	usleep(20_000 + rand(300_000));
	my $pid = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'client backend' AND query ~ 'import_backups' AND pid <> pg_backend_pid()});
	if ($pid ne '')
	{
		kill 'KILL', $pid;
		$killed++;
	}
	eval { $run->finish };
	wait_for_server($node);
	$found{ $node->safe_psql('postgres', 'SELECT count(*) FROM leyser.generation_record') }++;
	$node->safe_psql('postgres', 'DELETE FROM leyser.generation_record') if $kill < 5;
}
cmp_ok($killed, '>', 0, 'imports were killed');
is(join(',', grep { !/^(0|1000)$/ } keys %found), '', 'an import that is killed is whole or nothing');
note(join(', ', map { "$_: $found{$_}" } sort keys %found));
$node->safe_psql('postgres', slurp_file($file));
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT label) FROM leyser.generation_record'), '1000|1000',
	'... and in the end each is there once');
is($node->safe_psql('postgres', slurp_file($file)), '0|0|0', '... and again nothing');

$node->stop('immediate');
done_testing();
