# pg_cron really beats, in both of its modes: contracts end, tenants are purged, the
# daily backup is taken, and what was missed while the server was down is done once.
# Each mode costs up to a minute, for pg_cron looks at the clock once in one.

use strict;
use warnings;

use LeyserBackup;
use LeyserPurge;
use LeyserSchedule;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = schedule_node('cron', conf => "cron.use_background_workers = on\nmax_worker_processes = 16", init => { allows_streaming => 1 });
my $folder = backup_directory($node);

mkdir $folder, 0700 or die;
$node->append_conf('postgresql.conf', "leyser.backup_directory = '$folder'\ncron.host = '" . $node->host . q{'});
$node->restart;
$node->safe_psql('postgres', 'CREATE EXTENSION pg_cron; CREATE DATABASE shop');
create_extension($node, 'shop');
$node->safe_psql('shop', q{SELECT leyser.grant_usage('operator', 'operator')});
fill_tenants($node, 100, qw(a b other));
my $other = fingerprint($node, 'other');
as_operator($node, 'SELECT leyser.schedule()', $_) for qw(postgres shop);

# In each mode: a contract ends, the daily backup was due while the server was down,
# and in the other database a contract ends, too.
sub beats
{
	my ($mode, $tenant) = @_;
	my $runs = $node->safe_psql('postgres', 'SELECT coalesce(max(run_id), 0) FROM leyser.job_run');
	my $noted = $node->safe_psql('postgres', 'SELECT coalesce(max(runid), 0) FROM cron.job_run_details');

	$node->safe_psql('shop', "SELECT leyser.create_tenant('$tenant'); SELECT leyser.terminate_contract('$tenant', clock_timestamp())");
	$node->safe_psql('postgres', "SELECT leyser.terminate_contract('$tenant', clock_timestamp() + interval '1 second')");
	make_due($node, 'daily backup', '3 days');
	alerts_are($node, ['job late daily backup'], "$mode: a missed day is an alert");
	$node->append_conf('postgresql.conf', "cron.use_background_workers = $mode");
	$node->restart;
	is_erased($node, $tenant, "$mode: pg_cron beats: a contract that has ended");
	ok($node->poll_query_until('shop', "SELECT count(*) = 1 FROM leyser.purge_status WHERE tenant_id = '$tenant' AND state = 'erased'"),
		'... in another database, too');
	ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM leyser.generation_record WHERE state = 'verified' AND started_at > pg_postmaster_start_time()}),
		'... and the daily backup, though three were missed');
	ok($node->poll_query_until('postgres', qq{SELECT count(*) >= 2 FROM cron.job_run_details WHERE runid > $noted AND status = 'succeeded'}), '... as pg_cron notes');
	is($node->safe_psql('postgres', qq{SELECT count(*) FROM cron.job_run_details WHERE runid > $noted AND status NOT IN ('succeeded', 'running')}), '0', '... without an error');
	tick($node);
	is($node->safe_psql('postgres', qq{SELECT string_agg(concat_ws(' ', job, state, CASE WHEN state <> 'done' THEN detail END), ', ' ORDER BY job) FROM leyser.job_run
		WHERE run_id > $runs AND job IN ('settle contracts', 'queue purges', 'daily backup')}),
		'daily backup done, queue purges done, settle contracts done', '... each once');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.generation_record WHERE tool = 'pg_basebackup' AND started_at > pg_postmaster_start_time()}), '1', '... one backup');
	alerts_are($node, [], '... and no alert is left');
	return;
}

tick($node);
as_operator($node, 'CALL leyser.tick()', 'shop');
# the other database has its backups taken by this one
$node->safe_psql('shop', q{UPDATE leyser.job_record SET due_at = 'infinity' WHERE job = 'daily backup'});
beats('on', 'a');
# yesterday's, so that today's is still to be taken
$node->safe_psql('postgres', q{UPDATE leyser.generation_record SET started_at = started_at - interval '1 day', completed_at = completed_at - interval '1 day'});
beats('off', 'b');
is($node->safe_psql('postgres', q{SELECT last_tick_by FROM leyser.tick_record}), 'operator', 'it is the operator who ticks');
is(fingerprint($node, 'other'), $other, 'the other tenant is what it was');

$node->stop;
done_testing();
