# The README's recipes for Ruby and Node.js, each with the real thing: ActiveRecord, and
# node-postgres, Knex and PostGraphile from npm, on connections of their own and behind
# pgbouncer in transaction mode.
#
# The README's blocks are run as they stand, up to the last one of these; then the
# programs of test/recipes use the files that the blocks left.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Copy qw(copy);
use IPC::Run;
use LeyserDocument;
use LeyserRecipes;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $recipes = dirname(dirname(abs_path(__FILE__))) . '/recipes';
my $folder = PostgreSQL::Test::Utils::tempdir;
my $server_connections = 3;
my $transactions = 600;

# The packages as package-lock.json pins them; the README's files find them in their folder.
sub install_packages
{
	my $output = '';

	foreach my $name ('package.json', 'package-lock.json')
	{
		copy("$recipes/$name", "$folder/$name") or die "could not copy $name: $!";
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
	run_program($way, $folder, 'graphql_client.js', "http://localhost:$port");
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
		run_program($way, $folder, 'refused.js', $driver);
		run_program($way, $folder, 'shared.js', $driver, $transactions, $connections);
	}
	run_postgraphile($way);
	run_program($way, $folder, 'shared.rb', $transactions, $connections);
	return;
}

install_packages();
my $node = document_node('max_connections = 40');
my @blocks = document_blocks('README.md');
pop @blocks while !$blocks[-1]{long};
foreach my $block (@blocks)
{
	test_block($block, $folder);
}

try_way('direct', 10);
my ($pooler, $port) = start_pooler($node, $server_connections);
$ENV{DATABASE_URL} = "postgres://shop_app\@localhost:$port/shop?prepared_statements=false";
try_way('pgbouncer', $server_connections);

$pooler->kill_kill;
$node->stop;
done_testing();
