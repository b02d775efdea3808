# Who keeps the books has no power over leyser's own backups: no word of theirs has a
# good one removed, nor hides one that is there.

use strict;
use warnings;

use LeyserBackup;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = backup_node('words');
my $id = $node->safe_psql('postgres', q{SELECT leyser.take_backup('ours')}, extra_params => [ '-U', 'keeper' ]);
my $location = $node->safe_psql('postgres', "SELECT location FROM leyser.backup_generation WHERE generation_id = $id");

foreach my $word ("verify_backup($id, false, 'bad')", "verify_backup($id, true, 'good')", "fail_backup($id, 'bad')",
	"complete_backup($id, '0/1', '0/2', 1, NULL)", "confirm_backup_deleted($id)")
{
	is_refused($node, "SELECT leyser.$word", 'LY008', "$word is refused", user => 'keeper');
}
$node->safe_psql('postgres', 'SELECT leyser.clean_backups()');
is($node->safe_psql('postgres', "SELECT state FROM leyser.backup_generation WHERE generation_id = $id"), 'verified',
	'the backup is what it was');
ok(-e "$location/data/backup_manifest", '... and there');

# Elsewhere only they can know.
rename $location, "$location.away" or die "could not rename the backup: $!";
$node->safe_psql('postgres', "SELECT leyser.confirm_backup_deleted($id)", extra_params => [ '-U', 'keeper' ]);
is($node->safe_psql('postgres', "SELECT state FROM leyser.backup_generation WHERE generation_id = $id"), 'deleted',
	'one that is not where it lay can be confirmed to be gone');

done_testing();
