# Observed tables: every statement gives what it gives without protection, in a context
# and out of it, whoever runs it.  And what ran clean while it was observed gives the
# same when the tables are enforced.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('observe', extension => 0);
$node->safe_psql('postgres', q{
	CREATE ROLE app LOGIN;
	CREATE ROLE keeper LOGIN;
});

# Two databases with the same tables; those of "observed" are.
my $tables = q{
	CREATE TABLE customer (id int PRIMARY KEY, tenant_id int NOT NULL, name text, parent int REFERENCES customer);
	CREATE TABLE invoice (id int PRIMARY KEY, tenant_id int NOT NULL, customer int REFERENCES customer ON DELETE CASCADE,
		amount numeric, at date DEFAULT '2026-01-01');
	CREATE INDEX ON invoice (lower(amount::text));
	CREATE TABLE label (tenant_id text, word text, PRIMARY KEY (word));
	CREATE TABLE log (tenant_id uuid NOT NULL, id int, line text) PARTITION BY RANGE (id);
	CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (50);
	CREATE TABLE log_2 (id int, line text, tenant_id uuid NOT NULL);
	ALTER TABLE log ATTACH PARTITION log_2 FOR VALUES FROM (50) TO (1000);
	CREATE TABLE plain (id int PRIMARY KEY, x text);
	-- row security of its own: enabled and not forced, and never enabled
	CREATE TABLE guarded (id int, tenant_id int NOT NULL, visible boolean);
	CREATE POLICY visible ON guarded USING (visible);
	ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
	CREATE TABLE dormant (id int, tenant_id int NOT NULL);
	CREATE POLICY nobody ON dormant USING (false);
	INSERT INTO customer SELECT g, 1 + g % 2, 'name ' || g, nullif(g / 2, 0) FROM generate_series(1, 20) g;
	INSERT INTO invoice SELECT g, 1 + (1 + g % 20) % 2, 1 + g % 20, g * 1.5 FROM generate_series(1, 200) g;
	INSERT INTO label VALUES ('1', 'red'), ('2', 'blue'), (NULL, 'green');
	INSERT INTO log SELECT ('00000000-0000-4000-8000-00000000000' || g % 2)::uuid, g, 'line ' || g FROM generate_series(1, 99) g;
	INSERT INTO plain SELECT g, 'x' || g FROM generate_series(1, 30) g;
	INSERT INTO guarded SELECT g, 1 + g % 2, g % 3 = 0 FROM generate_series(1, 30) g;
	INSERT INTO dormant SELECT g, 1 + g % 2 FROM generate_series(1, 10) g;
	CREATE VIEW rich AS SELECT c.name, sum(i.amount) AS total FROM customer c JOIN invoice i ON i.customer = c.id GROUP BY c.name;
	CREATE VIEW asking WITH (security_invoker) AS SELECT * FROM invoice WHERE amount > 100;
	CREATE VIEW small AS SELECT id, tenant_id, amount FROM invoice WHERE amount < 20 WITH CHECK OPTION;
	CREATE FUNCTION total_of(t int) RETURNS numeric LANGUAGE sql STABLE AS 'SELECT sum(amount) FROM invoice WHERE tenant_id = t';
	CREATE FUNCTION rows_of(t int) RETURNS SETOF invoice LANGUAGE sql STABLE AS 'SELECT * FROM invoice WHERE tenant_id = t';
	CREATE FUNCTION add_row(i int) RETURNS int LANGUAGE plpgsql AS
		'BEGIN INSERT INTO invoice VALUES (i, 1, 2, 3); RETURN (SELECT count(*) FROM invoice); END';
	CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.tenant_id := coalesce(NEW.tenant_id, 2); RETURN NEW; END';
	CREATE TRIGGER stamp BEFORE INSERT ON guarded FOR EACH ROW EXECUTE FUNCTION stamp();
	ALTER TABLE customer OWNER TO keeper; ALTER TABLE invoice OWNER TO keeper; ALTER TABLE label OWNER TO keeper;
	ALTER TABLE log OWNER TO keeper; ALTER TABLE guarded OWNER TO keeper; ALTER TABLE dormant OWNER TO keeper;
	ALTER VIEW rich OWNER TO keeper; ALTER VIEW small OWNER TO keeper;
	GRANT ALL ON ALL TABLES IN SCHEMA public TO app;
	ANALYZE;
};
foreach my $database (qw(unprotected observed))
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, 'CREATE EXTENSION leyser CASCADE');
	$node->safe_psql($database, 'SELECT leyser.initialize_keyring()');
	$node->safe_psql($database, q{SELECT leyser.grant_usage('app', 'gateway')});
	$node->safe_psql($database, $tables);
	$node->safe_psql($database, q{SELECT leyser.create_tenant('1'), leyser.create_tenant('2'),
		leyser.create_tenant('00000000-0000-4000-8000-000000000001')});
}
$node->safe_psql('observed', qq{SELECT leyser.protect('$_', enforcement => 'observe')}) foreach qw(customer invoice log guarded dormant);
$node->safe_psql('observed', q{SELECT leyser.protect('label', kind => 'own_and_global', enforcement => 'observe')});
is($node->safe_psql('observed', q{SELECT count(*) FROM leyser.governed_table WHERE enforcement = 'observe'}), '8', 'eight tables are observed');
is($node->safe_psql('observed', q{SELECT count(*) FROM pg_policy}), '2', '... and have no policies but their own');

# Each is run as a transaction that is rolled back; what it leaves is looked at before.
my @reads = (
	'SELECT * FROM invoice ORDER BY id',
	'SELECT count(*) FROM invoice',
	'SELECT max(id), min(id) FROM invoice',
	'SELECT id FROM invoice WHERE tenant_id = 1 AND amount > 30 ORDER BY amount LIMIT 5',
	q{SELECT id FROM invoice WHERE lower(amount::text) = '15.0'},
	'SELECT c.name, i.amount FROM customer c JOIN invoice i ON i.customer = c.id WHERE c.id = 4 ORDER BY 2',
	'SELECT c.id, i.id FROM customer c LEFT JOIN invoice i ON i.customer = c.id AND i.amount < 10 ORDER BY 1, 2',
	'SELECT c.id, p.id, i.id FROM plain p LEFT JOIN (customer c RIGHT JOIN invoice i ON i.customer = c.id AND c.id < 5) ON p.id = i.id ORDER BY 1, 2, 3',
	'SELECT c.id, i.id FROM customer c FULL JOIN invoice i ON i.id = c.id ORDER BY 1, 2',
	'SELECT a.id, b.id, c.id FROM customer a LEFT JOIN customer b ON b.id = a.parent LEFT JOIN customer c ON c.id = b.parent ORDER BY 1',
	'SELECT p.id FROM plain p LEFT JOIN customer c ON c.id = p.id LEFT JOIN label l ON l.word = p.x ORDER BY 1',
	'SELECT name FROM customer c WHERE EXISTS (SELECT FROM invoice i WHERE i.customer = c.id AND i.amount > 290) ORDER BY 1',
	'SELECT name FROM customer c WHERE NOT EXISTS (SELECT FROM invoice i WHERE i.customer = c.id AND i.amount > 290) ORDER BY 1',
	'SELECT id FROM plain WHERE id IN (SELECT customer FROM invoice WHERE amount < 20) ORDER BY 1',
	'SELECT id FROM plain WHERE id NOT IN (SELECT customer FROM invoice WHERE amount < 20) ORDER BY 1',
	'SELECT id, (SELECT sum(amount) FROM invoice i WHERE i.customer = c.id) FROM customer c ORDER BY 1',
	'WITH big AS MATERIALIZED (SELECT * FROM invoice WHERE amount > 250) SELECT c.name, count(*) FROM big JOIN customer c ON c.id = big.customer GROUP BY 1 ORDER BY 1',
	'WITH RECURSIVE up AS (SELECT id, parent FROM customer WHERE id = 17 UNION ALL SELECT c.id, c.parent FROM up JOIN customer c ON c.id = up.parent) SELECT * FROM up',
	'SELECT tenant_id, count(*), grouping(tenant_id) FROM invoice GROUP BY ROLLUP (tenant_id) ORDER BY 1, 3',
	'SELECT id, rank() OVER (PARTITION BY tenant_id ORDER BY amount DESC) FROM invoice ORDER BY 1 LIMIT 20',
	'SELECT id FROM customer UNION SELECT customer FROM invoice EXCEPT SELECT id FROM plain WHERE id > 10 ORDER BY 1',
	'SELECT DISTINCT ON (customer) customer, id FROM invoice ORDER BY customer, id DESC',
	'SELECT * FROM rich ORDER BY 1', 'SELECT count(*) FROM asking', 'SELECT * FROM small ORDER BY 1',
	'SELECT total_of(1), total_of(2)', 'SELECT count(*) FROM rows_of(1)',
	'SELECT c.id, l.amount FROM customer c, LATERAL (SELECT amount FROM invoice i WHERE i.customer = c.id ORDER BY amount LIMIT 1) l ORDER BY 1',
	'SELECT * FROM label ORDER BY word', 'SELECT count(*) FROM log', 'SELECT * FROM log_2 WHERE id < 60 ORDER BY id', 'SELECT * FROM ONLY log',
	'SELECT count(*) FROM guarded', 'SELECT count(*) FROM dormant', 'SELECT i FROM invoice i WHERE id = 3', 'SELECT ctid, tableoid::regclass FROM log WHERE id = 70',
	'SELECT count(*) FROM invoice TABLESAMPLE BERNOULLI (100)', 'SELECT id FROM invoice WHERE id < 4 ORDER BY id FOR UPDATE',
	'SELECT * FROM (VALUES (1), (2)) v (id) JOIN customer USING (id) ORDER BY 1', 'SELECT 1 / (id - 7) FROM customer WHERE id <> 7 ORDER BY id', 'SELECT 1 / (id - 7) FROM customer',
	q{SELECT name FROM customer WHERE tenant_id = 1 OR name LIKE '%7' ORDER BY 1}, 'TABLE dormant', 'COPY invoice TO STDOUT', 'COPY (SELECT * FROM log ORDER BY id) TO STDOUT',
	'SET LOCAL row_security = off; SELECT count(*) FROM invoice', 'SET LOCAL row_security = off; SELECT count(*) FROM guarded',
	'DECLARE c CURSOR FOR SELECT id FROM invoice ORDER BY id; FETCH 3 FROM c; SELECT leyser.leave(); FETCH 3 FROM c',
	'PREPARE p (int) AS SELECT count(*) FROM invoice WHERE tenant_id = $1; EXECUTE p (1); EXECUTE p (2)',
	'SET LOCAL plan_cache_mode = force_generic_plan; SELECT total_of(1), total_of(2), (SELECT count(*) FROM rows_of(2))',
	'SET LOCAL min_parallel_table_scan_size = 0; SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SELECT count(*), sum(amount) FROM invoice',
	'SET LOCAL enable_seqscan = off; SELECT count(*) FROM invoice WHERE id BETWEEN 10 AND 50',
	join(' ', 'SELECT count(*) FROM', join(' JOIN ', 'customer c1', map { "customer c$_ USING (id)" } 2 .. 40)));
my @writes = (
	'INSERT INTO invoice VALUES (1000, 1, 2, 5), (1001, 2, 2, 6)', 'INSERT INTO invoice (id, customer) VALUES (1002, 2)',
	'INSERT INTO invoice SELECT id + 2000, tenant_id, customer, amount FROM invoice',
	'INSERT INTO invoice VALUES (7, 1, 2, 5) ON CONFLICT (id) DO UPDATE SET amount = 0 RETURNING *',
	'INSERT INTO invoice VALUES (7, 1, 2, 5) ON CONFLICT DO NOTHING', 'INSERT INTO invoice VALUES (8, 1, 2, 5)', 'INSERT INTO invoice VALUES (1003, 1, 999, 5)',
	'UPDATE invoice SET amount = amount + 1', 'UPDATE invoice SET tenant_id = 3 - tenant_id WHERE id < 10 RETURNING id, tenant_id',
	'UPDATE invoice i SET amount = c.id FROM customer c WHERE c.id = i.customer AND c.tenant_id = 2',
	'DELETE FROM invoice WHERE amount > 100 RETURNING id', 'DELETE FROM customer WHERE id = 20', 'DELETE FROM invoice i USING customer c WHERE c.id = i.customer AND c.id < 3',
	'WITH gone AS (DELETE FROM invoice WHERE id < 50 RETURNING *) INSERT INTO label SELECT tenant_id::text, id::text FROM gone WHERE id < 20',
	q{MERGE INTO customer c USING (SELECT g AS id FROM generate_series(15, 25) g) n ON c.id = n.id
		WHEN MATCHED AND c.tenant_id = 1 THEN UPDATE SET name = 'merged' WHEN NOT MATCHED THEN INSERT VALUES (n.id, 2, 'new', NULL)},
	q{MERGE INTO label l USING plain p ON l.word = p.x WHEN MATCHED THEN DELETE WHEN NOT MATCHED AND p.id < 3 THEN INSERT VALUES ('1', p.x)},
	q{INSERT INTO label VALUES (NULL, 'white'), ('3', 'black')}, q{UPDATE label SET word = word || '!' WHERE tenant_id IS NULL},
	q{INSERT INTO log SELECT '00000000-0000-4000-8000-000000000001', g, 'more' FROM generate_series(100, 300) g},
	q{UPDATE log SET id = id + 45 WHERE id < 10}, q{DELETE FROM log_1 WHERE line ~ '7'}, 'INSERT INTO guarded VALUES (100, NULL, true), (101, 1, true)',
	'INSERT INTO guarded VALUES (102, 1, false)', 'DELETE FROM guarded', 'DELETE FROM dormant WHERE tenant_id = 2', 'UPDATE small SET amount = 19 WHERE id = 3', 'UPDATE small SET amount = 30 WHERE id = 3',
	'INSERT INTO small VALUES (1005, 1, 2)', 'SELECT add_row(1004)', "COPY invoice (id, tenant_id, customer) FROM STDIN;\n3000\t1\t2\n3001\t2\t3\n\\.\n",
	"COPY log FROM STDIN;\n00000000-0000-4000-8000-000000000001\t400\tx\n\\.\n", 'TRUNCATE log', 'TRUNCATE customer', 'TRUNCATE customer CASCADE',
	'PREPARE p (int, int) AS UPDATE invoice SET amount = 0 WHERE tenant_id = $1 AND id > $2; EXECUTE p (1, 180); EXECUTE p (2, 190)',
	'DECLARE c CURSOR FOR SELECT * FROM invoice WHERE id = 9 FOR UPDATE; FETCH c; UPDATE invoice SET amount = -1 WHERE CURRENT OF c',
	q{DO $$ DECLARE r record; BEGIN FOR r IN SELECT * FROM invoice WHERE customer = 4 LOOP UPDATE invoice SET amount = r.amount * 2 WHERE id = r.id; END LOOP; END $$},
	'CREATE TEMP TABLE copied AS SELECT * FROM invoice; SELECT count(*) FROM copied');
my $look = join '; ', map { "SELECT '$_', count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM $_ t" } qw(customer invoice label log guarded dormant);
my %entering = (
	'no context' => '',
	'a context' => q{SELECT leyser.enter('1') \\g /dev/null});

# What a statement, in a transaction that is rolled back, gives and raises.
sub answer
{
	my ($database, $user, $context, $statement) = @_;
	my ($output, $errors);

	$node->psql($database, "BEGIN;\n$entering{$context}\n$statement;\nROLLBACK;",
		stdout => \$output, stderr => \$errors, on_error_stop => 0,
		extra_params => [ '-U', $user, '-v', 'VERBOSITY=terse' ]);
	return "$output\n$errors" =~ s/^psql:<stdin>:\d+: //mgr;
}

# One test: it is the same in both databases.
sub same_answer
{
	my ($user, $context, $statement, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(answer('observed', $user, $context, $statement), answer('unprotected', $user, $context, $statement),
		"$user, $context: " . substr($name =~ s/\s+/ /gr, 0, 90));
	return;
}

foreach my $user (qw(app keeper postgres))
{
	foreach my $context ($user eq 'app' ? sort keys %entering : 'no context')
	{
		same_answer($user, $context, $_, $_) foreach @reads;
		same_answer($user, $context, "$_; $look", $_) foreach @writes;
	}
}
like(answer('observed', 'app', 'no context', "$writes[7]; $look"), qr/^invoice\|200\|/m, 'what was written was looked at');

# What is clean in tenant 1's context, while observed: it is the same, enforced.
sub gaps
{
	return $node->safe_psql('observed', 'SELECT relation, gap, sqlstate FROM leyser.context_gap');
}
my @clean;
foreach my $statement (@reads, @writes)
{
	next if $statement =~ /leave|row_security|40 USING|TRUNCATE|guarded|dormant|\blog|label/;
	$node->safe_psql('observed', 'SELECT leyser.forget_context_gaps()');
	my $answer = answer('observed', 'app', 'a context', $statement);
	push @clean, [ $statement, $answer ] if gaps() eq '';
}
cmp_ok(scalar @clean, '>', 5, scalar(@clean) . ' statements are clean in a context');
$node->safe_psql('observed', q{SELECT leyser.protect('customer', enforcement => 'enforce', accept_gaps => true)});
$node->safe_psql('observed', q{SELECT leyser.protect('invoice', enforcement => 'enforce', accept_gaps => true)});
is($node->safe_psql('observed', q{SELECT string_agg(relation::text, ' ' ORDER BY relation::text) FROM leyser.governed_table WHERE enforcement = 'enforce'}),
	'customer invoice', 'two tables are enforced');
is(answer('observed', 'app', 'a context', $_->[0]), $_->[1], 'enforced: ' . substr($_->[0] =~ s/\s+/ /gr, 0, 90)) foreach @clean;
is_refused($node, 'SELECT * FROM invoice', 'LY001', 'without a context it is refused now', database => 'observed', user => 'app');

$node->stop;
done_testing();
