# leyser's own backups: taken, verified, restored, removed when they have expired.

use strict;
use warnings;

use Digest::SHA;
use LeyserBackup;
use LeyserTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = backup_node('own');
my $directory = backup_directory($node);
my $space = $node->basedir . '/space = 1';
mkdir $space, 0700 or die;

$node->safe_psql('postgres', qq{CREATE TABLESPACE space LOCATION '$space'});
$node->safe_psql('postgres', q{
	CREATE TABLE here AS SELECT n, md5(n::text) AS t FROM generate_series(1, 20000) n;
	CREATE TABLE there TABLESPACE space AS SELECT n, md5((-n)::text) AS t FROM generate_series(1, 20000) n;
});
my $figures = q{SELECT (SELECT md5(string_agg(h::text, '' ORDER BY n)) FROM here h),
	(SELECT md5(string_agg(t::text, '' ORDER BY n)) FROM there t)};

# Who may, and what a label may be.
is_refused($node, q{SET ROLE pg_monitor; SELECT leyser.take_backup()}, '42501', 'not without usage backup');
is_refused($node, q{SELECT leyser.take_backup('')}, '22023', 'an empty label', user => 'keeper');
is_refused($node, q{SELECT leyser.take_backup(E'a\nSTART TIMELINE: 9')}, '22023', 'a label of two lines', user => 'keeper');
is_refused($node, q{SELECT leyser.take_backup(repeat('x', 1001))}, '22023', 'a long label', user => 'keeper');
is(books($node, 'state'), '', 'nothing of this is in the books');
is($node->safe_psql('postgres', 'SELECT leyser.clean_backups()'), 0, 'nothing to be cleaned up');

# What was done stays, whatever becomes of the transaction; the label is no shell's.
my $label = q{--pgdata=/x "'; $(touch shell) 夜間 `id`};
$node->safe_psql('postgres', q{BEGIN; SELECT leyser.take_backup($label$} . $label . q{$label$); ROLLBACK},
	extra_params => [ '-U', 'keeper' ]);
is(books($node, q{state, kind, tool, region, recorded_by, error}), 'verified|full|pg_basebackup|JP|keeper|',
	'a backup is taken and verified');
is(books($node, 'label'), $label, '... with its label');
is($node->safe_psql('postgres', q{SELECT string_agg(event, ' ' ORDER BY event_id) FROM leyser.event_record WHERE event ~ '^backup'}),
	'backup.begun backup.completed backup.verified', '... and in the event log');
nothing_is_left($node, 'after a backup');

my ($folder) = folders($node);
my $path = "$directory/$folder";
is(books($node, 'location'), $path, 'the books say where it lies');
is(sprintf('%04o', (stat $path)[2] & 07777), '0700', '... for its owner alone');
is(books($node, 'checksum'), Digest::SHA->new(256)->addfile("$path/data/backup_manifest")->hexdigest,
	'the checksum is that of the manifest');
my $backup_label = slurp_file("$path/data/backup_label");
my ($start) = $backup_label =~ /^START WAL LOCATION: (\S+)/m;
is(books($node, 'start_lsn'), $start, 'it starts where its label says');
my ($timeline) = $backup_label =~ /^START TIMELINE: (\d+)/m;
is(books($node, 'timeline'), $timeline, '... on that timeline');
is(books($node, 'stop_lsn > start_lsn AND stop_lsn <= pg_current_wal_lsn() AND started_at < completed_at AND completed_at < verified_at'),
	't', 'its end, and its times');
like($backup_label, qr/^LABEL: \Q$folder\E$/m, 'the folder\'s name is the label that the server sees');
is(books($node, 'system_identifier'), $node->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()'),
	'of this system');
my ($measured) = run_command([ 'find', $path, '-type', 'f', '-printf', '%s\n' ]);
my $bytes = 0;
$bytes += $_ for split /\n/, $measured;
is(books($node, 'bytes'), $bytes, 'so many bytes');

# It is restored really, with its tablespace, when another one has been taken since.
$node->safe_psql('postgres', q{SELECT leyser.take_backup()}, extra_params => [ '-U', 'keeper' ]);
my ($first, $second) = folders($node);
my $expected = $node->safe_psql('postgres', $figures);
$node->safe_psql('postgres', 'DELETE FROM here; DELETE FROM there');
my $restored = PostgreSQL::Test::Cluster->new('restored');
my $new_space = $restored->basedir . '/space';
command_ok([ 'cp', '-a', "$path/data", $restored->data_dir ], 'the data directory is copied');
my ($oid) = grep { /^\d+$/ } slurp_dir("$path/tablespaces");
command_ok([ 'cp', '-a', "$path/tablespaces/$oid", $new_space ], '... and the tablespace');
my $link = $restored->data_dir . "/pg_tblspc/$oid";
is(readlink($link), "$path/tablespaces/$oid", 'its link names the place in the backup');
unlink $link or die;
symlink $new_space, $link or die;
# beside the original it keeps a fence of its own
my $fences = $restored->basedir . '/fences';
mkdir $fences, 0700 or die;
$restored->append_conf('postgresql.conf', 'port = ' . $restored->port . "\nleyser.fence_directory = '$fences'");
$restored->start;
is($restored->safe_psql('postgres', $figures), $expected, 'a restored cluster has all rows');
is(books($restored, 'state'), 'running', '... and knows the backup as one that was under way');

# Both lie in its directory: its books finish the one, and find the other, once
# somebody has said that nothing is to be erased again.
$restored->safe_psql('postgres', q{CALL leyser.accept_fence('a copy')});
is($restored->safe_psql('postgres', 'SELECT leyser.clean_backups()'), 2, 'there is something to do for both');
is(books($restored, q{generation_id, state, regexp_replace(location, '.*/', ''), start_lsn, bytes, checksum}),
	books($node, q{generation_id, state, regexp_replace(location, '.*/', ''), start_lsn, bytes, checksum}),
	'then its books know of them what the other server\'s do');
is(join(' ', folders($node)), "$first $second", 'both are there');
is($restored->safe_psql('postgres', 'SELECT leyser.clean_backups()'), 0, 'nothing is left to be done');
is($node->safe_psql('postgres', 'SELECT leyser.clean_backups()'), 0, '... nor for the other server');
my ($found, $taken) = map { books($_, q{round(extract(epoch FROM started_at))}) =~ s/^\d+\n//r } $restored, $node;
cmp_ok(abs($found - $taken), '<=', 10, 'the moment at which it began is in its name');
$restored->append_conf('postgresql.conf', "leyser.backup_directory = ''");
$restored->reload;
is_refused($restored, 'SELECT leyser.take_backup()', '55000', 'a server without a directory takes none');
$restored->stop;

# A damaged one is found out when it is verified, and is gone then.
is(books($node, q{label = regexp_replace(location, '.*/', '')}), "f\nt", 'without a label it has the folder\'s name');
$node->safe_psql('postgres', q{UPDATE leyser.generation_record SET state = 'complete' WHERE generation_id = 2});
my ($damaged) = glob "$directory/$second/tablespaces/$oid/PG_*/*/[0-9]*";
open(my $handle, '+<', $damaged) or die;
seek $handle, 100, 0;
print $handle 'damage';
close $handle;
is($node->safe_psql('postgres', 'SELECT leyser.clean_backups()'), 1, 'one that was not verified yet is');
is(books($node, q{state, deleted_at IS NULL}), "verified|t\nfailed|f", 'a damaged one fails');
like(books($node, 'error'), qr/^\nbackup is not as its manifest says: .*checksum mismatch/, '... and the books say why');
nothing_is_left($node, 'after a damaged one');

# One that nothing is wrong with is verified then.
$node->safe_psql('postgres', q{UPDATE leyser.generation_record SET state = 'complete', verified_at = NULL WHERE generation_id = 1});
is($node->safe_psql('postgres', 'SELECT leyser.clean_backups()'), 1, 'a whole one is looked at');
is(books($node, 'state, verified_at IS NULL'), "verified|f\nfailed|f", '... and is verified');

# What has expired is removed; links in it are, too, and not what they point to.
$node->safe_psql('postgres', q{SELECT leyser.move_generation(1, 'expired')});
my $outside = $node->basedir . '/outside';
mkdir $outside or die;
append_to_file("$outside/file", 'stays');
symlink $outside, "$directory/$first/data/link" or die;
is($node->safe_psql('postgres', 'SELECT leyser.clean_backups()'), 1, 'an expired one is removed');
is(books($node, 'state'), "deleted\nfailed", '... and is deleted in the books');
is(join(' ', folders($node)), '', 'the directory is empty');
is(slurp_file("$outside/file"), 'stays', 'what a link pointed to stays');
is($node->safe_psql('postgres', 'SELECT count(*) FROM there'), 0, 'the tablespace is in use as before');

# Removed by somebody else; and names that are not ours.
$node->safe_psql('postgres', q{SELECT leyser.take_backup()});
my ($third) = folders($node);
mkdir "$directory/$_" or die for ('others.partial', 'leyser-1-1-20200101T000000.000Z.partial');
my $prefix = $third =~ s/\d{8}T.*//r;
mkdir "$directory/${prefix}20200101T000000.000Z.partial" or die;
mkdir "$directory/${prefix}20200101T000000.001Z.removing" or die;
mkdir "$directory/${prefix}20200101T000000.002Z" or die;
system('rm', '-rf', "$directory/$third") == 0 or die;
is($node->safe_psql('postgres', 'SELECT leyser.clean_backups()'), 3, 'one that vanished, and two half ones');
is(books($node, 'state'), "deleted\nfailed\ndeleted", 'one that vanished is deleted');
is(join(' ', folders($node)),
	join(' ', sort('others.partial', 'leyser-1-1-20200101T000000.000Z.partial', "${prefix}20200101T000000.002Z")),
	'half ones of ours are removed, nothing else is');

# Where the directory is another one, nothing is said to be gone.
system('rm', '-rf', glob "$directory/*") == 0 or die;
$node->safe_psql('postgres', q{SELECT leyser.take_backup()});
rename $directory, "$directory.unmounted" or die;
mkdir $directory, 0700 or die;
is($node->safe_psql('postgres', 'SELECT leyser.clean_backups()'), 0, 'an empty directory in its place is not looked at');
$node->safe_psql('postgres', q{SELECT leyser.take_backup()});
$node->safe_psql('postgres', q{SELECT leyser.move_generation(4, 'expired')});
is($node->safe_psql('postgres', 'SELECT leyser.clean_backups()'), 0, '... nor is another directory');
is(books($node, 'state'), "deleted\nfailed\ndeleted\nexpired\nverified", '... for the books know which it was');
system('rm', '-rf', $directory) == 0 or die;
rename "$directory.unmounted", $directory or die;
is($node->safe_psql('postgres', 'SELECT leyser.clean_backups()'), 1, 'when it is back the expired one is removed');
is(books($node, 'state'), "deleted\nfailed\ndeleted\ndeleted\nverified", '... that one');

$node->stop;
done_testing();
