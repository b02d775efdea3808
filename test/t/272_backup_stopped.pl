# A backup that is cancelled, or whose program, worker or server is killed: nothing
# of it stays, neither files nor processes, and the books say that it failed.

use strict;
use warnings;

use LeyserBackup;
use LeyserTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = backup_node('stopped', conf => 'restart_after_crash = on');
my $worker = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'leyser backup worker'};
my $running = q{SELECT count(*) = 1 FROM leyser.generation_record WHERE state = 'running'};

# One test: the last backup failed, for a reason, and nothing is left of it.
sub it_failed
{
	my ($reason, $name) = @_;

	$node->poll_query_until('postgres', 'SELECT NOT leyser.backup_is_running()') or die;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like($node->safe_psql('postgres', q{SELECT state || ': ' || error FROM leyser.generation_record ORDER BY generation_id DESC LIMIT 1}),
		qr/^failed: $reason/, "$name: the books say so");
	nothing_is_left($node, $name);
	return;
}

# All is copied, and the folder has its name.
sub wait_for_copy
{
	my $folder = $node->safe_psql('postgres', q{SELECT location FROM leyser.generation_record WHERE state = 'running'});

	wait_until('for the copy', sub { -d $folder });
	return;
}

# A backup that waits for its first checkpoint; gives also what holds that up.
sub start_and_hold
{
	my (%options) = @_;
	my $held = hold_checkpoints($node);
	my $backup = start_backup($node, %options);

	$node->poll_query_until('postgres', $running) or die;
	wait_for_program($node);
	return ($backup, $held);
}

# ---- cancelled ----

my ($backup, $held) = start_and_hold();
$node->safe_psql('postgres', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'taker'});
is(finish_backup($backup), '57014', 'the call is cancelled');
kill 'CONT', $held;
it_failed('it was cancelled', 'a cancelled call');

($backup, $held) = start_and_hold(before => q{SET statement_timeout = '3s'});
is(finish_backup($backup), '57014', 'the call takes too long');
kill 'CONT', $held;
it_failed('it was cancelled', 'a call that took too long');

($backup, $held) = start_and_hold();
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'taker'});
is(finish_backup($backup), '57P01', 'the caller is gone');
kill 'CONT', $held;
it_failed('it was cancelled', 'a caller that went away');

# People are told of a failed one until there is a good one; it holds nobody's rows.
my $alerts = q{SELECT DISTINCT alert, detail, remedy FROM leyser.generation_alerts(clock_timestamp()) WHERE alert = 'failed'};
is($node->safe_psql('postgres', $alerts), 'failed|it was cancelled|Take another one.', 'an alert tells that backups fail');
is($node->safe_psql('postgres', 'SELECT count(*) FROM leyser.horizon_holders() WHERE alive'), 0, 'the horizon knows that nothing is left of them');

# One that was only started goes on without its caller.
$held = hold_checkpoints($node);
my $id = $node->safe_psql('postgres', q{SELECT leyser.perform_backup('by itself', false)});
is($node->safe_psql('postgres', "SELECT state FROM leyser.generation_record WHERE generation_id = $id"), 'running', 'it is in the books');
is($node->safe_psql('postgres', 'SELECT leyser.backup_is_running()'), 't', '... and is being taken');
kill 'CONT', $held;
$node->poll_query_until('postgres', "SELECT state = 'verified' FROM leyser.generation_record WHERE generation_id = $id") or die;
pass('it is verified in the end');
is($node->safe_psql('postgres', $alerts), '', '... and failures before it are history');
is($node->safe_psql('postgres', 'SELECT count(*) FROM leyser.horizon_holders() WHERE alive'), 1, '... and the horizon counts it');

# ---- the worker and its programs ----

($backup, $held) = start_and_hold();
$node->safe_psql('postgres', qq{SELECT pg_terminate_backend(pid) FROM ($worker) w});
is(finish_backup($backup), '57014', 'the worker is told to end');
kill 'CONT', $held;
it_failed('the worker was told to end', 'a worker that was told to end');

($backup, $held) = start_and_hold();
kill 'KILL', programs_of($node);
is(finish_backup($backup), '58000', 'pg_basebackup is killed');
kill 'CONT', $held;
it_failed('pg_basebackup was ended by signal 9', 'a killed pg_basebackup');

# While it copies: both its processes are stopped, so that nothing but a kill ends them.
$backup = start_backup($node);
wait_until('for both processes', sub { (my @both = programs_of($node)) == 2 });
is(kill('STOP', programs_of($node)), 2, 'the program works in two processes');
kill 'KILL', $node->safe_psql('postgres', $worker);
is(finish_backup($backup), 'XXXXX', 'a killed worker takes the server\'s sessions with it');
wait_for_server($node);
wait_until('for the end of the program', sub { programs_of($node) <= 1 });
is($node->safe_psql('postgres', $running), 't', 'the books still have it running');
is(scalar(grep { /\.partial$/ } folders($node)), 1, '... and its folder is there');
is($node->safe_psql('postgres', 'SELECT leyser.clean_backups() > 0'), 't', 'it is cleaned up');
it_failed('the server or its backup worker was stopped meanwhile', 'a killed worker');

# When all is copied, and the books do not know yet.
my $session = open_session($node);
$session->query_safe('BEGIN; SELECT 1');
$backup = start_backup($node);
$node->poll_query_until('postgres', $running) or die;
$session->query_safe('LOCK TABLE leyser.generation_record IN SHARE MODE');
wait_for_copy();
kill 'KILL', $node->safe_psql('postgres', $worker);
finish_backup($backup);
eval { $session->quit; };
wait_for_server($node);
is($node->safe_psql('postgres', $running), 't', 'the books still have it running');
is($node->safe_psql('postgres', 'SELECT leyser.clean_backups()'), 1, 'there is something to do');
is($node->safe_psql('postgres', q{SELECT state, completed_at IS NULL FROM leyser.generation_record ORDER BY generation_id DESC LIMIT 1}),
	'verified|f', 'a backup that is whole is not lost');
nothing_is_left($node, 'a worker that was killed before the books knew');

# A lock that is let go in time costs nothing but time.
$session = open_session($node);
$backup = start_backup($node);
$node->poll_query_until('postgres', $running) or die;
$session->query_safe('BEGIN; LOCK TABLE leyser.generation_record IN SHARE MODE');
wait_for_copy();
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE NOT granted}) or die;
usleep(3_500_000);
$session->query_safe('COMMIT');
$session->quit;
is(finish_backup($backup), '', 'books that were locked for seconds are waited for');
nothing_is_left($node, 'books that were locked');

# The verification is killed: the backup is whole, and is verified the next time.
my $killed = 0;
for (my $i = 0; $i < 20 && !$killed; $i++)
{
	$backup = start_backup($node);
	wait_until('for the verification', sub {
		my @verifying = grep { (slurp_file("/proc/$_/cmdline") // '') =~ /pg_verifybackup/ } grep { -r "/proc/$_/cmdline" } programs_of($node);
		$killed += kill 'KILL', @verifying;
		return $killed || !$backup->{run}->pumpable;
	});
	is(finish_backup($backup), $killed ? '58000' : '', $killed ? 'the verification is killed' : 'it was too fast');
}
is($killed, 1, 'the verification was met');
is($node->safe_psql('postgres', q{SELECT state FROM leyser.generation_record ORDER BY generation_id DESC LIMIT 1}), 'complete',
	'it is complete all the same');
is($node->safe_psql('postgres', 'SELECT leyser.clean_backups()'), 1, 'it is looked at again');
nothing_is_left($node, 'a killed verification');

# ---- the server ----

($backup, $held) = start_and_hold();
kill 'CONT', $held;
$node->stop('fast');
finish_backup($backup);
is(join(' ', programs_of($node)), '', 'nothing outlives the server');
$node->start;
my $last = $node->safe_psql('postgres', q{SELECT state FROM leyser.generation_record ORDER BY generation_id DESC LIMIT 1});
like($last, qr/^(failed|verified)$/, 'a shutdown leaves no running backup in the books');
nothing_is_left($node, 'a shutdown');

$backup = start_backup($node);
wait_for_program($node);
kill_postmaster($node);
finish_backup($backup);
pass('no program outlives a killed server');
$node->start;
$node->safe_psql('postgres', 'SELECT leyser.clean_backups()');
it_failed('the server or its backup worker was stopped meanwhile', 'a killed server');

# ---- another server's programs are not ours ----

my $other = backup_node('other');
my $others = hold_checkpoints($other);
my $theirs = start_backup($other);
wait_for_program($other);
$node->safe_psql('postgres', 'SELECT leyser.take_backup()');
is(scalar(my @left = programs_of($other)), 1, 'another server\'s program goes on');
kill 'CONT', $others;
is(finish_backup($theirs), '', '... and its backup ends well');
$other->stop;

$node->stop;
done_testing();
