# Login's worker: failures and sessions survive whatever happens to it, to the
# caller and to the server; where it cannot work nobody gets in; a lost pepper is
# told as such.

use strict;
use warnings;

use IPC::Run;
use LeyserTest;
use List::Util qw(min);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('login', conf => 'restart_after_crash = on');
my $password = 'all passwords begin like this';
my $wrong = 'all passwords begin like that';

sub prepare
{
	my ($database) = @_;

	$node->safe_psql($database, q{
		SELECT leyser.create_tenant('t1');
		REVOKE CREATE ON SCHEMA public FROM PUBLIC;
		SELECT leyser.grant_usage('app', 'application');
	});
	my $secret = $node->safe_psql($database, q{SELECT leyser.invite_account('ann', 't1')});
	$node->safe_psql($database, "SELECT leyser.accept_invitation('t1', 'ann', '$secret', '$password')");
	return;
}
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN');
prepare('postgres');

sub login_sql
{
	my ($given, $name) = @_;

	$name //= 'ann';
	return "SELECT leyser.login('t1', '$name', '$given')";
}

# What login() answers: 'token', 'no', or an SQLSTATE.
sub login
{
	my ($given, %options) = @_;
	my $stdout;
	my $status = $node->psql(
		$options{database} // 'postgres', login_sql($given, $options{name}),
		stdout => \$stdout, stderr => \my $stderr,
		extra_params => [ '-U', 'app', '-v', 'VERBOSITY=sqlstate' ]);
	return $stderr =~ /ERROR:\s+(\w{5})/ ? $1 : "failed: $stderr" if $stderr =~ /ERROR|FATAL/ || $status != 0;
	return $stdout =~ /^ey[\w-]+\.[\w-]+\.[\w-]+$/ ? 'token' : $stdout eq '' ? 'no' : $stdout;
}

sub failures
{
	return $node->safe_psql('postgres',
		q{SELECT coalesce(sum(failures), 0) FROM leyser.login_delay WHERE subject LIKE 'account:%'});
}

# The delay of an account is over.
sub wait_is_over
{
	$node->safe_psql('postgres', 'UPDATE leyser.login_delay SET locked_until = clock_timestamp()');
	return;
}

sub worker_pid
{
	return $node->safe_psql('postgres',
		q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'leyser worker' AND datname = current_database()});
}

# The worker ends without work, and so does not stand in the way of DROP DATABASE.
is(login($password), 'token', 'login works');
like(worker_pid(), qr/^\d+$/, 'a worker runs');
$node->safe_psql('postgres', 'CREATE DATABASE other');
create_extension($node, 'other');
prepare('other');
is(login($password, database => 'other'), 'token', 'another database has a worker, too');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'leyser worker'
	AND datname = 'other'}), '1', '... of its own');
$node->safe_psql('postgres', 'DROP DATABASE other');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_database WHERE datname = 'other'}), '0',
	'a database can be dropped right after a login');
ok($node->poll_query_until('postgres',
		q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'leyser worker'}),
	'an idle worker ends');
is(login($password), 'token', 'and another one is started');

# Whoever ends the worker delays a login, and nothing more.
for my $signal (qw(TERM INT))
{
	my $pid = worker_pid();
	is(kill($signal, $pid || 0), 1, "SIG$signal is sent to the worker");
	is(login($password), 'token', '... login works');
	isnt(worker_pid(), $pid, '... with another worker');
}

# A failure is counted when its answer arrives: neither a rollback nor a crash of
# the server right after it takes it back.
is(login($wrong), 'no', 'a wrong password');
is(failures(), '1', '... is counted');
my $position = log_position($node);
is(kill('KILL', worker_pid() || 0), 1, 'the worker is killed');
$node->wait_for_log(qr/all server processes terminated; reinitializing/, $position);
wait_for_server($node);
is(failures(), '1', '... also after a kill -9');
wait_is_over();
$node->safe_psql('postgres', 'BEGIN; ' . login_sql($wrong) . '; ROLLBACK');
is(failures(), '2', '... also after a rollback');
$node->stop('immediate');
$node->start;
is(failures(), '2', '... also after a crash of the server');
$node->safe_psql('postgres', q{UPDATE leyser.login_delay SET locked_until = clock_timestamp() + interval '1 minute'});
is(login($password), 'no', 'and the right one has to wait');
wait_is_over();
is(login($password), 'token', '... until the time is over');
is(failures(), '0', 'a success forgives');

# Twenty guesses at once: the first one counts (and perhaps a late one), the others
# have to wait; and one worker serves them all.
my $last_event = $node->safe_psql('postgres', 'SELECT max(event_id) FROM leyser.event_record');
my @guesses = map {
	my $out = '';
	my $run = IPC::Run::start([ 'psql', '-XAtq', '-U', 'app', '-d', $node->connstr('postgres'),
		'-c', login_sql($wrong) . ' IS NULL' ], '>', \$out, '2>&1');
	{ run => $run, out => \$out };
} 1 .. 20;
$_->{run}->finish for @guesses;
is(join('', map { ${ $_->{out} } } @guesses), "t\n" x 20, 'twenty guesses at once: all are answered');
my $counted = failures();
cmp_ok($counted, '>=', 1, "... $counted of them counted");
cmp_ok($counted, '<=', 4, '... before the others had to wait');
is($node->safe_psql('postgres', qq{SELECT count(*), count(*) FILTER (WHERE detail ->> 'delayed' IS NULL)
	FROM leyser.event_record WHERE event = 'login.failed' AND event_id > $last_event}), "20|$counted", '... all are recorded');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'leyser worker'}),
	'1', '... one worker');
$node->safe_psql('postgres', q{UPDATE leyser.login_delay SET locked_until = clock_timestamp() + interval '1 hour'});
is(login($password), 'no', '... the right one has to wait, too');
wait_is_over();
is(login($password), 'token', '... and works afterwards');

# An account that was taken over is hashed anew at its login, and not before: while
# it has to wait, the time must not tell that a password is right.
sub duration
{
	my ($given) = @_;

	return $node->safe_psql('postgres', q{SELECT -extract(epoch FROM clock_timestamp()),
		(} . login_sql($given, 'old') . q{) IS NOT NULL, extract(epoch FROM clock_timestamp())},
		extra_params => [ '-U', 'app' ]) =~ /^(-[\d.]+)\|f\|([\d.]+)$/ ? $1 + $2 : die 'not refused';
}

sub stored_cost
{
	return $node->safe_psql('postgres', q{SELECT substring(password FROM '\$2a\$(\d\d)')
		FROM leyser.account_record WHERE account_name = 'old'});
}
$node->safe_psql('postgres', "SELECT leyser.import_account('old', crypt('$password', gen_salt('bf', 4)), 't1')");
$node->safe_psql('postgres', 'ALTER ROLE app SET leyser.password_cost = 12');
is(login($wrong, name => 'old'), 'no', 'taken over, a wrong password');
$node->safe_psql('postgres', q{UPDATE leyser.login_delay SET locked_until = clock_timestamp() + interval '1 hour'});
my (@right, @wrong);
for (1 .. 5)
{
	push @right, duration($password);
	push @wrong, duration($wrong);
}
my $ratio = min(@right) / min(@wrong);
cmp_ok($ratio, '<', 1.4, '... while it waits the right one takes no longer');
cmp_ok($ratio, '>', 0.7, '... nor a wrong one');
is(stored_cost(), '04', '... and nothing is hashed anew');
wait_is_over();
my $holder = open_session($node);
$holder->query_safe(q{BEGIN; SELECT FROM leyser.account_record WHERE account_name = 'old' FOR SHARE});
is(login($password, name => 'old'), 'token', 'somebody reads the account: login works');
is(stored_cost(), '04', '... and waits for nobody');
$holder->query('COMMIT');
$holder->quit;
is(login($password, name => 'old'), 'token', 'the next login');
is(stored_cost(), '12', '... hashes anew');
is(login($password, name => 'old'), 'token', '... which works');
$node->safe_psql('postgres', 'ALTER ROLE app RESET leyser.password_cost');

# Where the worker cannot write nobody gets in.
my $blocker = open_session($node);
$blocker->query('BEGIN; LOCK TABLE leyser.session_record IN ACCESS EXCLUSIVE MODE');
is(login($password), '58000', 'no session can be written: no token');
$blocker->query('ROLLBACK');
$blocker->quit;
is(login($password), 'token', '... until it can');
$node->append_conf('postgresql.conf', 'max_worker_processes = 1');
$position = log_position($node);
$node->restart;
like(log_since($node, $position), qr/too many background workers.*HINT:.*max_worker_processes/s, 'no place: the log says so at the start');
is(login($password), '53000', '... no worker can be started: no token');
is(login($wrong), '53000', '... and the same for a wrong password');
$node->append_conf('postgresql.conf', 'max_worker_processes = 8');
$node->restart;
is(login($password), 'token', '... until it can');

# Parallel queries that take every place for a worker: one place is leyser's own.
$node->safe_psql('postgres', 'CREATE DATABASE other');
create_extension($node, 'other');
prepare('other');
$node->safe_psql('postgres', q{CREATE TABLE much AS SELECT generate_series(1, 30000);
	ALTER TABLE much SET (parallel_workers = 16)});
$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'leyser worker'})
	or die 'the worker stays';
my $busy_out = '';
my $busy = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', q{SET max_parallel_workers_per_gather = 16;
	SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
	SELECT count(*) FROM much WHERE pg_sleep(0.01) IS NOT NULL} ], '>', \$busy_out, '2>&1');
ok($node->poll_query_until('postgres', q{SELECT count(*) >= 4 FROM pg_stat_activity WHERE backend_type = 'parallel worker'}),
	'parallel workers take all places');
is(login($password), 'token', '... login works');
is(login($wrong), 'no', '... and tells a wrong password');
is(login($password, database => 'other'), 'token', '... in another database, too');
wait_is_over();
is(login($password), 'token', '... one after the other');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'leyser worker'}), '1',
	'... by one worker');
$node->safe_psql('postgres', 'DROP DATABASE other');
pass('... which ends for a database that is dropped');
is($node->safe_psql('postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'parallel worker'}), 't',
	'... while the query went on');
$busy->kill_kill;
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ 'FROM much' AND pid <> pg_backend_pid()});
$node->safe_psql('postgres', 'DROP TABLE much');

# Whoever owns the database sets for it what they like: the worker does not take it.
$node->safe_psql('postgres', q{CREATE ROLE lowly; CREATE ROLE database_owner CREATEROLE; GRANT lowly TO database_owner;
	CREATE DATABASE owned OWNER database_owner});
create_extension($node, 'owned');
prepare('owned');
for my $setting ('role = lowly', 'session_authorization = lowly', 'transform_null_equals = on',
	q{plpgsql.extra_errors = 'all'}, 'standard_conforming_strings = off', 'default_transaction_read_only = on')
{
	my ($name) = $setting =~ /^(\w+(?:\.\w+)?)/;
	$node->poll_query_until('postgres',
		q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'leyser worker'}) or die 'the worker stays';
	my ($refused) = sqlstate_of($node, "DO 'BEGIN END'; SET ROLE database_owner; ALTER DATABASE owned SET $setting");
	is($refused, '', "set for the database: $setting");
	$node->psql('owned', 'SET SESSION AUTHORIZATION DEFAULT; SET ROLE none; SET transform_null_equals = off; '
		. q{SET plpgsql.extra_errors = 'none'; SET standard_conforming_strings = on; SET default_transaction_read_only = off; }
		. "SELECT leyser.login('t1', 'ann', '$password') ~ '^ey'", stdout => \my $login);
	is($login, 't', '... login works');
	$node->safe_psql('postgres', "ALTER DATABASE owned RESET $name");
}
$node->poll_query_until('postgres',
	q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'leyser worker'});
$node->safe_psql('postgres', 'DROP DATABASE owned');

# A lost pepper: an error for every name alike, and never "wrong password".
sub pepper_status
{
	return $node->safe_psql('postgres', q{SELECT state FROM leyser.keyring_status() WHERE item = 'password pepper'});
}
my $pepper = keyring_directory($node) . '/pepper';
is(pepper_status(), 'ok', 'the pepper is there');
is((stat $pepper)[2] & 07777, 0600, '... for the server only');
rename $pepper, "$pepper.lost" or die $!;
is(login($password), 'LY002', 'pepper lost: an error');
is(login($wrong), 'LY002', '... for a wrong password, too');
is(login($wrong, name => 'nobody'), 'LY002', '... and an unknown account');
is(failures(), '0', '... and nothing is counted');
is(pepper_status(), 'incomplete', '... keyring_status() says so');
my (undef, $message) = sqlstate_of($node, login_sql($password), user => 'app');
like($message, qr/the file of the pepper is missing.*HINT:.*Copy the keyring directory/s, '... with the next step');
unlike($message, qr/\Q$pepper\E/, '... and without its path');
$node->safe_psql('postgres', 'SELECT leyser.initialize_keyring()');
ok(!-e $pepper, 'nothing makes another pepper');
append_to_file($pepper, slurp_file("$pepper.lost") =~ s/secret (.)/'secret ' . ($1 eq '0' ? '1' : '0')/er);
chmod 0600, $pepper;
is(login($password), 'LY002', 'pepper damaged: an error');
is(pepper_status(), 'damaged', '... keyring_status() says so');
unlink $pepper;
rename "$pepper.lost", $pepper or die $!;
is(login($password), 'token', 'pepper back: login works');

$node->stop;
done_testing();
