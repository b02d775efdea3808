# A token of the database's own that is not in order is refused with its
# SQLSTATE, and nothing of it comes back in the message.

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256 hmac_sha384);
use LeyserTest;
use LeyserToken;
use Test::More;

my $node = new_node('token');
$node->safe_psql('postgres', q{
	SELECT leyser.create_tenant('t1');
	SELECT leyser.create_tenant('t2');
	SELECT leyser.suspend_tenant('t2');
	INSERT INTO leyser.account_record (tenant_id, account_name, name_key, state)
		VALUES ('t1', 'secretaccount', 'secretaccount', 'active');
	CREATE ROLE app LOGIN;
	REVOKE CREATE ON SCHEMA public FROM PUBLIC;
	SELECT leyser.grant_usage('app', 'application');
});
install_attempt($node);
my ($key_id, $secret) = own_key($node);
my $audience = database_id($node);
my $header = "{\"alg\":\"HS256\",\"kid\":\"$key_id\"}";
my $right = own_token($node, sub => '"secretaccount"');

# One test: the outcome, and that no part of the token was told.
sub outcome_is
{
	my ($token, $outcome, $name) = @_;
	my ($got, $told) = attempt($node, $token, user => 'app');

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($got, $outcome, $name) or diag($told);
	my @told_parts = grep { length($_) >= 12 && index($told, substr($_, 0, 12)) >= 0 }
	  split(/[.]/, $token);
	is("@told_parts", '', "$name: nothing of it is told");
	return;
}

sub claims_are
{
	my ($outcome, $name, %claims) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	outcome_is(own_token($node, %claims), $outcome, $name);
	return;
}

sub header_is
{
	my ($text, $name, $mac) = @_;
	my $payload = payload_of(tenant => '"t1"', aud => "\"$audience\"");

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	outcome_is(signed($text, $payload, $mac // sub { return hmac_sha256($_[0], $secret); }),
		'LY002', $name);
	return;
}

# What must work.
outcome_is($right, 'accepted', 'a right token');
claims_are('accepted', 'several audiences', aud => "[\"other\",\"$audience\"]");
claims_are('accepted', 'a fractional time', exp => time() + 60.5);
claims_are('LY003', 'an expiry within the leeway, which is for issuers', exp => time() - 10);
claims_are('accepted', 'claims that mean nothing to us', name => '"Ada"', roles => '["a"]');

# Forged and altered.
my ($head, $payload, $signature) = split(/[.]/, $right);
outcome_is(hs256_token($header, payload_of(tenant => '"t1"', aud => "\"$audience\""), 'x' x 32),
	'LY002', 'signed with another key');
outcome_is(hs256_token($header, payload_of(tenant => '"t1"', aud => "\"$audience\""), ''),
	'LY002', 'signed with an empty key');
outcome_is("$head." . base64url(payload_of(tenant => '"t2"')) . ".$signature",
	'LY002', 'another payload under the signature');
outcome_is("$head.$payload", 'LY002', 'no signature');
outcome_is("$head.$payload.", 'LY002', 'an empty signature');
outcome_is("$head.$payload.$signature.", 'LY002', 'a fourth part');
outcome_is("$head..$signature", 'LY002', 'an empty payload');
outcome_is(".$payload.$signature", 'LY002', 'an empty header');
outcome_is(substr($right, 0, -1), 'LY002', 'cut off by one character');
outcome_is($right . '=', 'LY002', 'padded');
outcome_is(" $right", 'LY002', 'a blank before it');
outcome_is("Bearer $right", 'LY002', 'the header field\'s scheme before it');
outcome_is('..', 'LY002', 'nothing but dots');
outcome_is('x' x 8193, 'LY002', 'more than 8 KB of anything');

# Every place of a token, one character of every class put into it.
my $altered = $node->safe_psql('postgres', qq{
	SET client_min_messages = error;
	SELECT count(*), count(*) FILTER (WHERE a.outcome = 'accepted'),
		count(*) FILTER (WHERE a.outcome NOT IN ('accepted', 'LY002'))
	FROM (VALUES ('$right')) t (token),
		unnest(ARRAY['A', 'a', '0', '-', '_', '.', '=', '+', '/', ' ', E'\\n', E'\\x7f', 'é', '"']) c (c),
		generate_series(1, length(t.token)) p (p),
		attempt(overlay(t.token PLACING c.c FROM p.p FOR 1)) a
	WHERE substr(t.token, p.p, 1) <> c.c
});
my ($tried, $accepted, $otherwise) = split(/\|/, $altered);
cmp_ok($tried, '>', 3000, 'one character altered, everywhere');
is($accepted, 0, '... is never accepted');
is($otherwise, 0, '... and always refused with LY002');
is( $node->safe_psql('postgres', qq{
	SELECT string_agg(DISTINCT a.outcome, ' ') FROM (VALUES ('$right')) t (token),
		generate_series(1, length(t.token) - 1) p (p), attempt(left(t.token, p.p)) a
}), 'LY002', 'cut off anywhere: LY002');

# The header.
header_is("{\"alg\":\"none\",\"kid\":\"$key_id\"}", 'alg none');
header_is("{\"alg\":\"none\",\"kid\":\"$key_id\"}", 'alg none with any signature', sub { return 'x'; });
header_is("{\"alg\":\"hs256\",\"kid\":\"$key_id\"}", 'alg in lower case');
header_is("{\"alg\":\"HS384\",\"kid\":\"$key_id\"}", 'alg HS384',
	sub { return hmac_sha384($_[0], $secret); });
header_is("{\"alg\":\"RS256\",\"kid\":\"$key_id\"}", 'alg RS256 for an own key');
header_is("{\"alg\":[\"HS256\"],\"kid\":\"$key_id\"}", 'alg that is no string');
header_is("{\"kid\":\"$key_id\"}", 'no alg');
header_is("{\"alg\":\"HS256\",\"kid\":\"$key_id\",\"crit\":[\"exp\"],\"exp\":1}", 'unknown crit');
header_is("{\"alg\":\"HS256\",\"kid\":\"$key_id\",\"crit\":[]}", 'empty crit');
header_is("{\"alg\":\"HS256\",\"kid\":\"$key_id\",\"b64\":false}", 'an unencoded payload');
header_is("{\"alg\":\"HS256\",\"kid\":\"$key_id\",\"typ\":\"id+jwt\"}", 'another type of token');
header_is("{\"alg\":\"HS256\",\"kid\":\"$key_id\",\"alg\":\"HS256\"}", 'alg twice');
header_is("{\"alg\":\"HS256\",\"kid\":\"$key_id\",\"ki\\u0064\":\"$key_id\"}", 'kid twice, once escaped');
header_is('{"alg":"HS256"}', 'no kid');
header_is('{"alg":"HS256","kid":"unknown"}', 'unknown kid');
header_is('{"alg":"HS256","kid":""}', 'empty kid');
header_is('{"alg":"HS256","kid":7}', 'kid that is no string');
header_is("{\"alg\":\"HS256\",\"kid\":\"../keyring/$key_id\"}", 'kid that is a path');
header_is("{\"alg\":\"HS256\",\"kid\":\"./$key_id\"}", 'kid that is a path to here');
header_is('{"alg":"HS256","kid":"/etc/passwd"}', 'kid that is an absolute path');
header_is("{\"alg\":\"HS256\",\"kid\":\"$key_id\\u0000\"}", 'kid with a zero byte');
header_is("{\"alg\":\"HS256\",\"kid\":\"$key_id' OR true --\"}", 'kid with SQL in it');
header_is('{"alg":"HS256","kid":"' . 'k' x 64 . '"}', 'kid of 64 characters');
header_is("[\"HS256\",\"$key_id\"]", 'a header that is no object');
header_is("{\"alg\":\"HS256\",\"kid\":\"$key_id\"} x", 'something behind the header');
header_is('', 'a header without any text');

# The claims.
claims_are('LY003', 'expired', exp => time() - 60);
claims_are('LY003', 'expired in 1970', exp => 1);
claims_are('LY002', 'no exp', exp => undef);
claims_are('LY002', 'exp as text', exp => '"' . (time() + 60) . '"');
claims_are('LY002', 'negative exp', exp => -1);
claims_are('LY002', 'exp beyond all calendars', exp => '1e30');
claims_are('LY002', 'lives longer than the maximum', exp => time() + 90000);
claims_are('LY002', 'nbf in the future', nbf => time() + 120);
claims_are('accepted', 'nbf within the leeway', nbf => time() + 10);
claims_are('LY002', 'nbf as text', nbf => '"now"');
claims_are('LY002', 'issued in the future', iat => time() + 120);
claims_are('LY002', 'issued so long ago that it lives too long',
	iat => time() - 90000, exp => time() + 300);
claims_are('LY002', 'no aud', aud => undef);
claims_are('LY002', 'for another audience', aud => '"00000000-0000-4000-8000-000000000000"');
claims_are('LY002', 'an audience among things that are none', aud => "[\"$audience\", 7]");
claims_are('LY002', 'no audience at all', aud => '[]');
claims_are('LY002', 'no tenant', tenant => undef);
claims_are('LY002', 'tenant null', tenant => 'null');
claims_are('LY002', 'tenant that is a number', tenant => '1');
claims_are('LY002', 'empty tenant', tenant => '""');
claims_are('LY002', 'tenant with a zero byte', tenant => '"t1\u0000"');
claims_are('LY002', 'tenant with a line break', tenant => '"t1\n"');
claims_are('LY002', 'tenant that is too long', tenant => '"' . 'x' x 201 . '"');
claims_are('LY002', 'half a surrogate pair', tenant => '"\ud800"');
claims_are('LY002', 'sub that is no string', sub => '{"a":1}');
claims_are('LY002', 'sid that is no uuid', sid => '"7"');
claims_are('LY002', "account_id that is $_->[0]", sub => '"ann"', account_id => $_->[1])
  for [ 'missing', undef ], [ 'a string', '"1"' ], [ 'no whole number', '1.0' ], [ 'below 0', '-1' ], [ '0', '0' ],
  [ 'too large', '1' x 19 ], [ 'null', 'null' ];
claims_are('LY004', 'unknown tenant', tenant => '"nobody"');
claims_are('LY004', 'suspended tenant', tenant => '"t2"');
claims_are('LY002', 'more than 8 KB of claims', padding => '"' . 'x' x 8000 . '"');
my @padded = map {
	hs256_token($header, payload_of(tenant => '"t1"', aud => "\"$audience\"", padding => '"' . 'x' x $_ . '"'), $secret)
} 5800 .. 6000;
outcome_is((grep { length($_) <= 8192 } @padded)[-1], 'accepted', 'just 8 KB');
outcome_is((grep { length($_) > 8192 } @padded)[0], 'LY002', 'just more than 8 KB');
outcome_is(hs256_token($header, "{\"tenant\":\"t2\",\"tenant\":\"t1\",\"exp\":" . (time() + 60)
			. ",\"aud\":\"$audience\"}", $secret), 'LY002', 'tenant twice');
outcome_is(hs256_token($header, '"t1"', $secret), 'LY002', 'a payload that is no object');
outcome_is(hs256_token($header, "\xff\xfe", $secret), 'LY002', 'a payload that is no UTF-8');
outcome_is(hs256_token($header, '{"a":' x 500 . '1' . '}' x 500, $secret),
	'LY002', 'a payload nested 500 times');

# Another database of the cluster uses the same keys: its audience is another.
$node->safe_psql('postgres', 'CREATE DATABASE other');
create_extension($node, 'other');
$node->safe_psql('other', q{SELECT leyser.create_tenant('t1')});
install_attempt($node, 'other');
is((attempt($node, $right, database => 'other'))[0], 'LY002', 'a token for another database');

# A token that the session brings along would outlive the transaction.
{
	local $ENV{PGOPTIONS} = "-c leyser.token=$right";
	my ($state, $told) = sqlstate_of($node, q{SELECT leyser.tenant_id()}, user => 'app');
	isnt($state, '', 'a token in the start-up packet');
	is(index($told, $signature), -1, '... is not told');
}

# A role altered from a database where no guard looks on gets no context.
$node->safe_psql('other', 'ALTER ROLE app BYPASSRLS');
my ($outcome, $told) = attempt($node, $right, user => 'app');
is($outcome, 'LY007', 'BYPASSRLS from another database: no context');
like($told, qr/role is not bound by row security/, '... and it is said why');
like($node->safe_psql('postgres', q{SELECT problems FROM leyser.granted_usage}), qr/BYPASSRLS/,
	'... in the view, too');
$node->safe_psql('other', 'ALTER ROLE app NOBYPASSRLS');

# The tests above have left nothing behind.
outcome_is($right, 'accepted', 'the right token is still right');

$node->stop;
done_testing();
