# Where leyser.take_backup() refuses to begin, or fails: the caller is told why and
# what to do, and the books and the directory hold nothing of it, or that it failed.

use strict;
use warnings;

use LeyserBackup;
use LeyserTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = backup_node('refused', conf => "wal_level = replica");
my $directory = backup_directory($node);
my $base = $node->basedir;
my $space = "$base/space";
mkdir $space, 0700 or die;
$node->safe_psql('postgres', qq{CREATE TABLESPACE space LOCATION '$space'});

# Sets the directory, and waits until sessions have it.
sub set_directory
{
	my ($to) = @_;

	$node->append_conf('postgresql.conf', "leyser.backup_directory = '$to'");
	$node->reload;
	$node->poll_query_until('postgres', "SELECT current_setting('leyser.backup_directory') = '$to'") or die;
	return;
}

# One test: a directory is refused with this SQLSTATE, and what the message says.
sub directory_is_refused
{
	my ($to, $sqlstate, $message, $name) = @_;

	set_directory($to);
	my ($got, $text) = sqlstate_of($node, 'SELECT leyser.take_backup()', user => 'keeper');
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($got, $sqlstate, "$name is refused") or diag($text);
	like($text, $message, '... and the message says why');
	like($text, qr/HINT:/, '... and what to do');
	return;
}

# ---- directories ----

mkdir "$base/$_", 0700 or die for qw(unwritable open group);
append_to_file("$base/file", '');
chmod 0500, "$base/unwritable";
chmod 0777, "$base/open";
chmod 0770, "$base/group";
symlink $node->data_dir, "$base/link" or die;
symlink $space, "$base/link_to_space" or die;
mkdir $node->data_dir . '/inside', 0700 or die;
symlink "$base/nowhere", "$base/dangling" or die;

directory_is_refused('', '55000', qr/is not set to an absolute path/, 'no directory');
directory_is_refused('own_backups', '55000', qr/is not set to an absolute path/, 'a relative path');
directory_is_refused("$base/missing", '58P01', qr/could not open directory/, 'a missing directory');
directory_is_refused("$base/dangling", '58P01', qr/could not open directory/, 'a link to nowhere');
directory_is_refused("$base/file", '42809', qr/could not open directory/, 'a file');
directory_is_refused("$base/unwritable", '42501', qr/could not use directory/, 'a directory in which we may not write');
directory_is_refused("$base/open", '55000', qr/can be written by others/, 'a directory in which everybody may');
directory_is_refused("$base/group", '55000', qr/can be written by others/, '... or a group');
directory_is_refused('/usr', '55000', qr/belongs to another user/, 'another user\'s directory');
directory_is_refused($node->data_dir, '55000', qr/lies inside the data directory/, 'the data directory');
directory_is_refused($node->data_dir . '/inside', '55000', qr/lies inside/, 'a directory inside it');
directory_is_refused($node->data_dir . '/pg_wal', '55000', qr/lies inside/, 'pg_wal');
directory_is_refused("$base/link/inside", '55000', qr/lies inside/, 'a link into the data directory');
directory_is_refused("$base/missing/../refused/own_backups/../../link", '58P01', qr/could not open/, 'a way around');
directory_is_refused($space, '55000', qr/lies inside/, 'a tablespace');
directory_is_refused("$base/link_to_space", '55000', qr/lies inside/, 'a link to one');
directory_is_refused('/' . 'x' x 800, '55000', qr/has too long a path/, 'too long a path');
is(books($node, 'state'), '', 'nothing of this is in the books');
chmod 0700, "$base/unwritable";

# ---- another server in the same directory ----

set_directory($directory);
$node->safe_psql('postgres', 'SELECT leyser.take_backup()');
my $other = backup_node('other', conf => "leyser.backup_directory = '$directory'");
is(join(' ', folders($other)), '', 'another server has a directory of its own by default');
my $checkpointer = hold_checkpoints($other);
my $theirs = start_backup($other);
$other->poll_query_until('postgres', q{SELECT state = 'running' FROM leyser.generation_record}) or die;
wait_for_program($node);
is_refused($node, 'SELECT leyser.take_backup()', '55006', 'while another server works there', user => 'keeper');
is_refused($other, 'SELECT leyser.take_backup()', '55006', '... and a second one of the same server', user => 'keeper');
is($other->safe_psql('postgres', 'SELECT leyser.clean_backups()'), 0, 'what is being made is not cleaned up');
kill 'CONT', $checkpointer;
is(finish_backup($theirs), '', 'the other server\'s backup ends well');
is($node->safe_psql('postgres', 'SELECT leyser.clean_backups()'), 0, 'there is nothing of ours to be cleaned up');
is($other->safe_psql('postgres', 'SELECT leyser.clean_backups()'), 0, '... nor of theirs');
is(scalar(my @both = folders($node)), 2, 'one of each lies there');
$other->stop;
system('rm', '-rf', grep { -d } glob "$directory/leyser-*") == 0 or die;
is($node->safe_psql('postgres', 'SELECT leyser.clean_backups()'), 1, 'ours is gone');

# ---- no room ----

# A file that takes no room makes the cluster larger than the disk.
my ($available) = run_command([ 'df', '-B1', '--output=avail', $directory ]);
my ($free) = $available =~ /(\d+)\s*$/;
my $size = $free + 1024 * 1024 * 1024;
my $oid = $node->safe_psql('postgres', q{SELECT oid FROM pg_database WHERE datname = 'template1'});
my $sparse = $node->data_dir . "/base/$oid/999999999";
command_ok([ 'truncate', '-s', $size, $sparse ], 'the cluster grows beyond the disk');
my $before = books($node, '*');
my ($sqlstate, $text) = sqlstate_of($node, 'SELECT leyser.take_backup()', user => 'keeper');
is($sqlstate, '53100', 'a backup for which there is no room is refused');
like($text, qr/A backup may need \d+ MB, \d+ MB are free/, '... with the figures');
is(books($node, '*'), $before, '... and the books are unchanged');
unlink $sparse or die;

# The disk is full before it was thought to be: no file may grow beyond what the
# server's own may, and a backup has one that does.
$node->safe_psql('postgres', q{CREATE TABLE wide AS SELECT repeat(md5(n::text), 60) AS t FROM generate_series(1, 40000) n;
	ALTER TABLE wide ALTER t SET STORAGE PLAIN; CHECKPOINT});
$node->stop;
{
	local $ENV{PGHOST} = $node->host;
	command_ok([ 'bash', '-c', 'ulimit -S -f 30000; exec "$@"', 'bash', 'pg_ctl', '-w', '-D', $node->data_dir, '-l', $node->logfile, 'start' ],
		'a server whose programs can write files of 30 MB only');
}
$node->_update_pid(1);
($sqlstate, $text) = sqlstate_of($node, 'SELECT leyser.take_backup()', user => 'keeper');
is($sqlstate, '58000', 'a backup that cannot be written fails');
like($text, qr/pg_basebackup (failed|was ended by signal)/, '... and says what failed');
is(books($node, q{state, deleted_at IS NOT NULL}), "deleted|t\nfailed|t", '... also in the books');
like(books($node, 'error'), qr/pg_basebackup/, '... with the reason');
nothing_is_left($node, 'after a backup that could not be written');
$node->stop;
$node->start;
$node->safe_psql('postgres', 'DROP TABLE wide');

# ---- who is let in ----

my $hba = slurp_file($node->data_dir . '/pg_hba.conf');
append_to_file($node->data_dir . '/pg_hba.conf', '');
open(my $handle, '>', $node->data_dir . '/pg_hba.conf') or die;
print $handle "local all all trust\nlocal replication all reject\n";
close $handle;
$node->reload;
($sqlstate, $text) = sqlstate_of($node, 'SELECT leyser.take_backup()', user => 'keeper');
is($sqlstate, '28000', 'without a line of pg_hba.conf it is refused');
like($text, qr/HINT:.*local replication .* peer/, '... and the hint names the line');
open($handle, '>', $node->data_dir . '/pg_hba.conf') or die;
print $handle $hba;
close $handle;
$node->reload;
nothing_is_left($node, 'after it was not let in');

# ---- settings, places, isolation ----

is_refused($node, q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT leyser.take_backup('a'); ROLLBACK}, '',
	'the caller\'s transaction may be of any kind', user => 'keeper');
$node->append_conf('postgresql.conf', 'max_wal_senders = 1');
$node->restart;
is_refused($node, 'SELECT leyser.take_backup()', '55000', 'one walsender is too few', user => 'keeper');
$node->append_conf('postgresql.conf', "max_wal_senders = 5\nmax_replication_slots = 0");
$node->restart;
is_refused($node, 'SELECT leyser.take_backup()', '', 'no replication slot is needed', user => 'keeper');

# Over TCP, where there is no socket.
my $port = $node->port;
$node->append_conf('postgresql.conf', "unix_socket_directories = ''\nlisten_addresses = '127.0.0.1'");
append_to_file($node->data_dir . '/pg_hba.conf', "host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n");
$node->stop;
command_ok([ 'pg_ctl', '-w', '-D', $node->data_dir, '-l', $node->logfile, '-o', '-h 127.0.0.1', 'start' ], 'a server without a socket');
$node->_update_pid(1);
my ($over_tcp) = run_command([ 'psql', '-XAt', '-d', "host=127.0.0.1 port=$port dbname=postgres user=keeper", '-c', 'SELECT leyser.take_backup() > 0' ]);
is($over_tcp, 't', 'takes a backup over TCP');
command_ok([ 'pg_ctl', '-w', '-D', $node->data_dir, '-m', 'fast', 'stop' ], 'and stops');
$node->_update_pid(0);

done_testing();
