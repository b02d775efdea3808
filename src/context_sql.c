/*
 * context_sql.c
 *		The SQL functions of the context: getters, enter, leave, issue_token.
 *
 * The getters run once a row.  They return what leyser_context_check() left in
 * leyser_context_values, which every statement makes them check anew; see
 * context.c.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "context.h"

#include "commands/trigger.h"
#include "common/int.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "cache.h"
#include "event.h"

PG_FUNCTION_INFO_V1(leyser_tenant_id);
PG_FUNCTION_INFO_V1(leyser_tenant_id_int8);
PG_FUNCTION_INFO_V1(leyser_tenant_id_uuid);
PG_FUNCTION_INFO_V1(leyser_account_name);
PG_FUNCTION_INFO_V1(leyser_context_account_id);
PG_FUNCTION_INFO_V1(leyser_session_id);
PG_FUNCTION_INFO_V1(leyser_context_status);
PG_FUNCTION_INFO_V1(leyser_in_context);
PG_FUNCTION_INFO_V1(leyser_refuse_shared_write);
PG_FUNCTION_INFO_V1(leyser_enter);
PG_FUNCTION_INFO_V1(leyser_leave);
PG_FUNCTION_INFO_V1(leyser_issue_token);
PG_FUNCTION_INFO_V1(leyser_tenant_id_problem);

/* True where the values are (now) valid; false where they are to be hidden. */
static inline bool
values_ready(void)
{
	return likely(leyser_context_values.checked) || leyser_context_require();
}

static void
refuse_type(const char *type)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			 errmsg("the context's tenant id is not a canonical %s", type),
			 errdetail("A table that keeps tenant ids as %s is not for tenants "
					   "whose id is not the canonical text of that type.",
					   type),
			 errhint("Use the getter that fits the tenant ids: leyser.tenant_id(), "
					 "leyser.tenant_id_int8() or leyser.tenant_id_uuid().")));
}

Datum
leyser_tenant_id(PG_FUNCTION_ARGS)
{
	if (!values_ready())
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(leyser_context_values.tenant);
}

Datum
leyser_tenant_id_int8(PG_FUNCTION_ARGS)
{
	if (!values_ready())
		PG_RETURN_NULL();
	if (unlikely(!leyser_context_values.has_int8))
		refuse_type("bigint");
	PG_RETURN_INT64(leyser_context_values.as_int8);
}

Datum
leyser_tenant_id_uuid(PG_FUNCTION_ARGS)
{
	if (!values_ready())
		PG_RETURN_NULL();
	if (unlikely(!leyser_context_values.has_uuid))
		refuse_type("uuid");
	PG_RETURN_UUID_P(leyser_context_values.as_uuid);
}

Datum
leyser_account_name(PG_FUNCTION_ARGS)
{
	if (!values_ready() || leyser_context_values.account == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(leyser_context_values.account);
}

/* context_account_id() → bigint: NULL without an account */
Datum
leyser_context_account_id(PG_FUNCTION_ARGS)
{
	if (!values_ready() || leyser_context_values.account_id == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(leyser_context_values.account_id);
}

Datum
leyser_session_id(PG_FUNCTION_ARGS)
{
	if (!values_ready() || leyser_context_values.session == NULL)
		PG_RETURN_NULL();
	PG_RETURN_UUID_P(leyser_context_values.session);
}

/*
 * Trigger of shared tables.  A context that was left counts, and so does a role
 * that works for tenants without one: else hostile SQL would leave it first.
 */
Datum
leyser_refuse_shared_write(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	leyser_require_preloaded();
	if (!CALLED_AS_TRIGGER(fcinfo))
		elog(ERROR, "leyser.refuse_shared_write is a trigger");
	leyser_cache_catch_up();
	if (leyser_context_is_set() || leyser_context_is_bound() ||
		leyser_cache_role_is_restricted(GetSessionUserId()) ||
		leyser_cache_role_is_restricted(GetUserId()))
		ereport(ERROR,
				(errcode(LEYSER_ERRCODE_GUARD_REFUSED),
				 errmsg("table \"%s\" is shared by all tenants",
						RelationGetRelationName(trigger->tg_relation)),
				 errdetail("Nobody writes to a shared table in a context, nor do roles "
						   "with usage application or gateway."),
				 errhint("Write to it outside of a context, as a role that may.")));
	return PointerGetDatum(NULL);
}

/* Whether a context is set or was in this transaction; raises and checks nothing. */
Datum
leyser_in_context(PG_FUNCTION_ARGS)
{
	leyser_require_preloaded();
	PG_RETURN_BOOL(leyser_context_is_set() || leyser_context_is_bound());
}

/* ---- context_status ---- */

static void
status_fill_context(const LeyserContext *context, Datum *values, bool *nulls)
{
	values[1] = CStringGetTextDatum(leyser_context_string(context, tenant));
	nulls[1] = false;
	if (context->account)
	{
		values[2] = CStringGetTextDatum(leyser_context_string(context, account));
		nulls[2] = false;
	}
	if (context->has_session)
	{
		values[3] = UUIDPGetDatum(&context->session);
		nulls[3] = false;
	}
	values[4] = TimestampTzGetDatum(context->expires_at);
	nulls[4] = false;
}

static const char *
status_word(int sqlerrcode)
{
	switch (sqlerrcode)
	{
		case LEYSER_ERRCODE_NO_CONTEXT:
			return "none";
		case LEYSER_ERRCODE_TOKEN_EXPIRED:
			return "expired";
		case LEYSER_ERRCODE_TENANT_NOT_ACTIVE:
			return "tenant not active";
		case LEYSER_ERRCODE_SESSION_ENDED:
			return "ended";
		default:
			return "refused";
	}
}

/*
 * One row: state, tenant_id, account_name, session_id, expires_at, sqlstate,
 * detail, hint.  Tells why a query sees nothing, without raising; never the
 * token.
 */
Datum
leyser_context_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const LeyserContext *context;
	LeyserTokenError error;
	Datum values[8];
	bool nulls[8];

	leyser_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	memset(nulls, true, sizeof(nulls));
	context = leyser_context_current();
	if (context)
		status_fill_context(context, values, nulls);
	nulls[0] = false;
	if (leyser_context_check(&error))
		values[0] = CStringGetTextDatum("set");
	else
	{
		values[0] = CStringGetTextDatum(status_word(error.sqlerrcode));
		values[5] = CStringGetTextDatum(unpack_sql_state(error.sqlerrcode));
		values[6] = CStringGetTextDatum(error.detail);
		values[7] = CStringGetTextDatum(error.hint);
		nulls[5] = nulls[6] = nulls[7] = false;
	}
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	return (Datum) 0;
}

/* ---- names ---- */

/* NULL where a text may be a tenant id or account name, else why not. */
static const char *
name_problem(const char *name)
{
	int characters = pg_mbstrlen(name);

	if (characters == 0)
		return "It is empty.";
	if (characters > LEYSER_NAME_MAX_CHARS)
		return "It has more than 200 characters.";
	for (const unsigned char *c = (const unsigned char *) name; *c; c++)
	{
		/* C0, DEL, and C1 as UTF-8 */
		if (*c < 0x20 || *c == 0x7f || (*c == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f))
			return "It has control characters.";
	}
	return NULL;
}

/* Whether some version's bigint takes a text for a number, however it is written. */
static bool
reads_as_number(const char *id)
{
	const char *digits = "0123456789_";

	id += strspn(id, " ");
	id += (*id == '+' || *id == '-') ? 1 : 0;
	if (!isdigit((unsigned char) *id))
		return false;
	if (id[0] == '0' && id[1] != '\0' && strchr("xXoObB", id[1]) != NULL)
	{
		digits = strchr("xX", id[1])   ? "0123456789abcdefABCDEF_"
				 : strchr("oO", id[1]) ? "01234567_"
									   : "01_";
		id += 2;
		if (*id == '\0')
			return false;
	}
	id += strspn(id, digits);
	return id[strspn(id, " ")] == '\0';
}

static bool
canonical_number(const char *id)
{
	if (strcmp(id, "0") == 0)
		return true;
	id += *id == '-' ? 1 : 0;
	return *id != '0' && id[strspn(id, "0123456789")] == '\0';
}

/*
 * A text that bigint's or uuid's input function would take for another text is
 * no tenant id: two ids could then mean one set of rows.
 */
static const char *
canonical_problem(const char *id)
{
	int hex = 0;
	bool only_uuid = true;

	if (reads_as_number(id) && !canonical_number(id))
		return "It is a number, but not in canonical form.";
	for (const char *c = id; *c; c++)
	{
		if (isxdigit((unsigned char) *c))
			hex++;
		else if (strchr("{}-", *c) == NULL)
			only_uuid = false;
	}
	if (only_uuid && hex == 32)
	{
		bool canonical = strlen(id) == 36 && id[8] == '-' && id[13] == '-' &&
						 id[18] == '-' && id[23] == '-';

		for (const char *c = id; *c; c++)
		{
			if (*c >= 'A' && *c <= 'F')
				canonical = false;
		}
		if (!canonical)
			return "It is a uuid, but not in canonical form.";
	}
	return NULL;
}

/* tenant_id_problem(text) → text: why it cannot be a tenant id, or NULL. */
Datum
leyser_tenant_id_problem(PG_FUNCTION_ARGS)
{
	char *id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	const char *problem = name_problem(id);

	if (problem == NULL)
		problem = canonical_problem(id);
	if (problem == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(problem));
}

/* ---- the gateway's calls ---- */

/*
 * The claims of a gateway's call, checked.  exp is set by the caller.
 */
static void
gateway_claims(FunctionCallInfo fcinfo, LeyserClaims *claims)
{
	const char *problem = NULL;

	memset(claims, 0, sizeof(LeyserClaims));
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("tenant_id must not be null"),
						errhint("Give the id of an active tenant.")));
	claims->tenant = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (!PG_ARGISNULL(1))
	{
		claims->account = text_to_cstring(PG_GETARG_TEXT_PP(1));
		problem = name_problem(claims->account);
	}
	if (problem)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid account name"), errdetail("%s", problem),
						errhint("Account names have 1 to 200 characters.")));
	leyser_cache_catch_up();
	if (!leyser_cache_tenant_is_active(claims->tenant))
		ereport(
			ERROR,
			(errcode(LEYSER_ERRCODE_TENANT_NOT_ACTIVE), errmsg("tenant is not active"),
			 errdetail("The tenant is unknown, suspended or terminated."),
			 errhint("View leyser.tenant shows an operator the state of each tenant.")));
}

/* enter(tenant_id text, account_name text DEFAULT NULL) → void */
Datum
leyser_enter(PG_FUNCTION_ARGS)
{
	LeyserClaims claims;
	char *token;

	leyser_require_preloaded();
	leyser_context_refuse_second();
	gateway_claims(fcinfo, &claims);
	token = leyser_context_sign(&claims, DT_NOEND);
	leyser_context_set(token, true);
	explicit_bzero(token, strlen(token));
	leyser_event_record("context.entered", claims.tenant, claims.account);
	PG_RETURN_VOID();
}

/* leave() → void */
Datum
leyser_leave(PG_FUNCTION_ARGS)
{
	leyser_require_preloaded();
	leyser_context_set("", false);
	PG_RETURN_VOID();
}

/* An interval in microseconds; days are 24 hours, months not accepted. */
static int64
lifetime_microseconds(Interval *lifetime)
{
	int64 result;

	if (lifetime->month != 0 ||
		pg_mul_s64_overflow(lifetime->day, USECS_PER_DAY, &result) ||
		pg_add_s64_overflow(result, lifetime->time, &result) || result < USECS_PER_SEC ||
		result > leyser_context_limits().max_lifetime_us)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid lifetime of a token"),
						errdetail("It must be at least one second and at most "
								  "leyser.max_token_lifetime."),
						errhint("Issue short tokens, and a new one when needed.")));
	return result;
}

/* issue_token(tenant_id text, account_name text, lifetime interval) → text */
Datum
leyser_issue_token(PG_FUNCTION_ARGS)
{
	LeyserClaims claims;
	int64 lifetime;
	Datum token;

	leyser_require_preloaded();
	leyser_context_refuse_second();
	if (PG_ARGISNULL(2))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("lifetime must not be null"),
						errhint("Leave the argument out for five minutes.")));
	lifetime = lifetime_microseconds(PG_GETARG_INTERVAL_P(2));
	gateway_claims(fcinfo, &claims);
	token = leyser_context_sign_text(&claims, GetCurrentTimestamp() + lifetime);
	leyser_event_record("token.issued", claims.tenant, claims.account);
	return token;
}
