# Who sees protected tables past row security is recorded, once a statement, or refused:
# each way past it, and what must not be taken for one.

use strict;
use warnings;

use LeyserTest;
use LeyserPrivileged;
use Test::More;

my $node = new_node('privileged');
make_shop($node);
$node->safe_psql('postgres', q{
	CREATE VIEW of_superuser AS SELECT * FROM invoice;
	CREATE VIEW asking WITH (security_invoker) AS SELECT * FROM invoice;
	CREATE FUNCTION definer() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM invoice';
	CREATE FUNCTION steps() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
		PERFORM count(*) FROM invoice; FOR i IN 1 .. 3 LOOP PERFORM FROM line; END LOOP; END $$;
	CREATE FUNCTION aside(id int) RETURNS int LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$ BEGIN
		IF id = 7 THEN RETURN (SELECT max(i.amount) FROM invoice i); END IF; RETURN 0; END $$;
	CREATE TABLE hundred AS SELECT generate_series(1, 100) AS id;
	CREATE TABLE part (tenant_id int NOT NULL, id int) PARTITION BY LIST (id);
	CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
	CREATE TABLE part_2 PARTITION OF part FOR VALUES IN (2);
	SELECT leyser.protect('part');
	CREATE TABLE long_plain (note text);
	CREATE ROLE everything LOGIN IN ROLE pg_read_all_data;
	CREATE MATERIALIZED VIEW kept AS SELECT * FROM invoice WITH NO DATA;
	CREATE TABLE loose (tenant_id int NOT NULL, id int);
	ALTER TABLE loose OWNER TO keeper;
	SELECT leyser.protect('loose');
	SET leyser.guards = off;
	ALTER TABLE loose NO FORCE ROW LEVEL SECURITY;
	GRANT SELECT ON ALL TABLES IN SCHEMA public TO app, beyond;
});

# Long values lie where no policy is.
my ($toast, $plain_toast) = map { $node->safe_psql('postgres', "SELECT reltoastrelid::regclass FROM pg_class WHERE oid = '$_'::regclass") } qw(line long_plain);

# Each: who, what, and what is recorded of it (an access each, once).
my @ways = (
	[ 'a superuser', 'boss', 'SELECT * FROM invoice', 'invoice boss SELECT superuser 1' ],
	[ 'BYPASSRLS', 'beyond', 'SELECT * FROM invoice', 'invoice beyond SELECT bypassrls 1' ],
	[ 'SET ROLE', 'member', 'SET ROLE boss; SELECT * FROM invoice', 'invoice boss SELECT superuser 1' ],
	[ 'an owner without FORCE', 'keeper', 'SELECT * FROM loose', 'loose keeper SELECT owner 1' ],
	[ 'a superuser\'s view', 'app', 'SELECT * FROM of_superuser', 'invoice postgres SELECT superuser 1' ],
	[ 'a definer function', 'app', 'SELECT definer()', 'invoice postgres SELECT superuser 1' ],
	[ 'INSERT', 'boss', q{INSERT INTO line VALUES (1, 15, 'y')}, 'line boss INSERT superuser 1' ],
	[ 'UPDATE', 'beyond', 'UPDATE line SET note = note', 'line beyond UPDATE bypassrls 1' ],
	[ 'DELETE', 'beyond', 'DELETE FROM invoice WHERE id = 19', 'invoice beyond DELETE bypassrls 1' ],
	[ 'MERGE', 'boss', 'MERGE INTO line USING plain ON false WHEN NOT MATCHED THEN INSERT VALUES (1, 1, NULL)', 'line boss MERGE superuser 1' ],
	[ 'INSERT of what is read', 'boss', 'CREATE TEMP TABLE t (n int); INSERT INTO t SELECT amount FROM invoice', 'invoice boss SELECT superuser 1' ],
	[ 'a table twice', 'boss', 'SELECT FROM invoice a, invoice b', 'invoice boss SELECT superuser 1' ],
	[ 'COPY TO', 'boss', 'COPY invoice TO stdout', 'invoice boss COPY TO superuser 1' ],
	[ 'COPY of a query', 'boss', 'COPY (SELECT * FROM invoice) TO stdout', 'invoice boss SELECT superuser 1' ],
	[ 'COPY FROM', 'boss', "COPY line FROM stdin;\n1\t16\tz\n\\.\n", 'line boss COPY FROM superuser 1' ],
	[ 'a cursor', 'boss', 'BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT * FROM invoice; FETCH 3 FROM c; FETCH 3 FROM c; COMMIT; FETCH ALL FROM c', 'invoice boss SELECT superuser 1' ],
	[ 'a prepared statement', 'boss', 'PREPARE p AS SELECT * FROM invoice; EXECUTE p', 'invoice boss SELECT superuser 1' ],
	[ 'a partitioned table', 'boss', 'SELECT * FROM part', 'part boss SELECT superuser 1' ],
	[ 'a partition', 'boss', 'SELECT * FROM part_1', 'part_1 boss SELECT superuser 1' ],
	[ 'a table\'s TOAST', 'boss', "SELECT chunk_data FROM $toast", 'line boss SELECT superuser 1' ],
	[ '... by who reads everything', 'everything', "SELECT chunk_data FROM $toast", 'line everything SELECT toast 1' ],
	[ '... by COPY', 'boss', "COPY (SELECT chunk_data FROM $toast) TO stdout", 'line boss SELECT superuser 1' ],
	[ 'EXPLAIN ANALYZE', 'boss', 'EXPLAIN ANALYZE SELECT * FROM invoice', 'invoice boss SELECT superuser 1' ],
	[ 'CREATE TABLE AS', 'boss', 'CREATE TEMP TABLE t AS SELECT * FROM invoice', 'invoice boss SELECT superuser 1' ],
	[ 'a materialized view', 'boss', 'REFRESH MATERIALIZED VIEW kept', 'invoice postgres SELECT superuser 1' ],
	[ 'a read-only transaction', 'boss', 'BEGIN READ ONLY; SELECT * FROM invoice; COMMIT', 'invoice boss SELECT superuser 1' ],
	[ 'what is rolled back', 'boss', 'BEGIN; SELECT * FROM invoice; ROLLBACK', 'invoice boss SELECT superuser 1' ],
	[ 'what fails', 'boss', 'SELECT 1 / (amount - amount) FROM invoice', 'invoice boss SELECT superuser 1', '22012' ],
	[ 'a parallel query', 'boss', q{SET force_parallel_mode = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
		SET min_parallel_table_scan_size = 0; SELECT count(*) FROM invoice}, 'invoice boss SELECT superuser 1' ],
	[ 'a function in a parallel worker', 'boss', q{SET force_parallel_mode = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
		SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = off; SELECT max(aside(id)) FROM hundred}, 'invoice boss SELECT superuser 1' ],
	[ 'TRUNCATE', 'boss', 'TRUNCATE loose', 'loose boss TRUNCATE superuser 1' ],
	[ 'a session authorization', 'postgres', 'SET SESSION AUTHORIZATION beyond; SELECT * FROM invoice', 'invoice beyond SELECT bypassrls 1' ],
	[ 'row_security = off', 'boss', 'SET row_security = off; SELECT * FROM invoice', 'invoice boss SELECT superuser 1' ]);
# 16 renamed it
$_->[2] =~ s/force_parallel_mode/debug_parallel_query/ foreach $node->pg_version >= 16 ? @ways : ();
foreach (@ways)
{
	my ($name, $user, $sql, $recorded, $raised) = @$_;
	my ($got, $sqlstate, $message) = accessed_by($node, $user, $sql);
	is("$sqlstate $got", ($raised // '') . " access $recorded", "$name is recorded once") or diag($message);
}

# More than one of a kind.
my ($got) = accessed_by($node, 'boss', 'SELECT steps()');
is($got, "access invoice boss SELECT superuser 1\naccess line boss SELECT superuser 3", 'a function\'s statements count one by one');
($got) = accessed_by($node, 'boss', 'PREPARE p AS SELECT * FROM invoice; EXECUTE p; EXECUTE p; EXECUTE p');
is($got, 'access invoice boss SELECT superuser 3', 'each execution counts');
($got) = accessed_by($node, 'boss', 'SELECT FROM invoice JOIN line USING (tenant_id, id)');
is($got, "access invoice boss SELECT superuser 1\naccess line boss SELECT superuser 1", 'each table counts');
($got) = accessed_by($node, 'boss', 'DO $$ BEGIN FOR i IN 1 .. 100000 LOOP PERFORM FROM invoice LIMIT 1; END LOOP; END $$');
is($got, 'access invoice boss SELECT superuser 100000', 'a hundred thousand statements are all counted');
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.privileged_access WHERE statements > 1000}), '<', 5, '... in few events');
($got) = accessed_by($node, 'boss', 'TRUNCATE part');
is($got, "access part boss TRUNCATE superuser 1\naccess part_1 boss TRUNCATE superuser 1\naccess part_2 boss TRUNCATE superuser 1",
	'TRUNCATE counts each table that is emptied');

# What is no access.
my $work = q{BEGIN; SELECT leyser.enter('1'); SELECT * FROM invoice; INSERT INTO invoice VALUES (1, 100, 1), (1, 101, 1);
	INSERT INTO line VALUES (1, 100, 'a'); UPDATE invoice SET id = 102 WHERE id = 101; DELETE FROM invoice WHERE id = 100;
	SELECT * FROM asking; SELECT * FROM part; COPY line TO stdout; DELETE FROM invoice WHERE id > 99; COMMIT};
my @nothing = (
	[ 'an application\'s own work, its foreign keys and cascades', 'app', $work, '' ],
	[ 'an owner under FORCE', 'keeper', 'SELECT * FROM invoice', 'LY001' ],
	[ 'an invoker\'s view', 'keeper', 'SELECT * FROM asking', '42501' ],
	[ 'what is denied', 'beyond', 'TRUNCATE line', 'LY007' ],
	[ 'an unprotected table', 'boss', 'SELECT * FROM plain; COPY plain TO stdout; TRUNCATE plain', '' ],
	[ 'an unprotected table\'s TOAST', 'boss', "SELECT chunk_data FROM $plain_toast", '' ],
	[ 'EXPLAIN', 'boss', 'EXPLAIN SELECT * FROM invoice; PREPARE p AS SELECT * FROM invoice; EXPLAIN EXECUTE p', '' ],
	[ 'PREPARE, LOCK', 'boss', 'PREPARE p AS SELECT * FROM invoice; BEGIN; LOCK TABLE invoice; COMMIT', '' ],
	[ 'maintenance', 'boss', 'VACUUM invoice; ANALYZE invoice; REINDEX TABLE invoice', '' ],
	[ 'a plain index', 'keeper', 'CREATE INDEX ON invoice (amount)', '' ],
	[ 'leyser\'s own functions', 'postgres', q{SELECT * FROM leyser.purge_plan('2'); SELECT * FROM leyser.check_security(); SELECT leyser.protect('invoice')}, '' ]);
sub is_nothing
{
	my ($when) = @_;

	foreach (@nothing)
	{
		my ($name, $user, $sql, $wanted) = @$_;
		my ($got, $sqlstate, $message) = accessed_by($node, $user, $sql);
		is("$sqlstate|$got", "$wanted|", "$name: no privileged access$when") or diag($message);
	}
	return;
}
is_nothing('');

# Refused: nothing is seen, and the attempt is recorded once.
set_access($node, 'refuse');
foreach (@ways)
{
	my ($name, $user, $sql, $recorded) = @$_;
	my ($got, $sqlstate, $message) = accessed_by($node, $user, $sql);
	is("$sqlstate $got", "LY007 refused $recorded", "$name is refused, and recorded once") or diag($message);
}
my (undef, $sqlstate, $message) = accessed_by($node, 'boss', 'SELECT * FROM invoice');
like($message, qr/privileged access to protected table "invoice" is refused.*DETAIL:  SELECT by role "boss".*superuser.*HINT:.*open_privileged_access\('boss'/s,
	'with what it is about, and what to do');
is_nothing(', refused or not');

# Off: nothing.
set_access($node, 'off');
($got) = accessed_by($node, 'boss', 'SELECT * FROM invoice');
is($got, '', 'nothing is recorded where it is off');

# What an event holds, and for whom.
set_access($node, 'record');
accessed($node);
accessed_by($node, 'member', q{SET ROLE boss; SET application_name = 'a tool'; SELECT * FROM invoice WHERE 'a secret' <> ''});
is($node->safe_psql('postgres', q{SELECT session_role, caller_role, role, application, query_id IS NOT NULL, pid IS NOT NULL, relation
	FROM leyser.privileged_access ORDER BY event_id DESC LIMIT 1}, extra_params => [ '-U', 'auditor' ]),
	'member|boss|boss|a tool|t|t|public.invoice', 'an auditor reads who did it as whom, and with what');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event e WHERE e::text ~ 'a secret'}), '0', '... and no query\'s text');
is_refused($node, 'SELECT * FROM leyser.privileged_access', '42501', 'an application does not', user => 'app');
is_refused($node, 'SELECT * FROM leyser.take_privileged()', '42501', 'only the worker takes what is counted');
my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
like($log, qr/leyser event: \{"event": "privileged.access", "session_role": "member", "caller_role": "boss".*"application": "a tool"/, 'the server log has it, too');
is($node->safe_psql('postgres', 'SELECT count(*) FROM leyser.verify_events()'), '0', 'the chain of events is unbroken');

done_testing();
