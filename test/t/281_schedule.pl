# schedule() and unschedule(): jobs of pg_cron in this or another database, and
# nothing but ours; what somebody did to them is told.

use strict;
use warnings;

use LeyserSchedule;
use LeyserTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = schedule_node('schedule', conf => q{cron.use_background_workers = on});
my $jobs = q{SELECT jobname, schedule, command, database, username, active FROM cron.job ORDER BY jobname};

# The rows that pg_cron is to have for a database.
sub jobs_of
{
	my ($database) = @_;

	return ("leyser daily backup in $database|0 15 * * *|CALL leyser.tick()|$database|operator|t",
		"leyser heartbeat in $database|* * * * *|CALL leyser.tick()|$database|operator|t",
		"leyser nightly upkeep in $database|30 18 * * *|CALL leyser.tick()|$database|operator|t");
}

sub jobs_are
{
	my ($expected, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', $jobs), join("\n", sort @$expected), $name);
	return;
}

# Without pg_cron: an error with a way out, and nothing changed.
my ($sqlstate, $message) = sqlstate_of($node, 'SELECT leyser.schedule()', user => 'operator');
is($sqlstate, '42704', 'no extension pg_cron in its database');
like($message, qr/HINT:  CREATE EXTENSION pg_cron in database "postgres"; or let any other scheduler CALL leyser.tick\(\)/, '... with a way out');
is_refused($node, 'SELECT leyser.unschedule()', 'LY008', 'nothing is scheduled', user => 'operator');

# A trap: somebody's own schema "cron", whose functions would run as superuser.
$node->safe_psql('postgres', q{
	CREATE ROLE mallory LOGIN;
	CREATE SCHEMA cron AUTHORIZATION mallory;
	SET ROLE mallory;
	CREATE TABLE cron.job (jobid bigint, jobname text, username text);
	CREATE TABLE cron.job_run_details (runid bigint);
	CREATE FUNCTION cron.schedule_in_database(text, text, text, text, text DEFAULT NULL, boolean DEFAULT true) RETURNS bigint
		LANGUAGE plpgsql AS $$BEGIN ALTER ROLE mallory SUPERUSER; RETURN 1; END$$;
});
is_refused($node, 'SELECT leyser.schedule()', '42704', 'functions that are not pg_cron\'s are not called', user => 'operator');
is($node->safe_psql('postgres', q{SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'}), 'f', '... and nobody becomes a superuser');
$node->safe_psql('postgres', 'DROP SCHEMA cron CASCADE; CREATE EXTENSION pg_cron');

# Scheduled in the database where pg_cron is, twice, and beside other jobs.
$node->safe_psql('postgres', q{SELECT cron.schedule('somebody''s', '0 0 1 1 *', 'SELECT 1')});
my $others = q{somebody's|0 0 1 1 *|SELECT 1|postgres|postgres|t};
is(as_operator($node, 'SELECT cron_database, count(*) FROM leyser.schedule() GROUP BY 1'), 'postgres|3', 'an operator schedules');
jobs_are([ $others, jobs_of('postgres') ], '... and pg_cron has the jobs, as that operator\'s');
as_operator($node, 'SELECT leyser.schedule()');
jobs_are([ $others, jobs_of('postgres') ], 'again: the same');
is($node->safe_psql('postgres', q{SELECT string_agg(caller_role || ' ' || event || ' ' || object, ', ') FROM leyser.event WHERE event ~ '^schedule'}),
	'operator schedule.installed operator, operator schedule.installed operator', 'events tell who');

# In another database, with names that fit.
my $long = q{a database with a "long" name, and it's quoted, too: äöü 1234};
for my $database ('shop', $long)
{
	my $quoted = $database =~ s/"/""/gr;
	$node->safe_psql('postgres', qq{CREATE DATABASE "$quoted"});
	create_extension($node, $database);
	$node->safe_psql($database, q{SELECT leyser.grant_usage('operator', 'operator')});
	is(as_operator($node, 'SELECT cron_database, count(*), max(octet_length(job_name)) <= 63 FROM leyser.schedule() GROUP BY 1', $database), 'postgres|3|t',
		"scheduled in database $database");
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM cron.job WHERE database ~ '^a database' AND username = 'operator' AND command = 'CALL leyser.tick()'}),
	'3', '... with any name');
is(as_operator($node, 'SELECT leyser.unschedule()', $long), '3', '... and taken away again');
jobs_are([ $others, jobs_of('postgres'), jobs_of('shop') ], '... which leaves the others\' jobs');

# What was done to the jobs is told by the next look, each database's by itself.
for my $database ('postgres', 'shop')
{
	$node->safe_psql('postgres', qq{SELECT cron.alter_job(jobid, active => false) FROM cron.job WHERE jobname = 'leyser heartbeat in $database'});
	$node->safe_psql('postgres', qq{SELECT cron.unschedule(jobid) FROM cron.job WHERE jobname = 'leyser nightly upkeep in $database'});
	as_operator($node, 'CALL leyser.tick()', $database);
	$node->safe_psql($database, q{UPDATE leyser.job_record SET due_at = clock_timestamp() WHERE job = 'look at pg_cron'});
	as_operator($node, 'CALL leyser.tick()', $database);
	is(as_operator($node, qq{SELECT alert, subject, detail, remedy FROM $alerts ORDER BY subject}, $database),
		"pg_cron's job|leyser heartbeat in $database|it is not active.|SELECT leyser.schedule();\n" .
		"pg_cron's job|leyser nightly upkeep in $database|pg_cron does not have it.|SELECT leyser.schedule();", "$database: jobs that are not as they were");
	my $since = as_operator($node, "SELECT max(since) FROM $alerts", $database);
	$node->safe_psql($database, q{UPDATE leyser.job_record SET due_at = clock_timestamp() WHERE job = 'look at pg_cron'});
	as_operator($node, 'CALL leyser.tick()', $database);
	is(as_operator($node, "SELECT max(since) FROM $alerts", $database), $since, '... since the same time at the next look');
	as_operator($node, 'SELECT leyser.schedule()', $database);
	is(as_operator($node, "SELECT count(*) FROM $alerts", $database), '0', '... until somebody schedules again');
}
jobs_are([ $others, jobs_of('postgres'), jobs_of('shop') ], 'which mends them');

# Another operator takes over; one that cannot log in cannot.
$node->safe_psql('postgres', q{CREATE ROLE another LOGIN; CREATE ROLE team;
	SELECT leyser.grant_usage(r, 'operator') FROM unnest('{another,team}'::regrole[]) r});
is_refused($node, 'SET ROLE team; SELECT leyser.schedule()', '55000', 'a role that cannot log in');
jobs_are([ $others, jobs_of('postgres'), jobs_of('shop') ], '... changes nothing');
$node->safe_psql('postgres', 'SELECT leyser.schedule()', extra_params => [ '-U', 'another' ]);
jobs_are([ $others, (map { s/operator/another/r } jobs_of('postgres')), jobs_of('shop') ], 'whoever schedules takes over');

# What pg_cron noted about our runs is removed in time, and nothing else.
$node->safe_psql('postgres', q{
	INSERT INTO cron.job_run_details (jobid, runid, database, username, command, status, start_time, end_time)
		SELECT 1, 1000 * o.place + n, o.database, o.username, o.command, 'succeeded', clock_timestamp() - n * interval '1 day', clock_timestamp() - n * interval '1 day'
		FROM (VALUES (3, 'postgres', 'another', 'CALL leyser.tick()'), (2, 'shop', 'operator', 'CALL leyser.tick()'),
			(1, 'postgres', 'postgres', 'SELECT 1')) o (place, database, username, command), generate_series(1, 10) n});
$node->safe_psql('postgres', q{UPDATE cron.job_run_details SET runid = 1000 * (runid / 1000) + 11 - runid % 1000 + 500 WHERE runid > 1000});
my $noted = q{SELECT string_agg(concat_ws(' ', database, command, count), ', ' ORDER BY database, command) FROM (
	SELECT database, command, count(*) FROM cron.job_run_details WHERE runid > 500 GROUP BY 1, 2) c};
for my $database ('postgres', 'shop')
{
	$node->safe_psql($database, q{UPDATE leyser.job_record SET due_at = clock_timestamp() - interval '1 second' WHERE job = 'upkeep'});
	as_operator($node, 'CALL leyser.tick()', $database);
	is(as_operator($node, q{SELECT detail FROM leyser.job_run WHERE job = 'upkeep'}, $database), 'removed 0 runs of jobs, 4 of pg_cron, 0 mails',
		"$database: pg_cron\'s notes of a week ago are removed");
}
is($node->safe_psql('postgres', $noted), 'postgres CALL leyser.tick() 6, postgres SELECT 1 10, shop CALL leyser.tick() 6', '... those of our runs');

# Our own, too.
$node->safe_psql('postgres', q{INSERT INTO leyser.job_run_record (job, started_at, ended_at, state)
	SELECT 'upkeep', t, t, 'done' FROM (SELECT clock_timestamp() - n * interval '1 day' FROM generate_series(28, 33) n) s (t);
	INSERT INTO leyser.work_record (kind, subject, arguments, state, started_by, ended_at)
		SELECT 'for_each_tenant', state || n, '{}', state, 'another', clock_timestamp() - n * interval '1 day'
		FROM (VALUES ('done', 29), ('done', 31), ('failed', 31)) w (state, n);
	INSERT INTO leyser.each_tenant_record (work_id, tenant_id, state) SELECT work_id, 'a', 'done' FROM leyser.work_record;
	UPDATE leyser.job_record SET due_at = clock_timestamp() - interval '1 second' WHERE job = 'upkeep'});
tick($node);
is(as_operator($node, q{SELECT detail FROM leyser.job_run ORDER BY run_id DESC LIMIT 1}), 'removed 4 runs of jobs, 0 of pg_cron, 0 mails', 'runs of a month ago are removed');
is($node->safe_psql('postgres', q{SELECT string_agg(subject, ' ' ORDER BY subject), (SELECT count(*) FROM leyser.each_tenant_record) FROM leyser.work_record}), 'done29 failed31|2',
	'... and works that were done then');

# pg_cron goes away, and comes back.
is(as_operator($node, 'SELECT leyser.unschedule()'), '3', 'an operator takes the jobs away, also another\'s');
jobs_are([ $others, jobs_of('shop') ], '... and no others');
$node->safe_psql('postgres', 'DROP EXTENSION pg_cron');
is_refused($node, 'SELECT leyser.schedule()', '42704', 'pg_cron is gone: in another database', user => 'operator', database => 'shop');
$node->safe_psql('shop', q{UPDATE leyser.job_record SET due_at = clock_timestamp() WHERE job = 'look at pg_cron'});
as_operator($node, 'CALL leyser.tick()', 'shop');
is(as_operator($node, qq{SELECT DISTINCT detail FROM $alerts}, 'shop'), 'pg_cron is not there.', '... which is an alert');
is(as_operator($node, 'SELECT leyser.unschedule()', 'shop'), '0', '... that ends where nothing is to be scheduled');
is(as_operator($node, "SELECT count(*) FROM $alerts", 'shop'), '0', '... any longer');
$node->append_conf('postgresql.conf', q{shared_preload_libraries = 'leyser'});
$node->restart;
($sqlstate, $message) = sqlstate_of($node, 'SELECT leyser.schedule()', user => 'operator');
is($sqlstate, '42704', 'pg_cron is not preloaded');
like($message, qr/HINT:  Add pg_cron to shared_preload_libraries/, '... with a way out');
tick($node);
alerts_are($node, [], 'without pg_cron, anybody ticks');

# The archive of write-ahead log.
$node->append_conf('postgresql.conf', qq{archive_mode = on\narchive_command = 'false'\nwal_level = replica});
$node->restart;
$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
$node->poll_query_until('postgres', 'SELECT failed_count > 0 FROM pg_stat_archiver');
alerts_are($node, [ 'archiving failing ' . $node->safe_psql('postgres', 'SELECT last_failed_wal FROM pg_stat_archiver') ], 'an archive that fails is an alert');
my $since = as_operator($node, "SELECT since FROM $alerts");
$node->poll_query_until('postgres', 'SELECT failed_count > 2 FROM pg_stat_archiver');
is(as_operator($node, "SELECT since FROM $alerts"), $since, '... since the same time');
my ($ready) = glob($node->data_dir . '/pg_wal/archive_status/*.ready');
utime(time - 3600, time - 3600, $ready);
is(as_operator($node, "SELECT string_agg(alert, ', ' ORDER BY alert) FROM $alerts"), 'archiving failing, archiving late', '... and one that lags behind');
$node->append_conf('postgresql.conf', q{archive_command = 'true'});
$node->reload;
$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
ok($node->poll_query_until('postgres', q{SELECT last_archived_time > last_failed_time FROM pg_stat_archiver}), 'the archive works again');
alerts_are($node, [], '... and the alerts are gone');
$node->append_conf('postgresql.conf', 'archive_mode = off');
$node->restart;
alerts_are($node, [], 'no archive is none where no tool needs it');
$node->safe_psql('postgres', q{INSERT INTO leyser.generation_record (state, kind, tool, label, region, started_at, recorded_by)
	VALUES ('complete', 'full', 'pgbackrest', 'x', 'JP', now(), 'test')});
is(as_operator($node, qq{SELECT count(*) FROM $alerts WHERE alert = 'archiving off'}), '1', '... and an alert where one does');

# An archive that does not hold what a backup needs.
$node->safe_psql('postgres', q{
	UPDATE leyser.generation_record SET source = 's/1', start_lsn = '0/5000028', stop_lsn = '0/6000100', completed_at = now(),
		system_identifier = (SELECT system_identifier FROM pg_control_system());
	INSERT INTO leyser.wal_archive_record (tool, source, system_identifier, timeline, oldest_segment, newest_segment, oldest_lsn)
		SELECT 'pgbackrest', 's/1', system_identifier, 1, '000000010000000000000005', '000000010000000000000006', '0/5000000' FROM pg_control_system()});
my $gaps = "SELECT count(*) FROM $alerts WHERE alert = 'archive gapped'";
is(as_operator($node, $gaps), '0', 'an archive that reaches from a backup\'s first to its last segment');
$node->safe_psql('postgres', qq{UPDATE leyser.wal_archive_record SET $_}), is(as_operator($node, $gaps), '1', "... is gapped otherwise: $_")
  for q{oldest_segment = '000000010000000000000006'}, q{oldest_segment = '000000010000000000000005', newest_segment = '000000010000000000000005'};

# A standby does nothing, and says so.
$node->append_conf('postgresql.conf', 'max_wal_senders = 5');
$node->restart;
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "leyser.keyring_directory = '" . keyring_directory($node) . "'");
$standby->start;
($sqlstate, $message) = sqlstate_of($standby, 'CALL leyser.tick()', user => 'operator');
is($sqlstate, '', 'a tick on a standby');
like($message, qr/NOTICE:  .*this server is a standby/, '... says that it is one');
is(as_operator($standby, "SELECT count(*) > 0 FROM $alerts"), 't', 'alerts are read there, too');
is_refused($standby, 'SELECT leyser.schedule()', '25006', '... and nothing is scheduled', user => 'operator');

$standby->stop;
$node->stop;
done_testing();
