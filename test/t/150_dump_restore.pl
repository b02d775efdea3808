# pg_dump carries policies, registry, tenants, usages and events; a restored
# database enforces them, is another audience, and says that it needs a keyring.

use strict;
use warnings;

use LeyserTest;
use LeyserToken;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('dump');
my $odd = 'Größe "n" der \'Kiste\'; --';
my $long = 'あ' x 21;    # 63 bytes
$node->safe_psql('postgres', <<"SQL");
	SELECT leyser.create_tenant('t1', 'Tenant One', 'JP');
	SELECT leyser.create_tenant('t2');
	SELECT leyser.create_tenant('$long');
	SELECT leyser.suspend_tenant('t2');
	CREATE ROLE app LOGIN;
	CREATE ROLE gateway LOGIN;
	CREATE ROLE owner_of_tables;
	CREATE ROLE "Prüfer ""eins""" LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	SELECT leyser.grant_usage('app', 'application');
	SELECT leyser.grant_usage('gateway', 'gateway');
	SELECT leyser.grant_usage('"Prüfer ""eins"""', 'auditor');

	CREATE SCHEMA "$long" AUTHORIZATION owner_of_tables;
	GRANT USAGE ON SCHEMA "$long" TO app, gateway;
	CREATE TABLE "$long"."@{[ $odd =~ s/"/""/gr ]}" ("@{[ $odd =~ s/"/""/gr ]}" text NOT NULL, n int);
	SELECT leyser.protect(c.oid, a.attname) FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid AND attnum = 1
		WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = '$long') AND c.relkind = 'r';

	-- column numbers change in a restore: the dropped ones are not carried over
	CREATE TABLE item (gone int, tenant_id text NOT NULL DEFAULT 'none', n int, gone_too int, PRIMARY KEY (tenant_id, n));
	ALTER TABLE item DROP COLUMN gone, DROP COLUMN gone_too;
	ALTER TABLE item OWNER TO owner_of_tables;
	CREATE POLICY positive ON item USING (n > 0);
	SELECT leyser.protect('item');
	ALTER TABLE item RENAME tenant_id TO tenant;
	ALTER TABLE item RENAME tenant TO "Mandant";
	CREATE TABLE part (first int, tenant_id text NOT NULL, at date NOT NULL) PARTITION BY RANGE (at);
	ALTER TABLE part DROP COLUMN first;
	CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
	SELECT leyser.protect('part');
	CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
	CREATE TABLE base (tenant_id text, n int);
	SELECT leyser.protect('base', kind => 'own_and_global');
	CREATE TABLE heir (extra int) INHERITS (base);
	CREATE TABLE line (tenant_id text NOT NULL, n int NOT NULL,
		FOREIGN KEY (tenant_id, n) REFERENCES item ON DELETE CASCADE);
	SELECT leyser.protect('line');
	CREATE TABLE country (code text);
	SELECT leyser.declare_table('country', 'shared', 'reference data');
	CREATE TABLE invoice (tenant_id text);
	SELECT leyser.declare_table('invoice', 'retained', 'tax law');
	CREATE TABLE queue (payload jsonb);
	SELECT leyser.declare_table('queue', 'by_rule', 'a queue', 'payload->>''tenant'' = \$1');
	GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA public, "$long" TO app, gateway;
	INSERT INTO item VALUES ('t1', 1), ('t1', 2), ('t2', 1), ('t2', 3), ('$long', 1);
	INSERT INTO part SELECT "Mandant", '2026-12-31'::date + n FROM item;
	INSERT INTO base VALUES ('t1', 1), ('t2', 1), (NULL, 1);
	INSERT INTO heir VALUES ('t1', 1, 1), ('t2', 1, 1);
	INSERT INTO line SELECT "Mandant", n FROM item;
	INSERT INTO "$long"."@{[ $odd =~ s/"/""/gr ]}" SELECT "Mandant", n FROM item;
SQL

# Everything that a dump must carry, as text.
my %facts = (
	policies => q{SELECT schemaname, tablename, policyname, permissive, roles, cmd, qual, with_check
		FROM pg_policies ORDER BY 1, 2, 3},
	'row security' => q{SELECT oid::regclass, relrowsecurity, relforcerowsecurity FROM pg_class
		WHERE relkind IN ('r', 'p') AND relnamespace <> 'pg_catalog'::regnamespace ORDER BY oid::regclass::text},
	registry => q{SELECT relation, kind, tenant_column, parent, enforcement, gaps, reason, purge_condition,
		governed_since FROM leyser.governed_table ORDER BY relation::text},
	'what protect() found' => q{SELECT relation, set_default, had_row_security, had_forced_row_security,
		had_default FROM leyser.table_record ORDER BY relation::text},
	tenants => q{SELECT * FROM leyser.tenant ORDER BY 1},
	usages => q{SELECT * FROM leyser.granted_usage ORDER BY role::text, 2},
	events => q{SELECT event_id, at, event, tenant_id, session_role, caller_role, object, detail, digest
		FROM leyser.event WHERE event <> 'keyring.initialized' AND event_id <= (SELECT last FROM seen) ORDER BY 1},
	rights => q{SELECT p.oid::regprocedure, a.grantee::regrole, a.privilege_type FROM pg_proc p,
		aclexplode(p.proacl) a WHERE p.pronamespace = 'leyser'::regnamespace ORDER BY p.oid::regprocedure::text, a.grantee::regrole::text},
	triggers => q{SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal
		ORDER BY tgrelid::regclass::text, 2},
	defaults => q{SELECT adrelid::regclass, pg_get_expr(adbin, adrelid) FROM pg_attrdef ORDER BY adrelid::regclass::text, 2});

# What comes after, such as the dumps themselves, is no fact.
$node->safe_psql('postgres', 'CREATE TABLE seen AS SELECT max(event_id) AS last FROM leyser.event; GRANT SELECT ON seen TO PUBLIC');

sub facts_of
{
	my ($database) = @_;

	return { map { $_ => $node->safe_psql($database, $facts{$_}) } keys %facts };
}

my $before = facts_of('postgres');
my $identity = database_id($node);

# Accesses to a protected table, by their command: are there any, and do they wait to be written?
sub accesses
{
	my ($database, @command) = @_;

	return map { $node->safe_psql($database, "SELECT count(*) > 0, count(event_id) = 0
		FROM leyser.privileged_access WHERE command = '$_' AND relation = 'public.item'") } @command;
}

# What a restored database must do.  Where the data came in in any order, a table's rows
# may have come before the registry that says that it is protected.
sub check_restored
{
	my ($name, $database, %options) = @_;
	my $after = facts_of($database);

	# A restore's own accesses come after the events that it brings, as do others before
	# the database has its keyring.
	my @command = ('UPDATE', $options{any_order} ? () : 'COPY FROM');
	$node->safe_psql($database, 'UPDATE item SET n = n WHERE false');
	is_deeply([ accesses($database, @command) ], [ map { 't|t' } @command ],
		"$name: accesses (@command) are counted, and wait");

	is($after->{$_}, $before->{$_}, "$name: the $_ are as they were") for sort keys %facts;
	isnt(database_id($node, $database), $identity, "$name: another identity, so another audience");

	# Nothing is shown before the keyring is adopted, and it is said.
	is_refused($node, 'SELECT * FROM item', 'LY001', "$name: no context, no rows", user => 'app',
		database => $database);
	my ($state, $message) = sqlstate_of($node, q{SELECT leyser.enter('t1')}, user => 'gateway',
		database => $database);
	is($state, 'LY002', "$name: no keyring, no entry");
	like($message, qr/initialize_keyring\(\)/, "$name: told to adopt one");
	is($node->safe_psql($database, q{SELECT state FROM leyser.keyring_status() WHERE item = 'keyring'}),
		'not initialized', "$name: keyring_status() says so");
	$node->safe_psql($database, 'SELECT leyser.initialize_keyring(); SELECT leyser.note_privileged()');
	is_deeply([ accesses($database, @command) ], [ map { 't|f' } @command ], "$name: ... until it has its keyring");
	is($node->safe_psql($database, 'SELECT problem, event_id FROM leyser.verify_events()'), '', "$name: the log is unbroken");
	for my $table (qw(item part part_1 part_2 base heir line))
	{
		my $column = $table eq 'item' ? '"Mandant"' : 'tenant_id';
		is($node->safe_psql($database, counted($table), extra_params => [ '-U', 'gateway' ]),
			$node->safe_psql($database, "SELECT count(*) FROM $table WHERE $column = 't1' OR $column IS NULL"),
			"$name: $table shows its tenant's rows");
	}
	is_refused($node, q{BEGIN; SELECT leyser.enter('t1'); INSERT INTO item VALUES ('t2', 9)}, '42501',
		"$name: no row of another tenant is written", user => 'gateway', database => $database);
	is_refused($node, q{BEGIN; SELECT leyser.enter('t1'); INSERT INTO country VALUES ('JP')}, 'LY007',
		"$name: shared tables are not written in a context", user => 'gateway', database => $database);
	is_refused($node, q{SELECT leyser.enter('t2')}, 'LY004', "$name: a suspended tenant stays out",
		user => 'gateway', database => $database);
	is_refused($node, 'ALTER TABLE item NO FORCE ROW LEVEL SECURITY', 'LY007', "$name: guards stand",
		database => $database);

	# The registry is alive: new partitions, a new event, and the way back.
	$node->safe_psql($database, q{CREATE TABLE part_3 PARTITION OF part FOR VALUES FROM ('2028-01-01') TO ('2029-01-01')});
	is($node->safe_psql($database, q{SELECT kind FROM leyser.governed_table WHERE relation = 'part_3'::regclass}),
		'own', "$name: a new partition is protected");
	cmp_ok($node->safe_psql($database, q{SELECT max(event_id) FROM leyser.event}), '>',
		(split(/\|/, (split(/\n/, $before->{events}))[-1]))[0], "$name: events go on being counted");
	$node->safe_psql($database, q{SELECT leyser.unprotect('item')});
	is($node->safe_psql($database, q{SELECT relrowsecurity, relforcerowsecurity, pg_get_expr(adbin, adrelid)
		FROM pg_class c JOIN pg_attrdef ON adrelid = c.oid WHERE c.oid = 'item'::regclass}),
		q{f|f|'none'::text}, "$name: unprotect() restores what protect() found");
	return;
}

sub counted
{
	my ($table) = @_;

	return "BEGIN; SELECT leyser.enter('t1') \\g /dev/null\nSELECT count(*) FROM $table; COMMIT";
}

# Arguments: a command that dumps or restores.  It must succeed, without a word.
sub runs_silently
{
	my ($name, @command) = @_;
	my $output = '';

	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	my $ok = IPC::Run::run(\@command, '>', '/dev/null', '2>', \$output);
	ok($ok && $output eq '', $name) or diag($output);
	return;
}

my $folder = PostgreSQL::Test::Utils::tempdir();
runs_silently('pg_dump, plain', 'pg_dump', '--file', "$folder/plain", 'postgres');
runs_silently('pg_dump, custom', 'pg_dump', '--format=custom', '--file', "$folder/custom", 'postgres');

# Whoever is bound by row security gets all of a table or an error, never a part.
{
	my ($dump, $error);
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	ok(!IPC::Run::run([ 'pg_dump', '--username=app', '--table=line', 'postgres' ], '>', \$dump, '2>', \$error),
		'an application cannot dump a protected table');
	like($error, qr/row-level security/, '... for row security');
	ok(!IPC::Run::run([ 'pg_dump', '--username=app', '--table=line', '--enable-row-security', 'postgres' ],
		'>', \$dump, '2>', \$error), '... nor its own rows without a context');
	like($error, qr/no tenant context/, '... which it lacks');
}

$node->safe_psql('postgres', 'CREATE DATABASE plain TEMPLATE template0');
runs_silently('plain into a new database', 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null',
	'-f', "$folder/plain", 'plain');
check_restored('plain', 'plain');

$node->safe_psql('postgres', 'CREATE DATABASE custom TEMPLATE template0');
runs_silently('custom into a new database', 'pg_restore', '--exit-on-error', '--dbname=custom', "$folder/custom");
check_restored('custom', 'custom');

$node->safe_psql('postgres', 'CREATE DATABASE parallel TEMPLATE template0');
runs_silently('custom into a new database, in parallel', 'pg_restore', '--exit-on-error', '--jobs=8',
	'--dbname=parallel', "$folder/custom");
check_restored('parallel', 'parallel', any_order => 1);

$node->safe_psql('postgres', 'CREATE DATABASE apart TEMPLATE template0');
runs_silently('pg_dump, the schema', 'pg_dump', '--schema-only', '--file', "$folder/schema", 'postgres');
runs_silently('pg_dump, the data', 'pg_dump', '--data-only', '--file', "$folder/data", 'postgres');
runs_silently("$_ of a dump in two", 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null',
	'-f', "$folder/$_", 'apart')
  for ('schema', 'data');
check_restored('schema and data apart', 'apart');

# Over what is there: guarded by default, allowed where a superuser says so.
{
	my $output;
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	ok(!IPC::Run::run([ 'pg_restore', '--single-transaction', '--clean', '--if-exists', '--dbname=postgres',
		"$folder/custom" ], '>', '/dev/null', '2>', \$output), '--clean over protected tables is refused');
	like($output, qr/leyser\.guards/, '... and told how it is done');
	local $ENV{PGOPTIONS} = '-c leyser.guards=off';
	runs_silently('--clean --if-exists over what is there', 'pg_restore', '--exit-on-error',
		'--single-transaction', '--clean', '--if-exists', '--dbname=postgres', "$folder/custom");
}
check_restored('clean', 'postgres');

$node->stop;
done_testing();
