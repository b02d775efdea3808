# The way out.  What protect() and all the rest changed is put back: the schema is what
# it was, the extension goes with everything in place.  And plain row security can be
# left behind, behind which the same statements see and do the same.

use strict;
use warnings;

use IPC::Run;
use LeyserTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('node', extension => 0);
my $has_cron = slurp_file($node->data_dir . '/postgresql.conf') =~ /leyser,pg_cron/;
# quotes, spaces, Unicode and a line break in every kind of name; policies, defaults
# and row security of the tables' own
$node->safe_psql('postgres', q{
	CREATE ROLE "the 'owner'" LOGIN;
	CREATE ROLE "the ""app""" LOGIN;
	CREATE ROLE operator LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	CREATE SCHEMA "S ""1""" AUTHORIZATION "the 'owner'";
	GRANT USAGE ON SCHEMA "S ""1""" TO PUBLIC;
	SET ROLE "the 'owner'";
	SET search_path = "S ""1""";
	CREATE FUNCTION "f 'x'"() RETURNS bigint LANGUAGE sql RETURN 7;
	CREATE TABLE "注文 ""'%s" ("テナント '""%I" text NOT NULL DEFAULT 'acme\'::text || '"', n int);
	COMMENT ON TABLE "注文 ""'%s" IS 'a comment';
	CREATE TABLE numbered (tenant_id bigint NOT NULL DEFAULT "f 'x'"(), n int, PRIMARY KEY (tenant_id, n));
	CREATE TABLE named (tenant_id uuid NOT NULL, "n
n" int);
	ALTER TABLE named ENABLE ROW LEVEL SECURITY;
	CREATE POLICY tenant ON named FOR SELECT USING (true);
	CREATE POLICY "his ""own"" 'policy'" ON named TO "the ""app""" USING ("n
n" < 100);
	CREATE TABLE forced (tenant_id varchar(40) NOT NULL, n int);
	ALTER TABLE forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
	CREATE POLICY all_rows ON forced USING (true);
	CREATE TABLE half (tenant_id text NOT NULL DEFAULT 'x', n int);
	ALTER TABLE half FORCE ROW LEVEL SECURITY;
	CREATE TABLE template (tenant_id text, n int);
	CREATE TABLE part (tenant_id int NOT NULL, n int) PARTITION BY LIST (n);
	CREATE TABLE part_1 PARTITION OF part (tenant_id DEFAULT 1) FOR VALUES IN (1);
	CREATE TABLE part_2 PARTITION OF part FOR VALUES IN (2) PARTITION BY HASH (tenant_id);
	CREATE TABLE part_2a PARTITION OF part_2 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
	CREATE TABLE base (tenant_id text NOT NULL, n int);
	CREATE TABLE child (extra int) INHERITS (base);
	CREATE TABLE country (code text PRIMARY KEY, name text);
	CREATE TABLE queue (tenant text, n int);
	CREATE TABLE legal (n int);
	CREATE TABLE observed (tenant_id text DEFAULT 'nobody', n int);
	CREATE TABLE site (tenant_id text NOT NULL, "the host" text UNIQUE);
	GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "S ""1""" TO "the ""app""";
	RESET ROLE;
});
# ids that fit every type are uuids, numbers or words
my %tenants = (numbered => [ 1, 2 ], part => [ 1, 2 ], named => [ map { "$_" x 8 . '-0000-4000-8000-000000000000' } 1, 2 ]);
my @tables = ('"注文 ""\'%s"', qw(numbered named forced half template part part_1 base child));
my %column = ($tables[0] => '"テナント \'""%I"', map { $_ => 'tenant_id' } @tables[ 1 .. $#tables ]);
my %number = (named => "\"n\nn\"");

sub ids
{
	my ($table) = @_;

	return @{ $tenants{ $table =~ s/_1$//r } // [ "ac'me", 'glo"bex' ] };
}

sub fill
{
	foreach my $table (@tables)
	{
		my $n = $number{$table} // 'n';
		foreach my $id (ids($table))
		{
			$id =~ s/'/''/g;
			$node->safe_psql('postgres', qq{INSERT INTO "S ""1""".$table ($column{$table}, $n) SELECT '$id', i FROM generate_series(1, } . ($table =~ /part/ ? 1 : 3) . ') i');
		}
	}
	$node->safe_psql('postgres', q{INSERT INTO "S ""1""".template VALUES (NULL, 9); INSERT INTO "S ""1""".country VALUES ('JP')});
	return;
}

sub schema_of
{
	my ($stdout, $stderr);

	IPC::Run::run([ 'pg_dump', '-s', '--exclude-schema=cron', $node->connstr('postgres') ], '>', \$stdout, '2>', \$stderr) or die $stderr;
	$stdout =~ s/^\\(un)?restrict .*$//mg;
	return $stdout;
}
fill();
$node->safe_psql('postgres', 'CREATE EXTENSION pgcrypto');
$node->safe_psql('postgres', 'CREATE EXTENSION pg_cron') if $has_cron;
my $before = schema_of();
like($before, qr/FORCE ROW LEVEL SECURITY/, 'there is row security of the tables\' own');

# ---- everything in place ----
create_extension($node, 'postgres');
$node->safe_psql('postgres', q{
	SELECT leyser.grant_usage('operator', 'operator'), leyser.grant_usage('"the ""app"""', 'gateway');
	SELECT leyser.create_tenant(t) FROM unnest(ARRAY['1', '2', 'ac''me', 'glo"bex', '11111111-0000-4000-8000-000000000000', '22222222-0000-4000-8000-000000000000']) t;
	SET search_path = "S ""1""";
	SELECT leyser.protect('"注文 ""''%s"', tenant_column => 'テナント ''"%I');
	SELECT leyser.protect(t::regclass) FROM unnest('{numbered,named,forced,half,part,base}'::text[]) t;
	SELECT leyser.protect('template', kind => 'own_and_global');
	SELECT leyser.declare_table('country', 'shared', 'reference'), leyser.declare_table('legal', 'retained', 'tax law'),
		leyser.declare_table('queue', 'by_rule', 'queue', purge_condition => E'tenant = $1\n');
	SELECT leyser.create_permission('base.read', 'read');
	SELECT leyser.set_permissions('base', read_permission => 'base.read');
	SELECT leyser.set_permissions('base', read_permission => '');
	SELECT leyser.set_permissions('half', write_permission => 'base.read');
	SELECT leyser.protect('numbered', set_default => false);
	SELECT leyser.protect('numbered', set_default => true);
	SELECT leyser.protect('observed', enforcement => 'observe'), leyser.protect('site');
	SELECT leyser.create_lookup('tenant of "host"', 'site', '{the host}');
	-- came and went under protection
	CREATE TABLE part_3 PARTITION OF part FOR VALUES IN (3);
	ALTER TABLE part DETACH PARTITION part_3;
	DROP TABLE part_3;
});
$node->safe_psql('postgres', 'SELECT leyser.schedule()', extra_params => [ '-U', 'operator' ]) if $has_cron;
isnt(schema_of(), $before, 'protection is in the schema');

# ---- the same statements, with leyser's row security and with plain one ----
my ($enter, $missing);

# What a statement of the application does in a tenant: its result, or its SQLSTATE.
sub outcome
{
	my ($tenant, $sql) = @_;
	my ($stdout, $stderr);

	$tenant =~ s/'/''/g if defined $tenant;
	$node->psql('postgres', 'BEGIN; ' . (defined $tenant ? sprintf("$enter; ", $tenant) : '') . "$sql; ROLLBACK",
		stdout => \$stdout, stderr => \$stderr, extra_params => [ '-q', '-U', 'the "app"', '-v', 'VERBOSITY=verbose' ]);
	my ($sqlstate) = $stderr =~ /ERROR:  ([0-9A-Z]{5})/;
	return $sqlstate // ($stdout =~ s/^\n+//r);
}

sub all_outcomes
{
	my %outcome;

	foreach my $table (@tables, 'country')
	{
		my $column = $column{$table} // 'code';
		my $n = $number{$table} // ($table eq 'country' ? 'name' : 'n');
		my $name = "\"S \"\"1\"\"\".$table";
		my ($one, $two) = ids($table);
		my $other = $two =~ s/'/''/gr;
		my @statements = (
			"SELECT string_agg(concat_ws(':', $column, $n), ',' ORDER BY $column, $n) FROM $name",
			"SELECT count(*) FROM $name WHERE $column = '$other'",
			"INSERT INTO $name ($column, $n) VALUES ('$other', 1)",
			"INSERT INTO $name ($n) VALUES ('1') RETURNING $column",
			"WITH d AS (DELETE FROM $name RETURNING *) SELECT count(*) FROM d",
			"WITH u AS (UPDATE $name SET $n = $n RETURNING *) SELECT count(*) FROM u",
			"UPDATE $name SET $column = '$other'",
			"SELECT count(*) FROM $name a JOIN $name b USING ($column)");
		@statements = grep { !/DELETE|UPDATE|VALUES/ } @statements if $table eq 'country' || $table eq 'half';
		foreach my $sql (@statements)
		{
			foreach my $tenant ($one, $two)
			{
				$outcome{"$tenant: $sql"} = outcome($tenant, $sql);
			}
			my $nobody = outcome(undef, $sql);
			$missing->($sql, $nobody, $table);
		}
	}
	return \%outcome;
}

$enter = q{SELECT FROM leyser.enter('%s')};
$missing = sub {
	my ($sql, $nobody, $table) = @_;
	is($nobody, $sql =~ /^INSERT/ && $nobody eq '42501' ? '42501' : 'LY001', "without a context: $sql") if $table ne 'country';
};
my $with_leyser = all_outcomes();
cmp_ok(scalar(grep { $_ eq '42501' } values %$with_leyser), '>', 10, 'there are refusals to compare');
my $policies = $node->safe_psql('postgres', 'SELECT * FROM leyser.export_policies()', extra_params => [ '-U', 'operator' ]);
unlike($policies, qr/leyser/i, 'the plain policies need nothing of leyser');
is_refused($node, q{SELECT leyser.export_policies('other')}, '22023', 'one style is known');
is_refused($node, "SELECT leyser.export_policies(setting => $_)", '22023', "no setting: $_")
  for 'NULL', q{'app'}, q{'leyser.token'}, q{'a.b''c'}, q{E'a.b\n'};
is_refused($node, 'SELECT leyser.export_policies()', '42501', 'policies are the operator\'s', user => 'the "app"');

# ---- out ----
$node->safe_psql('postgres', q{SELECT leyser.suspend_protection('"S ""1""".forced', 'an incident', '1 hour')});
is_refused($node, 'SELECT leyser.unprotect_all()', '42501', 'so is the way out', user => 'the "app"');
is_refused($node, 'DROP EXTENSION leyser', 'LY007', 'first the tables');
my $session = open_session($node);
$session->query_safe('BEGIN; LOCK TABLE "S ""1""".part');
is_refused($node, 'SELECT leyser.unprotect_all()', '55P03', 'a table that is locked');
$session->query_safe('ROLLBACK');
$session->quit;
is($node->safe_psql('postgres', 'SELECT count(*) FROM leyser.governed_table WHERE kind IS NOT NULL'), 17, '... leaves all as they were');
is($node->safe_psql('postgres', 'SELECT leyser.unprotect_all()', extra_params => [ '-U', 'operator' ]), 17, 'one call takes all out');
is($node->safe_psql('postgres', 'SELECT leyser.unprotect_all()'), 0, '... and another one nothing');
is_refused($node, 'DROP EXTENSION leyser', '42501', 'who may not drop the extension', user => 'operator');
is($node->safe_psql('postgres', q{SELECT count(*) > 0 FROM cron.job WHERE jobname ~ 'leyser'}), 't', '... leaves its jobs alone') if $has_cron;
$node->safe_psql('postgres', 'DROP EXTENSION leyser');
is(schema_of(), $before, 'the schema is what it was');
is($node->safe_psql('postgres', q{SELECT count(*) FROM cron.job WHERE jobname ~ 'leyser'}), '0', 'pg_cron has no job any longer') if $has_cron;
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_event_trigger'), '0', 'there is no event trigger');
$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type ~ 'leyser' AND datname = 'postgres'});
pass('no worker stays in the database');
is($node->safe_psql('postgres', 'SELECT count(*) FROM "S ""1""".numbered'), '6', 'the rows are there');

# ---- plain row security ----
my $file = PostgreSQL::Test::Utils::tempdir . '/policies.sql';
append_to_file($file, "BEGIN;\n$policies\nCOMMIT;\n");
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', $file ], 'the plain policies are put up');
$enter = q{SELECT FROM set_config('app.tenant_id', '%s', true)};
# fails closed: nothing is seen, nothing written
$missing = sub {
	my ($sql, $nobody, $table) = @_;
	# rows of everybody are
	like($nobody, $table eq 'template' ? qr/\A(|9|[01]|42501|23502)\z/ : qr/\A(|0|42501|23502)\z/, "without the setting: $sql") if $table ne 'country';
};
is_deeply(all_outcomes(), $with_leyser, 'the same statements have the same outcomes');
is($node->safe_psql('postgres', q{BEGIN; SET LOCAL app.tenant_id = '1'; COMMIT; SELECT count(*) FROM "S ""1""".numbered}, extra_params => [ '-U', 'the "app"' ]), '0',
	'an emptied setting shows nothing, either');
is(outcome('1', q{WITH i AS (INSERT INTO "S ""1""".country VALUES ('XX') RETURNING 1) SELECT count(*) FROM i}), '42501', 'a shared table is read-only');
is($node->safe_psql('postgres', q{SET app.tenant_id = '2'; SELECT count(*) FROM "S ""1""".numbered}, extra_params => [ '-U', q{the 'owner'} ]), '3', 'the owner is bound, too');

$node->stop;
done_testing();
