# LeyserToken.pm
#
# Tokens made outside the server, so that they can be wrong in every way:
# header and payload are JSON texts, and the signature is whatever one likes.
# Public-key signatures come from the openssl command, a second implementation.

package LeyserToken;

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256);
use IPC::Run;
use LeyserTest;
use MIME::Base64 qw(decode_base64url encode_base64url);
use PostgreSQL::Test::Utils;

use Exporter qw(import);
our @EXPORT = qw(base64url database_id key_id_of own_key own_token hs256_token
  make_key_pair issuer_token signed payload_of install_attempt attempt);

sub base64url { return encode_base64url($_[0]); }

# The uuid of a database: the audience of its own tokens.
sub database_id
{
	my ($node, $database) = @_;

	return $node->safe_psql($database // 'postgres', 'SELECT database_id FROM leyser.identity');
}

# The id and the secret's bytes of a database's active signing key.
sub own_key
{
	my ($node, $database) = @_;
	my $key_id = $node->safe_psql($database // 'postgres',
		"SELECT key_id FROM leyser.signing_key WHERE state = 'active'");
	my $text = slurp_file(keyring_directory($node) . "/$key_id.key");

	$text =~ /^secret ([0-9a-f]{64})$/m or die 'the key file has no secret';
	return ($key_id, pack('H*', $1));
}

# Any header and payload; the signer gets what is to be signed.
sub signed
{
	my ($header, $payload, $signer) = @_;
	my $input = base64url($header) . '.' . base64url($payload);

	return $input . '.' . base64url($signer->($input));
}

sub hs256_token
{
	my ($header, $payload, $secret) = @_;

	return signed($header, $payload, sub { return hmac_sha256($_[0], $secret); });
}

# The key that a token names.
sub key_id_of
{
	my ($token) = @_;

	decode_base64url((split(/[.]/, $token))[0]) =~ /"kid":"([^"]*)"/ or die 'no kid';
	return $1;
}

# A payload: claims are name => JSON text, and replace those of an ordinary
# token of five minutes; undef leaves a claim out.
sub payload_of
{
	my (%claims) = @_;
	my %all = (exp => time() + 300, %claims);

	return '{' . join(',', map { "\"$_\":$all{$_}" } grep { defined $all{$_} } sort keys %all) . '}';
}

# The id of the account that claims name, as own tokens have it; 1 where there is none.
sub account_id_of
{
	my ($node, %claims) = @_;
	my ($tenant, $account) = map { ($_ // '') =~ /^"(.*)"$/ ? $1 : '' } $claims{tenant} // '"t1"', $claims{sub};

	return $node->safe_psql('postgres', "SELECT coalesce(max(account_id), 1) FROM leyser.account_record
		WHERE (tenant_id, account_name) = ('$tenant', '$account')");
}

# A token of the database's own, right unless the claims say otherwise.
sub own_token
{
	my ($node, %claims) = @_;
	my ($key_id, $secret) = own_key($node);
	my %ordinary = (tenant => '"t1"', aud => '"' . database_id($node) . '"');

	$ordinary{account_id} = account_id_of($node, %claims) if defined $claims{sub};

	return hs256_token("{\"alg\":\"HS256\",\"kid\":\"$key_id\"}",
		payload_of(%ordinary, %claims), $secret);
}

my %genpkey = (
	EdDSA => [ '-algorithm', 'ed25519' ],
	ES256 => [ '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256' ],
	RS256 => [ '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048' ]);

# Makes a key pair; gives a hash with algorithm, the private key's file and the
# public PEM.
sub make_key_pair
{
	my ($algorithm) = @_;
	my $private = PostgreSQL::Test::Utils::tempdir() . '/private.pem';
	my $public = "$private.pub";

	openssl('genpkey', @{ $genpkey{$algorithm} }, '-out', $private);
	openssl('pkey', '-in', $private, '-pubout', '-out', $public);
	return { algorithm => $algorithm, private => $private, pem => slurp_file($public) };
}

sub issuer_token
{
	my ($pair, $header, $payload) = @_;

	return signed($header, $payload, sub { return signature_of($pair, $_[0]); });
}

sub signature_of
{
	my ($pair, $input) = @_;
	my $file = "$pair->{private}.input";
	my $signature = "$pair->{private}.signature";

	unlink $file, $signature;
	append_to_file($file, $input);
	if ($pair->{algorithm} eq 'EdDSA')
	{
		openssl('pkeyutl', '-sign', '-rawin', '-inkey', $pair->{private},
			'-in', $file, '-out', $signature);
		return slurp_file($signature);
	}
	openssl('dgst', '-sha256', '-sign', $pair->{private}, '-out', $signature, $file);
	my $bytes = slurp_file($signature);
	return $pair->{algorithm} eq 'ES256' ? concatenated($bytes) : $bytes;
}

# JSON Web Signatures have the two integers side by side, OpenSSL a DER sequence.
sub concatenated
{
	my ($der) = @_;
	my $at = 2;
	my $result = '';

	for (1 .. 2)
	{
		my $length = ord substr($der, $at + 1, 1);
		my $integer = substr($der, $at + 2, $length);
		$integer =~ s/^\0+//;
		$result .= ("\0" x (32 - length $integer)) . $integer;
		$at += 2 + $length;
	}
	return $result;
}

sub openssl
{
	my (@arguments) = @_;
	my $output;

	IPC::Run::run([ 'openssl', @arguments ], '>', \$output, '2>&1')
	  or die "openssl $arguments[0] failed: $output";
	return;
}

# A function that sets a token and tells what came of it: 'accepted', or the
# SQLSTATE and everything that the client is told.
sub install_attempt
{
	my ($node, $database) = @_;

	$node->safe_psql($database // 'postgres', q{
		CREATE FUNCTION attempt(token text, OUT outcome text, OUT told text)
			LANGUAGE plpgsql AS $$
		DECLARE
			message text; detail text; hint text; context text;
		BEGIN
			PERFORM set_config('leyser.token', token, true);
			outcome := 'accepted';
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS outcome = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
				detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT,
				context = PG_EXCEPTION_CONTEXT;
			told := concat_ws(' ', message, detail, hint, context);
		END
		$$;
	});
	return;
}

# Sets a token, in a session of its own; gives outcome and text.
sub attempt
{
	my ($node, $token, %options) = @_;
	my $text = $node->safe_psql(
		$options{database} // 'postgres',
		"SELECT outcome, told FROM attempt(:'token')",
		extra_params => [
			'-v', "token=$token", defined $options{user} ? ('-U', $options{user}) : ()
		]);

	return split(/\|/, $text, 2);
}

1;
