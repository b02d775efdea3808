# Outside issuers' keys: each speaks for its own issuer, audience and tenant,
# with its own algorithm, and only as long as it is registered; of an account
# only while that is active.

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256);
use LeyserTest;
use LeyserToken;
use Test::More;

my $node = new_node('issuer');
$node->safe_psql('postgres', q{
	SELECT leyser.create_tenant('t1');
	SELECT leyser.create_tenant('t2');
	CREATE ROLE app LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	SELECT leyser.grant_usage('app', 'application');
	CREATE ROLE gateway LOGIN;
	SELECT leyser.grant_usage('gateway', 'gateway');
	SELECT leyser.create_account('ada', 't1');
	SELECT leyser.create_account('zoe', 't2');
});
install_attempt($node);
my %pairs = map { $_ => make_key_pair($_) } qw(EdDSA ES256 RS256);

sub add_issuer_key
{
	my ($key_id, $pem, %options) = @_;

	$node->safe_psql('postgres',
		"SELECT leyser.add_issuer_key('$key_id', \$\$$pem\$\$, 'https://idp.example', 'service',"
		  . ' tenant_id => ' . ($options{tenant_id} ? "'$options{tenant_id}'" : 'NULL')
		  . ", tenant_claim => '" . ($options{tenant_claim} // 'tenant') . "')");
	return;
}

# A token signed by a pair, in order unless the claims say otherwise.
sub token_by
{
	my ($pair, $kid, %claims) = @_;
	my %ordinary = (tenant => '"t1"', iss => '"https://idp.example"', aud => '"service"');

	return issuer_token($pair, "{\"alg\":\"$pair->{algorithm}\",\"kid\":\"$kid\"}",
		payload_of(%ordinary, %claims));
}

sub outcome_is
{
	my ($token, $outcome, $name) = @_;
	my ($got, $told) = attempt($node, $token, user => 'app');

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($got, $outcome, $name) or diag($told);
	return;
}

for my $algorithm (sort keys %pairs)
{
	my $pair = $pairs{$algorithm};
	my $kid = "idp-$algorithm";

	add_issuer_key($kid, $pair->{pem});
	outcome_is(token_by($pair, $kid), 'accepted', "$algorithm: a right token");
	outcome_is(token_by($pair, $kid, iss => '"https://evil.example"'), 'LY002',
		"$algorithm: from another issuer");
	outcome_is(token_by($pair, $kid, iss => undef), 'LY002', "$algorithm: from no issuer");
	outcome_is(token_by($pair, $kid, iss => '["https://idp.example"]'), 'LY002',
		"$algorithm: from a list of issuers");
	outcome_is(token_by($pair, $kid, aud => '"another service"'), 'LY002',
		"$algorithm: for another audience");
	outcome_is(token_by($pair, $kid, aud => '"' . database_id($node) . '"'), 'LY002',
		"$algorithm: for the audience of own tokens");
	outcome_is(token_by($pair, $kid, exp => time() - 60), 'LY003', "$algorithm: expired");
	outcome_is(token_by($pair, $kid, tenant => undef), 'LY002', "$algorithm: without a tenant");

	# The signature, altered.
	my ($head, $payload, $signature) = split(/[.]/, token_by($pair, $kid));
	my $turned = $signature;
	$turned =~ s/^(.{7})(.)/$1 . ($2 eq "A" ? "B" : "A")/e;
	outcome_is("$head.$payload.$turned", 'LY002', "$algorithm: one character of the signature");
	outcome_is("$head.$payload." . base64url("\0" x 64), 'LY002', "$algorithm: a signature of zeros");
	outcome_is("$head.$payload." . base64url(''), 'LY002', "$algorithm: no signature");

	# The public key is public: it is no secret to sign with.
	outcome_is(
		hs256_token("{\"alg\":\"HS256\",\"kid\":\"$kid\"}",
			payload_of(tenant => '"t1"', iss => '"https://idp.example"', aud => '"service"'),
			$pair->{pem}),
		'LY002', "$algorithm: HS256 with the public key as the secret");

	# Another pair of the same algorithm, another registered issuer's pair.
	outcome_is(token_by(make_key_pair($algorithm), $kid), 'LY002',
		"$algorithm: signed by somebody else");
	for my $other (grep { $_ ne $algorithm } sort keys %pairs)
	{
		outcome_is(
			issuer_token($pairs{$other}, "{\"alg\":\"$other\",\"kid\":\"$kid\"}",
				payload_of(tenant => '"t1"', iss => '"https://idp.example"', aud => '"service"')),
			'LY002', "$algorithm: signed with $other");
	}
	outcome_is(
		issuer_token($pair, "{\"alg\":\"none\",\"kid\":\"$kid\"}",
			payload_of(tenant => '"t1"', iss => '"https://idp.example"', aud => '"service"')),
		'LY002', "$algorithm: alg none");
}

# ES256 as OpenSSL prints it (DER) is not what JWS means.
my ($head, $payload) = split(/[.]/, token_by($pairs{ES256}, 'idp-ES256'));
outcome_is("$head.$payload." . base64url("\x30\x44" . "\x02\x20" . 'x' x 32 . "\x02\x20" . 'x' x 32),
	'LY002', 'ES256: a DER signature');

# An own key's id does not let an issuer speak as us.
my ($own_kid) = own_key($node);
outcome_is(token_by($pairs{EdDSA}, $own_kid, aud => '"' . database_id($node) . '"'), 'LY002',
	'an issuer that names our key');

# A key of one customer's identity provider speaks for that customer only.
my $customer = make_key_pair('EdDSA');
add_issuer_key('customer/1==', $customer->{pem}, tenant_id => 't1', tenant_claim => 'org');
outcome_is(token_by($customer, 'customer/1=='), 'accepted', 'bound to a tenant: without the claim');
outcome_is(token_by($customer, 'customer/1==', org => '"t1"'), 'accepted',
	'bound to a tenant: its own');
outcome_is(token_by($customer, 'customer/1==', org => '"t2"'), 'LY002',
	'bound to a tenant: another one');
is( $node->safe_psql('postgres',
		"BEGIN; SELECT set_config('leyser.token', '" . token_by($customer, 'customer/1==', tenant => '"t2"')
		  . "', true) \\g /dev/null\nSELECT leyser.tenant_id()"),
	't1', 'bound to a tenant: the claim of another name says nothing');

# What cannot be an issuer's key.
my %private = map { $_ => PostgreSQL::Test::Utils::slurp_file($pairs{$_}{private}) } keys %pairs;
for my $bad (
	[ 'a private key', $private{EdDSA} ],
	[ 'no key at all', 'hello' ],
	[ 'something behind the key', $pairs{EdDSA}{pem} . 'x' ],
	[ 'two keys', $pairs{EdDSA}{pem} . $pairs{ES256}{pem} ])
{
	my ($what, $pem) = @$bad;
	my ($state, $message) = sqlstate_of($node,
		"SELECT leyser.add_issuer_key('bad', \$\$$pem\$\$, 'i', 'a')");
	is($state, '22023', "$what is refused");
	unlike($message =~ s/STATEMENT.*//sr =~ s/^LINE.*//mr, qr/MC4CAQAwBQYDK2Vw|MIGHAgEA/,
		"$what: the message holds nothing of it");
}
is_refused($node, "SELECT leyser.add_issuer_key('$own_kid', \$\$$pairs{EdDSA}{pem}\$\$, 'i', 'a')",
	'42710', 'a key id that a signing key has');
is_refused($node, "SELECT leyser.add_issuer_key('../x', \$\$$pairs{EdDSA}{pem}\$\$, 'i', 'a')",
	'22023', 'a key id that is a path');
is_refused($node,
	"SELECT leyser.add_issuer_key('x', \$\$$pairs{EdDSA}{pem}\$\$, 'i', 'a', tenant_id => 'nobody')",
	'42704', 'a key for a tenant that does not exist');

# Removed and retired: counted at the next statement of a context that is open
# in another backend, under REPEATABLE READ too.
for my $level ('READ COMMITTED', 'REPEATABLE READ')
{
	my $pair = make_key_pair('EdDSA');
	my $session = open_session($node, user => 'app');
	my $kid = $level eq 'READ COMMITTED' ? 'soon-gone-1' : 'soon-gone-2';

	add_issuer_key($kid, $pair->{pem});
	my $token = token_by($pair, $kid);
	$session->query_safe("BEGIN ISOLATION LEVEL $level");
	$session->query_safe("SELECT set_config('leyser.token', '$token', true)");
	is($session->query_safe('SELECT leyser.tenant_id()'), 't1', "$level: issuer: before");
	$node->safe_psql('postgres', "SELECT leyser.remove_issuer_key('$kid')");
	is_refused_in($session, 'SELECT leyser.tenant_id()', 'LY002', "$level: issuer: removed");
	$session->query('ROLLBACK');
	is_refused_in($session, "BEGIN; SELECT set_config('leyser.token', '$token', true)", 'LY002',
		"$level: issuer: removed, in a new transaction");
	$session->query('ROLLBACK');

	my ($former) = own_key($node);
	$token = own_token($node);
	$session->query_safe("BEGIN ISOLATION LEVEL $level");
	$session->query_safe("SELECT set_config('leyser.token', '$token', true)");
	$node->safe_psql('postgres', 'SELECT leyser.activate_signing_key(leyser.stage_signing_key())');
	is($session->query_safe('SELECT leyser.tenant_id()'), 't1', "$level: own key: verifying");
	$node->safe_psql('postgres', "SELECT leyser.retire_signing_key('$former')");
	is_refused_in($session, 'SELECT leyser.tenant_id()', 'LY002', "$level: own key: retired");
	$session->query('ROLLBACK');
	is_refused_in($session, "BEGIN; SELECT set_config('leyser.token', '$token', true)", 'LY002',
		"$level: own key: retired, in a new transaction");
	$session->query('ROLLBACK');
	outcome_is(own_token($node), 'accepted', "$level: own key: its successor");
	$session->quit;
}

# The account that a token names in "sub": active, in the token's tenant.
sub as_administrator
{
	my ($statement) = @_;

	$node->safe_psql('postgres', "BEGIN; SELECT leyser.enter('t1', 'ada'); $statement; COMMIT");
	return;
}

sub token_of
{
	my ($account, %claims) = @_;

	return token_by($pairs{EdDSA}, 'idp-EdDSA', sub => "\"$account\"", %claims);
}

as_administrator("SELECT leyser.create_account('ann')");
is( $node->safe_psql('postgres',
		"BEGIN; SELECT set_config('leyser.token', '" . token_of('ann') . "', true) \\g /dev/null\n"
		  . 'SELECT leyser.account_name(), leyser.session_id() IS NULL, leyser.has_permission($$leyser.accounts$$)',
		extra_params => [ '-U', 'app' ]),
	'ann|t|f', 'an account of an issuer: itself, without a session, with what it was granted');
outcome_is(token_of('nobody'), 'LY005', 'an account that is not there');
outcome_is(token_of('zoe'), 'LY005', "another tenant's account");
outcome_is(token_of('zoe', tenant => '"t2"'), 'accepted', '... which is one there');

# Disabled: it ends what an issuer's token and enter() made, at the next statement.
my %begun = (
	'issuer' => [ 'app', "SELECT set_config('leyser.token', '" . token_of('ann') . "', true)" ],
	'enter()' => [ 'gateway', "SELECT leyser.enter('t1', 'ann')" ]);

for my $way (sort keys %begun)
{
	my ($user, $begin) = @{ $begun{$way} };

	for my $level ('READ COMMITTED', 'REPEATABLE READ')
	{
		my $session = open_session($node, user => $user);

		$session->query_safe("BEGIN ISOLATION LEVEL $level");
		$session->query_safe($begin);
		is($session->query_safe('SELECT leyser.account_name()'), 'ann', "$way, $level: active");
		as_administrator("SELECT leyser.disable_account('ann')");
		is_refused_in($session, 'SELECT leyser.account_name()', 'LY005', "$way, $level: disabled");
		$session->query('ROLLBACK');
		is_refused_in($session, "BEGIN; $begin", 'LY005',
			"$way, $level: disabled, in a new transaction");
		$session->query('ROLLBACK');
		as_administrator("SELECT leyser.enable_account('ann')");
		$session->query_safe('BEGIN');
		$session->query_safe($begin);
		is($session->query_safe('SELECT leyser.account_name()'), 'ann', "$way, $level: enabled");
		$session->quit;
	}
}
as_administrator("SELECT leyser.delete_account('ann')");
outcome_is(token_of('ann'), 'LY005', 'issuer: deleted');
is_refused($node, "BEGIN; SELECT leyser.enter('t1', 'ann')", 'LY005', 'enter(): deleted',
	user => 'gateway');

$node->stop;
done_testing();
