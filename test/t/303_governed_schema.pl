# Governed schemas: who makes a table without a kind is told, or refused, whatever
# statement makes it; and parts of a table have its kind.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('schemas');
$node->safe_psql('postgres', q{
	CREATE ROLE keeper LOGIN;
	CREATE ROLE operator LOGIN;
	CREATE ROLE app LOGIN;
	SELECT leyser.grant_usage('operator', 'operator'), leyser.grant_usage('app', 'application');
	CREATE SCHEMA shop AUTHORIZATION keeper;
	CREATE SCHEMA other AUTHORIZATION keeper;
	CREATE TABLE other.elsewhere (tenant_id int NOT NULL);
	ALTER TABLE other.elsewhere OWNER TO keeper;
	GRANT CREATE ON DATABASE postgres TO keeper;
});

# The tables that a script of keeper's is warned of.
sub warned_of
{
	my ($sql, %options) = @_;
	my ($sqlstate, $message) = sqlstate_of($node, $sql, user => $options{user} // 'keeper');

	diag($message) if $sqlstate ne ($options{sqlstate} // '');
	return join ' ', $message =~ /WARNING:  LY007: table "(\w+)" of a governed schema has no kind/g;
}

is(warned_of('CREATE TABLE shop.early (tenant_id int NOT NULL)'), '', 'a schema that nobody governs');
is_refused($node, q{SELECT leyser.govern_schema('shop')}, '42501', 'keeper cannot declare a schema', user => 'keeper');
is_refused($node, "SELECT leyser.govern_schema($_)", '3F000', "govern_schema($_)", user => 'operator') foreach q{'pg_catalog'}, q{'leyser'}, 'NULL', q{'information_schema'}, q{0::regnamespace};
is_refused($node, q{SELECT leyser.ungovern_schema('shop')}, 'LY008', 'a schema that was not declared', user => 'operator');
$node->safe_psql('postgres', q{SELECT leyser.govern_schema('shop'), leyser.govern_schema('shop')}, extra_params => [ '-U', 'operator' ]);
is($node->safe_psql('postgres', q{SELECT relation, kind, gaps FROM leyser.governed_table}, extra_params => [ '-U', 'operator' ]), 'shop.early||{"no kind is declared"}', 'its tables are reported');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event WHERE event = 'schema.governed'}), '1', '... and the declaration, once');

# Whatever statement brings a table.
is(warned_of('CREATE TABLE shop.plain (i int)'), 'plain', 'CREATE TABLE');
is(warned_of('CREATE TABLE shop.alike (LIKE shop.early INCLUDING ALL)'), 'alike', 'LIKE');
is(warned_of('CREATE TABLE shop.selected AS SELECT 1 AS i'), 'selected', 'AS');
is(warned_of('SELECT 1 AS i INTO shop.into_it'), 'into_it', 'SELECT INTO');
is(warned_of('CREATE TABLE shop.parted (i int) PARTITION BY LIST (i); CREATE TABLE shop.part PARTITION OF shop.parted FOR VALUES IN (1)'), 'parted part', 'partitions of a table without a kind');
is(warned_of('CREATE UNLOGGED TABLE shop.unlogged (i int)'), 'unlogged', 'unlogged');
is(warned_of('CREATE TABLE other.moved (i int); ALTER TABLE other.moved SET SCHEMA shop'), 'moved', 'moved there');
is(warned_of('DO $$ BEGIN EXECUTE \'CREATE TABLE shop.in_do (i int)\'; END $$'), 'in_do', 'in a function');
is(warned_of('CREATE SCHEMA made CREATE TABLE made.first (i int)'), '', 'a schema of one\'s own');
is(warned_of('BEGIN; CREATE TABLE shop.brief (i int); DROP TABLE shop.brief; SAVEPOINT s; CREATE TABLE shop.undone (i int); ROLLBACK TO s; COMMIT'), '', 'what is gone at the end is not told of');
is(warned_of('CREATE TEMP TABLE temporary (i int); CREATE TABLE other.free (i int); CREATE INDEX ON shop.plain (i); CREATE VIEW shop.v AS SELECT 1; CREATE SEQUENCE shop.s; ALTER TABLE shop.plain ADD j int DEFAULT random()'),
	'', 'what is no new table there');
is(warned_of(q{BEGIN; CREATE TABLE shop.invoice (tenant_id int NOT NULL, id int) PARTITION BY LIST (id); SELECT leyser.protect('shop.invoice'); CREATE TABLE shop.invoice_1 PARTITION OF shop.invoice FOR VALUES IN (1); COMMIT}),
	'', 'a migration that protects what it makes');
is($node->safe_psql('postgres', q{SELECT kind, parent FROM leyser.governed_table WHERE relation = 'shop.invoice_1'::regclass}), 'own|shop.invoice', '... its partitions, too');
is(warned_of('CREATE TABLE shop.invoice_2 (LIKE shop.invoice INCLUDING ALL)'), 'invoice_2', 'LIKE copies no protection');

# Parts of a declared table have its kind.
foreach my $kind (qw(by_rule retained ignored shared))
{
	my $condition = $kind eq 'by_rule' ? q{, 'i::text = $1'} : '';
	$node->safe_psql('postgres', "SET client_min_messages = error; CREATE TABLE shop.$kind (i int) PARTITION BY LIST (i);
		CREATE TABLE shop.${kind}_1 PARTITION OF shop.$kind FOR VALUES IN (1)", extra_params => [ '-U', 'keeper' ]);
	$node->safe_psql('postgres', "SELECT leyser.declare_table('shop.$kind', '$kind', 'a test'$condition)");
	is(warned_of("CREATE TABLE shop.${kind}_2 PARTITION OF shop.$kind FOR VALUES IN (2)"), '', "a partition of a table that is $kind");
	is($node->safe_psql('postgres', "SELECT string_agg(concat(kind, gaps::text), ' ') FROM leyser.governed_table WHERE relation::text ~ '^shop.$kind'"), "$kind\{} $kind\{} $kind\{}", '... is so, too');
}
is(warned_of('ALTER TABLE shop.ignored DETACH PARTITION shop.ignored_1'), 'ignored_1', 'one that is detached has none any more');
is(warned_of('CREATE TABLE shop.child () INHERITS (shop.plain)'), 'child', 'a child of a table without a kind');

# Refused.
$node->safe_psql('postgres', q{ALTER SYSTEM SET leyser.undeclared_tables = 'refuse'; SELECT pg_reload_conf()});
$node->poll_query_until('postgres', q{SELECT current_setting('leyser.undeclared_tables') = 'refuse'}) or die;
is_refused($node, $_, 'LY007', "refused: $_", user => 'keeper')
  foreach 'CREATE TABLE shop.no (i int)', 'CREATE TABLE shop.no AS SELECT 1 AS i', 'CREATE TABLE shop.no (LIKE shop.invoice)', 'BEGIN; CREATE TABLE shop.no (i int); COMMIT',
  'ALTER TABLE other.free SET SCHEMA shop', 'ALTER TABLE shop.ignored DETACH PARTITION shop.ignored_2';
is($node->safe_psql('postgres', q{SELECT to_regclass('shop.no') IS NULL, to_regclass('shop.free') IS NULL}), 't|t', 'nothing of it was done');
is_refused($node, 'SET leyser.undeclared_tables = warn', '42501', 'the setting is a superuser\'s', user => 'keeper');
is(sqlstate_of($node, $_, user => 'keeper'), '', "works: $_")
  foreach q{BEGIN; CREATE TABLE shop.yes (tenant_id int NOT NULL); SELECT leyser.protect('shop.yes'); COMMIT},
  q{BEGIN; CREATE TABLE shop.watched (tenant_id int NOT NULL); SELECT leyser.protect('shop.watched', enforcement => 'observe'); COMMIT},
  'CREATE TABLE shop.invoice_3 PARTITION OF shop.invoice FOR VALUES IN (3)', 'CREATE TABLE shop.by_rule_3 PARTITION OF shop.by_rule FOR VALUES IN (3)',
  'ALTER TABLE shop.plain ADD k int', 'CREATE TABLE other.yes (i int)', 'CREATE TEMP TABLE yes (i int)';
is(sqlstate_of($node, q{SET leyser.guards = off; CREATE TABLE shop.restored (i int)}), '', 'a restore turns the guards off');

# A dump carries the declaration; a restore is not hindered by it.
my $dump = "$PostgreSQL::Test::Utils::tmp_check/governed.sql";
$node->command_ok([ 'pg_dump', '-p', $node->port, '-h', $node->host, '-f', $dump, 'postgres' ], 'a dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-p', $node->port, '-h', $node->host, '-f', $dump, 'restored' ], '... is restored');
is($node->safe_psql('restored', 'SELECT schema FROM leyser.schema_record'), 'shop', '... with the declaration');
is_refused($node, 'CREATE TABLE shop.no (i int)', 'LY007', '... which counts', database => 'restored', user => 'keeper');

$node->safe_psql('postgres', q{SELECT leyser.ungovern_schema('shop')}, extra_params => [ '-U', 'operator' ]);
is_refused($node, 'CREATE TABLE shop.no (i int)', 'LY007', 'a schema that holds a governed table is governed anyway', user => 'keeper');

$node->stop;
done_testing();
