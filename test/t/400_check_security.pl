# The security check: who calls it, what it answers, waivers that end, what the nightly
# job keeps and tells.

use strict;
use warnings;

use LeyserCheck;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = check_node('check');

sub as_role
{
	my ($role, $sql) = @_;
	return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]);
}

# What is found now of tables and roles.
sub found
{
	return join ' ', map { s/ /_/gr } split /\n/, as_role('auditor', q{SELECT concat_ws(' ', check_id, object) FROM leyser.check_security('bypass')});
}

# Who.
foreach my $role (qw(operator auditor))
{
	is(as_role($role, 'SELECT count(*) FROM leyser.check_security()'), '0', "$role: nothing is found");
	is(as_role($role, 'SELECT count(*) >= 10 FROM leyser.check_rule'), 't', "$role reads the rules");
	is(as_role($role, 'SELECT (SELECT count(*) FROM leyser.check_finding), (SELECT count(*) FROM leyser.check_waiver)'), '0|0', "$role reads what was seen and waived");
}
is_refused($node, $_, '42501', "auditor: $_", user => 'auditor')
  foreach q{SELECT leyser.waive_check('bypass.bypassrls', 'role reporting', 'why', now() + interval '1 day')}, q{SELECT leyser.lift_waiver('a', 'b')}, 'SELECT leyser.note_findings()';
foreach my $role (qw(app reader custodian))
{
	is_refused($node, $_, '42501', "$role: $_", user => $role)
	  foreach 'SELECT * FROM leyser.check_security()', 'SELECT * FROM leyser.check_rule', 'SELECT * FROM leyser.check_finding', 'SELECT * FROM leyser.check_waiver',
	  q{SELECT leyser.waive_check('bypass.bypassrls', 'role reporting', 'why', now() + interval '1 day')};
}

# What the catalogue of rules says.
is($node->safe_psql('postgres', $_), '0', $_)
  foreach q{SELECT count(*) FROM leyser.check_rule WHERE check_id !~ '^[a-z]+\.[a-z0-9_]+$' OR severity NOT IN ('critical', 'high', 'medium', 'low') OR fails NOT IN ('open', 'closed', 'none')},
  q{SELECT count(*) FROM leyser.check_rule WHERE '' IN (what, why, example, remedy) OR num_nulls(check_id, family, severity, fails, what, why, example, remedy) > 0},
  q{SELECT count(*) - count(DISTINCT check_id) FROM leyser.check_rule}, q{SELECT count(*) - count(DISTINCT what) FROM leyser.check_rule};
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.check_rule WHERE fails = 'none' AND severity <> 'low'}), '0', 'what fails neither way is of low severity');

# Families.
$node->safe_psql('postgres', 'CREATE ROLE reporting BYPASSRLS');
is(found(), 'bypass.bypassrls_role_reporting', 'what is found');
is(as_role('auditor', q{SELECT severity, finding, remedy FROM leyser.check_security()}), 'high|Row security does not bind it.|ALTER ROLE reporting NOBYPASSRLS;', '... how bad, and what to do');
is_refused($node, q{SELECT * FROM leyser.check_security('no such')}, '22023', 'an unknown family', user => 'auditor');

# Waivers.
my $waiver = q{SELECT leyser.waive_check('bypass.bypassrls', 'role reporting', %s, %s)};
is_refused($node, sprintf($waiver, @$_), '22023', "a waiver with @$_", user => 'operator')
  foreach [ q{''}, q{now() + interval '1 day'} ], [ q{'  '}, q{now() + interval '1 day'} ], [ 'NULL', q{now() + interval '1 day'} ], [ q{'why'}, 'NULL' ], [ q{'why'}, 'now()' ],
  [ q{'why'}, q{'infinity'} ], [ q{'why'}, q{now() + interval '2 years'} ];
my $until = q{'why', now() + interval '1 day'};
is_refused($node, "SELECT leyser.waive_check('bypass.no_such', 'role reporting', $until)", '42704', 'an unknown rule', user => 'operator');
is_refused($node, "SELECT leyser.waive_check(NULL, 'role reporting', $until)", '42704', 'no rule', user => 'operator');
is_refused($node, "SELECT leyser.waive_check('bypass.bypassrls', $_, $until)", 'LY008', "no finding about $_", user => 'operator') foreach q{'role other'}, 'NULL', q{'%'};
is_refused($node, q{SELECT leyser.lift_waiver('bypass.bypassrls', 'role reporting')}, 'LY008', 'no waiver to be lifted', user => 'operator');
is($node->safe_psql('postgres', 'SELECT count(*) FROM leyser.waiver_record'), '0', 'nothing of it was kept');

as_role('operator', sprintf($waiver, q{'a report that ends soon'}, q{clock_timestamp() + interval '3 seconds'}));
is(found(), '', 'a waived finding is not shown');
is(as_role('auditor', 'SELECT check_id, object, reason, waived_by, is_valid FROM leyser.check_waiver'), 'bypass.bypassrls|role reporting|a report that ends soon|operator|t', '... auditors read who waived it, and why');
is($node->safe_psql('postgres', q{SELECT object, detail ->> 'check_id', detail ->> 'reason', caller_role FROM leyser.event WHERE event = 'check.waived'}),
	'role reporting|bypass.bypassrls|a report that ends soon|operator', '... which is an event');
$node->safe_psql('postgres', 'CREATE ROLE reporting2 BYPASSRLS');
is(found(), 'bypass.bypassrls_role_reporting2', '... and holds for that object only');
$node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM leyser.check_security('bypass')}) or die;
is(as_role('auditor', 'SELECT is_valid FROM leyser.check_waiver'), 'f', 'it comes back by itself when the waiver has ended');
as_role('operator', sprintf($waiver, q{'once more'}, q{now() + interval '90 days'}));
is(found(), 'bypass.bypassrls_role_reporting2', 'it is waived again');
as_role('operator', q{SELECT leyser.lift_waiver('bypass.bypassrls', 'role reporting')});
is(found(), 'bypass.bypassrls_role_reporting bypass.bypassrls_role_reporting2', '... and that is lifted');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event WHERE event = 'check.waiver_lifted'}), '1', '... which is an event, too');
$node->safe_psql('postgres', 'DROP ROLE reporting2');

# The nightly job.
sub nightly
{
	$node->safe_psql('postgres', q{UPDATE leyser.job_record SET due_at = clock_timestamp() - interval '1 second' WHERE job = 'check security'; CALL leyser.tick()});
	return;
}
my $events = q{SELECT count(*) FROM leyser.event WHERE event = 'check.found'};
is($node->safe_psql('postgres', q{SELECT due_at > clock_timestamp(), (due_at AT TIME ZONE 'UTC')::time FROM leyser.job WHERE job = 'check security'}), 't|17:30:00', 'the job is due every night');
nightly();
is(as_role('auditor', 'SELECT check_id, severity, fails, object, first_seen = last_seen, gone_at IS NULL, waived_until IS NULL FROM leyser.check_finding'),
	'bypass.bypassrls|high|open|role reporting|t|t|t', 'it keeps what it found');
is($node->safe_psql('postgres', q{SELECT object, detail ->> 'check_id', detail ->> 'severity' FROM leyser.event WHERE event = 'check.found'}),
	'role reporting|bypass.bypassrls|high', 'a new finding that fails open is an event');
is(as_role('auditor', q{SELECT detail FROM leyser.job_run WHERE job = 'check security'}), 'findings: 1, new ones that fail open: 1', '... and the run says so');
nightly();
is($node->safe_psql('postgres', $events), '1', '... once');
is(as_role('auditor', 'SELECT first_seen < last_seen FROM leyser.check_finding'), 't', '... and since when it is there stays');
$node->safe_psql('postgres', 'ALTER ROLE reporting NOBYPASSRLS');
nightly();
is(as_role('auditor', 'SELECT gone_at > last_seen FROM leyser.check_finding'), 't', 'what is gone is known to have been there');
$node->safe_psql('postgres', 'ALTER ROLE reporting BYPASSRLS');
as_role('operator', sprintf($waiver, q{'a report'}, q{clock_timestamp() + interval '3 seconds'}));
nightly();
is(as_role('auditor', 'SELECT gone_at IS NULL, waived_until IS NOT NULL FROM leyser.check_finding'), 't|t', 'a waived one is kept, too');
is($node->safe_psql('postgres', $events), '1', '... without an event');
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM leyser.check_security('bypass')}) or die;
nightly();
is($node->safe_psql('postgres', $events), '2', '... until its waiver ends');

# Waivers are in a dump.
as_role('operator', sprintf($waiver, q{'a report'}, q{now() + interval '90 days'}));
my $dump = "$PostgreSQL::Test::Utils::tmp_check/check.sql";
$node->command_ok([ 'pg_dump', '-p', $node->port, '-h', $node->host, '-f', $dump, 'postgres' ], 'a dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-p', $node->port, '-h', $node->host, '-f', $dump, 'restored' ], '... is restored');
is($node->safe_psql('restored', 'SELECT check_id, reason, is_valid FROM leyser.check_waiver'), 'bypass.bypassrls|a report|t', '... with its waivers');

$node->stop;
done_testing();
