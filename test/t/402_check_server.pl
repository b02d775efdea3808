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
my $line = doors('host postgres all 10.0.0.0/8 trust');
is(found(), '', 'lines for the network, and nobody listens there');
$node->safe_psql('postgres', q{ALTER SYSTEM SET listen_addresses = 'localhost'});
$node->restart;
like(found(), qr/^server.hba_trust_\S+/, 'trust, where the server listens');
$first_hba =~ s/^(host .*)trust$/$1scram-sha-256/mg;
$line = doors('host elsewhere all 10.0.0.0/8 trust', 'host postgres all 10.0.0.0/8 reject', 'host all all 127.0.0.1/32 scram-sha-256');
is(found(), '', 'another database\'s lines, what is refused');
doors('host postgres all 10.0.0.0/8 trust');
is(found(), "server.hba_trust_pg_hba.conf_line_$line", 'server.hba_trust');
is(remedy('server.hba_trust'), "-- in pg_hba.conf, line $line: scram-sha-256 in place of trust\nSELECT pg_reload_conf();", '... says what to do');
doors('host postgres all 10.0.0.0/8 scram-sha-256');
ok(paste($node, "SELECT pg_reload_conf()"), '... which is done');
is(found(), '', '... and ends it');
doors("host postgres all 10.0.0.0/8 $_"), is(found(), "server.hba_weak_pg_hba.conf_line_$line", "server.hba_weak: $_") foreach qw(md5 password);
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
doors('host postgres all 10.0.0.0/8 scram-sha-256');
is(found(), "server.hba_plain_pg_hba.conf_line_$line", 'server.hba_plain');
doors('hostssl postgres all 10.0.0.0/8 scram-sha-256');
is(found(), '', '... mended');
doors("hostssl postgres all $_ scram-sha-256"), is(found(), "server.hba_everywhere_pg_hba.conf_line_$line", "server.hba_everywhere: $_") foreach qw(all 0.0.0.0/0 ::/0);
doors('hostssl postgres all 10.0.0.0/8 scram-sha-256');
is(found(), '', '... mended');

doors('hostssl all all 10.0.0.0/8 scram-sha-256');
is(found(), "server.hba_all_pg_hba.conf_line_$line", 'server.hba_all');
doors('hostssl all shop,postgres 10.0.0.0/8 scram-sha-256', 'hostssl postgres all 10.0.0.0/8 scram-sha-256', 'host all all 10.0.0.0/8 reject');
is(found(), '', '... mended');
doors('hostssl replication all 10.0.0.0/8 scram-sha-256');
is(found(), "server.hba_replication_pg_hba.conf_line_$line", 'server.hba_replication');
doors('hostssl replication standby 10.0.0.7/32 scram-sha-256');
is(found(), '', '... mended');
doors('hostssl postgres all 10.0.0.0/8 ident');
is(found(), "server.hba_ident_pg_hba.conf_line_$line", 'server.hba_ident');
doors('hostssl postgres all 10.0.0.0/8 scram-sha-256');
is(found(), '', '... mended');

# Files.
chmod 0666, $hba or die;
is(found(), 'server.file_open_file_hba_file', 'server.file_open');
chmod 0644, $hba or die;
is(found(), '', '... mended: to be read is not to be changed');
chmod 0640, "$certificate.key" or die;
is(found(), '', 'a key that a group may read');
chmod 0644, "$certificate.key" or die;
is(found(), 'server.file_open_file_ssl_key_file', '... and one that all may');
chmod 0600, "$certificate.key" or die;

# The clock.
say_of_clock($node, 'false');
is(found(), 'server.clock_loose_clock', 'server.clock_loose');
say_of_clock($node, 'NULL::boolean');
is(found(), '', '... not where the kernel does not say');
say_of_clock($node, 'true');
is(found(), '', '... nor where it is kept');

# Whether anybody is told who looks past row security.
fires_and_is_mended($node, 'bypass.access_unrecorded', rules_of($node)->{'bypass.access_unrecorded'});
$node->safe_psql('postgres', 'ALTER SYSTEM SET leyser.privileged_access = refuse');
$node->reload;
$node->poll_query_until('postgres', q{SELECT current_setting('leyser.privileged_access') = 'refuse'}) or die;
is(found('bypass'), '', 'not where it is refused');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET leyser.privileged_access');
$node->reload;

# Settings.
fires_and_is_mended($node, $_, rules_of($node)->{$_}) foreach qw(server.require_tls server.tls_ciphers server.log_file_mode server.log_time_zone);
foreach my $setting ("ssl_ciphers = 'HIGH:MEDIUM:+3DES:!aNULL'", "log_file_mode = '0640'", "log_timezone = 'Etc/UTC'", 'leyser.require_tls = on')
{
	$node->safe_psql('postgres', "ALTER SYSTEM SET $setting");
	$node->reload;
	my ($name, $value) = $setting =~ /^(\S+) = '?(.*?)'?$/;
	$node->poll_query_until('postgres', "SELECT current_setting('$name') = '$value'") or die;
	is(found(), '', "not for $setting");
}

# The data directory.
$node->stop;
chmod 0750, $node->data_dir or die;
$node->start;
is(found(), 'server.data_mode_setting_data_directory_mode', 'server.data_mode');
$node->stop;
chmod 0700, $node->data_dir or die;
$node->start;
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

# A slot that nobody reads from, once it keeps more than max_wal_size.
$node->safe_psql('postgres', q{ALTER SYSTEM SET max_wal_size = '32MB'});
$node->reload;
$node->safe_psql('postgres', q{SELECT pg_create_physical_replication_slot('away', true); CREATE TABLE filler (n int)});
is(found('replication'), '', 'replication.idle_slot: not a standby that is away for a while');
$node->safe_psql('postgres', 'INSERT INTO filler VALUES (1); SELECT pg_switch_wal()') foreach 1 .. 5;
is(found('replication'), 'replication.idle_slot_slot_away', 'replication.idle_slot');
ok(paste($node, remedy('replication.idle_slot')), '... its remedy is pasted');
is(found('replication'), '', '... and ends it');
$node->safe_psql('postgres', $_) foreach 'DROP TABLE filler', 'ALTER SYSTEM RESET max_wal_size';

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
