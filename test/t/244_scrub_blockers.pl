# What the scrub of a purge waits for is named while it waits, too, keeps nobody else
# from the tables, and is noticed when it is gone; an index that cannot be rebuilt.

use strict;
use warnings;

use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = purge_node('purge', conf => "autovacuum = off\nmax_prepared_transactions = 5\nlog_lock_waits = on");

fill_tenants($node, 300, qw(a b c d e f g h other));
my $other = fingerprint($node, 'other');
my $session = open_session($node);
my $pid = $session->query('SELECT pg_backend_pid()');

# Opens a transaction with these statements, and starts a purge that waits for it.
sub waits_for
{
	my ($tenant, $statements, $blocker, $name) = @_;

	$session->query("BEGIN; $statements");
	queue_purges($node, '', $tenant);
	blockers_are($node, $tenant, "{$blocker}", $name);
	return;
}

# A reader that is idle: a rebuilt index waits for it, and nobody waits for the purge.
waits_for('a', q{SELECT count(*) FROM customer \g /dev/null}, "lock $pid", 'a: an idle reader is named');
like(purge_is($node, 'a', 'blockers[1]'), qr/application \S+/, '... and its application');
is($node->safe_psql('postgres', q{SET lock_timeout = '500ms'; SELECT count(*) FROM customer WHERE tenant_id = 'other'}),
	'20', '... others read the table meanwhile');
$session->query('COMMIT');
is_erased($node, 'a', 'a: it goes on when the reader is gone');

# What a rebuild that was cut off left behind is dropped, and no one waits for that.
$session->query(q{BEGIN; SELECT count(*) FROM customer \g /dev/null});
queue_purges($node, '', 'b');
$node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_class WHERE relname ~ '_ccold'});
for my $round (1 .. 3)
{
	my $worker = wait_for_worker($node);

	$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
	isnt(wait_for_worker($node, $worker), $worker, "b: another worker, $round");
	blockers_are($node, 'b', "{lock $pid}", '... which waits for the reader');
	is($node->safe_psql('postgres', q{SET lock_timeout = '500ms'; SELECT count(*) FROM customer WHERE tenant_id = 'other'}),
		'20', '... while others read');
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relname ~ '_cc(new|old)'}), '1', 'b: what is left does not grow');
$session->query('COMMIT');
is_erased($node, 'b', 'b: it goes on when the reader is gone');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relname ~ '_cc(new|old)'}), '0', '... and nothing is left');

# Locks, also those of maintenance, and of a prepared transaction.
foreach my $mode ('SHARE UPDATE EXCLUSIVE', 'ACCESS EXCLUSIVE')
{
	my $tenant = $mode =~ /^S/ ? 'c' : 'd';

	# it waits for the one, so that deletion is over when the lock is taken
	my $snapshot = open_session($node);
	$snapshot->query(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class});
	queue_purges($node, '', $tenant);
	wait_for_purge($node, $tenant, q{deleted_at IS NOT NULL AND state = 'waiting'}, "$tenant: deletion is over");
	$session->query("BEGIN; LOCK TABLE customer IN $mode MODE");
	$snapshot->query('COMMIT');
	$snapshot->quit;
	blockers_are($node, $tenant, "{lock $pid}", "$tenant: who holds a lock of mode $mode is named");
	like(purge_is($node, $tenant, 'blockers[1]'), qr/role \w+, database postgres.*idle in transaction/, '... whose it is');
	$session->query('ROLLBACK');
	is_erased($node, $tenant, "$tenant: it goes on when it is gone");
}
waits_for('e', q{SELECT count(*) FROM customer \g /dev/null}, "lock $pid", 'e: again a reader');
$session->query(q{PREPARE TRANSACTION 'reader'});
blockers_are($node, 'e', '{prepared transaction reader}', 'e: it is named as a prepared transaction');
$session->query(q{COMMIT PREPARED 'reader'});
is_erased($node, 'e', 'e: it goes on when it is gone');

# A cursor holds a page: VACUUM cannot take rows out of it.
my $snapshot = open_session($node);
$snapshot->query(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class});
queue_purges($node, '', 'f');
wait_for_purge($node, 'f', q{deleted_at IS NOT NULL AND state = 'waiting'}, 'f: deletion is over');
$session->query(q{BEGIN; DECLARE page CURSOR FOR SELECT FROM item; FETCH 1 FROM page});
$snapshot->query('COMMIT');
$snapshot->quit;
blockers_are($node, 'f', "{page $pid}", 'f: who has a cursor is named');
$session->query('CLOSE page; COMMIT');
is_erased($node, 'f', 'f: it goes on without the cursor');

# An index whose rows violate it: it is named, and its rebuilds leave nothing behind.
$node->safe_psql('postgres', q{CREATE TABLE visit (tenant_id text NOT NULL, n int); SELECT leyser.protect('visit');
	INSERT INTO visit SELECT t, 1 FROM unnest('{g,other,other}'::text[]) t});
my ($sqlstate) = sqlstate_of($node, q{CREATE UNIQUE INDEX CONCURRENTLY twice ON visit (tenant_id, n)});
is($sqlstate, '23505', 'g: an index is left invalid');
queue_purges($node, '', 'g');
blockers_are($node, 'g', '{index public.twice}', 'g: an index that cannot be rebuilt is named');
like(purge_is($node, 'g', 'last_error'), qr/^55000: an index could not be rebuilt/, '... as an error, too');
is($node->safe_psql('postgres', q{SELECT detail ~ 'DROP INDEX public.twice' FROM leyser.purge_report('g') WHERE part = 'blocker'}),
	't', '... and what can be done');
my $position = log_position($node);
wait_for_log_lines($position, 3);
is($node->safe_psql('postgres', q{SELECT count(*) <= 1 FROM pg_class WHERE relname ~ '_cc(new|old)'}), 't', '... however often it is tried again');
$node->safe_psql('postgres', q{DROP INDEX twice});
is_erased($node, 'g', 'g: it goes on without the index');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relname ~ '_cc(new|old)'}), '0', '... and nothing is left');

# Nothing of a process but its pid is kept in rows.
$node->safe_psql('postgres', q{ALTER SYSTEM SET log_statement = 'none'});
my $named = $node->background_psql('postgres', on_error_stop => 0, extra_params => [ '-d', $node->connstr('postgres') . q{ application_name=MARKED} ]);
$named->query(q{BEGIN; SELECT count(*) FROM customer; PREPARE TRANSACTION 'MARKEDTOO'});
$named->query(q{BEGIN; SELECT count(*) FROM customer \g /dev/null});
queue_purges($node, '', 'h');
wait_for_purge($node, 'h', q{array_to_string(blockers, ' ') ~ 'MARKED'}, 'h: an application is named');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.purge_blocker b WHERE b::text ~ 'MARKED'}), '0', '... and not stored');
$named->query('COMMIT');
$named->query(q{COMMIT PREPARED 'MARKEDTOO'});
$named->quit;
is_erased($node, 'h', 'h: it goes on');

is(fingerprint($node, 'other'), $other, 'the other tenant\'s rows are what they were');
$node->stop;
done_testing();

# Until the failing index was tried so often.
sub wait_for_log_lines
{
	my ($from, $lines) = @_;

	for (1 .. 600)
	{
		my @failed = log_since($node, $from) =~ /could not create unique index/g;

		return if @failed >= $lines;
		usleep(100_000);
	}
	return;
}
