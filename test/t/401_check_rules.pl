# Each rule of the security check: its documented example makes it fire, its remedy is
# pasted and ends it, and a case that looks alike does not fire.

use strict;
use warnings;

use LeyserCheck;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = check_node('rules');

# What looks alike, and is well.
my %alike = (
	'bypass.row_security_off' => 'CREATE TABLE shop.log (note text); SELECT leyser.declare_table(\'shop.log\', \'retained\', \'law\')',
	'bypass.not_forced' => q{CREATE TABLE shop.draft (tenant_id bigint NOT NULL); SELECT leyser.protect('shop.draft', enforcement => 'observe')},
	'bypass.policy_changed' => q{CREATE DOMAIN shop.tenant AS uuid; CREATE TABLE shop.d (tenant_id shop.tenant NOT NULL); CREATE TABLE shop."Odd Name" ("Tenant" text);
		SELECT leyser.protect('shop.d'), leyser.protect('shop."Odd Name"', 'Tenant', 'own_and_global'), leyser.suspend_protection('shop.invoice', 'a repair', '1 hour');
		CREATE POLICY narrower ON shop.invoice AS RESTRICTIVE USING (amount > 0)},
	'bypass.permission_policy_changed' => q{SELECT leyser.create_permission('line.write', 'x'); SELECT leyser.set_permissions('shop.line', write_permission => 'line.write')},
	'bypass.observed' => q{SELECT leyser.suspend_protection('shop.invoice', 'a repair', '1 hour')},
	'bypass.suspended' => q{SELECT leyser.suspend_protection('shop.invoice', 'a repair', '1 hour');
		SET LOCAL leyser.guards = off; UPDATE leyser.table_record SET suspended_until = now() - interval '1 minute' WHERE suspended_until IS NOT NULL},
	'bypass.superuser' => 'CREATE ROLE owners NOLOGIN SUPERUSER',
	'bypass.bypassrls' => 'CREATE ROLE plain LOGIN CREATEDB',
	'bypass.becomes' => 'CREATE ROLE dba NOLOGIN SUPERUSER; CREATE ROLE plain NOLOGIN; GRANT plain TO reader; GRANT reader TO dba',
	'bypass.owner' => 'CREATE ROLE migrations LOGIN; GRANT keeper TO migrations',
	'bypass.definer_view' => q{CREATE VIEW shop.nobodys AS SELECT * FROM shop.invoice;
		CREATE VIEW shop.asking WITH (security_invoker) AS SELECT * FROM shop.invoice; CREATE VIEW shop.above AS SELECT * FROM shop.asking;
		CREATE VIEW shop.keepers AS SELECT * FROM shop.invoice; ALTER VIEW shop.keepers OWNER TO keeper; GRANT SELECT ON shop.asking, shop.above, shop.keepers TO app;
		CREATE SCHEMA hidden; CREATE VIEW hidden.v AS SELECT * FROM shop.invoice; GRANT SELECT ON hidden.v TO PUBLIC},
	'bypass.materialized_view' => q{CREATE MATERIALIZED VIEW shop.sums AS SELECT count(*) FROM shop.invoice; CREATE MATERIALIZED VIEW shop.codes AS SELECT * FROM shop.country; GRANT SELECT ON shop.codes TO app},
	'bypass.definer_function' => q{CREATE FUNCTION shop.total() RETURNS numeric LANGUAGE sql SECURITY DEFINER SET search_path = shop AS 'SELECT sum(amount) FROM invoice'; ALTER FUNCTION shop.total() OWNER TO keeper;
		CREATE FUNCTION shop.mine() RETURNS numeric LANGUAGE sql SECURITY DEFINER SET search_path = shop AS 'SELECT sum(amount) FROM invoice'; REVOKE ALL ON FUNCTION shop.mine() FROM PUBLIC;
		CREATE FUNCTION shop.invoices() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = shop AS 'SELECT 1 /* invoices */'},
	'bypass.trigger_function' => q{CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS 'BEGIN UPDATE shop.invoice SET amount = 0; RETURN NULL; END'},
	'bypass.definer_dynamic' => q{CREATE FUNCTION shop.run(q text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN EXECUTE q; END'; ALTER FUNCTION shop.run(text) OWNER TO keeper;
		CREATE FUNCTION shop.mine(q text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN EXECUTE q; END'; REVOKE ALL ON FUNCTION shop.mine(text) FROM PUBLIC},
	'bypass.definer_search_path' => q{CREATE FUNCTION shop.one() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'; ALTER FUNCTION shop.one() OWNER TO keeper; CREATE FUNCTION shop.two() RETURNS int LANGUAGE sql AS 'SELECT 2'},
	'bypass.rule' => q{CREATE TABLE shop.inbox (i int); ALTER TABLE shop.inbox OWNER TO keeper; CREATE RULE also AS ON INSERT TO shop.inbox DO ALSO DELETE FROM shop.invoice},
	'bypass.truncate_right' => q{GRANT TRUNCATE ON shop.country TO app; CREATE ROLE cleaner NOLOGIN; GRANT TRUNCATE ON shop.invoice TO cleaner},
	'bypass.guards_off' => q{ALTER ROLE keeper SET leyser.guards = on; SET LOCAL leyser.guards = off},
	'bypass.access_window' => q{SELECT leyser.close_privileged_access(leyser.open_privileged_access('keeper', 'a migration', '1 hour'))},
	'bypass.parameter_right' => q{GRANT SET ON PARAMETER work_mem TO reader; CREATE ROLE restorer NOLOGIN; GRANT SET ON PARAMETER leyser.guards TO restorer},
	'bypass.raw_reader' => q{CREATE EXTENSION dblink; CREATE EXTENSION pageinspect},
	'bypass.user_mapping' => q{CREATE FOREIGN DATA WRAPPER far; CREATE SERVER there FOREIGN DATA WRAPPER far; CREATE USER MAPPING FOR PUBLIC SERVER there; CREATE USER MAPPING FOR app SERVER there},
	'governed.no_kind' => q{CREATE TABLE shop.parted (i int) PARTITION BY LIST (i); CREATE TABLE shop.part PARTITION OF shop.parted FOR VALUES IN (1);
		SELECT leyser.declare_table('shop.parted', 'ignored', 'a queue'); CREATE TEMP TABLE brief (i int); CREATE SCHEMA extra; CREATE TABLE extra.note (i int)},
	'governed.tenant_column' => q{CREATE SCHEMA extra; CREATE TABLE extra.note (note text); CREATE TABLE extra.other (tenant_id timestamptz)},
	'governed.reachable_schema' => q{CREATE SCHEMA extra; CREATE TABLE extra.note (note text); GRANT SELECT ON extra.note TO app; CREATE SCHEMA third; CREATE TABLE third.note (note text); GRANT USAGE ON SCHEMA third TO app;
		GRANT USAGE ON SCHEMA third TO reader; GRANT SELECT ON third.note TO reader},
	'governed.foreign_table' => 'CREATE FOREIGN DATA WRAPPER far; CREATE SERVER there FOREIGN DATA WRAPPER far; CREATE FOREIGN TABLE shop.remote (i int) SERVER there; GRANT SELECT ON shop.remote TO custodian',
	'governed.foreign_child' => q{CREATE TABLE shop.note (i int); SELECT leyser.declare_table('shop.note', 'shared', 'for all'); CREATE FOREIGN DATA WRAPPER far; CREATE SERVER there FOREIGN DATA WRAPPER far;
		CREATE FOREIGN TABLE shop.old () INHERITS (shop.note) SERVER there},
	'governed.part' => 'CREATE TABLE shop.old_payment () INHERITS (shop.payment)',
	'governed.parent' => q{CREATE TABLE shop.old_payment () INHERITS (shop.payment)},
	'governed.nullable' => q{CREATE TABLE shop.unit (tenant_id bigint); SELECT leyser.protect('shop.unit', kind => 'own_and_global')},
	'governed.default_lost' => q{CREATE TABLE shop.draft (tenant_id bigint NOT NULL); SELECT leyser.protect('shop.draft', set_default => false)},
	'governed.shared_trigger' => q{CREATE TABLE shop.unit (code text); SELECT leyser.declare_table('shop.unit', 'shared', 'for all')},
	'governed.retained_reachable' => q{GRANT SELECT ON shop.ledger TO auditor},
	'governed.ignored_writable' => q{SELECT leyser.declare_table('shop.ledger', 'ignored'); GRANT SELECT ON shop.ledger TO app},
	'governed.not_validated' => q{ALTER TABLE shop.ledger ADD CONSTRAINT positive CHECK (id > 0) NOT VALID; ALTER TABLE shop.invoice ADD CONSTRAINT positive CHECK (amount >= 0)},
	'governed.getters_revoked' => q{REVOKE EXECUTE ON FUNCTION leyser.protect(regclass, name, text, text, boolean, boolean) FROM PUBLIC},
	'leak.unique_index' => q{CREATE UNIQUE INDEX ON shop.invoice (tenant_id, number); CREATE UNIQUE INDEX ON shop.payment (id); CREATE UNIQUE INDEX ON shop.line (id); CREATE UNIQUE INDEX ON shop.ledger (abs(id));
		CREATE UNIQUE INDEX hosts ON shop.invoice (number); SELECT leyser.create_lookup('by_number', 'shop.invoice', '{number}')},
	'leak.unique_number' => q{CREATE TABLE shop.note (tenant_id bigint NOT NULL, id bigserial, PRIMARY KEY (tenant_id, id)); SELECT leyser.protect('shop.note')},
	'leak.exclusion' => q{CREATE EXTENSION btree_gist; CREATE TABLE shop.stay (tenant_id bigint NOT NULL, during tsrange, EXCLUDE USING gist (tenant_id WITH =, during WITH &&)); SELECT leyser.protect('shop.stay')},
	'leak.references_right' => q{GRANT REFERENCES ON shop.country TO reader},
	'leak.sequence_readable' => q{GRANT SELECT ON SEQUENCE shop.invoice_id_seq TO operator; CREATE SEQUENCE shop.counter; GRANT SELECT ON SEQUENCE shop.counter TO app},
	'leak.statistics_role' => q{CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher},
	'leak.stat_statements' => q{CREATE EXTENSION pg_stat_statements; REVOKE SELECT ON pg_stat_statements FROM PUBLIC; GRANT SELECT ON pg_stat_statements TO operator},
	'leak.notify_trigger' => q{CREATE FUNCTION shop.tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_notify(''shop'', ''''); RETURN NULL; END'; CREATE TRIGGER tell AFTER INSERT ON shop.ledger EXECUTE FUNCTION shop.tell();
		CREATE FUNCTION shop.notifying() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; /* notified */ END'; CREATE TRIGGER tell AFTER INSERT ON shop.invoice EXECUTE FUNCTION shop.notifying()},
	'leak.language_state' => q{CREATE TRUSTED LANGUAGE plkeeping HANDLER plpgsql_call_handler; REVOKE USAGE ON LANGUAGE plkeeping FROM PUBLIC; CREATE LANGUAGE pluntrusted HANDLER plpgsql_call_handler},
	'leak.leakproof' => q{CREATE FUNCTION shop.same(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT $1 = $2'},
	'leak.large_objects' => q{SELECT lo_from_bytea(0, 'x')},
	'widen.permissive_beside' => q{CREATE POLICY narrower ON shop.invoice AS RESTRICTIVE USING (amount > 0); CREATE TABLE shop.job (tenant_id bigint NOT NULL); ALTER TABLE shop.job ENABLE ROW LEVEL SECURITY;
		CREATE POLICY own ON shop.job USING (tenant_id < 10); SELECT leyser.protect('shop.job')},
	'widen.permissive_true' => q{ALTER TABLE shop.ledger ENABLE ROW LEVEL SECURITY; CREATE POLICY all_read ON shop.ledger FOR SELECT USING (true); CREATE POLICY few ON shop.ledger FOR DELETE USING (id < 100)},
	'widen.policy_setting' => q{CREATE TABLE shop.job (tenant_id bigint NOT NULL); ALTER TABLE shop.job ENABLE ROW LEVEL SECURITY;
		CREATE POLICY mine ON shop.job USING (tenant_id = current_setting('app.tenant')::bigint); SELECT leyser.protect('shop.job')},
	'widen.policy_without_rls' => q{CREATE POLICY few ON shop.ledger USING (id < 100); ALTER TABLE shop.ledger ENABLE ROW LEVEL SECURITY},
	'widen.no_policy' => q{ALTER TABLE shop.country ENABLE ROW LEVEL SECURITY; CREATE POLICY all_read ON shop.country FOR SELECT USING (true)},
	'widen.foreign_key' => q{SET LOCAL leyser.guards = off; ALTER TABLE shop.line ADD COLUMN code text REFERENCES shop.country; ALTER TABLE shop.line ADD COLUMN other bigint, ADD FOREIGN KEY (other, tenant_id) REFERENCES shop.invoice (id, tenant_id)},
	'widen.create_in_schema' => q{GRANT CREATE ON SCHEMA shop TO reader; CREATE SCHEMA readers AUTHORIZATION reader},
	'widen.create_in_database' => q{GRANT TEMPORARY ON DATABASE postgres TO app; GRANT CREATE ON DATABASE postgres TO keeper},
	'widen.grant_option' => q{GRANT SELECT ON shop.country TO reader WITH GRANT OPTION},
	'widen.public_grant' => q{GRANT SELECT ON shop.country TO PUBLIC},
	'widen.default_privileges' => q{ALTER DEFAULT PRIVILEGES FOR ROLE keeper IN SCHEMA shop GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO app; ALTER DEFAULT PRIVILEGES FOR ROLE keeper GRANT EXECUTE ON FUNCTIONS TO PUBLIC},
	'widen.trigger_right' => q{GRANT TRIGGER ON shop.country TO reader},
	'widen.foreign_function' => q{CREATE FUNCTION shop.twice(numeric) RETURNS numeric IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 2'; ALTER FUNCTION shop.twice(numeric) OWNER TO keeper; CREATE INDEX ON shop.invoice (tenant_id, shop.twice(amount));
		CREATE FUNCTION shop.idle() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION shop.idle() OWNER TO reader},
	'widen.createrole' => q{CREATE ROLE makers NOLOGIN CREATEROLE},
	'widen.context_switch' => q{ALTER ROLE app SET leyser.context_switch = refuse; SET LOCAL leyser.context_switch = allow},
	'widen.context_hidden' => q{ALTER ROLE app SET leyser.on_missing_context = error},
	'token.in_setting' => q{ALTER ROLE keeper SET work_mem = '8MB'},
	'token.in_function_setting' => q{CREATE FUNCTION shop.as_one() RETURNS int LANGUAGE sql SET work_mem = '8MB' AS 'SELECT 1'},
	'token.in_source' => q{CREATE FUNCTION shop.as_one(token text) RETURNS text LANGUAGE sql AS 'SELECT set_config(''leyser.token'', token, true)'},
	'token.log_statement' => q{ALTER ROLE app SET log_statement = 'ddl'},
	'token.log_duration' => q{ALTER ROLE app SET log_min_duration_statement = -1; ALTER ROLE app SET log_duration = on},
	'token.log_parameters_on_error' => q{ALTER ROLE app SET log_parameter_max_length_on_error = 0},
	'token.statements_kept' => q{ALTER DATABASE postgres SET pg_stat_statements.track_utility = off},
	'token.audit_parameters' => q{ALTER DATABASE postgres SET pgaudit.log_parameter = off},
	'token.explained' => q{ALTER DATABASE postgres SET auto_explain.log_min_duration = -1},
	'token.lifetime' => q{ALTER ROLE app SET leyser.max_token_lifetime = '24 h'},
	'token.leeway' => q{ALTER ROLE app SET leyser.clock_leeway = 60},
	'token.session_scope' => q{ALTER ROLE app SET leyser.context_scope = transaction},
	'key.unusable' => q{SELECT leyser.stage_signing_key()},
	'key.old' => q{UPDATE leyser.signing_key SET activated_at = now() - interval '300 days' WHERE state = 'active'},
	'key.left' => q{SELECT leyser.activate_signing_key(leyser.stage_signing_key())},
	'key.issuers_unbound' => q{INSERT INTO leyser.issuer_key (key_id, pem, algorithm, issuer, audience, tenant_id)
		VALUES ('a', 'x', 'EdDSA', 'https://a.example', 'x', NULL), ('a2', 'x', 'EdDSA', 'https://a.example', 'x', NULL), ('b', 'x', 'EdDSA', 'https://b.example', 'x', '1')},
	'key.custodian_acts' => q{SELECT leyser.grant_usage('custodian', 'provisioner')},
	'key.custodian_backs_up' => q{SELECT leyser.grant_usage('custodian', 'provisioner'), leyser.grant_usage('operator', 'backup')},
	'key.auditor_acts' => q{SELECT leyser.grant_usage('operator', 'provisioner')},
	'key.duty_reads_rows' => q{GRANT SELECT ON shop.invoice TO operator; GRANT USAGE ON SCHEMA shop TO auditor; GRANT SELECT ON shop.invoice TO auditor},
	'key.unfit_application' => q{SET LOCAL leyser.guards = off; GRANT pg_read_all_data, pg_monitor TO app; ALTER ROLE app SUPERUSER BYPASSRLS CREATEROLE REPLICATION; ALTER TABLE shop.ledger OWNER TO app;
		GRANT CREATE ON SCHEMA shop TO app; GRANT SET ON PARAMETER leyser.guards TO app; GRANT INSERT ON leyser.table_record TO app; GRANT INSERT (role) ON leyser.usage_record TO PUBLIC; CREATE ROLE team NOLOGIN; GRANT team TO app},
	'key.own_tables' => q{SELECT leyser.grant_usage('custodian', 'provisioner'); GRANT SELECT ON shop.country TO reader},
	'key.own_functions' => q{SELECT leyser.grant_usage('reader', 'gateway')},
	'key.leyser_owner' => q{CREATE ROLE second SUPERUSER; ALTER SCHEMA leyser OWNER TO second},
	'key.server_files' => q{CREATE ROLE loader NOLOGIN; GRANT pg_read_server_files TO loader},
	'key.all_data' => q{CREATE ROLE loader NOLOGIN; GRANT pg_read_all_data TO loader},
	'performance.no_index' => q{CREATE TABLE shop.big (tenant_id bigint NOT NULL, n int, note text); CREATE INDEX ON shop.big (tenant_id, n); INSERT INTO shop.big SELECT 1, 1, repeat('x', 400) FROM generate_series(1, 4000); ANALYZE shop.big;
		SELECT leyser.protect('shop.big'); CREATE TABLE shop.small (tenant_id bigint NOT NULL); SELECT leyser.protect('shop.small')},
	'performance.not_leakproof' => q{CREATE INDEX ON shop.invoice (number); CREATE INDEX ON shop.invoice (tenant_id, amount); CREATE INDEX ON shop.ledger ((id * 1.5))},
	'performance.policy_volatile' => q{CREATE FUNCTION shop.floor_amount() RETURNS numeric LANGUAGE sql STABLE AS 'SELECT 0.0'; CREATE POLICY above ON shop.invoice AS RESTRICTIVE USING (amount > shop.floor_amount())},
	'performance.policy_parallel' => q{CREATE FUNCTION shop.floor_amount() RETURNS numeric LANGUAGE sql PARALLEL SAFE AS 'SELECT 0.0'; CREATE POLICY above ON shop.invoice AS RESTRICTIVE USING (amount > shop.floor_amount())},
	'performance.foreign_key' => q{CREATE TABLE shop.part (tenant_id bigint NOT NULL, invoice_id bigint, FOREIGN KEY (tenant_id, invoice_id) REFERENCES shop.invoice (tenant_id, id)); CREATE INDEX ON shop.part (invoice_id, tenant_id); SELECT leyser.protect('shop.part')},
	'performance.statistics' => q{CREATE TABLE shop.small (tenant_id bigint NOT NULL); SELECT leyser.protect('shop.small')},
	'performance.invalid_index' => q{CREATE INDEX broken ON shop.ledger ((id + 1)); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'shop.broken'::regclass},
	'replication.publication' => 'CREATE PUBLICATION elsewhere FOR TABLE shop.country',
	'replication.role' => 'CREATE ROLE copying NOLOGIN REPLICATION',
	'replication.subscription' => 'CREATE ROLE plain LOGIN',
	'replication.logical_slot' => q{SELECT pg_create_physical_replication_slot('standby')},
	'replication.unlogged' => q{CREATE UNLOGGED TABLE shop.brief (i int)},
	'job.past_row_security' => q{CREATE EXTENSION pg_cron; SELECT cron.schedule('beat', '* * * * *', 'CALL leyser.tick()')},
	'job.heartbeat' => q{UPDATE leyser.tick_record SET last_tick_at = now() - interval '4 minutes'},
	'job.failing' => q{UPDATE leyser.job_record SET failures = 1, failing_since = now() - interval '2 hours' WHERE job = 'upkeep'},
	'server.password_encryption' => q{ALTER DATABASE postgres SET password_encryption = 'scram-sha-256'},
	'server.md5_password' => q{CREATE ROLE fresh LOGIN PASSWORD 'x'},
	'server.system_tables' => q{ALTER DATABASE postgres SET allow_system_table_mods = off},
	'server.row_security_off' => q{ALTER ROLE app SET row_security = on},
	'server.replica_role' => q{ALTER ROLE keeper SET session_replication_role = local},
	'server.password_cost' => q{ALTER DATABASE postgres SET leyser.password_cost = 12},
	'server.password_length' => q{ALTER DATABASE postgres SET leyser.password_min_length = 16},
	'server.statement_timeout' => q{ALTER ROLE app RESET statement_timeout; ALTER DATABASE postgres SET statement_timeout = '10s'},
	'server.clock_moved_back' => q{UPDATE leyser.tick_record SET moved_back = 1, moved_back_at = now() - interval '31 days', moved_back_from = now() - interval '30 days'},
	'server.idle_timeout' => q{CREATE ROLE batch LOGIN},
);

# What is left of examples that cannot be rolled back.
my %undo = (
	'performance.no_index' => q{SELECT leyser.unprotect('shop.big'); DROP TABLE shop.big},
	'performance.not_leakproof' => 'DROP INDEX shop.invoice_tenant_id_amount_idx',
	'job.heartbeat' => 'SELECT leyser.unschedule(); DROP EXTENSION pg_cron; CALL leyser.tick()',
	'job.failing' => 'CALL leyser.tick()',
	'leak.unique_index' => 'DROP INDEX shop.number_key_tenant',
	'leak.unique_number' => q{SELECT leyser.unprotect('shop.note'); DROP TABLE shop.note},
	'widen.foreign_key' => 'ALTER TABLE shop.line DROP CONSTRAINT line_tenant_id_invoice_id_fkey1; DROP INDEX shop.invoice_id_idx',
);

# What 402_check_server.pl shows, for no transaction can roll it back.
my %elsewhere = map { $_ => 1 } qw(job.prepared bypass.access_unrecorded server.log_connections server.version server.not_preloaded server.hba_trust server.hba_local_trust server.hba_weak
  server.hba_plain server.hba_everywhere server.hba_error server.tls_off server.tls_version
  server.require_tls server.hba_ident server.hba_all server.hba_replication server.tls_ciphers server.data_mode server.log_file_mode server.file_open
  server.clock_loose server.log_time_zone replication.idle_slot);

is($node->safe_psql('postgres', 'SELECT check_id, object, finding FROM leyser.check_security()'), '', 'nothing is found at first');
my $rules = rules_of($node);

# Column by column, too.
$node->safe_psql('postgres', 'GRANT INSERT (role), SELECT (usage) ON leyser.usage_record TO reader');
is(findings_of($node, 'key.own_tables'), 'table leyser.usage_record', 'rights on columns of leyser\'s own tables');
ok(paste($node, $node->safe_psql('postgres', q{SELECT remedy FROM leyser.check_security('key')})), '... whose remedy is pasted');
is(findings_of($node, 'key.own_tables'), '', '... and ends it');

# Operators can paste what is for them.
$node->safe_psql('postgres', q{UPDATE leyser.job_record SET failures = 30, failing_since = now() - interval '2 days', retry_at = now() + interval '1 hour' WHERE job = 'upkeep'});
$node->safe_psql('postgres', $node->safe_psql('postgres', q{SELECT remedy FROM leyser.check_security('job') WHERE check_id = 'job.failing'}), extra_params => [ '-U', 'operator' ]);
is(findings_of($node, 'job.failing'), '', 'an operator has a failing job done again');
is_refused($node, "SELECT leyser.retry_job($_)", '42704', "retry_job($_)", user => 'operator') foreach q{'nothing'}, 'NULL';
is(join(' ', sort(keys %alike, keys %elsewhere)), join(' ', sort keys %$rules), 'a case that looks alike for each rule');
cmp_ok(scalar keys %$rules, '>=', 70, 'enough rules');
foreach my $id (grep { !$elsewhere{$_} || /^job|log_connections/ } sort keys %$rules)
{
	fires_and_is_mended($node, $id, $rules->{$id}, $undo{$id});
	does_not_fire($node, $id, $alike{$id}) if $alike{$id};
}
is($node->safe_psql('postgres', 'SELECT check_id, object, finding FROM leyser.check_security()'), '', 'nothing is found at the end');

$node->stop;
done_testing();
