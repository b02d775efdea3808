# View context_gap: what observed tables let through, by query, role and application;
# what is not a gap; and that nobody can flood it, forge it away or read it.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('gaps', conf => "min_parallel_table_scan_size = 0");
$node->safe_psql('postgres', q{
	CREATE ROLE app LOGIN;
	CREATE ROLE job LOGIN;
	CREATE ROLE keeper;
	CREATE ROLE operator LOGIN;
	CREATE ROLE auditor LOGIN;
	CREATE ROLE beyond LOGIN BYPASSRLS;
	SELECT leyser.grant_usage('app', 'gateway'), leyser.grant_usage('operator', 'operator'), leyser.grant_usage('auditor', 'auditor');
	SELECT leyser.create_tenant('1'), leyser.create_tenant('2');
	CREATE TABLE customer (id int PRIMARY KEY, tenant_id int NOT NULL, name text);
	CREATE TABLE invoice (id int PRIMARY KEY, tenant_id int NOT NULL, customer int, amount int);
	CREATE TABLE plain (id int PRIMARY KEY);
	INSERT INTO customer SELECT g, 1 + g % 2, 'name ' || g FROM generate_series(1, 20) g;
	INSERT INTO invoice SELECT g, 1 + g % 2, 2 * (g / 2) + g % 2, g FROM generate_series(2, 19) g;
	INSERT INTO plain SELECT g FROM generate_series(2, 20, 2) g;
	ALTER TABLE customer OWNER TO keeper;
	ALTER TABLE invoice OWNER TO keeper;
	CREATE VIEW of_superuser AS SELECT * FROM invoice;
	CREATE VIEW of_keeper AS SELECT * FROM invoice;
	ALTER VIEW of_keeper OWNER TO keeper;
	GRANT ALL ON ALL TABLES IN SCHEMA public TO app, job, beyond;
	SELECT leyser.protect('customer', enforcement => 'observe');
});

# A statement, and which gaps it makes.  Options: user, context (a tenant), application.
sub gaps_of
{
	my ($sql, %options) = @_;
	my $entered = defined $options{context} ? "SELECT leyser.enter('$options{context}');" : '';

	$node->safe_psql('postgres', 'SELECT leyser.forget_context_gaps()');
	$node->psql('postgres', "BEGIN; $entered $sql; COMMIT;", on_error_stop => 1, extra_params => [ '-U', $options{user} // 'app' ]);
	return $node->safe_psql('postgres', q{SELECT string_agg(concat_ws(' ', relation, gap, sqlstate, count), ', ' ORDER BY relation::text, gap, sqlstate)
		FROM leyser.context_gap});
}

# A plan that was made before the table was observed is made anew.
my $early = open_session($node, user => 'job');
$early->query('SET plan_cache_mode = force_generic_plan; PREPARE early AS SELECT count(*) FROM invoice; EXECUTE early;');
$node->safe_psql('postgres', q{SELECT leyser.protect('invoice', enforcement => 'observe')});
$early->query('EXECUTE early');
is($node->safe_psql('postgres', 'SELECT relation, gap, sqlstate, role, count FROM leyser.context_gap'), 'invoice|missing|LY001|job|1',
	'a prepared statement is counted, too');
$early->quit;

# A condition over all of many relations would multiply the orders in which they can be
# joined: then each observed table has its own, and counts still.
foreach my $many (7, 8)
{
	my $from = join ', ', 'invoice i', 'customer c', map { "plain p$_" } 1 .. $many - 1;
	my $where = join ' AND ', 'i.id = c.id', 'p1.id = i.id', map { 'p' . ($_ - 1) . ".id = p$_.id" } 2 .. $many - 1;
	my $plan = $node->safe_psql('postgres', "EXPLAIN (VERBOSE, COSTS off) SELECT 1 FROM $from WHERE $where");

	is(scalar(() = $plan =~ /observe_rows\(/g), $many == 7 ? 1 : 2, 'conditions of a join of ' . ($many + 1));
	is(gaps_of("SELECT 1 FROM $from WHERE $where", context => '2'), 'customer foreign 1, invoice foreign 1', '... which counts foreign rows') if $many == 8;
}

# Without a context: each statement, whether it finds a row or not.
is(gaps_of('SELECT * FROM invoice'), 'invoice missing LY001 1', 'a query without a context');
is(gaps_of('DELETE FROM invoice WHERE id < 0'), 'invoice missing LY001 1', '... that finds nothing');
is(gaps_of('SELECT count(*) FROM invoice JOIN customer c ON c.id = invoice.customer'), 'customer missing LY001 1, invoice missing LY001 1', '... of two tables');
is(gaps_of(q{INSERT INTO invoice VALUES (100, 1, 1, 1); UPDATE invoice SET amount = 2 WHERE id = 100; DELETE FROM invoice WHERE id = 100}),
	'invoice missing LY001 1, invoice missing LY001 1, invoice missing LY001 1', 'writes, each by itself');
is(gaps_of('SELECT * FROM of_keeper'), 'invoice missing LY001 1', 'through a view of the owner');
is(gaps_of('TABLE invoice', user => 'job'), 'invoice missing LY001 1', 'a role without a usage');
is(gaps_of("SELECT leyser.enter('1'); SELECT leyser.leave(); SELECT count(*) FROM invoice WHERE false"), 'invoice missing LY001 1', 'a context that was left');
is(gaps_of('COPY invoice TO STDOUT'), 'invoice missing LY001 1', 'COPY TO');
is(gaps_of('COPY (SELECT 1 FROM invoice) TO STDOUT'), 'invoice missing LY001 1', 'COPY of a query');
is(gaps_of("COPY invoice FROM STDIN;\n101\t1\t1\t1\n\\.\nDELETE FROM invoice WHERE id = 101"), 'invoice missing LY001 1, invoice refused 0A000 1', 'COPY FROM');
is(gaps_of('TRUNCATE invoice; ROLLBACK; BEGIN'), 'invoice refused LY007 1', 'TRUNCATE');
is(gaps_of('EXPLAIN SELECT * FROM invoice; SELECT * FROM plain; PREPARE p AS SELECT * FROM invoice'), '', 'what runs no statement of an observed table is no gap');
is(gaps_of('DO $$ BEGIN PERFORM count(*) FROM invoice; PERFORM count(*) FROM invoice; END $$'), 'invoice missing LY001 2', 'a function\'s queries');

# Who is not bound by row security would not be bound later.
is(gaps_of('SELECT * FROM invoice; DELETE FROM invoice WHERE id = 0', user => 'postgres'), '', 'a superuser makes no gaps');
is(gaps_of('SELECT * FROM invoice', user => 'beyond'), '', '... nor a role with BYPASSRLS');
is(gaps_of('SELECT * FROM of_superuser'), '', '... nor who reads a superuser\'s view');

# In a context: other tenants' rows, not those that a join or a condition leaves out.
is(gaps_of('SELECT * FROM invoice', context => 1), 'invoice foreign 1', 'rows of others in a context');
is(gaps_of('SELECT * FROM invoice WHERE tenant_id = 1', context => 1), '', 'rows of one\'s own');
is(gaps_of(q{SELECT * FROM customer WHERE tenant_id = 1 AND name LIKE '%'}, context => 1), '', '... with a condition that is not leakproof');
is(gaps_of('SELECT * FROM invoice WHERE id = 4', context => 1), '', '... by a key');
is(gaps_of('SELECT * FROM invoice WHERE id = 5', context => 1), 'invoice foreign 1', 'another tenant\'s by a key');
is(gaps_of('SELECT * FROM invoice JOIN customer c ON c.id = customer WHERE c.tenant_id = 1', context => 1), '', 'a join that leaves others out');
is(gaps_of('SELECT * FROM plain LEFT JOIN invoice USING (id) LEFT JOIN customer c ON c.id = plain.id', context => 1), '', '... an outer one');
is(gaps_of('SELECT * FROM plain LEFT JOIN invoice i ON i.id = plain.id + 1', context => 1), 'invoice foreign 1', '... that does not');
is(gaps_of('SELECT * FROM plain p WHERE NOT EXISTS (SELECT FROM invoice i WHERE i.id = p.id + 1)', context => 1), 'invoice foreign 1', '... a NOT EXISTS that sees others');
is(gaps_of('INSERT INTO invoice VALUES (100, 1, 1, 1); UPDATE invoice SET amount = 5 WHERE id = 100; DELETE FROM invoice WHERE id = 100', context => 1), '', 'writes of one\'s own');
is(gaps_of('INSERT INTO invoice VALUES (100, 2, 1, 1)', context => 1), 'invoice foreign 42501 1', 'a row written for another tenant');
is(gaps_of('UPDATE invoice SET tenant_id = 2 WHERE id = 4; ROLLBACK; BEGIN', context => 1), 'invoice foreign 42501 1', 'a row given away');
is(gaps_of('DELETE FROM invoice WHERE id = 100', context => 1), 'invoice foreign 1', 'a row of another deleted');
is(gaps_of(q{MERGE INTO invoice i USING plain p ON i.id = p.id + 1 WHEN MATCHED THEN UPDATE SET amount = 0; ROLLBACK; BEGIN}, context => 1),
	'invoice foreign 42501 1, invoice foreign 1', 'MERGE');
is(gaps_of(q{INSERT INTO invoice VALUES (5, 1, 1, 1) ON CONFLICT (id) DO UPDATE SET tenant_id = 1; ROLLBACK; BEGIN}, context => 1), 'invoice foreign 1', 'ON CONFLICT');
is(gaps_of('SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL max_parallel_workers_per_gather = 2; SELECT sum(amount) FROM invoice',
	context => 1) =~ /^invoice foreign [1-3]$/, 1, 'parallel workers');
is(gaps_of('SELECT * FROM invoice WHERE tenant_id = 1', context => 2), 'invoice foreign 1', 'the other context');

# An entry: query, role, application, times; no text.
$node->safe_psql('postgres', 'SELECT leyser.forget_context_gaps()');
$node->safe_psql('postgres', "SET application_name = 'nightly'; SELECT amount FROM invoice WHERE id = $_", extra_params => [ '-U', 'job' ]) foreach 4 .. 6;
my ($id) = $node->safe_psql('postgres', 'SET compute_query_id = on; EXPLAIN VERBOSE SELECT amount FROM invoice WHERE id = 7') =~ /Query Identifier: (-?\d+)/;
is($node->safe_psql('postgres', q{SELECT query_id, role, application, count, first_seen < last_seen, last_seen <= clock_timestamp() FROM leyser.context_gap}),
	"$id|job|nightly|3|t|t", 'one entry for one query, with the server\'s id of it');
is($node->safe_psql('postgres', q{SELECT leyser.forget_context_gaps('customer'), leyser.forget_context_gaps('invoice'), leyser.forget_context_gaps('invoice')}),
	'0|1|0', 'a table\'s gaps are forgotten');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event WHERE event = 'table.gaps_forgotten' AND object ~ 'customer'}), '1', '... which is an event');

# Rights.
foreach my $user (qw(app job))
{
	is_refused($node, 'SELECT * FROM leyser.context_gap', '42501', "$user cannot read gaps", user => $user);
	is_refused($node, 'SELECT * FROM leyser.list_context_gaps()', '42501', '... nor list them', user => $user);
	is_refused($node, 'SELECT leyser.forget_context_gaps()', '42501', '... nor forget them', user => $user);
	is_refused($node, 'SELECT leyser.forget_gaps(NULL)', '42501', '... in no way', user => $user);
	is_refused($node, q{SELECT leyser.forget_plans('invoice')}, '42501', '... nor have plans forgotten', user => $user);
}
is(sqlstate_of($node, 'SELECT * FROM leyser.context_gap', user => $_), '', "$_ reads them") foreach qw(operator auditor);
is_refused($node, 'SELECT leyser.forget_context_gaps()', '42501', 'an auditor changes nothing', user => 'auditor');
is_refused($node, "SELECT leyser.observe_rows($_)", '22023', "observe_rows($_) is for plans only", user => 'app')
  foreach '1, true, 1, 5', '1, true, 9, 5::oid', '1, true, -1, 5', 'NULL, true, 0, 5', q{1, true, 1, VARIADIC ARRAY['a']}, '1, true, 1, 0::oid, 0::oid, 1.5::numeric',
  '1, true, 1, NULL::oid, 0::oid, 5', '1, true, 99, 5';

# A flood of one role: bounded, counted, and no other role's room.
my $flood = join '', map { "SET application_name = 'flood $_'; SELECT count(*) FROM invoice;\n" } 1 .. 1500;
$node->safe_psql('postgres', $flood, extra_params => [ '-U', 'app' ]);
is($node->safe_psql('postgres', q{SELECT count(*), sum(count), count(*) FILTER (WHERE application IS NULL), sum(count) FILTER (WHERE application IS NULL)
	FROM leyser.context_gap WHERE role = 'app'::regrole}), '513|1500|1|988', 'what has no room is counted in one entry');
$node->safe_psql('postgres', 'SELECT count(*) FROM invoice', extra_params => [ '-U', 'job' ]);
$node->safe_psql('postgres', 'SELECT count(*) FROM customer', extra_params => [ '-U', 'app' ]);
is($node->safe_psql('postgres', q{SELECT relation, gap, role, count, query_id IS NULL FROM leyser.context_gap WHERE role = 'job'::regrole OR relation = 'customer'::regclass ORDER BY 1}),
	"customer|missing|app|1|t\ninvoice|missing|job|1|f", '... another role has its room, another table an entry');

# Whoever enforces hears of it; a restart forgets the counts, and says so.
my (undef, $message) = sqlstate_of($node, q{SET ROLE keeper; SELECT leyser.protect('customer', enforcement => 'enforce')});
like($message, qr/WARNING.*"public.customer" was used past its tenant's context while it was observed/, 'protect() tells what was let through');
is($node->safe_psql('postgres', q{SELECT enforcement, observed_since IS NULL, gaps::text ~ 'observed' FROM leyser.governed_table WHERE relation = 'customer'::regclass}),
	'enforce|t|f', 'the table is enforced, by its owner');
is_refused($node, 'SELECT * FROM customer', 'LY001', '... and is closed', user => 'job');
is_refused($node, "SET ROLE $_; SELECT leyser.protect('customer', enforcement => 'observe')", 'LY008', "$_ cannot have it observed again") foreach qw(keeper operator);
my $before = $node->safe_psql('postgres', q{SELECT observed_since FROM leyser.governed_table WHERE relation = 'invoice'::regclass});
$node->restart;
is($node->safe_psql('postgres', 'SELECT count(*) FROM leyser.context_gap'), '0', 'a restart forgets the counts');
is($node->safe_psql('postgres', qq{SELECT observed_since > '$before' FROM leyser.governed_table WHERE relation = 'invoice'::regclass}), 't', '... and observed_since says so');
is(gaps_of('SELECT * FROM invoice'), 'invoice missing LY001 1', '... the table is observed still');

# Parts follow; what goes leaves nothing.
$node->safe_psql('postgres', q{
	CREATE TABLE log (tenant_id int NOT NULL, id int) PARTITION BY LIST (id);
	CREATE TABLE log_1 PARTITION OF log FOR VALUES IN (1);
	SELECT leyser.protect('log', enforcement => 'observe');
	CREATE TABLE log_2 PARTITION OF log FOR VALUES IN (2);
	GRANT ALL ON log, log_1, log_2 TO app;
	INSERT INTO log VALUES (1, 1), (2, 2);
});
is(gaps_of('SELECT * FROM log_2'), 'log_2 missing LY001 1', 'a new partition is observed, named directly');
is(gaps_of('SELECT * FROM log', context => 1), 'log foreign 1', '... and through its parent');
is(gaps_of('INSERT INTO log VALUES (2, 1)', context => 1), 'log foreign 42501 1', '... written to through it');
$node->safe_psql('postgres', q{SELECT leyser.protect('log', enforcement => 'enforce')});
is($node->safe_psql('postgres', q{SELECT string_agg(enforcement, ' ') FROM leyser.governed_table WHERE relation::text ~ '^log'}), 'enforce enforce enforce', 'all of a family is enforced');
is_refused($node, 'SELECT * FROM log_2', 'LY001', '... and closed', user => 'app');
$node->safe_psql('postgres', q{SELECT leyser.unprotect('log'), leyser.unprotect('invoice')});
is($node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM pg_policy), (SELECT count(*) FROM pg_class WHERE relrowsecurity AND relnamespace = 'public'::regnamespace)}),
	'2|1', 'unprotect() takes it away');
is(gaps_of('SELECT * FROM invoice'), '', '... and nothing is counted');

$node->stop;
done_testing();
