# LeyserPrivileged.pm
#
# What the tests of privileged access share: a shop with roles that row security does
# not bind, and what was recorded since the last look.

package LeyserPrivileged;

use strict;
use warnings;

use LeyserTest;
use Test::More;

use Exporter qw(import);
our @EXPORT = qw(make_shop accessed accessed_by set_access);

# Roles: keeper owns, app is the application, beyond has BYPASSRLS, boss is a
# superuser, member can become postgres.
sub make_shop
{
	my ($node) = @_;

	$node->safe_psql('postgres', q{
		CREATE ROLE keeper LOGIN;
		CREATE ROLE beyond LOGIN BYPASSRLS;
		CREATE ROLE boss LOGIN SUPERUSER;
		CREATE ROLE member LOGIN IN ROLE boss;
		CREATE ROLE app LOGIN;
		CREATE ROLE auditor LOGIN;
		GRANT CREATE ON SCHEMA public TO keeper, beyond;
		SELECT leyser.grant_usage('app', 'gateway'), leyser.grant_usage('auditor', 'auditor');
		SELECT leyser.create_tenant('1'), leyser.create_tenant('2');
		SET ROLE keeper;
		CREATE TABLE invoice (tenant_id int NOT NULL, id int NOT NULL, amount int, PRIMARY KEY (tenant_id, id));
		CREATE TABLE line (tenant_id int NOT NULL, id int NOT NULL, note text, PRIMARY KEY (tenant_id, id),
			FOREIGN KEY (tenant_id, id) REFERENCES invoice ON DELETE CASCADE);
		CREATE TABLE plain (id int);
		INSERT INTO invoice SELECT t, n, n FROM generate_series(1, 2) t, generate_series(1, 20) n;
		INSERT INTO line SELECT tenant_id, id, 'x' FROM invoice WHERE id < 10;
		GRANT ALL ON invoice, line, plain TO app, beyond, PUBLIC;
		REVOKE TRUNCATE ON invoice, line FROM app, PUBLIC;
		SELECT leyser.protect('invoice'), leyser.protect('line');
	});
	return;
}

sub set_access
{
	my ($node, $value) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET leyser.privileged_access = $value");
	$node->reload;
	$node->poll_query_until('postgres', "SELECT current_setting('leyser.privileged_access') = '$value'") or die 'no reload';
	return;
}

my $seen = 0;

# What is new in the event log, once all that is counted is written:
# event, table, role, command and why, with the number of statements.
sub accessed
{
	my ($node, $columns) = @_;

	$columns //= q{event || ' ' || relation || ' ' || role || ' ' || command || ' ' || bypass};
	$node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM leyser.list_privileged())}) or die 'not written';
	my $got = $node->safe_psql('postgres', qq{SELECT coalesce(string_agg(g.what || ' ' || g.n, E'\\n' ORDER BY g.what), '')
		FROM (SELECT $columns AS what, sum(statements) AS n FROM leyser.privileged_access WHERE event_id > $seen GROUP BY 1) g});
	$seen = $node->safe_psql('postgres', 'SELECT coalesce(max(event_id), 0) FROM leyser.event');
	return $got =~ s/public\.|privileged\.//gr;
}

# The same of statements that a role runs in a session of its own; with what was raised.
sub accessed_by
{
	my ($node, $user, $sql) = @_;

	accessed($node);
	my ($sqlstate, $message) = sqlstate_of($node, $sql, user => $user);
	return (accessed($node), $sqlstate, $message);
}

1;
