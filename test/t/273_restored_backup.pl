# A server is restored from one of leyser's own backups, and keeps its directory: no
# backup is lost for what the books of then did not know, and until the restore is
# released its ticks destroy nothing.

use strict;
use warnings;

use LeyserPurge;
use LeyserRestore qw(restore retire bring_back fence_is);
use LeyserSchedule qw(schedule_node as_operator tick);
use LeyserTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $directory = PostgreSQL::Test::Utils::tempdir();
my $node = schedule_node('first', init => { allows_streaming => 1 }, conf => "leyser.backup_directory = '$directory'");

sub folders
{
	return join ' ', sort grep { /^leyser-/ } slurp_dir($directory);
}

# A backup's data directory, where init_from_backup() looks for it.
sub offer
{
	my ($location, $name) = @_;

	mkdir $node->backup_dir;
	system_or_bail('cp', '-a', "$location/data", $node->backup_dir . "/$name");
	return;
}

sub books
{
	my ($server) = @_;

	return $server->safe_psql('postgres', q{SELECT regexp_replace(location, '.*/', '') || ' ' || state
		FROM leyser.generation_record WHERE tool = 'pg_basebackup' ORDER BY started_at});
}

# ---- nothing was erased since: nothing is lost ----

fill_tenants($node, 100, qw(kept gone due));
$node->safe_psql('postgres', 'SELECT leyser.take_backup() FROM generate_series(1, 2)');
my ($first, $second) = split /\n/, $node->safe_psql('postgres', 'SELECT location FROM leyser.generation_record ORDER BY started_at');
my $names = folders();
my $verified = join "\n", map { "$_ verified" } split / /, $names;
is(books($node), $verified, 'two backups');
$node->stop;
retire($node);
offer($first, 'first');
my $copy = restore($node, 'first', 'copy');
# the fence may have had a later mark
as_operator($copy, 'CALL leyser.replay_purges()');
fence_is($copy, 'sound|f|f|0', 'nothing is held');
like(books($copy), qr/\A\S+ running\z/, 'the restored books know one, and not its end');
is($copy->safe_psql('postgres', 'SELECT leyser.clean_backups()'), 2, 'both are looked at');
is(books($copy), $verified, '... and are in the books, verified');
is(folders(), $names, '... where they lay');
is($copy->safe_psql('postgres', q{SELECT string_agg(DISTINCT concat_ws(' ', region, timeline, bytes > 0, stop_lsn > start_lsn, length(checksum)), ',') FROM leyser.generation_record}),
	'JP 1 t t 64', '... with all that a backup has');
is($copy->safe_psql('postgres', q{SET TimeZone = 'UTC';
	SELECT bool_and(abs(extract(epoch FROM started_at - to_timestamp(substring(location, '.{20}$'), 'YYYYMMDD"T"HH24MISS.MS'))) < 10)
	FROM leyser.generation_record}), 't', '... and began when their names say');
is($copy->safe_psql('postgres', 'SELECT leyser.clean_backups()'), 0, '... once');
mkdir "$directory/" . ($names =~ s/ .*//r =~ s/-[^-]*$/-20200101T000000.000Z/r) or die;
is($copy->safe_psql('postgres', 'SELECT leyser.clean_backups()'), 0, 'a folder without a manifest');
is(books($copy), $verified, '... is not entered');
rmdir "$directory/" . ($names =~ s/ .*//r =~ s/-[^-]*$/-20200101T000000.000Z/r) or die;
$copy->stop;
retire($copy);
bring_back($node);

# ---- a tenant was erased since ----

$node->start;
queue_purges($node, '', 'gone');
is_erased($node, 'gone', 'a tenant is erased');
wait_for_fence_of($node, 'gone');
$node->stop;
retire($node);
offer($second, 'second');
my $held = restore($node, 'second', 'held');
is($held->safe_psql('postgres', 'SELECT leyser.restore_is_held()'), 't', 'a restore is noticed');
my $before = books($held);
$held->safe_psql('postgres', q{
	SELECT leyser.terminate_contract('due', clock_timestamp());
	INSERT INTO leyser.generation_record (state, kind, tool, label, region, system_identifier, timeline, start_lsn, stop_lsn, started_at, completed_at, recorded_by, recorded_at)
		SELECT 'complete', 'full', 'manual', 'old', 'JP', c.system_identifier, 1, '0/1', '0/2', t, t, 'test', t
		FROM pg_control_system() c, (SELECT now() - interval '30 days') o (t);
});
# A mail that waits may have been sent since.
my $sent = $node->basedir . '/sent';
my $program = $node->basedir . '/sendmail';
append_to_file($program, "#!/bin/sh\ncat >> '$sent'\n");
chmod 0755, $program or die;
$held->safe_psql('postgres', "ALTER SYSTEM SET leyser.mail_command = '$program'");
$held->safe_psql('postgres', 'SELECT pg_reload_conf()');
$held->poll_query_until('postgres', "SELECT current_setting('leyser.mail_command') = '$program'");
as_operator($held, q{SELECT leyser.set_notice_policy(mail_sender => 'status@service.example'), leyser.add_contact('kept', 'contract_holder', 'a@kept.example'),
	leyser.announce('incident', 'critical', 'Restored', 'We are back.')});
for (1 .. 2)
{
	tick($held);
	$held->safe_psql('postgres', q{UPDATE leyser.job_record SET due_at = clock_timestamp() - interval '1 minute' WHERE job <> 'daily backup'});
}
is($held->safe_psql('postgres', q{SELECT string_agg(job, ', ' ORDER BY job) FROM leyser.job_record JOIN leyser.job_kinds() k USING (job) WHERE k.held AND last_success IS NULL}),
	'clean backups, drop months of events, expire backups, queue purges, upkeep', 'ticks do nothing that destroys');
is($held->safe_psql('postgres', q{SELECT state FROM leyser.generation_record WHERE label = 'old'}), 'complete', '... expire nothing');
is($held->safe_psql('postgres', q{SELECT count(*) FROM leyser.purge_record}), '0', '... purge nobody');
is(books($held), $before, '... clean nothing');
is(folders(), $names, '... remove nothing');
is($held->safe_psql('postgres', q{SELECT alert FROM leyser.backup_alert WHERE alert ~ '^(restored|tenant came)' ORDER BY 1}), "restored\ntenant came back",
	'... and an operator sees why');
is_refused($held, 'SELECT leyser.expire_backups()', 'LY008', 'nor does anybody expire backups');

is($held->safe_psql('postgres', q{SELECT string_agg(state || ' ' || attempts, ', ') FROM leyser.mail}), 'waiting 0', 'nor do they send mail');
ok(!-e $sent, '... at all');
is_refused($held, 'SELECT leyser.claim_mail()', 'LY008', 'and nobody claims any');

# Daily backups go on; what is taken now holds the tenant that came back.
$held->safe_psql('postgres', q{UPDATE leyser.job_record SET due_at = clock_timestamp() - interval '1 minute' WHERE job = 'daily backup'});
$held->safe_psql('postgres', q{SELECT leyser.take_backup('while it was held')});
as_operator($held, 'CALL leyser.replay_purges()');
is_erased($held, 'gone', 'the tenant is erased again');
$held->safe_psql('postgres', q{SELECT leyser.take_backup('after it')});
is($held->safe_psql('postgres', q{SELECT count(*) FROM leyser.generation_record WHERE state = 'verified' AND tool = 'pg_basebackup'}), '4', 'four backups are there');
is($held->safe_psql('postgres', q{SELECT gone_at IS NULL, (SELECT count(*) FROM unnest(generations)), 'while it was held' = ANY (labels), 'after it' = ANY (labels)
	FROM leyser.erasure_horizon WHERE tenant_id = 'gone'}), 't|4|t|f', 'the horizon counts what was taken while it was held, and not what was taken after it');
$held->safe_psql('postgres', q{UPDATE leyser.job_record SET due_at = clock_timestamp() - interval '1 minute' WHERE job IN ('expire backups', 'queue purges')});
tick($held);
is($held->safe_psql('postgres', q{SELECT state FROM leyser.generation_record WHERE label = 'old'}), 'expired', 'released, ticks do all again');
is_erased($held, 'due', '... purges, too');
is($held->safe_psql('postgres', q{SELECT string_agg(state || ' ' || attempts, ', ') FROM leyser.mail}), 'sent 1', '... and mail is sent');
like(slurp_file($sent), qr/^Subject: Restored$/m, '... by the program');
$held->stop;

done_testing();

sub wait_for_fence_of
{
	my ($server, $tenant) = @_;

	LeyserRestore::wait_for_fence(LeyserRestore::fence_file($server), $tenant, '\S+Z \S+Z', "the fence tells of $tenant");
	return;
}
