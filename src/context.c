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
 *  - The getters check again once a statement; see context_check.c.
 *
 * The check hook has no side effects: it runs for mere validation too.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "context.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "cache.h"
#include "compat.h"
#include "connection.h"
#include "disclosure.h"
#include "refusal.h"
#include "transport.h"

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
	char bytes[LEYSER_CONTEXT_MAX];
} bound;

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

bool
leyser_context_is_stale(void)
{
	return assigned != NULL && leyser_context_current() == NULL;
}

bool
leyser_context_hides_missing(void)
{
	return on_missing_context == MISSING_HIDE;
}

/* Whether this transaction already works for some identity. */
bool
leyser_context_is_bound(void)
{
	return bound.context.lxid != InvalidLocalTransactionId &&
		   bound.context.lxid == context_lxid();
}

/*
 * From now on this transaction works for this identity; false where it works
 * for another one already.
 */
bool
leyser_context_bind(const LeyserContext *context)
{
	if (InitializingParallelWorker || IsParallelWorker())
		return true;
	if (leyser_context_is_bound())
		return context_switch == SWITCH_ALLOW ||
			   leyser_context_same_identity(&bound.context, context);
	memcpy(&bound, context, context->size);
	bound.context.lxid = context_lxid();
	return true;
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

void
leyser_context_error(LeyserTokenError *error, int sqlerrcode, const char *message,
					 const char *detail, const char *hint)
{
	error->sqlerrcode = sqlerrcode;
	strlcpy(error->message, message, sizeof(error->message));
	strlcpy(error->detail, detail, sizeof(error->detail));
	strlcpy(error->hint, hint, sizeof(error->hint));
	error->log_detail[0] = '\0';
}

/*
 * Hands an error to the GUC machinery; the paths in it go to the log only.  tenant_id:
 * whose token it is, by its signature; or NULL.
 */
static bool
context_check_failed(const LeyserTokenError *error, const char *tenant_id)
{
	leyser_refusal_count(error->sqlerrcode, tenant_id);
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

/* Everything about the session that forbids a token, before it is looked at. */
static bool
context_check_session(GucSource source, LeyserTokenError *error)
{
	const char *residue;

	if (defining || source != PGC_S_SESSION || !IsTransactionState())
	{
		leyser_context_error(
			error, LEYSER_ERRCODE_TOKEN_REFUSED,
			"leyser.token can only be set within a session",
			"Settings of files, roles, databases, functions and connections "
			"are not accepted, for others can read them.",
			"Run SELECT set_config('leyser.token', $1, true) at the start of "
			"each transaction.");
		return false;
	}
	if (!leyser_transport_check(error))
		return false;
	leyser_cache_catch_up();
	/* altered from another database, where no guard of ours looks on */
	if (leyser_cache_role_is_unfit(GetSessionUserId()) ||
		leyser_cache_role_is_unfit(GetUserId()))
	{
		leyser_context_error(
			error, LEYSER_ERRCODE_GUARD_REFUSED, "role is not bound by row security",
			"It has usage application or gateway, and by now SUPERUSER or BYPASSRLS.",
			"ALTER ROLE … NOSUPERUSER NOBYPASSRLS, or leyser.revoke_usage() for it.");
		return false;
	}
	/* what came since this transaction's first token is its own client's */
	residue = leyser_context_is_bound() ? NULL : leyser_connection_residue();
	if (residue)
	{
		leyser_context_error(error, LEYSER_ERRCODE_CONTEXT_CONFLICT,
							 "connection is not clean", residue,
							 "Run DISCARD ALL, or RESET what the detail names; create "
							 "temporary tables after setting the token.");
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
	if (leyser_context_is_bound())
		current = &bound.context;
	if (current == NULL || leyser_context_same_identity(current, context))
		return true;
	if (context_scope == SCOPE_SESSION && !leyser_context_is_bound())
		return true; /* between transactions a session may change */
	leyser_context_error(error, LEYSER_ERRCODE_CONTEXT_CONFLICT,
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
		char bytes[LEYSER_CONTEXT_MAX];
	} built;
	LeyserTokenLimits limits;
	LeyserTokenError error;
	LeyserClaims claims;

	if (!context_check_session(source, &error))
		return context_check_failed(&error, NULL);
	limits = leyser_context_limits();
	if (!leyser_token_verify(*newval, leyser_cache_key, &limits, &claims, &error))
		/* one that has expired had its signature, and says whose it was */
		return context_check_failed(
			&error,
			error.sqlerrcode == LEYSER_ERRCODE_TOKEN_EXPIRED ? claims.tenant : NULL);
	leyser_context_build(&built.context, &claims, context_lxid());
	if (!leyser_cache_tenant_is_active(claims.tenant) &&
		!leyser_disclosure_is_open(&built.context))
	{
		leyser_context_error(
			&error, LEYSER_ERRCODE_TENANT_NOT_ACTIVE, "tenant is not active",
			"The token's tenant is unknown, suspended or terminated.",
			"View leyser.tenant shows an operator the state of each tenant.");
		return context_check_failed(&error, claims.tenant);
	}
	if (!leyser_context_check_account(&built.context, &built.context.account_id, &error))
		return context_check_failed(&error, claims.tenant);
	if (!context_check_switch(&built.context, &error))
		return context_check_failed(&error, claims.tenant);
	return leyser_context_encode(newval, extra, &built.context);
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
		return leyser_context_decode(*newval, extra);

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
	leyser_context_forget_check();
	if (assigned && assigned->lxid != InvalidLocalTransactionId &&
		assigned->lxid == context_lxid())
		(void) leyser_context_bind(assigned);
}

static const char *
context_show_hook(void)
{
	return assigned ? "(set)" : "";
}

void
leyser_context_refuse_second(void)
{
	if (context_switch == SWITCH_REFUSE &&
		(leyser_context_is_set() || leyser_context_is_bound()))
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

void
leyser_context_try(const char *token)
{
	(void) set_config_option("leyser.token", token, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, false, 0, false);
}

char *
leyser_context_sign(LeyserClaims *claims, TimestampTz ends_at)
{
	TimestampTz now = GetCurrentTimestamp();
	LeyserTokenError error;
	const LeyserTokenKey *key;

	leyser_cache_catch_up();
	key = leyser_cache_signing_key(&error);
	if (key == NULL)
		leyser_context_raise(&error);
	claims->expires_at = Min(ends_at, now + leyser_context_limits().max_lifetime_us);
	return leyser_token_sign(key, claims, now);
}

Datum
leyser_context_sign_text(LeyserClaims *claims, TimestampTz ends_at)
{
	char *token = leyser_context_sign(claims, ends_at);
	text *result = cstring_to_text(token);

	explicit_bzero(token, strlen(token));
	return PointerGetDatum(result);
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
		"Not in the expiry of tokens that this server signed.", &clock_leeway, 30, 0, 600,
		PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
}

void
leyser_context_init(void)
{
	context_define_settings();
	leyser_context_check_init();
}
