# The server, the worker or a program is killed at random moments of backups: each
# time nothing is lost, nothing is doubled and no process stays.

use strict;
use warnings;

use LeyserBackup;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $rounds = $ENV{LEYSER_ROUNDS} // 30;
my $node = backup_node('backups', conf => "fsync = on\nrestart_after_crash = on");
my $finished = 0;

# Kills one of what is at work, and sees that the server answers.
my @kills = (
	[ 'pg_basebackup' => sub { kill 'KILL', (programs_of($node))[0] // () } ],
	[ 'the worker' => sub {
		my $pid = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'leyser backup worker'});
		kill 'KILL', $pid if $pid ne '';
	} ],
	[ 'the server' => sub { kill_postmaster($node); } ],
	[ 'the server, fast' => sub { $node->stop('fast'); } ]);

for my $round (1 .. $rounds)
{
	my ($what, $kill) = @{ $kills[ $round % @kills ] };
	my $before = $node->safe_psql('postgres', 'SELECT count(*) FROM leyser.generation_record');
	my $backup = start_backup($node);

	usleep(rand 8_000_000);
	$kill->();
	my $sqlstate = finish_backup($backup);
	$finished++ if $sqlstate eq '';
	if ($what =~ /server/)
	{
		$node->start;
	}
	$node->poll_query_until('postgres', 'SELECT NOT leyser.backup_is_running()') or die;
	$node->safe_psql('postgres', 'SELECT leyser.clean_backups()');
	nothing_is_left($node, "round $round, $what ($sqlstate)");
	cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM leyser.generation_record'), '<=', $before + 1, '... nothing is doubled');
	is($node->safe_psql('postgres', 'SELECT leyser.clean_backups()'), 0, '... and nothing is left to be done');
	# room for the next ones
	$node->safe_psql('postgres', q{SELECT leyser.move_generation(generation_id, 'expired') FROM leyser.generation_record WHERE state = 'verified';
		SELECT leyser.clean_backups()});
}
note("$finished of $rounds were through before the kill");
$node->safe_psql('postgres', 'SELECT leyser.take_backup()');
nothing_is_left($node, 'after all');
$node->stop;
done_testing();
