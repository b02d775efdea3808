/*
 * attack.c
 *		Trying to reach another tenant's rows as a role would: the caller's side.
 *
 * The attempts are scripts (sql/attack.sql).  Each has a background worker of its own,
 * which is connected as the role and is to the server what the role's own session is:
 * no function with more rights, no SET ROLE, nothing left from another attempt.  The
 * caller hands over the steps and waits.  What comes back is how it ended, a SQLSTATE
 * and a count: no value of a row, no message.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "attack.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "cache.h"
#include "compat.h"
#include "context.h"
#include "errand.h"

PG_FUNCTION_INFO_V1(leyser_attack_as);
PG_FUNCTION_INFO_V1(leyser_attack_token);

static dsm_segment *
attack_make(Oid role, ArrayType *steps)
{
	Size size = offsetof(Attack, text);
	dsm_segment *segment;
	Attack *attack;
	Datum *values;
	char *place;
	int count;

	deconstruct_array(steps, TEXTOID, -1, false, TYPALIGN_INT, &values, NULL, &count);
	for (int i = 0; i < count; i++)
		size = add_size(size, VARSIZE_ANY_EXHDR(DatumGetTextPP(values[i])) + 1);
	segment = dsm_create(size, 0);
	attack = dsm_segment_address(segment);
	memset(attack, 0, offsetof(Attack, text));
	attack->database = MyDatabaseId;
	attack->role = role;
	attack->count = count;
	place = attack->text;
	for (int i = 0; i < count; i++)
	{
		text_to_cstring_buffer(DatumGetTextPP(values[i]), place, size);
		place += strlen(place) + 1;
	}
	return segment;
}

static const char *
attack_outcome_word(AttackOutcome outcome)
{
	switch (outcome)
	{
		case ATTACK_UNREADY:
			return "unready";
		case ATTACK_HELD:
			return "held";
		case ATTACK_HOLE:
			return "hole";
		default:
			return "no answer";
	}
}

static Datum
attack_answer(FunctionCallInfo fcinfo, const Attack *attack)
{
	TupleDesc desc;
	Datum values[5];
	bool nulls[5] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	nulls[1] = attack->step == 0;
	nulls[2] = attack->sqlstate == 0;
	nulls[3] = attack->routine[0] == '\0';
	nulls[4] = attack->outcome != ATTACK_HOLE;
	values[0] = CStringGetTextDatum(attack_outcome_word(attack->outcome));
	values[1] = Int32GetDatum(attack->step);
	values[2] = CStringGetTextDatum(unpack_sql_state(attack->sqlstate));
	values[3] = CStringGetTextDatum(attack->routine);
	values[4] = Int64GetDatum(attack->value);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* attack_as(role regrole, steps text[]) → (outcome, step, sqlstate, routine, value) */
Datum
leyser_attack_as(PG_FUNCTION_ARGS)
{
	dsm_segment *segment;
	Datum answer;

	leyser_require_preloaded();
	PreventCommandDuringRecovery("leyser.attack_as()");
	segment = attack_make(PG_GETARG_OID(0), PG_GETARG_ARRAYTYPE_P(1));
	leyser_errand_run("leyser_attack_main", "leyser attack worker", segment);
	answer = attack_answer(fcinfo, dsm_segment_address(segment));
	explicit_bzero(dsm_segment_address(segment), dsm_segment_map_length(segment));
	dsm_detach(segment);
	PG_RETURN_DATUM(answer);
}

/* ---- tokens that nobody may accept, but well signed ---- */

static char *
attack_sign(const char *kind, const LeyserClaims *claims)
{
	TimestampTz now = GetCurrentTimestamp();
	LeyserTokenError error;
	LeyserTokenKey key;
	const LeyserTokenKey *own;
	char *token;

	leyser_cache_catch_up();
	own = leyser_cache_signing_key(&error);
	if (own == NULL)
		leyser_context_raise(&error);
	key = *own;
	if (strcmp(kind, "other database") == 0)
		key.audience = "00000000-0000-0000-0000-000000000000";
	else if (strcmp(kind, "expired") == 0)
		now -= USECS_PER_HOUR;
	else
		elog(ERROR, "unknown kind of token: \"%s\"", kind);
	token = leyser_token_sign(&key, claims, now);
	explicit_bzero(&key, sizeof(key));
	return token;
}

/* What the setting holds once it is set, which only parallel workers are to accept. */
static char *
attack_worker_form(LeyserClaims *claims)
{
	union
	{
		LeyserContext context;
		char bytes[LEYSER_CONTEXT_MAX];
	} built;
	char *value = leyser_guc_malloc(1);
	void *extra = NULL;
	char *result;

	if (value == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	value[0] = '\0';
	strlcpy(claims->key_id, "own", sizeof(claims->key_id));
	leyser_context_build(&built.context, claims, InvalidLocalTransactionId);
	if (!leyser_context_encode(&value, &extra, &built.context))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	result = pstrdup(value);
	leyser_guc_free(value);
	leyser_guc_free(extra);
	return result;
}

/* attack_token(kind text, tenant_id text) → text */
Datum
leyser_attack_token(PG_FUNCTION_ARGS)
{
	char *kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
	LeyserClaims claims;

	leyser_require_preloaded();
	memset(&claims, 0, sizeof(LeyserClaims));
	claims.tenant = text_to_cstring(PG_GETARG_TEXT_PP(1));
	claims.own = true;
	/* ten minutes after the moment that the kind has it signed at */
	claims.expires_at = GetCurrentTimestamp() + 10 * USECS_PER_MINUTE;
	if (strcmp(kind, "parallel worker") == 0)
		PG_RETURN_TEXT_P(cstring_to_text(attack_worker_form(&claims)));
	if (strcmp(kind, "expired") == 0)
		claims.expires_at -= USECS_PER_HOUR;
	PG_RETURN_TEXT_P(cstring_to_text(attack_sign(kind, &claims)));
}
