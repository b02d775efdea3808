# Table owners' code during a purge, whose worker is a superuser: told as attacks,
# then refused; and what an operator may ask and is told.

use strict;
use warnings;

use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = purge_node('owner', conf => 'autovacuum = off');
$node->safe_psql('postgres', q{
	CREATE ROLE owner_of_tables LOGIN;
	CREATE ROLE operator LOGIN;
	SELECT leyser.grant_usage('operator', 'operator');
	CREATE SCHEMA app AUTHORIZATION owner_of_tables;
	GRANT USAGE ON SCHEMA app TO operator;
	SELECT leyser.create_tenant(t) FROM unnest('{circle,part,told,other}'::text[]) t;
});

sub as_owner
{
	return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'owner_of_tables' ]);
}

# The owner is none the stronger, and nothing of its ran as somebody else.
sub owner_is_bound
{
	my ($name) = @_;

	is($node->safe_psql('postgres', q{SELECT rolsuper FROM pg_roles WHERE rolname = 'owner_of_tables'}), 'f', $name);
	is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT ran_as, ' ') FROM app.seen WHERE ran_as <> 'owner_of_tables'}),
		'', '... and nobody else ran its code');
	return;
}

as_owner(q{
	CREATE TABLE app.seen (ran_as text);
	GRANT INSERT ON app.seen TO PUBLIC;
	CREATE FUNCTION app.rise() RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO app.seen VALUES (current_user);
		ALTER ROLE owner_of_tables SUPERUSER;
		RETURN 1;
	END $$;
});

# 1. The planner evaluates an expression of the owner's statistics, also for the
# queries by which foreign keys are checked; it leaves a cursor that is run when the
# transaction commits.  Its rows refer to each other, so they go in one transaction.
as_owner(q{
	CREATE FUNCTION app.leave_cursor() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF session_user <> 'owner_of_tables' THEN
			EXECUTE 'DECLARE later CURSOR WITH HOLD FOR SELECT app.rise()';
		END IF;
	EXCEPTION WHEN OTHERS THEN RAISE LOG 'attack refused: %', SQLERRM;
	END $$;
	CREATE FUNCTION app.one() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM app.leave_cursor(); RETURN 1; END $$;
	CREATE TABLE app.node (tenant_id text NOT NULL, id int, parent int, x int, PRIMARY KEY (tenant_id, id),
		FOREIGN KEY (tenant_id, parent) REFERENCES app.node);
	INSERT INTO app.node SELECT t, g, 1, g FROM generate_series(1, 10) g, unnest('{circle,other}'::text[]) t;
	CREATE STATISTICS app.expression ON (x + app.one()), parent FROM app.node;
	SELECT leyser.protect('app.node');
});
end_contracts($node, 'circle');
my $position = log_position($node);
$node->safe_psql('postgres', q{CALL leyser.purge('circle')}, extra_params => [ '-U', 'operator' ]);
like(log_since($node, $position), qr/attack refused: cannot create a cursor WITH HOLD/, 'its statistics were looked at, restricted');
owner_is_bound('statistics of a circle do not raise their owner');
# any superuser who reads the table would be their victim
as_owner('DROP STATISTICS app.expression');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT tenant_id, ' ') FROM app.node}), 'other', 'a circle is deleted');

# 2. A partition was planned to be truncated; its owner makes a trigger before it is.
as_owner(q{
	CREATE TABLE app.part (tenant_id text NOT NULL, id int) PARTITION BY LIST (tenant_id);
	CREATE INDEX ON app.part (tenant_id);
	CREATE TABLE app.part_1 PARTITION OF app.part FOR VALUES IN ('part');
	CREATE TABLE app.part_2 PARTITION OF app.part DEFAULT;
	INSERT INTO app.part SELECT t, g FROM generate_series(1, 10) g, unnest('{part,other}'::text[]) t;
	SELECT leyser.protect('app.part');
});
# whoever writes already is waited for, so that there is time
my $writer = open_session($node);
$writer->query('BEGIN; SELECT pg_current_xact_id() \g /dev/null');
end_contracts($node, 'part');
$node->safe_psql('postgres', q{CALL leyser.purge('part', wait => false)}, extra_params => [ '-U', 'operator' ]);
is($node->safe_psql('postgres', q{SELECT action FROM leyser.purge_table WHERE relation_name ~ 'part_1'}), 'truncate',
	'planned to be truncated');
as_owner(q{
	CREATE FUNCTION app.rise_first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM app.rise(); RETURN NULL; END $$;
	CREATE TRIGGER first BEFORE TRUNCATE ON app.part_1 FOR EACH STATEMENT EXECUTE FUNCTION app.rise_first();
});
$writer->query('COMMIT');
$writer->quit;
wait_for_purge($node, 'part', q{state = 'erased'}, 'the purge goes on');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT tenant_id, ' ') FROM app.part}), 'other', 'the rows went one by one');
owner_is_bound('a trigger made since does not raise its owner');

# 3. An operator, who sees no rows, asks them questions: each condition's number of
# rows is in the plan.  Its conditions only say where a row names its tenant.
as_owner(q{
	CREATE TABLE app.secret (secret text);
	INSERT INTO app.secret VALUES ('a password of theirs');
	CREATE TABLE app.job (tenant text, id int, secret text, owners text[], payload jsonb) PARTITION BY LIST (id);
	CREATE TABLE app.job_1 PARTITION OF app.job FOR VALUES IN (1);
	CREATE TABLE app.job_2 PARTITION OF app.job FOR VALUES IN (2);
	INSERT INTO app.job VALUES ('told', 1, 'xyzzy', '{told,x}', '{"tenant": "told"}'), ('other', 2, 'plugh', '{other}', '{"tenant": "other"}');
});
my $declare = q{SELECT leyser.declare_table('app.job', 'by_rule', 'jobs', purge_condition => $$%s$$)};

sub rows_of_jobs
{
	return $node->safe_psql('postgres', q{SELECT string_agg(action || ' ' || coalesce(rows::text, note), ', ' ORDER BY relation_name)
		FROM leyser.make_purge_plan('told') WHERE relation_name ~ 'app.job' AND action IN ('stop', 'delete', 'delete together')},
		extra_params => [ '-U', 'postgres' ]);
}
end_contracts($node, 'told');
foreach my $asked (q{tenant = $1 AND EXISTS (SELECT FROM app.secret s WHERE s.secret < 'm')},
	q{tenant = $1 AND secret > 'm'}, q{secret < $1}, q{NOT (tenant = $1)}, q{tenant <> $1}, q{tenant IS NOT NULL}, q{secret LIKE $1},
	q{$1 = $1}, q{length(secret) = length($1)}, q{secret = $1 || ''}, q{CASE WHEN secret > 'm' THEN tenant END = $1}, q{secret = 'xyzzy' OR tenant = $1},
	q{tenant = $1 AND true}, q{id::int8 = $1::int8}, q{secret = ANY (ARRAY[$1])}, q{tenant = ALL (owners) OR tenant = $1}, q{payload ->> tenant = $1},
	q{tenant OPERATOR(app.=) $1}, q{tenant = $1::app.kind}, q{tenant = $1::varchar(3)}, q{(tenant, id) = ($1, 1)}, q{(SELECT tenant) = $1},
	q{true) OR (true}, q{tenant = $1; SELECT 1}, q{tenant = $1 LIMIT 1})
{
	is_refused($node, sprintf($declare, $asked), '42501', "an operator may not ask: $asked", user => 'operator');
}
foreach my $asked (q{tenant = $1}, q{$1 = tenant OR payload #>> '{tenant}' = $1}, q{$1 = ANY (owners) AND payload -> 'x' ->> 'y' = $1},
	q{tenant::text OPERATOR(pg_catalog.=) $1::varchar -- a comment}, q{payload->>'tenant' = $1})
{
	$node->safe_psql('postgres', sprintf($declare, $asked), extra_params => [ '-U', 'operator' ]);
	like(rows_of_jobs(), qr/^delete \d, delete \d$/, "an operator may ask: $asked");
}

# ... save where it is a member of the table's owner, who sees the rows
$node->safe_psql('postgres', 'GRANT owner_of_tables TO operator');
$node->safe_psql('postgres', sprintf($declare, q{tenant = $1 AND secret > 'm'}), extra_params => [ '-U', 'operator' ]);
is(rows_of_jobs(), 'delete 1, delete 0', 'a member of the owner may ask more');
$node->safe_psql('postgres', 'REVOKE owner_of_tables FROM operator');
# what was declared may be said again, and given up for less
$node->safe_psql('postgres', sprintf($declare, q{tenant = $1 AND secret > 'm'}), extra_params => [ '-U', 'operator' ]);
$node->safe_psql('postgres', q{SELECT leyser.declare_table('app.job', 'by_rule', 'jobs of theirs')}, extra_params => [ '-U', 'operator' ]);
is(rows_of_jobs(), 'delete 1, delete 0', '... and it stays as it is');
# a condition runs as the owner of the table: not as another one that it gets later
$node->safe_psql('postgres', q{CREATE ROLE heir; GRANT CREATE, USAGE ON SCHEMA app TO heir; ALTER TABLE app.job_2 OWNER TO heir});
like(rows_of_jobs(), qr/^delete 1, stop .*app\.job_2" is refused: It was declared for another owner/, '... of no other owner of a partition');
is_refused($node, q{CALL leyser.purge('told')}, 'LY008', '... which stops the purge', user => 'operator');
$node->safe_psql('postgres', q{ALTER TABLE app.job_2 OWNER TO owner_of_tables});

# 4. A condition fails in the worker over what it reads, by a cast that quotes it.
$node->safe_psql('postgres', sprintf($declare, q{tenant IS NOT NULL}));
is_refused($node, q{CALL leyser.purge('told')}, 'LY008', 'a condition that does not ask for the tenant', user => 'operator');
$node->safe_psql('postgres', sprintf($declare, q{tenant = $1 AND (SELECT max(a.rolpassword) FROM pg_catalog.pg_authid a) IS NULL}));
is_refused($node, q{CALL leyser.purge('told')}, 'LY008', 'one that reads the system\'s relations', user => 'operator');
$node->safe_psql('postgres', sprintf($declare, q{tenant = $1 AND CASE WHEN current_setting('lock_timeout') <> '0'
	THEN (SELECT max(s.secret) FROM app.secret s)::int > 0 ELSE true END}));
$node->safe_psql('postgres', q{CALL leyser.purge('told', wait => false)}, extra_params => [ '-U', 'operator' ]);
wait_for_purge($node, 'told', q{last_error IS NOT NULL OR state = 'erased'}, 'one that fails in the worker');
unlike($node->safe_psql('postgres', q{SELECT to_jsonb(s) FROM leyser.purge_status s}), qr/password of theirs/,
	'... is not told with the value that it failed over');
is($node->safe_psql('postgres', q{SELECT string_agg(tenant, ' ') FROM app.job WHERE tenant = 'other'}), 'other', 'others keep theirs');

$node->stop;
done_testing();
