# LeyserBackup.pm
#
# What the tests of leyser's own backups share: nodes with a backup directory, the
# programs that run for one, and what must be left after any of them.

package LeyserBackup;

use strict;
use warnings;

use IPC::Run;
use LeyserCrash ();
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use Exporter qw(import);
our @EXPORT = qw(backup_node backup_directory books folders programs_of wait_for_program wait_until
  hold_checkpoints start_backup finish_backup kill_postmaster nothing_is_left);

# A node that can be backed up, with a role of usage "backup".
sub backup_node
{
	my ($name, %options) = @_;
	my $node = new_node($name, init => { allows_streaming => 1 }, start => 0);

	mkdir backup_directory($node), 0700 or die "could not make the backup directory: $!";
	$node->append_conf('postgresql.conf', "leyser.backup_directory = '" . backup_directory($node) . "'");
	$node->append_conf('postgresql.conf', $options{conf}) if defined $options{conf};
	$node->start;
	create_extension($node, 'postgres');
	$node->safe_psql('postgres', q{
		CREATE ROLE keeper LOGIN;
		SELECT leyser.grant_usage('keeper', 'backup');
	});
	return $node;
}

sub backup_directory
{
	my ($node) = @_;

	return $node->basedir . '/own_backups';
}

# The rows of the books, oldest first: what of them is asked for.
sub books
{
	my ($node, $what) = @_;

	return $node->safe_psql('postgres', "SELECT $what FROM leyser.generation_record ORDER BY generation_id");
}

# What lies in the backup directory.
sub folders
{
	my ($node) = @_;
	my @found = grep { $_ ne '.leyser' } slurp_dir(backup_directory($node));

	return sort grep { !/^\.\.?$/ } @found;
}

# The processes that work for a node's backups (a zombie has no command line).
sub programs_of
{
	my ($node) = @_;
	my $directory = backup_directory($node);
	my @pids;

	foreach my $file (glob '/proc/[0-9]*/cmdline')
	{
		open(my $handle, '<', $file) or next;
		my $line = do { local $/ = undef; <$handle> };
		close $handle;
		next unless defined $line && $line =~ /^[^\0]*\/pg_(basebackup|verifybackup)\0/ && index($line, $directory) >= 0;
		push @pids, $file =~ /(\d+)/;
	}
	return @pids;
}

sub wait_until
{
	my ($what, $condition) = @_;

	for (my $i = 0; $i < 180 * 200; $i++)
	{
		return if $condition->();
		usleep(5000);
	}
	die "timed out waiting: $what";
}

sub wait_for_program
{
	my ($node) = @_;

	wait_until('for a program', sub { programs_of($node) });
	return;
}

# No checkpoint ends from now on, so no base backup gets beyond its beginning;
# gives what is to be sent SIGCONT.
sub hold_checkpoints
{
	my ($node) = @_;
	my $pid = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'});

	kill 'STOP', $pid;
	return $pid;
}

# A psql that takes a backup, in the background.
sub start_backup
{
	my ($node, %options) = @_;
	my %backup = (output => '', errors => '');
	my $before = $options{before} // '';

	$backup{run} = IPC::Run::start(
		[
			'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-v', 'ON_ERROR_STOP=1', '-U', 'keeper',
			'-d', $node->connstr('postgres'), '-c', "SET application_name = 'taker'; $before", '-c',
			'SELECT leyser.take_backup()'
		],
		'>', \$backup{output}, '2>', \$backup{errors});
	return \%backup;
}

# Its SQLSTATE: '' where it worked, XXXXX where the connection was lost.
sub finish_backup
{
	my ($backup) = @_;

	eval { $backup->{run}->finish; };
	my ($sqlstate) = $backup->{errors} =~ /(?:ERROR|FATAL):  ([0-9A-Z]{5}):/;
	return $sqlstate // ($backup->{errors} =~ /connection|terminat/ ? 'XXXXX' : '');
}

# kill -9, and the end of all that was its.
sub kill_postmaster
{
	my ($node) = @_;

	LeyserCrash::kill_postmaster($node);
	wait_until('for the end of the programs', sub { !programs_of($node) });
	return;
}

# After whatever happened: the books know no backup that runs, the directory holds
# those that they call verified, and no program is at work.
sub nothing_is_left
{
	my ($node, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.generation_record
		WHERE state NOT IN ('verified', 'failed', 'deleted') OR (state = 'failed') <> (deleted_at IS NOT NULL AND state <> 'deleted')}),
		0, "$name: the books are settled");
	is(join("\n", folders($node)), $node->safe_psql('postgres', q{SELECT regexp_replace(location, '.*/', '')
		FROM leyser.generation_record WHERE state = 'verified' ORDER BY location COLLATE "C"}),
		"$name: the directory holds what the books call verified");
	is(join(' ', programs_of($node)), '', "$name: no program is left");
	return;
}

1;
