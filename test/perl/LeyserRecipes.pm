# LeyserRecipes.pm
#
# The programs of test/recipes use the files that the README's blocks left in a folder,
# directly and through a pooler, and tell a line a test: "ok NAME" or "not ok NAME: …",
# and "told N" at the end.

package LeyserRecipes;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Exporter qw(import);
our @EXPORT = qw(start_pooler run_program);

my $recipes = dirname(dirname(abs_path(__FILE__))) . '/recipes';
my $patience = 180;    # s, for one program
my %interpreters = (js => 'node', py => '/usr/bin/python3', rb => '/usr/bin/ruby');

# pgbouncer in transaction mode before database "shop"; gives it, and its port.
# Arguments: the node, how many connections it may have there.
sub start_pooler
{
	my ($node, $connections) = @_;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $place = PostgreSQL::Test::Utils::tempdir_short;
	my ($server_host, $server_port) = ($node->host, $node->port);

	append_to_file("$place/users", qq("shop_app" ""\n));
	append_to_file("$place/pgbouncer.ini", <<"END");
[databases]
shop = host=$server_host port=$server_port dbname=shop
[pgbouncer]
listen_addr = localhost
listen_port = $port
unix_socket_dir = $place
auth_type = trust
auth_file = $place/users
logfile = $place/log
pidfile = $place/pgbouncer.pid
pool_mode = transaction
default_pool_size = $connections
max_client_conn = 100
END
	my $pooler = IPC::Run::start([ '/usr/sbin/pgbouncer', '-q', "$place/pgbouncer.ini" ],
		'<', \undef, '>', '/dev/null', '2>', '/dev/null');
	return ($pooler, $port);
}

# Runs a program, and has each line that it tells as a test.
# Arguments: how the database is reached, the folder, the program, its arguments.
sub run_program
{
	my ($way, $folder, $program, @arguments) = @_;
	my ($kind) = $program =~ /\.(\w+)$/;
	my $name = join ' ', "$way:", $program, @arguments;
	my $output = '';
	my $told = 0;

	my $worked = IPC::Run::run(
		[ 'timeout', $patience, $interpreters{$kind}, "$recipes/$program", @arguments ],
		'<', \undef, '>&', \$output, init => sub { chdir $folder or die });
	foreach my $line (split /\n/, $output)
	{
		my ($verdict, $what) = $line =~ /^(ok|not ok) (.*)$/ or next;

		$told++;
		ok($verdict eq 'ok', "$name: $what");
	}
	ok($worked && $told > 0 && $output =~ /^told $told$/m, "$name: to its end")
	  or diag($output);
	return;
}

1;
