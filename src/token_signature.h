/*
 * token_signature.h
 *		Signatures of tokens: HS256, EdDSA (Ed25519), ES256, RS256.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_TOKEN_SIGNATURE_H
#define LEYSER_TOKEN_SIGNATURE_H

#include "token.h"

#define LEYSER_HS256_LEN 32
#define LEYSER_SIGNATURE_MAX 1024 /* bytes: RSA of 8192 bits */

extern void leyser_signature_init(void);

/*
 * Whether a signature, decoded, is the key's over these bytes: the token up to
 * its second dot.  Never raises.
 */
extern bool leyser_signature_is_right(const LeyserTokenKey *key, const char *data,
									  size_t len, const unsigned char *signature,
									  size_t signature_len);

/* False only where OpenSSL fails. */
extern bool leyser_signature_hs256(const LeyserTokenKey *key, const char *data,
								   size_t len, unsigned char mac[LEYSER_HS256_LEN]);

#endif /* LEYSER_TOKEN_SIGNATURE_H */
