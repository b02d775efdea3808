# pgBackRest, really run: its catalogue in the books, as leyser asks for it.

use strict;
use warnings;

use LeyserImport;
use LeyserTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $folder = PostgreSQL::Test::Utils::tempdir_short();
my $node = new_node('pgbackrest', start => 0, init => { allows_streaming => 1, extra => ['--data-checksums'] });
my $script = pgbackrest_files($node, $folder);
$node->append_conf('postgresql.conf', "archive_mode = on
	archive_command = '$script --stanza=main archive-push %p'
	leyser.pgbackrest_command = '$script'");
$node->start;
create_extension($node, 'postgres');
$node->safe_psql('postgres', q{
	CREATE ROLE keeper LOGIN; SELECT leyser.grant_usage('keeper', 'backup');
	CREATE ROLE nobody LOGIN;
	CREATE TABLE item AS SELECT g AS n, repeat('x', 100) AS content FROM generate_series(1, 1000) g;
});

# One test: what a sync says, as a role that keeps the books.
sub sync_gives
{
	my ($expected, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', q{SELECT * FROM leyser.sync_pgbackrest('main')}, extra_params => [ '-U', 'keeper' ]),
		$expected, $name);
	return;
}

pgbackrest($script, 'stanza-create');
pgbackrest($script, 'backup', '--repo=1', "--type=$_") for qw(full diff incr);
pgbackrest($script, 'backup', '--repo=2', '--type=full');
sync_gives('4|0|0', 'backups of two repositories are recorded');
is(generations($node, q{source = 'main/1'}), "full|complete\ndifferential|complete\nincremental|complete", 'the kinds');
is($node->safe_psql('postgres', q{SELECT p.kind FROM leyser.generation_record g JOIN leyser.generation_record p ON p.generation_id = g.parent
	ORDER BY g.started_at}), "full\ndifferential", '... have their parents');
is($node->safe_psql('postgres', q{
	SELECT count(*) FROM leyser.generation_record g, pg_control_system() c
	WHERE g.system_identifier = c.system_identifier AND g.timeline = 1 AND g.region = 'JP' AND g.bytes > 0
	  AND g.stop_lsn > g.start_lsn AND g.completed_at >= g.started_at AND g.recorded_by = 'keeper'
	  AND g.stop_lsn <= pg_current_wal_lsn()}), '4', '... and all that the horizon needs');
is($node->safe_psql('postgres', q{
	SELECT source, oldest_segment, oldest_lsn, timeline FROM leyser.wal_archive_record ORDER BY source}),
	"main/1|000000010000000000000001|0/1000000|1\nmain/2|000000010000000000000001|0/1000000|1", 'the archives of WAL, too');

# Again, by hand, and of a part.
changes_nothing($node, q{SELECT leyser.sync_pgbackrest()}, 'a second sync changes nothing');
my $info = pgbackrest($script, 'info', '--output=json');
changes_nothing($node, sub {
	is($node->safe_psql('postgres', "SELECT * FROM leyser.import_backups('pgbackrest', " . catalogue_of($info) . ')'), '0|0|0',
		'the printed catalogue tells the same');
}, '... and changes nothing');
my $part = pgbackrest($script, 'info', '--output=json', '--repo=2');
changes_nothing($node, "SELECT leyser.import_backups('pgbackrest', " . catalogue_of($part) . ')',
	'a catalogue of one repository says nothing of the other');
my ($label) = $info =~ /"label":"(\w+-\w+F)"/;
my $one = pgbackrest($script, 'info', '--output=json', "--set=$label", '--repo=1');
is_refused($node, "SELECT leyser.import_backups('pgbackrest', " . catalogue_of($one) . ')', '22023', 'one of a single backup is no catalogue');

# expire: what is gone is deleted, and the archive begins later.
pgbackrest($script, 'backup', '--repo=1', '--type=full');
pgbackrest($script, 'expire', '--repo=1', '--repo1-retention-full=1');
sync_gives('1|0|3', 'expire removes a full backup with all that need it');
is(generations($node, q{source = 'main/1'}),
	"full|deleted\ndifferential|deleted\nincremental|deleted\nfull|complete", '... their rows stay');
is($node->safe_psql('postgres', q{
	SELECT w.oldest_lsn > '0/1000000' AND w.oldest_lsn <= g.start_lsn FROM leyser.wal_archive_record w
	JOIN leyser.generation_record g ON g.tool = w.tool AND g.source = w.source AND g.state = 'complete'
	WHERE w.source = 'main/1'}), 't', '... and the archive begins at the one that stays');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event WHERE event = 'backup.deleted'}), '3', '... each is an event');

# A page that is damaged: the backup is failed, what needs it an orphan.
my $file = $node->data_dir . '/' . $node->safe_psql('postgres', q{CHECKPOINT; SELECT pg_relation_filepath('item')});
open(my $pages, '+<', $file) or die "could not open $file: $!";
binmode $pages;
seek($pages, 8192 + 4000, 0);
print $pages 'damaged';
close($pages);
pgbackrest($script, 'backup', '--repo=1', '--type=full');
$node->safe_psql('postgres', 'DROP TABLE item');
pgbackrest($script, 'backup', '--repo=1', '--type=diff');
sync_gives('2|0|0', 'a backup with a damaged page, and one that needs it');
is(generations($node, q{source = 'main/1' AND state <> 'deleted'}), "full|complete\nfull|failed\ndifferential|orphan",
	'... are failed and an orphan');
isnt($node->safe_psql('postgres', q{SELECT error FROM leyser.generation_record WHERE state = 'failed'}), '', '... with a reason');

# Somebody removes a backup's folder: pgBackRest finds out, then leyser.
my $failed = $node->safe_psql('postgres', q{SELECT label FROM leyser.generation_record WHERE state = 'failed'});
system_or_bail('rm', '-rf', "$folder/repo1/backup/main/$failed");
pgbackrest($script, 'backup', '--repo=1', '--type=full');
sync_gives('1|0|2', 'what was removed by hand is gone, with what needed it');
is(generations($node, q{source = 'main/1' AND label ~ '^} . $failed . q{'}), "full|deleted\ndifferential|deleted", '... and deleted');

# A repository that cannot be read deletes nothing.
rename "$folder/repo1", "$folder/elsewhere" or die;
changes_nothing($node, q{SELECT leyser.sync_pgbackrest('main')}, 'a repository that is not there deletes nothing');
like((sqlstate_of($node, q{SELECT leyser.sync_pgbackrest('main')}))[1], qr{WARNING: .*main/1}s, '... and is named');
rename "$folder/repo2", "$folder/elsewhere2" or die;
is_refused($node, q{SELECT leyser.sync_pgbackrest('main')}, '58000', 'where none can be read it is an error', user => 'keeper');
rename "$folder/elsewhere2", "$folder/repo2" or die;
rename "$folder/elsewhere", "$folder/repo1" or die;
sync_gives('0|0|0', '... until they are there again');

# Another system under the same stanza, as after pg_upgrade.
my $upgraded = PostgreSQL::Test::Cluster->new('upgraded');
$upgraded->init(allows_streaming => 1);
$upgraded->append_conf('postgresql.conf', "archive_mode = on\narchive_command = '$folder/upgraded/pgbackrest --stanza=main archive-push %p'");
mkdir "$folder/upgraded";
my $new_script = pgbackrest_files($upgraded, "$folder/upgraded");
my $configuration = slurp_file("$folder/upgraded/pgbackrest.conf");
$configuration =~ s{$folder/upgraded/(repo\d)}{$folder/$1}g;
unlink "$folder/upgraded/pgbackrest.conf";
append_to_file("$folder/upgraded/pgbackrest.conf", $configuration);
$upgraded->start;
$node->safe_psql('postgres', q{ALTER SYSTEM SET archive_command = '/bin/true'; SELECT pg_reload_conf()});
pgbackrest($new_script, 'stanza-upgrade');
pgbackrest($new_script, 'backup', '--repo=1', '--type=full');
sync_gives('1|0|0', 'a stanza goes on with another system');
is($node->safe_psql('postgres', q{
	SELECT count(DISTINCT system_identifier), count(*) FILTER (WHERE state = 'complete') FROM leyser.generation_record WHERE source = 'main/1'}),
	'2|3', '... whose backups are told from the former one\'s');
is($node->safe_psql('postgres', q{
	SELECT count(*), count(oldest_lsn) FROM leyser.wal_archive_record WHERE source = 'main/1'}), '2|1',
	'... and its archive, of which nobody here knows how large a segment is');
$upgraded->stop;

# Bad input and a program that does not do what it should.
is_refused($node, q{SELECT leyser.sync_pgbackrest('main')}, '42501', 'a role without usage may not ask', user => 'nobody');
is_refused($node, q{SELECT leyser.pgbackrest_info('main')}, '42501', 'the inner function is nobody\'s', user => 'keeper');
for my $stanza ("x; touch $folder/touched", '--config=/etc/passwd', '', '..', 'a' x 64, "main\n")
{
	is_refused($node, 'SELECT leyser.sync_pgbackrest(' . catalogue_of($stanza) . ')', '22023', 'no name of a stanza', user => 'keeper');
}
is_refused($node, q{SELECT leyser.sync_pgbackrest('unknown')}, '58000', 'an unknown stanza', user => 'keeper');
is_refused($node, q{BEGIN; SET leyser.pgbackrest_command = '/bin/true'}, '55P02', 'no session names the program');
is_refused($node, q{ALTER SYSTEM SET leyser.pgbackrest_command = 'pgbackrest'}, '22023', 'it is named by its whole path');

# One test: with such a program in place of pgBackRest.
sub program_gives
{
	my ($text, $sqlstate, $name) = @_;
	my $program = "$folder/program";

	unlink $program;
	if (defined $text)
	{
		append_to_file($program, "#!/bin/sh\n$text\n");
		chmod 0755, $program;
	}
	changes_nothing($node, sub {
		is_refused($node, q{SELECT leyser.sync_pgbackrest()}, $sqlstate, $name, user => 'keeper');
	}, '... and the books are unchanged');
	return;
}
$node->append_conf('postgresql.conf', "leyser.pgbackrest_command = '$folder/program'");
$node->reload;
$node->poll_query_until('postgres', "SELECT current_setting('leyser.pgbackrest_command') = '$folder/program'");
my $position = log_position($node);
program_gives(undef, '58P01', 'a program that is not there');
program_gives('exit 3', '58000', 'one that fails');
program_gives('echo key=SECRET >&2; exit 3', '58000', 'one that fails with a message');
my ($sqlstate, $message) = sqlstate_of($node, 'SELECT leyser.sync_pgbackrest()');
unlike($message, qr/SECRET/, '... which the caller does not see');
like(log_since($node, $position), qr/SECRET/, '... and the server log has');
program_gives('kill -9 $$', '58000', 'one that is killed');
program_gives('echo nonsense', '58000', 'one that prints something else');
program_gives('echo "[]"', '58000', 'one that knows no stanza');
program_gives(q(echo '{"main": []}'), '58000', 'one that prints other JSON');
program_gives(q(printf '["\377"]'), '22021', 'one that prints no characters');
chmod 0600, "$folder/program";
is_refused($node, q{SELECT leyser.sync_pgbackrest()}, '42501', 'one that cannot be run', user => 'keeper');

# Whoever does not wait any longer ends it.
append_to_file("$folder/slow", "#!/bin/sh\necho \$\$ > $folder/pid\nexec sleep 300\n");
chmod 0755, "$folder/slow";
rename "$folder/slow", "$folder/program";
is_refused($node, q{SET statement_timeout = '2s'; SELECT leyser.sync_pgbackrest()}, '57014', 'a slow one can be cancelled');
chomp(my $pid = slurp_file("$folder/pid"));
my $tries = 100;
usleep(100_000) while kill(0, $pid) && $tries-- > 0;
ok(!kill(0, $pid), '... and does not stay');
is($node->safe_psql('postgres', 'SELECT 1'), '1', 'the server works');

# A tick gives it what is left of the tick's own time.
$node->safe_psql('postgres', q{CALL leyser.tick('5 seconds')});
my ($told) = $node->safe_psql('postgres', q{SELECT detail FROM leyser.job_run WHERE job = 'sync pgbackrest' AND state = 'failed'})
  =~ /did not end in time.* killed after (\d+) ms/;
cmp_ok($told // 60000, '<=', 5000, 'a tick waits for pgBackRest no longer than its budget');

$node->stop('immediate');
done_testing();
