# LeyserSchedule.pm
#
# Ticks, called by an operator or by pg_cron, and what they leave.

package LeyserSchedule;

use strict;
use warnings;

use IPC::Run;
use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

use Exporter qw(import);
our @EXPORT = qw($alerts schedule_node as_operator tick start_tick make_due runs_are alerts_are);

# What is told of the schedule and the archive; a new server has no backups either.
our $alerts = q{(SELECT * FROM leyser.backup_alert
	WHERE alert ~ '^(heartbeat|clock moved|job|purge cannot|pg_cron|archiv(ing|e gapped))') alerts};

# A node with tables of tenants and an operator.  Options: as new_node.
sub schedule_node
{
	my ($name, %options) = @_;
	my $node = purge_node($name, %options);

	$node->safe_psql('postgres', q{
		CREATE ROLE operator LOGIN;
		SELECT leyser.grant_usage('operator', 'operator');
	});
	return $node;
}

sub as_operator
{
	my ($node, $sql, $database) = @_;

	return $node->safe_psql($database // 'postgres', $sql, extra_params => [ '-U', 'operator' ]);
}

sub tick
{
	my ($node, $arguments) = @_;

	as_operator($node, 'CALL leyser.tick(' . ($arguments // '') . ')');
	return;
}

# A tick that goes on while the test does; gives its psql and waits until it waits
# for a lock, where that is wanted.
sub start_tick
{
	my ($node, $arguments) = @_;
	my $errors = '';
	my $run = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres') . ' user=operator',
			'-c', "CALL leyser.tick($arguments)" ], '<', '/dev/null', '>', '/dev/null', '2>', \$errors);

	$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE query ~ '^CALL leyser.tick' AND wait_event_type = 'Lock'}) or die "the tick does not wait: $errors";
	return ($run, \$errors);
}

# Moves due times, as if nobody had called for so long.
sub make_due
{
	my ($node, $job, $ago) = @_;

	$node->safe_psql('postgres', qq{UPDATE leyser.job_record
		SET due_at = clock_timestamp() - interval '$ago', retry_at = NULL WHERE job = '$job'});
	return;
}

# One test: the runs since a run, "job state detail" each.
sub runs_are
{
	my ($node, $since, $expected, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(as_operator($node, qq{SELECT concat_ws(' ', job, state, detail) FROM leyser.job_run WHERE run_id > $since ORDER BY run_id}),
		join("\n", @$expected), $name);
	return;
}

# One test: these alerts, "alert subject" each.
sub alerts_are
{
	my ($node, $expected, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(as_operator($node, qq{SELECT concat_ws(' ', alert, subject) FROM $alerts ORDER BY alert, subject}),
		join("\n", @$expected), $name);
	return;
}

1;
