# Privileged access where it cannot be written at once: on a standby, while the event log
# is locked, in a session that is killed; and connections that carry everything away.

use strict;
use warnings;

use LeyserTest;
use LeyserPrivileged;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $primary = new_node('primary', init => { allows_streaming => 1 }, conf => 'restart_after_crash = on');
make_shop($primary);
$primary->safe_psql('postgres', 'CREATE DATABASE other');
create_extension($primary, 'other');
$primary->backup('base');

# Replication: each database with leyser has an event of each.
foreach my $database (qw(postgres other))
{
	$primary->safe_psql($database, 'CALL leyser.tick()') foreach 1 .. 2;
	is($primary->safe_psql($database, q{SELECT session_role IS NOT NULL, count(*) > 0, bool_and(detail ->> 'application' <> '') FROM leyser.event
		WHERE event = 'replication.connected' GROUP BY 1}), 't|t|t', "a base backup is an event of $database");
}
my $connections = $primary->safe_psql('postgres', q{SELECT count(*) FROM leyser.event WHERE event = 'replication.connected'});
is($primary->safe_psql('other', q{SELECT count(*) FROM leyser.event WHERE event = 'replication.connected'}), $connections, '... once in each');
like(slurp_file($primary->logfile), qr/leyser event: \{"event": "replication.connected", "session_role": /, '... and a line of the log at once');

# A standby: its log and its counts, which a promotion makes events.
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
my $copy = keyring_directory($standby);
mkdir $copy, 0700 or die $!;
$standby->append_conf('postgresql.conf', "leyser.keyring_directory = '$copy'");
system_or_bail('sh', '-c', "cp -p '" . keyring_directory($primary) . "'/* '$copy'/");
$standby->start;
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));
my $position = log_position($standby);
my $session = open_session($standby, user => 'boss');
$session->query('SELECT count(*) FROM invoice') foreach 1 .. 5;
my $lines = log_since($standby, $position);
is(scalar(() = $lines =~ /"privileged.access".*"statements": 1\}/g), 1, 'on a standby the first access is a line of its log, once');
is($standby->safe_psql('postgres', q{SELECT relation, role, statements, event_id IS NULL FROM leyser.privileged_access WHERE role = 'boss'}, extra_params => [ '-U', 'auditor' ]),
	'public.invoice|boss|5|t', '... and all are counted');
$session->quit;
$standby->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE usename = 'boss'}) or die;
like(log_since($standby, $position), qr/"privileged.access".*"statements": 4\}/, '... what was repeated at the session\'s end');
$standby->append_conf('postgresql.conf', 'leyser.privileged_access = refuse');
$standby->reload;
$standby->poll_query_until('postgres', q{SELECT current_setting('leyser.privileged_access') = 'refuse'}) or die;
is_refused($standby, 'SELECT * FROM invoice', 'LY007', 'it is refused there, too', user => 'beyond');
my $window = $primary->safe_psql('postgres', q{SELECT leyser.open_privileged_access('beyond', 'a report')});
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));
is(sqlstate_of($standby, 'SELECT * FROM invoice', user => 'beyond'), '', 'a window of the primary\'s is open on the standby');
$standby->promote;
$standby->poll_query_until('postgres', q{SELECT NOT pg_is_in_recovery()}) or die;
$standby->safe_psql('postgres', 'CALL leyser.tick()') foreach 1 .. 2;
is($standby->safe_psql('postgres', qq{SELECT event, role, sum(statements), max(window_id), count(event_id) = count(*) FROM leyser.privileged_access
	WHERE role IN ('boss', 'beyond') GROUP BY event, role ORDER BY event, role}),
	"privileged.access|beyond|1|$window|t\nprivileged.access|boss|5||t\nprivileged.refused|beyond|1||t", 'after its promotion they are events');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM leyser.verify_events()'), '0', '... in an unbroken chain');
$standby->stop;

# Where the log is locked, the session waits a while, goes on, and the count waits.
accessed($primary);
my $locker = open_session($primary);
$locker->query('BEGIN; LOCK TABLE leyser.event_record IN ACCESS EXCLUSIVE MODE');
is(sqlstate_of($primary, 'SELECT * FROM invoice; SELECT * FROM invoice', user => 'boss'), '', 'while the event log is locked nobody is stopped');
$locker->query('COMMIT');
$primary->safe_psql('postgres', 'CALL leyser.tick()');
is(accessed($primary), 'access invoice boss SELECT superuser 2', '... and nothing is lost');
# ... in a window under refuse it does not go on
set_access($primary, 'refuse');
$primary->safe_psql('postgres', q{SELECT leyser.open_privileged_access('boss', 'a look')});
accessed($primary);
$locker->query('BEGIN; LOCK TABLE leyser.event_record IN ACCESS EXCLUSIVE MODE');
is_refused($primary, 'SELECT * FROM invoice', '53000', 'in a window what cannot be recorded is not seen', user => 'boss');
$locker->query('COMMIT');
$locker->quit;
set_access($primary, 'record');

# A session that saw something and is killed, with the server: it is on record.
accessed($primary);
$session = open_session($primary, user => 'boss');
$session->query('BEGIN');
$session->query('SELECT count(*) FROM line');
my $pid = $primary->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE usename = 'boss'});
kill 'KILL', $pid;
eval { $session->quit };
wait_for_server($primary);
is(accessed($primary), 'access line boss SELECT superuser 1', 'what was waited for survives a crash');

# More tables than a session has places.
$primary->safe_psql('postgres', q{DO $$ BEGIN FOR i IN 1 .. 200 LOOP
	EXECUTE format('CREATE TABLE many_%s (tenant_id int NOT NULL)', i); PERFORM leyser.protect(format('many_%s', i)::regclass); END LOOP; END $$});
accessed($primary);
is(sqlstate_of($primary, join('; ', map { "SELECT FROM many_$_" } (1 .. 200, 1 .. 200)), user => 'boss'), '', 'a session that sees 200 tables twice');
$primary->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM leyser.list_privileged())}) or die;
is($primary->safe_psql('postgres', q{SELECT count(DISTINCT relation), sum(statements) FROM leyser.privileged_access WHERE relation ~ 'many_' AND role = 'boss'}),
	'200|400', '... is counted whole');

$primary->stop;
done_testing();
