# Tenants stay apart on shared connections, with hostile clients among them, for
# 120,000 transactions.

use strict;
use warnings;

use HostilePool;
use Test::More;

test_hostile_pool(40_000);

done_testing();
