# AdoptedSchema.pm
#
# A schema that somebody else made, of many tables and foreign keys, with its rows:
# that of Debian's package zabbix-server-pgsql, whose server is never started.  How it
# is loaded for two tenants, adopted, and looked at.

package AdoptedSchema;

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

use Exporter qw(import);
our @EXPORT = qw(adopted_node schema_dump load_tenants add_root_columns drop_root_columns tables_with_column children_without_column
  adopt_children declare_rest start_load finish_load gaps_are_noted each_table_separates);

my $folder = '/usr/share/zabbix-server-pgsql';

# Tables without rows of any tenant, and what they are.
my %shared = (
	dbversion => 'the version of the schema',
	ids => 'the next ids',
	graph_theme => 'colours',
	ha_node => 'servers',
	config_autoreg_tls => 'a setting of the installation',
	globalvars => 'a state of the installation',
	housekeeper => 'what the installation is to delete');

# A node with the schema and its rows in database "adopted", and leyser.
sub adopted_node
{
	my ($name, %options) = @_;
	my $node = new_node($name, conf => "fsync = on\nrestart_after_crash = on\nlog_lock_waits = on\ndeadlock_timeout = 1s\nlog_statement = none\n"
		  . ($options{conf} // ''));

	$node->safe_psql('postgres', 'CREATE DATABASE adopted');
	for my $file (qw(schema images data))
	{
		system_or_bail('sh', '-c', "zcat $folder/$file.sql.gz | psql -XqAt -v ON_ERROR_STOP=1 -d '"
			  . $node->connstr('adopted') . "' > /dev/null");
	}
	return $node;
}

sub schema_dump
{
	my ($node, $file) = @_;

	system_or_bail('pg_dump', '--schema-only', '--schema=public', '-d', $node->connstr('adopted'), '-f', $file);
	# a word of this call's own
	return join "\n", grep { !/^\\(un)?restrict / } split(/\n/, slurp_file($file));
}

# Tenant "a" has the rows that came with the schema, tenant "b" has them again, with
# other ids and names; where nothing came, each gets a row.  Tenant "b"'s ids are
# above $offset: so the test knows whose a row is, whatever leyser says.
our $offset = 1_000_000_000_000;

sub load_tenants
{
	my ($node) = @_;

	$node->safe_psql('adopted', loading_functions() . qq{
		SET session_replication_role = replica;
		SELECT copy_rows(t, $offset) FROM own_tables() t;
		SELECT make_row(t, n) FROM own_tables() t, unnest('{1000000,${\ ($offset + 1000000)}}'::bigint[]) n;
		RESET session_replication_role;
		DROP FUNCTION copy_rows, make_row, own_tables, shifted_columns;
		ANALYZE;
	});
	# nobody looked at the foreign keys meanwhile
	my $dangling = $node->safe_psql('adopted', q{
		SELECT string_agg(format('SELECT count(*) FROM %s c WHERE c.%I IS NOT NULL AND NOT EXISTS (SELECT FROM %s p WHERE p.%I = c.%2$I)',
			c.conrelid::regclass, a.attname, c.confrelid::regclass, p.attname), ' UNION ALL ')
		FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = conkey[1]
		JOIN pg_attribute p ON p.attrelid = confrelid AND p.attnum = confkey[1] WHERE contype = 'f'});
	is($node->safe_psql('adopted', "SELECT sum(count) FROM ($dangling) d"), '0', 'both tenants\' rows are whole');
	return;
}

sub shared_list
{
	return join ', ', map { "'$_'" } sort keys %shared;
}

sub loading_functions
{
	my $shared = shared_list();

	return qq{
		CREATE FUNCTION own_tables() RETURNS SETOF regclass LANGUAGE sql AS \$\$
			SELECT oid::regclass FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
				AND relname NOT IN ($shared) ORDER BY oid \$\$;
		} . q{
		-- numbers that are keys: shifted as a whole, they refer to each other as before
		CREATE FUNCTION shifted_columns(t regclass) RETURNS smallint[] LANGUAGE sql AS $$
			SELECT array_agg(DISTINCT a.attnum) FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = t AND a.attnum = ANY (c.conkey)
			WHERE c.conrelid = t AND c.contype IN ('p', 'f') AND a.atttypid = 'bigint'::regtype $$;
		CREATE FUNCTION copy_rows(t regclass, shift bigint) RETURNS void LANGUAGE plpgsql AS $$
		DECLARE
			list text;
			chosen text;
		BEGIN
			SELECT string_agg(quote_ident(a.attname), ', '), string_agg(CASE
					WHEN a.attnum = ANY (shifted_columns(t)) THEN format('%I + %s', a.attname, shift)
					WHEN a.atttypid IN ('varchar'::regtype, 'text'::regtype) AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = t AND i.indisunique
						AND a.attnum = ANY (i.indkey) AND NOT (string_to_array(i.indkey::text, ' ')::smallint[] && coalesce(shifted_columns(t), '{}')))
						THEN format('%I || ''~''', a.attname)
					ELSE quote_ident(a.attname) END, ', ') INTO list, chosen
				FROM pg_attribute a WHERE a.attrelid = t AND a.attnum > 0;
			EXECUTE format('INSERT INTO %s (%s) SELECT %s FROM %1$s', t, list, chosen);
		END $$;
		-- a row in which every key is n, text too
		CREATE FUNCTION make_row(t regclass, n bigint) RETURNS void LANGUAGE plpgsql AS $$
		DECLARE
			list text;
			chosen text;
		BEGIN
			SELECT string_agg(quote_ident(a.attname), ', '), string_agg(CASE
					WHEN a.attnum = ANY (shifted_columns(t)) THEN n::text
					WHEN a.atttypid IN ('varchar'::regtype, 'text'::regtype) THEN quote_literal(left(n::text, 14))
					WHEN a.atttypid = 'bytea'::regtype THEN '''x'''
					ELSE (n % 1000)::text END, ', ') INTO list, chosen
				FROM pg_attribute a
				WHERE a.attrelid = t AND a.attnum > 0 AND (a.attnotnull AND NOT a.atthasdef OR EXISTS (
					SELECT FROM pg_index i WHERE i.indrelid = t AND i.indisunique AND a.attnum = ANY (i.indkey) AND a.atttypid <> 'integer'::regtype));
			EXECUTE format('INSERT INTO %s (%s) VALUES (%s)', t, list, chosen);
		END $$;
	};
}

# What tells tenant "a"'s rows of table r by their keys, as SQL that makes SQL.
my $is_first = qq{(SELECT CASE WHEN a.atttypid = 'bigint'::regtype THEN format('%I < $offset', a.attname)
		ELSE format('length(%1\$I) < 10 AND %1\$I !~ ''~\$''', a.attname) END
	FROM pg_attribute a LEFT JOIN pg_constraint c ON c.conrelid = a.attrelid AND a.attnum = ANY (c.conkey) AND c.contype IN ('p', 'f')
	WHERE a.attrelid = r.oid AND (a.atttypid = 'bigint'::regtype OR c.contype = 'p')
	ORDER BY c.oid IS NULL, a.atttypid <> 'bigint'::regtype, a.attnum LIMIT 1)};

# Tables to which no foreign key leads that must have a parent get the column by hand.
sub add_root_columns
{
	my ($node) = @_;
	my $shared = shared_list();

	$node->safe_psql('adopted', qq{
		DO \$\$
		DECLARE
			root record;
		BEGIN
			FOR root IN SELECT r.oid::regclass AS name, $is_first AS is_first FROM pg_class r
					WHERE r.relnamespace = 'public'::regnamespace AND r.relkind = 'r' AND r.relname NOT IN ($shared)
					AND NOT EXISTS (SELECT FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
						WHERE c.conrelid = r.oid AND c.contype = 'f' AND c.confrelid <> r.oid AND a.attnotnull) LOOP
				EXECUTE format('ALTER TABLE %s ADD COLUMN tenant_id text', root.name);
				EXECUTE format('UPDATE %s SET tenant_id = CASE WHEN %s THEN ''a'' ELSE ''b'' END', root.name, root.is_first);
			END LOOP;
		END \$\$;
	});
	return;
}

# The tables that have the column.
sub tables_with_column
{
	my ($node) = @_;

	return $node->safe_psql('adopted', q{SELECT r.oid::regclass FROM pg_class r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attname = 'tenant_id'
		WHERE r.relnamespace = 'public'::regnamespace AND r.relkind = 'r' ORDER BY 1});
}

sub drop_root_columns
{
	my ($node) = @_;

	$node->safe_psql('adopted', join "\n", map { "ALTER TABLE $_ DROP COLUMN tenant_id;" } split /\n/, tables_with_column($node));
	return;
}

# Of those tables that have none: with a foreign key that must have a parent, and
# whose parent has it.
sub children_without_column
{
	my ($node) = @_;

	return map { [ split /\|/ ] } split /\n/, $node->safe_psql('adopted', q{
		SELECT DISTINCT ON (c.conrelid::regclass::text) c.conrelid::regclass, c.conname FROM pg_constraint c
		JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1] AND a.attnotnull
		JOIN pg_attribute t ON t.attrelid = c.confrelid AND t.attname = 'tenant_id'
		WHERE c.contype = 'f' AND c.connamespace = 'public'::regnamespace AND NOT EXISTS (
			SELECT FROM pg_attribute o WHERE o.attrelid = c.conrelid AND o.attname = 'tenant_id')
		ORDER BY c.conrelid::regclass::text, c.conname});
}

# Generation by generation.
sub adopt_children
{
	my ($node) = @_;
	my $count = 0;

	while (my @children = children_without_column($node))
	{
		$node->safe_psql('adopted', join "\n", map { "CALL leyser.add_tenant_column('$_->[0]', '$_->[1]');" } @children);
		$count += @children;
	}
	return $count;
}

sub declare_rest
{
	my ($node) = @_;

	$node->safe_psql('adopted', join ';', map { "SELECT leyser.declare_table('$_', 'shared', '$shared{$_}')" } sort keys %shared);
	return;
}

# Applications that read and write all the time.  They have a context from the start,
# as one that is to be adopted has; none of them names a child's tenant.
my $load = <<'EOS';
\set item random(1, 3000)
\set id random(2000000, 900000000)
BEGIN;
SELECT leyser.enter('a');
SELECT count(*) FROM items i JOIN hosts h USING (hostid) WHERE i.itemid = 40000 + :item;
UPDATE items SET params = params WHERE itemid = 40000 + :item;
INSERT INTO item_tag (itemtagid, itemid, tag) SELECT :id, itemid, 'load' FROM items WHERE itemid BETWEEN 40000 + :item AND 43000 ORDER BY itemid LIMIT 1 ON CONFLICT DO NOTHING;
INSERT INTO events (eventid, tenant_id, name) VALUES (:id, 'a', 'load') ON CONFLICT DO NOTHING;
INSERT INTO problem (eventid, name) VALUES (:id, 'load') ON CONFLICT DO NOTHING;
COMMIT;
BEGIN;
SELECT leyser.enter('a');
UPDATE problem SET acknowledged = 1 WHERE eventid = :id;
DELETE FROM item_tag WHERE itemtagid = :id AND tag = 'load';
DELETE FROM events WHERE eventid = :id AND name = 'load';
COMMIT;
EOS

sub start_load
{
	my ($node, $clients) = @_;
	my $directory = PostgreSQL::Test::Utils::tempdir();
	my %load = (errors => "$directory/errors");

	append_to_file("$directory/script", $load);
	$load{run} = IPC::Run::start(
		[
			'pgbench', '-n', '-c', $clients, '-j', 1, '-R', 100, '-T', 3600, '-f', "$directory/script",
			'-U', 'service', '-h', $node->host, '-p', $node->port, 'adopted'
		],
		'>', '/dev/null', '2>', $load{errors});
	return \%load;
}

# One test each: no statement failed, and nobody waited long for a lock.
sub finish_load
{
	my ($node, $load, $position) = @_;
	my $running = $load->{run}->pumpable;
	my $done = $node->safe_psql('adopted', q{SELECT pg_stat_get_db_xact_commit(oid) > 100 FROM pg_database WHERE datname = 'adopted'});

	$load->{run}->signal('TERM');
	eval { $load->{run}->finish; };
	my @errors = grep { /error/i && !/terminating|administrator/ } split /\n/, slurp_file($load->{errors});
	is("@errors", '', 'no statement of the load failed');
	is($done, 't', '... and it did a lot');
	my @waits = grep { /service\@adopted.*still waiting/ } split /\n/, log_since($node, $position);
	is("@waits", '', 'nobody waited for a lock for a second');
	return;
}

# One test each: what view governed_table says is missing.
sub gaps_are_noted
{
	my ($node) = @_;

	is($node->safe_psql('adopted', q{SELECT relation, g FROM leyser.governed_table, unnest(gaps) g
		WHERE g !~ '^unique index'}), '', 'no gap remains, save unique indexes that are what they were');
	is($node->safe_psql('adopted', q{SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
		AND oid NOT IN (SELECT relation FROM leyser.governed_table WHERE kind IS NOT NULL)}), '0', 'every table has a kind');
	return;
}

# A generated test of every table: in a tenant's context its rows and no other's, by
# the ids, which leyser knows nothing of.
sub each_table_separates
{
	my ($node) = @_;
	my @tables = map { [ split /\|/ ] } split /\n/, $node->safe_psql('adopted', qq{
		SELECT t.relation, $is_first FROM leyser.governed_table t JOIN pg_class r ON r.oid = t.relation
		WHERE t.kind = 'own' ORDER BY t.relation::text});
	my @looks = map { "SELECT '$_->[0]' AS name, count(*) FILTER (WHERE $_->[1]) AS a, count(*) FILTER (WHERE NOT ($_->[1])) AS b FROM $_->[0]" } @tables;
	my $looks = join ' UNION ALL ', @looks;
	my %seen;

	for my $tenant (qw(a b))
	{
		my $other = $tenant eq 'a' ? 'b' : 'a';

		$seen{$tenant} = $node->safe_psql('adopted', "BEGIN; SELECT FROM leyser.enter('$tenant'); SELECT string_agg(name, ' ') FROM ($looks) l WHERE $other > 0",
			extra_params => [ '-U', 'service' ]);
		is($seen{$tenant}, '', "no table shows tenant $tenant a row of tenant $other");
		is($node->safe_psql('adopted', "BEGIN; SELECT FROM leyser.enter('$tenant'); SELECT count(*), sum($tenant) FROM ($looks) l WHERE $tenant > 0", extra_params => [ '-U', 'service' ]),
			$node->safe_psql('adopted', "SELECT count(*), sum($tenant) FROM ($looks) l"), "... and each all of tenant $tenant\'s");
	}
	return scalar @tables;
}

1;
