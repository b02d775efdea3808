# The end of a contract is a moment: standbys that replay nothing more keep it, and
# so does a server that was down when it came.  A second person confirms what one
# person cannot do alone, whoever that person dresses up as; a delay holds the
# purge, not the lock-out.

use strict;
use warnings;

use LeyserTest;
use LeyserToken;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $primary = new_node('primary', init => { allows_streaming => 1 });
$primary->safe_psql('postgres', q{
	SELECT leyser.create_tenant(t) FROM unnest('{t1,t2,t3,t4,t5,t6}'::text[]) t;
	CREATE ROLE app LOGIN;
	CREATE ROLE ann LOGIN;
	CREATE ROLE ben LOGIN;
	CREATE ROLE cid LOGIN;
	GRANT ben TO ann;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	SELECT leyser.grant_usage('app', 'application');
	SELECT leyser.grant_usage(r, 'operator') FROM unnest('{ann,ben,cid}'::regrole[]) r;
	CREATE TABLE item (tenant_id text NOT NULL, n int);
	INSERT INTO item SELECT 't' || i, i FROM generate_series(1, 6) i;
	SELECT leyser.protect('item');
	GRANT SELECT, INSERT ON item TO app;
});

sub as
{
	my ($role, $sql) = @_;

	return $primary->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]);
}

# One test: a tenant's state, and whether its contract has an end.
sub state_is
{
	my ($tenant, $state, $name, $node) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(($node // $primary)->safe_psql('postgres', "SELECT state FROM leyser.tenant WHERE tenant_id = '$tenant'"),
		$state, $name);
	return;
}

# Seconds that SQL can add to now().
sub wait_for_end
{
	my ($tenant) = @_;

	$primary->poll_query_until('postgres',
		"SELECT ends_at < clock_timestamp() FROM leyser.tenant WHERE tenant_id = '$tenant'")
	  or die "the contract of $tenant did not end";
	sleep 0.1;
	return;
}

sub caught_up
{
	my ($standby) = @_;

	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));
	return;
}

# Who may set what.
for my $setting ('leyser.second_person = off', 'leyser.purge_delay = 0')
{
	is_refused($primary, "SET $setting", '55P02', "SET $setting: only postgresql.conf", user => 'ann');
	is_refused($primary, "ALTER ROLE ann SET $setting", '55P02', "ALTER ROLE … SET $setting likewise");
}

# A second person.
$primary->append_conf('postgresql.conf', 'leyser.second_person = on');
$primary->reload;
$primary->poll_query_until('postgres', q{SELECT current_setting('leyser.second_person')::boolean});
my $session = open_session($primary, user => 'app');
my $token = own_token($primary, tenant => '"t1"', exp => time() + 3600);
$session->query_safe('BEGIN');
$session->query_safe("SELECT set_config('leyser.token', '$token', true)");
is(as('ann', q{SELECT leyser.terminate_contract('t1', now(), 'unpaid')}), '', 'one person alone: no moment yet');
is($session->query_safe('SELECT n FROM item'), '1', '... the tenant works on');
state_is('t1', 'active', '... and is active');
is(as('ann', q{SELECT requested_by, confirmed_by IS NULL, ends_at IS NULL, state FROM leyser.contract}),
	'ann|t|t|active', '... which view contract tells');
is_refused($primary, q{SELECT leyser.terminate_contract('t1', now())}, 'LY008', 'announced twice', user => 'cid');
is_refused($primary, q{SELECT leyser.confirm_termination('t1')}, '42501', 'the same role does not confirm', user => 'ann');
is_refused($primary, q{SET ROLE ben; SELECT leyser.confirm_termination('t1')}, '42501',
	'... nor dressed up as another one', user => 'ann');
is_refused($primary, q{SELECT leyser.require_purgeable('t1')}, 'LY008', '... and nothing is purged');
as('cid', q{SELECT leyser.confirm_termination('t1')});
is_refused_in($session, 'SELECT n FROM item', 'LY004', 'confirmed by another: locked out in an open transaction');
is_refused($primary, q{SELECT leyser.confirm_termination('t1')}, 'LY008', 'confirmed twice', user => 'ben');
is(as('ann', q{SELECT requested_by, confirmed_by, state, ends_at >= confirmed_at, ends_at > effective_at FROM leyser.contract}),
	'ann|cid|terminated|t|t', '... from the confirmation on, for its moment had passed');
$session->quit;

# One requested dressed up, and confirmed undressed.
as('ann', q{SET ROLE ben; SELECT leyser.terminate_contract('t2', '2999-12-31')});
is_refused($primary, q{SELECT leyser.confirm_termination('t2')}, '42501', 'requested as ben, confirmed by ann herself: no',
	user => 'ann');
is_refused($primary, q{SELECT leyser.confirm_termination('t2')}, '42501', '... nor by the role it was requested as',
	user => 'ben');
as('cid', q{SELECT leyser.cancel_termination('t2')});
is_refused($primary, q{SELECT leyser.confirm_termination('t2')}, 'LY008', 'cancelled: nothing to confirm', user => 'cid');
as('ben', q{SELECT leyser.terminate_contract('t2', '2999-12-31')});
as('ann', q{SELECT leyser.suspend_tenant('t2')});
as('cid', q{SELECT leyser.confirm_termination('t2')});
state_is('t2', 'terminating', 'confirmed before its moment: announced');
as('cid', q{SELECT leyser.cancel_termination('t2')});
state_is('t2', 'suspended', 'taken back: what it was when it was confirmed');

# What waits for a second person still does when nobody is asked any longer.
as('ben', q{SELECT leyser.terminate_contract('t2', '2999-12-31')});
$primary->append_conf('postgresql.conf', "leyser.second_person = off\nleyser.purge_delay = '2h'");
$primary->reload;
$primary->poll_query_until('postgres', q{SELECT current_setting('leyser.purge_delay') = '2h'});
is_refused($primary, q{SELECT leyser.confirm_termination('t2')}, '42501', 'switched off: who requested it does not confirm it',
	user => 'ben');
as('cid', q{SELECT leyser.cancel_termination('t2')});

# A delay of the purge.
is_refused($primary, q{SELECT leyser.require_purgeable('t1')}, 'LY008', 'purge_delay holds the purge');
is_refused($primary, q{SELECT leyser.enter('t1')}, 'LY004', '... not the lock-out');
is(as('ann', q{SELECT purge_from - ends_at FROM leyser.contract WHERE tenant_id = 't1'}), '02:00:00', '... which view contract tells');
$primary->append_conf('postgresql.conf', "leyser.purge_delay = 0");
$primary->reload;
$primary->poll_query_until('postgres', q{SELECT current_setting('leyser.purge_delay') = '0'});
is(as('postgres', q{SELECT leyser.require_purgeable('t1')}), '', 'without it the purge may begin');

# A standby that replays nothing more locks out at the moment, by its own clock.
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
my $keyring = keyring_directory($standby);
system_or_bail('cp', '-rp', keyring_directory($primary), $keyring);
$standby->append_conf('postgresql.conf', "leyser.keyring_directory = '$keyring'");
$standby->start;
$token = own_token($primary, tenant => '"t3"', exp => time() + 3600);
my %sessions = map { $_ => open_session($standby, user => 'app') } ('READ COMMITTED', 'REPEATABLE READ');
for my $level (sort keys %sessions)
{
	$sessions{$level}->query_safe("BEGIN ISOLATION LEVEL $level");
	$sessions{$level}->query_safe("SELECT set_config('leyser.token', '$token', true)");
}
as('ann', q{SELECT leyser.terminate_contract('t3', clock_timestamp() + interval '2 seconds')});
caught_up($standby);
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
is($sessions{$_}->query_safe('SELECT n FROM item'), '3', "standby, $_: before the moment") for sort keys %sessions;
wait_for_end('t3');
is_refused_in($sessions{$_}, 'SELECT n FROM item', 'LY004', "standby that replays nothing, $_: locked out") for sort keys %sessions;
$_->quit for values %sessions;
state_is('t3', 'terminated', '... its view tells so', $standby);
is_refused($standby, "BEGIN; SELECT set_config('leyser.token', '$token', true)", 'LY004', '... no token either', user => 'app');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
for my $call (q{terminate_contract('t4', now())}, q{cancel_termination('t4')}, q{confirm_termination('t4')},
	q{hold_purge('t3', 'law', '2999-12-31')}, q{release_hold('t3')}, q{register_external_store('x')})
{
	is_refused($standby, "SELECT leyser.$call", '25006', "standby: $call is refused");
}
$standby->stop;

# People of an ended contract: the same answers as to strangers, and nothing new.
my $invitation = as('postgres', q{SELECT leyser.invite_account('una', 't5')});
as('app', "SELECT leyser.accept_invitation('t5', 'una', '$invitation', 'seven owls sing at noon')");
my $unused = as('postgres', q{SELECT leyser.invite_account('udo', 't6')});
like(as('app', q{SELECT leyser.login('t5', 'una', 'seven owls sing at noon')}), qr/^ey/, 'a person logs in');
as('ann', q{SELECT leyser.terminate_contract('t5', '2999-12-31')});
like(as('app', q{SELECT leyser.login('t5', 'una', 'seven owls sing at noon')}), qr/^ey/, '... also while the contract runs out');
as('ann', q{SELECT leyser.cancel_termination('t5'); SELECT leyser.terminate_contract('t5', now())});
is(as('app', q{SELECT leyser.login('t5', 'una', 'seven owls sing at noon') IS NULL}), 't', 'ended: the right password is as wrong as any');
$primary->safe_psql('postgres', q{BEGIN; SELECT leyser.terminate_contract('t6', now());
	SELECT set_config('test.invitation', '} . $unused . q{', true);
	DO $$ BEGIN PERFORM leyser.accept_invitation('t6', 'udo', current_setting('test.invitation'), 'seven owls sing at noon');
		RAISE EXCEPTION 'accepted'; EXCEPTION WHEN invalid_authorization_specification THEN NULL; END $$; ROLLBACK});
pass('... and an open invitation is not valid any longer');

# A crash between announcement and moment; and one right after an end.
as('ann', q{SELECT leyser.terminate_contract('t4', clock_timestamp() + interval '1 second')});
as('ann', q{SELECT leyser.hold_purge('t4', 'law', '2999-12-31')});
as('ann', q{SELECT leyser.terminate_contract('t6', '2999-12-31', 'they left')});
$primary->stop('immediate');
sleep 1.2;
$primary->start;
$token = own_token($primary, tenant => '"t4"', exp => time() + 3600);
is_refused($primary, "BEGIN; SELECT set_config('leyser.token', '$token', true)", 'LY004',
	'the moment came while the server was down', user => 'app');
state_is('t4', 'held', '... and so did the hold');
state_is('t5', 'terminated', 'what had ended has ended');
is(as('postgres', q{SELECT count(*) FROM leyser.event WHERE event = 'contract.ended' AND tenant_id = 't4'}), '0',
	'nobody has written it down yet');
is_refused($primary, q{SELECT leyser.cancel_termination('t4')}, 'LY008', 'it cannot be taken back');
as('ann', q{SELECT leyser.release_hold('t4')});
is(as('postgres', q{SELECT count(*) FROM leyser.event WHERE event = 'contract.ended' AND tenant_id = 't4'}), '1',
	'whoever looks first writes it down, once');
state_is('t4', 'terminated', '... with the hold released it can be purged');

# A dump carries contracts and holds.
as('ann', q{SELECT leyser.hold_purge('t4', 'law', '2999-12-31')});
my $file = $primary->basedir . '/dump';
$primary->command_ok([ 'pg_dump', '-Fc', '-f', $file, $primary->connstr('postgres') ], 'pg_dump');
$primary->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE template0');
$primary->command_ok([ 'pg_restore', '-d', $primary->connstr('copy'), $file ], 'pg_restore');
my $contracts = q{SELECT tenant_id, state, effective_at, ends_at, requested_by, legal_basis, review_on FROM leyser.contract ORDER BY 1};
is($primary->safe_psql('copy', $contracts), $primary->safe_psql('postgres', $contracts), 'the copy has the same contracts');
$primary->safe_psql('copy', q{SELECT leyser.initialize_keyring()});
is(sqlstate_of($primary, q{SELECT leyser.enter('t5')}, database => 'copy'), 'LY004', '... and locks out the same tenants');
is(sqlstate_of($primary, q{SELECT leyser.enter('t6')}, database => 'copy'), '', '... but no others');

$primary->stop;
done_testing();
