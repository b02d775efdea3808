/*
 * token_memory.h
 *		Tokens that this backend has verified before.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_TOKEN_MEMORY_H
#define LEYSER_TOKEN_MEMORY_H

#include "token.h"

/*
 * What a token of exactly this text was found to claim, and by which key; NULL
 * where it is not remembered.  Good until the next call into this module.
 */
extern const LeyserClaims *leyser_token_recall(const char *token,
											   const LeyserTokenKey **key);

/* Remembers a token whose signature and claims this key bears out. */
extern void leyser_token_remember(const char *token, const LeyserTokenKey *key,
								  const LeyserClaims *claims);

#endif /* LEYSER_TOKEN_MEMORY_H */
