# PurgeSchema.pm
#
# Random schemas for the tests of purges: tables of every kind, partitioned or not,
# tied by random foreign keys, with rows of three tenants and of nobody.  The model
# says of each row whether the tenant's purge must delete it; such rows, and no
# others, carry the schema's marker.

package PurgeSchema;

use strict;
use warnings;

use Exporter qw(import);
our @EXPORT = qw(random_schema schema_sql reference_sql stopping_references free_references
  rows_of_purged rows_of_others);

my @actions = ('NO ACTION', 'NO ACTION', 'CASCADE', 'SET NULL', 'RESTRICT');

sub pick { return $_[ int(rand(@_)) ] }
sub chance { return rand() < $_[0] }

# A schema: its name, the tenant that is purged (a number), the type of the tenants'
# column, tables and foreign keys.
sub random_schema
{
	my ($name, $tenant) = @_;
	my %schema = (
		name => $name,
		tenant => $tenant,
		marker => join('', map { pick('A' .. 'Z', 'a' .. 'z', 0 .. 9) } 1 .. 32),
		type => pick('text', 'varchar(30)', 'int', 'bigint', 'smallint'),
		tables => [],
		keys => []);

	for my $n (1 .. 3 + int(rand(7)))
	{
		my $kind = pick(('own') x 6, 'own_and_global', 'by_rule', 'by_rule', 'retained', 'undeclared');
		push @{ $schema{tables} },
		  {
			name => "$name.t$n",
			tenant => $tenant,
			kind => $kind,
			partitions => pick('none', 'none', 'hash', $kind eq 'own' ? 'list' : 'hash'),
			rows => int(rand(12))
		  };
	}
	for my $n (1 .. int(rand(2 * @{ $schema{tables} } + 1)))
	{
		my ($child, $parent) = (pick(@{ $schema{tables} }), pick(@{ $schema{tables} }));
		my $tied = $child->{kind} =~ /^own/ && $parent->{kind} =~ /^own/ && chance(0.7);

		# a list partition by tenant has no unique key without it
		next if !$tied && $parent->{partitions} eq 'list';
		my $action = pick(@actions);
		$action = 'NO ACTION' if $tied && $action eq 'SET NULL';
		push @{ $schema{keys} },
		  {
			name => "key$n",
			child => $child,
			parent => $parent,
			tied => $tied,
			action => $action,
			deferred => chance(0.2) ? 'DEFERRABLE INITIALLY ' . pick('DEFERRED', 'IMMEDIATE') : ''
		  };
	}
	return \%schema;
}

sub table_sql
{
	my ($schema, $table) = @_;
	my ($name, $part) = @$table{qw(name partitions)};
	my $not_null = $table->{kind} eq 'own' ? 'NOT NULL' : '';
	my $unique = $part eq 'list' ? '' : ', UNIQUE (id)';
	my $by = { none => '', hash => ' PARTITION BY HASH (id)', list => ' PARTITION BY LIST (tid)' }->{$part};
	my $columns = join('', map { ", $_->{name} int" } grep { $_->{child} == $table } @{ $schema->{keys} });
	my $sql = "CREATE TABLE $name (tid $schema->{type} $not_null, id int NOT NULL, note text$columns, UNIQUE (tid, id)$unique)$by;\n";

	$sql .= join('', map { "CREATE TABLE ${name}_$_ PARTITION OF $name FOR VALUES WITH (MODULUS 3, REMAINDER $_);\n" } 0 .. 2)
	  if $part eq 'hash';
	$sql .= "CREATE TABLE ${name}_1 PARTITION OF $name FOR VALUES IN ('$table->{tenant}'); CREATE TABLE ${name}_2 PARTITION OF $name FOR VALUES IN ('2');"
	  . " CREATE TABLE ${name}_d PARTITION OF $name DEFAULT;\n" if $part eq 'list';
	return $sql;
}

# The statements that make the schema, without rows.
sub schema_sql
{
	my ($schema) = @_;
	my $sql = "CREATE SCHEMA $schema->{name};\n" . join('', map { table_sql($schema, $_) } @{ $schema->{tables} });

	for my $key (@{ $schema->{keys} })
	{
		my $columns = $key->{tied} ? "tid, $key->{name}" : $key->{name};
		my $referred = $key->{tied} ? 'tid, id' : 'id';
		$sql .= "ALTER TABLE $key->{child}{name} ADD CONSTRAINT $key->{name} FOREIGN KEY ($columns)"
		  . " REFERENCES $key->{parent}{name} ($referred) ON DELETE $key->{action} $key->{deferred};\n";
	}
	for my $table (@{ $schema->{tables} })
	{
		my ($name, $kind) = @$table{qw(name kind)};
		$sql .= "SELECT leyser.protect('$name', 'tid', '$kind', accept_gaps => true);\n" if $kind =~ /^own/;
		$sql .= "SELECT leyser.declare_table('$name', 'by_rule', 'x', 'tid::text = \$1');\n" if $kind eq 'by_rule';
		$sql .= "SELECT leyser.declare_table('$name', 'retained', 'x');\n" if $kind eq 'retained';
	}
	return $sql;
}

# The statements that fill it: rows first, then what they refer to.
sub reference_sql
{
	my ($schema) = @_;
	my $sql = '';

	for my $table (@{ $schema->{tables} })
	{
		my @rows = map {
			my $tenant = $table->{kind} eq 'own' || chance(0.8) ? "'" . pick(($table->{tenant}) x 2, 2, 3) . "'" : 'NULL';
			my $note = $tenant eq "'$table->{tenant}'" && is_emptied($table) ? $schema->{marker} : 'row';
			"($tenant, $_, '$note $_')"
		} 1 .. $table->{rows};
		$sql .= "INSERT INTO $table->{name} (tid, id, note) VALUES " . join(', ', @rows) . ";\n" if @rows;
	}
	for my $key (@{ $schema->{keys} })
	{
		# mostly within a tenant; what nobody owns refers to nobody's, mostly
		my $keeps = !is_emptied($key->{child}) || !is_emptied($key->{parent});
		my $match = $key->{tied} ? 'p.tid = c.tid' : chance(0.4) ? 'p.id <> -c.id'
		  : $keeps && is_emptied($key->{parent}) ? "p.tid IS DISTINCT FROM '$schema->{tenant}' AND p.id <> -c.id"
		  : 'p.tid IS NOT DISTINCT FROM c.tid';
		$sql .= "UPDATE $key->{child}{name} c SET $key->{name} = (SELECT p.id FROM $key->{parent}{name} p WHERE $match"
		  . " ORDER BY random() LIMIT 1) WHERE random() < 0.7;\n";
	}
	return $sql;
}

sub is_emptied
{
	my ($table) = @_;

	return $table->{kind} =~ /^(own|own_and_global|by_rule)$/;
}

# The condition, over an alias, of rows that the purge deletes.
sub purged
{
	my ($table, $alias) = @_;

	return is_emptied($table) ? "($alias.tid IS NOT NULL AND $alias.tid::text = '$table->{tenant}')" : 'false';
}

sub offending
{
	my ($key) = @_;

	return "NOT " . purged($key->{child}, 'c') . " AND EXISTS (SELECT FROM $key->{parent}{name} p WHERE p.id = c.$key->{name} AND "
	  . purged($key->{parent}, 'p') . ")";
}

# A query of the foreign keys through which rows that stay refer to rows that go,
# with their number.
sub stopping_references
{
	my ($schema) = @_;
	my @keys = map { "SELECT '$_->{name}', count(*) FROM $_->{child}{name} c WHERE " . offending($_) . ' HAVING count(*) > 0' }
	  @{ $schema->{keys} };

	return @keys ? join(' UNION ALL ', @keys) . ' ORDER BY 1' : 'SELECT WHERE false';
}

# The statements that take these references away.
sub free_references
{
	my ($schema) = @_;

	return join('', map { "UPDATE $_->{child}{name} c SET $_->{name} = NULL WHERE " . offending($_) . ";\n" } @{ $schema->{keys} });
}

sub rows_of_purged
{
	my ($schema) = @_;

	return 'SELECT ' . join(' + ', map { "(SELECT count(*) FROM $_->{name} t WHERE " . purged($_, 't') . ')' } @{ $schema->{tables} });
}

# A digest of all other rows, with all their columns.
sub rows_of_others
{
	my ($schema) = @_;

	return 'SELECT md5(concat_ws(chr(10), ' . join(', ', map {
		"(SELECT string_agg(t::text, chr(10) ORDER BY t::text) FROM $_->{name} t WHERE NOT " . purged($_, 't') . ')'
	} @{ $schema->{tables} }) . '))';
}

1;
