/*
 * token.h
 *		JSON Web Tokens (RFC 7519, 7515): verify and sign.  Knows no SQL.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_TOKEN_H
#define LEYSER_TOKEN_H

#include "leyser.h"

#include <openssl/evp.h>

#include "datatype/timestamp.h"
#include "keyring.h"
#include "utils/uuid.h"

#define LEYSER_TOKEN_MAX 8192 /* bytes of a whole token */

typedef enum LeyserTokenAlgorithm
{
	LEYSER_HS256, /* own keys only */
	LEYSER_EDDSA, /* Ed25519 */
	LEYSER_ES256,
	LEYSER_RS256
} LeyserTokenAlgorithm;

/*
 * A key and what it may speak for.  The key decides the algorithm; what the
 * token's header says must agree with it.
 */
typedef struct LeyserTokenKey
{
	char key_id[LEYSER_KEY_ID_MAX + 1];
	LeyserTokenAlgorithm algorithm;
	bool own;                                /* from our keyring: sub and sid are ours */
	unsigned char secret[LEYSER_SECRET_LEN]; /* HS256 */
	EVP_PKEY *public_key;                    /* the others */
	const char *issuer;                      /* must equal iss; NULL for own keys */
	const char *audience;                    /* must be among aud; never NULL */
	const char *tenant_id;                   /* speaks for this tenant only, or NULL */
	const char *tenant_claim;                /* names the tenant; NULL: "tenant" */
} LeyserTokenKey;

/* Strings are palloc'd in the caller's context. */
typedef struct LeyserClaims
{
	char *tenant;     /* 1..LEYSER_NAME_MAX_CHARS characters */
	char *account;    /* sub, or NULL */
	int64 account_id; /* own keys only, with sub; 0: none */
	bool has_session; /* sid, own keys only */
	pg_uuid_t session;
	bool own;               /* signed by an own key: no leeway for exp */
	TimestampTz expires_at; /* exp */
	TimestampTz not_before; /* nbf, or DT_NOBEGIN; not used in signing */
	TimestampTz issued_at;  /* iat, likewise */
	char key_id[LEYSER_KEY_ID_MAX + 1];
} LeyserClaims;

typedef struct LeyserTokenError
{
	int sqlerrcode;    /* LY002 or LY003 */
	char message[160]; /* never any part of the token */
	char detail[256];
	char log_detail[MAXPGPATH + 256]; /* may name paths: server log */
	char hint[MAXPGPATH + 256];
} LeyserTokenError;

/* Finds the key for a kid; NULL and *error filled where there is none. */
typedef const LeyserTokenKey *(*LeyserKeyLookup)(const char *key_id,
												 LeyserTokenError *error);

typedef struct LeyserTokenLimits
{
	TimestampTz now;
	int64 leeway_us;       /* leyser.clock_leeway; not for the end of own tokens */
	int64 max_lifetime_us; /* leyser.max_token_lifetime */
} LeyserTokenLimits;

extern void leyser_token_init(void);

/*
 * Drops what this backend remembers of verified tokens.  To be called before
 * keys that lookups returned are freed.
 */
extern void leyser_token_forget(void);

/*
 * False and *error filled for every token that is not in order; raises only
 * where memory runs out, or where lookup does.  Of one that has expired (LY003) claims
 * are filled all the same.
 */
extern bool leyser_token_verify(const char *token, LeyserKeyLookup lookup,
								const LeyserTokenLimits *limits, LeyserClaims *claims,
								LeyserTokenError *error);

/* Signs with an own key: palloc'd token; raises only where OpenSSL fails. */
extern char *leyser_token_sign(const LeyserTokenKey *key, const LeyserClaims *claims,
							   TimestampTz now);

/*
 * From when on a token is expired.  The clocks of issuers may differ from ours; an
 * own token, and with it a session or support access, ends by the clock it began by.
 */
static inline TimestampTz
leyser_token_end(bool own, TimestampTz expires_at, const LeyserTokenLimits *limits)
{
	return own ? expires_at : expires_at + limits->leeway_us;
}

/*
 * Reads a PEM public key (SPKI; never a private one) and tells its algorithm;
 * NULL and *reason (a static sentence) where it is none that we accept.
 */
extern EVP_PKEY *leyser_token_read_public_key(const char *pem,
											  LeyserTokenAlgorithm *algorithm,
											  const char **reason);

#endif /* LEYSER_TOKEN_H */
