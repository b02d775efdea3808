/*
 * fuzz_token.c
 *		Lets test/fuzz/fuzz.py call the token and keyring code without the rest
 *		of leyser: keys are given by hand, the clock too.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "leyser.h"

#include "fmgr.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "encoding.h"
#include "keyring.h"
#include "token.h"

PG_MODULE_MAGIC;

#define KEYS_MAX 32

bool leyser_preloaded = true;
static LeyserTokenKey *keys[KEYS_MAX];

extern PGDLLEXPORT void _PG_init(void);

PG_FUNCTION_INFO_V1(fuzz_key);
PG_FUNCTION_INFO_V1(fuzz_verify);
PG_FUNCTION_INFO_V1(fuzz_sign);
PG_FUNCTION_INFO_V1(fuzz_cost);
PG_FUNCTION_INFO_V1(fuzz_forget);

void
leyser_require_preloaded(void)
{
}

void
_PG_init(void)
{
	leyser_keyring_init();
	leyser_token_init();
}

static char *
argument(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(number));
}

static char *
lasting(const char *text)
{
	return text == NULL ? NULL : MemoryContextStrdup(TopMemoryContext, text);
}

static const LeyserTokenKey *
lookup(const char *key_id, LeyserTokenError *error)
{
	for (int i = 0; i < KEYS_MAX; i++)
		if (keys[i] != NULL && strcmp(keys[i]->key_id, key_id) == 0)
			return keys[i];
	memset(error, 0, sizeof(*error));
	error->sqlerrcode = LEYSER_ERRCODE_TOKEN_REFUSED;
	strlcpy(error->message, "unknown key", sizeof(error->message));
	return NULL;
}

/* fuzz_key(key_id, secret hex or PEM, issuer, audience, tenant_id, tenant_claim) → text */
Datum
fuzz_key(PG_FUNCTION_ARGS)
{
	LeyserTokenKey *key = MemoryContextAllocZero(TopMemoryContext, sizeof(*key));
	char *material = argument(fcinfo, 1);
	const char *reason;
	int place = 0;

	strlcpy(key->key_id, argument(fcinfo, 0), sizeof(key->key_id));
	key->issuer = lasting(argument(fcinfo, 2));
	key->audience = lasting(argument(fcinfo, 3));
	key->tenant_id = lasting(argument(fcinfo, 4));
	key->tenant_claim = lasting(argument(fcinfo, 5));
	key->own = strlen(material) == 2 * LEYSER_SECRET_LEN &&
			   leyser_hex_decode(material, LEYSER_SECRET_LEN, key->secret);
	key->algorithm = LEYSER_HS256;
	if (!key->own)
	{
		key->public_key =
			leyser_token_read_public_key(material, &key->algorithm, &reason);
		if (key->public_key == NULL)
			PG_RETURN_TEXT_P(cstring_to_text(reason));
	}
	while (keys[place] != NULL && strcmp(keys[place]->key_id, key->key_id) != 0)
		place++;
	if (keys[place] != NULL)
		EVP_PKEY_free(keys[place]->public_key);
	keys[place] = key;
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("algorithm %d", (int) key->algorithm)));
}

static bool
verify(const char *token, TimestampTz now, LeyserClaims *claims, LeyserTokenError *error)
{
	LeyserTokenLimits limits = {now, 30 * USECS_PER_SEC, 86400 * USECS_PER_SEC};

	return leyser_token_verify(token, lookup, &limits, claims, error);
}

/* fuzz_verify(token, now) → "ok|tenant|account|session" or "SQLSTATE|message|detail" */
Datum
fuzz_verify(PG_FUNCTION_ARGS)
{
	LeyserClaims claims;
	LeyserTokenError error;
	char session[LEYSER_UUID_TEXT_LEN + 1] = "";

	if (!verify(argument(fcinfo, 0), PG_GETARG_TIMESTAMPTZ(1), &claims, &error))
		PG_RETURN_TEXT_P(
			cstring_to_text(psprintf("%s|%s|%s", unpack_sql_state(error.sqlerrcode),
									 error.message, error.detail)));
	if (claims.has_session)
		leyser_uuid_to_text(&claims.session, session);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf(
		"ok|%s|%s|%s", claims.tenant, claims.account ? claims.account : "", session)));
}

/* fuzz_sign(key_id, tenant, account, now, expires_at) → token with a session id */
Datum
fuzz_sign(PG_FUNCTION_ARGS)
{
	LeyserTokenError error;
	LeyserClaims claims = {0};

	claims.tenant = argument(fcinfo, 1);
	claims.account = argument(fcinfo, 2);
	claims.account_id = claims.account != NULL ? 7 : 0;
	claims.has_session = claims.account != NULL;
	memset(claims.session.data, 0xab, UUID_LEN);
	claims.expires_at = PG_GETARG_TIMESTAMPTZ(4);
	PG_RETURN_TEXT_P(cstring_to_text(leyser_token_sign(
		lookup(argument(fcinfo, 0), &error), &claims, PG_GETARG_TIMESTAMPTZ(3))));
}

/* fuzz_cost(token, rounds) → nanoseconds of one verification */
Datum
fuzz_cost(PG_FUNCTION_ARGS)
{
	char *token = argument(fcinfo, 0);
	int rounds = PG_GETARG_INT32(1);
	TimestampTz now = GetCurrentTimestamp();
	instr_time start;
	instr_time end;

	INSTR_TIME_SET_CURRENT(start);
	for (int i = 0; i < rounds; i++)
	{
		LeyserClaims claims;
		LeyserTokenError error;

		if (!verify(token, now, &claims, &error))
			elog(ERROR, "%s", error.message);
		pfree(claims.tenant);
	}
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	PG_RETURN_FLOAT8(INSTR_TIME_GET_MICROSEC(end) * 1000.0 / rounds);
}

Datum
fuzz_forget(PG_FUNCTION_ARGS)
{
	leyser_token_forget();
	PG_RETURN_VOID();
}
