/*
 * context_sql.c
 *		The SQL functions of the context: getters, status, leave.
 *
 * The getters run once a row.  They return what leyser_context_check() left in
 * leyser_context_values, which every statement makes them check anew; see
 * context.c.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "context.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "cache.h"

PG_FUNCTION_INFO_V1(leyser_tenant_id);
PG_FUNCTION_INFO_V1(leyser_tenant_id_int8);
PG_FUNCTION_INFO_V1(leyser_tenant_id_uuid);
PG_FUNCTION_INFO_V1(leyser_account_name);
PG_FUNCTION_INFO_V1(leyser_context_account_id);
PG_FUNCTION_INFO_V1(leyser_unchecked_account_id);
PG_FUNCTION_INFO_V1(leyser_session_id);
PG_FUNCTION_INFO_V1(leyser_context_status);
PG_FUNCTION_INFO_V1(leyser_in_context);
PG_FUNCTION_INFO_V1(leyser_context_try_token);
PG_FUNCTION_INFO_V1(leyser_refuse_shared_write);
PG_FUNCTION_INFO_V1(leyser_leave);

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

/*
 * unchecked_account_id() → bigint: who acts, for the event log.  What ends a
 * session or an account is still told of the account that did it.
 */
Datum
leyser_unchecked_account_id(PG_FUNCTION_ARGS)
{
	const LeyserContext *context;

	leyser_require_preloaded();
	context = leyser_context_current();
	if (context == NULL || context->account_id == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(context->account_id);
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

/* try_token(token text) → void: internal; raises what setting it would raise. */
Datum
leyser_context_try_token(PG_FUNCTION_ARGS)
{
	char *token = text_to_cstring(PG_GETARG_TEXT_PP(0));

	leyser_require_preloaded();
	leyser_context_try(token);
	explicit_bzero(token, strlen(token));
	PG_RETURN_VOID();
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

/* leave() → void */
Datum
leyser_leave(PG_FUNCTION_ARGS)
{
	leyser_require_preloaded();
	leyser_context_set("", false);
	PG_RETURN_VOID();
}
