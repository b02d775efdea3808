# A dump carries accounts, roles, grants, denials and their history, with their
# ids; it carries no session, no invitation and no support access: what was revoked
# after the dump would be open again, and another cluster's role could be meant.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('restore');
$node->safe_psql('postgres', q{
	CREATE ROLE gateway LOGIN;
	CREATE ROLE support LOGIN;
	CREATE ROLE left_since LOGIN;
	SELECT leyser.grant_usage('gateway', 'gateway');
	SELECT leyser.create_permission('doc.read', 'read'), leyser.create_permission('doc.write', 'write');
	SELECT leyser.create_tenant('t1'), leyser.create_tenant('t2');
	SELECT leyser.create_account('Ada', 't1'), leyser.create_account('zoe', 't2');
});

# Arguments: account, statements, database.
sub act
{
	my ($account, $sql, $database) = @_;
	return $node->safe_psql($database // 'postgres', "BEGIN; SELECT leyser.enter('t1', '$account'); $sql; COMMIT",
		extra_params => [ '-U', 'gateway' ]);
}

act('Ada', q{SELECT leyser.create_account('bob'), leyser.create_account('cyd'), leyser.create_account('gone')});
act('Ada', q{SELECT leyser.create_role('reader', '{doc.read}'), leyser.create_role('clerk', '{doc.write,leyser.grants}');
	SELECT leyser.alter_role('clerk', add_roles => '{reader}');
	SELECT leyser.grant_role('bob', 'clerk', 'japan', valid_until => '2100-01-01', with_grant_option => true);
	SELECT leyser.grant_permission('cyd', 'doc.read'), leyser.deny_permission('cyd', 'doc.read', 'japan.tokyo');
	SELECT leyser.grant_permission('gone', 'doc.read'), leyser.grant_permission('cyd', 'leyser.accounts', 'x');
	SELECT leyser.grant_support_access('support', '1 hour', 'a ticket'), leyser.grant_support_access('left_since', '1 hour', 'a ticket')});
$node->safe_psql('postgres', 'DROP ROLE left_since');
act('bob', q{SELECT leyser.grant_permission('cyd', 'doc.write', 'japan.osaka', valid_until => '2099-01-01')});
my $then = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
act('Ada', q{SELECT leyser.delete_account('gone'); SELECT leyser.disable_account('cyd'); SELECT leyser.enable_account('cyd');
	SELECT leyser.alter_role('reader', drop_permissions => '{doc.read}')});
$node->safe_psql('postgres', q{
	INSERT INTO leyser.session_record (session_id, tenant_id, account_id, expires_at)
		SELECT gen_random_uuid(), tenant_id, account_id, now() + interval '1 hour' FROM leyser.account_record WHERE account_name = 'bob';
	INSERT INTO leyser.revoked_session SELECT session_id, expires_at FROM leyser.session_record});

my %seen = (
	permissions => q{SELECT permission, description FROM leyser.permission ORDER BY 1},
	accounts => q{SELECT account_id, tenant_id, account_name, name_key, state, created_at FROM leyser.account_record ORDER BY 1},
	roles => q{SELECT * FROM leyser.role ORDER BY 1},
	grants => q{SELECT * FROM leyser.granted ORDER BY 1, 2, 3, 4, 5},
	history => q{SELECT * FROM leyser.permission_history()},
	'answers, the past included' => qq{
		SELECT a, p, s, (SELECT string_agg(e::text, ' ') FROM leyser.explain_permission(a, p, s) e),
			leyser.had_permission(a, p, s, '$then')
		FROM unnest('{Ada,bob,cyd}'::text[]) a, unnest('{doc.read,doc.write,leyser.grants}'::text[]) p,
			unnest('{NULL,japan,japan.tokyo,japan.osaka}'::text[]) s ORDER BY 1, 2, 3},
	lists => q{SELECT * FROM leyser.accounts_with('doc.read', 'japan')});

sub look
{
	my ($database) = @_;
	return map { $_ => $node->safe_psql($database, "BEGIN; SELECT leyser.enter('t1'); $seen{$_}; COMMIT") } sort keys %seen;
}

my %before = look('postgres');
like($before{history}, qr/account\.disabled/, 'there is something to compare');
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ], 'dump');
is($node->safe_psql('postgres', q{BEGIN; SELECT leyser.enter_support('t1') \g /dev/null
	SELECT leyser.tenant_id(); COMMIT}, extra_params => [ '-U', 'support' ]), 't1', 'the provider may look');
act('Ada', q{SELECT leyser.revoke_support_access('support')});
$node->safe_psql('postgres', 'CREATE DATABASE restored TEMPLATE template0');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-c', 'SET leyser.guards = off', '-f', $dump, '-d', $node->connstr('restored') ], 'restore');
$node->safe_psql('restored', 'SELECT leyser.initialize_keyring()');
my %after = look('restored');
is($after{$_}, $before{$_}, "$_ are as they were") foreach sort keys %seen;
is($node->safe_psql('restored', 'SELECT count(*) FROM leyser.session_record'), '0', 'sessions have ended');
is($node->safe_psql('restored', 'SELECT count(*) FROM leyser.support_record'), '0', 'support access has ended');
is_refused($node, q{SELECT leyser.enter_support('t1')}, '42501', '... and the role is refused',
	user => 'support', database => 'restored');
is($node->safe_psql('restored', q{SELECT object FROM leyser.event WHERE event = 'support.granted' ORDER BY event_id}),
	"support\nleft_since", '... but the events tell who had it');
is(act('Ada', q{SELECT leyser.grant_support_access('support', '1 hour', 'again'); SELECT to_role FROM leyser.support_access}, 'restored'),
	"\n\nsupport", '... and it can be granted again');

# It goes on: ids continue, changes count at once.
act('Ada', q{SELECT leyser.create_account('new'), leyser.create_role('new', '{doc.read}');
	SELECT leyser.grant_role('new', 'new'), leyser.revoke_role('bob', 'clerk', 'japan', true)}, 'restored');
is(act('Ada', q{SELECT account_name, kind, coalesce(role_name, permission), scope FROM leyser.granted ORDER BY 1, 2, 3, 4}, 'restored'),
	"\nAda|administrator||\ncyd|deny|doc.read|japan.tokyo\ncyd|permission|doc.read|\ncyd|permission|leyser.accounts|x\nnew|role|new|",
	'grants go on, and cascades know who granted what');

$node->stop;
done_testing();
