/*
 * context_check.c
 *		What the getters rely on: that the context still holds.
 *
 * Everything is looked at again once a statement: ExecutorStart, ExecutorRun
 * (a portal that is fetched from in pieces starts once but runs many times) and
 * utility statements clear leyser_context_values.checked.  The first getter
 * then compares the expiry and the end of the tenant's contract with the clock,
 * takes in invalidations, and looks up the tenant, the key, the account and the
 * session where anything may have changed: some 100 nanoseconds.  Later calls in
 * the statement return a static value.  Simple expressions of plpgsql and calls by
 * the fast-path protocol pass none of these hooks: they rely on the last check of
 * the transaction.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "context.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "cache.h"
#include "compat.h"
#include "disclosure.h"
#include "export.h"
#include "refusal.h"
#include "support.h"

/* What was checked last: the same again needs no look-up. */
static const LeyserContext *checked_context = NULL;
static uint64 checked_generation = 0;
static TimestampTz checked_until = DT_NOBEGIN; /* when the tenant's contract ends */

/* The (backend's own) transaction whose memory holds the values. */
static LocalTransactionId filled_lxid = InvalidLocalTransactionId;

/* The context that they are of. */
static union
{
	LeyserContext context;
	char bytes[LEYSER_CONTEXT_MAX];
} filled;

LeyserContextValues leyser_context_values;

static ExecutorStart_hook_type prev_executor_start = NULL;
static ExecutorRun_hook_type prev_executor_run = NULL;

void
leyser_context_new_statement(void)
{
	leyser_context_values.checked = false;
}

/* Another context came into force, or none. */
void
leyser_context_forget_check(void)
{
	leyser_context_values.checked = false;
	checked_context = NULL;
}

/* Whether a text is exactly what the type's output function would print. */
static bool
context_read_int8(const char *id, int64 *result)
{
	char printed[MAXINT8LEN + 1];

	if (!(id[0] == '-' || (id[0] >= '0' && id[0] <= '9')) || strlen(id) > MAXINT8LEN)
		return false;
	errno = 0;
	*result = strtoll(id, NULL, 10);
	if (errno != 0)
		return false;
	pg_lltoa(*result, printed);
	return strcmp(printed, id) == 0;
}

static bool
context_read_uuid(const char *id, pg_uuid_t *result)
{
	if (strlen(id) != 36)
		return false;
	for (int i = 0, nibble = 0; i < 36; i++)
	{
		int value;

		if (i == 8 || i == 13 || i == 18 || i == 23)
		{
			if (id[i] != '-')
				return false;
			continue;
		}
		if (id[i] >= '0' && id[i] <= '9')
			value = id[i] - '0';
		else if (id[i] >= 'a' && id[i] <= 'f')
			value = id[i] - 'a' + 10;
		else
			return false;
		if (nibble % 2 == 0)
			result->data[nibble / 2] = value << 4;
		else
			result->data[nibble / 2] |= value;
		nibble++;
	}
	return true;
}

/*
 * Makes the getters' values.  They live until the transaction ends, not as
 * long as the GUC's value, which a statement can replace while it still holds
 * a pointer that a getter gave it.
 */
static void
context_fill(const LeyserContext *context)
{
	LeyserContextValues *values = &leyser_context_values;
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	const char *id = leyser_context_string(context, tenant);

	values->tenant = cstring_to_text(id);
	values->account = context->account
						  ? cstring_to_text(leyser_context_string(context, account))
						  : NULL;
	values->session = NULL;
	if (context->has_session)
	{
		values->session = palloc(sizeof(pg_uuid_t));
		*values->session = context->session;
	}
	values->has_int8 = context_read_int8(id, &values->as_int8);
	values->as_uuid = palloc(sizeof(pg_uuid_t));
	values->has_uuid = context_read_uuid(id, values->as_uuid);
	MemoryContextSwitchTo(old);
	filled_lxid = leyser_proc_lxid(MyProc);
	memcpy(&filled, context, context->size);
}

/* Setting the same context again and again in a transaction takes no memory. */
static bool
context_is_filled(const LeyserContext *context)
{
	return filled_lxid == leyser_proc_lxid(MyProc) &&
		   leyser_context_same_identity(&filled.context, context) &&
		   filled.context.has_session == context->has_session &&
		   memcmp(&filled.context.session, &context->session, sizeof(pg_uuid_t)) == 0;
}

/*
 * A name can be taken by somebody else later.  Own tokens tell whom they mean by
 * the account's id, and so do the contexts of issuers' tokens once they are set.
 * An issuer's token itself has the name only: one that is older than the account's
 * name was made for whoever had that name before.
 */
static bool
context_means_account(const LeyserContext *context, const LeyserAccount *account)
{
	return (context->account_id == 0 || context->account_id == account->account_id) &&
		   context->issued_at >= account->named_at;
}

bool
leyser_context_check_account(const LeyserContext *context, int64 *account_id,
							 LeyserTokenError *error)
{
	LeyserAccount account = {0, DT_NOBEGIN};

	if (context->account)
		account = leyser_cache_account(leyser_context_string(context, tenant),
									   leyser_context_string(context, account));
	if (context->account && account.account_id == 0)
	{
		leyser_context_error(error, LEYSER_ERRCODE_SESSION_ENDED, "account is not active",
							 "The context's account is unknown, disabled or deleted.",
							 "An administrator of the tenant can invite or enable it.");
		return false;
	}
	if (context->account && !context_means_account(context, &account))
	{
		leyser_context_error(
			error, LEYSER_ERRCODE_SESSION_ENDED, "token is of another account",
			"The account has got its name since the token was made.", "Get a new token.");
		return false;
	}
	if (context->has_session && leyser_cache_session_is_revoked(&context->session))
	{
		leyser_context_error(error, LEYSER_ERRCODE_SESSION_ENDED, "session has ended",
							 "It was logged out or revoked.", "Log in again.");
		return false;
	}
	*account_id = account.account_id;
	return true;
}

static bool
context_check_state(const LeyserContext *context, TimestampTz now,
					LeyserTokenError *error)
{
	checked_until = leyser_cache_tenant_end(leyser_context_string(context, tenant));
	if (now >= checked_until && !leyser_disclosure_is_open(context))
	{
		leyser_context_error(
			error, LEYSER_ERRCODE_TENANT_NOT_ACTIVE, "tenant is not active",
			"The context's tenant is suspended or terminated.",
			"View leyser.tenant shows an operator the state of each tenant.");
		return false;
	}
	if (!leyser_cache_key_is_valid(leyser_context_string(context, key_id)))
	{
		leyser_context_error(
			error, LEYSER_ERRCODE_TOKEN_REFUSED, "token is no longer accepted",
			"The key that signed it was retired or removed, or cannot be read.",
			"Set a token that was signed with a key in use.");
		return false;
	}
	return leyser_context_check_account(context, &leyser_context_values.account_id,
										error);
}

/* This transaction works for the context's tenant, or *error. */
static bool
context_check_bound(const LeyserContext *context, LeyserTokenError *error)
{
	if (leyser_context_bind(context))
		return true;
	leyser_context_error(error, LEYSER_ERRCODE_CONTEXT_CONFLICT,
						 "context was changed within a transaction",
						 "A transaction works for one tenant and one account.",
						 "End the transaction, then set the other context.");
	return false;
}

static void
context_accept(const LeyserContext *context, TimestampTz now, bool is_export)
{
	if (!context_is_filled(context))
		context_fill(context);
	leyser_context_values.is_export = is_export;
	leyser_context_values.checked = true;
	leyser_context_values.checked_at = now;
	leyser_context_values.check++;
}

/* Without a token: what a role in whose window a tenant is exported has. */
static bool
context_check_export(LeyserTokenError *error)
{
	const LeyserContext *context = leyser_export_context(error);

	if (context == NULL && error->sqlerrcode == 0)
		leyser_context_error(
			error, LEYSER_ERRCODE_NO_CONTEXT, "no tenant context",
			leyser_context_is_stale() ? "The token was set in an earlier transaction."
									  : "No token is set.",
			"Run SELECT set_config('leyser.token', $1, true) first in the "
			"transaction.");
	if (context == NULL || !context_check_bound(context, error))
		return false;
	leyser_export_note_look();
	leyser_context_values.account_id = 0;
	context_accept(context, GetCurrentTimestamp(), true);
	return true;
}

bool
leyser_context_check(LeyserTokenError *error)
{
	const LeyserContext *context = leyser_context_current();
	LeyserTokenLimits limits;

	if (context == NULL)
		return context_check_export(error);
	limits = leyser_context_limits();
	if (limits.now >= leyser_token_end(context->own, context->expires_at, &limits))
	{
		leyser_context_error(error, LEYSER_ERRCODE_TOKEN_EXPIRED, "token has expired",
							 "Its time ran out after it was set.",
							 "End the transaction and set a new token.");
		return false;
	}
	if (!context_check_bound(context, error) || !leyser_support_check(context, error))
		return false;
	leyser_cache_catch_up();
	if (context != checked_context || checked_generation != leyser_cache_generation() ||
		limits.now >= checked_until)
	{
		uint64 before = leyser_cache_generation();

		if (!context_check_state(context, limits.now, error))
			return false;
		checked_context = context;
		checked_generation = before;
	}
	context_accept(context, limits.now, false);
	return true;
}

void
leyser_context_raise(const LeyserTokenError *error)
{
	const LeyserContext *context = leyser_context_current();

	leyser_refusal_count(error->sqlerrcode,
						 context ? leyser_context_string(context, tenant) : NULL);
	ereport(ERROR, (errcode(error->sqlerrcode), errmsg("%s", error->message),
					error->detail[0] ? errdetail("%s", error->detail) : 0,
					error->log_detail[0] ? errdetail_log("%s", error->log_detail) : 0,
					error->hint[0] ? errhint("%s", error->hint) : 0));
}

bool
leyser_context_require(void)
{
	LeyserTokenError error;

	leyser_require_preloaded();
	if (leyser_context_check(&error))
		return true;
	if (error.sqlerrcode == LEYSER_ERRCODE_NO_CONTEXT && leyser_context_hides_missing())
		return false;
	leyser_context_raise(&error);
	return false;
}

static void
context_executor_start(QueryDesc *queryDesc, int eflags)
{
	leyser_disclosure_note_statement();
	leyser_context_new_statement();
	if (prev_executor_start)
		prev_executor_start(queryDesc, eflags);
	else
		standard_ExecutorStart(queryDesc, eflags);
}

static void
context_executor_run(LEYSER_EXECUTOR_RUN_PARAMS)
{
	leyser_context_new_statement();
	if (prev_executor_run)
		prev_executor_run(LEYSER_EXECUTOR_RUN_ARGS);
	else
		standard_ExecutorRun(LEYSER_EXECUTOR_RUN_ARGS);
}

/* The values live in the transaction's memory. */
static void
context_xact_ended(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			break;
		default:
			leyser_context_forget_check();
			filled_lxid = InvalidLocalTransactionId;
			break;
	}
}

void
leyser_context_check_init(void)
{
	RegisterXactCallback(context_xact_ended, NULL);
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = context_executor_start;
	prev_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = context_executor_run;
}
