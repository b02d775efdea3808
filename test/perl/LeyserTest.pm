# LeyserTest.pm
#
# What the TAP tests share: nodes with leyser preloaded, and statements that
# must be refused with a certain SQLSTATE.

package LeyserTest;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use Exporter qw(import);
our @EXPORT = qw(new_node make_installation keyring_directory create_extension sqlstate_of is_refused
  open_session sqlstate_in is_refused_in log_since log_position wait_for_server);

my $test_folder = dirname(dirname(abs_path(__FILE__)));

# The lines of postgresql.conf with which a node of one's own preloads leyser.
sub leyser_settings
{
	my $settings = `'$test_folder/cluster' settings`;
	die "test/cluster settings failed" if $? != 0;
	return $settings;
}

# A copy of the server's installation in a temporary folder, into which leyser is
# installed as into any other: $libdir is below.  Gives what a node takes as install_path.
sub make_installation
{
	my $folder = PostgreSQL::Test::Utils::tempdir_short();
	my %place = map { chomp(my $path = `pg_config --$_`); $_ => $path } qw(bindir pkglibdir sharedir);

	# The server looks for its files from where its program really lies.
	foreach my $name (keys %place)
	{
		my $how = $name eq 'bindir' ? '-a' : '-as';

		system_or_bail('mkdir', '-p', "$folder$place{$name}");
		system_or_bail('cp', $how, "$place{$name}/.", "$folder$place{$name}");
	}
	system_or_bail('cp', '-a', '--remove-destination', "$ENV{LEYSER_STAGE}/.", $folder) if $ENV{LEYSER_STAGE};
	return dirname("$folder$place{bindir}");
}

# Where a node's keys lie: outside its data directory, which a backup copies.
sub keyring_directory
{
	my ($node) = @_;

	return $node->basedir . '/keyring';
}

# Makes and starts a node with a keyring and, in database "postgres", leyser.
# Options: init (arguments for PostgreSQL::Test::Cluster->init), conf (lines of
# postgresql.conf), install_path (of make_installation(), where leyser is not to be found
# by settings), start => 0 and extension => 0 to stop before that step.
sub new_node
{
	my ($name, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name,
		defined $options{install_path} ? (install_path => $options{install_path}) : ());
	my %init = %{ $options{init} // {} };

	$init{extra} = [ '-E', 'UTF8', '--locale=C', @{ $init{extra} // [] } ];
	$node->init(%init);
	mkdir keyring_directory($node), 0700 or die "could not make the keyring directory: $!";
	{
		local $ENV{LEYSER_STAGE} = defined $options{install_path} ? '' : $ENV{LEYSER_STAGE} // '';
		$node->append_conf('postgresql.conf', leyser_settings());
	}
	$node->append_conf('postgresql.conf',
		"leyser.keyring_directory = '" . keyring_directory($node) . "'");
	$node->append_conf('postgresql.conf', $options{conf}) if defined $options{conf};

	return $node unless $options{start} // 1;
	$node->start;
	create_extension($node, 'postgres') if $options{extension} // 1;
	return $node;
}

# Makes a database able to use tokens; the keyring is made, or adopted.
sub create_extension
{
	my ($node, $database) = @_;

	$node->safe_psql($database, 'CREATE EXTENSION leyser CASCADE');
	$node->safe_psql($database, 'SELECT leyser.initialize_keyring()');
	return;
}

# Runs statements until one fails.  Gives its SQLSTATE ('' where none failed),
# and in list context also the whole message.  Options: user, database.
sub sqlstate_of
{
	my ($node, $sql, %options) = @_;
	my ($stdout, $stderr);

	$node->psql(
		$options{database} // 'postgres', $sql,
		stdout => \$stdout,
		stderr => \$stderr,
		on_error_stop => 1,
		extra_params => [
			'-v', 'VERBOSITY=verbose',
			defined $options{user} ? ('-U', $options{user}) : ()
		]);
	my ($sqlstate) = $stderr =~ /(?:ERROR|FATAL|PANIC):  ([0-9A-Z]{5}):/;
	$sqlstate //= $stderr =~ /(?:ERROR|FATAL|PANIC):|connection .* failed/ ? 'XXXXX' : '';
	return wantarray ? ($sqlstate, $stderr) : $sqlstate;
}

# One test: the statements are refused with this SQLSTATE.
sub is_refused
{
	my ($node, $sql, $sqlstate, $name, %options) = @_;
	my ($got, $message) = sqlstate_of($node, $sql, %options);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($got, $sqlstate, $name) or diag($message);
	return;
}

# An open session, whose errors show their SQLSTATE.  Options: user, database.
sub open_session
{
	my ($node, %options) = @_;

	return $node->background_psql(
		$options{database} // 'postgres',
		on_error_stop => 0,
		extra_params => [
			'-v', 'VERBOSITY=verbose',
			defined $options{user} ? ('-U', $options{user}) : ()
		]);
}

# Runs a statement in an open session; gives its SQLSTATE ('' where it worked),
# and in list context also the whole message.
sub sqlstate_in
{
	my ($session, $sql) = @_;

	$session->{stderr} = '';
	$session->query($sql);
	my $message = $session->{stderr};
	$session->{stderr} = '';
	my ($sqlstate) = $message =~ /(?:ERROR|FATAL|PANIC):  ([0-9A-Z]{5}):/;
	$sqlstate //= $message =~ /(?:ERROR|FATAL|PANIC):|connection .* lost/ ? 'XXXXX' : '';
	return wantarray ? ($sqlstate, $message) : $sqlstate;
}

# One test: the statement is refused with this SQLSTATE in an open session.
sub is_refused_in
{
	my ($session, $sql, $sqlstate, $name) = @_;
	my ($got, $message) = sqlstate_in($session, $sql);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($got, $sqlstate, $name) or diag($message);
	return;
}

# Where a node's log ends now, and what came after such a place.
sub log_position
{
	my ($node) = @_;

	return -s $node->logfile;
}

sub log_since
{
	my ($node, $position) = @_;

	return slurp_file($node->logfile, $position);
}

# Waits until a server of which something was killed takes connections again: before, psql
# would not even read the query that a poll hands it.  For a moment the server does not
# know yet, and takes them still; its log says when it does.
my %crashes;

sub wait_for_server
{
	my ($node) = @_;
	my $known = $crashes{ $node->logfile } // 0;

	for (1 .. 20)
	{
		$crashes{ $node->logfile } = () = slurp_file($node->logfile) =~ /was terminated by signal/g;
		last if $crashes{ $node->logfile } > $known;
		usleep(100_000);
	}
	for (1 .. 1800)
	{
		return if system('pg_isready', '-q', '-h', $node->host, '-p', $node->port) == 0;
		usleep(100_000);
	}
	die 'the server did not come back';
}

1;
