# The chain of events survives what is done to a database: a dump that is restored,
# a tenant's and an account's erasure, a restore to an earlier point, which shows as
# what it is against a digest that was stored outside.

use strict;
use warnings;

use LeyserPurge;
use LeyserRestore;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = purge_node('primary', init => { allows_streaming => 1, has_archiving => 1 });
fill_tenants($node, 20, qw(kept gone));
$node->safe_psql('postgres', q{CREATE ROLE auditor LOGIN; SELECT leyser.grant_usage('auditor', 'auditor'); CALL leyser.tick()});

sub verified
{
	my ($where, $arguments, $database) = @_;

	return $where->safe_psql($database // 'postgres', 'SELECT tenant, event_id, problem FROM leyser.verify_events('
		. ($arguments // '') . ') ORDER BY 1, 2, 3', extra_params => [ '-U', 'auditor' ]);
}

sub digest_of
{
	my ($where, $database) = @_;

	return $where->safe_psql($database // 'postgres', 'SELECT leyser.event_digest()', extra_params => [ '-U', 'auditor' ]);
}

sub act
{
	my ($where, $tenant, $database) = @_;

	$where->safe_psql($database // 'postgres', "SELECT leyser.suspend_tenant('$tenant'); SELECT leyser.resume_tenant('$tenant')");
	return;
}

# ---- a dump ----

act($node, 'kept');
digest_of($node);
act($node, 'gone');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM leyser.event_pending'), '>', 0, 'some events are sealed, some are not yet');
# what the dumps themselves are recorded as comes after
my $last = $node->safe_psql('postgres', 'SELECT max(event_id) FROM leyser.event_record');
my $log = "SELECT tableoid::regclass, * FROM leyser.event_record WHERE event_id <= $last ORDER BY event_id";
my $before = $node->safe_psql('postgres', $log);
like($before, qr/^leyser\.event_record\|.*^leyser\.event_record_\d{4}_\d\d\|/ms, 'they lie in the log itself and in months');
my $folder = PostgreSQL::Test::Utils::tempdir();
for my $format ('custom', 'directory')
{
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	my $output = '';
	ok(IPC::Run::run([ 'pg_dump', "--format=$format", '--file', "$folder/$format", 'postgres' ], '>', '/dev/null', '2>', \$output) && $output eq '',
		"pg_dump, $format") or diag($output);
	$node->safe_psql('postgres', "CREATE DATABASE $format TEMPLATE template0");
	ok(IPC::Run::run([ 'pg_restore', '--exit-on-error', '--jobs=2', "--dbname=$format", "$folder/$format" ], '>', '/dev/null', '2>', \$output) && $output eq '',
		'... and restored') or diag($output);
	is($node->safe_psql($format, $log), $before, '... with all events, where they were');
	is(verified($node, '', $format), '', '... unbroken');
	my $digest = digest_of($node, $format);
	act($node, 'kept', $format);
	$node->safe_psql($format, 'CALL leyser.tick()');
	is(verified($node, "digest => '$digest'", $format), '', '... and going on');
	is_refused($node, 'DELETE FROM leyser.event_record', 'LY007', '... append-only', database => $format);
	is_refused($node, $node->safe_psql($format, q{SELECT 'DELETE FROM ' || max(relation::text) FROM leyser.event_months()}), 'LY007', '... in months, too', database => $format);
	$node->safe_psql($format, q{UPDATE leyser.job_record SET due_at = clock_timestamp() WHERE job ~ 'months'; CALL leyser.tick()});
	is($node->safe_psql($format, q{SELECT count(*) FROM leyser.unbound_event_months()}), '0', '... which go with the extension again');
}
is($node->safe_psql('custom', q{SELECT leyser.unprotect(relation) FROM leyser.table_record WHERE parent IS NULL AND kind = 'own' \g /dev/null
	SET leyser.guards = off; DROP EXTENSION leyser; SELECT count(*) FROM pg_class WHERE relname ~ '^event_record'}), '0', 'DROP EXTENSION takes them');

# ---- a restore to an earlier point ----

my $early = digest_of($node);
$node->backup('base');
act($node, 'kept') for 1 .. 3;
my $middle = digest_of($node);
$node->safe_psql('postgres', q{SELECT pg_create_restore_point('point')});
act($node, 'kept');
my $late = digest_of($node);
$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
is(verified($node, "digest => '$_'"), '', 'before: the log goes on from each digest') for $early, $middle, $late;
my $copy = restore($node, 'base', 'copy', has_restoring => 1, standby => 0, conf => "recovery_target_name = 'point'\nrecovery_target_action = promote", keyring => copy_keyring($node, "$folder/keys"));
$copy->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
is(verified($copy), '', 'restored: the chain of that time is unbroken');
is(verified($copy, "digest => '$_'"), '', '... and goes on from the digests of before') for $early, $middle;
like(verified($copy, "digest => '$late'"), qr/^\|\|(ends before|other than) the digest$/, '... but not from a later one');
act($copy, 'kept');
digest_of($copy);
act($copy, 'kept');
like(verified($copy, "digest => '$late'"), qr/^\|\|other than the digest$/, '... nor when it has gone on');
is(verified($copy), '', '... unbroken');
$copy->stop;

# ---- erasure ----

my $count = $node->safe_psql('postgres', 'SELECT count(*) FROM leyser.event_record');
queue_purges($node, '', 'gone');
is_erased($node, 'gone', 'a tenant is erased');
is($node->safe_psql('postgres', q{SELECT count(*) > 2, count(object) FROM leyser.event_record WHERE tenant_id = 'gone' AND event ~ '^tenant'}), 't|0', 'with what its events said');
is(verified($node), '', '... the chain is unbroken');
is(verified($node, "'gone'"), '', '... its own, too');
is(verified($node, "digest => '$late'"), '', '... and goes on from the digest of before');
my $of_gone = $node->safe_psql('postgres', q{SELECT min(event_id) FROM leyser.event_record WHERE tenant_id = 'gone'});
my $off = join('', map { "ALTER TABLE $_ DISABLE TRIGGER ALL;" } split(/\n/, $node->safe_psql('postgres', 'SELECT DISTINCT tableoid::regclass FROM leyser.event_record')));
is($node->safe_psql('postgres', "SET leyser.guards = off; BEGIN; $off UPDATE leyser.event_record SET at = at - interval '1 day' WHERE event_id = $of_gone;
	SELECT tenant, event_id, problem FROM leyser.verify_events(); ROLLBACK"), "gone|$of_gone|changed", '... in which what stays cannot be changed');

$node->safe_psql('postgres', q{SELECT leyser.create_account('ada', 'kept'), leyser.create_account('bob', 'kept');
	CREATE ROLE door LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC; SELECT leyser.grant_usage('door', 'gateway')});
$node->append_conf('postgresql.conf', "listen_addresses = '127.0.0.1'");
$node->restart;
$node->safe_psql('postgres', q{BEGIN; SELECT leyser.enter('kept', 'bob') \g /dev/null
	COMMIT; BEGIN; SELECT leyser.enter('kept', 'ada') \g /dev/null
	SELECT leyser.delete_account('bob'); COMMIT}, connstr => 'host=127.0.0.1 port=' . $node->port . ' dbname=postgres user=door');
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event_record WHERE tenant_id = 'kept' AND salt IS NULL}), '>', 0, 'a deleted account\'s addresses are erased');
is(verified($node), '', '... the chain is unbroken');

$node->stop;
done_testing();
