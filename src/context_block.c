/*
 * context_block.c
 *		What a verified token says, as one flat block.
 *
 * The block is the "extra" of leyser.token.  Parallel workers get it through
 * the setting's value, which is the block in base64: it is accepted only while
 * a worker restores its leader's settings, so it needs no signature.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "context.h"

#include "common/base64.h"

#include "compat.h"

#define WORKER_PREFIX "leyser-context:"

static uint32
context_append(LeyserContext *context, const char *string)
{
	uint32 offset = context->size;
	Size length = strlen(string) + 1;

	memcpy((char *) context + offset, string, length);
	context->size += length;
	return offset;
}

/* Builds the block in a caller's buffer of LEYSER_CONTEXT_MAX bytes. */
void
leyser_context_build(LeyserContext *context, const LeyserClaims *claims,
					 LocalTransactionId lxid)
{
	memset(context, 0, sizeof(LeyserContext));
	context->size = sizeof(LeyserContext);
	context->lxid = lxid;
	context->expires_at = claims->expires_at;
	context->account_id = claims->account_id;
	context->issued_at =
		claims->account_id == 0 && !TIMESTAMP_IS_NOBEGIN(claims->issued_at)
			? claims->issued_at
			: DT_NOEND;
	context->own = claims->own;
	context->has_session = claims->has_session;
	if (claims->has_session)
		context->session = claims->session;
	context->tenant = context_append(context, claims->tenant);
	if (claims->account)
		context->account = context_append(context, claims->account);
	context->key_id = context_append(context, claims->key_id);
}

bool
leyser_context_same_identity(const LeyserContext *a, const LeyserContext *b)
{
	if (strcmp(leyser_context_string(a, tenant), leyser_context_string(b, tenant)) != 0)
		return false;
	if ((a->account == 0) != (b->account == 0) || a->account_id != b->account_id)
		return false;
	return a->account == 0 || strcmp(leyser_context_string(a, account),
									 leyser_context_string(b, account)) == 0;
}

/* Takes over the leader's context in a parallel worker that is starting. */
bool
leyser_context_decode(const char *value, void **extra)
{
	Size prefix = strlen(WORKER_PREFIX);
	LeyserContext *context;
	int length;

	if (strncmp(value, WORKER_PREFIX, prefix) != 0)
		return false;
	context = leyser_guc_malloc(LEYSER_CONTEXT_MAX);
	if (context == NULL)
		return false;
	length = pg_b64_decode(value + prefix, strlen(value) - prefix, (void *) context,
						   LEYSER_CONTEXT_MAX);
	if (length < (int) sizeof(LeyserContext) || context->size != (uint32) length)
	{
		leyser_guc_free(context);
		return false;
	}
	*extra = context;
	return true;
}

/* Replaces the token by its claims; false only when out of memory. */
bool
leyser_context_encode(char **newval, void **extra, const LeyserContext *context)
{
	Size prefix = strlen(WORKER_PREFIX);
	int space = pg_b64_enc_len(context->size);
	char *value = leyser_guc_malloc(prefix + space + 1);
	void *copy = leyser_guc_malloc(context->size);
	int length = -1;

	if (value && copy)
	{
		memcpy(value, WORKER_PREFIX, prefix);
		length =
			pg_b64_encode((const void *) context, context->size, value + prefix, space);
	}
	if (length < 0)
	{
		if (value)
			leyser_guc_free(value);
		if (copy)
			leyser_guc_free(copy);
		return false;
	}
	value[prefix + length] = '\0';
	memcpy(copy, context, context->size);
	explicit_bzero(*newval, strlen(*newval));
	leyser_guc_free(*newval);
	*newval = value;
	*extra = copy;
	return true;
}
