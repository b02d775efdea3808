# Backups that nobody told leyser about: the server's own traces, and the manifest
# by which they become known.

use strict;
use warnings;

use LeyserImport;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $folder = PostgreSQL::Test::Utils::tempdir_short();
my $node = new_node('notice', init => { allows_streaming => 1 }, conf => qq{archive_mode = on
	archive_command = '/bin/true'
	log_timezone = 'Asia/Tokyo'});
$node->safe_psql('postgres', q{
	CREATE ROLE keeper LOGIN; SELECT leyser.grant_usage('keeper', 'backup');
});
mkdir "$folder/space";
$node->safe_psql('postgres', "CREATE TABLESPACE elsewhere LOCATION '$folder/space'");
$node->safe_psql('postgres', 'CREATE TABLE item TABLESPACE elsewhere AS SELECT generate_series(1, 1000) AS n');

# Takes a backup with a label; gives its folder.
sub take_backup
{
	my ($label) = @_;
	my $backup = "$folder/" . (grep { !-e "$folder/$_" } 1 .. 99)[0];

	system_or_bail('pg_basebackup', '-d', $node->connstr('postgres'), '-D', $backup, '-c', 'fast', '-l', $label,
		'-T', "$folder/space=$backup.space");
	return $backup;
}

sub manifest_of
{
	my ($backup, $more) = @_;

	return q{SELECT * FROM leyser.import_backups('backup_manifest', } . catalogue_of(slurp_file("$backup/backup_manifest")) . ($more // '') . ')';
}

sub noticed
{
	return $node->safe_psql('postgres', 'SELECT leyser.notice_backups()');
}

is(noticed(), '0', 'nothing to notice yet');
my $label = q{nightly'; DROP TABLE x; -- "é};
my $backup = take_backup($label);
is(noticed(), '1', 'a backup that nobody told about');
changes_nothing($node, 'SELECT leyser.notice_backups()', '... is noticed once');
is($node->safe_psql('postgres', q{SELECT tool, state, kind, label, timeline, region IS NULL FROM leyser.generation_record}),
	"unknown|complete|full|$label|1|t", '... of an unknown tool');
is($node->safe_psql('postgres', q{
	SELECT clock_timestamp() - g.completed_at BETWEEN '0' AND '5 minutes', g.completed_at - g.started_at BETWEEN '0' AND '5 minutes',
		g.system_identifier = c.system_identifier, g.stop_lsn > g.start_lsn
	FROM leyser.generation_record g, pg_control_system() c}), 't|t|t|t', '... with its time, whatever the zone of the log, and place');

# A standby notices nothing; nor is a trace of another file one.
append_to_file($node->data_dir . '/pg_wal/0000000100000000000000FF.00000028.backup', "START WAL LOCATION: nonsense\n");
changes_nothing($node, 'SELECT leyser.notice_backups()', 'a file that is no history tells nothing');
unlink $node->data_dir . '/pg_wal/0000000100000000000000FF.00000028.backup';
is_refused($node, 'SELECT leyser.notice_backups()', '42501', 'the function is nobody\'s', user => 'keeper');

# The manifest makes it known.
is($node->safe_psql('postgres', manifest_of($backup, ", location => '$backup', label => 'first'"), extra_params => [ '-U', 'keeper' ]),
	'0|1|0', 'its manifest takes it over');
is($node->safe_psql('postgres', q{SELECT tool, state, label, location, region, checksum <> '', bytes FROM leyser.generation_record}),
	"backup_manifest|complete|first|$backup|JP|t|" . manifest_bytes($backup), '... with what it tells, tablespaces and all');
changes_nothing($node, manifest_of($backup, ", location => '$backup', label => 'first'"), '... once');
changes_nothing($node, 'SELECT leyser.notice_backups()', '... and is noticed no more');

sub manifest_bytes
{
	my ($folder) = @_;
	my $manifest = slurp_file("$folder/backup_manifest");
	my $bytes = 0;

	$bytes += $1 while $manifest =~ /"Size": (\d+)/g;
	return $bytes;
}

# A manifest first, then the trace; and the books by hand.
$backup = take_backup('second');
is($node->safe_psql('postgres', manifest_of($backup, ", location => '$backup'")), '1|0|0', 'a manifest whose backup nobody noticed');
is(noticed(), '0', '... whose trace is known');
my $id = $node->safe_psql('postgres', q{SELECT leyser.begin_backup('third', '/x', 'JP')});
$backup = take_backup('third');
is(noticed(), '0', 'while a backup runs in the books the trace may be its own');
my ($start, $stop) = slurp_file("$backup/backup_manifest") =~ m{"Start-LSN": "(\S+)", "End-LSN": "(\S+)"};
$node->safe_psql('postgres', "SELECT leyser.complete_backup($id, '$start', '$stop', 1, NULL)");
is(noticed(), '0', '... and is');
$node->safe_psql('postgres', "SELECT leyser.verify_backup($id, false, 'bad')");
take_backup('fourth');
is(noticed(), '1', 'another one');
is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT start_lsn) FROM leyser.generation_record}), '4|4', 'each is there once');

# The manifest of a backup that the books have by hand is no second backup; one of
# another name and place is a copy.
is($node->safe_psql('postgres', manifest_of($backup, ", label => 'third'")), '0|1|0', 'the manifest of a backup by hand');
is($node->safe_psql('postgres', "SELECT label, bytes, length(checksum) FROM leyser.generation_record WHERE generation_id = $id"), 'third|1|64',
	'... fills in what was not told');
changes_nothing($node, manifest_of($backup, ", label => 'third'"), '... once');
changes_nothing($node, manifest_of($backup, ", location => '/x'"), '... also known by its place');
is($node->safe_psql('postgres', manifest_of($backup, ", label => 'copy', location => '/elsewhere'")), '1|0|0', 'a copy elsewhere is one more');

# Manifests that are none, or of another server.  From version 17 on they tell the system.
(my $manifest = slurp_file("$backup/backup_manifest")) =~ s/"System-Identifier": \d+,\s*//;
for my $damage (
	[ '"PostgreSQL-Backup-Manifest-Version": \d', '"PostgreSQL-Backup-Manifest-Version": 9', '22023', 'an unknown version' ],
	[ '"Path": "backup_label"', '"Path": "other"', '22023', 'no backup_label' ],
	[ '"WAL-Ranges": \[.*?\]', '"WAL-Ranges": []', '22023', 'no WAL' ],
	[ '"Start-LSN": "[^"]*"', '"Start-LSN": 5', '22023', 'an LSN that is a number' ],
	[ '"End-LSN": "[^"]*"', '"End-LSN": "FFFF/0"', '22023', 'an end that this server has not reached' ],
	[ '"Timeline": 1', '"Timeline": 7', '22023', 'a timeline that it has not reached' ],
	[ '"Timeline": 1', '"Timeline": 99999999999', '22003', 'a huge timeline' ],
	[ '"Size": \d+', '"Size": "x"', '22023', 'a size that is none' ],
	[ '"Last-Modified": "[^"]*"', '"Last-Modified": "now"', '22023', 'a time that is none' ],
	[ '"Path": "base/', '"Path": "base/INCREMENTAL.', '22023', 'an incremental backup' ],
	[ '"Manifest-Checksum": "\w+"', '"Manifest-Checksum": 5', '22023', 'no checksum' ])
{
	my ($from, $to, $sqlstate, $name) = @$damage;
	(my $json = $manifest) =~ s/$from/$to/s or die "no $from";
	changes_nothing($node, sub {
		is_refused($node, q{SELECT leyser.import_backups('backup_manifest', } . catalogue_of($json) . ')', $sqlstate, $name, user => 'keeper');
	}, '... and the books unchanged');
}

$node->stop('immediate');
done_testing();
