# The horizon of an erasure: which generations and archives of write-ahead log may
# still hold the tenant, when the last is due to be gone, and when it went.

use strict;
use warnings;

use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('horizon', conf => "wal_level = replica\n");
my $system = $node->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()');

sub ask { return $node->safe_psql('postgres', shift) }

# A generation in the books; times are hours from the first one on.
sub generation
{
	my ($label, $lsn, $hours, %with) = @_;
	my $parent = defined $with{parent} ? "(SELECT generation_id FROM leyser.generation_record WHERE label = '$with{parent}')" : 'NULL';
	my $place = defined $lsn ? "'$lsn'" : 'NULL';

	ask(sprintf q{INSERT INTO leyser.generation_record (state, kind, parent, tool, label, region, system_identifier, timeline,
			start_lsn, started_at, completed_at, deleted_at, recorded_by)
		VALUES ('%s', '%s', %s, 'manual', '%s', 'JP', %s, %s, %s, timestamptz '2030-01-01 00:00Z' + interval '%s hours',
			timestamptz '2030-01-01 01:00Z' + interval '%s hours', %s, 'test')},
		$with{state} // 'complete', $with{kind} // 'full', $parent, $label, $with{system} // $system, $with{timeline} // 1,
		$place, $hours, $hours, $with{deleted} ? "'$with{deleted}'" : 'NULL');
	return;
}

# A purge that has ended.
sub erased
{
	my ($tenant, $lsn, $hours, %with) = @_;

	ask(sprintf q{INSERT INTO leyser.tenant_record (tenant_id, state) VALUES ('%s', 'erased');
		INSERT INTO leyser.purge_record (tenant_id, state, batch_size, max_rows_per_second, queued_by, scrub_end_lsn,
			scrub_system, scrub_timeline, erased_at)
		VALUES ('%s', 'erased', 1, 0, 'test', '%s', %s, %s, timestamptz '2030-01-01 00:00Z' + interval '%s hours')},
		$tenant, $tenant, $lsn, $with{system} // $system, $with{timeline} // 1, $hours);
	return;
}

# What the view tells of a tenant: labels, archives, due and gone.
sub horizon
{
	my ($tenant) = @_;

	return ask(qq{SET TimeZone = 'America/New_York'; SELECT array_to_string(ARRAY(SELECT l FROM unnest(labels) l ORDER BY l), ','),
		cardinality(wal_archives), to_char(due_at AT TIME ZONE 'UTC', 'MM-DD HH24'), to_char(gone_at AT TIME ZONE 'UTC', 'MM-DD HH24')
		FROM leyser.erasure_horizon WHERE tenant_id = '$tenant'});
}

# Books that know of no backup tell nothing.
erased('acme', '0/2000', 20);
is(horizon('acme'), '|0|01-09 20|', 'without any backup in the books nothing is said to be gone');
like(ask(q{SELECT detail FROM leyser.horizon_alerts('2030-02-01')}), qr/know nothing of/, '... which is an alert after that day');

# By place, not by time: b began after the purge and starts before its end.
generation('a', '0/1000', 0);
generation('b', '0/1FFF', 23);
generation('c', '0/2000', 24);
is(horizon('acme'), 'a,b|0|01-09 23|', 'a generation is clean from scrub_end_lsn on');
generation('b1', '0/3000', 48, kind => 'incremental', parent => 'b');
generation('b2', '0/4000', 72, kind => 'incremental', parent => 'b1');
generation('c1', '0/3000', 49, kind => 'incremental', parent => 'c');
is(horizon('acme'), 'a,b,b1,b2|0|01-12 00|', '... if all that it needs is: a whole chain holds the tenant, and goes with its last');

# What is not known holds; a restored copy of a known place is as a backup.
generation('unknown', undef, 100);
generation('copy', undef, 101, kind => 'restore_copy');
generation('copy2', '0/5000', 102, kind => 'restore_copy');
is(horizon('acme'), 'a,b,b1,b2,copy,unknown|0|01-13 05|', 'a generation of unknown place holds it, a restored copy too');
ask(q{UPDATE leyser.generation_record SET state = 'deleted', deleted_at = '2030-01-06 00:00Z' WHERE label IN ('unknown', 'copy')});

# A snapshot has pg_wal with it.
generation('early snapshot', '0/2500', 19, kind => 'snapshot');
generation('late snapshot', '0/2500', 21, kind => 'snapshot');
is(horizon('acme'), 'a,b,b1,b2,early snapshot|0|01-13 05|', 'a snapshot is clean if it is from after the erasure, too');
ask(q{UPDATE leyser.generation_record SET state = 'deleted', deleted_at = '2030-01-06 01:00Z' WHERE label ~ 'snapshot'});

# Another branch of the past may not have seen the purge.
generation('branch', '0/6000', 110, timeline => 2);
is(horizon('acme'), 'a,b,b1,b2,branch|0|01-13 14|', 'a generation of another timeline than the purge\'s and the server\'s holds it');
ask(q{UPDATE leyser.generation_record SET state = 'deleted', deleted_at = '2030-01-06 02:00Z' WHERE label = 'branch'});

# Another system's LSNs tell nothing.  What this database lived on is known by its
# identifier, whose upper half is the time of initdb.
my $new = (1893456000 + 30 * 3600) * 4294967296;
generation('foreign', 'FF/0', 120, system => 4711);
generation('upgraded', '0/10', 121, system => $new);
is(horizon('acme'), 'a,b,b1,b2,foreign,upgraded|0|01-14 01|', 'generations of systems that are not known hold it');
ask("INSERT INTO leyser.system_record VALUES ($new, '2030-01-02 08:00Z', '0/20')");
is(horizon('acme'), 'a,b,b1,b2,foreign|0|01-14 00|', '... those of a system that began after the erasure do not');
erased('late', '0/3000', 31);
is(horizon('late'), 'a,b,b1,b2,c,c1,foreign,upgraded|0|01-14 01|', '... but for one that was erased before');
generation('upgraded later', '0/20', 122, system => $new);
is(horizon('late'), 'a,b,b1,b2,c,c1,foreign,upgraded|0|01-14 01|', '... unless it began when the database lived there');
erased('new', '0/18', 130, system => $new);
is(horizon('new'), 'a,b,b1,b2,c,c1,copy2,foreign,upgraded|0|01-14 01|', 'a purge after the upgrade: all of the former system, and what starts before');
ask(q{UPDATE leyser.generation_record SET state = 'deleted', deleted_at = '2030-01-06 03:00Z' WHERE label ~ 'foreign|upgraded'});

# The day it went is the last one's; an expired generation is still there.
ask(q{UPDATE leyser.generation_record SET state = 'expired', expired_at = '2030-01-09 00:00Z' WHERE label IN ('a', 'b', 'b1', 'b2')});
like(horizon('acme'), qr/^a,b,b1,b2\|/, 'expired is not gone');
ask(q{UPDATE leyser.generation_record SET state = 'deleted', deleted_at = '2030-01-10 00:00Z' WHERE label IN ('a', 'b', 'b1')});
like(horizon('acme'), qr/^b2\|.*\|$/, 'one is left');
is(ask(q{SELECT alert, subject, detail FROM leyser.horizon_alerts('2030-02-01') WHERE subject = 'acme'}),
	'horizon missed|acme|The erased tenant may still be in generations ' . ask(q{SELECT generation_id FROM leyser.generation_record WHERE label = 'b2'}) . '.',
	'... which is an alert once the day has passed');
is(ask(q{SELECT count(*) FROM leyser.horizon_alerts('2030-01-10') WHERE subject = 'acme'}), '0', '... and none before');
ask(q{UPDATE leyser.generation_record SET state = 'deleted', deleted_at = '2030-01-12 05:00Z' WHERE label = 'b2'});
like(horizon('acme'), qr/^\|0\|.*\|01-12 05$/, 'the day it went is that of the last generation');
is(ask(q{SELECT gone_from_backups_at AT TIME ZONE 'UTC' FROM leyser.purge_status WHERE tenant_id = 'acme'}), '2030-01-12 05:00:00',
	'purge_status tells it');
is(ask(q{SELECT state, detail FROM leyser.purge_report('acme') WHERE part = 'backups'}), 'gone|since 2030-01-12 05:00:00Z', '... and the report');
is(ask(q{SELECT subject, state FROM leyser.purge_report('new') WHERE part = 'backups' ORDER BY 1}),
	join("\n", map { my $id = ask("SELECT generation_id FROM leyser.generation_record WHERE label = '$_'"); "generation $id|may hold it" }
		qw(c c1 copy2)), '... which lists those that hold another one');

# The archive of write-ahead log.
sub archive
{
	my ($oldest, $day) = @_;

	ask(qq{INSERT INTO leyser.wal_archive_record (tool, source, system_identifier, timeline, oldest_lsn, seen_at)
		VALUES ('barman', 'main', $system, 1, '$oldest', '2030-01-$day 00:00Z')
		ON CONFLICT (tool, source, system_identifier) DO UPDATE SET oldest_lsn = excluded.oldest_lsn, seen_at = excluded.seen_at});
	return;
}
archive('0/1000', '02');
like(horizon('acme'), qr/^\|1\|.*\|$/, 'an archive that begins before the scrub\'s end holds the tenant');
archive('0/2000', '14');
like(horizon('acme'), qr/^\|0\|.*\|01-14 00$/, '... one that begins there does not, since then');
archive('0/2800', '15');
like(horizon('acme'), qr/^\|0\|.*\|01-14 00$/, '... also later');
archive('0/1800', '16');
like(horizon('acme'), qr/^\|1\|.*\|$/, '... until older segments are found again');
ask(q{DELETE FROM leyser.wal_archive_record});
like(horizon('acme'), qr/^\|0\|.*\|\d\d-\d\d \d\d$/, 'an archive that is gone holds nothing');
ask(q{SELECT leyser.record_wal_archive('by hand', '000000010000000000000000')});
like(horizon('acme'), qr/^\|1\|.*\|$/, 'an archive by hand');
ask(q{SELECT leyser.record_wal_archive('by hand', '000000010000000000000001', '000000010000000000000001')});
like(horizon('acme'), qr/^\|0\|.*\|\d\d-\d\d \d\d$/, '... that goes on');
ask(q{SELECT leyser.record_wal_archive('by hand', NULL)});
is(ask(q{SELECT count(*) FROM leyser.wal_archive_record}), '0', '... and is emptied');
is_refused($node, "SELECT leyser.record_wal_archive($_)", '22023', "refused: $_")
  foreach q{'', '000000010000000000000001'}, q{'x', 'segment'}, q{'x', '000000010000000000000002', '000000010000000000000001'},
  q{NULL, NULL}, q{'x', NULL, '000000010000000000000001'};

# A server that archives must be known to.
ask(q{DELETE FROM leyser.wal_archive_history});
$node->append_conf('postgresql.conf', "archive_mode = on\narchive_command = 'true'");
$node->restart;
like(horizon('acme'), qr/^\|1\|.*\|$/, 'a server that archives: the archive is unknown');
is(ask(q{SELECT alert FROM leyser.horizon_alerts() WHERE alert = 'archive unknown'}), 'archive unknown', '... which is an alert');
ask(q{SELECT leyser.record_wal_archive('by hand', '000000010000000000000001')});
like(horizon('acme'), qr/^\|0\|.*\|\d\d-\d\d \d\d$/, '... until somebody tells of it');

# After a failover the past of this server is on two timelines.
ask(q{SELECT pg_switch_wal(); CHECKPOINT});
$node->append_conf('postgresql.conf', "archive_mode = off");
$node->restart;
ask(q{DELETE FROM leyser.wal_archive_record; DELETE FROM leyser.wal_archive_history});
generation('before', '0/3100', 200);
$node->stop;
$node->append_conf('postgresql.conf', "restore_command = 'false'\nrecovery_target_timeline = 'latest'");
$node->append_conf('standby.signal', '');
$node->start;
$node->promote;
$node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
ask('CHECKPOINT');
is(ask('SELECT timeline_id FROM pg_control_checkpoint()'), '2', 'the server was promoted');
my $place = ask('SELECT pg_current_wal_lsn()');
generation('promoted', $place, 201, timeline => 2);
generation('other branch', $place, 202, timeline => 3);
generation('left behind', $place, 203, timeline => 1);
erased('after', ask(q{SELECT '0/3050'::pg_lsn}), 190, timeline => 2);
like(horizon('acme'), qr/^other branch\|/, 'the new timeline goes on where the purge was');
is((split /\|/, horizon('after'))[0], 'c,c1,left behind,other branch',
	'... the former one counts up to where it was left: not what it wrote later');

$node->stop;
done_testing();
