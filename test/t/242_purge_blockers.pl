# What a purge waits for is named, kind by kind, and noticed when it is gone.

use strict;
use warnings;

use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = purge_node('purge', init => { allows_streaming => 1 },
	conf => "autovacuum = off\nmax_prepared_transactions = 5\nwal_level = logical\nmin_wal_size = 32MB");

fill_tenants($node, 300, qw(a b c d e f g h locked read elsewhere other));
my $other = fingerprint($node, 'other');

# A transaction of the tenant that was open at the lock-out, with a row in it.
my $session = open_session($node);
$session->query(q{BEGIN; INSERT INTO item VALUES ('a', 1001, 1, 'unseen')});
my $pid = $session->query('SELECT pg_backend_pid()');
queue_purges($node, '', 'a');
blockers_are($node, 'a', "{transaction $pid}", 'a: a transaction from before the lock-out is named');
is(purge_is($node, 'a', 'deleted_at IS NULL'), 't', '... before deletion is over');
like(purge_is($node, 'a', 'blockers[1]'), qr/role \w+, database postgres/, '... whose it is');
is($node->safe_psql('postgres', qq{SELECT detail ~ 'pg_terminate_backend\\($pid\\)' FROM leyser.purge_report('a') WHERE part = 'blocker'}),
	't', '... and what can be done');
$session->query('COMMIT');
is_erased($node, 'a', 'a: its row is found and deleted when it has ended');

# A prepared transaction, likewise.
$session->query(q{BEGIN; INSERT INTO item VALUES ('b', 1001, 1, 'unseen'); PREPARE TRANSACTION 'forgotten'});
queue_purges($node, '', 'b');
blockers_are($node, 'b', '{prepared transaction forgotten}', 'b: a prepared transaction is named');
$session->query(q{COMMIT PREPARED 'forgotten'});
is_erased($node, 'b', 'b: it goes on after COMMIT PREPARED');

# ... one that has locked a table, and one that comes later, and still counts as running
# for whoever removes row versions; so does a transaction of another database.
$session->query(q{BEGIN; LOCK TABLE item IN SHARE MODE; PREPARE TRANSACTION 'locker'});
queue_purges($node, '', 'locked');
blockers_are($node, 'locked', '{prepared transaction locker}', 'locked: a prepared transaction\'s lock is named');
is(purge_is($node, 'locked', 'rows_deleted'), '0', '... before the first row');
$session->query(q{ROLLBACK PREPARED 'locker'});
is_erased($node, 'locked', 'locked: it goes on without the lock');
$session->query('BEGIN; LOCK TABLE item IN SHARE MODE');
queue_purges($node, '', 'read');
blockers_are($node, 'read', "{transaction $pid}", 'read: a lock is named');
$node->safe_psql('postgres', q{BEGIN; CREATE TABLE unrelated (); PREPARE TRANSACTION 'reader'});
$session->query('COMMIT');
blockers_are($node, 'read', '{prepared transaction reader}', 'read: a prepared transaction is named, whatever it did');
is(purge_is($node, 'read', 'deleted_at IS NOT NULL AND tables_scrubbed = 0'), 't', '... after deletion, before the scrub');
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'reader'});
is_erased($node, 'read', 'read: it goes on without it');
$node->safe_psql('postgres', 'CREATE DATABASE neighbour');
my $neighbour = open_session($node, database => 'neighbour');
my $neighbour_pid = $neighbour->query('SELECT pg_backend_pid()');
$session->query('BEGIN; LOCK TABLE item IN SHARE MODE');
queue_purges($node, '', 'elsewhere');
blockers_are($node, 'elsewhere', "{transaction $pid}", 'elsewhere: a lock is named');
$neighbour->query('BEGIN; CREATE TABLE unrelated ()');
$session->query('COMMIT');
blockers_are($node, 'elsewhere', "{transaction $neighbour_pid}", 'elsewhere: a transaction of another database is named');
like(purge_is($node, 'elsewhere', 'blockers[1]'), qr/database neighbour/, '... with that database');
$neighbour->query('COMMIT');
is_erased($node, 'elsewhere', 'elsewhere: it goes on when it has ended');
$neighbour->quit;

# Somebody who still sees what was deleted.
$session->query(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM customer});
queue_purges($node, '', 'c');
blockers_are($node, 'c', "{transaction $pid}", 'c: an old snapshot is named');
is(purge_is($node, 'c', 'deleted_at IS NOT NULL AND tables_scrubbed = 0'), 't', '... after deletion, before the scrub');
$session->query('COMMIT');
is_erased($node, 'c', 'c: it goes on when nobody sees the rows any longer');

# Replication slots: one that holds back row versions, one that holds segments.
$node->safe_psql('postgres', q{SELECT pg_create_logical_replication_slot('logical', 'test_decoding')});
queue_purges($node, '', 'd');
blockers_are($node, 'd', '{replication slot logical}', 'd: a logical slot is named');
is(purge_is($node, 'd', 'tables_scrubbed = 0'), 't', '... before the scrub: it holds back the catalogues');
$node->safe_psql('postgres', q{SELECT pg_drop_replication_slot('logical')});
is_erased($node, 'd', 'd: it goes on without the slot');
$node->safe_psql('postgres', q{SELECT pg_create_physical_replication_slot('physical', true)});
queue_purges($node, '', 'e');
blockers_are($node, 'e', '{replication slot physical}', 'e: a physical slot is named');
is(purge_is($node, 'e', 'tables_scrubbed = tables AND scrub_end_lsn IS NOT NULL'), 't', '... after the scrub: it holds back segments');
$node->safe_psql('postgres', q{SELECT pg_drop_replication_slot('physical')});
is_erased($node, 'e', 'e: it goes on without the slot');

# Segments that are kept, and an archiver that fails.
$node->safe_psql('postgres', $_) foreach ('ALTER SYSTEM SET wal_keep_size = 1024', 'SELECT pg_reload_conf()');
queue_purges($node, '', 'f');
blockers_are($node, 'f', '{wal_keep_size wal_keep_size}', 'f: wal_keep_size is named');
$node->safe_psql('postgres', $_) foreach ('ALTER SYSTEM RESET wal_keep_size', 'SELECT pg_reload_conf()');
is_erased($node, 'f', 'f: it goes on without it');
$node->append_conf('postgresql.conf', "archive_mode = on\narchive_command = 'false'");
$node->restart;
queue_purges($node, '', 'g');
blockers_are($node, 'g', '{archiver archive_command}', 'g: an archiver that fails is named');
$node->safe_psql('postgres', $_) foreach (q{ALTER SYSTEM SET archive_command = 'true'}, 'SELECT pg_reload_conf()');
is_erased($node, 'g', 'g: it goes on when segments are archived');

# Stores outside the database.
$node->safe_psql('postgres', q{SELECT leyser.register_external_store('search index')});
queue_purges($node, '', 'h');
blockers_are($node, 'h', '{external store search index}', 'h: a store outside is named');
$node->safe_psql('postgres', q{SELECT leyser.confirm_external_erasure('h', 'search index')});
is_erased($node, 'h', 'h: it ends when it is confirmed');

is(fingerprint($node, 'other'), $other, 'the other tenant\'s rows are what they were');
$node->stop;
done_testing();
