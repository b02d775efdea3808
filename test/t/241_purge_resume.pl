# Whatever ends a purge's worker, its caller or the server in the middle, the purge
# goes on by itself, and ends with the same result.

use strict;
use warnings;

use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = purge_node('purge', conf => "autovacuum = off\nfsync = on\nrestart_after_crash = on");
my $slow = ', batch_size => 50, max_rows_per_second => 2000';
my $fast = q{UPDATE leyser.purge_record SET max_rows_per_second = 0, batch_size = 5000};

fill_tenants($node, 5000, qw(a b c d e f g other));
my $other = fingerprint($node, 'other');

# Starts a slow purge and waits until it has deleted something, but not all.
sub start_slowly
{
	my ($tenant) = @_;

	queue_purges($node, $slow, $tenant);
	wait_for_purge($node, $tenant, q{rows_deleted BETWEEN 50 AND 4900 AND state = 'deleting'}, "$tenant: rows are being deleted");
	return wait_for_worker($node);
}

# The caller is cancelled: the purge is not.
end_contracts($node, 'a');
my $caller = $node->background_psql('postgres', on_error_stop => 0);
$caller->query_until(qr/watching/, "\\echo watching\nCALL leyser.purge('a', batch_size => 50, max_rows_per_second => 2000);\n");
wait_for_purge($node, 'a', q{rows_deleted > 50}, 'a: the purge has begun');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity
	WHERE query ~ '^CALL' AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)}), '0', '... whose caller holds no snapshot');
is($node->safe_psql('postgres', q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ '^CALL'}), 't', 'the caller is cancelled');
$node->safe_psql('postgres', $fast);
is_erased($node, 'a', 'a: a cancelled caller leaves the purge alone');
$caller->quit;

# The worker is cancelled, in a step that waits for a row, and between steps.
my $locker = open_session($node);
$locker->query(q{BEGIN; SELECT FROM item WHERE tenant_id = 'b' FOR UPDATE});
queue_purges($node, '', 'b');
ok($node->poll_query_until('postgres', q{SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = leyser.purge_worker()}),
	'b: the worker waits for a row');
my $worker = wait_for_worker($node);
$node->safe_psql('postgres', "SELECT pg_cancel_backend($worker)");
wait_for_purge($node, 'b', q{last_error LIKE '57014:%'}, 'b: the purge says that it was cancelled');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($worker)") for 1 .. 10;
is(wait_for_worker($node), $worker, '... and the worker stays');
$locker->query('ROLLBACK');
is_erased($node, 'b', 'b: it goes on');

# The worker is terminated: the launcher starts another.
$worker = start_slowly('c');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
isnt(wait_for_worker($node, $worker), '', 'c: there is another worker');
$node->safe_psql('postgres', $fast);
is_erased($node, 'c', 'c: which goes on');

# A lock that somebody else holds is waited for, but not for ever.
end_contracts($node, 'd');
$locker->query('BEGIN; LOCK TABLE item IN ACCESS EXCLUSIVE MODE');
$node->safe_psql('postgres', q{INSERT INTO leyser.purge_record (tenant_id, state, batch_size, max_rows_per_second, queued_by)
	VALUES ('d', 'due', 5000, 0, 'test'); SELECT leyser.start_purge_worker()});
blockers_are($node, 'd', '{transaction ' . $locker->query('SELECT pg_backend_pid()') . '}', 'd: whoever has locked a table is named');
$locker->query('COMMIT');
is_erased($node, 'd', 'd: and the purge goes on when it is free');

# An error: a row that refers to a row which is to be deleted, made in between.
start_slowly('e');
$node->safe_psql('postgres', q{
	CREATE TABLE visit (tenant_id text, customer int, FOREIGN KEY (tenant_id, customer) REFERENCES customer);
	INSERT INTO visit SELECT tenant_id, id FROM customer WHERE tenant_id = 'e';
});
$node->safe_psql('postgres', $fast);
wait_for_purge($node, 'e', q{last_error ~ '^(23503|LY008):'}, 'e: a foreign key stops it, and is told');
is($node->safe_psql('postgres', q{SELECT count(*) > 0 FROM customer WHERE tenant_id = 'e'}), 't', '... integrity holds');
$node->safe_psql('postgres', q{TRUNCATE visit});
is_erased($node, 'e', 'e: it goes on when the row is gone');
$node->safe_psql('postgres', q{DROP TABLE visit});

# DDL on a planned table, in the middle.
start_slowly('f');
$node->safe_psql('postgres', q{
	ALTER TABLE item RENAME TO item_renamed;
	ALTER TABLE item_renamed ADD COLUMN more text DEFAULT 'x';
	CREATE TABLE late (tenant_id text NOT NULL, id int, content text);
	SELECT leyser.protect('late');
	INSERT INTO late SELECT 'f', g, 'late' FROM generate_series(1, 10) g;
	ALTER TABLE item_renamed RENAME TO item;
	ALTER TABLE item DROP COLUMN more;
});
$node->safe_psql('postgres', $fast);
is_erased($node, 'f', 'f: DDL in between is met with a new plan');
is($node->safe_psql('postgres', 'SELECT count(*) FROM late'), '0', '... which has the new table');
$node->safe_psql('postgres', q{SELECT leyser.unprotect('late'); DROP TABLE late});

# The server is killed.
$worker = start_slowly('g');
kill 'KILL', $worker;
wait_for_server($node);
wait_for_purge($node, 'g', q{state <> 'due'}, 'g: the purge is there after a crash');
$node->stop('immediate');
$node->start;
$node->safe_psql('postgres', $fast);
is_erased($node, 'g', 'g: and ends without anybody\'s doing');
is(fingerprint($node, 'other'), $other, 'the other tenant\'s rows are what they were');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.purge_status WHERE state <> 'erased'}), '0', 'no purge is left');

$node->stop;
done_testing();
