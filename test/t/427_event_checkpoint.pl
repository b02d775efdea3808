# What goes at the end of a retention goes in order, by the promises of its time, and
# leaves checkpoints that nobody can invent: who cuts off the beginning of the log, or
# takes an event as if it had gone with a month, is told.

use strict;
use warnings;

use LeyserPast;
use LeyserTest;
use Test::More;

my $node = new_node('checkpoint');

sub findings
{
	my ($database, $arguments) = @_;

	return $node->safe_psql($database, 'SELECT tenant, event_id, problem FROM leyser.verify_events(' . ($arguments // '') . ') ORDER BY 1, 2, 3');
}

# Events of three months, each sealed within it.
sub three_months
{
	my ($database) = @_;

	past_database($node, $database);
	$node->safe_psql($database, q{SELECT leyser.add_event_month(m) FROM unnest('{2025-04-01,2025-05-01,2025-06-01}'::date[]) m});
	$node->safe_psql($database, "SELECT public.add('2025-0$_-03Z', 't1'), public.add('2025-0$_-03Z', NULL); SELECT public.seal('2025-0$_-05Z')") for 4, 5, 6;
	return;
}

# What acted, by its months.
sub months
{
	my ($database) = @_;

	return $node->safe_psql($database, q{SELECT string_agg(to_char(at AT TIME ZONE 'UTC', 'MM'), ' ' ORDER BY at) FROM leyser.event_record WHERE event = 'test.acted' AND tenant_id = 't1'});
}

# ---- promises ----

# Three years were promised, and then less: what was there goes after three years.
three_months('lowered');
$node->safe_psql('lowered', q{INSERT INTO leyser.event_retention VALUES ('2025-02-02Z', '3 years', '2025-05-10Z', 'x'), ('2025-05-10Z', '7 months', NULL, 'x');
	INSERT INTO leyser.daily_usage_record SELECT d, 't1', 'test.acted', 1, 0, d, d FROM unnest('{2025-04-03,2025-06-03}'::date[]) d ON CONFLICT DO NOTHING});
is(drop_what_is_due($node, 'lowered'), '', 'the jobs ran');
is(months('lowered'), '04 05 06', 'what was there while three years were promised is not dropped with what came later');
is($node->safe_psql('lowered', q{SELECT count(*) FROM leyser.daily_usage_record WHERE day = '2025-04-03' AND tenant_id = 't1'}), '1', '... nor is its usage');
is(findings('lowered'), '', '... unbroken');
like($node->safe_psql('lowered', q{BEGIN; SELECT leyser.drop_event_month('2025-06-01Z', '2025-07-01Z'); SELECT problem, detail FROM leyser.verify_events(); ROLLBACK}),
	qr/^dropped too early\|Events before 2025-07-01 00:00:00 UTC were to be kept until 2028-06-01/m, 'who drops it nevertheless, as leyser would, is told');
$node->safe_psql('lowered', q{SELECT leyser.set_event_retention('360 days'); SELECT leyser.set_event_retention('1 year')});
is($node->safe_psql('lowered', 'SELECT leyser.present_event_retention()'), '1 year', 'a year is longer than 360 days');

# A longer retention is not broken by what went before it.
three_months('raised');
is(drop_what_is_due($node, 'raised'), '', 'the jobs ran');
is(months('raised'), '', 'what is older than six months is gone');
is(findings('raised'), '', '... unbroken');
$node->safe_psql('raised', q{SELECT leyser.set_event_retention('10 years')});
is(findings('raised'), '', '... also once more is promised');
like($node->safe_psql('raised', q{BEGIN; UPDATE leyser.event_checkpoint SET dropped_at = clock_timestamp(); SELECT problem FROM leyser.verify_events(); ROLLBACK}),
	qr/^dropped too early$/m, '... which would count for what went later');
is($node->safe_psql('raised', q{BEGIN; SET LOCAL leyser.guards = off; ALTER TABLE leyser.event_retention DISABLE TRIGGER ALL; DELETE FROM leyser.event_retention;
	SELECT leyser.note_verification(); SELECT first_problem ~ 'retention changed' FROM leyser.verification_record; ROLLBACK}), "problems of the event log: 1\nt",
	'the daily verification looks at promises, too');

# ---- a month that goes again ----

# Transactions of these months that are committed now.
three_months('again');
is(drop_what_is_due($node, 'again'), '', 'the jobs ran');
$node->safe_psql('again', q{SELECT public.add('2025-04-20Z', 't1'), public.add('2025-06-20Z', NULL); SELECT leyser.suspend_tenant('t2')});
my $digest = $node->safe_psql('again', 'SELECT leyser.event_digest()');
is(drop_what_is_due($node, 'again'), '', 'a month of which something came late goes again');
is($node->safe_psql('again', q{SELECT count(*) FROM leyser.event_record WHERE event = 'test.acted'}), '0', '... with all that came');
is(findings('again', "digest => '$digest'"), '', '... unbroken');

# ---- what a superuser invents ----

my $open = q{BEGIN; SET LOCAL leyser.guards = off; SET LOCAL leyser.registry_work = on;
	DO $$ BEGIN EXECUTE (SELECT string_agg(format('ALTER TABLE %s DISABLE TRIGGER ALL', r), ';')
		FROM (SELECT 'leyser.event_record'::regclass UNION ALL SELECT relation FROM leyser.event_months()) t (r)); END $$; };
my $cut = 'DELETE FROM leyser.event_record; DELETE FROM leyser.event_seal; ';
my $look = "SELECT problem, detail FROM leyser.verify_events(digest => '$digest'); ROLLBACK";

my $target = $node->safe_psql('again', q{SELECT event_id FROM leyser.event_record WHERE event = 'tenant.suspended'});
like($node->safe_psql('again', qq{$open WITH gone AS (DELETE FROM leyser.event_record WHERE event_id = $target RETURNING *)
	UPDATE leyser.event_checkpoint SET stragglers = stragglers || (SELECT ROW(event_id, '2024-01-01Z', event, digest)::leyser.straggler FROM gone) WHERE chain = 't2';
	SELECT tenant, event_id, problem FROM leyser.verify_events(); ROLLBACK}), qr/^t2\|$target\|removed$/m, 'an event that goes with a month of another time');
my $told = q{SELECT leyser.record_event('events.dropped', NULL, NULL, '{"boundary": "2025-08-01T00:00:00Z"}') \g /dev/null
};
like($node->safe_psql('again', qq{$open INSERT INTO leyser.event_checkpoint (chain, boundary, number, run, link, stragglers)
		SELECT DISTINCT ON (chain) chain, '2025-08-01Z', number, run, link, '{}' FROM leyser.event_seal ORDER BY chain, number DESC;
	$cut$told$look}), qr/^checkpoint changed\|What it tells of seal \d+ is not/m, 'all is cut off: a checkpoint does not tell of what its seal was made');
like($node->safe_psql('again', qq{$open INSERT INTO leyser.event_checkpoint (chain, boundary, number, run, link, former_link, sealed_at, members_digest, run_digest, stragglers)
		SELECT s.chain, '2025-08-01Z', s.number, s.run, s.link, f.link, s.sealed_at, sha256(s.members), s.run_digest, '{}'
		FROM leyser.event_seal s JOIN leyser.event_seal f ON f.chain = s.chain AND f.number = s.number - 1 WHERE s.chain = '' AND s.number = (SELECT max(number) FROM leyser.event_seal);
	$cut$told$look}), qr/^dropped too early\|With events before 2025-08-01 00:00:00 UTC went a seal that was made at 20\d\d/m, '... or tells when that was made');
like($node->safe_psql('again', qq{$open INSERT INTO leyser.event_checkpoint (chain, boundary, number, run, link, former_link, sealed_at, members_digest, run_digest, stragglers)
		SELECT '', '2025-08-01Z', 1000, 1000, leyser.link_of(sha256('a'), 1000, '2025-07-01Z', sha256(''), sha256('')), sha256('a'), '2025-07-01Z', sha256(''), sha256(''), '{}';
	$cut$told$look}), qr/^older than the log\|Seal \d+ went with the events before 2025-08-01/m, '... or is of a chain that is invented whole: what is stored outside tells');
like($node->safe_psql('again', qq{$open INSERT INTO leyser.event_checkpoint (chain, boundary, number, run, link, stragglers) VALUES ('t2', '2024-01-01Z', 0, 0, leyser.first_link('t2'), '{}');
	$look}), qr/^checkpoint changed\|No event tells/m, 'a checkpoint of which no event tells');

# ---- one snapshot for all ----

three_months('snapshot');
my $reader = open_session($node, database => 'snapshot');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM leyser.tenant');
is(drop_what_is_due($node, 'snapshot'), '', 'months go while a transaction has an older snapshot');
is_refused_in($reader, 'SELECT problem FROM leyser.verify_events()', '40001', '... which is told so, and nothing false');
$reader->query_safe('ROLLBACK');
$reader->quit;
is(findings('snapshot'), '', 'unbroken');

$node->stop;
done_testing();
