# Usage by tenant and day: events once they are sealed, and what was refused, which a
# rollback does not undo.  A tenant's administrators see their own; it goes with its
# retention, and by a purge.  What is far over the usual stands out.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('usage');
$node->safe_psql('postgres', q{
	CREATE ROLE auditor LOGIN; CREATE ROLE operator LOGIN; CREATE ROLE gateway LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	SELECT leyser.grant_usage('auditor', 'auditor'), leyser.grant_usage('operator', 'operator'), leyser.grant_usage('gateway', 'gateway');
	SELECT leyser.create_tenant(t) FROM unnest('{t1,t2,t3}'::text[]) t;
	SELECT leyser.create_account('ada', 't1'), leyser.create_account('bob', 't2');
	CREATE TABLE item (tenant_id text NOT NULL, id int NOT NULL, PRIMARY KEY (tenant_id, id));
	CREATE TABLE closed (n int);
	SELECT leyser.protect('item'), leyser.audit('item');
	GRANT SELECT, INSERT, UPDATE, DELETE ON item TO gateway;
});

sub tick
{
	$node->safe_psql('postgres', q{UPDATE leyser.job_record SET due_at = clock_timestamp() WHERE job ~ 'events|refusals'});
	$node->safe_psql('postgres', 'CALL leyser.tick()', extra_params => [ '-U', 'operator' ]);
	is($node->safe_psql('postgres', q{SELECT job, last_error FROM leyser.job WHERE failures > 0}), '', 'the jobs ran');
	return;
}

# What the auditor sees of today.
sub usage
{
	my ($tenant, $columns) = @_;

	return $node->safe_psql('postgres', "SELECT $columns FROM leyser.daily_usage WHERE day = (now() AT TIME ZONE 'UTC')::date AND tenant_id "
		. ($tenant ? "= '$tenant'" : 'IS NULL'), extra_params => [ '-U', 'auditor' ]);
}

sub as_gateway
{
	my ($sql) = @_;

	return $node->psql('postgres', $sql, extra_params => [ '-U', 'gateway' ], on_error_stop => 0);
}

tick();
is(usage('t1', 'logins, failed_logins, refused_tokens, denials, audited_rows'), '0|0|0|0|0', 'at first there are events only');
cmp_ok(usage('t1', 'events'), '>', 1, '... of what made the tenant');

# ---- what is done, and refused ----

my $short = $node->safe_psql('postgres', q{SELECT leyser.issue_token('t1', 'ada', '1 second')}, extra_params => [ '-U', 'gateway' ]);
as_gateway(q{SELECT leyser.login('t1', 'ada', 'not the right one')}) for 1 .. 3;
as_gateway(q{SELECT set_config('leyser.token', 'nonsense', true)}) for 1 .. 2;
as_gateway('SELECT * FROM item') for 1 .. 4;
as_gateway(q{BEGIN; SELECT leyser.enter('t1', 'ada') \g /dev/null
	SELECT * FROM closed; ROLLBACK}) for 1 .. 5;
as_gateway(q{BEGIN; SELECT leyser.enter('t1', 'ada') \g /dev/null
	INSERT INTO item SELECT 't1', g FROM generate_series(1, 6) g; COMMIT});
as_gateway(q{BEGIN; SELECT leyser.enter('t1', 'ada') \g /dev/null
	INSERT INTO item SELECT 't1', g FROM generate_series(11, 16) g; ROLLBACK});
as_gateway(q{BEGIN; SELECT leyser.enter('t1', 'ada') \g /dev/null
	PREPARE mine AS SELECT 1; ROLLBACK});
sleep(2);
as_gateway(qq{SELECT set_config('leyser.token', '$short', true)});
# caught, so that the server log says nothing
as_gateway(q{DO $$ BEGIN PERFORM set_config('leyser.token', 'nonsense', true); EXCEPTION WHEN OTHERS THEN NULL; END $$});
as_gateway(q{DO $$ BEGIN PERFORM FROM item; EXCEPTION WHEN OTHERS THEN NULL; END $$});

is(usage('t1', 'failed_logins, refused_tokens, denials'), '0|0|0', 'before a tick nothing is counted');
tick();
my $expected = '3|1|5|1|6|0';
is(usage('t1', 'failed_logins, refused_tokens, denials, refused_statements, audited_rows, logins'), $expected,
	'failed logins, a token that had expired, denials, what a guard refused, and rows that were committed');
is(usage(undef, 'refused_tokens, refused_contexts'), '3|5', 'outside of a context, and caught, too');
tick();
is(usage('t1', 'failed_logins, refused_tokens, denials, refused_statements, audited_rows, logins'), $expected, 'each counts once');
is(usage('t2', 'refused_tokens, denials, audited_rows'), '0|0|0', 'another tenant has its own');

# Who takes the counts and is rolled back loses none.
as_gateway(q{BEGIN; SELECT leyser.enter('t2', 'bob') \g /dev/null
	SELECT * FROM closed; ROLLBACK}) for 1 .. 2;
is($node->safe_psql('postgres', q{BEGIN; SELECT leyser.count_refusals() \g /dev/null
	SELECT leyser.refusals_wait(); ROLLBACK; SELECT leyser.refusals_wait();
	BEGIN; SAVEPOINT a; SELECT leyser.count_refusals() \g /dev/null
	ROLLBACK TO a; SELECT leyser.refusals_wait(); SAVEPOINT b; SAVEPOINT c; SELECT leyser.count_refusals() \g /dev/null
	RELEASE c; ROLLBACK TO b; SELECT leyser.refusals_wait(); COMMIT}), "f\nt\nt\nt", 'what was taken comes back with a rollback');
tick();
is(usage('t2', 'denials'), '2', '... and is counted');
is($node->safe_psql('postgres', q{BEGIN; SAVEPOINT a; SELECT leyser.count_refusals() \g /dev/null
	RELEASE a; COMMIT; SELECT leyser.refusals_wait()}), 'f', 'nothing is left');

# Who locks the log keeps nobody from sealing and counting.
my $locker = open_session($node);
$node->safe_psql('postgres', q{SELECT leyser.suspend_tenant('t3')});
$locker->query_safe('BEGIN; LOCK TABLE leyser.event_record IN ACCESS EXCLUSIVE MODE');
$node->safe_psql('postgres', q{SET statement_timeout = '20s'; SELECT leyser.seal_events()});
is($node->safe_psql('postgres', 'SELECT count(*) FROM leyser.event_pending'), '0', 'events are sealed beside who locks the log');
$locker->query_safe('COMMIT');
$locker->quit;

# ---- who sees it ----

sub as_account
{
	my ($tenant, $account, $sql) = @_;

	return $node->safe_psql('postgres', "BEGIN; SELECT leyser.enter('$tenant', '$account') \\g /dev/null\n$sql; COMMIT", extra_params => [ '-U', 'gateway' ]);
}
is(as_account('t1', 'ada', 'SELECT failed_logins, refused_tokens, denials FROM leyser.tenant_usage'), '3|1|5', 'an administrator sees its own tenant\'s');
is(as_account('t2', 'bob', 'SELECT failed_logins, refused_tokens, denials FROM leyser.tenant_usage'), '0|0|2', '... and another the other\'s');
$node->safe_psql('postgres', q{SELECT leyser.create_account('carol', 't1')});
is(as_account('t1', 'carol', 'SELECT count(*) FROM leyser.tenant_usage'), '0', '... others of the tenant nothing');
is_refused($node, 'SELECT * FROM leyser.tenant_usage', 'LY001', '... nobody without a context', user => 'gateway');
is_refused($node, "SELECT * FROM leyser.$_", '42501', "not for everybody: $_", user => 'gateway')
  for qw(daily_usage anomaly daily_usage_record list_anomalies() take_refusals() count_refusals());
tick();

# ---- what stands out ----

# Of t3, and of what all tests above did nothing.
sub anomalies
{
	return $node->safe_psql('postgres', q{SELECT anomaly, tenant_id, figure, usual FROM leyser.anomaly WHERE tenant_id = 't3' OR anomaly = 'new finding' ORDER BY 1, 2, 3},
		extra_params => [ '-U', 'auditor' ]);
}

# Events of so many days before today.
sub days
{
	my ($event, $from, $to, $events, $rows) = @_;

	$node->safe_psql('postgres', "INSERT INTO leyser.daily_usage_record SELECT (now() AT TIME ZONE 'UTC')::date - g, 't3', '$event', $events, " . ($rows // 0)
		. ", now() - g * interval '1 day', now() - g * interval '1 day' FROM generate_series($from, $to) g");
	return;
}
is(anomalies(), '', 'nothing stands out');
days('login.failed', 0, 0, 19);
is(anomalies(), '', 'nor do a few failed logins');
$node->safe_psql('postgres', q{UPDATE leyser.daily_usage_record SET events = 20 WHERE tenant_id = 't3' AND event = 'login.failed'});
is(anomalies(), 'failed logins|t3|20|0.0', 'many do');
days('login.failed', 1, 28, 6);
is(anomalies(), 'failed logins|t3|20|6.0', '... for a tenant of whom there are a few each day');
$node->safe_psql('postgres', q{UPDATE leyser.daily_usage_record SET events = 7 WHERE tenant_id = 't3' AND event = 'login.failed' AND day < (now() AT TIME ZONE 'UTC')::date});
is(anomalies(), '', '... where that is not more than three times as many they do not');
days('row.updated', 0, 0, 1, 10000);
days('row.updated', 1, 28, 1, 1999);
is(anomalies(), 'unusual changes|t3|10000|1999.0', 'changes far over the usual');
days('token.refused', 3, 3, 500);
days('token.refused', 9, 9, 500);
is(anomalies(), "refused tokens|t3|500|20.0\nunusual changes|t3|10000|1999.0", 'days of the last week, against those before; an older one no more');
$node->safe_psql('postgres', q{DELETE FROM leyser.daily_usage_record WHERE tenant_id = 't3'});
days('row.updated', 0, 0, 1, 10000);
days('row.updated', 1, 3, 1, 10);
is(anomalies(), '', 'of a tenant that is new nobody knows what is usual');
$node->safe_psql('postgres', q{SELECT leyser.record_event('privileged.read', 't3', 'public.item', NULL)});
tick();
is(anomalies(), 'privileged access|t3|1|0.0', 'privileged access always stands out');
$node->safe_psql('postgres', q{INSERT INTO leyser.finding_record VALUES ('bypass.unforced', 'public.item', 'The owner sees all rows.', now(), now(), NULL, now()),
	('bypass.unforced', 'public.other', 'The owner sees all rows.', now(), now(), now(), NULL)});
is(anomalies(), "new finding||1|0\nprivileged access|t3|1|0.0", '... and so does a new finding, as long as it is there');

# ---- how long ----

$node->safe_psql('postgres', q{INSERT INTO leyser.daily_usage_record SELECT (now() AT TIME ZONE 'UTC' - m * interval '1 month')::date, 't3', 'test.kept', 1, 0, now(), now()
	FROM generate_series(1, 12) m});
tick();
is($node->safe_psql('postgres', q{SELECT count(*), max(day) = (now() AT TIME ZONE 'UTC' - interval '1 month')::date, min(day) >= date_trunc('month', now() AT TIME ZONE 'UTC' - interval '6 months')
	FROM leyser.daily_usage_record WHERE event = 'test.kept'}), '6|t|t', 'days go with their month, after six');
$node->safe_psql('postgres', q{SELECT leyser.set_event_retention('1 year')}, extra_params => [ '-U', 'operator' ]);
$node->safe_psql('postgres', q{INSERT INTO leyser.daily_usage_record SELECT (now() AT TIME ZONE 'UTC' - interval '11 months')::date, 't3', 'test.kept', 1, 0, now(), now()});
tick();
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.daily_usage_record WHERE event = 'test.kept'}), '7', '... or as long as was promised');

# ---- a purge ----

$node->safe_psql('postgres', q{SELECT leyser.terminate_contract('t1', clock_timestamp())}, extra_params => [ '-U', 'operator' ]);
$node->safe_psql('postgres', q{CALL leyser.purge('t1')}, extra_params => [ '-U', 'operator' ]);
tick();
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.daily_usage_record WHERE tenant_id = 't1'}), '0', 'a purge erases it, and what the purge itself records does not bring it back');
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.daily_usage_record WHERE tenant_id = 't3'}), '>', 0, '... nobody else\'s');
is($node->safe_psql('postgres', 'SELECT * FROM leyser.verify_events()', extra_params => [ '-U', 'auditor' ]), '', 'the chain is unbroken');

$node->stop;
done_testing();
