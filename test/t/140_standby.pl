# A streaming standby with its own copy of the keyring: contexts work there, what
# the primary takes away counts at the next statement, and a key whose file was
# not copied is told with the next step.

use strict;
use warnings;

use LeyserTest;
use LeyserToken;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_node('primary', init => { allows_streaming => 1 });
$primary->safe_psql('postgres', q{
	SELECT leyser.create_tenant('t1');
	SELECT leyser.create_tenant('t2');
	CREATE ROLE app LOGIN;
	CREATE ROLE gateway LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	SELECT leyser.grant_usage('app', 'application');
	SELECT leyser.grant_usage('gateway', 'gateway');
	CREATE TABLE item (tenant_id text NOT NULL, n int);
	INSERT INTO item VALUES ('t1', 1), ('t2', 2), ('t2', 3);
	SELECT leyser.protect('item');
	GRANT SELECT, INSERT ON item TO app, gateway;
	CREATE ROLE support LOGIN;
	GRANT SELECT ON item TO support;
	SELECT leyser.create_account('ada', 't2');
	BEGIN;
	SELECT leyser.enter('t2', 'ada');
	SELECT leyser.grant_support_access('support', '1 hour', 'a ticket');
	COMMIT;
});
install_attempt($primary);

# The base backup does not hold the keys: they are copied besides.
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
my $copy = keyring_directory($standby);
mkdir $copy, 0700 or die $!;
$standby->append_conf('postgresql.conf', "leyser.keyring_directory = '$copy'");
$standby->start;

sub copy_keys
{
	system_or_bail('sh', '-c', "cp -p '" . keyring_directory($primary) . "'/* '$copy'/");
	return;
}

sub caught_up
{
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));
	return;
}

sub count_for
{
	my ($token) = @_;

	return "BEGIN; SELECT set_config('leyser.token', '$token', true) \\g /dev/null\n"
	  . 'SELECT count(*) FROM item; COMMIT';
}

# Without the keys.
caught_up();
is(slurp_dir_of($copy), '', 'a base backup holds no keys');
my ($outcome, $told) = attempt($standby, own_token($primary), user => 'app');
is($outcome, 'LY002', 'without the keyring: refused');
like($told, qr/Copy the keyring directory from the primary or from its backup/,
	'without the keyring: told what to copy where');
is($standby->safe_psql('postgres', q{SELECT state || ': ' || remedy FROM leyser.keyring_status() WHERE item = 'keyring'})
	=~ /^lost: .*Copy the keyring directory from the primary/, 1, 'without the keyring: keyring_status() too');
is_refused($standby, 'SELECT leyser.initialize_keyring(abandon_lost => true)', '25006',
	'without the keyring: none is made on a standby');
is(slurp_dir_of($copy), '', '... nor a file of one');

sub slurp_dir_of
{
	# a standby's fence is its own, with its lock
	return join(' ', grep { !/^\.\.?$|\.fence(\.lock|\.\d+\.tmp)?$/ } slurp_dir($_[0]));
}

# With them.
copy_keys();
my $token = own_token($primary, exp => time() + 3600);
my $token_t2 = own_token($primary, tenant => '"t2"', exp => time() + 3600);
is($standby->safe_psql('postgres', count_for($token), extra_params => [ '-U', 'app' ]), '1',
	'tenant t1 sees its row');
is($standby->safe_psql('postgres', count_for($token_t2), extra_params => [ '-U', 'app' ]), '2',
	'tenant t2 sees its rows');
is_refused($standby, 'SELECT * FROM item', 'LY001', 'without a context: none', user => 'app');
is_refused($standby, "BEGIN; SELECT set_config('leyser.token', '$token', true); INSERT INTO item VALUES ('t1', 2)",
	'25006', 'a standby takes no rows', user => 'app');

# A gateway's calls, and support access, leave a line of the server log, and no row.
my $position = log_position($standby);
my $events = $standby->safe_psql('postgres', 'SELECT count(*) FROM leyser.event');
is($standby->safe_psql('postgres', q{BEGIN; SELECT leyser.enter('t2') \g /dev/null
	SELECT count(*) FROM item; COMMIT}, extra_params => [ '-U', 'gateway' ]), '2', 'a gateway enters');
my $issued = $standby->safe_psql('postgres', q{SELECT leyser.issue_token('t1')},
	extra_params => [ '-U', 'gateway' ]);
is($standby->safe_psql('postgres', q{BEGIN; SELECT leyser.enter_support('t2') \g /dev/null
	SELECT count(*) FROM item; COMMIT}, extra_params => [ '-U', 'support' ]), '2', 'support looks');
is((attempt($primary, $issued))[0], 'accepted', 'a token issued on the standby is good on the primary');
my $log = log_since($standby, $position);
like($log, qr/leyser event: .*"context\.entered"/, 'enter() is in the server log');
like($log, qr/leyser event: .*"token\.issued"/, 'issue_token() is in the server log');
like($log, qr/leyser event: .*"support\.entered"/, 'enter_support() is in the server log');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM leyser.event'), $events, '... and no row was tried');

# What changes things is refused.
for my $call (q{create_tenant('t3')}, q{suspend_tenant('t1')}, q{stage_signing_key()}, q{protect('item')})
{
	is_refused($standby, "SELECT leyser.$call", '25006', "$call is refused");
}
is($standby->safe_psql('postgres', 'SELECT cardinality(leyser.keyring_list_keys())'), '1',
	'... and wrote no key');

# Taken away on the primary: counts at the next statement, in each isolation level.
my ($former) = own_key($primary);
my %sessions = map { $_ => open_session($standby, user => 'app') } ('READ COMMITTED', 'REPEATABLE READ');

sub begin_all
{
	my ($with) = @_;

	for my $level (sort keys %sessions)
	{
		sqlstate_in($sessions{$level}, 'ROLLBACK');
		$sessions{$level}->query_safe("BEGIN ISOLATION LEVEL $level");
		$sessions{$level}->query_safe("SELECT set_config('leyser.token', '$with', true)");
		is($sessions{$level}->query_safe('SELECT count(*) FROM item'), '1', "$level: before");
	}
	return;
}

begin_all($token);
$primary->safe_psql('postgres', q{SELECT leyser.suspend_tenant('t1')});
caught_up();
is_refused_in($sessions{$_}, 'SELECT count(*) FROM item', 'LY004', "$_: suspended")
  for sort keys %sessions;
$primary->safe_psql('postgres', q{SELECT leyser.resume_tenant('t1')});
caught_up();
begin_all($token);

# The next key is staged and activated; its file is not copied at first.
my $next = $primary->safe_psql('postgres', 'SELECT leyser.stage_signing_key()');
$primary->safe_psql('postgres', "SELECT leyser.activate_signing_key('$next')");
caught_up();
is($sessions{$_}->query_safe('SELECT count(*) FROM item'), '1', "$_: the former key still verifies")
  for sort keys %sessions;
my $next_token = own_token($primary);
($outcome, $told) = attempt($standby, $next_token, user => 'app');
is($outcome, 'LY002', 'key file missing: refused');
like($told, qr/keyring is incomplete: the file of a signing key is missing.*Copy the keyring directory from the primary/,
	'key file missing: told what to copy');
is($standby->safe_psql('postgres', "SELECT state FROM leyser.keyring_status() WHERE item = 'signing key $next'"),
	'incomplete', 'key file missing: keyring_status() too');
copy_keys();
is((attempt($standby, $next_token, user => 'app'))[0], 'accepted', 'key file copied: accepted');
$primary->safe_psql('postgres', "SELECT leyser.retire_signing_key('$former')");
caught_up();
is_refused_in($sessions{$_}, 'SELECT count(*) FROM item', 'LY002', "$_: key retired")
  for sort keys %sessions;

# An issuer's key that is removed.
my $pair = make_key_pair('EdDSA');
$primary->safe_psql('postgres', "SELECT leyser.add_issuer_key('idp', \$\$$pair->{pem}\$\$, 'idp', 'service')");
caught_up();
begin_all(issuer_token($pair, '{"alg":"EdDSA","kid":"idp"}',
	payload_of(tenant => '"t1"', iss => '"idp"', aud => '"service"')));
$primary->safe_psql('postgres', q{SELECT leyser.remove_issuer_key('idp')});
caught_up();
is_refused_in($sessions{$_}, 'SELECT count(*) FROM item', 'LY002', "$_: issuer removed")
  for sort keys %sessions;
$_->quit for values %sessions;

# A table that is protected on the primary is protected here.
$primary->safe_psql('postgres', q{CREATE TABLE later AS SELECT * FROM item;
	ALTER TABLE later ALTER tenant_id SET NOT NULL; SELECT leyser.protect('later'); GRANT SELECT ON later TO app});
caught_up();
is_refused($standby, 'SELECT * FROM later', 'LY001', 'protected later: no context, no rows', user => 'app');

# Failover: the standby takes over with everything in force.
$primary->stop('immediate');
$standby->promote;
is($standby->safe_psql('postgres', count_for($next_token), extra_params => [ '-U', 'app' ]), '1',
	'promoted: tenant t1 sees its row');
is((attempt($standby, $token, user => 'app'))[0], 'LY002', 'promoted: a retired key stays retired');
is($standby->safe_psql('postgres', "SELECT leyser.create_tenant('t3')"), 't3', 'promoted: tenants are made');
isnt($standby->safe_psql('postgres', 'SELECT leyser.stage_signing_key()'), '', 'promoted: keys are staged');
is_refused($standby, 'ALTER TABLE item DISABLE ROW LEVEL SECURITY', 'LY007', 'promoted: guards stand');

$standby->stop;
done_testing();
