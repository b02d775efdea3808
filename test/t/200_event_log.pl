# Each administrative act leaves one row of the event log and one line of the
# server log, whatever names are in it; a rollback takes the row, not the line, and
# not even the row where somebody got at a tenant's data: support, and issued tokens.

use strict;
use warnings;

use JSON::PP;
use LeyserTest;
use LeyserToken;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('event', conf => qq{log_statement = none\nleyser.privileged_access = off\nlisten_addresses = '127.0.0.1'});
$node->safe_psql('postgres', q{
	CREATE ROLE app LOGIN;
	CREATE ROLE gateway LOGIN;
	CREATE ROLE provisioner LOGIN;
	CREATE ROLE auditor LOGIN;
	CREATE ROLE support LOGIN;
	CREATE ROLE owner_of_tables;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
});
my $pair = make_key_pair('EdDSA');

# The events in the server log since a position, decoded.
sub lines_since
{
	my ($position) = @_;

	return map { decode_json($_) } log_since($node, $position) =~ /LOG:  leyser event: (.*)$/mg;
}

sub last_event_id
{
	return $node->safe_psql('postgres', 'SELECT coalesce(max(event_id), 0) FROM leyser.event');
}

# One act: exactly these events, each with one row and one line that agree.
# Options: user.
sub recorded
{
	my ($sql, $events, %options) = @_;
	my $position = log_position($node);
	my $before = last_event_id();

	my $result = $node->safe_psql('postgres', $sql,
		extra_params => [ defined $options{user} ? ('-U', $options{user}) : () ]);
	my @rows = map { decode_json($_) } split(/\n/, $node->safe_psql('postgres',
		"SELECT to_jsonb(e) FROM leyser.event e WHERE event_id > $before ORDER BY event_id"));
	my @lines = lines_since($position);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(join(' ', map { $_->{event} } @rows), $events, "row: $events");
	is(join(' ', map { $_->{event} } @lines), $events, "line: $events");
	for my $key (qw(tenant_id object session_role caller_role account_id))
	{
		is(join('|', map { $_->{$key} // '' } @lines), join('|', map { $_->{$key} // '' } @rows),
			"$events: row and line agree on $key");
	}
	return ($result, @rows);
}

# Every act once.
my ($result, @rows) = recorded(q{SELECT leyser.create_tenant('t1', 'Tenant One', 'JP')}, 'tenant.created');
is($rows[0]{tenant_id}, 't1', 'the tenant');
is($rows[0]{object}, 'Tenant One', 'the object');
is($rows[0]{detail}{region}, 'JP', 'the detail');
recorded(q{SELECT leyser.suspend_tenant('t1')}, 'tenant.suspended');
recorded(q{SELECT leyser.resume_tenant('t1')}, 'tenant.resumed');
recorded(q{SELECT leyser.grant_usage('app', 'application')}, 'usage.granted');
recorded(q{SELECT leyser.grant_usage('gateway', 'gateway')}, 'usage.granted');
recorded(q{SELECT leyser.grant_usage('auditor', 'auditor')}, 'usage.granted');
recorded(q{SELECT leyser.grant_usage('provisioner', 'provisioner')}, 'usage.granted');
$node->safe_psql('postgres', q{
	CREATE TABLE item (tenant_id text NOT NULL, n int) PARTITION BY LIST (n);
	CREATE TABLE country (code text);
	ALTER TABLE item OWNER TO owner_of_tables;
	GRANT SELECT, INSERT ON item TO app, gateway;
});
recorded(q{SELECT leyser.protect('item')}, 'table.protected');
recorded(q{CREATE TABLE item_1 PARTITION OF item FOR VALUES IN (1)}, 'table.followed');
recorded(q{DROP TABLE item_1}, 'table.dropped');
recorded(q{SELECT leyser.unprotect('item')}, 'table.unprotected');
recorded(q{SET ROLE owner_of_tables; SELECT leyser.protect('item')}, 'table.protected');
$node->safe_psql('postgres', q{CREATE TABLE site (tenant_id text NOT NULL, host text UNIQUE); SELECT leyser.protect('site')});
recorded(q{SELECT leyser.create_lookup('tenant_of_host', 'site', '{host}')}, 'lookup.created');
$node->safe_psql('postgres', q{ALTER TABLE site ADD CONSTRAINT named CHECK (host <> '')});
recorded(q{SELECT leyser.validate_constraint('site', 'named')}, 'constraint.validated');
recorded(q{SELECT leyser.drop_lookup('tenant_of_host(text)')}, 'lookup.dropped');
recorded(q{SELECT leyser.declare_table('country', 'shared', 'reference data')}, 'table.declared');
recorded("SELECT leyser.add_issuer_key('idp', \$\$$pair->{pem}\$\$, 'https://idp', 'service')", 'issuer_key.added');
recorded(q{SELECT leyser.remove_issuer_key('idp')}, 'issuer_key.removed');
my ($key_id) = recorded(q{SELECT leyser.stage_signing_key()}, 'signing_key.staged');
my ($former) = own_key($node);
recorded("SELECT leyser.activate_signing_key('$key_id')", 'signing_key.activated');
recorded("SELECT leyser.retire_signing_key('$former')", 'signing_key.retired');
recorded(q{SELECT leyser.create_account('ada', 't1')}, 'grant.added account.created', user => 'provisioner');
($result, @rows) = recorded(q{BEGIN; SELECT leyser.enter('t1', 'ada') \g /dev/null
	SELECT count(*) FROM item; COMMIT}, 'context.entered', user => 'gateway');
my $ada = $node->safe_psql('postgres', q{SELECT account_id FROM leyser.account_record WHERE account_name = 'ada'});
is("$rows[0]{session_role} $rows[0]{caller_role} $rows[0]{tenant_id} $rows[0]{object}", "gateway gateway t1 $ada",
	'enter(): who, for whom, as whom');
is("$rows[0]{account_id} $rows[0]{account_name}", "$ada ada", '... and with which account from then on');
($result, @rows) = recorded(q{SELECT leyser.issue_token('t1', 'ada')}, 'token.issued', user => 'gateway');
is(index(encode_json(\@rows), substr($result, -20)), -1, 'issue_token(): the token is not recorded');
recorded(q{BEGIN; SELECT leyser.enter('t1') \g /dev/null
	SELECT leyser.import_finish(leyser.import_table('item')); COMMIT}, 'context.entered import.finished', user => 'gateway');
recorded(q{CALL leyser.for_each_tenant('SELECT count(*) FROM item')}, 'each_tenant.began each_tenant.entered each_tenant.ended', user => 'gateway');

# What an account does: each in a transaction that enters its context first.
sub recorded_of_ada
{
	my ($sql, $events) = @_;

	return recorded("BEGIN; SELECT leyser.enter('t1', 'ada') \\g /dev/null\n$sql; COMMIT", "context.entered $events",
		user => 'gateway');
}
recorded(q{SELECT leyser.block_passwords('{all passwords are blocked}')}, 'passwords.blocked');
recorded(q{SELECT leyser.create_permission('item.read', 'see items')}, 'permission.created');
recorded(q{SELECT leyser.set_permissions('item', read_permission => 'item.read')}, 'table.permissions_set');
recorded(q{SELECT leyser.set_permissions('item', read_permission => '')}, 'table.permissions_set');

my ($secret) = recorded_of_ada(q{SELECT leyser.invite_account('bob')}, 'account.invited');
my $first = 'correct horse battery staple';
my $second = 'staple battery horse correct';
($result, @rows) = recorded("SELECT leyser.accept_invitation('t1', 'bob', '$secret', '$first')", 'account.accepted',
	user => 'app');
is(index(encode_json(\@rows), $_), -1, 'a secret is not recorded') for $secret, $first;
recorded("SELECT leyser.login('t1', 'nobody', '$first')", 'login.failed', user => 'app');
my ($of_bob) = recorded("SELECT leyser.login('t1', 'bob', '$first')", 'session.began', user => 'app');
my $as_bob = "BEGIN; SELECT set_config('leyser.token', '$of_bob', true) \\g /dev/null\n";
recorded("$as_bob SELECT leyser.change_password('$first', '$second'); COMMIT", 'password.changed', user => 'app');
recorded("$as_bob SELECT leyser.logout(); COMMIT", 'session.ended', user => 'app');

recorded_of_ada(q{SELECT leyser.create_role('clerk')}, 'role.created');
recorded_of_ada(q{SELECT leyser.alter_role('clerk', add_permissions => '{item.read}')}, 'role.changed');
recorded_of_ada(q{SELECT leyser.grant_role('bob', 'clerk')}, 'grant.added');
recorded_of_ada(q{SELECT leyser.revoke_role('bob', 'clerk')}, 'grant.revoked');
recorded_of_ada(q{SELECT leyser.deny_permission('bob', 'item.read')}, 'grant.added');
recorded_of_ada(q{SELECT leyser.lift_denial('bob', 'item.read')}, 'grant.revoked');
recorded_of_ada(q{SELECT leyser.drop_role('clerk')}, 'role.dropped');
recorded_of_ada(q{SELECT leyser.create_account('carol')}, 'account.created');
recorded_of_ada(q{SELECT leyser.grant_permission('bob', 'item.read', with_grant_option => true)}, 'grant.added');
recorded(q{BEGIN; SELECT leyser.enter('t1', 'bob'); SELECT leyser.grant_permission('carol', 'item.read'); COMMIT},
	'context.entered grant.added', user => 'gateway');
recorded_of_ada(q{SELECT leyser.revoke_permission('bob', 'item.read', cascade => true)}, 'grant.revoked grant.cascaded');
recorded(q{SELECT leyser.drop_permission('item.read')}, 'permission.dropped');

recorded_of_ada(q{SELECT leyser.grant_support_access('support', '1 hour', 'a question')}, 'support.granted');
recorded(q{BEGIN; SELECT leyser.enter_support('t1'); COMMIT}, 'support.entered', user => 'support');

# Whoever was let look, or got a token, was so whatever became of the transaction.
for my $case ([ 'support', q{SELECT leyser.enter_support('t1')}, 'support.entered' ],
	[ 'gateway', q{SELECT leyser.issue_token('t1', 'ada')}, 'token.issued' ])
{
	my ($user, $call, $event) = @$case;

	for my $way ("BEGIN; $call; ROLLBACK", "BEGIN READ ONLY; $call; COMMIT", "BEGIN READ ONLY; $call; ROLLBACK",
		"BEGIN ISOLATION LEVEL SERIALIZABLE; $call; ROLLBACK", "BEGIN; SAVEPOINT s; $call; ROLLBACK TO s; COMMIT",
		"SET default_transaction_read_only = on; $call")
	{
		($result, @rows) = recorded($way, $event, user => $user);
		is("$rows[0]{session_role} $rows[0]{caller_role} $rows[0]{tenant_id}", "$user $user t1", "$way: who, and where");
		ok(defined $rows[0]{digest}, '... with a digest');
	}
	# what is refused was not done, and leaves none
	$node->safe_psql('postgres', q{SELECT leyser.suspend_tenant('t1')});
	my $last = last_event_id();
	is_refused($node, $call, 'LY004', "$event: not where the tenant is suspended", user => $user);
	is(last_event_id(), $last, '... which leaves no row');
	$node->safe_psql('postgres', q{SELECT leyser.resume_tenant('t1')});
}
# Where the row cannot be written there is no context, and no token.
{
	my $log = log_position($node);
	my $before = last_event_id();
	my $writer = open_session($node);
	$writer->query_safe('BEGIN');
	$writer->query_safe('LOCK TABLE leyser.event_record IN SHARE ROW EXCLUSIVE MODE');
	my $support = open_session($node, user => 'support');
	sqlstate_in($support, $_) for q{SET lock_timeout = '10s'}, 'BEGIN', 'SAVEPOINT s';
	is_refused_in($support, q{SELECT leyser.enter_support('t1')}, '58000', 'enter_support(): fails closed');
	sqlstate_in($support, 'ROLLBACK TO s');
	is_refused_in($support, 'SELECT leyser.tenant_id()', 'LY001', '... without a context');
	is_refused($node, q{SET lock_timeout = '10s'; SELECT leyser.issue_token('t1')}, '58000', 'issue_token(): fails closed', user => 'gateway');
	$writer->query_safe('ROLLBACK');
	$_->quit for $writer, $support;
	is(last_event_id(), $before, '... and no row');
	is(join(' ', map { $_->{event} } lines_since($log)), 'support.entered token.issued', '... but the lines');
}
recorded_of_ada(q{SELECT leyser.revoke_support_access('support')}, 'support.revoked');

recorded_of_ada(q{SELECT leyser.revoke_sessions('bob')}, 'session.revoked');
recorded_of_ada(q{SELECT leyser.reset_password('bob')}, 'password.reset');
recorded_of_ada(q{SELECT leyser.disable_account('bob')}, 'account.disabled');
recorded_of_ada(q{SELECT leyser.enable_account('bob')}, 'account.enabled');
recorded_of_ada(q{SELECT leyser.rename_account('bob', 'rob')}, 'account.renamed');
recorded_of_ada(q{SELECT leyser.delete_account('rob')}, 'account.deleted');
recorded_of_ada(q{SELECT leyser.import_account('eve', '$2b$05$' || repeat('a', 53))}, 'account.imported');
recorded(q{SELECT leyser.recover_administrator('t1', 'a letter of their director', 'eve')},
	'grant.added administrator.recovered', user => 'provisioner');
recorded(q{SELECT leyser.revoke_usage('provisioner', 'provisioner')}, 'usage.revoked');

# A contract and its end; the purge takes the content of the tenant's events with it.
$node->safe_psql('postgres', q{
	CREATE ROLE operator LOGIN;
	SELECT leyser.grant_usage('operator', 'operator'), leyser.create_tenant('t9');
});
recorded(q{SELECT leyser.set_contract_time_zone('UTC')}, 'contract.time_zone_set', user => 'operator');
recorded(q{SELECT leyser.register_external_store('bucket')}, 'external_store.registered', user => 'operator');
$node->append_conf('postgresql.conf', 'leyser.second_person = on');
$node->reload;
$node->poll_query_until('postgres', q{SELECT current_setting('leyser.second_person')::boolean});
recorded(q{SELECT leyser.terminate_contract('t9', now() + interval '1 day', 'their letter')}, 'contract.terminated');
recorded(q{SELECT leyser.confirm_termination('t9')}, 'contract.confirmed', user => 'operator');
recorded(q{SELECT leyser.cancel_termination('t9')}, 'contract.cancelled', user => 'operator');
$node->append_conf('postgresql.conf', 'leyser.second_person = off');
$node->reload;
$node->poll_query_until('postgres', q{SELECT NOT current_setting('leyser.second_person')::boolean});
recorded(q{SELECT leyser.terminate_contract('t9', now())}, 'contract.terminated contract.ended', user => 'operator');
recorded(q{SELECT leyser.hold_purge('t9', 'a law', current_date + 30)}, 'purge.held', user => 'operator');
recorded(q{SELECT leyser.release_hold('t9')}, 'purge.released', user => 'operator');
recorded(q{SELECT leyser.confirm_external_erasure('t9', 'bucket')}, 'external_erasure.confirmed', user => 'operator');
$node->safe_psql('postgres', q{CALL leyser.purge('t9')}, extra_params => [ '-U', 'operator' ]);
is($node->safe_psql('postgres', q{SELECT count(*) > 7, count(num_nulls(session_role, object, detail) < 3 OR NULL), count(*) = count(digest)
	FROM leyser.event WHERE tenant_id = 't9' AND event NOT IN ('purge.erased', 'external_erasure.confirmed')}), 't|0|t',
	'the purge erased what its events say, save what it did itself and who confirmed what');
recorded(q{SELECT leyser.drop_external_store('bucket')}, 'external_store.dropped', user => 'operator');

# The books of backups by hand, their policy, and the clock of the schedule.
$node->safe_psql('postgres', q{CREATE ROLE keeper LOGIN; SELECT leyser.grant_usage('keeper', 'backup')});
recorded(q{SELECT leyser.set_backup_policy(generations => 6)}, 'backup_policy.set', user => 'operator');
recorded(q{SELECT leyser.begin_backup('first', '/elsewhere', 'JP')}, 'backup.begun', user => 'keeper');
my $generation = $node->safe_psql('postgres', 'SELECT max(generation_id) FROM leyser.backup_generation');
recorded(qq{SELECT leyser.complete_backup($generation, pg_current_wal_lsn(), pg_current_wal_lsn(), 1, NULL)}, 'backup.completed', user => 'keeper');
recorded(qq{SELECT leyser.verify_backup($generation, true, 'read')}, 'backup.verified', user => 'keeper');
recorded(qq{SELECT leyser.verify_backup($generation, false, 'torn')}, 'backup.failed', user => 'keeper');
recorded(qq{SELECT leyser.confirm_backup_deleted($generation)}, 'backup.deleted', user => 'keeper');
recorded(q{SELECT leyser.record_wal_archive('elsewhere', '000000010000000000000001')}, 'backup.archive_recorded', user => 'keeper');
recorded(q{CALL leyser.tick(accept_clock => true)}, 'schedule.clock_accepted', user => 'operator');
recorded(q{SELECT leyser.set_event_retention('1 year')}, 'events.retention_set', user => 'operator');
recorded(q{SELECT leyser.audit('country')}, 'table.audited', user => 'operator');
recorded(q{SELECT leyser.unaudit('country')}, 'table.unaudited', user => 'operator');

# A schema is adopted, one of its tables is left open for a while, and all is undone.
$node->safe_psql('postgres', q{
	CREATE SCHEMA "a schema";
	GRANT USAGE ON SCHEMA "a schema" TO operator;
	CREATE TABLE "a schema".customer (id int PRIMARY KEY, tenant_id text NOT NULL);
	CREATE TABLE "a schema".note (id int PRIMARY KEY, customer_id int NOT NULL REFERENCES "a schema".customer);
});
recorded(q{SELECT leyser.govern_schema('"a schema"')}, 'schema.governed');
recorded(q{CALL leyser.add_tenant_column('"a schema".note', 'customer_id')}, 'column.added');
recorded(q{CALL leyser.protect_schema('"a schema"')}, 'table.protected table.protected schema.protected');
recorded(q{SELECT leyser.forget_context_gaps('"a schema".note')}, 'table.gaps_forgotten', user => 'operator');
($result, @rows) = recorded(q{SELECT leyser.suspend_protection('"a schema".note', 'a job', '2 seconds')}, 'table.suspended', user => 'operator');
is("$rows[0]{object} $rows[0]{detail}{reason}", '"a schema".note a job', 'suspend_protection(): what, and why');
$node->poll_query_until('postgres', q{SELECT leyser.ended_suspensions() = '"a schema".note'::regclass});
recorded(q{CALL leyser.tick()}, 'table.suspension_ended', user => 'operator');
recorded(q{SELECT leyser.unprotect_all()}, join ' ', ('table.unprotected') x 5);
recorded(q{SELECT leyser.undo_adoption()}, 'adoption.undone');
recorded(q{SELECT leyser.ungovern_schema('"a schema"')}, 'schema.ungoverned');

# Every kind of event that the script and the library record was seen, save those of
# tests 131 (keyrings), 260 to 274 (backups), 281 (pg_cron),
# 321 (exports), 330 to 333 (restores), 400 (the security check), 421 (the end of retention) and 442 (the clock).
my $script = slurp_file("$ENV{TESTDIR}/leyser--"
	  . $node->safe_psql('postgres', q{SELECT extversion FROM pg_extension WHERE extname = 'leyser'}) . '.sql');
my %kinds = map { $_ => 1 } grep { /\./ } $script =~ /record_(?:account_|lasting_|backup_)?(?:event|change)\([^';>]*'([a-z_.]+)'/g,
	'context.entered', 'token.issued', 'grant.revoked';
delete @kinds{qw(keyring.abandoned fence.accepted purge.replayed restore.noticed restore.released schedule.installed schedule.removed
	export.opened export.confirmed export.closed export.read
	privileged.opened privileged.closed replication.missed
	clock.moved_back events.dropped check.found check.waived check.waiver_lifted
	backup.imported backup.noticed backup.found backup.found_again backup.orphaned backup.mended backup.expired)};
is($node->safe_psql('postgres', q{SELECT string_agg(event, ' ' ORDER BY event COLLATE "C")
	FROM (SELECT DISTINCT event FROM leyser.event) e}), join(' ', sort keys %kinds), 'every kind of event was seen');

# Whoever calls as another role is told as both.
$node->safe_psql('postgres', 'GRANT gateway TO auditor');
($result, @rows) = recorded(q{SET ROLE gateway; SELECT leyser.issue_token('t1')}, 'token.issued', user => 'auditor');
is("$rows[0]{session_role} $rows[0]{caller_role}", 'auditor gateway', 'session user and role in force');
$node->safe_psql('postgres', 'REVOKE gateway FROM auditor');

# From where: the address of a client that comes over TCP, none over a socket.
my $position = log_position($node);
$node->safe_psql('postgres', q{SELECT leyser.issue_token('t1')},
	connstr => 'host=127.0.0.1 port=' . $node->port . ' dbname=postgres user=gateway');
is($node->safe_psql('postgres', q{SELECT host(client_address) FROM leyser.event ORDER BY event_id DESC LIMIT 1}),
	'127.0.0.1', 'client_address of the row');
is((lines_since($position))[0]{client_address}, '127.0.0.1', '... and of the line');
is($rows[0]{client_address}, undef, 'none over a socket');

# What guards would have refused is told where they are off.
$position = log_position($node);
$node->safe_psql('postgres', q{SET leyser.guards = off; ALTER ROLE app BYPASSRLS});
like(log_since($node, $position), qr/not refused, for leyser.guards is off: a role would no longer be bound by row security alone.*role "app".*BYPASSRLS/s,
	'guards off: the line says what they would have refused');
$node->safe_psql('postgres', q{ALTER ROLE app NOBYPASSRLS; SELECT leyser.protect('item')});
$position = log_position($node);
$node->safe_psql('postgres', q{SET leyser.guards = off; ALTER TABLE item DISABLE ROW LEVEL SECURITY});
like(log_since($node, $position), qr/not refused, for leyser.guards is off: row security of table "item" cannot be disabled/,
	'... and of a table');
$node->safe_psql('postgres', 'ALTER TABLE item ENABLE ROW LEVEL SECURITY');
$position = log_position($node);
$node->safe_psql('postgres', q{SET leyser.guards = off; CREATE TABLE plain (i int); DROP TABLE plain});
unlike(log_since($node, $position), qr/not refused/, 'what weakens nothing leaves no line');

# Reading in a context is no act, and failing is none that happened.
my $token = own_token($node);
recorded("BEGIN; SELECT set_config('leyser.token', '$token', true) \\g /dev/null\nSELECT count(*) FROM item; COMMIT",
	'', user => 'app');
my $before = last_event_id();
$position = log_position($node);
is_refused($node, q{SELECT leyser.create_tenant('t1')}, '23505', 'a tenant that exists');
is_refused($node, q{SELECT leyser.suspend_tenant('nobody')}, '42704', 'a tenant that does not');
is_refused($node, q{SELECT leyser.enter('nobody')}, 'LY004', 'nobody\'s context', user => 'gateway');
is(last_event_id(), $before, 'what failed left no row');
is(scalar(lines_since($position)), 0, '... and no line');

# Rolled back: the row is gone, the line stays.
$position = log_position($node);
$node->safe_psql('postgres', q{BEGIN; SELECT leyser.create_tenant('never'); ROLLBACK});
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event WHERE tenant_id = 'never'}), '0',
	'rolled back: no row');
is(join(' ', map { "$_->{event} $_->{tenant_id}" } lines_since($position)), 'tenant.created never',
	'rolled back: the line stays');
$node->safe_psql('postgres', q{BEGIN READ ONLY; SELECT leyser.enter('t1'); COMMIT}, extra_params => [ '-U', 'gateway' ]);
is((map { $_->{event} } lines_since($position))[-1], 'context.entered', 'a read-only transaction leaves a line');

# Names cannot forge a line: whatever stands in them, it is one line of JSON.
my $forgery = "x\n2026-01-01 00:00:00.000 UTC [1] LOG:  leyser event: {\"event\": \"forged\"}";
my @evil = (
	[ 'role', "CREATE ROLE \"%s\"; SELECT leyser.grant_usage('\"%s\"', 'auditor')" ],
	[ 'table', "CREATE TABLE \"%s\" (tenant_id text NOT NULL); SELECT leyser.protect('\"%s\"')" ]);
for my $case (@evil)
{
	my ($what, $sql) = @$case;
	my $name = substr($forgery, 0, 60) =~ s/"/""/gr;

	$position = log_position($node);
	$node->safe_psql('postgres', $sql =~ s/%s/$name/gr);
	# what goes on in a message's next line is indented
	my @lines = grep { /^\d.* LOG:  leyser event/ } split(/\n/, log_since($node, $position));
	is(scalar(@lines), 1, "$what: one line");
	like($lines[0], qr/event: \{.*\\n2026-01-01/, "$what: the line break is escaped");
}
for my $text ("a\\nb", 'a"b', 'a\\', "\x{c2}\x{85}", "\x{e2}\x{80}\x{a8}", '}{', '%s%n', "'; DROP TABLE item; --")
{
	my ($sql) = "SELECT leyser.issue_token('t1', '" . ($text =~ s/'/''/gr) . "')";
	my ($state) = sqlstate_of($node, $sql, user => 'gateway');

	$position = log_position($node);
	sqlstate_of($node, $sql, user => 'gateway');
	my @lines = log_since($node, $position) =~ /leyser event: (.*)$/mg;
	is(scalar(@lines), $state eq '' ? 1 : 0, "account \"$text\": at most one line");
	ok((!grep { !eval { decode_json($_) } } @lines), "account \"$text\": the line is JSON");
}
is_refused($node, "SELECT leyser.create_tenant('t\n2')", '22023', 'a line break in a tenant id');
is_refused($node, "SELECT leyser.create_tenant('t2', 'a\nb')", '22023', 'a line break in a tenant\'s name');
is_refused($node, "SELECT leyser.issue_token('t1', 'a\nb')", '22023', 'a line break in an account', user => 'gateway');

# Added, and never changed; read by auditors, and nobody else.
for my $change ('UPDATE leyser.event_record SET event = event', 'DELETE FROM leyser.event_record',
	'TRUNCATE leyser.event_record',
	q{SET session_replication_role = replica; DELETE FROM leyser.event_record})
{
	is_refused($node, $change, 'LY007', "refused to a superuser: $change");
}
is_refused($node, 'SELECT * FROM leyser.event', '42501', 'an application reads no events', user => 'app');
is_refused($node, 'SELECT * FROM leyser.event_record', '42501', 'an auditor reads the view only', user => 'auditor');
is_refused($node, q{SELECT leyser.record_event('forged', NULL, NULL, NULL)}, '42501', 'nobody adds events of their own',
	user => 'auditor');
is_refused($node, q{SELECT leyser.log_line('forged')}, '42501', '... nor lines', user => 'auditor');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM leyser.event', extra_params => [ '-U', 'auditor' ]), '>', 20,
	'an auditor reads events');

# Each digest is that of the row's content with its salt, and each event has its place
# in a chain.
is($node->safe_psql('postgres', 'SELECT * FROM leyser.verify_events()', extra_params => [ '-U', 'auditor' ]), '', 'each digest fits its content');

$node->stop;
done_testing();
