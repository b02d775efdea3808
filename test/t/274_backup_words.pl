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

# A backup that is told to be of tomorrow does not stop the clock of the policy.
my $system = $node->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()');
my $tomorrow = time() + 23 * 3600;
my $ok = '{"code":0,"message":"ok"}';
$node->safe_psql('postgres', qq{SELECT leyser.import_backups('pgbackrest', '[{"name":"main","status":$ok,"archive":[],
	"db":[{"id":1,"repo-key":1,"system-id":$system,"version":"15"}],"repo":[{"key":1,"status":$ok}],
	"backup":[{"label":"F","type":"full","prior":null,"reference":null,"error":false,"database":{"id":1,"repo-key":1},
		"archive":{"start":"000000010000000000000001","stop":"000000010000000000000001"},"lsn":{"start":"0/1000000","stop":"0/1000100"},
		"timestamp":{"start":$tomorrow,"stop":$tomorrow},"info":{"size":1,"delta":1,"repository":{"delta":1,"size":1}}}]}]')},
	extra_params => [ '-U', 'keeper' ]);
my $old = $node->safe_psql('postgres', q{
	INSERT INTO leyser.generation_record (state, kind, tool, label, region, system_identifier, timeline, start_lsn, stop_lsn, started_at, completed_at, recorded_by, recorded_at)
	SELECT 'complete', 'full', 'manual', 'old', 'JP', c.system_identifier, 1, '0/1', '0/2', t, t, 'test', t
	FROM pg_control_system() c, (SELECT now() - interval '30 days') o (t) RETURNING generation_id});
is($node->safe_psql('postgres', 'SELECT leyser.expire_backups()', extra_params => [ '-U', 'keeper' ]), $old, 'what is too old expires');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.backup_alerts() WHERE alert = 'clock moved back'}), '0', '... and no clock is blamed');

done_testing();
