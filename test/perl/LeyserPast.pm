# LeyserPast.pm
#
# Databases in which time has gone by: events, and the seals of their chains, of years ago.

package LeyserPast;

use strict;
use warnings;

use LeyserTest;

use Exporter qw(import);
our @EXPORT = qw(past_database drop_what_is_due);

# A database with leyser and tenants t1 and t2, made at 2025-02-02, in which
# public.add(at, tenant) adds an event and public.seal(at) seals what there is, at that time.
sub past_database
{
	my ($node, $name) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $name");
	create_extension($node, $name);
	$node->safe_psql($name, q{SELECT leyser.create_tenant(t) FROM unnest('{t1,t2}'::text[]) t;
		CREATE FUNCTION public.add(at timestamptz, tenant text) RETURNS void LANGUAGE sql AS $$
			SELECT leyser.insert_event(at, 'test.acted', tenant, 'a', 'b', NULL, NULL, NULL, NULL) $$;
		CREATE FUNCTION public.seal(at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
			DECLARE s leyser.event_seal; former bytea; BEGIN
				PERFORM leyser.seal_events();
				-- the run's links anew, of that time
				UPDATE leyser.event_seal SET sealed_at = at WHERE sealed_at > at AND run = (SELECT max(run) FROM leyser.event_seal);
				FOR s IN SELECT e.* FROM leyser.event_seal e WHERE run = (SELECT max(run) FROM leyser.event_seal) ORDER BY e.chain = '' LOOP
					former := coalesce((SELECT p.link FROM leyser.event_seal p WHERE p.chain = s.chain AND p.number = s.number - 1), leyser.first_link(s.chain));
					IF s.chain = '' THEN s.run_digest := leyser.run_digest(s.run); END IF;
					UPDATE leyser.event_seal e SET run_digest = s.run_digest, link = leyser.seal_link(former, s.number, s.sealed_at, s.members, s.run_digest)
						WHERE e.chain = s.chain AND e.number = s.number;
				END LOOP;
			END $$;
		SET leyser.guards = off; ALTER TABLE leyser.event_record DISABLE TRIGGER ALL; UPDATE leyser.event_record SET at = '2025-02-02Z';
		UPDATE leyser.event_pending p SET at = e.at, leaf = leyser.event_leaf(e.at, e.event, e.tenant_id, e.digest) FROM leyser.event_record e WHERE e.event_id = p.event_id;
		ALTER TABLE leyser.event_record ENABLE ALWAYS TRIGGER refuse_change, ENABLE ALWAYS TRIGGER refuse_removal});
	return;
}

# A tick to which all jobs of events are due.
sub drop_what_is_due
{
	my ($node, $name) = @_;

	$node->safe_psql($name, q{UPDATE leyser.job_record SET due_at = clock_timestamp() WHERE job ~ 'events'; CALL leyser.tick()});
	return $node->safe_psql($name, q{SELECT job, last_error FROM leyser.job WHERE failures > 0});
}

1;
