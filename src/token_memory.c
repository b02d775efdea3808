/*
 * token_memory.c
 *		Tokens that this backend has verified before.
 *
 * An application sends the same token for minutes, once a transaction.  So a
 * backend remembers what a token claims, by the token's whole text and the key
 * object that verified it: nothing that an attacker could make to look alike.
 * Times are not remembered as right but judged anew at each use, and so is the
 * key: whoever recalls a token looks the key up again and takes the claims only
 * if it is still the same object.  All is forgotten before a key is freed
 * (leyser_token_forget()), so no other key can have come to its address.
 *
 * The memory is a table of fixed size; a newer token takes an older one's
 * place.  Texts are wiped when they go.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "token_memory.h"

#include <openssl/crypto.h>

#include "common/hashfn.h"
#include "utils/memutils.h"

#define SEEN_MAX 128
#define SEEN_TOKEN_MAX 4096 /* longer tokens are verified each time */
#define SEEN_TAIL 16        /* the signature's end tells tokens apart */

typedef struct SeenToken
{
	const LeyserTokenKey *key; /* NULL: free */
	char *text;                /* the token; behind it tenant and account */
	Size length;               /* of the token */
	Size size;                 /* of all of them */
	LeyserClaims claims;
} SeenToken;

static MemoryContext seen_context = NULL;
static SeenToken seen[SEEN_MAX];

static SeenToken *
memory_place(const char *token, Size length)
{
	Size tail = Min(length, SEEN_TAIL);

	return &seen[hash_bytes((const unsigned char *) token + length - tail, tail) %
				 SEEN_MAX];
}

static void
memory_clear(SeenToken *place)
{
	if (place->key == NULL)
		return;
	place->key = NULL;
	explicit_bzero(place->text, place->size);
	pfree(place->text);
}

void
leyser_token_forget(void)
{
	for (int i = 0; i < SEEN_MAX; i++)
		memory_clear(&seen[i]);
}

const LeyserClaims *
leyser_token_recall(const char *token, const LeyserTokenKey **key)
{
	Size length = strnlen(token, SEEN_TOKEN_MAX + 1);
	SeenToken *place = memory_place(token, length);

	/* in constant time: the text that is remembered is a secret */
	if (place->key == NULL || place->length != length ||
		CRYPTO_memcmp(place->text, token, length) != 0)
		return NULL;
	*key = place->key;
	return &place->claims;
}

void
leyser_token_remember(const char *token, const LeyserTokenKey *key,
					  const LeyserClaims *claims)
{
	Size length = strnlen(token, SEEN_TOKEN_MAX + 1);
	Size tenant_size = strlen(claims->tenant) + 1;
	Size account_size = claims->account ? strlen(claims->account) + 1 : 0;
	SeenToken *place = memory_place(token, length);
	char *text;

	if (length > SEEN_TOKEN_MAX)
		return;
	memory_clear(place);
	if (seen_context == NULL)
		seen_context = AllocSetContextCreate(TopMemoryContext, "leyser verified tokens",
											 ALLOCSET_SMALL_SIZES);
	place->size = length + 1 + tenant_size + account_size;
	text = MemoryContextAlloc(seen_context, place->size);
	place->text = text;
	place->length = length;
	place->claims = *claims;
	memcpy(text, token, length + 1);
	place->claims.tenant = memcpy(text + length + 1, claims->tenant, tenant_size);
	if (claims->account)
		place->claims.account =
			memcpy(text + length + 1 + tenant_size, claims->account, account_size);
	place->key = key;
}
