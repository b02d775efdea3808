# After random changes of roles, grants, denials, scopes, times and accounts
# has_permission(), explain_permission(), permissions_of(), accounts_with() and
# had_permission() agree with a model of their own: a short run of what
# test/long/permission_property.pl does at length.

use strict;
use warnings;

use PermissionProperty;
use Test::More;

test_permission_property(6);

done_testing();
