# Backends and the server are killed while tenants are made, tables protected and
# keys rotated: after the restart each step happened as a whole or not at all, and
# the next call works.  test/long/crash.pl does the same for longer.

use strict;
use warnings;

use LeyserCrash;
use Test::More;

my $node = crash_node('crash');
kill_backends($node, 4);
kill_server($node, 'immediate');
kill_server($node, 'kill9');
$node->stop;
done_testing();
