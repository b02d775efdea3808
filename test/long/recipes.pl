# The README's recipes for Node.js, each with the real thing: node-postgres, Knex and
# PostGraphile from npm, on connections of their own and behind pgbouncer in
# transaction mode.
#
# The README's blocks are run as they stand, up to the last one that needs npm; then
# the programs of test/recipes use the files that the blocks left.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Copy qw(copy);
use IPC::Run;
use LeyserReadme;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $recipes = dirname(dirname(abs_path(__FILE__))) . '/recipes';
my $folder = PostgreSQL::Test::Utils::tempdir;
my $server_connections = 3;
my $transactions = 600;
my $patience = 180;  # s, for one program

# The packages as package-lock.json pins them; programs and blocks find them here.
sub install_packages
{
	my $output = '';

	foreach my $name ('package.json', 'package-lock.json')
	{
		copy("$recipes/$name", "$folder/$name") or die "could not copy $name: $!";
	}
	mkdir "$folder/checks";
	foreach my $program (glob "$recipes/*.js")
	{
		copy($program, "$folder/checks/") or die "could not copy $program: $!";
	}
	$ENV{npm_config_cache} = "$folder/npm";
	$ENV{npm_config_update_notifier} = 'false';
	foreach my $try (1 .. 3)
	{
		IPC::Run::run([ 'npm', 'ci', '--ignore-scripts', '--no-audit', '--no-fund' ],
			'<', \undef, '>&', \$output, init => sub { chdir $folder or die });
		last if $? == 0;
	}
	is($?, 0, 'the packages are installed') or BAIL_OUT($output);
	return;
}

# A pooler in transaction mode, and its port.
sub start_pooler
{
	my ($node) = @_;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $place = PostgreSQL::Test::Utils::tempdir_short;
	my ($server_host, $server_port) = ($node->host, $node->port);

	append_to_file("$place/users", qq("shop_app" ""\n));
	append_to_file("$place/pgbouncer.ini", <<"END");
[databases]
shop = host=$server_host port=$server_port dbname=shop
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir = $place
auth_type = trust
auth_file = $place/users
logfile = $place/log
pidfile = $place/pgbouncer.pid
pool_mode = transaction
default_pool_size = $server_connections
max_client_conn = 100
END
	my $pooler = IPC::Run::start([ '/usr/sbin/pgbouncer', '-q', "$place/pgbouncer.ini" ],
		'<', \undef, '>', '/dev/null', '2>', '/dev/null');
	return ($pooler, $port);
}

# Runs a program of test/recipes, and has each line that it tells as a test.
# Arguments: how the database is reached, the program, its arguments.
sub run_program
{
	my ($way, $program, @arguments) = @_;
	my $output = '';
	my $told = 0;

	my $worked = IPC::Run::run([ 'timeout', $patience, 'node', "checks/$program.js", @arguments ],
		'<', \undef, '>&', \$output, init => sub { chdir $folder or die });
	foreach my $line (split /\n/, $output)
	{
		my ($verdict, $name) = $line =~ /^(ok|not ok) (.*)$/ or next;

		$told++;
		ok($verdict eq 'ok', "$way, $program @arguments: $name");
	}
	ok($worked && $told > 0 && $output =~ /^told $told$/m, "$way, $program @arguments: to its end")
	  or diag($output);
	return;
}

# PostGraphile as in the README, asked by two tenants.
# Arguments: how the database is reached.
sub run_postgraphile
{
	my ($way) = @_;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $output = '';

	local $ENV{PORT} = $port;
	local $ENV{POSTGRAPHILE_PREPARED_STATEMENT_CACHE_SIZE} = 0 if $way eq 'pgbouncer';
	my $server = IPC::Run::start([ 'node', 'graphql.js' ],
		'<', \undef, '>&', \$output, init => sub { chdir $folder or die });
	run_program($way, 'graphql_client', "http://localhost:$port");
	$server->kill_kill;
	note($output);
	return;
}

# All that a way to the database is put through.
# Arguments: its name, how many connections the server may see.
sub try_way
{
	my ($way, $connections) = @_;

	foreach my $driver ('pg', 'knex')
	{
		run_program($way, 'refused', $driver);
		run_program($way, 'shared', $driver, $transactions, $connections);
	}
	run_postgraphile($way);
	return;
}

install_packages();
my $node = readme_node('max_connections = 40');
my @blocks = readme_blocks();
pop @blocks while !$blocks[-1]{npm};
foreach my $block (@blocks)
{
	test_readme_block($block, $folder);
}

try_way('direct', 10);
my ($pooler, $port) = start_pooler($node);
$ENV{DATABASE_URL} = "postgres://shop_app\@127.0.0.1:$port/shop";
try_way('pgbouncer', $server_connections);

$pooler->kill_kill;
$node->stop;
done_testing();
