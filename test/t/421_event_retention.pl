# Events are kept for six months at least, in months that are made ahead: a longer
# retention counts for all, a lower one for what comes then, and nothing shortens what
# was promised.  What goes leaves a checkpoint from which the chain is verified.

use strict;
use warnings;

use LeyserPast;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('retention');
$node->safe_psql('postgres', q{
	CREATE ROLE auditor LOGIN; CREATE ROLE operator LOGIN;
	SELECT leyser.grant_usage('auditor', 'auditor'), leyser.grant_usage('operator', 'operator');
	SELECT leyser.create_tenant(t) FROM unnest('{t1,t2}'::text[]) t;
});

sub as_operator
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql, extra_params => [ '-U', 'operator' ]);
}

# A tick to which all jobs of events are due.
sub tick
{
	$node->safe_psql('postgres', q{UPDATE leyser.job_record SET due_at = clock_timestamp() WHERE job ~ 'events'});
	as_operator('CALL leyser.tick()');
	is($node->safe_psql('postgres', q{SELECT job, last_error FROM leyser.job WHERE failures > 0}), '', 'the jobs ran');
	return;
}

sub months
{
	return $node->safe_psql('postgres', q{SELECT string_agg(relation::text, ' ' ORDER BY begins) FROM leyser.event_months()});
}

sub verified
{
	my ($arguments) = @_;

	return $node->safe_psql('postgres', 'SELECT tenant, event_id, problem FROM leyser.verify_events(' . ($arguments // '') . ') ORDER BY 1, 2, 3',
		extra_params => [ '-U', 'auditor' ]);
}

# ---- made ahead ----

is(months(), '', 'at first there is no month');
tick();
is(months(), $node->safe_psql('postgres', q{SELECT string_agg('leyser.event_record_' || to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + i * interval '1 month', 'YYYY_MM'), ' ' ORDER BY i)
	FROM generate_series(0, 2) i}), 'this one and the next two are made');
tick();
is($node->safe_psql('postgres', q{SELECT leyser.suspend_tenant('t1'); SELECT count(*) FROM ONLY leyser.event_record WHERE event = 'tenant.suspended'}) =~ s/\n//r, '0',
	'events go into their month');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event_months() m JOIN pg_trigger t ON t.tgrelid = m.relation WHERE t.tgenabled = 'A'}), '6', 'where nobody changes them');

# ---- what may be set ----

is_refused($node, "SELECT leyser.set_event_retention($_)", '22023', "refused: $_", user => 'operator')
  for q{'5 months'}, q{'0'}, q{'-7 months'}, q{'180 days'}, q{'183 days'}, q{'6 months -1 second'}, 'NULL', q{'1001 years'}, q{'178000000 years'};
is_refused($node, q{SELECT leyser.set_event_retention('1 year')}, '42501', 'not for everybody', user => 'auditor');
is_refused($node, q{INSERT INTO leyser.event_retention (retention, set_by) VALUES ('1 day', 'me')}, '23514', 'nor as a superuser in the table');
as_operator(q{SELECT leyser.set_event_retention('184 days')});
as_operator(q{SELECT leyser.set_event_retention('2 years')});
as_operator(q{SELECT leyser.set_event_retention('7 months')});
is($node->safe_psql('postgres', q{SELECT string_agg(detail ->> 'retention', ', ' ORDER BY event_id) FROM leyser.event WHERE event = 'events.retention_set'}),
	'184 days, 2 years, 7 mons', 'each is an event');
is_refused($node, $_, 'LY007', "refused: $_")
  for q{UPDATE leyser.event_retention SET retention = '6 months'}, 'DELETE FROM leyser.event_retention', 'TRUNCATE leyser.event_retention',
  q{UPDATE leyser.event_retention SET since = now() - interval '3 years'}, q{UPDATE leyser.event_retention SET ended_at = since},
  q{SET session_replication_role = replica; DELETE FROM leyser.event_retention}, 'DROP TABLE ' . (split(' ', months()))[0];
isnt($node->psql('postgres', q{ALTER SYSTEM SET leyser.event_retention = '1 day'}), 0, 'no setting of the server does it');

# A superuser who goes round the triggers leaves the promises' events: each way is told.
my @promises = split(/\n/, $node->safe_psql('postgres', q{SELECT event_id FROM leyser.event WHERE event = 'events.retention_set' ORDER BY event_id}));
for my $case ([ 'DELETE FROM leyser.event_retention', @promises ], [ q{UPDATE leyser.event_retention SET retention = '6 months' WHERE retention = '2 years'}, $promises[1] ],
	[ q{DELETE FROM leyser.event_retention WHERE retention = '2 years'}, $promises[1] ], [ q{UPDATE leyser.event_retention SET since = since - interval '1 year', ended_at = ended_at - interval '1 year' WHERE retention = '2 years'}, $promises[1] ],
	[ q{UPDATE leyser.event_retention SET ended_at = now() + interval '1 hour' WHERE ended_at IS NULL}, $promises[2] ])
{
	my ($statement, @told) = @$case;

	is($node->safe_psql('postgres', "SET leyser.guards = off; BEGIN; ALTER TABLE leyser.event_retention DISABLE TRIGGER ALL; $statement;
		SELECT event_id FROM leyser.verify_events() WHERE problem = 'retention changed'; ROLLBACK"), join("\n", @told), "told: $statement");
}
is(verified(), '', 'as they were promised: unbroken');

# A dump in which somebody wrote less is not restored.
my $dump = "$PostgreSQL::Test::Utils::tmp_check/retention.sql";
{
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	$node->command_ok([ 'pg_dump', '-f', $dump, 'postgres' ], 'a dump');
}
my $text = slurp_file($dump);
for my $case ([ 'day', '1 day', 0 ], [ 'less', '6 mons', 1 ])
{
	my ($name, $less, $restored) = @$case;
	my $output = '';

	(my $changed = $text) =~ s/\t2 years\t/\t$less\t/ or die;
	unlink("$dump.$name");
	append_to_file("$dump.$name", $changed);
	$node->safe_psql('postgres', "CREATE DATABASE $name TEMPLATE template0");
	is($node->psql('postgres', "\\c $name\n\\set ON_ERROR_STOP 1\n\\o /dev/null\n\\i $dump.$name", stderr => \$output) == 0, $restored == 1, "2 years that became $less: " . ($restored ? 'restored' : 'refused'));
	like($output, qr/event_retention_retention_check/, '... below the floor') if !$restored;
	is($node->safe_psql($name, q{SELECT event_id, problem FROM leyser.verify_events()}), "$promises[1]|retention changed", '... and told') if $restored;
}

# Taken from the log as at the end of a retention, with a checkpoint of one's own: told.
my $target = $node->safe_psql('postgres', q{SELECT min(event_id) FROM leyser.event_record WHERE event = 'tenant.suspended'});
is($node->safe_psql('postgres', qq{BEGIN; SET LOCAL leyser.registry_work = on;
	INSERT INTO leyser.event_checkpoint (chain, boundary, number, run, link, stragglers) VALUES ('t1', '2001-01-01Z', 0, 0, leyser.first_link('t1'), '{}');
	DELETE FROM leyser.event_record WHERE event_id = $target; SELECT tenant, event_id, problem FROM leyser.verify_events(); ROLLBACK}), "t1|$target|removed\nt1||checkpoint changed", 'as if its retention were over');

my $expires = q{SELECT leyser.event_month_expires('%s', '%s') AT TIME ZONE 'UTC'};
my ($begins, $ends) = split(/\|/, $node->safe_psql('postgres', q{SELECT begins, ends FROM leyser.event_months() LIMIT 1}));
is($node->safe_psql('postgres', sprintf($expires, $begins, $ends)), $node->safe_psql('postgres', "SELECT '$ends'::timestamptz AT TIME ZONE 'UTC' + interval '2 years'"),
	'what was there while two years were promised is kept for two years');
is($node->safe_psql('postgres', sprintf($expires, '2099-01-01Z', '2099-02-01Z')), '2099-09-01 00:00:00', '... what comes later for seven months');
is($node->safe_psql('postgres', sprintf($expires, '2020-01-01Z', '2020-02-01Z')), '2022-02-01 00:00:00', '... and what is older, too, for two years');

# ---- dropped at the end ----

# Another database, in which time has gone by: events and seals are moved into the past.
past_database($node, 'past');
sub past
{
	my ($sql, @options) = @_;

	return $node->safe_psql('past', $sql, @options);
}
past(q{SELECT leyser.add_event_month(m) FROM unnest('{2025-03-01,2025-04-01,2026-06-01}'::date[]) m});
my $problems = q{SELECT tenant, event_id, problem FROM leyser.verify_events()};
past(q{SELECT public.add('2025-03-03Z', 't1'), public.add('2025-03-04Z', 't2'), public.add('2025-02-03Z', 't1'); SELECT public.seal('2025-03-05Z')});
# in a month that has a table, in one that has none, and one that is sealed later
past(q{SELECT public.add('2025-04-03Z', 't1'), public.add('2025-03-31Z', 't1'), public.add('2025-03-31Z', NULL); SELECT public.seal('2025-04-04Z')});
past(q{SELECT public.add('2026-06-03Z', 't1'); SELECT public.seal('2026-06-04Z')});
past(q{SELECT leyser.suspend_tenant('t2')});
is(past($problems), '', 'a log of more than a year is unbroken');
is(past(q{SELECT count(*) FROM leyser.event_record WHERE event = 'test.acted'}), '7', '... with these events');
my $digest = past('SELECT leyser.event_digest()');

my $one_run = q{UPDATE leyser.job_record SET due_at = clock_timestamp() WHERE job ~ 'events'; CALL leyser.tick()};
past($one_run);
is(past(q{SELECT job, last_error FROM leyser.job WHERE failures > 0}), '', 'the jobs ran');
is(past(q{SELECT string_agg(at::date::text, ' ' ORDER BY at) FROM leyser.event_record WHERE event = 'test.acted'}), '2026-06-03',
	'what is older than six months is gone');
is(past(q{SELECT count(*) FROM leyser.event_months() WHERE begins < '2026-01-01'}), '0', '... with its months');
like(past(q{SELECT string_agg(object || ' ' || (detail ->> 'events'), ', ' ORDER BY event_id) FROM leyser.event_record WHERE event = 'events.dropped'}),
	qr/^2025-02 [3-9], 2025-03 4, 2025-04 1$/, '... which are events');
is(past('SELECT leyser.restore_is_held()'), 'f', '... and no restore');
is(past($problems), '', 'the rest is verified from the checkpoints');
is(past(q{SELECT * FROM leyser.verify_events('t1')}), '', '... a tenant\'s, too');
is(past("SELECT * FROM leyser.verify_events(digest => '$digest')"), '', '... and goes on from the digest of before');
is(past(q{SELECT chain, boundary AT TIME ZONE 'UTC', array_length(stragglers, 1) FROM leyser.event_checkpoint WHERE stragglers <> '{}' AND boundary > '2025-03-02' ORDER BY 1, 2}),
	"|2025-04-01 00:00:00|1\nt1|2025-04-01 00:00:00|1", 'what was sealed later than it happened is written down');
is(past(q{SELECT count(*) FROM leyser.event_seal WHERE sealed_at < '2025-05-01'}), '0', 'seals go with their events');
past($one_run);
is(past(q{SELECT count(*) FROM leyser.event_record WHERE event = 'events.dropped'}), '3', 'once');

# Who drops a month before its time, and writes the checkpoint, too, is found.
like($node->safe_psql('past', q{BEGIN; SET leyser.guards = off; SELECT leyser.add_checkpoints('2026-07-01Z'); DROP TABLE leyser.event_record_2026_06;
	SELECT problem, detail FROM leyser.verify_events(); ROLLBACK}), qr/^dropped too early\|Events before 2026-07-01 00:00:00 UTC were to be kept until 2027-01-01/m,
	'dropped too early');
like(past(q{BEGIN; SET leyser.guards = off; DROP TABLE leyser.event_record_2026_06; SELECT tenant, problem FROM leyser.verify_events(); ROLLBACK}),
	qr/^t1\|removed$/m, '... or without a checkpoint');

# The clock is back: nothing is dropped.
past(q{UPDATE leyser.tick_record SET latest_at = clock_timestamp() + interval '1 day'});
past(q{SELECT leyser.add_event_month('2025-06-01'); SELECT public.add('2025-06-01Z', 't1')});
$node->psql('past', $one_run);
is(past(q{SELECT count(*) FROM leyser.event_record WHERE at < '2025-07-01'}), '1', 'no month goes while nobody knows what time it is');

# DROP EXTENSION takes the months with it.
past('DROP EXTENSION leyser');
is(past(q{SELECT count(*) FROM pg_class WHERE relname ~ '^event_record'}), '0', 'the months go with the extension');

$node->stop;
done_testing();
