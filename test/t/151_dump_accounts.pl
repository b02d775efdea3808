# pg_dump carries accounts, roles, grants, their history and what tables ask for; a
# restored database answers the same, and every session has ended.

use strict;
use warnings;
use utf8;

use LeyserTest;
use LeyserToken;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('dump_accounts');
$node->safe_psql('postgres', q{
	SELECT leyser.create_tenant('t1');
	SELECT leyser.create_tenant('t2');
	CREATE ROLE app LOGIN;
	CREATE ROLE gateway LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	SELECT leyser.grant_usage('app', 'application');
	SELECT leyser.grant_usage('gateway', 'gateway');
	SELECT leyser.create_permission('item.read', 'read items');
	SELECT leyser.create_permission('item.write', 'write items');
	-- column numbers change in a restore
	CREATE TABLE item (gone int, tenant_id text NOT NULL, gone_too int, n int, place text) PARTITION BY RANGE (n);
	ALTER TABLE item DROP COLUMN gone, DROP COLUMN gone_too;
	CREATE TABLE item_1 PARTITION OF item FOR VALUES FROM (0) TO (10);
	SELECT leyser.protect('item');
	SELECT leyser.set_permissions('item', 'item.read', 'item.write', 'place');
	ALTER TABLE item RENAME place TO "wo ist's";
	INSERT INTO item SELECT t, n, p FROM unnest('{t1, t2}'::text[]) t,
		(VALUES (1, 'jp'), (2, 'jp.tokyo'), (3, 'us'), (4, NULL)) v (n, p);
	GRANT SELECT, INSERT ON item TO app, gateway;
	INSERT INTO leyser.account_record (tenant_id, account_name, name_key, state, password)
		VALUES ('t1', 'Änn', 'änn', 'active', 'hash'), ('t1', 'bob', 'bob', 'active', NULL), ('t2', 'bob', 'bob', 'disabled', NULL);
	INSERT INTO leyser.account_record (tenant_id, state) VALUES ('t1', 'deleted');
	INSERT INTO leyser.password_record (account_id, password) SELECT account_id, 'former' FROM leyser.account_record WHERE account_name = 'Änn';
	INSERT INTO leyser.blocked_password VALUES ('password1234567');
	INSERT INTO leyser.role_record (tenant_id, role_name, name_key) VALUES ('t1', 'outer', 'outer'), ('t1', 'inner', 'inner');
	INSERT INTO leyser.role_permission SELECT role_id, 'item.read' FROM leyser.role_record WHERE role_name = 'inner';
	INSERT INTO leyser.role_member SELECT o.role_id, i.role_id FROM leyser.role_record o, leyser.role_record i
		WHERE (o.role_name, i.role_name) = ('outer', 'inner');
	INSERT INTO leyser.grant_record (account_id, kind, role_id, permission, scope, valid_from, valid_until, with_grant_option)
		SELECT a.account_id, g.kind, (SELECT role_id FROM leyser.role_record WHERE role_name = g.role), g.permission, g.scope,
			'-infinity', 'infinity', g.kind = 'administrator'
		FROM (VALUES ('Änn', 'administrator', NULL, NULL, NULL), ('bob', 'role', 'outer', NULL, 'jp'),
			('bob', 'deny', NULL, 'item.read', 'jp.tokyo'), ('bob', 'permission', NULL, 'leyser.accounts', NULL)) g (name, kind, role, permission, scope)
		JOIN leyser.account_record a ON a.account_name = g.name AND a.tenant_id = 't1';
	INSERT INTO leyser.permission_change (tenant_id, account_id, change, row_after) SELECT 't1', account_id, 'granted', to_jsonb(g) FROM leyser.grant_record g;
	INSERT INTO leyser.session_record (session_id, tenant_id, account_id, expires_at)
		SELECT gen_random_uuid(), 't1', account_id, now() + '1 hour' FROM leyser.account_record;
	INSERT INTO leyser.revoked_session SELECT session_id, expires_at FROM leyser.session_record LIMIT 1;
	INSERT INTO leyser.login_delay VALUES ('account:1', 3, now(), now() + '1 hour');
});

my %facts = (
	(map { ($_ => "SELECT * FROM leyser.$_ ORDER BY 1, 2") }
		qw(account_record role_record role_permission role_member grant_record permission_change password_record)),
	permission_record => q{SELECT permission, description, CASE WHEN permission !~ '^leyser' THEN created_at END
		FROM leyser.permission_record ORDER BY 1},
	'blocked passwords' => 'SELECT * FROM leyser.blocked_password',
	'what tables ask for' => q{SELECT relation, gaps, read_permission, write_permission, scope_column
		FROM leyser.governed_table ORDER BY relation::text},
	policies => q{SELECT tablename, policyname, permissive, cmd, qual, with_check FROM pg_policies ORDER BY 1, 2});
my $token = own_token($node, sub => '"bob"', exp => time() + 3600);

sub facts_of
{
	my ($database) = @_;

	return { map { $_ => $node->safe_psql($database, $facts{$_}) } keys %facts };
}

# What an account sees and may.  Arguments: database, account.
sub sees
{
	my ($database, $account) = @_;

	return $node->safe_psql($database, "BEGIN; SELECT leyser.enter('t1', '$account') \\g /dev/null\n"
		. q{SELECT coalesce(string_agg(n::text, ',' ORDER BY n), 'none') || ' ' || leyser.has_permission('leyser.accounts')
			|| ' ' || leyser.has_permission('item.write', 'us') FROM item; COMMIT},
		extra_params => [ '-U', 'gateway' ]);
}

my $before = facts_of('postgres');
is(sees('postgres', 'bob'), '1 true false', 'what bob sees and may');
is(sees('postgres', 'Änn'), '1,2,3,4 true true', 'what the administrator sees and may');
is((attempt_in('postgres'))[0], '', 'a token of bob works');

# The outcome of a token that was made for the first database.
sub attempt_in
{
	my ($database) = @_;

	return sqlstate_of($node, "BEGIN; SELECT set_config('leyser.token', '$token', true); SELECT leyser.tenant_id()",
		user => 'app', database => $database);
}

# Dumps, and restores into a new database.  Arguments: its name, how to dump, how to restore.
sub restore_as
{
	my ($database, $format, @restore) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . "/$database";

	$node->command_ok([ 'pg_dump', "--format=$format", '--file', $file, $node->connstr('postgres') ], "$database: dumped");
	$node->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE template0");
	$node->command_ok([ @restore, '--dbname', $node->connstr($database), $format eq 'plain' ? ('-f', $file) : $file ],
		"$database: restored");
	$node->safe_psql($database, 'SELECT leyser.initialize_keyring()');
	return;
}

for my $way ([ 'plain', 'plain', qw(psql -XAtq -v ON_ERROR_STOP=1 -o /dev/null) ],
	[ 'custom', 'custom', qw(pg_restore --exit-on-error) ],
	[ 'parallel', 'custom', qw(pg_restore --exit-on-error --jobs=3) ])
{
	my $database = $way->[0];
	restore_as(@$way);
	my $after = facts_of($database);
	is($after->{$_}, $before->{$_}, "$database: $_ as before") for sort keys %facts;
	is($node->safe_psql($database, q{SELECT (SELECT count(*) FROM leyser.session_record),
		(SELECT count(*) FROM leyser.revoked_session), (SELECT count(*) FROM leyser.login_delay)}),
		'0|0|0', "$database: sessions and delays have ended");
	is((attempt_in($database))[0], 'LY002', "$database: a token of the former database is none");
	is(sees($database, $_), sees('postgres', $_), "$database: what an account sees and may") for qw(bob Änn);
	is($node->safe_psql($database, q{INSERT INTO leyser.account_record (tenant_id, account_name, name_key, state)
		VALUES ('t2', 'new', 'new', 'active') RETURNING account_id > (SELECT max(account_id) FROM leyser.account_record WHERE account_name <> 'new')}),
		't', "$database: ids go on being counted");
	$node->safe_psql($database, 'CREATE TABLE item_2 PARTITION OF item FOR VALUES FROM (10) TO (20)');
	is($node->safe_psql($database, q{SELECT count(*) FROM pg_policy WHERE polrelid = 'item_2'::regclass AND polname ~ 'permission'}),
		'4', "$database: a new partition asks for permissions");
}

$node->stop;
done_testing();
