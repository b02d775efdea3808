# The server log has no password, secret or hash, whatever it is told to hold: of
# statements that work and that fail, of parameters, of what a statement runs, of
# prepared ones, and of a process that was killed.

use strict;
use warnings;

use IPC::Run;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('password_log', conf => q{
restart_after_crash = on
log_statement = none
log_min_error_statement = error
log_error_verbosity = verbose
log_parameter_max_length_on_error = -1
});
my $password = 'all passwords begin like this';
$node->safe_psql('postgres', q{
	SELECT leyser.create_tenant('t1');
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	CREATE ROLE app LOGIN;
	SELECT leyser.grant_usage('app', 'application');
	CREATE TABLE given AS SELECT 'all passwords begin like this' AS password;
});
my $secret = $node->safe_psql('postgres', q{SELECT leyser.invite_account('ann', 't1')});
$node->safe_psql('postgres', "SELECT leyser.accept_invitation('t1', 'ann', '$secret', '$password')");

# What the log says of some statements, which must be no password; it must say
# something, though.  Arguments: name, what is expected, a sub that runs them.
sub log_has
{
	my ($name, $expected, $run) = @_;
	my $position = log_position($node);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$run->();
	my $log = log_since($node, $position);
	like($log, $expected, "$name: the log tells of it");
	my $found = $log =~ /passwords begin|short secret|\Q$secret\E|\$2a\$\d\d\$/;
	ok(!$found, "$name: no password, secret or hash in it") or diag($log);
	return;
}

# Statements of psql as a superuser, who may prepare some; each is on its own.
sub run_statements
{
	my ($sqlstate, @statements) = @_;
	my ($stdout, $stderr);

	$node->psql('postgres', "SET log_min_duration_statement = -1;\n" . join(";\n", @statements) . ";\n",
		on_error_stop => 0, stdout => \$stdout, stderr => \$stderr,
		extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like($stderr, qr/ERROR:  $sqlstate\b/, "... $sqlstate");
	return;
}

# A login whose parameters come apart from its statement.
sub login_with_parameters
{
	my ($status, @arguments) = @_;
	my $script = PostgreSQL::Test::Utils::tempdir() . '/script';

	append_to_file($script, "SELECT leyser.login('t1', 'ann', " . join(', ', ':password', @arguments) . ')');
	my $run = IPC::Run::run(
		[ 'pgbench', '-n', '-t', '1', '-M', 'extended', '-U', 'app', '-D', "password=$password", '-f', $script,
			'-h', $node->host, '-p', $node->port, 'postgres' ], '>', '/dev/null', '2>&1');
	is($run ? 0 : 1, $status, 'a login with parameters ends as it should');
	unlink $script;
	return;
}

# ---- statements that work ----

$node->safe_psql('postgres', 'ALTER ROLE app SET log_min_duration_statement = 0');
log_has('a login with parameters', qr/LOG: .* duration: [\d.]+ ms  bind <unnamed>: \n/,
	sub { login_with_parameters(0) });
log_has('a login with a literal', qr/LOG: .* duration: [\d.]+ ms  statement: \n/,
	sub { $node->safe_psql('postgres', "SELECT leyser.login('t1', 'ann', '$password')", extra_params => [ '-U', 'app' ]) });
log_has('a wrong password', qr/leyser event: .*"login.failed"/,
	sub { $node->safe_psql('postgres', "SELECT leyser.login('t1', 'ann', 'short secret')", extra_params => [ '-U', 'app' ]) });
$node->safe_psql('postgres', 'ALTER ROLE app RESET log_min_duration_statement');
for my $setting ('log_statement = \'all\'', 'log_min_duration_statement = 0', 'debug_print_parse = on')
{
	log_has("a prepared statement, $setting", qr/LOG:/, sub {
		$node->safe_psql('postgres', "SET $setting;
			PREPARE door (text) AS SELECT leyser.login('t1', 'ann', \$1);
			EXECUTE door('$password');
			EXPLAIN ANALYZE EXECUTE door('$password');
			CREATE TEMP TABLE token AS EXECUTE door('$password')") });
}
log_has('auto_explain', qr/Query Text|plan:/, sub {
	$node->safe_psql('postgres', "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0;
		SET auto_explain.log_nested_statements = on; SET auto_explain.log_analyze = on;
		DO \$\$ BEGIN PERFORM leyser.login('t1', 'ann', '$password'); END \$\$;
		SELECT leyser.login('t1', 'ann', '$password')") });
log_has('other statements',
	qr/LOG: .*statement: SELECT 'login' AS "all of it";\n.*statement: EXECUTE harmless\(1\)\n.*DETAIL:  prepare: PREPARE harmless/s, sub {
		$node->safe_psql('postgres', "SET log_statement = 'all';
		SELECT 'login' AS \"all of it\"; PREPARE harmless (int) AS SELECT \$1; EXECUTE harmless(1)") });

# ---- statements that fail ----

sub as_app
{
	my ($sqlstate, $sql) = @_;

	return sub { is_refused($node, $sql, $sqlstate, "... $sqlstate", user => 'app') };
}
log_has('a used invitation', qr/ERROR:  28000: /,
	as_app('28000', "SELECT leyser.accept_invitation('t1', 'ann', '$secret', 'short secret')"));
log_has('a wrong lifetime', qr/ERROR:  22023: .*DETAIL:  It must be at least one second/s,
	as_app('22023', "SELECT leyser.login('t1', 'ann', '$password', '-1 s')"));
log_has('a change without a context', qr/ERROR:  LY001: /,
	as_app('LY001', "SELECT leyser.change_password('$password', 'short secret')"));
log_has('a missing parenthesis', qr/ERROR:  42601: /,
	as_app('42601', "SELECT leyser.login('t1', 'ann', '$password'"));
log_has('a missing quote', qr/ERROR:  42601: unterminated quoted string at or near "\.\.\."/,
	as_app('42601', "SELECT leyser.login('t1', 'ann', '$password)"));
log_has('arguments in a wrong order', qr/ERROR:  22007: .* type interval: "\.\.\."/,
	as_app('22007', "SELECT leyser.login('t1', 'ann', '8 hours', '$password')"));
log_has('parameters', qr/ERROR:  22023: /,
	sub { login_with_parameters(1, q{'-1 s'}) });
log_has('a block', qr/ERROR:  22023: /,
	sub { run_statements('22023', "DO \$\$ BEGIN PERFORM leyser.login('t1', 'ann', '$password', '-1 s'); END \$\$") });
log_has('a block in which nothing tells of it', qr/ERROR:  22023: /, sub { run_statements('22023', q{DO $$ BEGIN
	EXECUTE format('SELECT leyser.%I(%L, %L, %L, %L)', 'login', 't1', 'ann', (SELECT password FROM given), '-1 s'); END $$}) });
log_has('... with a syntax error', qr/ERROR:  42601: /, sub { run_statements('42601', q{DO $$ BEGIN
	EXECUTE format('SELECT leyser.%I(%L, %L, %L %L)', 'login', 't1', 'ann', (SELECT password FROM given), '-1 s'); END $$}) });
log_has('prepared statements', qr/ERROR:  22023: .*ERROR:  22023: .*ERROR:  22023: /s, sub {
	run_statements('22023', q{PREPARE door (text) AS SELECT leyser.login('t1', 'ann', $1, '-1 s')}, "EXECUTE door('$password')",
		"execute\n  DOOR ('$password')", q{PREPARE "Back ""Door" (text) AS SELECT leyser.login('t1', 'ann', $1, '-1 s')},
		qq{EXPLAIN ANALYZE EXECUTE "Back ""Door"('$password')}) });
log_has('... that are not there', qr/ERROR:  26000: /,
	sub { run_statements('26000', "EXECUTE door('t1', 'ann', '$password')") });
log_has('statements that do not execute one', qr/STATEMENT:  EXECUTE harmless\(1\/0\).*STATEMENT:  DO .*EXECUTE format\('SELECT 1\/0'\)/s, sub {
	run_statements('22012', 'PREPARE harmless (int) AS SELECT $1', 'EXECUTE harmless(1/0)', q{DO $$ BEGIN EXECUTE format('SELECT 1/0'); END $$}) });
my (undef, $message) = sqlstate_of($node, "DO \$\$ BEGIN PERFORM leyser.login('t1', 'ann', '$password', '-1 s'); END \$\$", user => 'app');
like($message, qr/CONTEXT:.*\Q$password\E/s, 'the client is told where its own statement failed');

# ---- a process that is killed while it checks one ----

log_has('a killed process', qr/was terminated by signal 9/, sub {
	$node->safe_psql('postgres', 'ALTER ROLE app SET leyser.password_cost = 18');
	my $run = IPC::Run::start([ 'psql', '-XAtq', '-U', 'app', '-d', $node->connstr('postgres'),
		'-c', "SELECT leyser.login('t1', 'nobody', '$password')" ], '>', '/dev/null', '2>', '/dev/null');
	$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE usename = 'app' AND state = 'active'});
	kill 'KILL', $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE usename = 'app'});
	$run->finish;
	wait_for_server($node);
});

like($node->safe_psql('postgres', q{SELECT substr(password, 37) FROM leyser.account_record}), qr/^\$2a\$10\$/,
	'(a hash looks like that)');

$node->stop;
done_testing();
