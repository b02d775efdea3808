# The README's recipes for Python, each with the real driver: psycopg, SQLAlchemy and
# Django, on connections of their own and behind pgbouncer in transaction mode, where
# two tenants' transactions share a few connections.
#
# The README's blocks are run as they stand, up to the last one in Python.  Those for
# Ruby and Node.js: test/long/recipes.pl.

use strict;
use warnings;

use LeyserDocument;
use LeyserRecipes;
use PostgreSQL::Test::Utils;
use Test::More;

my $folder = PostgreSQL::Test::Utils::tempdir;
my $server_connections = 3;
my $transactions = 240;

local $ENV{PYTHONDONTWRITEBYTECODE} = 1;
my $node = document_node('max_connections = 40');
my @blocks = grep { !$_->{long} } document_blocks('README.md');
pop @blocks while $blocks[-1]{language} ne 'python';
foreach my $block (@blocks)
{
	test_block($block, $folder);
}

# Arguments: how the database is reached, how many connections the server may see.
sub try_way
{
	my ($way, $connections) = @_;

	foreach my $door ('psycopg', 'sqlalchemy', 'django')
	{
		run_program($way, $folder, 'shared.py', $door, $transactions, $connections);
	}
	return;
}

try_way('direct', 8);
my ($pooler, $port) = start_pooler($node, $server_connections);
$ENV{PGPORT} = $port;
try_way('pgbouncer', $server_connections);

$pooler->kill_kill;
$node->stop;
done_testing();
