# Standbys of a purge: one that does not replay, one whose query still sees the rows
# and one that was stopped are waited for by name; and a standby that is promoted in
# the middle of a purge ends it, with nothing left in its own files.

use strict;
use warnings;

use LeyserCanary;
use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = purge_node('primary', init => { allows_streaming => 1 }, conf => "autovacuum = off\nmin_wal_size = 32MB");

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "wal_receiver_status_interval = 1s\nmax_standby_streaming_delay = -1");
$standby->start;
fill_tenants($primary, 300, qw(paused seen stopped other));
my $other = fingerprint($primary, 'other');

sub caught_up
{
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));
	return;
}

# The standby's own segments, as its report says.
sub standby_is_clean
{
	my ($tenant) = @_;

	caught_up();
	ok($standby->poll_query_until('postgres',
		"SELECT state = 'clean' FROM leyser.purge_report('$tenant') WHERE part = 'standby'"), '... whose own report says so');
	is(fingerprint($standby, 'other'), $other, '... and has the other tenant\'s rows');
	return;
}

# ---- what holds a purge back ----

# It is connected, and replays nothing.
caught_up();
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
queue_purges($primary, '', 'paused');
blockers_are($primary, 'paused', '{standby standby}', 'paused: a standby that does not replay is named');
is(purge_is($primary, 'paused', 'tables_scrubbed = tables AND scrub_end_lsn IS NOT NULL'), 't', '... when its segments are what is left');
like(purge_is($primary, 'paused', 'blockers[1]'), qr/has replayed up to [0-9A-F]+\/[0-9A-F]+ of [0-9A-F]+\/[0-9A-F]+$/, '... and how far it is');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
is_erased($primary, 'paused', 'paused: it goes on when the standby does');
standby_is_clean('paused');

# A query there, of which the primary knows by feedback.
$standby->append_conf('postgresql.conf', 'hot_standby_feedback = on');
$standby->reload;
my $reader = open_session($standby);
$reader->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM customer');
ok($primary->poll_query_until('postgres', 'SELECT backend_xmin IS NOT NULL FROM pg_stat_replication'), 'a query on the standby');
queue_purges($primary, '', 'seen');
blockers_are($primary, 'seen', '{standby standby}', 'seen: the standby that holds row versions back is named');
is(purge_is($primary, 'seen', 'deleted_at IS NOT NULL AND tables_scrubbed = 0'), 't', '... after deletion, before the scrub');
like(purge_is($primary, 'seen', 'blockers[1]'), qr/hot_standby_feedback/, '... and by what');
is($reader->query(q{SELECT count(*) FROM item WHERE tenant_id = 'seen'}), '300', '... where the rows are still read');
$reader->query('COMMIT');
$reader->quit;
is_erased($primary, 'seen', 'seen: it goes on when nobody sees the rows any longer');
standby_is_clean('seen');

# It is down, and has a slot for when it comes back.
$primary->safe_psql('postgres', q{SELECT pg_create_physical_replication_slot('of_standby')});
$standby->append_conf('postgresql.conf', "primary_slot_name = 'of_standby'\nhot_standby_feedback = off");
$standby->restart;
ok($primary->poll_query_until('postgres', q{SELECT active AND restart_lsn IS NOT NULL AND xmin IS NULL FROM pg_replication_slots}), 'the standby uses a slot');
$standby->stop;
queue_purges($primary, '', 'stopped');
blockers_are($primary, 'stopped', '{replication slot of_standby}', 'stopped: the slot of a standby that is down is named');
like(purge_is($primary, 'stopped', 'blockers[1]'), qr/physical slot, restart_lsn \S+, active: f/, '... as not in use');
$standby->start;
is_erased($primary, 'stopped', 'stopped: it goes on when the standby is back and has caught up');
standby_is_clean('stopped');

# ---- a standby that takes over ----

my $markers = make_markers(1000);
learn_known($primary->data_dir, $standby->data_dir);
my $file = $primary->basedir . '/markers';
write_markers($file, moved => $markers);
$primary->safe_psql('postgres', qq{
	SELECT leyser.create_tenant('moved');
	INSERT INTO customer VALUES ('moved', 1, 'one');
	INSERT INTO purchase VALUES ('moved', 1, 1);
	CREATE TEMP TABLE marker (tenant_id text, id int, m text);
	COPY marker FROM '$file';
	INSERT INTO item SELECT tenant_id, id, 1, m FROM marker;
	CREATE INDEX ON item (content);
	ANALYZE;
	CHECKPOINT;
});
queue_purges($primary, ', batch_size => 20, max_rows_per_second => 100', 'moved');
wait_for_purge($primary, 'moved', q{state = 'deleting' AND rows_deleted BETWEEN 100 AND 800}, 'moved: rows are being deleted');
caught_up();
$primary->stop('immediate');
$standby->safe_psql('postgres', 'CHECKPOINT');
cmp_ok(markers_found($markers, $standby->data_dir), '>', 1000, '... whose bytes are on the standby');
$standby->promote;
is($standby->safe_psql('postgres', q{SELECT count(*) > 0 FROM item WHERE tenant_id = 'moved'}), 't', '... when it takes over');
$standby->safe_psql('postgres', 'UPDATE leyser.purge_record SET max_rows_per_second = 0, batch_size = 5000');
# Transactions of before may be seen a moment longer; that it waits for one is no matter.
wait_for_purge($standby, 'moved', q{state = 'erased'}, 'moved: the purge goes on by itself, and waits for nobody who stays');
is_erased($standby, 'moved', '... to its end');
is_deeply(marker_places($markers, $standby->data_dir), {}, '... with no marker in its files');
is(fingerprint($standby, 'other'), $other, 'the other tenant\'s rows are what they were');

$standby->stop;
done_testing();
