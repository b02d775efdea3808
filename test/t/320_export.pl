# One tenant is handed over: its rows leave by psql and by pg_dump, by a role that is
# no superuser, and come into another cluster, equal row by row.  Not one row of
# another tenant is in the files.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use IPC::Run;
use Test::More;

local $ENV{PGCLIENTENCODING} = 'UTF8';

# Names with quotes, spaces, Japanese, a line break; columns that were dropped, that
# are generated or numbered; keys that refer up, to themselves, and in a circle.
my $schema = q{
	CREATE ROLE shop_owner;
	CREATE SCHEMA "店 ""x""" AUTHORIZATION shop_owner;
	CREATE SCHEMA shop AUTHORIZATION shop_owner;
	SET ROLE shop_owner;
	CREATE TABLE shop.country (code text PRIMARY KEY, name text);
	CREATE TABLE shop.zz_customer (gone int, tenant_id text NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY, name text,
		country text REFERENCES shop.country, upper_name text GENERATED ALWAYS AS (upper(name)) STORED NOT NULL,
		PRIMARY KEY (tenant_id, id));
	ALTER TABLE shop.zz_customer DROP COLUMN gone;
	CREATE TABLE "店 ""x"""."注文 '1'" ("テナント ""id""" text NOT NULL, "no." int, "cu st" bigint, parent int, body jsonb, at timestamptz, raw bytea,
		PRIMARY KEY ("テナント ""id""", "no."),
		FOREIGN KEY ("テナント ""id""", "cu st") REFERENCES shop.zz_customer,
		FOREIGN KEY ("テナント ""id""", parent) REFERENCES "店 ""x"""."注文 '1'");
	CREATE TABLE shop.aa_line (tenant_id text NOT NULL, "order" int NOT NULL, day date NOT NULL, gone int, "line
break" text,
		FOREIGN KEY (tenant_id, "order") REFERENCES "店 ""x"""."注文 '1'") PARTITION BY RANGE (day);
	ALTER TABLE shop.aa_line DROP COLUMN gone;
	CREATE TABLE shop.line_1 PARTITION OF shop.aa_line FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
	CREATE TABLE shop.line_2 (day date NOT NULL, "line
break" text, tenant_id text NOT NULL, "order" int NOT NULL);
	ALTER TABLE shop.aa_line ATTACH PARTITION shop.line_2 FOR VALUES FROM ('2026-07-01') TO ('2027-01-01');
	CREATE TABLE shop.base (tenant_id text NOT NULL, note text);
	CREATE TABLE shop.derived (extra numeric[]) INHERITS (shop.base);
	CREATE TABLE shop.template (tenant_id text, body text);
	CREATE TABLE shop.ring_1 (tenant_id text NOT NULL, n int, m int, PRIMARY KEY (tenant_id, n));
	CREATE TABLE shop.ring_2 (tenant_id text NOT NULL, m int, n int, PRIMARY KEY (tenant_id, m),
		FOREIGN KEY (tenant_id, n) REFERENCES shop.ring_1 DEFERRABLE);
	ALTER TABLE shop.ring_1 ADD FOREIGN KEY (tenant_id, m) REFERENCES shop.ring_2 DEFERRABLE;
	CREATE TABLE shop.queue (id int, payload jsonb);
	CREATE TABLE shop."break
er" (tenant_id text NOT NULL, n int);
	-- rows that a policy of the table's own hides from the exporter
	CREATE TABLE shop.secret (tenant_id text NOT NULL, note text);
	ALTER TABLE shop.secret ENABLE ROW LEVEL SECURITY;
	CREATE POLICY mine ON shop.secret USING (note !~ 'hidden' OR current_user <> 'shop_exporter');
	CREATE TABLE shop.legal (tenant_id text, note text);
	RESET ROLE;
};
my $kinds = q{
	SELECT leyser.protect(t::regclass) FROM unnest(ARRAY['shop.zz_customer', 'shop.aa_line', 'shop.base', 'shop.ring_1', 'shop.ring_2', E'shop."break\ner"', 'shop.secret']) t;
	SELECT leyser.protect('"店 ""x"""."注文 ''1''"', tenant_column => 'テナント "id"');
	SELECT leyser.protect('shop.template', kind => 'own_and_global');
	SELECT leyser.declare_table('shop.country', 'shared', 'reference data');
	SELECT leyser.declare_table('shop.queue', 'by_rule', 'a queue', purge_condition => 'payload ->> ''tenant'' = $1');
	SELECT leyser.declare_table('shop.legal', 'retained', 'tax law');
	SELECT leyser.create_permission('line.read', 'read lines');
	SELECT leyser.set_permissions('shop.aa_line', read_permission => 'line.read');
	INSERT INTO shop.country VALUES ('JP', '日本');
};

my $source = new_node('source');
my $target = new_node('target');
for my $node ($source, $target)
{
	$node->safe_psql('postgres', $schema);
	$node->safe_psql('postgres', $kinds);
}
# each row of a tenant carries its mark
$source->safe_psql('postgres', q{
	SELECT leyser.create_tenant(t) FROM unnest(ARRAY['acme', 'globex', 'it''s "テ"']) t;
	CREATE FUNCTION mark(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'MARK' || left(md5(t), 12) $$;
	DO $$
	DECLARE
		t text;
	BEGIN
		SET CONSTRAINTS ALL DEFERRED;
		FOREACH t IN ARRAY ARRAY['acme', 'globex', 'it''s "テ"'] LOOP
			INSERT INTO shop.zz_customer (tenant_id, name, country) SELECT t, mark(t) || E'\ttab\\ ' || i, 'JP' FROM generate_series(1, 3000) i;
			INSERT INTO "店 ""x"""."注文 '1'" SELECT t, i, (SELECT min(id) FROM shop.zz_customer WHERE tenant_id = t) + i, nullif(2999 - i, 0),
				jsonb_build_object('v', mark(t), 'n', E'\n'), '2026-05-05 00:00Z'::timestamptz + make_interval(secs => i / 7.0), convert_to(mark(t), 'UTF8') FROM generate_series(1, 2999) i;
			INSERT INTO shop.aa_line SELECT t, i, '2026-01-01'::date + i % 360, mark(t) FROM generate_series(1, 2999) i;
			INSERT INTO shop.base VALUES (t, mark(t));
			INSERT INTO shop.derived VALUES (t, mark(t), '{1.50,NULL}'), (t, NULL, '{}');
			INSERT INTO shop.template VALUES (t, mark(t)), (NULL, 'everybody');
			INSERT INTO shop.ring_1 VALUES (t, 1, 1), (t, 2, NULL);
			INSERT INTO shop.ring_2 VALUES (t, 1, 2), (t, 2, 1);
			INSERT INTO shop.queue SELECT i, jsonb_build_object('tenant', t, 'v', mark(t)) FROM generate_series(1, 5) i;
			INSERT INTO shop."break
er" VALUES (t, 7);
			INSERT INTO shop.secret VALUES (t, mark(t) || ' hidden'), (t, mark(t) || ' open');
			INSERT INTO shop.legal VALUES (t, mark(t));
		END LOOP;
	END $$;
	CREATE ROLE shop_exporter LOGIN;
	CREATE ROLE shop_operator LOGIN;
	GRANT USAGE ON SCHEMA shop, "店 ""x""" TO shop_exporter;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	SELECT leyser.grant_usage('shop_exporter', 'exporter'), leyser.grant_usage('shop_operator', 'operator');
});
$target->safe_psql('postgres', q{
	SELECT leyser.create_tenant(t) FROM unnest(ARRAY['acme', 'globex', 'it''s "テ"']) t;
	CREATE ROLE mover LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	GRANT USAGE ON SCHEMA shop, "店 ""x""" TO mover;
	GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA shop, "店 ""x""" TO mover;
	SELECT leyser.grant_usage('mover', 'gateway');
});

my %condition = (
	'shop.zz_customer' => 'tenant_id', '"店 ""x"""."注文 \'1\'"' => '"テナント ""id"""', 'shop.aa_line' => 'tenant_id',
	'ONLY shop.base' => 'tenant_id', 'shop.derived' => 'tenant_id', 'shop.template' => 'tenant_id', 'shop.ring_1' => 'tenant_id',
	'shop.ring_2' => 'tenant_id', 'shop.queue' => "payload ->> 'tenant'", "shop.\"break\ner\"" => 'tenant_id', 'shop.secret' => 'tenant_id');

# A digest of one tenant's rows in a table, and their number.
sub rows_of
{
	my ($node, $table, $tenant) = @_;

	return $node->safe_psql('postgres', qq{SELECT count(*), md5(string_agg(r, E'\\n' ORDER BY r)) FROM
		(SELECT t::text AS r FROM $table t WHERE $condition{$table} = } . $node->safe_psql('postgres', "SELECT quote_literal(\$\$$tenant\$\$)") . ') q');
}

# psql as it is typed, with a script; gives its exit code and what it said.
sub run_psql
{
	my ($node, $role, $folder, $script, @options) = @_;
	my ($stdout, $stderr) = ('', '');

	my $run = IPC::Run::run([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres'), '-U', $role, @options ],
		'<', \$script, '>', \$stdout, '2>', \$stderr, init => sub { chdir $folder or die "could not enter $folder" });
	return ($run, $stdout, $stderr);
}

# What must not be in a tenant's files: the marks of others, and of rows of everybody.
sub others
{
	my ($tenant) = @_;

	return $source->safe_psql('postgres', qq{SELECT string_agg(mark(t) || '|' || encode(convert_to(mark(t), 'UTF8'), 'hex'), '|')
		FROM unnest(ARRAY['acme', 'globex', 'it''s "テ"']) t WHERE t <> } . "\$\$$tenant\$\$");
}

my $exporter = [ '-U', 'shop_exporter' ];
sub as_exporter
{
	my ($sql) = @_;

	return $source->safe_psql('postgres', $sql, extra_params => $exporter);
}

is_refused($source, q{SELECT count(*) FROM leyser.export_rows(NULL::shop.zz_customer)}, '42501', 'nothing is read without a window', user => 'shop_exporter');
$source->safe_psql('postgres', 'GRANT SELECT ON shop.zz_customer, shop.aa_line, shop.base TO shop_exporter');
is_refused($source, q{BEGIN READ ONLY; SELECT count(*) FROM shop.zz_customer}, 'LY001', '... not through the tables either', user => 'shop_exporter');

# Every tenant, one after the other.
my $plan = 'SELECT %s FROM leyser.export_plan(:\'tenant\') WHERE copy_command IS NOT NULL ORDER BY step';
foreach my $tenant ('acme', q{it's "テ"})
{
	my $folder = PostgreSQL::Test::Utils::tempdir;
	my ($ok, $stdout, $stderr) = run_psql($source, 'shop_exporter', $folder,
		q{SELECT leyser.open_export(:'tenant', '1 hour', 'contract ends') \g /dev/null
		\t on
		\pset format unaligned
		} . sprintf($plan, 'copy_command') . q{ \g export.psql
		} . sprintf($plan, 'import_command') . q{ \g import.psql
		BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
		\i export.psql
		COMMIT;
		SELECT leyser.close_export() \g /dev/null
		}, '-v', "tenant=$tenant");
	ok($ok, "tenant $tenant is exported") or diag($stderr);

	my $marks = others($tenant);
	my @files = grep { !/psql$/ } glob("$folder/*");
	cmp_ok(scalar(@files), '==', keys %condition, '... to a file for each table');
	my @with_others = grep { slurp_file($_) =~ /$marks|everybody/ } @files;
	is("@with_others", '', '... in which nothing is another tenant\'s');
	my $mark = $source->safe_psql('postgres', "SELECT mark(\$\$$tenant\$\$)");
	cmp_ok(scalar(grep { slurp_file($_) =~ /$mark/ } @files), '==', 8, '... and its own is there');

	($ok, $stdout, $stderr) = run_psql($target, 'mover', $folder,
		q{BEGIN;
		SELECT leyser.enter(:'tenant') \g /dev/null
		SET CONSTRAINTS ALL DEFERRED;
		\i import.psql
		COMMIT;
		}, '-v', "tenant=$tenant");
	ok($ok, '... and imported in its context on another cluster') or diag($stderr);
	foreach my $table (sort keys %condition)
	{
		is(rows_of($target, $table, $tenant), rows_of($source, $table, $tenant), '... equal row by row: ' . $table =~ s/\n/ /r);
	}
}

# pg_dump as it is: the window is the role's, so it needs no statement of its own.
my $folder = PostgreSQL::Test::Utils::tempdir;
my @dump = ('pg_dump', '-U', 'shop_exporter', '--enable-row-security', '--data-only', '--inserts', '-f', "$folder/globex.sql",
	(map { ('-t', $_) } qw(shop.zz_customer shop.aa_line shop.line_1 shop.line_2 shop.base shop.derived)), $source->connstr('postgres'));
$source->safe_psql('postgres', 'GRANT SELECT ON shop.line_1, shop.line_2, shop.derived TO shop_exporter;
	GRANT SELECT ON ALL SEQUENCES IN SCHEMA shop TO shop_exporter');
$source->command_fails_like(\@dump, qr/the export window has ended/, 'pg_dump gets nothing without a window');
as_exporter(q{SELECT leyser.open_export('globex', '1 hour')});
$source->command_ok(\@dump, 'pg_dump --enable-row-security exports a tenant');
my $others = others('globex');
unlike(slurp_file("$folder/globex.sql"), qr/$others/, '... and nothing of another');
# the orders are none of this dump
$target->safe_psql('postgres', 'ALTER ROLE shop_owner LOGIN; ALTER TABLE shop.aa_line DROP CONSTRAINT aa_line_tenant_id_order_fkey');
my ($ok, $stdout, $stderr) = run_psql($target, 'mover', $folder,
	q{SELECT leyser.issue_token('globex') \g (tuples_only format=unaligned) token});
($ok, $stdout, $stderr) = run_psql($target, 'shop_owner', $folder,
	q{\set token `cat token`
	BEGIN;
	SELECT set_config('leyser.token', :'token', true) \g /dev/null
	\o /dev/null
	\i globex.sql
	COMMIT;
	});
ok($ok, '... which the owner imports in the tenant\'s context') or diag($stderr);
foreach my $table ('shop.zz_customer', 'shop.aa_line', 'ONLY shop.base', 'shop.derived')
{
	is(rows_of($target, $table, 'globex'), rows_of($source, $table, 'globex'), "... equal row by row: $table");
}

$_->stop for $source, $target;
done_testing();
