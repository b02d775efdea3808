# What the README shows is what happens: its code blocks are run in order, except
# those that need more packages (test/long/recipes.pl).

use strict;
use warnings;

use LeyserReadme;
use PostgreSQL::Test::Utils;
use Test::More;

my $folder = PostgreSQL::Test::Utils::tempdir;
my $node = readme_node();

foreach my $block (grep { !$_->{long} } readme_blocks())
{
	test_readme_block($block, $folder);
}

$node->stop;
done_testing();
