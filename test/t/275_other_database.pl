# Two databases of one server that use leyser: one has the backups taken, which hold
# both; the other one's books follow them, and nothing alarms.

use strict;
use warnings;

use LeyserBackup;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = backup_node('shared', conf => q{archive_mode = on
	archive_command = '/bin/true'});
my $directory = backup_directory($node);
$node->safe_psql('postgres', 'CREATE ROLE operator LOGIN; CREATE DATABASE billing');
create_extension($node, 'billing');
$node->safe_psql($_, q{SELECT leyser.grant_usage('operator', 'operator')}) foreach ('postgres', 'billing');
$node->safe_psql('billing', q{SELECT leyser.grant_usage('keeper', 'backup')});

sub as_role
{
	my ($role, $sql) = @_;

	return $node->safe_psql('billing', $sql, extra_params => [ '-U', $role ]);
}

# What billing's books say of the backups.
sub billing
{
	my ($what) = @_;

	return $node->safe_psql('billing', "SELECT $what FROM leyser.generation_record ORDER BY generation_id");
}

sub alerts
{
	return $node->safe_psql('billing', q{SELECT alert, remedy FROM leyser.backup_alert WHERE alert !~ '^(heartbeat|archiv)' ORDER BY 1, 2});
}

# ---- the other one's backups ----

is($node->safe_psql('billing', 'SELECT leyser.notice_backups()'), 0, 'there is nothing to notice yet');
$node->safe_psql('postgres', q{SELECT leyser.take_backup('one'); SELECT leyser.take_backup('two')}, extra_params => [ '-U', 'keeper' ]);
is($node->safe_psql('billing', 'SELECT leyser.notice_backups()'), 2, 'both are noticed, though the server has a trace of the last one only');
is($node->safe_psql('billing', 'SELECT leyser.notice_backups()'), 0, '... once');
is($node->safe_psql('postgres', 'SELECT leyser.notice_backups()'), 0, 'whoever took them knows them');
is(billing('tool, state, kind, region'), join("\n", ('other_database|verified|full|JP') x 2), '... as of another database, verified there');
is(billing('start_lsn, timeline, location'), books($node, 'start_lsn, timeline, location'), '... with their places');
# the server writes the second in which a backup began a moment before or after the call's own clock
my @began = split /\n/, books($node, 'extract(epoch FROM started_at)');
is(scalar(grep { abs($_ - shift @began) < 5 } split /\n/, billing('extract(epoch FROM started_at)')), 2, '... and times');
is(alerts(), '', 'nothing is alarming');
is(as_role('keeper', q{SELECT count(*) FROM leyser.backup_generation WHERE countable}), 1, 'one a day counts');
is($node->safe_psql('billing', 'SELECT count(*) FROM leyser.horizon_holders() WHERE alive'), 2, 'both hold what billing erases later');
is($node->safe_psql('billing', 'SELECT leyser.clean_backups()'), 0, 'billing has nothing to clean up there');
is(scalar(my @folders = folders($node)), 2, '... and both lie where they were');

# A name alone makes nobody believe a backup, nor is another system's one of ours.
mkdir "$directory/leyser-1-2-20260101T000000.000Z" or die;
mkdir "$directory/" . $folders[0] =~ s/\d{8}T/20250101T/r or die;
is($node->safe_psql('billing', 'SELECT leyser.notice_backups()'), 0, 'an empty folder, or another system\'s, is no backup');
rmdir foreach glob("$directory/leyser-*-2025* $directory/leyser-1-*");

# ---- they go ----

is_refused($node, 'SELECT leyser.confirm_backup_deleted((SELECT min(generation_id) FROM leyser.backup_generation))', 'LY008',
	'what is there is not gone', user => 'keeper', database => 'billing');
$node->safe_psql('billing', q{UPDATE leyser.generation_record SET state = 'expired', expired_at = now() - interval '3 days'
	WHERE generation_id = (SELECT min(generation_id) FROM leyser.generation_record)});
is(alerts(), q{not deleted|Database "postgres" keeps it, by its own policy: let leyser.set_backup_policy() there keep it for no longer than here.},
	'what the other database keeps for longer is told with a remedy');
$node->safe_psql('postgres', q{UPDATE leyser.generation_record SET state = 'expired', expired_at = now()
	WHERE generation_id = (SELECT min(generation_id) FROM leyser.generation_record)});
$node->safe_psql('postgres', 'SELECT leyser.clean_backups()');
is($node->safe_psql('billing', 'SELECT leyser.notice_backups()'), 0, 'the other database removes it');
is(billing('state, deleted_at IS NOT NULL'), "deleted|t\nverified|f", '... which is seen');
is(alerts(), '', '... and nothing is alarming any longer');

# A directory that is not mounted says nothing of them.
rename $directory, "$directory.away" or die;
mkdir $directory, 0700 or die;
is($node->safe_psql('billing', 'SELECT leyser.notice_backups()'), 0, 'an empty directory in its place');
is(billing('state'), "deleted\nverified", '... does not make them gone');
rmdir $directory or die;
rename "$directory.away", $directory or die;

# ---- who takes the daily one ----

as_role('operator', 'SELECT leyser.set_backup_policy(daily_backup => false)');
as_role('operator', 'CALL leyser.tick()');
$node->safe_psql('billing', q{UPDATE leyser.job_record SET due_at = now() - interval '2 hours' WHERE job = 'daily backup'});
is($node->safe_psql('billing', q{SELECT leyser.job_is_wanted('daily backup')}), 'f', 'billing takes no daily backup');
is(alerts(), '', '... which nobody is told to be late');
as_role('operator', 'CALL leyser.tick()');
is($node->safe_psql('billing', q{SELECT due_at > now(), handed_to IS NULL FROM leyser.job_record WHERE job = 'daily backup'}), 't|t', '... and does not begin it');
is($node->safe_psql('postgres', q{SELECT leyser.job_is_wanted('daily backup')}), 't', 'the other database takes it');
as_role('operator', 'SELECT leyser.set_backup_policy(generations => 6)');
is($node->safe_psql('billing', q{SELECT generations, daily_backup FROM leyser.backup_policy}), '6|f', 'what is left out stays');

# A backup of nobody's still needs somebody.
system_or_bail('pg_basebackup', '-d', $node->connstr('postgres'), '-D', $node->basedir . '/stray', '-c', 'fast', '-l', $folders[0]);
is($node->safe_psql('billing', 'SELECT leyser.notice_backups()'), 1, 'a backup with a label like leyser\'s');
is(billing('tool, region IS NULL'), "other_database|f\nother_database|f\nunknown|t", '... is not believed to be one');
like(alerts(), qr/^wrong region\|Find out who took it/, '... and the alert tells what to do');

$node->stop;
done_testing();
