# Which unique keys tell what other tenants have: the security check, view governed_table
# and key_remedies() judge alike.

use strict;
use warnings;

use LeyserCheck;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = check_node('keys');

# columns of a key, what is found of it
my @keys = (
	[ 'code text NOT NULL', 'code', 'leak.unique_index' ],
	[ 'id bigserial', 'id', 'leak.unique_number' ],
	[ 'id bigint GENERATED ALWAYS AS IDENTITY', 'id', 'leak.unique_number' ],
	[ 'id bigserial, code text', 'id, code', 'leak.unique_index' ],
	[ 'id bigserial, part integer', 'id, part', 'leak.unique_index' ],
	[ 'code text', 'lower(code)', 'leak.unique_index' ],
	[ 'id uuid DEFAULT gen_random_uuid()', 'id', '' ],
	[ 'owner uuid NOT NULL, code text', 'owner, code', '' ],
	[ 'owner uuid NOT NULL, number bigint', 'number, owner', '' ],
	[ 'owner uuid, code text', 'lower(code), owner', '' ],
	# a uuid that is only carried along makes nothing unique
	[ 'owner uuid, code text', 'code) INCLUDE (owner', 'leak.unique_index' ],
	# uuids of rows that all tenants know
	[ 'plan uuid REFERENCES shop.plan, code text', 'plan, code', 'leak.unique_index' ],
	[ 'plan uuid REFERENCES shop.model_plan, code text', 'plan, code', 'leak.unique_index' ],
	[ 'plan uuid REFERENCES shop.plan, owner uuid, code text', 'plan, owner, code', '' ],
	[ 'plan uuid REFERENCES shop.plan', 'plan', 'leak.unique_index' ],
	[ 'parent uuid REFERENCES shop.own_parent, code text', 'parent, code', '' ],
);
my $tables = join '', map {
	my ($columns, $key) = @{ $keys[$_] };
	"CREATE TABLE shop.k$_ (tenant_id bigint NOT NULL, $columns); CREATE UNIQUE INDEX k${_}_key ON shop.k$_ ($key);";
} 0 .. $#keys;

$node->safe_psql('postgres', qq{SET client_min_messages = error; SET ROLE keeper;
	CREATE TABLE shop.plan (id uuid PRIMARY KEY);
	CREATE TABLE shop.model_plan (tenant_id bigint, id uuid PRIMARY KEY);
	CREATE TABLE shop.own_parent (tenant_id bigint NOT NULL, id uuid PRIMARY KEY);
	$tables
	RESET ROLE;
	SELECT leyser.declare_table('shop.plan', 'shared', 'for all'), leyser.protect('shop.model_plan', kind => 'own_and_global', accept_gaps => true), leyser.protect('shop.own_parent', accept_gaps => true);
	SELECT leyser.protect(oid, accept_gaps => true) FROM pg_class WHERE relnamespace = 'shop'::regnamespace AND relname ~ '^k[0-9]+\$'});

foreach my $number (0 .. $#keys)
{
	my ($columns, $key, $expected) = @{ $keys[$number] };

	is($node->safe_psql('postgres', qq{SELECT check_id FROM leyser.check_security('leak') WHERE object = 'index shop.k${number}_key'}), $expected, "($key) of $columns: " . ($expected || 'nothing'));
}
my $checked = $node->safe_psql('postgres', q{SELECT string_agg(substr(object, 7), ' ' ORDER BY object) FROM leyser.check_security('leak') WHERE check_id LIKE 'leak.unique%'});
is($node->safe_psql('postgres', q{SELECT string_agg(m[1], ' ' ORDER BY m[1]) FROM leyser.governed_table, unnest(gaps) g CROSS JOIN LATERAL regexp_match(g, 'unique index "(.*)" does not') m WHERE m IS NOT NULL}),
	$checked, 'view governed_table names the same');
is($node->safe_psql('postgres', q{SELECT string_agg('shop.' || key_name, ' ' ORDER BY key_name) FROM leyser.key_remedies() WHERE step = 2}), $checked, 'key_remedies() names the same');

# A key with the tenant columns could not refer to rows of all tenants.
is($node->safe_psql('postgres', q{SELECT remedy LIKE '-- with the tenant columns it could not refer to rows of all tenants%' FROM leyser.check_security('widen') WHERE object = 'constraint k12_plan_fkey on shop.k12'}), 't', 'no remedy by itself');
is($node->safe_psql('postgres', q{SELECT remedy IS NULL FROM leyser.key_remedies('shop.k12') WHERE step = 1}), 't', '... nor from key_remedies()');
like($node->safe_psql('postgres', q{SELECT remedy FROM leyser.check_security('widen') WHERE object = 'constraint k15_parent_fkey on shop.k15'}), qr/ADD FOREIGN KEY \(tenant_id, parent\)/, '... where all rows have a tenant, there is one');

# A foreign key that is to carry the tenant column: an index with it will serve, and is what the remedy makes.
$node->safe_psql('postgres', q{SET client_min_messages = error; SET leyser.guards = off; SET ROLE keeper;
	CREATE TABLE shop.served (tenant_id bigint NOT NULL, parent uuid REFERENCES shop.own_parent (id), PRIMARY KEY (tenant_id, parent));
	CREATE TABLE shop.unserved (tenant_id bigint NOT NULL, parent uuid REFERENCES shop.own_parent (id), plan uuid REFERENCES shop.plan);
	CREATE INDEX ON shop.unserved (tenant_id);
	RESET ROLE; SELECT leyser.protect('shop.served', accept_gaps => true), leyser.protect('shop.unserved', accept_gaps => true)});
my $slow = q{SELECT string_agg(remedy, ' ' ORDER BY object) FROM leyser.check_security('performance') WHERE object ~ 'served_'};
is($node->safe_psql('postgres', $slow), 'CREATE INDEX CONCURRENTLY ON shop.unserved (tenant_id, parent); CREATE INDEX CONCURRENTLY ON shop.unserved (plan);', 'indexes that foreign keys need');
paste($node, $_) foreach split / (?=CREATE)/, $node->safe_psql('postgres', $slow);
is($node->safe_psql('postgres', $slow), '', '... pasted');

# An index for one value of a column that row security keeps from conditions.
$node->safe_psql('postgres', q{SET client_min_messages = error; SET ROLE keeper;
	CREATE TYPE shop.state AS ENUM ('open', 'done');
	CREATE TABLE shop.task (tenant_id bigint NOT NULL, state shop.state, at timestamptz);
	CREATE INDEX task_open ON shop.task (state, at) WHERE state = 'open' AND at IS NOT NULL;
	CREATE INDEX task_state ON shop.task (state, at);
	CREATE INDEX task_recent ON shop.task (state) WHERE at > '2026-01-01';
	RESET ROLE; SELECT leyser.protect('shop.task')});
is($node->safe_psql('postgres', q{SELECT string_agg(object, ' ' ORDER BY object) FROM leyser.check_security('performance') WHERE check_id = 'performance.not_leakproof'}),
	'index shop.task_recent index shop.task_state', 'indexes that cannot be used below row security');

$node->stop;
done_testing();
