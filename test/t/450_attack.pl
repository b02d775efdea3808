# The attack test: what it tries is held by a table that is protected well; each
# protection that is taken away is a hole, and nothing of the attack stays.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('attack', conf => q{log_statement = none});

$node->safe_psql('postgres', q{SET client_min_messages = error;
	CREATE ROLE keeper NOLOGIN;
	CREATE ROLE app LOGIN;
	CREATE ROLE gate LOGIN;
	CREATE ROLE reader LOGIN;
	CREATE ROLE watcher LOGIN;
	CREATE ROLE batch NOLOGIN;
	SELECT leyser.grant_usage('app', 'application'), leyser.grant_usage('gate', 'gateway'), leyser.grant_usage('batch', 'application'),
		leyser.grant_usage('watcher', 'auditor');
	SELECT leyser.create_tenant('1'), leyser.create_tenant('2'), leyser.create_tenant('a "b" {own} %s'), leyser.create_tenant('second, too');
	SELECT leyser.create_permission('visit.read', 'x');
	SELECT leyser.invite_account('ann', '1', true), leyser.invite_account('bob', '2', true);
	UPDATE leyser.account_record SET state = 'active';
	CREATE SCHEMA shop AUTHORIZATION keeper;
	CREATE SCHEMA "Odd {own} %s" AUTHORIZATION keeper;
	GRANT USAGE ON SCHEMA shop, "Odd {own} %s" TO app, gate, reader;
	SET ROLE keeper;
	CREATE TABLE shop.invoice (tenant_id bigint NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY, number text UNIQUE, amount numeric CHECK (amount > 0), PRIMARY KEY (tenant_id, id));
	CREATE TABLE shop.visit (tenant_id bigint NOT NULL, at date NOT NULL, url text) PARTITION BY RANGE (at);
	CREATE TABLE shop.visit_1 PARTITION OF shop.visit FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
	CREATE TABLE shop.visit_2 PARTITION OF shop.visit FOR VALUES FROM ('2026-07-01') TO ('2027-01-01');
	CREATE INDEX ON shop.visit (tenant_id);
	CREATE TABLE "Odd {own} %s"."Name ""x"" {other}" ("Tenant 'id' {oid}" text, note text);
	CREATE TABLE shop.alone (tenant_id bigint NOT NULL);
	CREATE TABLE shop.country (code text);
	CREATE TABLE shop.loose (code text);
	INSERT INTO shop.invoice (tenant_id, number, amount) SELECT 1 + g % 2, 'secret-' || g, g FROM generate_series(1, 20) g;
	INSERT INTO shop.visit SELECT 1 + g % 2, '2026-01-01'::date + g * 15, 'secret' FROM generate_series(1, 20) g;
	INSERT INTO "Odd {own} %s"."Name ""x"" {other}" SELECT (ARRAY['a "b" {own} %s', 'second, too', NULL])[1 + g % 3], 'secret' FROM generate_series(1, 9) g;
	INSERT INTO shop.alone VALUES (1);
	RESET ROLE;
	SELECT leyser.protect('shop.invoice', accept_gaps => true), leyser.protect('shop.visit'), leyser.protect('shop.alone'), leyser.declare_table('shop.country', 'shared', 'for all'),
		leyser.protect('"Odd {own} %s"."Name ""x"" {other}"', 'Tenant ''id'' {oid}', 'own_and_global');
	SELECT leyser.set_permissions('shop.visit', read_permission => 'visit.read');
	GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA shop, "Odd {own} %s" TO app, gate;
	ANALYZE;
});

# What an attack says, as lines; $where chooses among its rows.
sub attack
{
	my ($role, $table, $where) = @_;

	return $node->safe_psql('postgres', sprintf(q{SELECT concat_ws(' ', attempt, object, held, sqlstate) FROM leyser.attack_tenant_separation(%s, %s) WHERE %s ORDER BY 1},
			"'$role'", "\$\$$table\$\$", $where));
}

# The attempts that found a hole, by their names.
sub holes
{
	my ($role, $table) = @_;
	my %names = map { /^(\S+)/; ($1 => 1) } split /\n/, attack($role, $table, 'NOT held');

	return \%names;
}

# A digest of all that the attack must leave alone.
my $state = q{SELECT md5(string_agg(t::text, '' ORDER BY t::text)) FROM (
	SELECT i::text FROM shop.invoice i UNION ALL SELECT v::text FROM shop.visit v UNION ALL SELECT o::text FROM "Odd {own} %s"."Name ""x"" {other}" o
	UNION ALL SELECT concat_ws(' ', relname, relowner, relacl, relrowsecurity, relforcerowsecurity, relhastriggers, relhasrules) FROM pg_class WHERE relnamespace IN ('shop'::regnamespace, 'leyser'::regnamespace) AND relname !~ '^event_'
	UNION ALL SELECT p::text FROM pg_policy p UNION ALL SELECT r::text FROM pg_roles r UNION ALL SELECT t::text FROM leyser.table_record t
	UNION ALL SELECT u::text FROM leyser.usage_record u UNION ALL SELECT s::text FROM pg_db_role_setting s UNION ALL SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'shop'::regnamespace
	UNION ALL SELECT gid FROM pg_prepared_xacts UNION ALL SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp' UNION ALL SELECT c.relname FROM pg_class c WHERE relname ~ 'leyser_attack') s (t)};
my $before = $node->safe_psql('postgres', $state);

# ---- what is protected well ----

foreach my $table ('shop.invoice', 'shop.visit', '"Odd {own} %s"."Name ""x"" {other}"')
{
	foreach my $role (qw(app gate))
	{
		# a partition is looked for before row security is
		my $untried = join "\n", 'read.large_object large objects', $table eq 'shop.visit' ? ('write.insert shop.visit 23514', 'write.on_conflict shop.visit 23514', 'write.without_context shop.visit 23514') : ();
		is(attack($role, $table, 'held IS NOT TRUE'), $untried, "$role, $table: all that can be tried is held");
		cmp_ok($node->safe_psql('postgres', qq{SELECT count(DISTINCT attempt) FROM leyser.attack_tenant_separation('$role', \$\$$table\$\$)}), '>=', 85, '... of many attempts');
	}
}
is($node->safe_psql('postgres', $state), $before, 'nothing was changed');
is(attack('app', 'shop.visit', q{attempt = 'read.part'}), "read.part shop.visit_1 t\nread.part shop.visit_2 t", 'partitions are named');
is(attack('gate', 'shop.invoice', q{attempt IN ('switch.enter', 'switch.issue_token', 'switch.enter_unasked')}), "switch.enter leyser.token t LY009\nswitch.issue_token leyser.token t LY009",
	'a gateway enters tenants, and cannot where a context is set');
my $listed = q{SELECT attempt FROM leyser.attack_attempt WHERE on_each NOT IN ('part', 'parent', 'view', 'role')};
is($node->safe_psql('postgres', qq{$listed EXCEPT SELECT attempt FROM leyser.attack_tenant_separation('app', 'shop.invoice')}), '', 'every attempt that is listed is made');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'leyser attack worker'}), '0', 'no worker stays');

# ---- each protection that is taken away ----

# damage, repair, attempts that must find the hole
sub hole_is_found
{
	my ($name, $table, $damage, $repair, @expected) = @_;

	$node->safe_psql('postgres', "SET client_min_messages = error; SET leyser.guards = off; $damage");
	my $damaged = $node->safe_psql('postgres', $state);
	my $found = holes('app', $table);
	ok($found->{$_}, "$name: $_") or diag(join ' ', sort keys %$found) foreach @expected;
	is($node->safe_psql('postgres', $state), $damaged, '... the attack itself changed nothing');
	$node->safe_psql('postgres', "SET client_min_messages = error; SET leyser.guards = off; $repair");
	is(attack('app', $table, 'NOT held'), '', '... and afterwards there is none');
	return;
}

my @read = map { "read.$_" } qw(every_row by_tenant by_place join subquery lateral set_operation for_update cursor copy parallel leaky_condition without_context);
my @write = qw(write.insert write.insert_copy write.on_conflict write.update write.update_in_query write.delete write.merge_update write.merge_delete write.merge_insert write.without_context move.to_other move.to_all);
my @shared = qw(steal.session_token steal.prepared_plan steal.prepared_plan_own forge.startup_packet);
hole_is_found('row security is disabled', 'shop.invoice', 'ALTER TABLE shop.invoice DISABLE ROW LEVEL SECURITY', 'ALTER TABLE shop.invoice ENABLE ROW LEVEL SECURITY',
	@read, @write, @shared, qw(read.row_security_off read.statistics write.copy));
hole_is_found('the policy lets everything through', 'shop.invoice', 'ALTER POLICY leyser_tenant ON shop.invoice USING (true) WITH CHECK (true)',
	'ALTER POLICY leyser_tenant ON shop.invoice USING (tenant_id = leyser.tenant_id_int8()) WITH CHECK (tenant_id = leyser.tenant_id_int8())', @read, @write, @shared);
hole_is_found('the policy checks no new rows', 'shop.invoice', 'ALTER POLICY leyser_tenant ON shop.invoice WITH CHECK (true)',
	'ALTER POLICY leyser_tenant ON shop.invoice WITH CHECK (tenant_id = leyser.tenant_id_int8())', qw(write.insert write.insert_copy write.on_conflict write.merge_insert write.without_context));
hole_is_found('the policy is gone', 'shop.invoice', 'DROP POLICY leyser_tenant ON shop.invoice',
	'CREATE POLICY leyser_tenant ON shop.invoice AS RESTRICTIVE USING (tenant_id = leyser.tenant_id_int8()) WITH CHECK (tenant_id = leyser.tenant_id_int8())', @read, @write, @shared);
hole_is_found('the role owns the table, which is not forced', 'shop.invoice', 'ALTER TABLE shop.invoice NO FORCE ROW LEVEL SECURITY; GRANT keeper TO app',
	'ALTER TABLE shop.invoice FORCE ROW LEVEL SECURITY; REVOKE keeper FROM app', @read, @write, @shared, 'widen.set_role');
hole_is_found('the role bypasses row security', 'shop.invoice', 'ALTER ROLE app BYPASSRLS', 'ALTER ROLE app NOBYPASSRLS', @read, @write, 'read.row_security_off', 'write.copy');
hole_is_found('the role is a superuser', 'shop.invoice', 'ALTER ROLE app SUPERUSER', 'ALTER ROLE app NOSUPERUSER', @read, @write,
	qw(widen.session_authorization widen.superuser widen.setting widen.password widen.create_role read.leyser_table read.server_file read.server_program
	widen.grant widen.view widen.function widen.trigger widen.rule widen.index widen.drop widen.unprotect widen.suspend refer.child));
hole_is_found('the role can become one that bypasses row security', 'shop.invoice', 'CREATE ROLE dba BYPASSRLS; GRANT dba TO app; GRANT ALL ON shop.invoice TO dba; GRANT USAGE ON SCHEMA shop TO dba',
	'DROP OWNED BY dba; DROP ROLE dba', 'widen.set_role');
hole_is_found('a view of a superuser', 'shop.invoice', 'CREATE VIEW shop.all_of_them AS SELECT * FROM shop.invoice; GRANT SELECT ON shop.all_of_them TO app', 'DROP VIEW shop.all_of_them', 'read.view');
hole_is_found('a view of such a view, and a materialized one', 'shop.invoice', q{CREATE VIEW shop.all_of_them AS SELECT * FROM shop.invoice; CREATE VIEW shop.more WITH (security_invoker) AS SELECT * FROM shop.all_of_them;
	CREATE MATERIALIZED VIEW shop.kept AS SELECT * FROM shop.more; GRANT SELECT ON shop.kept TO app}, 'DROP VIEW shop.all_of_them CASCADE', 'read.view');
hole_is_found('TRUNCATE without the guards', 'shop.invoice', 'GRANT TRUNCATE ON shop.invoice TO app; ALTER DATABASE postgres SET leyser.guards = off', 'REVOKE TRUNCATE ON shop.invoice FROM app; ALTER DATABASE postgres RESET leyser.guards',
	qw(write.truncate read.explain read.explain_analyze steal.cursor steal.prepare steal.temporary_function steal.session_setting widen.role_setting widen.password));
hole_is_found('an own schema, without the guards', 'shop.invoice', 'GRANT CREATE ON SCHEMA shop TO app; ALTER ROLE app SET leyser.guards = off', 'REVOKE CREATE ON SCHEMA shop FROM app; ALTER ROLE app RESET leyser.guards',
	qw(widen.view widen.materialized_view widen.copy_of_table widen.function));
hole_is_found('another tenant is let in', 'shop.invoice', q{ALTER ROLE app SET leyser.context_switch = 'allow'}, 'ALTER ROLE app RESET leyser.context_switch',
	qw(switch.second_token switch.leave switch.reset switch.savepoint switch.rolled_back switch.block));
hole_is_found('tokens count for the session', 'shop.invoice', q{ALTER ROLE app SET leyser.context_scope = 'session'}, 'ALTER ROLE app RESET leyser.context_scope', 'steal.session_token', 'steal.prepared_plan');
hole_is_found('settings of superusers', 'shop.invoice', 'GRANT SET ON PARAMETER leyser.guards, session_replication_role TO app', 'REVOKE SET ON PARAMETER leyser.guards, session_replication_role FROM app', 'widen.setting');
hole_is_found('files of the server', 'shop.invoice', 'GRANT pg_read_server_files, pg_execute_server_program TO app', 'REVOKE pg_read_server_files, pg_execute_server_program FROM app', qw(read.server_program));
hole_is_found('leyser\'s tables', 'shop.invoice', 'GRANT SELECT ON leyser.tenant_record TO app', 'REVOKE SELECT ON leyser.tenant_record FROM app', qw(read.leyser_table));
hole_is_found('a partition without row security', 'shop.visit', 'ALTER TABLE shop.visit_2 DISABLE ROW LEVEL SECURITY', 'ALTER TABLE shop.visit_2 ENABLE ROW LEVEL SECURITY', 'read.part', 'write.part');

# What the tests cannot undo whole.
$node->safe_psql('postgres', q{SELECT leyser.suspend_protection('shop.invoice', 'a repair', '1 hour')});
is(attack('app', 'shop.invoice', q{attempt = 'read.without_context'}), 'read.without_context shop.invoice t LY001', 'a suspended table is closed to applications');
$node->safe_psql('postgres', q{SELECT leyser.protect('shop.invoice', enforcement => 'enforce')});
$node->safe_psql('postgres', q{SELECT lo_from_bytea(0, 'secret'); GRANT SELECT ON LARGE OBJECT } . $node->safe_psql('postgres', q{SELECT lo_from_bytea(0, 'secret')}) . ' TO PUBLIC');
is(attack('app', 'shop.invoice', 'held IS NOT TRUE'), 'read.large_object large objects f', 'a large object that the role may read');
$node->safe_psql('postgres', 'SELECT lo_unlink(oid) FROM pg_largeobject_metadata');

# What is refused to such roles is refused to the worker, too.
$node->safe_psql('postgres', q{ALTER SYSTEM SET leyser.privileged_access = 'refuse'; SELECT pg_reload_conf()});
$node->poll_query_until('postgres', q{SELECT current_setting('leyser.privileged_access') = 'refuse'}) or die;
$node->safe_psql('postgres', 'SET leyser.guards = off; ALTER ROLE app BYPASSRLS');
is(attack('app', 'shop.invoice', q{attempt ~ '^(read.by_tenant|write.(update|insert))$' AND held IS NOT TRUE}), '', 'privileged access that is refused is no hole');
$node->safe_psql('postgres', q{SET leyser.guards = off; ALTER ROLE app NOBYPASSRLS; ALTER SYSTEM RESET leyser.privileged_access});
$node->safe_psql('postgres', 'SELECT pg_reload_conf()');

# ---- what is recorded, and what is not said ----

my $place = log_position($node);
my $said = $node->safe_psql('postgres', q{SET leyser.guards = off; ALTER TABLE shop.invoice DISABLE ROW LEVEL SECURITY;
	SELECT * FROM leyser.attack_tenant_separation('app', 'shop.invoice');
	ALTER TABLE shop.invoice ENABLE ROW LEVEL SECURITY});
unlike($said, qr/secret/, 'no value of a row is given');
unlike(log_since($node, $place), qr/secret|eyJ/, '... nor a value or a token in the server log');
my $event = q{SELECT event, object, detail ->> 'role', (detail ->> 'held')::int > 50, jsonb_array_length(detail -> 'holes') > 20, session_role FROM leyser.event WHERE event LIKE 'attack.%' ORDER BY event_id DESC LIMIT 1};
is($node->safe_psql('postgres', $event), 'attack.hole_found|shop.invoice|app|t|t|postgres', 'a hole is an event of its own');
$node->safe_psql('postgres', q{BEGIN; SELECT * FROM leyser.attack_tenant_separation('app', 'shop.invoice'); ROLLBACK});
is($node->safe_psql('postgres', $event), 'attack.held|shop.invoice|app|t|f|postgres', 'so is an attack that was held, also where its caller rolls back');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event WHERE event LIKE 'attack.%' AND (tenant_id IS NOT NULL OR detail::text ~ 'secret')}), '0', '... without a tenant');
is($node->safe_psql('postgres', q{SELECT array_agg(DISTINCT tenant_id ORDER BY tenant_id) FROM leyser.event WHERE event = 'token.issued' AND object IS NOT NULL}), '{1,2}', 'whose tenants can see that tokens were made for them');

# What is not known to be held is not called so.
my $locker = open_session($node);
$locker->query_safe('BEGIN; LOCK TABLE shop.invoice IN ACCESS EXCLUSIVE MODE');
my ($locked) = sqlstate_of($node, q{SELECT * FROM leyser.attack_tenant_separation('app', 'shop.invoice')});
is($locked, '55P03', 'a table that is locked');
$locker->query_safe('ROLLBACK');
$locker->quit;
$node->safe_psql('postgres', q{GRANT TRUNCATE ON shop.invoice TO app; ALTER ROLE app SET leyser.guards = off});
$locker = open_session($node);
$locker->query_safe('BEGIN; LOCK TABLE shop.invoice IN ACCESS SHARE MODE');
is(attack('app', 'shop.invoice', q{attempt IN ('write.truncate', 'steal.listen')}), "steal.listen connection 0A000\nwrite.truncate shop.invoice 55P03", 'what met a lock, or cannot be done in a worker, is not called held');
$locker->query_safe('ROLLBACK');
$locker->quit;
is(attack('app', 'shop.invoice', q{attempt = 'write.truncate'}), 'write.truncate shop.invoice f', '... and without the lock it is a hole');
$node->safe_psql('postgres', q{REVOKE TRUNCATE ON shop.invoice FROM app; ALTER ROLE app RESET leyser.guards});

# ---- bad input ----

is_refused($node, "SELECT * FROM leyser.attack_tenant_separation($_->[0])", $_->[1], "attack($_->[0])")
  foreach [ q{'app', 'shop.alone'}, 'LY008' ], [ q{'app', 'shop.country'}, 'LY008' ], [ q{'app', 'shop.loose'}, 'LY008' ], [ q{'reader', 'shop.invoice'}, 'LY008' ], [ q{'watcher', 'shop.invoice'}, 'LY008' ],
  [ q{'batch', 'shop.invoice'}, 'LY008' ], [ q{'postgres', 'shop.invoice'}, 'LY008' ], [ q{'nobody', 'shop.invoice'}, '42704' ], [ q{'app', 'shop.nothing'}, '42P01' ], [ q{NULL, 'shop.invoice'}, '22004' ], [ q{'app', NULL}, '22004' ],
  [ q{4242424242, 'shop.invoice'}, '42704' ], [ q{'app', 4242424242}, '42P01' ];
my (undef, $message) = sqlstate_of($node, q{SELECT * FROM leyser.attack_tenant_separation('app', 'shop.alone')});
like($message, qr/DETAIL:.*HINT:/s, '... with detail and hint');
foreach my $role (qw(app gate reader watcher))
{
	is_refused($node, q{SELECT * FROM leyser.attack_tenant_separation('app', 'shop.invoice')}, '42501', "$role may not attack", user => $role);
	is_refused($node, $_, '42501', "$role: $_", user => $role) foreach q{SELECT leyser.attack_as('gate', '{"value SELECT 1"}')}, q{SELECT leyser.attack_token('expired', '1')}, q{SELECT leyser.attack_tokens('1', '2')};
}
is($node->safe_psql('postgres', 'SELECT count(*) > 80 FROM leyser.attack_attempt', extra_params => [ '-U', 'watcher' ]), 't', 'auditors read what is tried');

$node->stop;
done_testing();
