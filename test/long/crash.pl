# The kills of test/t/175_crash.pl, dozens of times.

use strict;
use warnings;

use LeyserCrash;
use Test::More;

my $node = crash_node('crash');
kill_backends($node, 60);
for (1 .. 20)
{
	kill_server($node, 'immediate');
	kill_server($node, 'kill9');
}
$node->stop;
done_testing();
