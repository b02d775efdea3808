# Tokens, passwords and secrets are refused over a network without TLS 1.2: on a real
# connection to an address of this machine that is not loopback.

use strict;
use warnings;

use IO::Socket::INET;
use IPC::Run;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

# Nothing is sent: the kernel chooses the address that it would come from.
my $probe = IO::Socket::INET->new(Proto => 'udp', PeerAddr => '198.51.100.1', PeerPort => 9)
  or die "this machine has no address besides loopback: $!";
my $address = $probe->sockhost;
unlike($address, qr/^127\./, 'this machine has an address that is not loopback');

# Versions that the machine's own configuration may forbid.
my $openssl = PostgreSQL::Test::Utils::tempdir . '/openssl.cnf';
append_to_file($openssl, "openssl_conf = c\n[c]\nssl_conf = s\n[s]\nsystem_default = d\n[d]\nMinProtocol = TLSv1\nCipherString = DEFAULT:\@SECLEVEL=0\n");
$ENV{OPENSSL_CONF} = $openssl;

my $node = new_node('node', start => 0, conf => "listen_addresses = 'localhost, $address'\nlog_statement = none");
append_to_file($node->data_dir . '/pg_hba.conf', "host all all $address/32 trust\n");
$node->start;
create_extension($node, 'postgres');
$node->safe_psql('postgres', q{
	CREATE ROLE app LOGIN;
	CREATE ROLE gate LOGIN;
	CREATE ROLE sales LOGIN;
	CREATE ROLE auditor LOGIN;
	SELECT leyser.grant_usage('app', 'application'), leyser.grant_usage('gate', 'gateway'), leyser.grant_usage('sales', 'provisioner'),
		leyser.grant_usage('auditor', 'auditor');
	CREATE SCHEMA shop;
	GRANT USAGE ON SCHEMA shop TO app, gate;
	CREATE TABLE shop.item (tenant_id text NOT NULL, n int);
	INSERT INTO shop.item SELECT 'a', i FROM generate_series(1, 20000) i;
	SELECT leyser.create_tenant('a'), leyser.create_tenant('b');
	SELECT leyser.protect('shop.item');
	GRANT SELECT ON shop.item TO app, gate});
my $invitation = $node->safe_psql('postgres', q{SELECT leyser.invite_account('ann', 'a', administrator => true)});

# SQLSTATE, or the output where there is none.
sub over
{
	my ($way, $role, $sql) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-v', 'ON_ERROR_STOP=1', '-d',
			sprintf('port=%d dbname=postgres user=%s %s', $node->port, $role, $way) ],
		'<', \$sql, '>', \$out, '2>', \$err);
	return $1 if $err =~ /(?:ERROR|FATAL):  ([0-9A-Z]{5}):/;
	chomp $out;
	return $err ne '' && $out eq '' ? $err : $out;
}

my $plain = "host=$address sslmode=disable";
my $socket = 'host=' . $node->host;
my $token = over($socket, 'gate', q{SELECT leyser.issue_token('a')});
my $use = qq{BEGIN; SELECT set_config('leyser.token', '$token', true) \\g /dev/null\nSELECT count(*) FROM shop.item};
my $password = 'ten owls over Osaka bay';

# ---- without TLS ----
my $position = log_position($node);
is(over($plain, 'app', $use), '28000', 'a token is refused over a network in clear');
is(over($plain, 'app', "BEGIN; SELECT set_config('leyser.token', 'nonsense', true)"), '28000', '... before anybody looks at it');
is(over($plain, 'app', "SELECT leyser.accept_invitation('a', 'ann', '$invitation', '$password')"), '28000', 'an invitation');
is(over($plain, 'app', "SELECT leyser.login('a', 'ann', '$password')"), '28000', 'a login');
is(over($plain, 'gate', q{SELECT leyser.enter('a')}), '28000', 'enter()');
is(over($plain, 'gate', q{SELECT leyser.issue_token('a')}), '28000', 'issue_token()');
is(over($plain, 'sales', q{SELECT leyser.invite_account('ben', 'b')}), '28000', 'a secret that would be handed out');
is(over($plain, 'app', 'SELECT count(*) FROM shop.item'), 'LY001', 'what needs no token says what it says');
unlike(log_since($node, $position) =~ s/STATEMENT: .*//gr, qr/\Q$token\E|\Q$password\E|\Q$invitation\E/, 'the messages in the log tell no token, password or secret');
is($node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM leyser.login_delay), (SELECT count(*) FROM leyser.event WHERE event = 'login.failed')}), '0|0', 'no failure was counted');
is(over($plain, 'app', 'SELECT transport, client_address, tls_version, accepted FROM leyser.connection_status()'), "network|$address||f", 'connection_status() says so');

foreach my $way ($socket, 'host=127.0.0.1 sslmode=disable', 'host=localhost sslmode=disable')
{
	is(over($way, 'app', $use), '20000', "accepted by $way");
	is(over($way, 'app', "SELECT leyser.login('a', 'nobody', '$password') IS NULL"), 't', '... and a login');
}
is(over($socket, 'app', "SELECT leyser.accept_invitation('a', 'ann', '$invitation', '$password')"), '', 'the invitation is good still');
is(over('host=127.0.0.1 sslmode=disable', 'app', 'SELECT transport, accepted FROM leyser.connection_status()'), 'loopback|t', 'loopback');
is(over($socket, 'app', 'SELECT transport, accepted FROM leyser.connection_status()'), 'socket|t', 'socket');
my $parallel = "SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = off; $use";
is(over($socket, 'app', $parallel), '20000', 'parallel workers have no connection');

# A setting of the server: nobody's own.
is(over($plain, 'app', 'SET leyser.require_tls = off'), '55P02', 'an application does not set it');
is(over($socket, 'postgres', 'SET leyser.require_tls = off'), '55P02', '... nor a superuser in a session');
$node->safe_psql('postgres', 'ALTER SYSTEM SET leyser.require_tls = off');
$node->reload;
$node->poll_query_until('postgres', q{SELECT NOT current_setting('leyser.require_tls')::boolean}) or die;
is(over($plain, 'app', $use), '20000', 'off, a token is accepted over a network in clear');
is(over($plain, 'app', $parallel), '20000', '... and in parallel workers');
like(over($plain, 'app', "SELECT leyser.login('a', 'ann', '$password')"), qr/^eyJ/, '... and a password');
my $session = open_session($node, user => 'postgres');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET leyser.require_tls');
$node->reload;
$node->poll_query_until('postgres', q{SELECT current_setting('leyser.require_tls')::boolean}) or die;
is(over($plain, 'app', $use), '28000', 'on again');
$session->quit;

# ---- with TLS ----
my $certificate = $node->data_dir . '/server';
system_or_bail('openssl', 'req', '-new', '-x509', '-days', '2', '-nodes', '-newkey', 'rsa:2048', '-config', '/dev/null', '-subj', '/CN=localhost',
	'-out', "$certificate.crt", '-keyout', "$certificate.key");
chmod 0600, "$certificate.key" or die;
$node->append_conf('postgresql.conf', "ssl = on\nssl_min_protocol_version = 'TLSv1'\nssl_ciphers = 'ALL:\@SECLEVEL=0'");
$node->restart;
sub tls
{
	my ($version) = @_;

	return "host=$address sslmode=require ssl_min_protocol_version=TLSv1 ssl_max_protocol_version=$version";
}
is(over($plain, 'app', $use), '28000', 'a server that can TLS, and a client that does not');
is(over(tls('TLSv1.1'), 'app', 'SELECT transport, tls_version, accepted FROM leyser.connection_status()'), 'network|TLSv1.1|f', 'a client with TLS 1.1');
is(over(tls('TLSv1.1'), 'app', $use), '28000', '... is refused');
is(over(tls('TLSv1.1'), 'app', "SELECT leyser.login('a', 'ann', '$password')"), '28000', '... with a password, too');
foreach my $version (qw(TLSv1.2 TLSv1.3))
{
	is(over(tls($version), 'app', $use), '20000', "$version is accepted");
	is(over(tls($version), 'app', $parallel), '20000', '... with parallel workers');
	like(over(tls($version), 'app', "SELECT leyser.login('a', 'ann', '$password')"), qr/^eyJ/, '... with a password');
	like(over(tls($version), 'app', 'SELECT transport, tls_version, cipher, accepted FROM leyser.connection_status()'), qr/^network\|$version\|[A-Z0-9_-]+\|t$/, '... and told');
}
is(over(tls('TLSv1.3'), 'auditor', q{SELECT count(*) FROM leyser.connection_status() WHERE whose = 'own'}), '1', 'an auditor sees the own one');
$session = open_session($node, user => 'app');
is(over(tls('TLSv1.3'), 'auditor', q{SELECT transport, tls_version, sessions, accepted FROM leyser.connection_status() WHERE whose = 'others'}), 'socket||1|t', '... and the others, counted');
is(over(tls('TLSv1.3'), 'app', q{SELECT count(*) FROM leyser.connection_status()}), '1', 'an application its own');
is(over(tls('TLSv1.3'), 'app', 'SELECT * FROM leyser.other_connections()'), '42501', '... only');
$session->quit;

# The white paper names who came in without it.
my $clause = q{SELECT status, evidence ~ 'Connections over the network without TLS 1.2: auditor@ADDRESS' FROM leyser.white_paper() WHERE clause = '2.10'} =~ s/ADDRESS/$address/r;
is(over($plain, 'auditor', $clause), 'broken|t', 'clause 2.10: a connection in clear');
is(over(tls('TLSv1.1'), 'auditor', $clause), 'broken|t', '... with TLS 1.1');
like(over(tls('TLSv1.2'), 'auditor', $clause), qr/\|f$/, '... and with TLS 1.2 there is none to name');

$node->stop;
done_testing();
