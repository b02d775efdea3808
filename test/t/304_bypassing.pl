# Owners protect their own tables, and are told of views and functions that read them
# past row security.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('bypassing');
$node->safe_psql('postgres', q{
	CREATE ROLE keeper LOGIN;
	CREATE ROLE other LOGIN;
	CREATE ROLE beyond BYPASSRLS;
	CREATE ROLE app LOGIN;
	GRANT CREATE ON SCHEMA public TO keeper, beyond;
	SELECT leyser.grant_usage('app', 'gateway');
	SELECT leyser.create_tenant('1'), leyser.create_tenant('2');
});

# A migration of the owner's: one transaction, no operator and no superuser.
my ($sqlstate, $message) = sqlstate_of($node, q{
	BEGIN;
	CREATE TABLE invoice (id int PRIMARY KEY, tenant_id int NOT NULL, amount int);
	SELECT leyser.protect('invoice', enforcement => 'observe');
	GRANT SELECT, INSERT ON invoice TO app;
	COMMIT;
	BEGIN;
	SELECT leyser.protect('invoice', enforcement => 'enforce');
	CREATE TABLE line (tenant_id int NOT NULL, n int);
	SELECT leyser.protect('line');
	ALTER TABLE line ADD COLUMN note text;
	COMMIT}, user => 'keeper');
is($sqlstate, '', 'an owner protects in a migration') or diag($message);
unlike($message, qr/NOTICE|WARNING/, '... and is told of nothing');
is_refused($node, 'SELECT * FROM invoice', 'LY001', '... himself bound', user => 'keeper');
my %refused = (
	q{SELECT leyser.protect('invoice', enforcement => 'observe')} => 'LY008', q{SELECT leyser.protect('invoice', kind => 'own_and_global')} => '42501',
	q{SELECT leyser.protect('invoice', tenant_column => 'id')} => '42501', q{SELECT leyser.protect('invoice', accept_gaps => true)} => '42501',
	q{SELECT leyser.unprotect('invoice')} => '42501', q{SELECT leyser.suspend_protection('invoice', 'why', '1 hour')} => '42501',
	q{ALTER TABLE invoice NO FORCE ROW LEVEL SECURITY} => 'LY007');
is_refused($node, $_, $refused{$_}, "an owner only tightens: $_", user => 'keeper') foreach sort keys %refused;
is_refused($node, q{SELECT leyser.protect('invoice')}, '42501', 'another role cannot protect it', user => 'other');

# Who reads it past row security.
$node->safe_psql('postgres', q{
	SET client_min_messages = error;
	CREATE VIEW of_superuser AS SELECT * FROM invoice;
	CREATE VIEW of_keeper AS SELECT * FROM invoice;
	ALTER VIEW of_keeper OWNER TO keeper;
	CREATE VIEW asking WITH (security_invoker) AS SELECT * FROM invoice;
	CREATE VIEW above_asking AS SELECT * FROM asking;
	CREATE VIEW above_keeper AS SELECT * FROM of_keeper;
	CREATE MATERIALIZED VIEW kept AS SELECT * FROM invoice WITH NO DATA;
	CREATE FUNCTION parsed() RETURNS bigint LANGUAGE sql SECURITY DEFINER BEGIN ATOMIC SELECT count(*) FROM invoice; END;
	CREATE FUNCTION named() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN (SELECT count(*) FROM public.invoice); END';
	CREATE FUNCTION of_beyond() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM Invoice';
	ALTER FUNCTION of_beyond() OWNER TO beyond;
	CREATE FUNCTION invoker() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM invoice';
	CREATE FUNCTION keepers() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM invoice';
	ALTER FUNCTION keepers() OWNER TO keeper;
	CREATE FUNCTION invoices() RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN 1; /* invoices */ END';
});
my @wanted = ('function "named()" names it and runs as "postgres", whom row security does not bind',
	'function "of_beyond()" names it and runs as "beyond", whom row security does not bind',
	'function "parsed()" reads it as "postgres", whom row security does not bind',
	'materialized view "kept" keeps what "postgres" sees, whom row security does not bind',
	'view "of_superuser" reads it as "postgres", whom row security does not bind');
is(join("\n", sort map { s/public\.//gr } split /\n/, $node->safe_psql('postgres', q{SELECT g FROM leyser.governed_table, unnest(gaps) g
	WHERE relation = 'invoice'::regclass AND g ~ 'row security does not bind'})), join("\n", @wanted), 'governed_table names all that read past row security');
(undef, $message) = sqlstate_of($node, q{SELECT leyser.protect('invoice')}, user => 'keeper');
like($message, qr/NOTICE.*"public.invoice" is read past row security/, 'who protects the table is told');
like($message, qr/\Q$_\E/, "... of $_") foreach map { s/"((?!postgres|beyond)[\w()]+)"/"public.$1"/r } @wanted;
(undef, $message) = sqlstate_of($node, q{SELECT leyser.protect('line')}, user => 'keeper');
unlike($message, qr/NOTICE/, '... of no others');

# What the words mean, seen.
$node->safe_psql('postgres', q{INSERT INTO invoice VALUES (1, 1, 1), (2, 2, 2); REFRESH MATERIALIZED VIEW kept; GRANT SELECT ON ALL TABLES IN SCHEMA public TO app, beyond});
foreach my $reads ('count(*) FROM of_superuser', 'count(*) FROM kept', 'parsed()', 'named()', 'of_beyond()')
{
	is($node->safe_psql('postgres', "SELECT $reads", extra_params => [ '-U', 'app' ]), '2', "$reads shows all rows");
}
is_refused($node, "SELECT $_", 'LY001', "$_ does not", user => 'app') foreach 'count(*) FROM of_keeper', 'count(*) FROM asking', 'count(*) FROM above_asking', 'count(*) FROM above_keeper', 'invoker()', 'keepers()';

$node->stop;
done_testing();
