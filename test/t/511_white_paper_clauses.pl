# Each clause of the white paper is driven from what it is at best to what breaks it, and
# back, by changing the thing that it speaks of; the evidence names it.

use strict;
use warnings;

use LeyserCheck;
use LeyserSchedule qw(make_due);
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = check_node('clauses');
my $rules = rules_of($node);

sub as_role
{
	my ($role, $sql) = @_;
	return $node->safe_psql('postgres', $sql, extra_params => [ '-U', $role ]);
}

sub of_clause
{
	my ($clause, $columns) = @_;
	return as_role('auditor', "SELECT $columns FROM leyser.white_paper() WHERE clause = '$clause'");
}

sub tick
{
	my (@jobs) = @_;

	make_due($node, $_, '1 second') foreach @jobs;
	as_role('operator', 'CALL leyser.tick()');
	return;
}

# Waits until a setting is in force for new sessions.
sub setting_is
{
	my ($name, $value) = @_;
	return $node->poll_query_until('postgres', "SELECT current_setting('$name') = '$value'") || die "$name is not $value";
}

# Three tests: breaking a clause, what its evidence then names, and its end.
# mend: SQL or a function; without one, the remedy is pasted.
sub drive
{
	my ($clause, $best, $break, $worst, $names, $mend) = @_;
	my $do = sub { ref $_[0] ? $_[0]->() : paste($node, $_[0]) };

	like(of_clause($clause, 'status'), $best, "$clause: at its best") or diag(of_clause($clause, 'evidence'));
	$do->($break);
	like(of_clause($clause, q{status || ': ' || evidence}), qr/^$worst: .*$names/s, "$clause: $worst, and the evidence names it");
	is(as_role('auditor', "SELECT strpos(j.evidence, x) > 0 FROM leyser.white_paper('ja') j, substring((SELECT e.evidence FROM leyser.white_paper() e
		WHERE e.clause = '$clause'), '([A-Za-z0-9_.-]*$names)') x WHERE j.clause = '$clause'"), 't', "$clause: ... in Japanese, too") if $names =~ /^[a-z_.0-9]+$/;
	$do->($mend // of_clause($clause, 'remedy'));
	like(of_clause($clause, 'status'), $best, "$clause: ... and back") or diag(of_clause($clause, 'evidence'));
	return;
}

my $kept = qr/^kept$/;
my $attested = qr/^attested until /;

# What lies outside: attested for a time.
sub attest
{
	my ($clause, $until) = @_;
	return as_role('operator', sprintf q{SELECT leyser.attest('%s', 'what is so about %1$s', 'a body', repeat('0', 64), now() + interval '%s')}, $clause, $until // '1 year');
}

sub withdraw
{
	my ($clause) = @_;
	as_role('operator', "SELECT leyser.withdraw_attestation(attestation_id) FROM leyser.attestation WHERE clause = '$clause' AND is_valid");
	return;
}

foreach my $clause (qw(1.2 2.1 2.2 2.14 2.19))
{
	my $absent = $clause eq '2.14' ? 'declared' : 'outside the database';

	is(of_clause($clause, 'status'), $absent, "$clause: nothing is attested");
	attest($clause);
	drive($clause, $attested, sub { withdraw($clause) }, $absent, 'a body', sub { attest($clause) });
	like(of_clause($clause, 'evidence'), qr/what is so about \Q$clause\E/, "$clause: ... which the evidence quotes");
}

# What the database sees a part of: never kept, whoever attests the rest.
foreach my $clause (qw(2.6 2.10 2.17))
{
	is(of_clause($clause, 'status'), 'declared', "$clause: the part that the database sees is well, and the rest is not attested");
	attest($clause);
	drive($clause, $attested, sub { withdraw($clause) }, 'declared', 'a body', sub { attest($clause) });
}

# 2.3, 2.4, 2.5, 2.7, 2.9, 2.15, 2.17: what the security check finds; remedies are pasted.
sub reload
{
	my ($sql, $name, $value) = @_;
	return sub { paste($node, "$sql; SELECT pg_reload_conf()"); setting_is($name, $value) };
}

# 2.3: of people who have no account here, nothing is known.
like(of_clause('2.3', q{status || ': ' || evidence}), qr/^declared: .*how people register and prove who they are/, '2.3: without an account');
$node->safe_psql('postgres', q{SELECT leyser.invite_account('first@example.com', '1', administrator => true)});
my $issuer = q{INSERT INTO leyser.issuer_key (key_id, pem, algorithm, issuer, audience) VALUES ('other', '-', 'ES256', 'https://id.example.com', 'here')};
drive('2.3', $kept, $issuer, 'declared', 'tokens are signed for those who have no account here', q{DELETE FROM leyser.issuer_key});
drive('2.3', $kept, reload(q{ALTER SYSTEM SET leyser.password_cost = 6}, 'leyser.password_cost', 6), 'broken', 'server.password_cost',
	sub { paste($node, of_clause('2.3', 'remedy')); setting_is('leyser.password_cost', 10) });
drive('2.3', $kept, reload(q{ALTER SYSTEM SET leyser.password_min_length = 8}, 'leyser.password_min_length', 8), 'at risk', 'server.password_length',
	sub { paste($node, of_clause('2.3', 'remedy')); setting_is('leyser.password_min_length', 15) });
drive('2.4', $kept, q{SET leyser.guards = off; DROP POLICY leyser_permission_read ON shop.payment}, 'broken', 'shop.payment');
drive('2.4', $kept, q{SELECT leyser.unprotect('shop.payment')}, 'declared', 'no protected table asks for a permission',
	q{SELECT leyser.protect('shop.payment'); SELECT leyser.set_permissions('shop.payment', read_permission => 'payment.read')});
drive('2.4', $kept, $rules->{'widen.permissive_true'}{example}, 'broken', 'widen.permissive_true');
drive('2.5', $kept, 'CREATE ROLE shadow BYPASSRLS', 'broken', 'role shadow');
drive('2.5', $kept, $rules->{'key.custodian_acts'}{example}, 'broken', 'key.custodian_acts');
drive($_, $kept, reload(q{ALTER SYSTEM SET leyser.privileged_access = 'off'}, 'leyser.privileged_access', 'off'), 'broken', 'neither refused nor recorded',
	sub { paste($node, of_clause($_, 'remedy')); setting_is('leyser.privileged_access', 'record') }) foreach qw(2.5 2.7);
drive('2.7', $kept, $rules->{'key.all_data'}{example}, 'broken', 'key.all_data');
drive('2.9', $kept, $rules->{'token.in_setting'}{example}, 'broken', 'token.in_setting');
drive('2.9', $kept, reload(q{ALTER SYSTEM SET leyser.max_token_lifetime = '2d'}, 'leyser.max_token_lifetime', '2d'), 'at risk', 'token.lifetime',
	sub { paste($node, of_clause('2.9', 'remedy')); setting_is('leyser.max_token_lifetime', '1d') });
drive('2.15', $kept, q{SET leyser.guards = off; ALTER TABLE shop.invoice DISABLE ROW LEVEL SECURITY}, 'broken', 'shop.invoice');
drive('2.15', $kept, q{SELECT leyser.suspend_protection('shop.line', 'a job', '1 hour')}, 'broken', 'shop.line');
drive('2.17', $attested, 'CREATE ROLE "Ob ""scure" BYPASSRLS', 'broken', 'bypass.bypassrls role Ob "scure', 'DROP ROLE "Ob ""scure"');
$node->safe_psql('postgres', 'DROP ROLE shadow');

# What somebody accepts keeps no promise, and breaks none.
drive('2.17', $attested, q{CREATE ROLE "Ob ""scure" BYPASSRLS; SELECT leyser.waive_check('bypass.bypassrls', 'role Ob "scure', 'a report of the night', now() + interval '1 day')},
	'at risk', 'Accepted findings.*: bypass.bypassrls role Ob "scure \(until \d{4}-\d\d-\d\d\).*accepted ones: 1', 'DROP ROLE "Ob ""scure"');
paste($node, $rules->{'job.failing'}{example});
like(of_clause('2.17', q{status || ': ' || evidence}), qr/^at risk: .*open findings: 1; accepted ones: 0/, '2.17: a finding by which nobody sees more');
$node->safe_psql('postgres', q{SELECT leyser.waive_check('job.failing', 'job upkeep', 'it is being mended', now() + interval '1 day')});
like(of_clause('2.17', q{status || ': ' || evidence}), qr/^attested until .*open findings: 0; accepted ones: 1/, '2.17: ... which is accepted, is counted');
$node->safe_psql('postgres', q{UPDATE leyser.job_record SET failures = 0, failing_since = NULL, retry_at = NULL WHERE job = 'upkeep'});
drive('2.5', $kept, q{CREATE ROLE shadow BYPASSRLS; SELECT leyser.waive_check('bypass.bypassrls', 'role shadow', 'a report of the night', now() + interval '1 day')},
	'at risk', 'Accepted until .* bypass.bypassrls, role shadow', 'DROP ROLE shadow');

# Without a heartbeat nobody would know.
drive($_, $kept, q{UPDATE leyser.tick_record SET last_tick_at = last_tick_at - interval '6 minutes'}, 'at risk', 'Nobody calls leyser.tick\(\)', sub { tick() }) foreach qw(2.5 2.7);

# Who holds a usage, and how often it was used; by members, too.
like(of_clause('2.5', 'evidence'), qr/Usage operator: operator \(\d+ events/, '2.5: who holds a usage');
$node->safe_psql('postgres', 'CREATE ROLE alice LOGIN; GRANT operator TO alice');
my $sealed = q{SELECT count(*) FROM leyser.event_record e WHERE e.caller_role IN ('operator', 'alice') AND e.event_id NOT IN (SELECT p.event_id FROM leyser.event_pending p)};
tick('note clauses');
my $used = $node->safe_psql('postgres', $sealed);
like(of_clause('2.5', 'evidence'), qr/Usage operator: operator \($used events/, '2.5: ... how often');
as_role('alice', q{SELECT leyser.create_permission('shop.one', 'one'), leyser.create_permission('shop.two', 'two')});
tick('seal events', 'note clauses');
my $more = $node->safe_psql('postgres', $sealed);
cmp_ok($more, '>=', $used + 2, '2.5: ... by a member, too');
like(of_clause('2.5', 'evidence'), qr/Usage operator: operator \($more events/, '2.5: ... each counted once');

# 2.6: a backup, and a tenant, elsewhere.
my $generation;
sub back_up
{
	my ($region) = @_;

	$generation = $node->safe_psql('postgres', sprintf q{SELECT leyser.begin_backup('by hand', '/backups', '%s')}, $region);
	$node->safe_psql('postgres', "SELECT leyser.complete_backup($generation, pg_current_wal_lsn(), pg_current_wal_lsn(), 1, NULL); SELECT leyser.verify_backup($generation, true, 'read')");
	return;
}

like(of_clause('2.11', q{status || ': ' || evidence}), qr/^at risk: The books know of no backup yet/, '2.11: before the first backup');
back_up('JP');
# the policy was another one when it was taken
sub back_up_abroad
{
	$node->safe_psql('postgres', q{SELECT leyser.set_backup_policy(regions => '{JP,US}')});
	back_up('US');
	$node->safe_psql('postgres', q{SELECT leyser.set_backup_policy(regions => '{JP}')});
	return;
}

drive('2.6', $attested, \&back_up_abroad, 'broken', 'A backup lies outside the regions', sub { $node->safe_psql('postgres', "SELECT leyser.confirm_backup_deleted($generation)") });
drive('2.6', $attested, q{SELECT leyser.create_tenant('abroad', region => 'US')}, 'broken', 'abroad \(US\)', q{SELECT leyser.set_backup_policy(regions => '{JP,US}')});
$node->safe_psql('postgres', q{SELECT leyser.terminate_contract('abroad', now())});
$node->safe_psql('postgres', q{CALL leyser.purge('abroad')});
$node->safe_psql('postgres', q{SELECT leyser.set_backup_policy(regions => '{JP}')});
like(of_clause('2.6', 'status'), $attested, '2.6: an erased tenant counts no longer');

# 2.8: held by law, late, and erased.
$node->safe_psql('postgres', q{INSERT INTO shop.invoice (tenant_id, number) VALUES (2, 'two'); SELECT leyser.terminate_contract('2', now())});
drive('2.8', $kept, q{SELECT leyser.hold_purge('2', 'Tax law, article 7', current_date + 90)}, 'broken', '2 \(Tax law, article 7, review on \d{4}-\d\d-\d\d\)');
like(of_clause('2.8', 'evidence'), qr/Being erased now: 2\./, '2.8: released, it is being erased');
$node->safe_psql('postgres', q{ALTER SYSTEM SET leyser.purge_delay = '10 d'});
$node->reload;
$node->poll_query_until('postgres', q{SELECT current_setting('leyser.purge_delay') = '10d'});
like($node->safe_psql('postgres', q{BEGIN; UPDATE leyser.tenant_record SET ends_at = now() - interval '2 days' WHERE tenant_id = '2';
	SELECT status || ': ' || remedy FROM leyser.white_paper() WHERE clause = '2.8'; ROLLBACK}),
	qr/broken: ALTER SYSTEM SET leyser\.purge_delay = 0; SELECT pg_reload_conf\(\);\nCALL leyser\.purge\('2'\);/, '2.8: a delay of purges is no excuse, and goes first');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET leyser.purge_delay');
$node->reload;
$node->poll_query_until('postgres', q{SELECT current_setting('leyser.purge_delay') <> '10d'});
drive('2.8', $kept, q{UPDATE leyser.tenant_record SET ends_at = now() - interval '2 days' WHERE tenant_id = '2'}, 'broken', 'the erasure is not done: 2');
like(of_clause('2.8', 'evidence'), qr/^Customers erased: 2; of these, until backups have gone: 2, the last by \d{4}-/, '2.8: ... and erased');
is(of_clause('2.8', q{evidence ~ 'shop.ledger'}), 't', '2.8: what the provider keeps is named');

# what no purge knows
drive('2.8', $kept, q{CREATE TABLE shop.forgotten (tenant_id bigint, note text)}, 'at risk', 'governed.no_kind\): table shop.forgotten', 'DROP TABLE shop.forgotten');
drive('2.8', $kept, q{CREATE TABLE public.forgotten (tenant_id bigint, note text)}, 'at risk', 'governed.tenant_column\): table public?.?forgotten', 'DROP TABLE public.forgotten');

# 2.10: the settings; a connection is looked at where there is a network.
drive('2.10', $attested, reload(q{ALTER SYSTEM SET ssl_min_protocol_version = 'TLSv1'}, 'ssl_min_protocol_version', 'TLSv1'), 'broken', 'server.tls_version',
	sub { paste($node, of_clause('2.10', 'remedy')); setting_is('ssl_min_protocol_version', 'TLSv1.2') });

# 2.12: the kernel's clock, one that was moved back, and the log's time zone.
say_of_clock($node, 'true');
drive('2.12', $kept, sub { say_of_clock($node, 'false') }, 'broken', 'server.clock_loose', sub { say_of_clock($node, 'true') });
drive('2.12', $kept, sub { say_of_clock($node, 'NULL::boolean') }, 'declared', 'is synchronized is not known here', sub { say_of_clock($node, 'true') });
drive('2.12', $kept, q{UPDATE leyser.tick_record SET latest_at = clock_timestamp() + interval '1 hour'}, 'broken', 'The clock was moved back',
	q{UPDATE leyser.tick_record SET latest_at = clock_timestamp()});
drive('2.12', $kept, reload(q{ALTER SYSTEM SET log_timezone = 'Asia/Tokyo'}, 'log_timezone', 'Asia/Tokyo'), 'at risk', 'server.log_time_zone',
	sub { paste($node, of_clause('2.12', 'remedy')); setting_is('log_timezone', 'UTC') });

drive('2.10', $attested, reload('ALTER SYSTEM SET leyser.require_tls = off', 'leyser.require_tls', 'off'), 'broken', 'server.require_tls',
	sub { paste($node, of_clause('2.10', 'remedy')); setting_is('leyser.require_tls', 'on') });

# 2.11: a missed day, and a backup that turns out to be torn.
drive('2.11', $kept, sub { $node->safe_psql('postgres', q{UPDATE leyser.generation_record SET recorded_at = recorded_at - interval '3 days'}) }, 'broken',
	'No good backup on: ' . $node->safe_psql('postgres', q{SELECT to_char((now() AT TIME ZONE 'UTC')::date - 3, 'YYYY-MM-DD')}),
	sub { $node->safe_psql('postgres', q{UPDATE leyser.generation_record SET recorded_at = recorded_at + interval '3 days'}) });
drive('2.11', $kept, sub { $node->safe_psql('postgres', q{SELECT leyser.verify_backup(min(generation_id), false, 'torn') FROM leyser.generation_record}) }, 'at risk',
	'A backup failed: \d+ "by hand"', sub {
		back_up('JP');
		$node->safe_psql('postgres', q{SELECT leyser.confirm_backup_deleted(min(generation_id)) FROM leyser.generation_record WHERE state = 'failed'});
	});

# 2.13: the log's guards, its content, the server's settings, the heartbeat.
drive('2.13', $kept, 'SET leyser.guards = off; ALTER TABLE leyser.event_record DISABLE TRIGGER refuse_change', 'broken', 'leyser.event_record.refuse_change');
my ($table, $event) = split /\|/, $node->safe_psql('postgres', q{SELECT tableoid::regclass, event_id FROM leyser.event_record WHERE event = 'tenant.created' ORDER BY event_id LIMIT 1});
my $tamper = "SET leyser.guards = off; BEGIN; ALTER TABLE $table DISABLE TRIGGER refuse_change; UPDATE $table SET object = %s WHERE event_id = $event; ALTER TABLE $table ENABLE ALWAYS TRIGGER refuse_change; COMMIT";
my $object = $node->safe_psql('postgres', "SELECT quote_nullable(object) FROM leyser.event_record WHERE event_id = $event");
drive('2.13', $kept, sub { paste($node, sprintf $tamper, q{'something else'}); tick('verify events') }, 'broken', "event $event changed",
	sub { paste($node, sprintf $tamper, $object); tick('verify events') });
is($node->safe_psql('postgres', q{SELECT detail ->> 'first' FROM leyser.event WHERE event = 'events.broken'}), "event $event changed", '2.13: ... and an event tells of it');
drive('2.13', $kept, sub { $node->safe_psql('postgres', q{UPDATE leyser.verification_record SET verified_at = verified_at - interval '3 days'}) }, 'at risk', 'not verified in the last two days',
	sub { tick('verify events') });
drive('2.13', $kept, reload(q{ALTER SYSTEM SET log_min_messages = 'panic'}, 'log_min_messages', 'panic'), 'broken', 'log_min_messages', reload('ALTER SYSTEM RESET log_min_messages', 'log_min_messages', 'warning'));
drive($_, $kept, q{UPDATE leyser.tick_record SET last_tick_at = last_tick_at - interval '6 minutes'}, 'at risk', 'Nobody calls leyser.tick\(\)', sub { tick() }) foreach qw(2.12 2.13);
my $problems = $node->safe_psql('postgres', q{SELECT pg_get_functiondef('leyser.server_log_problems()'::regprocedure)});
drive('2.13', $kept, q{CREATE OR REPLACE FUNCTION leyser.server_log_problems() RETURNS TABLE (alert text, subject text, detail text, remedy text)
	LANGUAGE sql STABLE AS $$ SELECT * FROM leyser.logrotate_problems('a file of logrotate', E'weekly\nrotate 10') $$}, 'broken', 'kept for less than six months: a file of logrotate', $problems);
# What a rule and an alert know is told once.
my $once = sub {
	my ($what, $name) = @_;
	is(of_clause('2.13', qq{status, (SELECT count(*) FROM regexp_matches(evidence, '$what', 'g'))}), 'at risk|1', "2.13: $name is told once");
};
$node->safe_psql('postgres', q{UPDATE leyser.tick_record SET last_tick_at = last_tick_at - interval '6 minutes'});
$once->('leyser\.tick', 'a silent heartbeat');
tick();
# as if the server wrote files of its own
reload(q{ALTER SYSTEM SET log_file_mode = '0644'}, 'log_file_mode', '0644')->();
paste($node, q{CREATE OR REPLACE FUNCTION leyser.server_log_problems() RETURNS TABLE (alert text, subject text, detail text, remedy text)
	LANGUAGE sql STABLE AS $$ SELECT 'server log readable', 'log_file_mode', 'It is.', 'See to it.' $$});
$once->('log_file_mode', 'a readable log');
paste($node, $problems);
reload('ALTER SYSTEM RESET log_file_mode', 'log_file_mode', '0600')->();
like(of_clause('2.13', 'status'), $kept, '2.13: ... and back');

# 2.16 and 2.18: what people are told.
my $tell = q{SELECT leyser.announce('%s', 'high', 'A "subject" of %1$s', 'What is so.'%s)};
$node->safe_psql('postgres', $_) foreach q{SELECT leyser.set_notice_policy(mail_sender => 'status@example.com')}, q{SELECT leyser.add_contact('1', 'contract_holder', 'one@example.com')};
tick('note clauses');
drive('2.16', $kept, sprintf($tell, 'upgrade', q{, starts_at => now() + interval '2 days', short_notice_reason => 'a hole in the server'}), 'at risk', 'A "subject" of upgrade": a hole in the server',
	sub { $node->safe_psql('postgres', q{SELECT leyser.end_notice(max(notice_id), 'called off', 'not needed') FROM leyser.notice; UPDATE leyser.notice_record SET ended_at = now() - interval '40 days'}) });
drive('2.16', $kept, q{UPDATE leyser.version_record SET version = '150001' WHERE part = 'PostgreSQL'}, 'broken', 'New versions that no notice told of: PostgreSQL',
	q{UPDATE leyser.version_record SET version = current_setting('server_version_num') WHERE part = 'PostgreSQL'});
$node->safe_psql('postgres', q{UPDATE leyser.version_record SET version = '0.0.9' WHERE part = 'leyser'});
tick('note clauses');
like(of_clause('2.16', q{status || evidence}), qr/^broken.*leyser \d/, '2.16: an upgrade of leyser that nobody announced');
# As if maintenance had been announced three weeks ago, for a time from now.
my $announced = sub {
	my ($from_now) = @_;

	$node->safe_psql('postgres', sprintf($tell, 'maintenance', q{, starts_at => now() + interval '15 days'}));
	$node->safe_psql('postgres', "UPDATE leyser.notice_record SET announced_at = announced_at - interval '20 days', starts_at = now() + interval '$from_now'
			WHERE notice_id = (SELECT max(notice_id) FROM leyser.notice);
		UPDATE leyser.notice_change SET at = at - interval '20 days', starts_at = now() + interval '$from_now' WHERE notice_id = (SELECT max(notice_id) FROM leyser.notice)");
};
my $of_last = sub { return $node->safe_psql('postgres', "SELECT leyser.$_[0]_notice(max(notice_id), 'A subject', 'What is so.'" . ($_[1] // '') . ') FROM leyser.notice') };
$announced->('30 minutes');
$of_last->('end');
is($node->safe_psql('postgres', 'SELECT state FROM leyser.notice ORDER BY notice_id DESC LIMIT 1'), 'called off', '2.16: ... then one is called off, half an hour before its start');
like(of_clause('2.16', q{status || evidence}), qr/^broken.*leyser \d/, '2.16: ... which announces nothing');
$announced->('10 days');
$of_last->('update', q{, starts_at => now() + interval '1 minute', short_notice_reason => 'it was done'});
like(of_clause('2.16', q{status || evidence}), qr/^broken.*leyser \d/, '2.16: ... nor does one that is moved after the upgrade');
$node->safe_psql('postgres', 'UPDATE leyser.notice_change SET short_notice_reason = NULL');
$announced->('-1 minute');
like(of_clause('2.16', 'status'), $kept, '2.16: ... and one that was announced');
$of_last->('update', q{, starts_at => now() + interval '20 days'});
like(of_clause('2.16', 'status'), $kept, '2.16: ... also when it goes on, weeks later');
$of_last->('end');
like(of_clause('2.16', 'status'), $kept, '2.16: ... or does not');
drive('2.18', $kept, q{SELECT leyser.create_tenant('silent')}, 'at risk', 'without an address for mail: silent', q{SELECT leyser.add_contact('silent', 'contract_holder', 'silent@example.com')});
drive('2.18', $kept, "SELECT leyser.set_notice_audience('$_', 'none', 'none')", 'at risk', "severity $_ would be mailed to nobody") foreach qw(critical high medium low);
drive('2.18', $kept, "SELECT leyser.set_notice_audience('$_', contract_holders => 'none')", 'at risk', "leaves out at severity $_, though they have an address: 1, silent") foreach qw(critical high medium);
$node->safe_psql('postgres', q{SELECT leyser.add_contact(t, 'extra', 'more@example.com') FROM unnest('{1,silent}'::text[]) t; SELECT leyser.set_notice_audience('critical', contract_holders => 'none')});
like(of_clause('2.18', 'status'), $kept, '2.18: who has another address is told all the same');
drive('2.18', $kept, q{SELECT leyser.remove_contact(contact_id) FROM leyser.contact WHERE tenant_id = 'silent' AND kind = 'extra'}, 'at risk', 'leaves out at severity critical, though they have an address: silent\.');
$node->safe_psql('postgres', q{SELECT leyser.remove_contact(contact_id) FROM leyser.contact WHERE kind = 'extra'});
drive('2.18', $kept, sprintf($tell, 'incident', q{, affected_tenants => '{1}', published => false}), 'broken', 'not published: \d+ "A "subject" of incident"',
	q{SELECT leyser.update_notice(max(notice_id), 'A "subject" of incident', 'All may know.', published => true) FROM leyser.notice});
drive('2.18', $kept, q{UPDATE leyser.notice_change SET at = at - interval '2 days' WHERE notice_id = (SELECT max(notice_id) FROM leyser.notice)}, 'at risk', 'nothing was told for a day: \d+ "A "subject" of incident"',
	q{SELECT leyser.end_notice(max(notice_id), 'over', 'It is over.') FROM leyser.notice});
$node->safe_psql('postgres', q{CREATE ROLE mailer LOGIN; SELECT leyser.grant_usage('mailer', 'mailer')});
drive('2.18', $kept, sub { as_role('mailer', q{SELECT leyser.fail_mail(claim, '550 nobody has this name', true) FROM leyser.claim_mail(1)}) }, 'broken', 'Mails that were given up',
	sub { as_role('operator', 'SELECT leyser.retry_mail()'); as_role('mailer', 'SELECT leyser.complete_mail(claim) FROM leyser.claim_mail(1000)') });

# 2.5 and 2.7: a look past row security.
$node->safe_psql('postgres', 'SELECT * FROM shop.invoice');
my $look = sub {
	my ($when) = @_;
	my $seen = as_role('auditor', q{SELECT count(*) FROM leyser.privileged_access});
	like(of_clause($_, q{status || evidence}), qr/^at risk.*Access past row security in 7 days: $seen,/, "$_: a superuser's look, $when") foreach qw(2.5 2.7);
};
$look->('counted');
$node->safe_psql('postgres', 'SELECT leyser.note_privileged()');
$look->('and an event');
tick('seal events');
$look->('sealed');
$node->safe_psql('postgres', q{UPDATE leyser.daily_usage_record SET day = day - 8 WHERE event LIKE 'privileged.%'});
like(of_clause($_, q{status || evidence}), qr/^kept.*seen in 30 days: [1-9]/, "$_: ... a week later") foreach qw(2.5 2.7);

$node->stop;
done_testing();
