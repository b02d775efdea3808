# A streaming standby: what the primary takes from an account, and sessions that it
# revokes, count there at the next statement, whatever the isolation level; a
# session whose row has not arrived yet is valid.

use strict;
use warnings;

use LeyserTest;
use LeyserToken;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_node('primary', init => { allows_streaming => 1 }, conf => 'autovacuum = off');
$primary->safe_psql('postgres', q{
	SELECT leyser.create_tenant('t1');
	CREATE ROLE app LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	SELECT leyser.grant_usage('app', 'application');
	CREATE TABLE item (tenant_id text NOT NULL, n int, place text);
	INSERT INTO item VALUES ('t1', 1, 'jp'), ('t1', 2, 'us');
	INSERT INTO leyser.permission_record VALUES ('item.read', 'read');
	SELECT leyser.protect('item');
	SELECT leyser.set_permissions('item', 'item.read', scope_column => 'place');
	GRANT SELECT ON item TO app;
	INSERT INTO leyser.account_record (tenant_id, account_name, name_key, state)
		VALUES ('t1', 'ann', 'ann', 'active'), ('t1', 'bob', 'bob', 'active');
	INSERT INTO leyser.role_record (tenant_id, role_name, name_key) VALUES ('t1', 'reader', 'reader');
	INSERT INTO leyser.role_permission SELECT role_id, 'item.read' FROM leyser.role_record;
});
install_attempt($primary);
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
my $copy = keyring_directory($standby);
mkdir $copy, 0700 or die $!;
system_or_bail('sh', '-c', "cp -p '" . keyring_directory($primary) . "'/* '$copy'/");
$standby->append_conf('postgresql.conf', "leyser.keyring_directory = '$copy'");
$standby->start;

my @levels = ('READ COMMITTED', 'REPEATABLE READ');
my %sessions = map { $_ => open_session($standby, user => 'app') } @levels;
my $session_id = '5e55100d-0000-4000-8000-000000000001';
my $ann = own_token($primary, sub => '"ann"', exp => time() + 3600);
my $bob = own_token($primary, sub => '"bob"', sid => "\"$session_id\"", exp => time() + 3600);

sub on_primary
{
	my ($sql) = @_;

	$primary->safe_psql('postgres', $sql);
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));
	return;
}

# Begins in each session, with a token; says what it sees.  Begun anew for each
# change, the transactions are too young to conflict with what replay removes.
sub begin_all
{
	my ($token) = @_;
	my @seen;

	for my $level (@levels)
	{
		sqlstate_in($sessions{$level}, 'ROLLBACK');
		$sessions{$level}->query_safe("BEGIN ISOLATION LEVEL $level");
		$sessions{$level}->query_safe("SELECT set_config('leyser.token', '$token', true)");
		push @seen, seen_in($level);
	}
	return "@seen";
}

sub seen_in
{
	my ($level) = @_;

	return $sessions{$level}->query_safe(q{SELECT coalesce(string_agg(n::text, ',' ORDER BY n), 'none') FROM item});
}

sub seen
{
	return join(' ', map { seen_in($_) } @levels);
}

# Grants and what is taken.
is(begin_all($ann), 'none none', 'without a grant: nothing is seen');
on_primary(q{INSERT INTO leyser.grant_record (account_id, kind, role_id, scope, valid_from, valid_until, with_grant_option)
	SELECT account_id, 'role', role_id, 'jp', '-infinity', 'infinity', false
	FROM leyser.account_record, leyser.role_record WHERE account_name = 'ann'});
is(seen(), '1 1', 'granted on the primary: seen in the open transactions');
begin_all($ann);
on_primary(q{UPDATE leyser.grant_record SET scope = NULL});
is(seen(), '1,2 1,2', 'widened');
begin_all($ann);
on_primary(q{INSERT INTO leyser.grant_record (account_id, kind, permission, scope, valid_from, valid_until, with_grant_option)
	SELECT account_id, 'deny', 'item.read', 'us', '-infinity', 'infinity', false
	FROM leyser.account_record WHERE account_name = 'ann'});
is(seen(), '1 1', 'denied');
begin_all($ann);
on_primary(q{DELETE FROM leyser.role_permission});
is(seen(), 'none none', 'taken out of the role');
begin_all($ann);
on_primary(q{INSERT INTO leyser.role_permission SELECT role_id, 'item.read' FROM leyser.role_record});
is(seen(), '1 1', 'put back');
begin_all($ann);
on_primary(q{TRUNCATE leyser.grant_record});
is(seen(), 'none none', 'revoked');
begin_all($ann);
on_primary(q{UPDATE leyser.account_record SET state = 'disabled' WHERE account_name = 'ann'});
for my $level (@levels)
{
	is_refused_in($sessions{$level}, 'SELECT n FROM item', 'LY005', "$level: account disabled");
}

# Sessions: absent is valid, revoked is not.
is(begin_all($bob), 'none none', 'a session of which the standby knows nothing is valid');
on_primary(qq{INSERT INTO leyser.revoked_session VALUES (gen_random_uuid(), now() + '1 hour')});
is(seen(), 'none none', 'another session revoked');
begin_all($bob);
on_primary(qq{INSERT INTO leyser.revoked_session VALUES ('$session_id', now() + '1 hour')});
for my $level (@levels)
{
	is_refused_in($sessions{$level}, 'SELECT n FROM item', 'LY005', "$level: session revoked");
}
is((attempt($primary, $bob, user => 'app'))[0], 'LY005', 'no new context of the session, on the primary');
is((attempt($standby, $bob, user => 'app'))[0], 'LY005', '... nor on the standby');
$_->quit for values %sessions;

# Failover: all this stays.
$primary->stop('immediate');
$standby->promote;
is((attempt($standby, $bob, user => 'app'))[0], 'LY005', 'promoted: a revoked session stays revoked');
is((attempt($standby, $ann, user => 'app'))[0], 'LY005', 'promoted: a disabled account stays disabled');

$standby->stop;
done_testing();
