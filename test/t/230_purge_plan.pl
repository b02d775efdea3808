# Random schemas and graphs of foreign keys: purge_plan() names exactly the keys
# through which rows that stay refer to rows that go, and plan_purge() refuses; with
# these references gone, deleting step by step in the planned order, in small
# batches, breaks no foreign key, leaves nothing of the tenant and changes nothing
# of others.

use strict;
use warnings;

use LeyserTest;
use PurgeSchema;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $rounds = $ENV{LEYSER_PROPERTY_ROUNDS} // 20;
my $seed = $ENV{LEYSER_PROPERTY_SEED} // int(rand(1_000_000));
note("seed $seed");
srand($seed);

my $node = new_node('plan', init => { allows_streaming => 1 }, conf => "client_min_messages = error\nfsync = off");
$node->safe_psql('postgres', q{
	SELECT leyser.create_tenant(t) FROM unnest('{1,2,3}'::text[]) t;
	-- what the worker does, without its transactions
	CREATE PROCEDURE run_plan() LANGUAGE plpgsql AS $$
	DECLARE
		planned bigint;
		step record;
		found bigint;
	BEGIN
		SELECT max(purge_id) INTO planned FROM leyser.purge_record;
		FOR step IN SELECT t.*, (SELECT min(o.step) FROM leyser.purge_table o WHERE o.purge_id = planned AND o.together = t.together) AS first,
					(SELECT string_agg(format(E'm%s AS (DELETE FROM ONLY %s WHERE (%s\n))', o.step, o.relation::regclass, o.condition), ', ')
					 FROM leyser.purge_table o WHERE o.purge_id = planned AND o.together = t.together) AS together_with
				FROM leyser.purge_table t WHERE t.purge_id = planned AND t.relation_name !~ '^leyser' ORDER BY t.step LOOP
			IF step.action = 'truncate' THEN
				EXECUTE format('TRUNCATE ONLY %s', step.relation::regclass);
			ELSIF step.action = 'delete together' AND step.step = step.first THEN
				EXECUTE 'WITH ' || step.together_with || ' SELECT' USING '1';
			ELSIF step.action = 'delete' THEN
				LOOP
					EXECUTE format(E'DELETE FROM ONLY %1$s WHERE ctid = ANY (ARRAY(SELECT ctid FROM ONLY %1$s WHERE (%2$s\n) LIMIT 2))',
						step.relation::regclass, step.condition) USING '1';
					GET DIAGNOSTICS found = ROW_COUNT;
					EXIT WHEN found = 0;
				END LOOP;
			END IF;
		END LOOP;
	END $$;
});

my %seen = map { $_ => 0 } qw(stopped ran deleted together);
my $queue = q{DELETE FROM leyser.purge_record; INSERT INTO leyser.purge_record (tenant_id, state, batch_size, max_rows_per_second, queued_by)
	VALUES ('1', 'due', 1000, 0, 'x'); SELECT leyser.plan_purge(max(purge_id)) FROM leyser.purge_record;};
my $told = q{SELECT DISTINCT substring(note FROM 'foreign key "(.*?)"'), sum(rows) FROM leyser.purge_plan('1')
	WHERE action = 'stop' GROUP BY 1 ORDER BY 1};

for my $round (1 .. $rounds)
{
	my $schema = random_schema("r$round", 1);
	my $filling = 'SELECT setseed(' . rand() . ");\n" . reference_sql($schema);
	my $sql = schema_sql($schema) . $filling;
	$node->safe_psql('postgres', $sql);

	my $stops = $node->safe_psql('postgres', stopping_references($schema));
	my $others = $node->safe_psql('postgres', rows_of_others($schema));
	is($node->safe_psql('postgres', $told), $stops, "round $round: what stops the plan") or last;
	if ($stops ne '')
	{
		$seen{stopped}++;
		is_refused($node, $queue, 'LY008', "round $round: ... is refused");
		is($node->safe_psql('postgres', rows_of_others($schema)), $others, "round $round: ... and changes nothing");
		$node->safe_psql('postgres', free_references($schema));
		$others = $node->safe_psql('postgres', rows_of_others($schema));
	}
	$seen{ran}++;
	$seen{deleted} += $node->safe_psql('postgres', rows_of_purged($schema));
	$node->safe_psql('postgres', $queue);
	$seen{together} += $node->safe_psql('postgres', q{SELECT count(DISTINCT together) FROM leyser.purge_table});
	my ($sqlstate, $message) = sqlstate_of($node, 'CALL run_plan()');
	is($sqlstate, '', "round $round: the planned order breaks no foreign key")
	  or do { diag("$message\n$sql"); last };
	is($node->safe_psql('postgres', rows_of_purged($schema)), '0', "round $round: nothing of the tenant is left");
	is($node->safe_psql('postgres', rows_of_others($schema)), $others, "round $round: nothing of others changed")
	  or do { diag($sql); last };
	$node->safe_psql('postgres', "DROP SCHEMA r$round CASCADE");
}

# On a standby it can be read, too.
my $last = random_schema('last', 1);
$node->safe_psql('postgres', schema_sql($last) . reference_sql($last));
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
my $plan = q{SELECT action, count(*), sum(rows) FROM leyser.purge_plan('1') WHERE coalesce(relation::text, '') !~ '^leyser' GROUP BY 1 ORDER BY 1};
is($standby->safe_psql('postgres', $plan), $node->safe_psql('postgres', $plan), 'a standby has the same plan');
$standby->stop;

# the test itself: it has seen something
cmp_ok($seen{$_}, '>', 0, "some rounds: $_") for sort keys %seen;

$node->stop;
done_testing();
