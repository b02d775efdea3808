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
);

my %undo = ();

is($node->safe_psql('postgres', 'SELECT check_id, object, finding FROM leyser.check_security()'), '', 'nothing is found at first');
my $rules = rules_of($node);
is(join(' ', sort keys %alike), join(' ', sort keys %$rules), 'a case that looks alike for each rule');
foreach my $id (sort keys %$rules)
{
	fires_and_is_mended($node, $id, $rules->{$id}, $undo{$id});
	does_not_fire($node, $id, $alike{$id});
}
is($node->safe_psql('postgres', 'SELECT check_id, object, finding FROM leyser.check_security()'), '', 'nothing is found at the end');

$node->stop;
done_testing();
