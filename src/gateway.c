/*
 * gateway.c
 *		What a trusted middle tier calls: enter, issue_token.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "leyser.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "cache.h"
#include "context.h"
#include "event.h"
#include "name.h"
#include "owner.h"
#include "transport.h"

PG_FUNCTION_INFO_V1(leyser_enter);
PG_FUNCTION_INFO_V1(leyser_issue_token);

/* The account's name as it is stored, whatever its case; NULL where there is none. */
static char *
gateway_stored_name(const LeyserClaims *claims)
{
	Oid types[2] = {TEXTOID, TEXTOID};
	Datum values[2] = {CStringGetTextDatum(claims->tenant),
					   CStringGetTextDatum(claims->account)};
	MemoryContext caller = CurrentMemoryContext;
	LeyserOwnerState owner;
	char *name = NULL;

	leyser_owner_begin(&owner);
	if (SPI_execute_with_args("SELECT leyser.stored_name($1, $2)", 2, types, values, NULL,
							  false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not look up the name of an account");
	name = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (name)
		name = MemoryContextStrdup(caller, name);
	leyser_owner_end(&owner);
	return name;
}

/*
 * Finds the account that the claims name, most often by the very name that is
 * stored; LY005 where no active account has it.
 */
static void
gateway_find_account(LeyserClaims *claims)
{
	const char *problem = leyser_name_problem(claims->account);
	LeyserAccount account;

	if (problem)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid account name"), errdetail("%s", problem),
						errhint("Account names have 1 to 200 characters.")));
	account = leyser_cache_account(claims->tenant, claims->account);
	if (account.account_id == 0)
	{
		claims->account = gateway_stored_name(claims);
		if (claims->account)
			account = leyser_cache_account(claims->tenant, claims->account);
	}
	if (account.account_id == 0)
		ereport(ERROR,
				(errcode(LEYSER_ERRCODE_SESSION_ENDED), errmsg("account is not active"),
				 errdetail("The account is unknown, disabled or deleted."),
				 errhint("An administrator of the tenant can invite or enable it.")));
	claims->account_id = account.account_id;
}

/*
 * The claims of a gateway's call, checked.  exp is set by the caller.
 */
static void
gateway_claims(FunctionCallInfo fcinfo, LeyserClaims *claims)
{
	memset(claims, 0, sizeof(LeyserClaims));
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("tenant_id must not be null"),
						errhint("Give the id of an active tenant.")));
	claims->tenant = text_to_cstring(PG_GETARG_TEXT_PP(0));
	leyser_cache_catch_up();
	if (!leyser_cache_tenant_is_active(claims->tenant))
		ereport(
			ERROR,
			(errcode(LEYSER_ERRCODE_TENANT_NOT_ACTIVE), errmsg("tenant is not active"),
			 errdetail("The tenant is unknown, suspended or terminated."),
			 errhint("View leyser.tenant shows an operator the state of each tenant.")));
	if (!PG_ARGISNULL(1))
	{
		claims->account = text_to_cstring(PG_GETARG_TEXT_PP(1));
		gateway_find_account(claims);
	}
}

/* Events tell accounts by their ids, which outlive the names. */
static const char *
gateway_object(const LeyserClaims *claims)
{
	return claims->account ? psprintf(INT64_FORMAT, claims->account_id) : NULL;
}

/*
 * enter(tenant_id text, account_name text DEFAULT NULL) → void
 *
 * Its event is part of the transaction, and only the line of the server log stays
 * where that is rolled back: gateways enter in each transaction, and waiting for
 * the worker every time would cost more than the transaction.
 */
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
	leyser_event_record("context.entered", claims.tenant, gateway_object(&claims));
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

/*
 * issue_token(tenant_id text, account_name text, lifetime interval) → text
 *
 * A rollback does not take the token back: it is handed out once the event is
 * committed.
 */
Datum
leyser_issue_token(PG_FUNCTION_ARGS)
{
	LeyserClaims claims;
	int64 lifetime;
	Datum token;

	leyser_require_preloaded();
	leyser_transport_require();
	leyser_context_refuse_second();
	if (PG_ARGISNULL(2))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("lifetime must not be null"),
						errhint("Leave the argument out for five minutes.")));
	lifetime = lifetime_microseconds(PG_GETARG_INTERVAL_P(2));
	gateway_claims(fcinfo, &claims);
	token = leyser_context_sign_text(&claims, GetCurrentTimestamp() + lifetime);
	leyser_event_record_lasting("token.issued", claims.tenant, gateway_object(&claims));
	return token;
}
