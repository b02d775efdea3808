# A schema of 173 tables and 226 foreign keys that nobody here made is adopted while
# applications read and write: nobody notices, no gap remains, no table shows a row of
# another tenant.

use strict;
use warnings;

use AdoptedSchema;
use IPC::Run;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = adopted_node('adopt_schema');
my $folder = PostgreSQL::Test::Utils::tempdir();

$node->safe_psql('adopted', q{
	CREATE ROLE service LOGIN;
	GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO service;
});
my $before = schema_dump($node, "$folder/before.sql");
load_tenants($node);
add_root_columns($node);
my $roots = tables_with_column($node);

create_extension($node, 'adopted');
$node->safe_psql('adopted', q{
	SELECT leyser.create_tenant('a'), leyser.create_tenant('b');
	SELECT leyser.grant_usage('service', 'gateway');
});
my $tables = () = $before =~ /^CREATE TABLE/mg;
my $keys = () = $before =~ /FOREIGN KEY/g;
cmp_ok($tables, '>=', 173, "it has $tables tables");
cmp_ok($keys, '>=', 226, "... and $keys foreign keys");

my $position = log_position($node);
my $load = start_load($node, 3);
my $children = adopt_children($node);
declare_rest($node);
my ($state, $message) = sqlstate_of($node, q{CALL leyser.protect_schema('public')}, database => 'adopted');
is($state, '', 'the schema is protected') or diag($message);
unlike($message, qr/have no kind/, '... all of it');
sleep 1;
finish_load($node, $load, $position);

is($node->safe_psql('adopted', q{SELECT count(*) FROM leyser.governed_table WHERE kind = 'own'}),
	$node->safe_psql('adopted', q{SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attname = 'tenant_id'}), 'every table with the column is protected');
gaps_are_noted($node);
is($node->safe_psql('adopted', q{SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace}), $keys,
	'there are as many foreign keys as before');
is($node->safe_psql('adopted', q{SELECT string_agg(conname, ' ') FROM pg_constraint WHERE connamespace = 'public'::regnamespace
	AND (NOT convalidated OR conname ~ '^leyser')}), '', '... all validated, under their own names');
my $seen = each_table_separates($node);
note("$seen tables, $children of them children");
cmp_ok($children, '>', 100, 'most of them got the column from their parents');

# Again: nothing is to be done.
is_refused($node, q{CALL leyser.protect_schema('public')}, '', 'a second call does nothing', database => 'adopted');
is($node->safe_psql('adopted', q{SELECT count(*) FROM leyser.work WHERE state <> 'done'}), '0', '... and all work is done');

# The way out: what was changed is taken back, and without the columns that were made
# by hand the schema is what it was.
is_refused($node, 'SELECT leyser.undo_adoption()', 'LY008', 'nothing is taken back while tables are protected', database => 'adopted');
$node->safe_psql('adopted', 'SELECT leyser.unprotect_all(); SELECT leyser.undo_adoption(); DROP EXTENSION leyser');
is(tables_with_column($node), $roots, 'only the columns that were made by hand are left');
drop_root_columns($node);
is(schema_dump($node, "$folder/after.sql"), $before, 'the schema is what it was before');

$node->stop;
done_testing();
