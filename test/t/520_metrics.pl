# metrics(): who reads it, that its figures are those of the views, under names and labels
# as Prometheus wants them, whatever fails.

use strict;
use warnings;

use LeyserCheck;
use LeyserSchedule qw(make_due);
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = check_node('metrics');
$node->safe_psql('postgres', q{CREATE ROLE monitor LOGIN; SELECT leyser.grant_usage('monitor', 'monitor')});

sub as_role
{
	my ($role, $sql) = @_;
	return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]);
}

# The value of one figure; labels as the start of JSON.
sub figure
{
	my ($name, $labels) = @_;
	return as_role('monitor', sprintf q{SELECT string_agg(value::text, ' ') FROM leyser.metrics() WHERE name = 'leyser_%s' AND labels @> '%s'}, $name, $labels // '{}');
}

sub figure_is
{
	my ($name, $labels, $sql) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(figure($name, $labels), $node->safe_psql('postgres', "SELECT ($sql)::float8"), "$name $labels");
	return;
}

sub tick
{
	my (@jobs) = @_;
	make_due($node, $_, '1 second') foreach @jobs;
	as_role('operator', 'CALL leyser.tick()');
	return;
}

# Who.
is(as_role($_, 'SELECT count(*) > 50 FROM leyser.metrics()'), 't', "$_ reads the figures") foreach qw(monitor operator auditor);
is_refused($node, 'SELECT * FROM leyser.metrics()', '42501', "$_ does not", user => $_) foreach qw(app reader custodian);
foreach my $object ($node->safe_psql('postgres', q{SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE n.nspname IN ('leyser', 'shop') AND c.relkind IN ('r', 'v') AND has_table_privilege('monitor', c.oid, 'SELECT')}),
	$node->safe_psql('postgres', q{SELECT u.object FROM leyser.usage_rights() u WHERE u.usage = 'monitor' AND u.object NOT IN ('leyser', 'leyser.metrics()')}))
{
	is($object, '', 'a monitor reads nothing else');
}

# Names, as Prometheus has them.
tick('note clauses', 'check security');
is(as_role('monitor', q{SELECT string_agg(DISTINCT name, ' ') FROM leyser.metrics() WHERE name !~ '^leyser_[a-z_]+$' OR type NOT IN ('gauge', 'counter') OR coalesce(help, '') !~ '^[A-Z].*\.$'
	OR (type = 'counter') <> (name ~ '_total$') OR labels IS NULL OR value IS NULL OR value = 'NaN'}), '', 'names, types, meanings');
is(as_role('monitor', 'SELECT count(*) - count(DISTINCT (name, labels)) FROM leyser.metrics()'), '0', 'each sample is there once');
is($node->safe_psql('postgres', q{SELECT count(*) - count(DISTINCT name) FROM leyser.metric_kinds()}), '0', 'each name has one meaning');
is(as_role('monitor', q{SELECT string_agg(DISTINCT jsonb_typeof(v), ' ') FROM leyser.metrics(), jsonb_each(labels) l (k, v)}), 'string', 'labels are texts');
my $text = '';
my $last = '';
foreach my $row (split /\n/, as_role('monitor', q{SELECT concat_ws(E'\x1f', name, type, help, value, (SELECT string_agg(format('%s="%s"', l.key, l.value), ',' ORDER BY l.key)
	FROM jsonb_each_text(labels) l)) FROM leyser.metrics()}))
{
	my ($name, $type, $help, $value, $labels) = split /\x1f/, $row;

	$text .= "# HELP $name $help\n# TYPE $name $type\n" if $name ne $last;
	$text .= $name . (defined $labels ? "{$labels}" : '') . " $value\n";
	$last = $name;
}
my ($told, $errors) = ('', '');
ok(IPC::Run::run([ 'promtool', 'check', 'metrics' ], '<', \$text, '>', \$told, '2>', \$errors), 'promtool finds nothing wrong with them') or diag("$told$errors");
is("$told$errors", '', '... and says nothing');

# However many tenants, accounts and roles there are, so many samples.
my $samples = as_role('monitor', 'SELECT count(*) FROM leyser.metrics()');
$node->safe_psql('postgres', q{SELECT leyser.create_tenant('t' || g), leyser.create_account('a', 't' || g, false) FROM generate_series(1, 50) g;
	SELECT format('CREATE ROLE r%s LOGIN; SELECT leyser.grant_usage(%L, %L)', g, 'r' || g, 'auditor') FROM generate_series(1, 20) g
	\gexec
	});
is(as_role('monitor', 'SELECT count(*) FROM leyser.metrics()'), $samples, 'the number of samples does not follow that of tenants, accounts and roles');
unlike(as_role('monitor', 'SELECT string_agg(labels::text, chr(32)) FROM leyser.metrics()'), qr/"(t\d+|r\d+|a|app|1|2)"/, '... of which none is named');

# The figures.
figure_is('tenants', '{"state": "active"}', q{SELECT count(*) FROM leyser.tenant_record WHERE state = 'active'});
figure_is('tenants', '{"state": "held"}', '0');
$node->safe_psql('postgres', q{SELECT leyser.terminate_contract('t1', now()), leyser.hold_purge('t1', 'a law', current_date + 9), leyser.terminate_contract('t2', now())});
figure_is('tenants', '{"state": "held"}', '1');
like(figure('erasure_delay_seconds'), qr/^0?\.?\d|^[1-9]/, 'erasure_delay_seconds: somebody waits');
cmp_ok(figure('erasure_delay_seconds'), '>', 0, '... since then');
$node->safe_psql('postgres', q{CALL leyser.purge('t2')});
figure_is('erasure_delay_seconds', '{}', '0');
figure_is('purges', '{"state": "erased"}', '1');
figure_is('horizon_tenants', '{}', '1');
figure_is('horizon_due_timestamp_seconds', '{}', q{SELECT extract(epoch FROM max(due_at)) FROM leyser.erasure_horizon});
figure_is('governed_tables', '{"kind": "own", "enforcement": "enforce"}', q{SELECT count(*) FROM leyser.governed_table WHERE kind = 'own'});
figure_is('usage_roles', '{"usage": "auditor"}', '21');
figure_is('events_total', '{}', q{SELECT max(event_id) FROM leyser.event});
$node->safe_psql('postgres', 'SELECT leyser.seal_events()');
figure_is('events_pending', '{}', '0');
$node->safe_psql('postgres', q{SELECT leyser.create_tenant('late'); UPDATE leyser.event_pending SET at = at - interval '1 hour'});
is(figure('events_pending'), '1', 'events_pending');
cmp_ok(figure('events_pending_age_seconds'), '>=', 3600, 'events_pending_age_seconds');
cmp_ok(figure('events_retention_seconds'), '>=', 181 * 86400, 'events_retention_seconds');
figure_is('events_problems', '{}', '0');
figure_is('events_verified_timestamp_seconds', '{}', 'SELECT extract(epoch FROM verified_at) FROM leyser.verification_record');
figure_is('backup_wanted', '{}', '7');
is(figure('backup_newest_timestamp_seconds'), '', 'no backup, no time of one');
my $generation = $node->safe_psql('postgres', q{SELECT leyser.begin_backup('by hand', '/backups', 'JP')});
figure_is('backup_generations', '{"state": "running"}', '1');
$node->safe_psql('postgres', "SELECT leyser.complete_backup($generation, pg_current_wal_lsn(), pg_current_wal_lsn(), 12345678901, NULL), leyser.verify_backup($generation, true, 'read')");
figure_is('backup_generations', '{"state": "verified"}', '1');
figure_is('backup_countable', '{}', '1');
figure_is('backup_newest_size_bytes', '{}', '12345678901');
figure_is('backup_newest_timestamp_seconds', '{}', 'SELECT extract(epoch FROM max(started_at)) FROM leyser.backup_generation');
figure_is('backup_verified_timestamp_seconds', '{}', 'SELECT extract(epoch FROM max(verified_at)) FROM leyser.backup_generation');
figure_is('backup_missed', '{}', '0');
$node->safe_psql('postgres', q{UPDATE leyser.generation_record SET recorded_at = recorded_at - interval '3 days'});
figure_is('backup_missed', '{}', q{SELECT count(*) FROM leyser.backup_alert WHERE alert = 'missed day'});
cmp_ok(figure('backup_missed'), '>=', 1, '... which are some');
figure_is('alerts', '{"alert": "missed day"}', q{SELECT count(*) FROM leyser.backup_alert WHERE alert = 'missed day'});
figure_is('alerts', '{"alert": "heartbeat silent"}', '0');
figure_is('heartbeat_timestamp_seconds', '{}', 'SELECT extract(epoch FROM last_tick_at) FROM leyser.tick_record');
figure_is('clock_moved_back', '{}', '0');
$node->safe_psql('postgres', q{UPDATE leyser.tick_record SET latest_at = now() + interval '1 hour'});
figure_is('clock_moved_back', '{}', '1');
$node->safe_psql('postgres', q{UPDATE leyser.tick_record SET latest_at = now(), last_tick_at = now() - interval '6 minutes'});
figure_is('alerts', '{"alert": "heartbeat silent"}', '1');
$node->safe_psql('postgres', q{UPDATE leyser.job_record SET failures = 3 WHERE job = 'upkeep'});
figure_is('job_failures', '{"job": "upkeep"}', '3');
figure_is('job_success_timestamp_seconds', '{"job": "seal events"}', q{SELECT extract(epoch FROM last_success) FROM leyser.job WHERE job = 'seal events'});
$node->safe_psql('postgres', 'CREATE ROLE shadow BYPASSRLS');
figure_is('findings', '{"severity": "high", "fails": "open"}', '0');
tick('check security', 'note clauses');
figure_is('findings', '{"severity": "high", "fails": "open"}', '1');
is(figure('clause_status', '{"clause": "2.5", "status": "broken"}') . figure('clause_status', '{"clause": "2.5", "status": "kept"}'), '10', 'clause_status: one of them');
figure_is('clause_since_timestamp_seconds', '{"clause": "2.5"}', q{SELECT extract(epoch FROM since) FROM leyser.white_paper() WHERE clause = '2.5'});
as_role('operator', q{SELECT leyser.waive_check('bypass.bypassrls', 'role shadow', 'reports', now() + interval '1 day')});
is(figure('findings', '{"severity": "high", "fails": "open"}') . figure('findings_waived'), '01', 'a waived finding');
as_role('operator', q{SELECT leyser.attest('2.1', 'is certified', 'the body', repeat('0', 64), now() + interval '90 days')});
figure_is('attestation_end_timestamp_seconds', '{"clause": "2.1"}', q{SELECT extract(epoch FROM valid_until) FROM leyser.attestation});
as_role('operator', q{SELECT leyser.set_notice_policy(mail_sender => 'status@example.com'), leyser.add_contact('1', 'contract_holder', 'one@example.com'),
	leyser.announce('incident', 'high', 'Slow', 'It is slow.')});
figure_is('notices_open', '{"kind": "incident"}', '1');
figure_is('mails', '{"state": "waiting"}', q{SELECT count(*) FROM leyser.mail WHERE state = 'waiting'});
$node->safe_psql('postgres', q{UPDATE leyser.mail_record SET queued_at = queued_at - interval '1 hour'});
cmp_ok(figure('mail_delay_seconds'), '>=', 3600, 'mail_delay_seconds');
$node->safe_psql('postgres', q{VACUUM leyser.account_record});
figure_is('accounts_estimated', '{}', 'SELECT count(*) FROM leyser.account_record');
figure_is('info', '{}', '1');
figure_is($_, '{}', '0') foreach qw(restore_held logins_delayed);
figure_is('windows_open', qq({"kind": "$_"}), '0') foreach qw(support export disclosure);

# A group that fails takes no other along.
$node->safe_psql('postgres', q{CREATE OR REPLACE FUNCTION leyser.measure_mail() RETURNS TABLE (name text, labels jsonb, value double precision)
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$ SELECT 'leyser_mails', '{}'::jsonb, 1 / (random() * 0) $$});
is(as_role('monitor', q{SELECT string_agg(labels ->> 'group', ' ') FROM leyser.metrics() WHERE name = 'leyser_metrics_failed' AND value = 1}), 'mail', 'a group that fails');
is(as_role('monitor', q{SELECT count(*) > 50, bool_or(name = 'leyser_mails') FROM leyser.metrics()}), 't|f', '... is left out, and the others are there');
is(as_role('monitor', 'BEGIN READ ONLY; SELECT count(*) > 50 FROM leyser.metrics(); COMMIT'), 't', 'in a read-only transaction');

$node->stop;
done_testing();
