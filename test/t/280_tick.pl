# Any scheduler may call tick(): what is due is done once, by whoever calls first,
# whatever the caller's settings are, and whatever ends the caller.

use strict;
use warnings;

use LeyserPurge;
use LeyserSchedule;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = schedule_node('tick', conf => "fsync = on\nrestart_after_crash = on");
fill_tenants($node, 200, qw(a b c d e stopped other));
my $other = fingerprint($node, 'other');

# Says so where nobody ticks.
alerts_are($node, ['heartbeat silent postgres'], 'that nobody ticks is an alert');
my $silent = as_operator($node, "SELECT since FROM $alerts");
is(as_operator($node, "SELECT since FROM $alerts"), $silent, '... of the same time at each look');
my $scheduled = q{INSERT INTO leyser.cron_job_record (job_name, role_name, cron_schedule, command, database_name, cron_database, scheduled_at)
	VALUES ('heartbeat', 'operator', '* * * * *', 'CALL leyser.tick()', 'postgres', 'postgres', clock_timestamp() - interval '%s minutes')};
$node->safe_psql('postgres', sprintf($scheduled, 0));
alerts_are($node, [], '... not just after the first schedule()');
$node->safe_psql('postgres', 'DELETE FROM leyser.cron_job_record; ' . sprintf($scheduled, 6));
alerts_are($node, ['heartbeat silent postgres'], '... but when minutes have passed');
$node->safe_psql('postgres', 'DELETE FROM leyser.cron_job_record');
tick($node);
alerts_are($node, [], 'a tick ends it');
runs_are($node, 0, [], 'a tick without anything to do leaves no run');
is(as_operator($node, q{SELECT count(*), bool_and(failures = 0 AND running_since IS NULL) FROM leyser.job}),
	as_operator($node, 'SELECT count(*), true FROM leyser.job'), '... and nothing that runs');

# A contract ends by the clock; the tick writes it down, and has the tenant purged.
$node->safe_psql('postgres', q{SELECT leyser.terminate_contract('a', clock_timestamp() + interval '1 second')});
tick($node);
is($node->safe_psql('postgres', q{SELECT state FROM leyser.tenant_record WHERE tenant_id = 'a'}), 'terminating', 'not before its time');
usleep(1_100_000);
tick($node);
runs_are($node, 0, [ 'settle contracts done contracts that have ended: 1', 'queue purges done a purge was queued' ],
	'a contract that has ended is settled, and its purge queued');
is_erased($node, 'a', 'a');

# Nothing of the caller's session counts.
$node->safe_psql('postgres', q{
	SELECT leyser.terminate_contract('b', clock_timestamp());
	ALTER ROLE operator SET TimeZone = 'Pacific/Kiritimati';
	ALTER ROLE operator SET default_transaction_read_only = on;
	ALTER ROLE operator SET default_transaction_isolation = 'serializable';
	ALTER ROLE operator SET search_path = 'public';
	ALTER ROLE operator SET DateStyle = 'SQL, DMY';
	CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$SELECT '2000-01-01'::timestamptz$$;
	DELETE FROM leyser.job_record;
});
as_operator($node, q{SET statement_timeout = '1ms'; CALL leyser.tick()});
is_erased($node, 'b', 'b: a hostile session');
is($node->safe_psql('postgres', q{SELECT daily_at, (due_at AT TIME ZONE 'UTC')::time, due_at > clock_timestamp(), due_at <= clock_timestamp() + interval '1 day'
	FROM leyser.job_record WHERE job = 'upkeep'}), '18:30:00|18:30:00|t|t', '... moves no due time either: it is reckoned in UTC');
$node->safe_psql('postgres', 'ALTER ROLE operator RESET ALL; DROP FUNCTION public.clock_timestamp()');

# Two at once: the second does what the first does not.
my $locker = open_session($node);
$node->safe_psql('postgres', q{SELECT leyser.terminate_contract('c', clock_timestamp() + interval '100 ms')});
usleep(200_000);
$locker->query('BEGIN; LOCK TABLE leyser.event_record IN ACCESS EXCLUSIVE MODE');
my ($first) = start_tick($node, '');
is($node->safe_psql('postgres', q{SELECT job, running_pid = (SELECT pid FROM pg_stat_activity WHERE query ~ '^CALL leyser.tick')
	FROM leyser.job WHERE running_since IS NOT NULL}), 'settle contracts|t', 'who does what is seen');
make_due($node, 'upkeep', '1 minute');
tick($node);
is($node->safe_psql('postgres', q{SELECT last_success > clock_timestamp() - interval '1 minute' FROM leyser.job WHERE job = 'upkeep'}), 't',
	'a second tick does another job');
is($node->safe_psql('postgres', q{SELECT state FROM leyser.tenant_record WHERE tenant_id = 'c'}), 'terminating', '... and not the one that is being done');
$locker->query('COMMIT');
$first->finish;
is_erased($node, 'c', 'c: two ticks at once');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event WHERE event = 'contract.ended' AND tenant_id = 'c'}), '1', '... once');

# Whoever is killed in the middle keeps nobody waiting; the next one does it, once.
my $run = $node->safe_psql('postgres', 'SELECT max(run_id) FROM leyser.job_run');
$node->safe_psql('postgres', q{SELECT leyser.terminate_contract('d', clock_timestamp() + interval '100 ms')});
usleep(200_000);
$locker->query('BEGIN; LOCK TABLE leyser.event_record IN ACCESS EXCLUSIVE MODE');
my ($killed) = start_tick($node, '');
kill 'KILL', $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE query ~ '^CALL leyser.tick'});
eval { $killed->finish };
wait_for_server($node);
eval { $locker->quit };
tick($node);
is_erased($node, 'd', 'd: a tick that was killed');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event WHERE event = 'contract.ended' AND tenant_id = 'd'}), '1', '... once');
like(as_operator($node, qq{SELECT string_agg(job || ' ' || state, ', ' ORDER BY run_id) FROM leyser.job_run WHERE run_id > $run}),
	qr/^settle contracts interrupted, settle contracts done, queue purges done$/, '... and its run is known to have been interrupted');
is(as_operator($node, q{SELECT failures, running_since IS NULL FROM leyser.job WHERE job = 'settle contracts'}), '0|t', '... and forgiven');

# An expiry that is killed has expired nothing; the next one does, once.
$locker = open_session($node);
$node->safe_psql('postgres', q{INSERT INTO leyser.generation_record (state, kind, tool, label, region, system_identifier, started_at, completed_at, recorded_by, recorded_at)
	SELECT 'complete', 'full', 'manual', 'old ' || d, 'JP', leyser.this_system(), t, t, 'test', t
	FROM generate_series(20, 22) d, LATERAL (SELECT now() - make_interval(days => d)) o (t)});
make_due($node, 'expire backups', '1 minute');
$locker->query('BEGIN; LOCK TABLE leyser.event_record IN ACCESS EXCLUSIVE MODE');
($killed) = start_tick($node, '');
kill 'KILL', $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE query ~ '^CALL leyser.tick'});
eval { $killed->finish };
wait_for_server($node);
eval { $locker->quit };
my $expiry = q{SELECT (SELECT count(*) FROM leyser.generation_record WHERE state = 'expired'), (SELECT count(*) FROM leyser.event WHERE event = 'backup.expired')};
is($node->safe_psql('postgres', $expiry), '0|0', 'an expiry that was killed: nothing expired');
tick($node);
tick($node);
is($node->safe_psql('postgres', $expiry), '2|2', '... then all does, once, but for the newest');

# No job is begun when the budget is used.
$locker = open_session($node);
$run = $node->safe_psql('postgres', 'SELECT max(run_id) FROM leyser.job_run');
$node->safe_psql('postgres', q{SELECT leyser.terminate_contract('e', clock_timestamp() + interval '100 ms')});
usleep(200_000);
tick($node, q{'0 seconds'});
runs_are($node, $run, [], 'no budget: nothing is begun');
$locker->query('BEGIN; LOCK TABLE leyser.event_record IN ACCESS EXCLUSIVE MODE');
my ($slow) = start_tick($node, q{'500 ms'});
usleep(700_000);
$locker->query('COMMIT');
$slow->finish;
runs_are($node, $run, ['settle contracts done contracts that have ended: 1'], 'a job that takes longer than the budget is the last one');
tick($node);
is_erased($node, 'e', 'e: the next tick goes on');

# What stops one purge stops no other, is told, and is tried again.
$node->safe_psql('postgres', q{
	CREATE RULE keep AS ON DELETE TO item DO INSTEAD NOTHING;
	SELECT leyser.create_tenant('empty');
	SELECT leyser.terminate_contract(t, clock_timestamp()) FROM unnest('{stopped,empty}'::text[]) t;
});
tick($node);
wait_for_purge($node, 'empty', q{state = 'erased'}, 'a tenant without rows is erased, though another one\'s purge cannot begin');
alerts_are($node, ['purge cannot begin stopped'], '... which is an alert');
like(as_operator($node, "SELECT detail || remedy FROM $alerts"), qr/rule "keep" of "public.item".*DISABLE RULE keep/, '... that says why, and what to do');
$silent = as_operator($node, "SELECT since FROM $alerts");
tick($node);
is($node->safe_psql('postgres', 'SELECT failures FROM leyser.job_problem'), '1', 'it is not tried again at once');
$node->safe_psql('postgres', 'UPDATE leyser.job_problem SET retry_at = clock_timestamp()');
tick($node);
is($node->safe_psql('postgres', q{SELECT failures, retry_at - clock_timestamp() > interval '90 seconds' FROM leyser.job_problem}), '2|t', '... later each time');
is(as_operator($node, "SELECT since FROM $alerts"), $silent, '... and still since the same time');
$node->safe_psql('postgres', 'DROP RULE keep ON item; UPDATE leyser.job_problem SET retry_at = clock_timestamp()');
tick($node);
alerts_are($node, [], 'what stopped it is gone, and so is the alert');
is_erased($node, 'stopped', 'stopped');

# A job that fails does not stop the others, and is tried again later each time.
$run = $node->safe_psql('postgres', 'SELECT max(run_id) FROM leyser.job_run');
$locker->query('BEGIN; LOCK TABLE leyser.generation_record IN SHARE ROW EXCLUSIVE MODE');
make_due($node, 'expire backups', '1 minute');
make_due($node, 'upkeep', '1 minute');
tick($node);
like(as_operator($node, qq{SELECT string_agg(job || ' ' || state, ', ' ORDER BY run_id) FROM leyser.job_run WHERE run_id > $run}),
	qr/^expire backups failed, upkeep done$/, 'one job fails, the next is done');
$locker->query('COMMIT');
alerts_are($node, ['job failing expire backups'], '... and the failure is an alert');
tick($node);
is(as_operator($node, q{SELECT failures, retry_at > clock_timestamp() FROM leyser.job WHERE job = 'expire backups'}), '1|t', 'it is not tried at once');
make_due($node, 'expire backups', '1 minute');
tick($node);
is(as_operator($node, q{SELECT failures, retry_at, last_error, due_at > clock_timestamp() + interval '59 minutes' FROM leyser.job WHERE job = 'expire backups'}),
	'0|||t', '... then it succeeds, and is due as ever');
alerts_are($node, [], '... without an alert');

# A server that was down over due times catches up once.
$run = $node->safe_psql('postgres', 'SELECT max(run_id) FROM leyser.job_run');
make_due($node, 'upkeep', '3 days');
alerts_are($node, ['job late upkeep'], 'a day that was missed is an alert');
$node->restart;
tick($node) for 1 .. 3;
like(as_operator($node, qq{SELECT string_agg(job, ',') FROM leyser.job_run WHERE run_id > $run}), qr/^upkeep$/, 'three days missed: one run');
is(as_operator($node, q{SELECT due_at > clock_timestamp() AND due_at < clock_timestamp() + interval '25 hours' FROM leyser.job WHERE job = 'upkeep'}), 't',
	'... and the next is the next day\'s');
alerts_are($node, [], '... and no alert is left');

# Daily times in UTC; a run shortly before one is that one's.
is($node->safe_psql('postgres', q{SET TimeZone = 'Asia/Tokyo';
	SELECT leyser.next_due(NULL, '15:00', s::timestamptz) AT TIME ZONE 'UTC' FROM unnest(ARRAY[
		'2026-01-01 15:00:00+00', '2026-01-01 16:00:00+00', '2026-01-01 13:59:59+00', '2026-01-01 14:00:00+00', '2026-02-28 23:59:00+00']) s}),
	join("\n", map { "2026-0$_ 15:00:00" } qw(1-02 1-02 1-01 1-02 3-01)), 'when a daily job is due again');

# A clock that was moved back moves no due time and deletes nothing.
my $due = $node->safe_psql('postgres', 'SELECT string_agg(due_at::text, $$,$$ ORDER BY job) FROM leyser.job_record WHERE daily_at IS NOT NULL');
make_due($node, 'expire backups', '1 minute');
$node->safe_psql('postgres', q{UPDATE leyser.tick_record SET latest_at = clock_timestamp() + interval '1 day';
	SELECT leyser.create_tenant('late'); SELECT leyser.terminate_contract('late', clock_timestamp())});
$run = $node->safe_psql('postgres', 'SELECT max(run_id) FROM leyser.job_run');
my ($sqlstate, $told) = sqlstate_of($node, 'CALL leyser.tick()', user => 'operator');
like($told, qr/WARNING:  .*the clock was moved back/, 'a tick says that the clock was moved back');
runs_are($node, $run, [], '... does nothing that deletes');
is($node->safe_psql('postgres', 'SELECT string_agg(due_at::text, $$,$$ ORDER BY job) FROM leyser.job_record WHERE daily_at IS NOT NULL'), $due,
	'... moves no due time');
alerts_are($node, ['clock moved back postgres'], '... and it is an alert');
$node->safe_psql('postgres', q{INSERT INTO leyser.generation_record (state, kind, tool, label, started_at, recorded_by, recorded_at)
	VALUES ('running', 'snapshot', 'manual', 'ahead', clock_timestamp(), 'test', clock_timestamp() + interval '1 day')});
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.backup_alerts() WHERE alert = 'clock moved back'}), '1', '... that the books tell, too');
alerts_are($node, ['clock moved back postgres'], '... once for all');
tick($node, 'accept_clock => true');
alerts_are($node, [], 'somebody says that the time is right, and the books\' is not');
$node->safe_psql('postgres', q{UPDATE leyser.generation_record SET recorded_at = recorded_at + interval '1 day' WHERE label = 'ahead'});
alerts_are($node, ['clock moved back postgres'], '... which says nothing of a time that is later still');
$node->safe_psql('postgres', q{DELETE FROM leyser.generation_record WHERE label = 'ahead'});
wait_for_purge($node, 'late', q{state = 'erased'}, '... and all goes on');
is($node->safe_psql('postgres', q{SELECT caller_role FROM leyser.event WHERE event = 'schedule.clock_accepted'}), 'operator', '... which is an event');

# What a tick is not.
is_refused($node, 'BEGIN; CALL leyser.tick()', '25001', 'in a transaction block', user => 'operator');
is_refused($node, "CALL leyser.tick($_)", '22023', "a budget of $_", user => 'operator') for q{'-1 seconds'}, q{'1 day'}, q{'2 hours'};
is_refused($node, "CALL leyser.tick($_)", '22004', "$_", user => 'operator') for 'NULL', q{'1 second', NULL};
$node->safe_psql('postgres', q{CREATE ROLE auditor LOGIN; SELECT leyser.grant_usage('auditor', 'auditor');
	CREATE ROLE keeper LOGIN; SELECT leyser.grant_usage('keeper', 'backup'); CREATE ROLE nobody LOGIN});
for my $role (qw(auditor keeper))
{
	is(sqlstate_of($node, 'SELECT * FROM leyser.backup_alert; SELECT * FROM leyser.job; SELECT * FROM leyser.job_run', user => $role), '', "$role looks");
	is_refused($node, $_, '42501', "$role: $_", user => $role)
	  for 'CALL leyser.tick()', 'SELECT leyser.schedule()', 'SELECT leyser.unschedule()', q{SELECT leyser.run_in_database('postgres', 'SELECT 1', '{}')};
}
is_refused($node, $_, '42501', "nobody: $_", user => 'nobody')
  for 'CALL leyser.tick()', 'SELECT * FROM leyser.backup_alert', 'SELECT * FROM leyser.job', 'SELECT * FROM leyser.job_run';
is(fingerprint($node, 'other'), $other, 'the other tenant is what it was');

eval { $locker->quit };
$node->stop;
done_testing();
