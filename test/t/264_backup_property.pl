# After random days of backups, failures, verifications, deletions, other systems and
# policies the books hold what a model of their own holds, and expire what it would.

use strict;
use warnings;

use BackupProperty;
use Test::More;

test_backup_property(600);

done_testing();
