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
