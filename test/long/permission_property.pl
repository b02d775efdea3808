# After random changes of roles, grants, denials, scopes, times and accounts all
# answers agree with a model of their own, for 4,000 changes.

use strict;
use warnings;

use PermissionProperty;
use Test::More;

test_permission_property(200);

done_testing();
