/*
 * token_claims.h
 *		What a token claims, judged once its signature is known to be right.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_TOKEN_CLAIMS_H
#define LEYSER_TOKEN_CLAIMS_H

#include "token.h"
#include "token_json.h"

/* Seconds from 1970, JWT's epoch, to 2000, PostgreSQL's. */
#define LEYSER_EPOCH_DIFFERENCE                                                          \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY)

/* Fills in LY002; always false, to be returned. */
extern bool leyser_token_refuse(LeyserTokenError *error, const char *message,
								const char *detail, const char *hint);

/*
 * False and *error filled where the key does not bear out the claims or their
 * time is wrong.  The strings in *claims are the payload's and the key's own.
 */
extern bool leyser_claims_read(const LeyserTokenKey *key, const LeyserJsonObject *payload,
							   const LeyserTokenLimits *limits, LeyserClaims *claims,
							   LeyserTokenError *error);

/* False and *error filled where the claims count no longer, or not yet. */
extern bool leyser_claims_are_timely(const LeyserClaims *claims,
									 const LeyserTokenLimits *limits,
									 LeyserTokenError *error);

#endif /* LEYSER_TOKEN_CLAIMS_H */
