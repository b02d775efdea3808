# Hashing at most so many passwords at a time, whoever ends in between; and what a
# logical dump carries of accounts: all but sessions and invitations.

use strict;
use warnings;

use IPC::Run;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_node('password', conf => 'log_statement = none');
my $password = 'all passwords begin like this';
$node->safe_psql('postgres', q{
	CREATE ROLE app LOGIN;
	SELECT leyser.create_tenant('t1');
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	SELECT leyser.grant_usage('app', 'application');
});
my $secret = $node->safe_psql('postgres', q{SELECT leyser.invite_account('ann', 't1')});
$node->safe_psql('postgres', "SELECT leyser.accept_invitation('t1', 'ann', '$secret', '$password')");
$secret = $node->safe_psql('postgres', q{SELECT leyser.invite_account('bob', 't1')});

sub login
{
	my ($name, $given, $database) = @_;

	return $node->safe_psql($database // 'postgres',
		"SELECT leyser.login('t1', '$name', '$given') IS NOT NULL", extra_params => [ '-U', 'app' ]);
}
is(login('ann', $password), 't', 'login works');

# ---- the gate ----

# Logins that take long, each of them a second and more.
sub start_slow_logins
{
	my ($count) = @_;

	$node->safe_psql('postgres', 'ALTER ROLE app SET leyser.password_cost = 15');
	my @runs = map {
		IPC::Run::start(
			[ 'psql', '-XAtq', '-U', 'app', '-d', $node->connstr('postgres'), '-c',
				"SELECT leyser.login('t1', 'nobody$_', '$password')" ], '>', '/dev/null', '2>', '/dev/null')
	} 1 .. $count;
	$node->poll_query_until('postgres',
		"SELECT count(*) = $count FROM pg_stat_activity WHERE usename = 'app' AND state = 'active'");
	$node->safe_psql('postgres', 'ALTER ROLE app RESET leyser.password_cost');
	return @runs;
}

# Those who hash, or wait for their turn, are ended.
sub end_logins
{
	$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'});
	$_->finish for @_;
	return;
}

sub hashing_pids
{
	return split(/\n/, $node->safe_psql('postgres',
		q{SELECT pid FROM pg_stat_activity WHERE usename = 'app' AND state = 'active' AND wait_event IS NULL}));
}
my $processors = `getconf _NPROCESSORS_ONLN`;
my $allowed = int($processors / 2);
$allowed = 2 if $allowed < 2;
$allowed = 32 if $allowed > 32;
my @runs = start_slow_logins($allowed + 6);
my $most = 0;
for (1 .. 10)
{
	my $hashing = hashing_pids();
	$most = $hashing if $hashing > $most;
	usleep(50_000);
}
cmp_ok($most, '<=', $allowed, "at most $allowed hash at a time");
cmp_ok($most, '>', 0, '... and some do');
# those inside and those waiting are ended, and leave nothing behind
end_logins(@runs);
is(login('ann', $password), 't', 'the place of those who were ended is free');

# Those inside do not come to an end (nor use the processor meanwhile): who waits is
# refused after ten seconds, and nothing is counted.
@runs = start_slow_logins($allowed);
my @stopped = hashing_pids();
is(scalar @stopped, $allowed, 'as many hash as may');
is(kill('STOP', @stopped), $allowed, '... and are stopped');
my $started = time;
my ($sqlstate, $message) = sqlstate_of($node, "SELECT leyser.login('t1', 'ann', 'no idea whatsoever')", user => 'app');
my $waited = time - $started;
is($sqlstate, '53000', 'one more is refused');
cmp_ok($waited, '>=', 9.5, '... after ten seconds');
cmp_ok($waited, '<', 15, '... and not much later');
like($message, qr/too many passwords are being checked\nDETAIL:  The server checks $allowed at a time\.\nHINT:  Try again/,
	'... and told why');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leyser.login_delay d JOIN leyser.account_record a
	ON d.subject = 'account:' || a.account_id}), '0', '... which is no failure of the account');
kill 'CONT', @stopped;
end_logins(@runs);
is(login('ann', $password), 't', '... and login works again');

# ---- dump and restore ----

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('copy'), $dump ], 'pg_restore');
is($node->safe_psql('copy', 'SELECT account_name, state, password IS NOT NULL FROM leyser.account_record ORDER BY 1'),
	"ann|active|t\nbob|invited|f", 'accounts are restored');
is($node->safe_psql('copy', q{SELECT (SELECT count(*) FROM leyser.session_record),
	(SELECT count(*) FROM leyser.invitation_record), (SELECT count(*) FROM leyser.grant_record)}),
	'0|0|1', '... sessions and invitations are not, grants are');
is_refused($node, "SELECT leyser.login('t1', 'ann', '$password')", 'LY002', 'no login without a keyring',
	user => 'app', database => 'copy');
$node->safe_psql('copy', 'SELECT leyser.initialize_keyring()');
is(login('ann', $password, 'copy'), 't', 'the same keyring: passwords work');
my $token = $node->safe_psql('postgres', "SELECT leyser.login('t1', 'ann', '$password')", extra_params => [ '-U', 'app' ]);
is_refused($node, "BEGIN; SELECT set_config('leyser.token', '$token', true)", 'LY002', '... tokens of the first database do not',
	user => 'app', database => 'copy');
is_refused($node, "SELECT leyser.accept_invitation('t1', 'bob', '$secret', '$password')", '28000', '... nor invitations',
	user => 'app', database => 'copy');
$secret = $node->safe_psql('copy', q{BEGIN; SELECT leyser.enter('t1', 'ann') \g /dev/null
	SELECT leyser.invite_account('bob'); COMMIT});
$node->safe_psql('copy', "SELECT leyser.accept_invitation('t1', 'bob', '$secret', 'another beginning is this')");
is(login('bob', 'another beginning is this', 'copy'), 't', 'who was invited can be invited again');

$node->stop;
done_testing();
