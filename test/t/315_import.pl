# import_table(), COPY, import_finish(): a tenant's rows by COPY, checked, all or none.

use strict;
use warnings;

use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('import', conf => "restart_after_crash = on\n");
$node->safe_psql('postgres', q{
	CREATE ROLE owner LOGIN;
	CREATE ROLE app LOGIN;
	CREATE ROLE gateway LOGIN;
	CREATE ROLE auditor LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	GRANT CREATE ON SCHEMA public TO owner;
	SELECT leyser.grant_usage('app', 'application');
	SELECT leyser.grant_usage('gateway', 'gateway');
	SELECT leyser.grant_usage('auditor', 'auditor');
	SELECT leyser.create_tenant(t) FROM unnest('{1,2,3}'::text[]) t;
});
$node->safe_psql('postgres', q{
	CREATE TABLE customer (tenant_id bigint NOT NULL, id int, PRIMARY KEY (tenant_id, id));
	INSERT INTO customer SELECT t, n FROM generate_series(1, 2) t, generate_series(1, 100) n;
	INSERT INTO customer VALUES (2, 500);
	CREATE DOMAIN place AS text COLLATE "C" CHECK (VALUE <> 'nowhere');
	CREATE TABLE "Order ü" (
		id bigint GENERATED ALWAYS AS IDENTITY,
		gone int,
		number int NOT NULL,
		tenant_id bigint NOT NULL,
		customer int,
		amount numeric(10, 2) CHECK (amount > 0),
		"to" place,
		twice int GENERATED ALWAYS AS (number * 2) STORED,
		note text DEFAULT 'none',
		UNIQUE (tenant_id, number),
		FOREIGN KEY (tenant_id, customer) REFERENCES customer);
	ALTER TABLE "Order ü" DROP COLUMN gone;
	CREATE INDEX ON "Order ü" (tenant_id);
	INSERT INTO "Order ü" (tenant_id, number, amount) VALUES (2, 1, 7);
	CREATE TABLE history (who text, path text);
	GRANT INSERT ON history TO PUBLIC;
	SELECT leyser.protect('customer');
	SELECT leyser.protect('"Order ü"');
	CREATE TABLE plain (tenant_id bigint, n int);
	GRANT SELECT, INSERT ON "Order ü", plain TO app, gateway;
	GRANT SELECT ON customer TO app;
}, extra_params => [ '-U', 'owner' ]);

# Statements of psql as a gateway in a tenant's context: SQLSTATE and all it said.
sub import_as
{
	my ($tenant, $sql, %options) = @_;
	my $user = $options{user} // 'gateway';

	return sqlstate_of($node, "BEGIN;\nSELECT leyser.enter('$tenant') \\g /dev/null\n$sql\nCOMMIT;\n", user => $user);
}

sub rows
{
	return $node->safe_psql('postgres', shift);
}

my $begin = q{SELECT leyser.import_table('"Order ü"') AS staging \gset};
my $columns = q{number, customer, amount, "to", note};

# The plain way.
my ($code, $said) = import_as('1', qq{$begin
COPY :staging FROM STDIN;
1	1	10	Tokyo	first
2	2	20.5	\\N	\\N
3	\\N	30	Osaka	third
\\.
SELECT leyser.import_finish(:'staging');});
is($code, '', 'a file is imported') or diag($said);
is(rows(q{SELECT tenant_id, number, customer, amount, "to", twice, note FROM "Order ü" WHERE tenant_id = 1 ORDER BY number}),
	"1|1|1|10.00|Tokyo|2|first\n1|2|2|20.50||4|\n1|3||30.00|Osaka|6|third", '... with the columns that do not fill themselves');
is(rows(q{SELECT tenant_id, object, detail ->> 'rows', session_role FROM leyser.event WHERE event = 'import.finished'}), '1|public."Order ü"|3|gateway', '... and there is an event');
is(rows(q{SELECT count(*) FROM pg_class WHERE relname ~ '^leyser_import'}), '0', '... and nothing of the staging table is left');
($code, $said) = import_as('2', q{SELECT leyser.import_table('"Order ü"', columns => '{note, number}') \g /dev/null
COPY "leyser_import_Order ü" FROM STDIN;
a	11
b	12
\.
SELECT leyser.import_finish('"leyser_import_Order ü"');});
is($code, '', 'columns may be given') or diag($said);
is(rows(q{SELECT number, note, amount FROM "Order ü" WHERE tenant_id = 2 ORDER BY 1}), "1|none|7.00\n11|a|\n12|b|", '... the others get what they get');

# Hostile tenants.
my $refused = sub {
	my ($tenant, $sql, $sqlstate, $pattern, $name, %options) = @_;
	my ($got, $message) = import_as($tenant, $sql, %options);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($got, $sqlstate, $name) or diag($message);
	like($message, $pattern, '... and says why');
	return $message;
};
my $before = rows(q{SELECT md5(string_agg(o::text, '' ORDER BY o::text)) FROM "Order ü" o});
$refused->('1', q{SELECT leyser.import_table('"Order ü"', columns => '{tenant_id, number}') AS staging \gset
COPY :staging FROM STDIN;
1	50
2	51
\.
SELECT leyser.import_finish(:'staging');}, '42501', qr/line 2: 42501: new row violates row-level security/, 'rows for another tenant');
my $message = $refused->('1', qq{$begin
COPY :staging FROM STDIN;
60	500	1	x	x
\\.
SELECT leyser.import_finish(:'staging');}, '23503', qr/line 1: 23503/, 'a reference to another tenant\'s row');
$refused->('1', qq{$begin
ALTER TABLE :staging ADD COLUMN x int;}, '42501', qr/must be owner/, 'its staging table cannot be altered');
$refused->('1', qq{$begin
COMMENT ON TABLE :staging IS 'leyser: import into 1260';}, 'LY007', qr/refused/, '... nor made another\'s');
$refused->('1', qq{CREATE TEMP TABLE mine (n int) ON COMMIT DROP; COMMENT ON TABLE mine IS 'leyser: import into 1260';}, 'LY007', qr/refused/, '... nor can a table be made that looks like one');
$refused->('1', q{SELECT leyser.import_finish('plain');}, 'LY008', qr/no import/, 'what is no staging table');
$refused->('1', qq{$begin
CREATE TEMP TABLE mine (n int) ON COMMIT DROP; SELECT leyser.import_finish('mine');}, 'LY008', qr/no import/, '... nor another temporary table');
my $one = open_session($node, user => 'gateway');
$one->query_safe(q{BEGIN; SELECT leyser.enter('1'); SELECT leyser.import_table('"Order ü"'); INSERT INTO "leyser_import_Order ü" (number, note) VALUES (70, 'secret of 1')});
my $staging = $one->query_safe(q{SELECT '"leyser_import_Order ü"'::regclass::oid::int || ' ' || relnamespace::regnamespace || '.' || quote_ident(relname) FROM pg_class WHERE relname ~ '^leyser_import'});
my ($oid, $name) = split / /, $staging, 2;
like((import_as('2', "SELECT * FROM $name;"))[0], qr/^42(501|P01)$/, 'another session does not see a staging table that is not committed');
is_refused_in($one, 'COMMIT', '', 'a transaction that does not finish its import');
is_refused_in($one, qq{BEGIN; SELECT leyser.enter('2'); SELECT * FROM "leyser_import_Order ü"}, '42P01', '... leaves nothing to the next one on the connection');
$one->query('ROLLBACK');
is_refused_in($one, qq{BEGIN; SELECT leyser.enter('2'); SELECT leyser.import_table('"Order ü"'); SELECT count(*) FROM "leyser_import_Order ü"; ROLLBACK}, '', '... which may import, too');
$one->quit;

# A token that has to be renewed meanwhile.
my $token = $node->safe_psql('postgres', q{SELECT leyser.issue_token('1')}, extra_params => [ '-U', 'gateway' ]);
my $again = $node->safe_psql('postgres', q{SELECT leyser.issue_token('1')}, extra_params => [ '-U', 'gateway' ]);
my $others = $node->safe_psql('postgres', q{SELECT leyser.issue_token('2')}, extra_params => [ '-U', 'gateway' ]);
is_refused($node, qq{BEGIN; SELECT set_config('leyser.token', '$token', true); SELECT leyser.import_table('"Order ü"');
	SELECT set_config('leyser.token', '$again', true); ROLLBACK}, '', 'a long import can set its token anew', user => 'app');
is_refused($node, qq{BEGIN; SELECT set_config('leyser.token', '$token', true); SELECT leyser.import_table('"Order ü"');
	SELECT set_config('leyser.token', '$others', true)}, 'LY009', '... not another tenant\'s', user => 'app');
is_refused($node, qq{BEGIN; CREATE TEMP TABLE invoice (n int) ON COMMIT DROP; SELECT set_config('leyser.token', '$token', true)}, 'LY009', 'what was there before the first token still counts', user => 'app');

# Bad lines: all that there are, with their numbers, and nothing is inserted.
$refused->('1', qq{$begin
COPY :staging FROM STDIN;
80	1	abc	x	x
\\.}, '22P02', qr/CONTEXT:  COPY leyser_import_Order ü, line 1, column amount: "abc"/, 'a line that cannot be read fails in COPY');
$refused->('1', qq{$begin
COPY :staging FROM STDIN;
80	1	1	nowhere	x
\\.}, '23514', qr/line 1, column to/, '... and a value that its domain refuses');
my $said_lines = $refused->('1', qq{$begin
COPY :staging FROM STDIN;
80	1	1	x	x
81	1	-1	x	x
80	1	1	x	x
82	7777	1	x	x
\\N	1	1	x	x
1	1	1	x	x
83	1	1	x	x
\\.
SELECT leyser.import_finish(:'staging');}, '23514', qr/5 lines cannot be inserted into "Order ü"/, 'lines that the table refuses');
like($said_lines, qr/line 2: 23514:.*\n.*line 3: 23505:.*\n.*line 4: 23503:.*\n.*line 5: 23502:.*\n.*line 6: 23505:/, '... each with its number and SQLSTATE');
like($said_lines, qr/HINT:  Nothing was inserted/, '... with a hint');
is(rows(q{SELECT md5(string_agg(o::text, '' ORDER BY o::text)) FROM "Order ü" o}), $before, 'nothing of all that was inserted');

# Many lines, few of them bad.
my $many = qq{$begin
INSERT INTO :staging (number, customer, amount, note) SELECT 1000 + g, 1, CASE WHEN g IN (7, 4321, 29999) THEN 0 ELSE g END, repeat('x', 200) FROM generate_series(1, 30000) g;
};
like($refused->('1', $many . q{SELECT leyser.import_finish(:'staging');}, '23514', qr/3 lines cannot/, 'three bad lines of 30,000'),
	qr/line 7: .*line 4321: .*line 29999: /s, '... are found');
like($refused->('1', $many . q{SELECT leyser.import_finish(:'staging', max_errors => 2);}, '23514', qr/2 or more lines cannot/, '... at most so many'), qr/line 7: .*line 4321: /s, '... the first ones');
$refused->('1', $many . qq{SELECT leyser.import_finish(:'staging', max_errors => $_);}, '22023', qr/1 to 1000/, "max_errors => $_") for qw(0 NULL 1001);

# It runs as the caller, with the caller's search_path.
$node->safe_psql('postgres', q{
	CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO history VALUES (current_user, current_setting('search_path'));
		RETURN NEW;
	END $$;
	CREATE TRIGGER log AFTER INSERT ON "Order ü" FOR EACH ROW EXECUTE FUNCTION log();
}, extra_params => [ '-U', 'owner' ]);
is((import_as('1', qq{$begin
INSERT INTO :staging (number, amount) VALUES (90, 1); SELECT leyser.import_finish(:'staging');}))[0], '', 'a table with a trigger');
is(rows('SELECT * FROM history'), 'gateway|"$user", public', '... which runs as the caller, whose names it finds');

# Who may, and bad input.
is_refused($node, q{SELECT leyser.import_table('"Order ü"')}, 'LY001', 'no context', user => 'gateway');
is_refused($node, q{SELECT leyser.import_table('"Order ü"')}, '42501', "$_ may not", user => $_) for qw(owner auditor);
$refused->('1', q{SELECT leyser.import_table('customer');}, '42501', qr/permission denied.*HINT/s, 'without the right to insert');
$refused->('1', q{SELECT leyser.import_table('plain');}, 'LY008', qr/not protected.*HINT/s, 'a table that is not protected');
$refused->('1', q{SELECT leyser.import_table(NULL);}, '42P01', qr/HINT/, 'no table');
$refused->('1', q{SELECT leyser.import_table('"Order ü"', columns => '{nothing}');}, '42703', qr/"nothing".*HINT/s, 'a column that is not there');
$refused->('1', q{SELECT leyser.import_table('"Order ü"', columns => '{twice}');}, '42703', qr/always generated/, '... or generated');
$refused->('1', qq{SELECT leyser.import_table('"Order ü"', columns => '$_');}, '22023', qr/HINT/, "columns $_") for '{}', '{note,note}';
$refused->('1', qq{$begin\n$begin}, 'LY008', qr/begun already.*HINT/s, 'two at once');
$refused->('1', qq{$begin
SELECT leyser.import_finish(:'staging'); SELECT leyser.import_finish(:'staging');}, '42P01', qr/does not exist/, 'finished twice');
$refused->('1', q{SELECT leyser.import_finish(NULL);}, 'LY008', qr/no import.*HINT/s, 'no staging table');
is_refused($node, qq{BEGIN; SELECT leyser.enter('1'); SELECT leyser.import_table('"Order ü"'); SELECT leyser.leave(); SELECT leyser.import_finish('"leyser_import_Order ü"')},
	'LY001', 'a context that was left', user => 'gateway');
is((import_as('1', qq{$begin
SELECT leyser.import_finish(:'staging');}))[0], '', 'an empty file is no error');

# Killed in the middle: nothing is there, and the same file gives the same end.
my $expected = rows(q{SELECT count(*) FROM "Order ü"}) + 30000;
my $good = $many =~ s/CASE .* END/g/r;
my $script = $node->basedir . '/import.sql';
append_to_file($script, "BEGIN; SELECT leyser.enter('1') \\g /dev/null\n$good SELECT leyser.import_finish(:'staging'), pg_sleep(10);\n");
for my $round (1 .. 3)
{
	my ($out, $err) = ('', '');
	my $process = IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('postgres') . ' user=gateway', '-f', $script ],
		'>', \$out, '2>', \$err);

	$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ 'import_finish' AND state = 'active' AND pid <> pg_backend_pid()})
	  or die 'it does not begin';
	select(undef, undef, undef, 0.03 * $round * $round);
	kill 'KILL', rows(q{SELECT pid FROM pg_stat_activity WHERE query ~ 'import_finish' AND pid <> pg_backend_pid()});
	$process->finish;
	wait_for_server($node);
	is(rows(q{SELECT count(*) FROM "Order ü"}), $expected - 30000, "killed, round $round: no row is there");
}
is(rows(q{SELECT count(*) FROM leyser.purge_plan('1') WHERE relation::text ~ 'import'}), '0', 'a purge has nothing to look for');
is((import_as('1', $good . q{SELECT leyser.import_finish(:'staging');}))[0], '', 'again');
is(rows(q{SELECT count(*) FROM "Order ü"}), $expected, '... with the same end');

# Long names that begin alike, in one transaction.
my @long = map { "a_table_whose_name_takes_all_the_room_that_there_is_for_it_$_" } 'one', 'two';
$node->safe_psql('postgres', qq{CREATE TABLE $_ (tenant_id bigint NOT NULL, n int); SELECT leyser.protect('$_'); GRANT INSERT, SELECT ON $_ TO gateway},
	extra_params => [ '-U', 'owner' ]) for @long;
my ($both, $told) = import_as('1', join "\n", map { qq{SELECT leyser.import_table('$_') AS staging \\gset\nINSERT INTO :staging VALUES (1);} } @long);
is($both, '', 'two imports into tables with long names') or diag($told);

$node->stop;
done_testing();
