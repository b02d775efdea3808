/*
 * context.c
 *		The GUC leyser.token and what follows from it.
 *
 * The context is a signed token in a GUC.  The check hook verifies it and
 * keeps what it says as the GUC's "extra"; the assign hook sets a pointer; so
 * savepoints, rollbacks, functions with SET clauses and parallel workers carry
 * the context right without any code of ours.  The rules:
 *
 *  - A value counts only in the transaction in which it was set (role setting
 *    leyser.context_scope = session excepted): the next client of a pooled
 *    connection does not inherit it.
 *  - The stored value is not the token but its claims, bound to the local
 *    transaction id.  That form is accepted only while a parallel worker
 *    restores its leader's settings, and counts there only if the id is still
 *    the leader's: a plan that another client cached cannot bring back the
 *    context of an earlier transaction.  So workers need neither key nor
 *    signature, and nothing that shows the value shows a token.
 *  - Only a session's own SET is accepted: not files, ALTER ROLE or DATABASE,
 *    start-up packets, nor the validation of a function's SET clause (which
 *    would lie readable in pg_proc).
 *  - One transaction works for one tenant and account.  The first identity
 *    that was set is remembered until the transaction ends; another is LY009.
 *  - The getters check everything again once a statement (ExecutorStart,
 *    ExecutorRun and utility statements): expiry by the clock, the tenant's
 *    state and the key's, so that a suspension or a retired key ends contexts
 *    that are open.  Within a statement they return a static value.
 *
 * The check hook has no side effects: it runs for mere validation too.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "context.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "common/base64.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "cache.h"
#include "compat.h"
#include "connection.h"

#define WORKER_PREFIX "leyser-context:"
#define CONTEXT_MAX                                                                      \
	(sizeof(LeyserContext) + 2 * (LEYSER_NAME_MAX_BYTES + 1) + LEYSER_KEY_ID_MAX + 1)

typedef enum ContextScope
{
	SCOPE_TRANSACTION,
	SCOPE_SESSION
} ContextScope;

typedef enum MissingContext
{
	MISSING_ERROR,
	MISSING_HIDE
} MissingContext;

typedef enum ContextSwitch
{
	SWITCH_REFUSE,
	SWITCH_ALLOW
} ContextSwitch;

static const struct config_enum_entry scope_options[] = {
	{"transaction", SCOPE_TRANSACTION, false},
	{"session", SCOPE_SESSION, false},
	{NULL, 0, false}};

static const struct config_enum_entry missing_options[] = {
	{"error", MISSING_ERROR, false}, {"hide", MISSING_HIDE, false}, {NULL, 0, false}};

static const struct config_enum_entry switch_options[] = {
	{"refuse", SWITCH_REFUSE, false}, {"allow", SWITCH_ALLOW, false}, {NULL, 0, false}};

static char *token_setting = NULL;
static int context_scope = SCOPE_TRANSACTION;
static int on_missing_context = MISSING_ERROR;
static int context_switch = SWITCH_REFUSE;
static int max_token_lifetime = 24 * 60 * 60;
static int clock_leeway = 30;

/* While true, leyser.token is being defined: placeholders are refused. */
static bool defining = false;

/* The GUC's extra in force; owned by the GUC machinery. */
static LeyserContext *assigned = NULL;

/*
 * The identity that this transaction works for: a copy of the first context
 * that was assigned in it.  A static buffer, for an assign hook must not fail.
 */
static union
{
	LeyserContext context;
	char bytes[CONTEXT_MAX];
} bound;

/* What was checked last: the same again needs no look-up. */
static const LeyserContext *checked_context = NULL;
static uint64 checked_generation = 0;
static LocalTransactionId filled_lxid = InvalidLocalTransactionId;

LeyserContextValues leyser_context_values;

static ExecutorStart_hook_type prev_executor_start = NULL;
static ExecutorRun_hook_type prev_executor_run = NULL;

/* ---- the flat block ---- */

static uint32
context_append(LeyserContext *context, const char *string)
{
	uint32 offset = context->size;
	Size length = strlen(string) + 1;

	memcpy((char *) context + offset, string, length);
	context->size += length;
	return offset;
}

/* Builds the block in a caller's buffer of CONTEXT_MAX bytes. */
static void
context_build(LeyserContext *context, const LeyserClaims *claims, LocalTransactionId lxid)
{
	memset(context, 0, sizeof(LeyserContext));
	context->size = sizeof(LeyserContext);
	context->lxid = lxid;
	context->expires_at = claims->expires_at;
	context->has_session = claims->has_session;
	if (claims->has_session)
		context->session = claims->session;
	context->tenant = context_append(context, claims->tenant);
	if (claims->account)
		context->account = context_append(context, claims->account);
	context->key_id = context_append(context, claims->key_id);
}

static bool
context_same_identity(const LeyserContext *a, const LeyserContext *b)
{
	if (strcmp(leyser_context_string(a, tenant), leyser_context_string(b, tenant)) != 0)
		return false;
	if ((a->account == 0) != (b->account == 0))
		return false;
	return a->account == 0 || strcmp(leyser_context_string(a, account),
									 leyser_context_string(b, account)) == 0;
}

/* ---- which context counts ---- */

/* The local transaction id; in a parallel worker its leader's. */
static LocalTransactionId
context_lxid(void)
{
	if (MyProc == NULL)
		return InvalidLocalTransactionId;
	if (IsParallelWorker())
		return MyProc->lockGroupLeader ? leyser_proc_lxid(MyProc->lockGroupLeader)
									   : InvalidLocalTransactionId;
	return leyser_proc_lxid(MyProc);
}

/* NULL where none is set, or one of an earlier transaction. */
const LeyserContext *
leyser_context_current(void)
{
	LocalTransactionId lxid = context_lxid();

	if (assigned == NULL || lxid == InvalidLocalTransactionId)
		return NULL;
	if (assigned->lxid != lxid && context_scope != SCOPE_SESSION)
		return NULL;
	return assigned;
}

bool
leyser_context_is_set(void)
{
	return leyser_context_current() != NULL;
}

/* Whether this transaction already works for some identity. */
static bool
context_is_bound(void)
{
	return bound.context.lxid != InvalidLocalTransactionId &&
		   bound.context.lxid == context_lxid();
}

/* From now on this transaction works for this identity. */
static void
context_bind(const LeyserContext *context)
{
	if (InitializingParallelWorker || IsParallelWorker() || context_is_bound())
		return;
	memcpy(&bound, context, context->size);
	bound.context.lxid = context_lxid();
}

void
leyser_context_new_statement(void)
{
	leyser_context_values.checked = false;
}

LeyserTokenLimits
leyser_context_limits(void)
{
	LeyserTokenLimits limits = {.now = GetCurrentTimestamp(),
								.leeway_us = (int64) clock_leeway * USECS_PER_SEC,
								.max_lifetime_us =
									(int64) max_token_lifetime * USECS_PER_SEC};

	return limits;
}

/* ---- check hook ---- */

static void
context_error(LeyserTokenError *error, int sqlerrcode, const char *message,
			  const char *detail, const char *hint)
{
	error->sqlerrcode = sqlerrcode;
	strlcpy(error->message, message, sizeof(error->message));
	strlcpy(error->detail, detail, sizeof(error->detail));
	strlcpy(error->hint, hint, sizeof(error->hint));
	error->log_detail[0] = '\0';
}

/* Hands an error to the GUC machinery; the paths in it go to the log only. */
static bool
context_check_failed(const LeyserTokenError *error)
{
	if (error->log_detail[0])
		ereport(LOG_SERVER_ONLY, (errhidestmt(true), errmsg("%s", error->message),
								  errdetail_internal("%s", error->log_detail)));
	GUC_check_errcode(error->sqlerrcode);
	GUC_check_errmsg("%s", error->message);
	if (error->detail[0])
		GUC_check_errdetail("%s", error->detail);
	if (error->hint[0])
		GUC_check_errhint("%s", error->hint);
	return false;
}

/* Takes over the leader's context in a parallel worker that is starting. */
static bool
context_check_worker(const char *value, void **extra)
{
	Size prefix = strlen(WORKER_PREFIX);
	LeyserContext *context;
	int length;

	if (strncmp(value, WORKER_PREFIX, prefix) != 0)
		return false;
	context = leyser_guc_malloc(CONTEXT_MAX);
	if (context == NULL)
		return false;
	length = pg_b64_decode(value + prefix, strlen(value) - prefix, (void *) context,
						   CONTEXT_MAX);
	if (length < (int) sizeof(LeyserContext) || context->size != (uint32) length)
	{
		leyser_guc_free(context);
		return false;
	}
	*extra = context;
	return true;
}

/* Replaces the token by its claims; false only when out of memory. */
static bool
context_store(char **newval, void **extra, const LeyserContext *context)
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

/* Everything about the session that forbids a token, before it is looked at. */
static bool
context_check_session(GucSource source, LeyserTokenError *error)
{
	const char *residue;

	if (defining || source != PGC_S_SESSION || !IsTransactionState())
	{
		context_error(error, LEYSER_ERRCODE_TOKEN_REFUSED,
					  "leyser.token can only be set within a session",
					  "Settings of files, roles, databases, functions and connections "
					  "are not accepted, for others can read them.",
					  "Run SELECT set_config('leyser.token', $1, true) at the start of "
					  "each transaction.");
		return false;
	}
	residue = leyser_connection_residue();
	if (residue)
	{
		context_error(error, LEYSER_ERRCODE_CONTEXT_CONFLICT, "connection is not clean",
					  residue,
					  "Run DISCARD ALL, or reset what the detail names; set the token "
					  "before any SET LOCAL or temporary table of the transaction.");
		return false;
	}
	return true;
}

/* Whether this transaction may take on this identity. */
static bool
context_check_switch(const LeyserContext *context, LeyserTokenError *error)
{
	const LeyserContext *current = leyser_context_current();

	if (context_switch == SWITCH_ALLOW)
		return true;
	if (context_is_bound())
		current = &bound.context;
	if (current == NULL || context_same_identity(current, context))
		return true;
	if (context_scope == SCOPE_SESSION && !context_is_bound())
		return true; /* between transactions a session may change */
	context_error(error, LEYSER_ERRCODE_CONTEXT_CONFLICT,
				  "context is already set in this transaction",
				  "A transaction works for one tenant and one account.",
				  "End the transaction, then set the other context.");
	return false;
}

static bool
context_check_token(char **newval, void **extra, GucSource source)
{
	union
	{
		LeyserContext context;
		char bytes[CONTEXT_MAX];
	} built;
	LeyserTokenLimits limits;
	LeyserTokenError error;
	LeyserClaims claims;

	if (!context_check_session(source, &error))
		return context_check_failed(&error);
	limits = leyser_context_limits();
	leyser_cache_catch_up();
	if (!leyser_token_verify(*newval, leyser_cache_key, &limits, &claims, &error))
		return context_check_failed(&error);
	context_build(&built.context, &claims, context_lxid());
	if (!context_check_switch(&built.context, &error))
		return context_check_failed(&error);
	if (!leyser_cache_tenant_is_active(claims.tenant))
	{
		context_error(&error, LEYSER_ERRCODE_TENANT_NOT_ACTIVE, "tenant is not active",
					  "The token's tenant is unknown, suspended or terminated.",
					  "View leyser.tenant shows an operator the state of each tenant.");
		return context_check_failed(&error);
	}
	return context_store(newval, extra, &built.context);
}

static bool
context_check_hook(char **newval, void **extra, GucSource source)
{
	MemoryContext scratch;
	MemoryContext old;
	bool ok;

	if (*newval == NULL || (*newval)[0] == '\0')
		return true;
	if (InitializingParallelWorker)
		return context_check_worker(*newval, extra);

	/* what verification allocates is gone at once, also in a long session */
	scratch =
		AllocSetContextCreate(CurrentMemoryContext, "leyser token", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(scratch);
	ok = context_check_token(newval, extra, source);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
	return ok;
}

static void
context_assign_hook(const char *newval, void *extra)
{
	assigned = extra;
	leyser_context_values.checked = false;
	checked_context = NULL;
	filled_lxid = InvalidLocalTransactionId;
	if (assigned && assigned->lxid != InvalidLocalTransactionId &&
		assigned->lxid == context_lxid())
		context_bind(assigned);
}

static const char *
context_show_hook(void)
{
	return assigned ? "(set)" : "";
}

/* ---- the check of the getters ---- */

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
}

static bool
context_check_state(const LeyserContext *context, LeyserTokenError *error)
{
	if (!leyser_cache_tenant_is_active(leyser_context_string(context, tenant)))
	{
		context_error(error, LEYSER_ERRCODE_TENANT_NOT_ACTIVE, "tenant is not active",
					  "The context's tenant is suspended or terminated.",
					  "View leyser.tenant shows an operator the state of each tenant.");
		return false;
	}
	if (!leyser_cache_key_is_valid(leyser_context_string(context, key_id)))
	{
		context_error(error, LEYSER_ERRCODE_TOKEN_REFUSED, "token is no longer accepted",
					  "The key that signed it was retired or removed, or cannot be read.",
					  "Set a token that was signed with a key in use.");
		return false;
	}
	return true;
}

bool
leyser_context_check(LeyserTokenError *error)
{
	const LeyserContext *context = leyser_context_current();

	if (context == NULL)
	{
		context_error(error, LEYSER_ERRCODE_NO_CONTEXT, "no tenant context",
					  assigned ? "The token was set in an earlier transaction."
							   : "No token is set.",
					  "Run SELECT set_config('leyser.token', $1, true) first in the "
					  "transaction.");
		return false;
	}
	if (GetCurrentTimestamp() >
		context->expires_at + (int64) clock_leeway * USECS_PER_SEC)
	{
		context_error(error, LEYSER_ERRCODE_TOKEN_EXPIRED, "token has expired",
					  "Its time ran out after it was set.",
					  "End the transaction and set a new token.");
		return false;
	}
	leyser_cache_catch_up();
	if (context != checked_context || checked_generation != leyser_cache_generation())
	{
		uint64 before = leyser_cache_generation();

		if (!IsParallelWorker() && context_switch == SWITCH_REFUSE &&
			context_is_bound() && !context_same_identity(&bound.context, context))
		{
			context_error(error, LEYSER_ERRCODE_CONTEXT_CONFLICT,
						  "context was changed within a transaction",
						  "A transaction works for one tenant and one account.",
						  "End the transaction, then set the other context.");
			return false;
		}
		if (!context_check_state(context, error))
			return false;
		checked_context = context;
		checked_generation = before;
	}
	if (filled_lxid != leyser_proc_lxid(MyProc))
	{
		context_fill(context);
		context_bind(context);
	}
	leyser_context_values.checked = true;
	return true;
}

void
leyser_context_raise(const LeyserTokenError *error)
{
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
	if (error.sqlerrcode == LEYSER_ERRCODE_NO_CONTEXT &&
		on_missing_context == MISSING_HIDE)
		return false;
	leyser_context_raise(&error);
	return false;
}

void
leyser_context_refuse_second(void)
{
	if (leyser_context_is_set() || context_is_bound())
		ereport(ERROR, (errcode(LEYSER_ERRCODE_CONTEXT_CONFLICT),
						errmsg("context is already set in this transaction"),
						errdetail("A transaction works for one tenant and one account."),
						errhint("End the transaction first.")));
}

void
leyser_context_set(const char *token, bool local)
{
	(void) set_config_option("leyser.token", token, PGC_USERSET, PGC_S_SESSION,
							 local ? GUC_ACTION_LOCAL : GUC_ACTION_SET, true, 0, false);
}

/* ---- statements ---- */

static void
context_executor_start(QueryDesc *queryDesc, int eflags)
{
	leyser_context_new_statement();
	if (prev_executor_start)
		prev_executor_start(queryDesc, eflags);
	else
		standard_ExecutorStart(queryDesc, eflags);
}

/* A portal that is fetched from in pieces starts once but runs many times. */
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
			memset(&leyser_context_values, 0, sizeof(leyser_context_values));
			filled_lxid = InvalidLocalTransactionId;
			checked_context = NULL;
			break;
	}
}

static void
context_define_settings(void)
{
	defining = true;
	DefineCustomStringVariable(
		"leyser.token", "Signed token (JWT) that sets the tenant context.",
		"Counts only in the transaction in which it is set.", &token_setting, "",
		PGC_USERSET, GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE,
		context_check_hook, context_assign_hook, context_show_hook);
	defining = false;
	DefineCustomEnumVariable(
		"leyser.context_scope", "How long a token counts.",
		"\"session\" is for roles whose connections are never shared.", &context_scope,
		SCOPE_TRANSACTION, scope_options, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable(
		"leyser.on_missing_context", "What a query without a context gets.",
		"\"error\" raises LY001, \"hide\" shows no rows.", &on_missing_context,
		MISSING_ERROR, missing_options, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable(
		"leyser.context_switch", "Whether one transaction may change its context.",
		"\"allow\" is for test databases only.", &context_switch, SWITCH_REFUSE,
		switch_options, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("leyser.max_token_lifetime",
							"Longest lifetime of a token that is issued or accepted.",
							NULL, &max_token_lifetime, 24 * 60 * 60, 1,
							366 * 24 * 60 * 60, PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"leyser.clock_leeway", "Difference between clocks that is tolerated in tokens.",
		NULL, &clock_leeway, 30, 0, 600, PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
}

void
leyser_context_init(void)
{
	context_define_settings();
	RegisterXactCallback(context_xact_ended, NULL);
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = context_executor_start;
	prev_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = context_executor_run;
}
