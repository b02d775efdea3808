/*
 * token_signature.c
 *		Signatures of tokens, and the public keys that verify them.
 *
 * HS256 costs some two microseconds, a public-key signature up to two hundred;
 * a backend pays it once a token (token_memory.c).
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "token_signature.h"

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#define ES256_HALF 32
#define ED25519_LEN 64
#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX (LEYSER_SIGNATURE_MAX * 8)

static EVP_MAC_CTX *hmac;

static EVP_MAC_CTX *
hmac_create(void)
{
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, "SHA256", 0),
		OSSL_PARAM_construct_end(),
	};
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_MAC_CTX *ctx = mac != NULL ? EVP_MAC_CTX_new(mac) : NULL;

	EVP_MAC_free(mac); /* the context has its own reference */
	if (ctx != NULL && EVP_MAC_CTX_set_params(ctx, params) != 1)
	{
		EVP_MAC_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

/* In the postmaster, so that backends inherit what OpenSSL had to look up. */
void
leyser_signature_init(void)
{
	hmac = hmac_create();
	ERR_clear_error();
}

/*
 * OpenSSL's context copies the key to memory that a core file would hold, so
 * the copy is overwritten after each use; a new context is dear.
 */
static void
hmac_forget_key(void)
{
	static const unsigned char no_key[LEYSER_SECRET_LEN] = {0};

	if (hmac != NULL && EVP_MAC_init(hmac, no_key, sizeof(no_key), NULL) != 1)
	{
		EVP_MAC_CTX_free(hmac);
		hmac = NULL;
	}
}

bool
leyser_signature_hs256(const LeyserTokenKey *key, const char *data, size_t len,
					   unsigned char mac[LEYSER_HS256_LEN])
{
	size_t mac_len = 0;
	bool ok;

	if (hmac == NULL)
		hmac = hmac_create();
	ok = hmac != NULL && EVP_MAC_init(hmac, key->secret, LEYSER_SECRET_LEN, NULL) == 1 &&
		 EVP_MAC_update(hmac, (const unsigned char *) data, len) == 1 &&
		 EVP_MAC_final(hmac, mac, &mac_len, LEYSER_HS256_LEN) == 1 &&
		 mac_len == LEYSER_HS256_LEN;
	hmac_forget_key();
	if (!ok)
		ERR_clear_error();
	return ok;
}

/* JWS has r and s as 32 bytes each (RFC 7518 section 3.4), OpenSSL wants DER. */
static unsigned char *
es256_to_der(const unsigned char *raw, int *der_len)
{
	ECDSA_SIG *pair = ECDSA_SIG_new();
	BIGNUM *r = BN_bin2bn(raw, ES256_HALF, NULL);
	BIGNUM *s = BN_bin2bn(raw + ES256_HALF, ES256_HALF, NULL);
	unsigned char *der = NULL;

	*der_len = -1;
	if (pair == NULL || r == NULL || s == NULL || ECDSA_SIG_set0(pair, r, s) != 1)
	{
		BN_free(r);
		BN_free(s);
	}
	else
		*der_len = i2d_ECDSA_SIG(pair, &der);
	ECDSA_SIG_free(pair);
	return der;
}

static bool
public_key_verifies(EVP_PKEY *public_key, const EVP_MD *digest, const char *data,
					size_t len, const unsigned char *signature, size_t signature_len)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok;

	ok = ctx != NULL && EVP_DigestVerifyInit(ctx, NULL, digest, NULL, public_key) == 1 &&
		 EVP_DigestVerify(ctx, signature, signature_len, (const unsigned char *) data,
						  len) == 1;
	EVP_MD_CTX_free(ctx);
	ERR_clear_error();
	return ok;
}

static bool
public_signature_is_right(const LeyserTokenKey *key, const char *data, size_t len,
						  const unsigned char *signature, size_t signature_len)
{
	unsigned char *der;
	int der_len;
	bool ok;

	switch (key->algorithm)
	{
		case LEYSER_EDDSA:
			return signature_len == ED25519_LEN &&
				   public_key_verifies(key->public_key, NULL, data, len, signature,
									   signature_len);
		case LEYSER_RS256:
			return public_key_verifies(key->public_key, EVP_sha256(), data, len,
									   signature, signature_len);
		case LEYSER_ES256:
			if (signature_len != 2 * ES256_HALF)
				return false;
			der = es256_to_der(signature, &der_len);
			ok = der_len > 0 && public_key_verifies(key->public_key, EVP_sha256(), data,
													len, der, (size_t) der_len);
			OPENSSL_free(der);
			return ok;
		case LEYSER_HS256:
			break;
	}
	return false;
}

bool
leyser_signature_is_right(const LeyserTokenKey *key, const char *data, size_t len,
						  const unsigned char *signature, size_t signature_len)
{
	unsigned char mac[LEYSER_HS256_LEN];

	if (key->algorithm != LEYSER_HS256)
		return key->public_key != NULL &&
			   public_signature_is_right(key, data, len, signature, signature_len);
	return signature_len == LEYSER_HS256_LEN &&
		   leyser_signature_hs256(key, data, len, mac) &&
		   CRYPTO_memcmp(mac, signature, LEYSER_HS256_LEN) == 0;
}

/* OpenSSL must never ask the terminal for a pass phrase. */
static int
no_pass_phrase(char *buf, int size, int rwflag, void *data)
{
	return -1;
}

/* NULL where pem is exactly one block of the kind "PUBLIC KEY". */
static const char *
pem_problem(const char *pem)
{
	static const char begin[] = "-----BEGIN PUBLIC KEY-----";
	static const char end[] = "-----END PUBLIC KEY-----";
	const char *rest;

	if (strstr(pem, "PRIVATE KEY") != NULL)
		return "It is a private key; give the public key, and treat the private one as "
			   "known to others.";
	if (strstr(pem, "BEGIN CERTIFICATE") != NULL)
		return "It is a certificate; give the public key in it.";
	if (strstr(pem, "BEGIN RSA PUBLIC KEY") != NULL)
		return "It is a key in PKCS #1 form; give it as \"PUBLIC KEY\".";
	pem += strspn(pem, " \t\r\n");
	if (strncmp(pem, begin, strlen(begin)) != 0)
		return "It is not a PEM block \"PUBLIC KEY\".";
	rest = strstr(pem, end);
	if (rest == NULL)
		return "The PEM block has no end.";
	rest += strlen(end);
	if (rest[strspn(rest, " \t\r\n")] != '\0')
		return "There is something behind the PEM block.";
	return NULL;
}

static const char *
rsa_problem(EVP_PKEY *public_key)
{
	int bits = EVP_PKEY_get_bits(public_key);

	if (bits < RSA_BITS_MIN)
		return "An RSA key must have at least 2048 bits.";
	if (bits > RSA_BITS_MAX)
		return "An RSA key must have at most 8192 bits.";
	return NULL;
}

static const char *
ec_problem(EVP_PKEY *public_key)
{
	char group[64];
	size_t len;

	if (EVP_PKEY_get_group_name(public_key, group, sizeof(group), &len) != 1 ||
		strcmp(group, SN_X9_62_prime256v1) != 0)
		return "An elliptic curve key must be on curve P-256.";
	return NULL;
}

/* Checks the point or the modulus and exponent too (an exponent of 1 signs all). */
static const char *
public_key_is_sound(EVP_PKEY *public_key)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(public_key, NULL);
	bool ok = ctx != NULL && EVP_PKEY_public_check(ctx) == 1;

	EVP_PKEY_CTX_free(ctx);
	return ok ? NULL : "The key's numbers are not those of a sound key.";
}

static const char *
public_key_problem(EVP_PKEY *public_key, LeyserTokenAlgorithm *algorithm)
{
	const char *problem = NULL;

	if (EVP_PKEY_is_a(public_key, "ED25519"))
	{
		*algorithm = LEYSER_EDDSA;
		return NULL;
	}
	if (EVP_PKEY_is_a(public_key, "EC"))
	{
		*algorithm = LEYSER_ES256;
		problem = ec_problem(public_key);
	}
	else if (EVP_PKEY_is_a(public_key, "RSA"))
	{
		*algorithm = LEYSER_RS256;
		problem = rsa_problem(public_key);
	}
	else
		return "It must be an Ed25519, P-256 or RSA key.";
	return problem != NULL ? problem : public_key_is_sound(public_key);
}

EVP_PKEY *
leyser_token_read_public_key(const char *pem, LeyserTokenAlgorithm *algorithm,
							 const char **reason)
{
	EVP_PKEY *public_key = NULL;
	BIO *bio;

	*reason = pem_problem(pem);
	if (*reason != NULL)
		return NULL;
	bio = BIO_new_mem_buf(pem, -1);
	if (bio != NULL)
		public_key = PEM_read_bio_PUBKEY(bio, NULL, no_pass_phrase, NULL);
	BIO_free(bio);
	if (public_key == NULL)
		*reason = "The PEM block cannot be read.";
	else
		*reason = public_key_problem(public_key, algorithm);
	ERR_clear_error();
	if (*reason == NULL)
		return public_key;
	EVP_PKEY_free(public_key);
	return NULL;
}
