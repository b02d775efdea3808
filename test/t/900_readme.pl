# What the README shows is what happens: its code blocks are run in order, except
# those that need more packages (test/long/recipes.pl).

use strict;
use warnings;

use LeyserDocument;
use Test::More;

test_document('README.md');
done_testing();
