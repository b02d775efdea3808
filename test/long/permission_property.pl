# After random changes of roles, grants, denials, scopes, times and accounts all
# answers agree with a model of their own, for more than a thousand changes.

use strict;
use warnings;

use PermissionProperty;
use Test::More;

test_permission_property(60);

done_testing();
