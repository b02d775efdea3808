# Neither tokens sent as parameters nor signing keys show up anywhere.
#
# The premise for tokens: log_parameter_max_length = 0 where the server logs
# statements or durations (its first value logs parameters in full), and
# log_parameter_max_length_on_error = 0 (its first value).

use strict;
use warnings;

use File::Find;
use LeyserTest;
use LeyserToken;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('secrecy', start => 0, conf => q{
log_statement = all
log_min_duration_statement = 0
log_duration = on
log_min_messages = debug1
log_min_error_statement = debug1
log_error_verbosity = verbose
log_parameter_max_length = 0
track_activity_query_size = 16kB
pg_stat_statements.track = all
pg_stat_statements.track_utility = on
max_parallel_workers_per_gather = 2
shared_buffers = 8MB
});
$node->append_conf('postgresql.conf',
	"shared_preload_libraries = 'leyser,pg_stat_statements'");
$node->start;
LeyserTest::create_extension($node, 'postgres');
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_stat_statements;
	SELECT leyser.create_tenant('t1');
	INSERT INTO leyser.account_record (tenant_id, account_name, name_key, state)
		SELECT 't1', n, n, 'active' FROM unnest('{ada, literal, premise}'::text[]) n;
	CREATE ROLE app LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	SELECT leyser.grant_usage('app', 'application');
	CREATE ROLE gateway LOGIN;
	SELECT leyser.grant_usage('gateway', 'gateway');
	CREATE TABLE item (tenant_id text NOT NULL, n int);
	SELECT leyser.protect('item');
	GRANT SELECT, INSERT ON item TO app, gateway;
});
my ($key_id, $secret) = own_key($node);

# Runs a script of pgbench, whose variables become parameters of the extended
# protocol.
sub start_sending
{
	my ($token, $script) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/script';

	append_to_file($file, $script);
	return IPC::Run::start(
		[
			'pgbench', '--no-vacuum', '--protocol=extended', '--transactions=1',
			'--define', "token=$token", '--file', $file,
			'--host', $node->host, '--port', $node->port, '--username', 'app', 'postgres'
		],
		'>', '/dev/null', '2>&1');
}

sub send_as_parameter
{
	return start_sending(@_)->finish;
}

# The pieces of a token by which it would be found, however it was cut.
sub pieces
{
	my ($token) = @_;
	my ($header, $payload, $signature) = split(/[.]/, $token);

	return ($payload, substr($signature, 4, 24));
}

# Every file of the data directory, and the server log.
sub files_with
{
	my (@needles) = @_;
	my @found;
	my $pattern = join('|', map { quotemeta } @needles);

	find(
		{
			no_chdir => 1,
			wanted => sub {
				return unless -f $_;
				push @found, $_ if slurp_file($_) =~ /$pattern/;
			}
		},
		$node->data_dir, $node->logfile);
	return @found;
}

# Used well, used badly, and a statement that fails while it is in force.
my $right = own_token($node, sub => '"ada"');
my $expired = own_token($node, exp => time() - 100);
my $forged = hs256_token("{\"alg\":\"HS256\",\"kid\":\"$key_id\"}", payload_of(tenant => '"t1"'), 'no key');
my $set = "SELECT set_config('leyser.token', :token, true);\n";

ok(send_as_parameter($right, "BEGIN;\n${set}INSERT INTO item (n) VALUES (1);\nSELECT count(*) FROM item;\nCOMMIT;\n"),
	'a right token is used');
ok(!send_as_parameter($right, "BEGIN;\n${set}SELECT 1/count(*) FROM item WHERE n = 0;\n"),
	'a statement fails in a context');
ok(!send_as_parameter($expired, "BEGIN;\n$set"), 'an expired token fails');
ok(!send_as_parameter($forged, "BEGIN;\n$set"), 'a forged token fails');
my $log = slurp_file($node->logfile);
like($log, qr/execute .*set_config\('leyser.token', \$1, true\)/, 'the statements are in the log');
like($log, qr/LY003: token has expired/, '... and the errors');

# While a transaction that was sent its token stays open.
my $reader = open_session($node);
my $open = start_sending($right, "BEGIN;\n${set}\\sleep 3 s\nCOMMIT;\n");
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE state = 'idle in transaction' AND query ~ 'set_config.*leyser'}) or die 'no transaction is open';
for my $view ('pg_stat_activity', 'pg_stat_statements', 'pg_settings', 'pg_prepared_statements', 'pg_cursors',
	'pg_locks', 'leyser.event')
{
	my $seen = $reader->query_safe("SELECT * FROM $view");
	my @found = grep { index($seen, $_) >= 0 } pieces($right), pieces($expired), pieces($forged);
	is("@found", '', "$view: no token");
}
like($reader->query_safe('SELECT query FROM pg_stat_activity'), qr/set_config\('leyser.token', \$1, true\)/,
	'... though the statement is seen');
ok($open->finish, 'the transaction ends well');

# What a session sees of its own, and its parallel workers.
my $session = open_session($node, user => 'app');
my $literal = own_token($node, sub => '"literal"');
$session->query_safe("BEGIN; SELECT set_config('leyser.token', '$literal', true)");
is($session->query_safe('SHOW leyser.token'), '(set)', 'SHOW tells that a token is set');
is($session->query_safe(q{SELECT current_setting('leyser.token')}), '(set)', 'current_setting() too');
is($session->query_safe(q{SELECT count(*) FROM pg_settings WHERE name = 'leyser.token' AND setting LIKE 'ey%'}),
	'0', 'pg_settings too');
my $status = $session->query_safe('SELECT * FROM leyser.context_status()');
unlike($status, qr/ey[A-Z]/, 'context_status() tells everything but the token');
$session->query_safe(q{SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0;
	SET LOCAL min_parallel_table_scan_size = 0; SET LOCAL parallel_leader_participation = off});
is($session->query_safe('SELECT count(*) FROM item'), '1', 'parallel workers see the context');
$session->query('ROLLBACK');
$session->quit;
$reader->quit;

# A token that a gateway is given, and one that enter() makes for itself.
my $issued = $node->safe_psql('postgres', q{SELECT leyser.issue_token('t1')},
	extra_params => [ '-U', 'gateway' ]);
like($issued, qr/^ey[^.]+\.[^.]+\.[^.]+$/, 'a token is issued');
$node->safe_psql('postgres', q{BEGIN; SELECT leyser.enter('t1'); SELECT leyser.tenant_id(); COMMIT},
	extra_params => [ '-U', 'gateway' ]);

# Key material: what a backend that used it leaves in memory, and so in a core
# file.  Backends read their own memory here; pages left out of a core file are
# those with the flag "dd".
sub memory_regions
{
	my ($smaps) = @_;
	my @regions;

	for my $region (split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m, $smaps))
	{
		my ($from, $to, $rights, $name) = $region =~ /^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)$/m or next;
		push @regions, {
			from => hex $from, size => hex($to) - hex($from), rights => $rights, name => $name,
			dumped => $region !~ /^VmFlags:.* dd\b/m };
	}
	return @regions;
}

# This one verifies with a key, makes the next one, and signs with that.
my $old_secret = $secret;
$session = open_session($node);
$session->query_safe("BEGIN; SELECT set_config('leyser.token', '" . own_token($node) . "', true); SELECT leyser.tenant_id(); COMMIT");
$session->query_safe('SELECT leyser.activate_signing_key(leyser.stage_signing_key())');
$session->query_safe(q{SELECT leyser.issue_token('t1')});
($key_id, $secret) = own_key($node);
isnt($secret, $old_secret, 'the backend has used two keys');
my @regions = memory_regions($session->query_safe(q{SELECT pg_read_file('/proc/self/smaps')}));
my $read = 0;

sub has_key
{
	my ($region) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/memory';

	$session->query_safe("COPY (SELECT encode(pg_read_binary_file('/proc/self/mem', $region->{from}, $region->{size}), 'hex')) TO '$file'");
	my $hex = slurp_file($file);
	$read += length($hex) / 2;
	# the bytes, and their text as the key's file has it
	my @needles = map { (unpack('H*', $_), unpack('H*', unpack('H*', $_))) } $old_secret, $secret;
	return grep { index($hex, $_) >= 0 } @needles;
}

# First what is dumped: what we read of the other pages lies in memory from then on.
my @leaks = map { "$_->{name} at $_->{from}" } grep { has_key($_) }
  grep { $_->{dumped} && $_->{rights} =~ /^rw/ && $_->{name} !~ /^\[v/ } @regions;
ok((grep { has_key($_) } grep { !$_->{dumped} && $_->{rights} eq 'rw-p' } @regions),
	'the page that core files leave out has a key');
$session->quit;
cmp_ok($read, '>', 1_000_000, 'the backend\'s memory was read');
is("@leaks", '', 'no memory that a core file would hold has the key');

# Everything on disk, after all is written out.
$node->safe_psql('postgres', 'CHECKPOINT');
$node->stop;
my @sent = map { pieces($_) } ($right, $expired, $forged, $issued);
is(join(' ', files_with(@sent)), '', 'no file of the server holds a token');
is(join(' ', files_with(map { ($_, unpack('H*', $_), base64url($_)) } $old_secret, $secret)), '',
	'no file of the server holds a key');
$node->start;
for my $option ('--format=plain', '--format=custom')
{
	my ($dump, $error);
	IPC::Run::run([ 'pg_dump', $option, '--compress=0', $node->connstr('postgres') ], '>', \$dump, '2>', \$error)
	  or die $error;
	cmp_ok(index($dump, 'tenant.created'), '>', 0, "pg_dump $option: the events are there");
	is((grep { index($dump, $_) >= 0 } map { ($_, unpack('H*', $_)) } $old_secret, $secret), 0, "pg_dump $option: no key");
}

# The premise: with the server's first value, parameters are logged in full.
$node->append_conf('postgresql.conf', 'log_parameter_max_length = -1');
$node->reload;
my $premise = own_token($node, sub => '"premise"');
send_as_parameter($premise, "BEGIN;\n${set}COMMIT;\n");
my ($payload) = pieces($premise);
like(slurp_file($node->logfile), qr/\Q$payload\E/, 'log_parameter_max_length = -1 logs parameters: the premise');

$node->stop;
done_testing();
