# What may hold a tenant's bytes besides tables, indexes and the write-ahead log: it is
# erased, or named in the report of the purge with what can be done about it.

use strict;
use warnings;

use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = purge_node('purge', init => { allows_streaming => 1 }, conf => "autovacuum = off\nwal_level = logical");

fill_tenants($node, 300, qw(a b other));
my $database = $node->safe_psql('postgres', q{SELECT oid FROM pg_database WHERE datname = 'postgres'});
my $folder = $node->data_dir;

# What the report says about a place outside, or nothing.
sub told
{
	my ($subject, $tenant) = @_;

	return $node->safe_psql('postgres', qq{SELECT detail FROM leyser.purge_report('$tenant')
		WHERE part = 'outside the database' AND subject = '$subject'});
}

sub files_with_marker
{
	return grep { slurp_file($_) =~ /MARKER/ } grep { -f } glob $_[0];
}

# A notification is in a file once others follow, and no longer after a purge.
my $more = q{SELECT pg_notify('channel', lpad(g::text, 7000)) FROM generate_series(1, 20) g};
$node->safe_psql('postgres', q{SELECT pg_notify('channel', 'a MARKER')});
$node->safe_psql('postgres', $more);
my @found = files_with_marker("$folder/pg_notify/*");
is(scalar @found, 1, 'a payload is in a file of pg_notify');
queue_purges($node, '', 'a');
is_erased($node, 'a', 'a tenant is purged');
@found = files_with_marker("$folder/pg_notify/*");
is("@found", '', '... and the payload is gone');

# On an idle server nothing is found.
is($node->safe_psql('postgres', q{SELECT string_agg(subject, ', ') FROM leyser.purge_report('a')
	WHERE part = 'outside the database' AND state = 'found'}), '', 'no file is named on a server that never crashed');
like(told('freed disk blocks', 'a'), qr/VACUUM cut off.*standbys/, 'freed blocks are told, whosever they are');
unlike(told('freed disk blocks', 'a'), qr/crash/, '... and no crash');

# What crashes leave, and others.  A transaction that runs may have made a file.
my $orphan = "base/$database/4000000001";
append_to_file("$folder/$orphan", 'a MARKER of nobody');
utime(time - 3600, time - 3600, "$folder/$orphan");
mkdir "$folder/base/pgsql_tmp";
append_to_file("$folder/base/pgsql_tmp/pgsql_tmp4000001.0", 'MARKER');
append_to_file("$folder/pg_stat_tmp/pgss_query_texts.stat", 'MARKER');
$node->safe_psql('postgres', q{SELECT pg_create_logical_replication_slot('far_behind', 'test_decoding')});
append_to_file("$folder/pg_replslot/far_behind/xid-1-lsn-0-1000000.spill", 'MARKER');
my $session = open_session($node);
$session->query(q{BEGIN; CREATE TABLE made AS SELECT 1 AS n});
$session->query(q{LISTEN channel});
like(told('orphaned files', 'a'), qr/left 18 bytes in files of no relation: \Q$orphan\E\./, 'a file of no relation is named, one that is being made is not');
like(told('temporary files', 'a'), qr/pgsql_tmp4000001\.0\. Restarting/, 'so is a temporary file of nobody');
like(told('texts of statements', 'a'), qr/pg_stat_statements_reset/, '... what pg_stat_statements keeps');
like(told('replication slots', 'a'), qr/: far_behind\. Let/, '... and what a slot spilled');
$session->query('ROLLBACK');
$session->query('CREATE TEMP TABLE kept_copy AS SELECT 1 AS n');
$node->safe_psql('postgres', 'CREATE DATABASE shadow');
like(told('temporary tables', 'a'), qr/ (pg_temp_\d+\.)?kept_copy\.$/, '... a temporary table, which may be a copy');
like(told('other databases', 'a'), qr/ shadow\.$/, '... and another database');
$node->safe_psql('postgres', 'DROP DATABASE shadow');
$session->query('LISTEN channel; BEGIN');
$node->safe_psql('postgres', $more);
like(told('notifications', 'a'), qr/^Payloads of NOTIFY wait/, '... and notifications that nobody has taken');
$session->quit;
$node->safe_psql('postgres', q{SELECT pg_drop_replication_slot('far_behind')});
is(join('', map { told($_, 'a') } 'replication slots', 'notifications', 'temporary tables', 'other databases'), '', 'what has gone is told no longer');
unlink "$folder/$orphan";

# A crash between a commit and the overwriting of what it dropped: the list of files,
# of which one is still there.
$session = open_session($node);
$session->query(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class});
queue_purges($node, '', 'b');
wait_for_purge($node, 'b', q{deleted_at IS NOT NULL AND state = 'waiting'}, 'a purge waits');
$node->stop('immediate');
my $kept = "base/$database/1259";
append_to_file("$folder/leyser_dropped.$database", "base/$database/4000000002\n$kept\nbase/$database/4000000003\n");
$node->start;
is_erased($node, 'b', 'it goes on after a crash');
like(told('freed disk blocks', 'b'), qr/A crash during the purge removed 2 files that may not have been overwritten\./,
	'... and tells what the crash removed');
ok(!-e "$folder/leyser_dropped.$database", '... no list is left');

$node->stop;
done_testing();
