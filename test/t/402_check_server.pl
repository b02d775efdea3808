# Rules about what no transaction can roll back: the server's doors, its settings, its
# version; each fires, is mended as its remedy says, and does not fire without cause.

use strict;
use warnings;

use LeyserCheck;
use LeyserTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = check_node('server');
my $hba = $node->data_dir . '/pg_hba.conf';
my $first_hba = slurp_file($hba);

# What family server finds, as id and object.
sub found
{
	my ($family) = @_;
	return join ' ', map { s/ /_/gr } split /\n/,
	  $node->safe_psql('postgres', sprintf q{SELECT concat_ws(' ', check_id, object) FROM leyser.check_security('%s') ORDER BY 1}, $family // 'server');
}

# Puts lines into pg_hba.conf, after those that the tests need; gives the first one's number.
sub doors
{
	my (@lines) = @_;
	my $text = $first_hba . join('', map { "$_\n" } @lines);

	open my $file, '>', $hba or die "could not write $hba: $!";
	print $file $text;
	close $file;
	$node->reload;
	return ($first_hba =~ tr/\n//) + 1;
}

sub remedy
{
	my ($id) = @_;
	my ($family) = split /\./, $id;
	return $node->safe_psql('postgres', "SELECT remedy FROM leyser.check_security('$family') WHERE check_id = '$id'");
}

is(found(), '', 'nothing is found at first');

# What lets people in.  The server does not listen to the network yet.
my $line = doors('host all all 10.0.0.0/8 trust');
is(found(), '', 'lines for the network, and nobody listens there');
$node->safe_psql('postgres', q{ALTER SYSTEM SET listen_addresses = 'localhost'});
$node->restart;
like(found(), qr/^server.hba_trust_\S+/, 'trust, where the server listens');
$first_hba =~ s/^(host .*)trust$/$1scram-sha-256/mg;
$line = doors('host elsewhere all 10.0.0.0/8 trust', 'host all all 10.0.0.0/8 reject', 'host all all 127.0.0.1/32 scram-sha-256');
is(found(), '', 'another database\'s lines, what is refused');
doors('host all all 10.0.0.0/8 trust');
is(found(), "server.hba_trust_pg_hba.conf_line_$line", 'server.hba_trust');
is(remedy('server.hba_trust'), "-- in pg_hba.conf, line $line: scram-sha-256 in place of trust\nSELECT pg_reload_conf();", '... says what to do');
doors('host all all 10.0.0.0/8 scram-sha-256');
ok(paste($node, "SELECT pg_reload_conf()"), '... which is done');
is(found(), '', '... and ends it');
doors("host all all 10.0.0.0/8 $_"), is(found(), "server.hba_weak_pg_hba.conf_line_$line", "server.hba_weak: $_") foreach qw(md5 password);
doors('local all all nonsense');
is(found(), "server.hba_error_pg_hba.conf_line_$line", 'server.hba_error');
doors();
is(found(), '', '... mended');

# To the network.
$node->safe_psql('postgres', q{ALTER SYSTEM SET listen_addresses = 'localhost, 127.0.0.2'});
$node->restart;
is(found(), 'server.tls_off_setting_ssl', 'server.tls_off');
my $certificate = $node->data_dir . '/server';
system_or_bail('openssl', 'req', '-new', '-x509', '-days', '2', '-nodes', '-subj', '/CN=localhost', '-out', "$certificate.crt", '-keyout', "$certificate.key");
chmod 0600, "$certificate.key" or die;
ok(paste($node, remedy('server.tls_off')), '... its remedy is pasted');
$node->poll_query_until('postgres', q{SELECT current_setting('ssl') = 'on'}) or die;
is(found(), '', '... and ends it');
doors('host all all 10.0.0.0/8 scram-sha-256');
is(found(), "server.hba_plain_pg_hba.conf_line_$line", 'server.hba_plain');
doors('hostssl all all 10.0.0.0/8 scram-sha-256');
is(found(), '', '... mended');
doors("hostssl all all $_ scram-sha-256"), is(found(), "server.hba_everywhere_pg_hba.conf_line_$line", "server.hba_everywhere: $_") foreach qw(all 0.0.0.0/0 ::/0);
doors('hostssl all all 10.0.0.0/8 scram-sha-256');
is(found(), '', '... mended');

# Versions of TLS.
my $tls = rules_of($node)->{'server.tls_version'};
fires_and_is_mended($node, 'server.tls_version', $tls);
$node->safe_psql('postgres', q{ALTER SYSTEM SET ssl_min_protocol_version = 'TLSv1.3'});
$node->reload;
$node->poll_query_until('postgres', q{SELECT current_setting('ssl_min_protocol_version') = 'TLSv1.3'}) or die;
is(found(), '', 'not without cause');

# The socket.
doors();
$node->safe_psql('postgres', q{ALTER SYSTEM SET unix_socket_permissions = '0777'});
$node->restart;
like(found(), qr/^(server.hba_local_trust_\S+ ?)+$/, 'server.hba_local_trust');
$node->safe_psql('postgres', q{ALTER SYSTEM SET unix_socket_permissions = '0700'});
$node->restart;
is(found(), '', '... not where the socket is the server\'s user\'s only');

# Versions of the server.
is($node->safe_psql('postgres', "SELECT leyser.version_problem($_) IS NOT NULL"), 't', "version $_") foreach qw(150013 160009 170005);
is($node->safe_psql('postgres', "SELECT leyser.version_problem($_) IS NOT NULL"), 'f', "version $_") foreach qw(150014 160010 170006 180000);

# A prepared transaction that is new may be somebody's who is at work.
$node->safe_psql('postgres', q{BEGIN; SELECT 1; PREPARE TRANSACTION 'fresh'});
is(found('job'), '', 'job.prepared: not without cause');
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'fresh'});

# Not preloaded.
$node->safe_psql('postgres', q{ALTER SYSTEM SET shared_preload_libraries = 'auto_explain'});
$node->restart;
like(found(), qr/server.not_preloaded_server/, 'server.not_preloaded');
ok(paste($node, remedy('server.not_preloaded')), '... its remedy is pasted');
$node->restart;
is(found(), '', '... and ends it');

# Passwords of roles.
$node->safe_psql('postgres', q{SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'x'});
is(found(), 'server.md5_password_role_old', 'server.md5_password');
unlike($node->safe_psql('postgres', 'SELECT finding, remedy FROM leyser.check_security()'), qr/md5[0-9a-f]{32}/, '... without the hash');

$node->stop;
done_testing();
