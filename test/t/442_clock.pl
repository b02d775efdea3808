# What clock_status() tells, and that a clock that was moved back is counted and recorded.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('node', conf => "log_timezone = 'Asia/Tokyo'\ntimezone = 'UTC'");
$node->safe_psql('postgres', q{
	CREATE ROLE operator LOGIN;
	CREATE ROLE auditor LOGIN;
	CREATE ROLE app LOGIN;
	SELECT leyser.grant_usage('operator', 'operator'), leyser.grant_usage('auditor', 'auditor'), leyser.grant_usage('app', 'application')});

sub as
{
	my ($role, $sql) = @_;

	return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]);
}

# What the kernel says is what another program hears; where that may not ask, nor may we.
my $status = as('auditor', 'SELECT state, is_synchronized, estimated_error IS NULL, maximal_error IS NULL FROM leyser.clock_status()');
like($status, qr/^(unknown\|\|t\|t|(ok|not synchronized|a leap second .*)\|[tf]\|f\|f)$/, 'the kernel\'s clock');
is(as('operator', q{SELECT (state = 'not synchronized') <= (NOT is_synchronized), estimated_error >= interval '0', maximal_error <= interval '1 hour' FROM leyser.clock_status() WHERE state <> 'unknown'}),
	$status =~ /^unknown/ ? '' : 't|t|t', '... as numbers that can be');
is(as('auditor', q{SET TimeZone = 'America/New_York'; SELECT log_time_zone, server_time_zone, session_time_zone, abs(extract(epoch FROM now_utc - now() AT TIME ZONE 'UTC')) < 60 FROM leyser.clock_status()}),
	'Asia/Tokyo|UTC|America/New_York|t', 'time zones of the log, the server and the session');
is_refused($node, 'SELECT * FROM leyser.clock_status()', '42501', 'not for applications', user => 'app');
is(as('auditor', 'SELECT latest_seen IS NULL, is_behind, moved_back FROM leyser.clock_status()'), 't|f|0', 'no tick yet');

# The other way round is the same: what was seen lies ahead.
$node->safe_psql('postgres', 'CALL leyser.tick()');
is(as('auditor', 'SELECT latest_seen <= now(), is_behind, moved_back FROM leyser.clock_status()'), 't|f|0', 'a tick');
$node->safe_psql('postgres', q{UPDATE leyser.tick_record SET latest_at = clock_timestamp() + interval '1 hour'; CALL leyser.tick(); CALL leyser.tick()});
is(as('auditor', q{SELECT is_behind, moved_back, moved_back_from = latest_seen, moved_back_at < now() FROM leyser.clock_status()}), 't|1|t|t', 'a clock that was moved back is counted once');
is($node->safe_psql('postgres', q{SELECT count(*), min(detail ->> 'from') IS NOT NULL FROM leyser.event WHERE event = 'clock.moved_back'}), '1|t', '... and recorded once');
$node->safe_psql('postgres', 'CALL leyser.tick(accept_clock => true)');
is(as('auditor', q{SELECT is_behind, moved_back FROM leyser.clock_status()}), 'f|1', 'accepted, it is told still');
$node->safe_psql('postgres', q{UPDATE leyser.tick_record SET latest_at = clock_timestamp() + interval '2 hours'; CALL leyser.tick()});
is(as('auditor', q{SELECT is_behind, moved_back FROM leyser.clock_status()}), 't|2', 'another time');

$node->stop;
done_testing();
