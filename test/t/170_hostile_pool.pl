# Tenants stay apart on shared connections, with hostile clients among them: a
# short run of what test/long/hostile_pool.pl does at length.

use strict;
use warnings;

use HostilePool;
use Test::More;

test_hostile_pool(1500);

done_testing();
