# leyser works when the server loads it at its start, and only then; otherwise it
# says so, and protected rows stay closed.

use strict;
use warnings;

use LeyserTest;
use LeyserToken;
use Test::More;

my $node = new_node('preload', start => 0);

sub restart_with
{
	my ($libraries) = @_;

	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$libraries'");
	$node->restart;
	return;
}

# Where it was never preloaded.
$node->append_conf('postgresql.conf', q{shared_preload_libraries = ''});
$node->start;
# what leyser requires does not stand in the way of its own refusals
$node->safe_psql('postgres', 'CREATE EXTENSION pgcrypto');
my ($sqlstate, $message) = sqlstate_of($node, 'CREATE EXTENSION leyser');
is($sqlstate, '55000', 'not preloaded: the extension cannot be made');
like($message, qr/DETAIL:  Tokens and guards only work when the server loads leyser at its start/,
	'... told why');
like($message, qr/HINT:  Add leyser to shared_preload_libraries and restart the server/, '... and what to do');
is_refused($node, q{SET session_preload_libraries = 'leyser'; LOAD 'leyser'; CREATE EXTENSION leyser}, '55000',
	'loaded late: neither');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_namespace WHERE nspname = 'leyser'}), '0',
	'... and nothing was left');

# Preloaded: in an encoding and a database that do.
restart_with('leyser');
$node->safe_psql('postgres', q{CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0});
$node->safe_psql('latin', 'CREATE EXTENSION pgcrypto');
is_refused($node, 'CREATE EXTENSION leyser', '0A000', 'not in a database with another encoding',
	database => 'latin');
is_refused($node, q{SET leyser.token = 'ey'}, 'LY002', 'no tokens where the extension is not');
$node->safe_psql('postgres', 'CREATE ROLE stranger; CREATE SCHEMA leyser AUTHORIZATION stranger');
is_refused($node, 'CREATE EXTENSION leyser', '55000', 'not in somebody else\'s schema');
$node->safe_psql('postgres', 'DROP SCHEMA leyser');

create_extension($node, 'postgres');
$node->safe_psql('postgres', q{
	SELECT leyser.create_tenant('t1');
	CREATE ROLE app LOGIN;
	CREATE ROLE owner_of_item LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	SELECT leyser.grant_usage('app', 'application');
	CREATE TABLE item (tenant_id text NOT NULL, n int);
	INSERT INTO item VALUES ('t1', 1), ('t2', 2);
	SELECT leyser.protect('item');
	ALTER TABLE item OWNER TO owner_of_item;
	GRANT SELECT, INSERT ON item TO app;
});
my $token = own_token($node, exp => time() + 3600);
my $query = "BEGIN; SELECT set_config('leyser.token', '$token', true) \\g /dev/null\nSELECT count(*) FROM item; COMMIT";
is($node->safe_psql('postgres', $query, extra_params => [ '-U', 'app' ]), '1', 'preloaded: a tenant sees its row');

# The same data, and a server that was started without.
restart_with('');
for my $role ('app', 'owner_of_item')
{
	is_refused($node, 'SELECT * FROM item', '55000', "$role: rows stay closed", user => $role);
	is_refused($node, $query, '55000', "$role: a right token is a worthless placeholder", user => $role);
	is_refused($node, q{INSERT INTO item VALUES ('t1', 3)}, '55000', "$role: none is written", user => $role);
}
($sqlstate, $message) = sqlstate_of($node, $query, user => 'app');
like($message, qr/HINT:  Add leyser to shared_preload_libraries/, 'told what to do');
for my $call (qw(tenant_id() tenant_id_int8() tenant_id_uuid() account_name() session_id()
	context_status() leave() enter('t1') issue_token('t1') initialize_keyring() stage_signing_key()
	keyring_status() create_tenant('t3')))
{
	is_refused($node, "SELECT leyser.$call", '55000', "$call raises");
}

# Loading it late, by whatever way, does not bring a placeholder to life.
is_refused($node, "LOAD 'leyser'; SET ROLE app; $query", '55000', 'LOAD first');
is_refused($node, "BEGIN; SET LOCAL leyser.token = '$token'; LOAD 'leyser'; SET LOCAL ROLE app; SELECT * FROM item",
	'55000', 'a placeholder first, then LOAD');
$node->safe_psql('postgres', q{ALTER ROLE app SET session_preload_libraries = 'leyser'});
is_refused($node, $query, '55000', 'session_preload_libraries', user => 'app');
$node->safe_psql('postgres', q{ALTER ROLE app RESET session_preload_libraries});
{
	local $ENV{PGOPTIONS} = "-c leyser.token=$token";
	is_refused($node, 'SELECT * FROM item', '55000', 'a token in the startup packet', user => 'app');
}

# And back.
restart_with('leyser');
is($node->safe_psql('postgres', $query, extra_params => [ '-U', 'app' ]), '1', 'preloaded again: all as before');
{
	local $ENV{PGOPTIONS} = "-c leyser.token=$token";
	my (undef, $refusal) = sqlstate_of($node, 'SELECT leyser.tenant_id()', user => 'app');
	like($refusal, qr/FATAL:  leyser\.token can only be set within a session/,
		'preloaded: a token in the startup packet is refused');
	unlike($refusal, qr/\Q$token\E/, '... and not told');
}

$node->stop;
done_testing();
