# Random schemas and graphs of foreign keys, each with a tenant that is purged by the
# worker: no row of the tenant is left, none of others has changed, no byte of it is
# found in the data directory; where a reference stops the purge, nothing changes.

use strict;
use warnings;

use LeyserTest;
use PurgeSchema;
use PostgreSQL::Test::Utils;
use Test::More;

my $rounds = $ENV{LEYSER_PROPERTY_ROUNDS} // 6;
my $seed = $ENV{LEYSER_PROPERTY_SEED} // int(rand(1_000_000));
note("seed $seed");
srand($seed);

my $node = new_node('property', conf => "client_min_messages = error\nautovacuum = off\nmax_wal_size = 64MB\nwal_keep_size = 0");
$node->safe_psql('postgres', q{SELECT leyser.create_tenant(t) FROM unnest('{2,3}'::text[]) t});

# How many files of the server hold a marker.
sub files_with
{
	my ($marker) = @_;

	$node->safe_psql('postgres', 'CHECKPOINT');
	my @found = split(/\n/, `grep -rlaF '$marker' '@{[ $node->data_dir ]}'`);
	return scalar(grep { !m{/(pg_stat_tmp|log)/} } @found);
}

my %seen = map { $_ => 0 } qw(files rows);
for my $round (1 .. $rounds)
{
	my $tenant = 100 + $round;
	my $schema = random_schema("r$round", $tenant);
	# once all of them: the worker checks foreign keys at once, deferred ones too
	$_->{deferred} = 'DEFERRABLE INITIALLY DEFERRED' for $round == 1 ? @{ $schema->{keys} } : ();
	my $sql = schema_sql($schema) . 'SELECT setseed(' . rand() . ");\n" . reference_sql($schema);

	$node->safe_psql('postgres', "SELECT leyser.create_tenant('$tenant')");
	$node->safe_psql('postgres', $sql);
	# what a table keeps of former versions is the tenant's, too
	$node->safe_psql('postgres', "UPDATE $_->{name} SET note = note || '.'; ANALYZE $_->{name}") for @{ $schema->{tables} };
	$node->safe_psql('postgres', "SELECT leyser.terminate_contract('$tenant', now())");

	my $before = $node->safe_psql('postgres', rows_of_others($schema));
	if ($node->safe_psql('postgres', stopping_references($schema)) ne '')
	{
		is_refused($node, "CALL leyser.purge('$tenant')", 'LY008', "round $round: a reference stops the purge");
		is($node->safe_psql('postgres', rows_of_others($schema)), $before, "round $round: ... and nothing changes");
		is($node->safe_psql('postgres', 'SELECT count(*) FROM leyser.purge_record WHERE tenant_id = ' . "'$tenant'"), '0', "round $round: ... nor is queued");
		$node->safe_psql('postgres', free_references($schema));
		$before = $node->safe_psql('postgres', rows_of_others($schema));
	}
	my $rows = $node->safe_psql('postgres', rows_of_purged($schema));
	my $files = files_with($schema->{marker});
	$seen{rows} += $rows;
	$seen{files} += $files;

	my ($sqlstate, $message) = sqlstate_of($node, "SET statement_timeout = '2min'; CALL leyser.purge('$tenant')");
	is($sqlstate, '', "round $round: the purge ends")
	  or diag($message . $node->safe_psql('postgres', 'SELECT blockers, last_error FROM leyser.purge_status') . "\n$sql");
	is($node->safe_psql('postgres', "SELECT state, cardinality(blockers) FROM leyser.purge_status WHERE tenant_id = '$tenant'"),
		'erased|0', "round $round: ... as erased") or last;
	is($node->safe_psql('postgres', rows_of_purged($schema)), '0', "round $round: no row of $rows is left");
	is($node->safe_psql('postgres', rows_of_others($schema)), $before, "round $round: no row of others changed")
	  or do { diag($sql); last };
	is(files_with($schema->{marker}), 0, "round $round: none of $files files holds a byte of it");
	$node->safe_psql('postgres', "DROP SCHEMA r$round CASCADE");
}

# the test itself: it has seen something
cmp_ok($seen{$_}, '>', 0, "some rounds: $_") for sort keys %seen;

$node->stop;
done_testing();
