# People go on trying to log in to a tenant whose contract has ended: nothing of it is
# written down again, so its purge ends, and what is erased stays erased.

use strict;
use warnings;

use IPC::Run;
use LeyserPurge;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = purge_node('login', conf => "autovacuum = off\nleyser.password_cost = 4");
my $password = 'seven owls sing at noon';

fill_tenants($node, 500, qw(guessed-at kept-back other));
$node->safe_psql('postgres', q{
	CREATE ROLE app LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	SELECT leyser.grant_usage('app', 'application');
});
for my $tenant (qw(guessed-at kept-back other))
{
	my $secret = $node->safe_psql('postgres', "SELECT leyser.invite_account('una.mari', '$tenant')");
	$node->safe_psql('postgres', "SELECT leyser.accept_invitation('$tenant', 'una.mari', '$secret', '$password')");
}

sub login_sql
{
	my ($tenant, $given, $address) = @_;

	return "SELECT leyser.login('$tenant', 'una.mari', '$given', client_address => '$address')";
}

sub login
{
	return $node->safe_psql('postgres', login_sql(@_), extra_params => [ '-U', 'app' ]);
}

# The last event, without what each one has for itself.
sub last_event
{
	return $node->safe_psql('postgres', q{SELECT to_jsonb(e) - '{event_id,at,salt,digest}'::text[]
		FROM leyser.event_record e ORDER BY event_id DESC LIMIT 1});
}

# Attempts that were recorded for nobody's tenant.
sub attempts
{
	return $node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event_record
		WHERE event = 'login.failed' AND tenant_id IS NULL});
}

# ---- as long as there is a contract ----

like(login('guessed-at', $password, '10.0.0.1'), qr/^ey/, 'a person logs in');
is(login('guessed-at', 'wrong', '10.0.0.1'), '', '... or does not');
like(last_event(), qr/"tenant_id": "guessed-at"/, '... which is an event of the tenant');
my $in_flight = $node->safe_psql('postgres', q{SELECT jsonb_build_object('tenant_id', a.tenant_id, 'account_id', a.account_id,
	'subject', 'account:' || a.account_id, 'stranger', 'unknown:7', 'address', 'address:10.0.0.7', 'client_address', '10.0.0.7',
	'caller_role', 'app', 'stored', a.password, 'matches', true, 'ends_at', clock_timestamp() + interval '1 hour')
	FROM leyser.account_record a WHERE a.tenant_id = 'guessed-at'});
$node->safe_psql('postgres', q{SELECT leyser.suspend_tenant('other')});
is(login('other', $password, '10.0.0.2'), '', 'nobody logs in where the tenant is suspended');
like(last_event(), qr/"tenant_id": "other"/, '... which is an event of the tenant: it comes back');
$node->safe_psql('postgres', q{SELECT leyser.resume_tenant('other')});

# ---- from the end of the contract on ----

my $position = log_position($node);
end_contracts($node, qw(guessed-at kept-back));
$node->safe_psql('postgres', q{SELECT leyser.hold_purge('kept-back', 'court', '2999-12-31')});
is(login('nobody-at-all', $password, '10.0.0.3'), '', 'a login to an unknown tenant');
my $stranger = last_event();
like($stranger, qr/"tenant_id": null/, '... is recorded without one');
is(login('guessed-at', $password, '10.0.0.3'), '', 'a login to a tenant whose contract has ended, with the right password');
is(last_event(), $stranger, '... is recorded like that');
is(login('kept-back', $password, '10.0.0.3'), '', '... to one whose purge is held');
is(last_event(), $stranger, '... likewise');
is($node->safe_psql('postgres', "SELECT leyser.submit_task('login', '$in_flight')"), '', 'one that was on its way when the contract ended');
like(last_event(), qr/"tenant_id": null.*10\.0\.0\.7|10\.0\.0\.7.*"tenant_id": null/, '... likewise');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.login_delay WHERE subject IN ('unknown:7', 'address:10.0.0.7')}),
	'2', '... and is counted');

# ---- during a purge, and after it ----

my $script = $node->basedir . '/guesses';
append_to_file($script, join(";\n", login_sql('guessed-at', 'wrong', '10.0.0.4'), login_sql('guessed-at', $password, '10.0.0.5')) . ";\n");
my $hammer = IPC::Run::start(
	[ 'pgbench', '-n', '-c', '3', '-T', '600', '-f', $script, '-U', 'app', $node->connstr('postgres') ],
	'>', '/dev/null', '2>', "$script.errors");
my $before = attempts();
ok($node->poll_query_until('postgres', qq{SELECT count(*) > $before + 20 FROM leyser.event_record WHERE event = 'login.failed'}),
	'somebody tries again and again');
$node->safe_psql('postgres', q{CALL leyser.purge('guessed-at', wait => false)});
is_erased($node, 'guessed-at', 'the purge ends all the same');
$before = attempts();
ok($node->poll_query_until('postgres', qq{SELECT count(*) > $before + 20 FROM leyser.event_record WHERE event = 'login.failed'}),
	'... and somebody still tries');
$hammer->signal('TERM');
$hammer->finish;
unlike(slurp_file("$script.errors"), qr/ERROR|FATAL/, '... getting the same answer all the time');

is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event_record
	WHERE tenant_id = 'guessed-at' AND event <> 'purge.erased' AND num_nonnulls(session_role, caller_role, client_address, account_id, object, detail, salt) > 0}),
	'0', 'no event of the tenant has content');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.event_record e
	WHERE (to_jsonb(e) - 'tenant_id')::text ~ 'guessed-at|una.mari' AND tenant_id IS DISTINCT FROM 'other'
	AND tenant_id IS DISTINCT FROM 'kept-back'}), '0', '... and no event names it, or its people');
unlike(log_since($node, $position), qr/"login\.failed".*(guessed-at|kept-back|una\.mari)/, '... nor does the server log');
is($node->safe_psql('postgres', q{SELECT bool_and(failures > 1 AND locked_until > last_failure_at), count(*) > 0
	FROM leyser.login_delay WHERE subject LIKE 'unknown:%' AND failures > 1}), 't|t', 'who guesses has to wait, longer each time');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.login_delay d WHERE subject LIKE 'account:%'
	AND NOT EXISTS (SELECT FROM leyser.account_record a WHERE split_part(d.subject, '@', 1) = 'account:' || a.account_id)}),
	'0', '... without a row of an account that is gone');
like(login('other', $password, '10.0.0.9'), qr/^ey/, 'others log in as before');

$node->stop;
done_testing();
