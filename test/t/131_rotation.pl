# Signing keys change in steps; databases of a cluster share a keyring; a keyring
# that is gone for good is given up, and only on demand.

use strict;
use warnings;

use LeyserTest;
use LeyserToken;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('rotation');
$node->safe_psql('postgres', q{SELECT leyser.create_tenant('t1')});
install_attempt($node);
my $keyring = keyring_directory($node);

sub states
{
	my ($database) = @_;

	return $node->safe_psql($database // 'postgres',
		q{SELECT string_agg(state, ' ' ORDER BY created_at) FROM leyser.signing_key});
}

sub outcome_is
{
	my ($token, $outcome, $name, %options) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is((attempt($node, $token, %options))[0], $outcome, $name);
	return;
}

# A token signed with any key whose file lies in the keyring.
sub token_with
{
	my ($key_id, $database) = @_;
	slurp_file("$keyring/$key_id.key") =~ /^secret ([0-9a-f]+)$/m or die 'no secret';

	return hs256_token("{\"alg\":\"HS256\",\"kid\":\"$key_id\"}",
		payload_of(tenant => '"t1"', aud => '"' . database_id($node, $database) . '"'), pack('H*', $1));
}

# One key at a time, in steps.
my ($first) = own_key($node);
my $token_first = own_token($node, exp => time() + 3600);
is(states(), 'active', 'one key at first');
is_refused($node, "SELECT leyser.retire_signing_key('$first')", 'LY008', 'the active key stays');
my $second = $node->safe_psql('postgres', 'SELECT leyser.stage_signing_key()');
is(states(), 'active staged', 'staged');
ok(-f "$keyring/$second.key", 'staged: its file is there to be copied');
outcome_is(token_with($second), 'LY002', 'staged: it verifies nothing yet');
outcome_is($token_first, 'accepted', 'staged: the active one does');
my $issued = $node->safe_psql('postgres', q{SELECT leyser.issue_token('t1')});
is(key_id_of($issued), $first, 'staged: the active one signs');
is_refused($node, "SELECT leyser.activate_signing_key('$first')", 'LY008', 'active twice');
is_refused($node, q{SELECT leyser.activate_signing_key('unknown')}, '42704', 'an unknown key');

# A key whose file does not lie here must not become active.
rename "$keyring/$second.key", "$keyring/away" or die $!;
is_refused($node, "SELECT leyser.activate_signing_key('$second')", 'LY002', 'without its file');
rename "$keyring/away", "$keyring/$second.key" or die $!;
$node->safe_psql('postgres', "SELECT leyser.activate_signing_key('$second')");
is(states(), 'verifying active', 'activated');
outcome_is($token_first, 'accepted', 'activated: tokens of the former key are still good');
outcome_is(own_token($node), 'accepted', 'activated: the new key verifies');
$issued = $node->safe_psql('postgres', q{SELECT leyser.issue_token('t1')});
is(key_id_of($issued), $second, 'activated: the new key signs');
$node->safe_psql('postgres', "SELECT leyser.retire_signing_key('$first')");
is(states(), 'retired active', 'retired');
outcome_is($token_first, 'LY002', 'retired: its tokens are refused');
is_refused($node, "SELECT leyser.retire_signing_key('$first')", 'LY008', 'retired twice');
is_refused($node, "SELECT leyser.activate_signing_key('$first')", 'LY008', 'retired is for good');
unlink "$keyring/$first.key" or die $!;
is($node->safe_psql('postgres', "SELECT state FROM leyser.keyring_status() WHERE item = 'signing key $first'"),
	'retired', 'retired: its file may go');

# A step that is rolled back has not happened; its file is nobody's.
my $orphan = $node->safe_psql('postgres', 'BEGIN; SELECT leyser.stage_signing_key(); ROLLBACK');
is(states(), 'retired active', 'rolled back: no row');
is($node->safe_psql('postgres', "SELECT state FROM leyser.keyring_status() WHERE item = 'key file $orphan'"),
	'not registered', 'rolled back: the file is told');
outcome_is(token_with($orphan), 'LY002', 'rolled back: the file verifies nothing');

# Another database adopts the keyring that lies there.
$node->safe_psql('postgres', 'CREATE DATABASE other');
create_extension($node, 'other');
$node->safe_psql('other', q{SELECT leyser.create_tenant('t1')});
install_attempt($node, 'other');
is($node->safe_psql('other', 'SELECT keyring_id FROM leyser.identity'),
	$node->safe_psql('postgres', 'SELECT keyring_id FROM leyser.identity'), 'two databases, one keyring');
isnt(database_id($node, 'other'), database_id($node), 'two databases, two audiences');
outcome_is(own_token($node), 'LY002', 'a token of the one is refused by the other', database => 'other');
outcome_is(token_with((own_key($node, 'other'))[0], 'other'), 'accepted', 'the other has its own',
	database => 'other');
my ($stderr);
$node->psql('other', 'SELECT leyser.initialize_keyring()', stderr => \$stderr);
like($stderr, qr/NOTICE:.*uses this keyring already/, 'asked twice: told');

# Gone for good.
system_or_bail('sh', '-c', "rm '$keyring'/*");
is_refused($node, 'SELECT leyser.initialize_keyring()', 'LY002', 'lost: not without being asked');
my $before = own_id();
$node->safe_psql('postgres', 'SELECT leyser.initialize_keyring(abandon_lost => true)');
isnt(own_id(), $before, 'given up: there is another keyring');
is(states(), 'retired retired active', 'given up: its keys are retired');
outcome_is($issued, 'LY002', 'given up: its tokens are refused');
outcome_is(own_token($node), 'accepted', 'given up: the new key works');
is($node->safe_psql('postgres', q{SELECT string_agg(event, ' ' ORDER BY event_id) FROM leyser.event
	WHERE event LIKE 'keyring.%'}), 'keyring.initialized keyring.abandoned keyring.initialized',
	'given up: recorded');

# To the other database the new one is foreign, until it adopts it.
is($node->safe_psql('other', q{SELECT state FROM leyser.keyring_status() WHERE item = 'keyring'}),
	'foreign', 'to the other database it is foreign');
is_refused($node, 'SELECT leyser.initialize_keyring()', 'LY002', 'foreign: not without being asked',
	database => 'other');
$node->safe_psql('other', 'SELECT leyser.initialize_keyring(abandon_lost => true)');
is($node->safe_psql('other', 'SELECT keyring_id FROM leyser.identity'), own_id(), 'foreign: adopted on demand');
outcome_is(token_with((own_key($node, 'other'))[0], 'other'), 'accepted', 'foreign: adopted, and works',
	database => 'other');

sub own_id
{
	return $node->safe_psql('postgres', 'SELECT keyring_id FROM leyser.identity');
}

# Begun and rolled back: what lies there then is used by the next call.
my $fresh = new_node('fresh', extension => 0);
$fresh->safe_psql('postgres', 'CREATE EXTENSION leyser CASCADE; BEGIN; SELECT leyser.initialize_keyring(); ROLLBACK');
is($fresh->safe_psql('postgres', q{SELECT state FROM leyser.keyring_status() WHERE item = 'keyring'}),
	'not initialized', 'rolled back: not initialized');
my @files = sort grep { !/^\./ } slurp_dir(keyring_directory($fresh));
$fresh->safe_psql('postgres', q{SELECT leyser.initialize_keyring(); SELECT leyser.create_tenant('t1')});
is(join(' ', sort grep { !/^\./ } slurp_dir(keyring_directory($fresh))), "@files", '... and then used');
install_attempt($fresh);
is((attempt($fresh, own_token($fresh)))[0], 'accepted', '... and works');
$fresh->stop;

# Nothing to give up: asking for it changes nothing.
$before = own_id();
$node->psql('postgres', 'SELECT leyser.initialize_keyring(abandon_lost => true)');
is(own_id(), $before, 'a keyring that is well is not given up');

$node->stop;
done_testing();
