# Barman, really run: what "barman diagnose" tells, in the books.

use strict;
use warnings;

use LeyserImport;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $folder = PostgreSQL::Test::Utils::tempdir_short();
my $node = new_node('barman', start => 0, init => { allows_streaming => 1 });
my $incoming = "$folder/home/main/incoming";
mkdir "$folder/brought";
$node->append_conf('postgresql.conf', qq{archive_mode = on
	archive_command = 'cp "%p" "$folder/.%f" && mv "$folder/.%f" "$folder/brought/%f"'});
$node->start;
create_extension($node, 'postgres');
$node->safe_psql('postgres', q{
	CREATE ROLE keeper LOGIN; SELECT leyser.grant_usage('keeper', 'backup');
});
chomp(my $bindir = `pg_config --bindir`);
my $configuration = barman_files($node, $folder, $bindir);

# One test: what an import of Barman's catalogue says.
sub import_gives
{
	my ($expected, $name) = @_;
	my $catalogue = catalogue_of(scalar barman($configuration, 'diagnose'));

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($stdout, $stderr);
	$node->psql('postgres', "SELECT * FROM leyser.import_backups('barman', $catalogue)",
		extra_params => [ '-U', 'keeper' ], stdout => \$stdout, stderr => \$stderr);
	is($stdout, $expected, $name) or diag($stderr);
	changes_nothing($node, "SELECT leyser.import_backups('barman', $catalogue)", '... once');
	return $stderr;
}

# Takes a backup; gives its name.
sub take_backup
{
	barman($configuration, 'backup', 'main');
	return (split ' ', barman($configuration, 'list-backups', '--minimal', 'main'))[0];
}

# Lets Barman have the WAL that the server has brought, save such a segment; it then
# looks whether the backups have theirs.
sub bring_wal
{
	my ($without, @backups) = @_;

	$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
	$node->poll_query_until('postgres', q{SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 1)
		OR pg_walfile_name_offset(pg_current_wal_lsn()) IS NULL FROM pg_stat_archiver});
	for my $segment (map { (split '/')[-1] } glob("$folder/brought/*"))
	{
		rename "$folder/brought/$segment", "$incoming/$segment" or die "no $segment: $!" if $segment ne $without;
	}
	barman($configuration, 'archive-wal', 'main');
	barman($configuration, 'check-backup', 'main', $_) for @backups;
	return;
}

# The folders are made by a first look; the first WAL by a switch.
barman($configuration, 'check', 'main');
bring_wal('');
import_gives('0|0|0', 'a server without backups');

my $first = take_backup();
import_gives('1|0|0', 'a backup whose WAL has not come yet');
is(generations($node, 'true'), 'full|running', '... is running');
bring_wal('', $first);
import_gives('0|1|0', 'it comes');
is(generations($node, 'true'), 'full|complete', '... and completes it');
is($node->safe_psql('postgres', q{
	SELECT g.source, g.label = '} . $first . q{', g.system_identifier = c.system_identifier, g.timeline, g.region, g.bytes > 0,
		g.stop_lsn > g.start_lsn, g.completed_at > g.started_at, clock_timestamp() - g.completed_at BETWEEN '0' AND '5 minutes'
	FROM leyser.generation_record g, pg_control_system() c}), 'main|t|t|1|JP|t|t|t|t', '... with all that the horizon needs');
is($node->safe_psql('postgres', q{
	SELECT w.oldest_lsn = g.start_lsn, w.oldest_segment = pg_walfile_name(g.start_lsn), w.newest_segment >= w.oldest_segment
	FROM leyser.wal_archive_record w, leyser.generation_record g}), 't|t|t', 'the archive begins with the oldest backup');

my $second = take_backup();
my $third = take_backup();
import_gives('2|0|0', 'two more');
bring_wal('', $second, $third);
import_gives('0|2|0', '... completed');
ok((barman($configuration, 'delete', 'main', $first))[1], 'Barman deletes the first');
import_gives('0|0|1', '... which is gone');
is(generations($node, 'true'), "full|deleted\nfull|complete\nfull|complete", '... and deleted');
is($node->safe_psql('postgres', q{
	SELECT w.oldest_lsn = (SELECT min(g.start_lsn) FROM leyser.generation_record g WHERE g.state = 'complete')
	FROM leyser.wal_archive_record w}), 't', '... and the archive begins with the next');

# Removed by hand.
system_or_bail('rm', '-rf', "$folder/home/main/base/$second", glob("$folder/home/main/meta/$second-*"));
import_gives('0|0|1', 'what somebody has removed is gone');
is($node->safe_psql('postgres', qq{SELECT state FROM leyser.generation_record WHERE label = '$second'}), 'deleted', '... and deleted');

# A segment that never came: Barman finds the backup to be bad.
my $damaged = take_backup();
my ($segment) = barman($configuration, 'diagnose') =~ /"backup_id": "$damaged".*?"begin_wal": "(\w+)"/s;
my $last = take_backup();
import_gives('2|0|0', 'another two');
bring_wal($segment, $damaged, $last);
import_gives('0|2|0', '... of which one lacks WAL');
is($node->safe_psql('postgres', qq{SELECT label = '$damaged', state, error ~ 'missing' FROM leyser.generation_record
	WHERE state <> 'deleted' ORDER BY started_at OFFSET 1}), "t|failed|t\nf|complete|", '... is failed, and Barman says why');

# One that fails at once.
mkdir "$folder/programs";
append_to_file("$folder/programs/pg_basebackup", qq{#!/bin/sh\ncase "\$1" in --version|--help) exec $bindir/pg_basebackup "\$@";; esac\nexit 1\n});
symlink "$bindir/pg_receivewal", "$folder/programs/pg_receivewal";
chmod 0755, "$folder/programs/pg_basebackup";
barman_files($node, $folder, "$folder/programs");
take_backup();
import_gives('1|0|0', 'a backup that fails');
is($node->safe_psql('postgres', q{SELECT state, error <> '' FROM leyser.generation_record ORDER BY started_at DESC LIMIT 1}),
	'failed|t', '... is failed');
barman_files($node, $folder, $bindir);

# A catalogue says nothing of what is newer than its newest backup.
my $newest = (split ' ', barman($configuration, 'list-backups', '--minimal', 'main'))[0];
barman($configuration, 'delete', 'main', $newest);
like(import_gives('0|0|0', 'the newest one, deleted, might be newer than the catalogue'), qr/WARNING: .*main/s, '... and the source is named');
$node->safe_psql('postgres', q{SELECT leyser.confirm_backup_deleted(generation_id) FROM leyser.backup_generation
	ORDER BY started_at DESC LIMIT 1}, extra_params => [ '-U', 'keeper' ]);
unlike(import_gives('0|0|0', '... until somebody confirms it'), qr/WARNING/, '... and all is known');
# From version 3.13 on Barman keeps a second folder about them.
my @folders = grep { -d "$folder/home/main/$_" } 'base', 'meta';
rename "$folder/home/main/$_", "$folder/elsewhere-$_" or die for @folders;
like(import_gives('0|0|0', 'folders that are not mounted delete nothing'), qr/WARNING/, '... and are named');
rename "$folder/elsewhere-$_", "$folder/home/main/$_" or die for @folders;

# Found again.
my $without = barman($configuration, 'diagnose');
$without =~ s/"backups": \{\s*"$third": \{.*?\n {16}\},/"backups": {/s or die "no such backup";
is($node->safe_psql('postgres', "SELECT * FROM leyser.import_backups('barman', " . catalogue_of($without) . ')'), '0|0|1',
	'a backup that is not listed');
import_gives('0|1|0', '... and is listed again');
is($node->safe_psql('postgres', qq{SELECT state, deleted_at IS NULL FROM leyser.generation_record WHERE label = '$third'}),
	'complete|t', '... is there');

# Neither another command nor another server's clock.
for my $command ([ '-f', 'json', 'list-backups', 'main' ], [ '-f', 'json', 'show-backup', 'main', $third ], [ 'sync-info', 'main' ])
{
	is_refused($node, "SELECT leyser.import_backups('barman', " . catalogue_of(scalar barman($configuration, @$command)) . ')', '22023',
		"what @$command prints is refused", user => 'keeper');
}
$ENV{TZ} = 'Asia/Tokyo';
import_gives('0|0|0', 'another time zone of Barman\'s host tells the same');
delete $ENV{TZ};

$node->stop('immediate');
done_testing();
