# Look-ups before a context: an exact key in, the tenant's id out, and nothing else.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('lookup');
$node->safe_psql('postgres', q{
	CREATE ROLE owner LOGIN;
	CREATE ROLE app LOGIN;
	CREATE ROLE later LOGIN;
	CREATE ROLE gateway LOGIN;
	CREATE ROLE operator LOGIN;
	CREATE ROLE stranger LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	GRANT CREATE ON SCHEMA public TO owner;
	SELECT leyser.grant_usage('app', 'application');
	SELECT leyser.grant_usage('gateway', 'gateway');
	SELECT leyser.grant_usage('operator', 'operator');
	SELECT leyser.create_tenant(t) FROM unnest('{1,2,3}'::text[]) t;
});
$node->safe_psql('postgres', q{
	CREATE DOMAIN host AS varchar(63) CHECK (VALUE <> '');
	CREATE TABLE customer (gone int, tenant_id bigint NOT NULL, subdomain host NOT NULL, region text, number int,
		email text, secret text);
	ALTER TABLE customer DROP COLUMN gone;
	CREATE UNIQUE INDEX ON customer (subdomain);
	CREATE UNIQUE INDEX ON customer (number, region);
	CREATE UNIQUE INDEX ON customer (lower(secret));
	CREATE UNIQUE INDEX partly ON customer (secret) WHERE secret <> '';
	INSERT INTO customer VALUES (1, 'one', 'jp', 1, 'a', 'x'), (2, 'two', 'jp', 2, 'a', 'y'), (3, 'three', NULL, 3, 'b', 'z'),
		(4, 'unknown', 'us', 4, 'c', 'u');
	CREATE TABLE part (tenant_id bigint NOT NULL, n int UNIQUE) PARTITION BY RANGE (n);
	CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (9);
	CREATE TABLE plain (tenant_id bigint NOT NULL, n int UNIQUE);
	SELECT leyser.protect('customer');
	SELECT leyser.protect('part', accept_gaps => true);
	GRANT SELECT, INSERT, UPDATE ON customer TO app;
}, extra_params => [ '-U', 'owner' ]);

sub as_role
{
	my ($role, $sql) = @_;

	return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]);
}

is(as_role('operator', q{SELECT leyser.create_lookup('tenant_of_host', 'customer', '{subdomain}');
	SELECT leyser.create_lookup('tenant of', 'customer', '{region, number}')}),
	qq{tenant_of_host(character varying)\n"tenant of"(text,integer)}, 'an operator makes look-ups');

# Before a context, by roles that see no row without one.
is(as_role('app', q{SELECT public.tenant_of_host('two'), public."tenant of"('jp', 1), tenant_of_host('nobody') IS NULL,
	tenant_of_host('TWO') IS NULL, tenant_of_host('t%') IS NULL, tenant_of_host(NULL) IS NULL, tenant_of_host('') IS NULL,
	"tenant of"('jp', NULL) IS NULL, "tenant of"(NULL, 3) IS NULL}), '2|1|t|t|t|t|t|t|t', 'an exact key gives the tenant id, and nothing else gives anything');
is_refused($node, 'SELECT count(*) FROM customer', 'LY001', '... where the table itself gives nothing', user => 'app');
is(as_role('gateway', q{BEGIN; SELECT leyser.enter(tenant_of_host('one')) \g /dev/null
	SELECT leyser.tenant_id(), tenant_of_host('two')}), '1|2', 'a gateway enters what it found; in a context the answer is the same');
is(as_role('app', q{SELECT count(DISTINCT tenant_of_host(v.h)) FROM generate_series(1, 200), (VALUES ('one'), ('two'), ('three')) v (h)}),
	'3', 'many questions in one statement');
is(as_role('app', q{SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
	SET min_parallel_table_scan_size = 0; SELECT count(*) FROM pg_proc WHERE tenant_of_host(proname::text) IS NOT NULL}), '0', '... also in parallel workers');
is(as_role('app', q{SELECT tenant_of_host('unknown') IS NULL}), 't', 'a tenant that was never created is not found');
as_role('operator', q{SELECT leyser.suspend_tenant('2')});
is(as_role('app', q{SELECT tenant_of_host('two') IS NULL}), 't', '... nor one that is suspended');
as_role('operator', q{SELECT leyser.resume_tenant('2')});
is(as_role('app', q{SELECT tenant_of_host('two')}), '2', '... until it is active again');

# Who may ask, and make one.
is_refused($node, q{SELECT tenant_of_host('one')}, '42501', "a role without usage $_ may not ask", user => $_) for qw(stranger operator owner);
$node->safe_psql('postgres', q{SELECT leyser.grant_usage('later', 'application')});
is(as_role('later', q{SELECT tenant_of_host('one')}), '1', 'a later application may ask, too');
$node->safe_psql('postgres', q{SELECT leyser.revoke_usage('later', 'application')});
is_refused($node, q{SELECT tenant_of_host('one')}, '42501', '... until its usage is revoked', user => 'later');
is_refused($node, q{SELECT leyser.create_lookup('l', 'customer', '{subdomain}')}, '42501', "$_ may not make look-ups", user => $_)
	for qw(app gateway owner stranger);

# What cannot be looked up.
sub is_refused_with
{
	my ($arguments, $sqlstate, $pattern, $name) = @_;
	my ($got, $message) = sqlstate_of($node, "SELECT leyser.create_lookup($arguments)", user => 'operator');

	is($got, $sqlstate, $name) or diag($message);
	like($message, $pattern, '... and says why');
	like($message, qr/HINT:  \S/, '... and what to do');
	return;
}
is_refused_with(q{'l', 'customer', '{email}'}, '55000', qr/2 tenants|1 keys are/, 'a key that two tenants have');
is_refused_with(q{'l', 'customer', '{region}'}, '55000', qr/CREATE UNIQUE INDEX CONCURRENTLY ON public.customer \(region\)|1 keys are/, 'columns without a unique index');
is_refused_with(q{'l', 'customer', '{number}'}, '55000', qr/now none is/, '... and a part of one');
is_refused_with(q{'l', 'customer', '{secret}'}, '55000', qr/no unique index/, '... a partial one, and one of an expression');
is_refused_with(q{'l', 'customer', '{nothing}'}, '42703', qr/"nothing"/, 'a column that is not there');
is_refused_with("'l', 'customer', $_", '22023', qr/key_columns/, "columns $_") for q{'{}'}, q{NULL}, q{'{number,number}'}, q{'{NULL}'}, q{'{{number},{region}}'};
is_refused_with(q{NULL, 'customer', '{number}'}, '22023', qr/no name/, 'no name');
is_refused_with(q{'tenant_of_host', 'customer', '{number, region}'}, '42723', qr/exists already/, 'a name that is taken');
is_refused_with(q{'l', 'plain', '{n}'}, 'LY008', qr/not protected/, 'a table that is not protected');
is_refused_with(q{'l', 'part', '{n}'}, '0A000', qr/partitioned/, 'a partitioned table');
is_refused_with(q{'l', 'part_1', '{n}'}, '0A000', qr/partitioned/, '... and a partition');
is_refused_with(q{'l', 'pg_class', '{relname,relnamespace}'}, '42809', qr/system/, 'a catalogue');
is_refused_with(q{'l', NULL, '{n}'}, '42P01', qr/does not exist/, 'no table');
my $held = open_session($node, user => 'owner');
$held->query_safe('BEGIN; LOCK TABLE customer IN ACCESS EXCLUSIVE MODE');
is_refused_with(q{'l', 'customer', '{number, region}'}, '55P03', qr/3 seconds/, 'a table that is locked');
$held->quit;

# The table's owner gets nothing from it that it does not have.
is_refused($node, q{DROP FUNCTION tenant_of_host}, '42501', 'the owner of the table cannot drop it', user => 'owner');
is_refused($node, q{CREATE OR REPLACE FUNCTION tenant_of_host(varchar) RETURNS text LANGUAGE sql AS 'SELECT ''1'''}, '42501', '... nor replace it', user => 'owner');
is_refused($node, q{CREATE FUNCTION mine(varchar) RETURNS text LANGUAGE c AS '$libdir/leyser', 'leyser_lookup'}, '42501', '... nor make one', user => 'owner');
is_refused($node, q{CREATE FUNCTION mine(varchar) RETURNS text LANGUAGE c AS '$libdir/leyser', 'leyser_lookup'; SELECT mine('one')}, 'LY008', 'a function that is not registered is no look-up');

# A table that is observed on its way to protection has look-ups already.
as_role('owner', q{CREATE TABLE seen (tenant_id bigint NOT NULL, n int UNIQUE); INSERT INTO seen VALUES (2, 7);
	SELECT leyser.protect('seen', enforcement => 'observe')});
my $gap = q{SELECT count(*) FROM leyser.governed_table t, unnest(t.gaps) g WHERE t.relation = 'seen'::regclass AND g ~ 'unique index "public.seen_n_key"'};
is(as_role('operator', $gap), '1', 'a unique index without the tenant is a gap');
as_role('operator', q{SELECT leyser.create_lookup('of_seen', 'seen', '{n}')});
is(as_role('operator', $gap), '0', '... and none where a look-up needs it');
is(as_role('app', 'SELECT of_seen(7), of_seen(8) IS NULL'), '2|t', 'a look-up of an observed table');
as_role('owner', q{DROP TABLE seen});

# It is seen how often it is asked.
my $before = as_role('operator', q{SELECT asked FROM leyser.lookup WHERE function = 'tenant_of_host'::regproc});
as_role('app', q{SELECT tenant_of_host('guess ' || g) FROM generate_series(1, 1000) g});
is(as_role('operator', qq{SELECT asked - $before, asked > found, asked_this_minute + asked_last_minute >= 1000,
	counted_since = pg_postmaster_start_time(), relation, key_columns FROM leyser.lookup WHERE function = 'tenant_of_host'::regproc}),
	'1000|t|t|t|customer|{subdomain}', 'who tries keys shows');
is_refused($node, q{SELECT * FROM leyser.lookup}, '42501', 'an application does not see the figures', user => 'app');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event WHERE event = 'lookup.created' AND object = 'public.tenant_of_host'
	AND detail ->> 'relation' = 'public.customer'}), '1', 'there is an event');

# It follows its table, and goes with it.
as_role('owner', q{ALTER TABLE customer RENAME subdomain TO "the host"; ALTER TABLE customer RENAME TO client});
is(as_role('app', q{SELECT tenant_of_host('one')}), '1', 'columns and tables may be renamed');
is(as_role('operator', q{SELECT relation, key_columns FROM leyser.lookup WHERE function = 'tenant_of_host'::regproc}), 'client|{"the host"}', '... and the registry knows');
as_role('owner', q{DROP INDEX customer_subdomain_idx});
is_refused($node, q{SELECT tenant_of_host('one')}, '55000', 'without its index it says so', user => 'app');
as_role('owner', q{CREATE UNIQUE INDEX ON client ("the host") INCLUDE (email)});
is(as_role('app', q{SELECT tenant_of_host('one')}), '1', '... and works again with another one');

# A dump carries it: other column numbers, and no oid is the same.
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->safe_psql('restored', q{CREATE TABLE in_between ()});
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $node->connstr('restored') ], 'restore');
$node->safe_psql('restored', q{SELECT leyser.initialize_keyring()});
is($node->safe_psql('restored', q{SELECT tenant_of_host('one'), "tenant of"('jp', 2), tenant_of_host('nobody') IS NULL}, extra_params => [ '-U', 'app' ]),
	'1|2|t', 'after a restore they answer the same');
is_refused($node, q{SELECT tenant_of_host('one')}, '42501', '... to the same roles', user => 'stranger', database => 'restored');
is($node->safe_psql('restored', q{SELECT function, key_columns FROM leyser.lookup ORDER BY 2}),
	qq{"tenant of"(text,integer)|{region,number}\ntenant_of_host(character varying)|{"the host"}}, '... and are registered');

# A column that has another type by now: its values are not what the function takes.
as_role('operator', q{SELECT leyser.create_lookup('by_number', 'client', '{number, region}')});
as_role('owner', q{ALTER TABLE client ALTER number TYPE text});
is_refused($node, q{SELECT by_number(5, 'jp')}, 'LY008', 'a number is not read as a text', user => 'app');
as_role('owner', q{ALTER TABLE client ALTER number TYPE int USING number::int});
is(as_role('app', q{SELECT by_number(1, 'jp')}), '1', '... and the type as it was answers again');
as_role('operator', q{SELECT leyser.drop_lookup('by_number(int, text)')});

is_refused($node, q{SELECT leyser.drop_lookup('lower(text)')}, 'LY008', 'what is none is not dropped as one', user => 'operator');
as_role('operator', q{SELECT leyser.drop_lookup('"tenant of"(text, int)')});
is_refused($node, q{SELECT "tenant of"('jp', 1)}, '42883', 'a dropped look-up is gone', user => 'app');
as_role('operator', q{SELECT leyser.create_lookup('by_number', 'client', '{number, region}')});
as_role('owner', q{ALTER TABLE client DROP COLUMN region});
is_refused($node, q{SELECT by_number(1, 'jp')}, '42883', '... and one whose column is dropped', user => 'app');
as_role('operator', q{SELECT leyser.unprotect('client')});
is_refused($node, q{SELECT tenant_of_host('one')}, '42883', '... and one whose table is no longer protected', user => 'app');
as_role('owner', q{SELECT leyser.protect('client')});
as_role('operator', q{SELECT leyser.create_lookup('tenant_of_host', 'client', '{the host}')});
is(as_role('app', q{SELECT tenant_of_host('one')}), '1', '... until it is made again');
as_role('owner', q{DROP TABLE client});
is_refused($node, q{SELECT tenant_of_host('one')}, '42883', '... and one whose table is gone', user => 'app');
is($node->safe_psql('postgres', 'SELECT count(*) FROM leyser.lookup_record'), '0', 'nothing of them is left');

$node->stop;
done_testing();
