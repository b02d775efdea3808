/*
 * permission.c
 *		The SQL functions that ask whether the context's account may do something.
 *
 * has_permission() is a condition of people's queries, row_permission() one of
 * our policies: both run once a row.  A call site keeps its answers for as long
 * as the statement lasts whose check filled leyser_context_values, recognized by
 * its number; so the next statement asks anew, with its own clock, and a revoke
 * counts there.  Answers are kept by the text of the arguments, not by where they
 * come from: an expression that plpgsql evaluates again and again stays one call
 * site although its parameters change.
 *
 * The two differ in what they do with a scope that is no path.  A caller gets an
 * error.  A policy must not raise one over what a row holds, perhaps another
 * tenant's row: there such a scope counts as none, so that only those see the row
 * who have the permission everywhere.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "permission.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "nodes/supportnodes.h"
#include "utils/builtins.h"

#include "cache.h"
#include "compat.h"
#include "context.h"
#include "support.h"

/*
 * Slots for scopes that a call site remembers: powers of two, 64 bytes each.
 * There are more of them once scopes have put each other out often enough.
 */
#define SITE_SLOTS_FIRST 32
#define SITE_SLOTS_MAX 2048
#define SITE_SCOPE_BYTES 54

typedef struct SiteScope
{
	uint64 check; /* the answer is valid for this check; 0: empty */
	bool held;
	uint8 length;
	char scope[SITE_SCOPE_BYTES];
} SiteScope;

typedef struct CallSite
{
	uint64 check;
	bool held; /* where everywhere_known */
	bool everywhere_known;
	int permission_length;
	char permission[LEYSER_PERMISSION_MAX];
	SiteScope *scopes;
	int slots;
	int put_out;
} CallSite;

PG_FUNCTION_INFO_V1(leyser_has_permission);
PG_FUNCTION_INFO_V1(leyser_row_permission);
PG_FUNCTION_INFO_V1(leyser_row_permission_support);
PG_FUNCTION_INFO_V1(leyser_require_permission);
PG_FUNCTION_INFO_V1(leyser_scope_problem);

/* ---- scopes ---- */

/* NULL where a text is a scope, else why not, as a sentence. */
static const char *
scope_problem(const char *scope, int length)
{
	int labels = 1;
	int label = 0;

	for (int i = 0; i < length; i++)
	{
		unsigned char c = scope[i];

		if (c == '.')
		{
			if (label == 0)
				return "It has an empty label.";
			labels++;
			label = 0;
		}
		else if (!isascii(c) || !(isalnum(c) || c == '_' || c == '-'))
			return "Its labels have characters other than letters A to Z, digits, _ and "
				   "-.";
		else if (++label > LEYSER_SCOPE_LABEL_MAX)
			return "It has a label of more than 63 characters.";
	}
	if (label == 0)
		return "It has an empty label.";
	return labels > LEYSER_SCOPE_LABELS_MAX ? "It has more than 16 labels." : NULL;
}

/* scope_problem(text) → text: why it is no scope, or NULL. */
Datum
leyser_scope_problem(PG_FUNCTION_ARGS)
{
	text *scope = PG_GETARG_TEXT_PP(0);
	const char *problem = scope_problem(VARDATA_ANY(scope), VARSIZE_ANY_EXHDR(scope));

	if (problem == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(problem));
}

/* ---- asking ---- */

static void
raise_unknown(const char *permission, int length)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("permission \"%.*s\" does not exist",
					pg_mbcliplen(permission, length, LEYSER_PERMISSION_MAX), permission),
			 errdetail("It is not in the catalogue of permissions."),
			 errhint("An operator adds it: SELECT leyser.create_permission(…).")));
}

/* The arguments, and nothing else, make the question. */
bool
leyser_permission_ask(text *permission, text *scope, bool from_policy)
{
	LeyserPermissionQuestion question = {.account_id = leyser_context_values.account_id,
										 .permission = VARDATA_ANY(permission),
										 .permission_length =
											 VARSIZE_ANY_EXHDR(permission),
										 .at = leyser_context_values.checked_at};
	LeyserPermissionAnswer answer;

	if (scope)
	{
		const char *problem;

		question.scope = VARDATA_ANY(scope);
		question.scope_length = VARSIZE_ANY_EXHDR(scope);
		problem = scope_problem(question.scope, question.scope_length);
		if (problem && !from_policy)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("invalid scope"), errdetail("%s", problem),
							errhint("A scope is a path such as 'japan.tokyo'; leave it "
									"out to ask for everywhere.")));
		if (problem)
			question.scope = NULL;
	}
	if (question.account_id == 0)
		return from_policy &&
			   (leyser_context_values.is_export || leyser_support_is_open());
	question.tenant_id = leyser_context_string(leyser_context_current(), tenant);
	answer = leyser_cache_permission(&question);
	if (answer == LEYSER_PERMISSION_UNKNOWN)
		raise_unknown(question.permission, question.permission_length);
	return answer == LEYSER_PERMISSION_HELD;
}

static bool
ask(text *permission, text *scope, bool from_policy)
{
	bool held = leyser_permission_ask(permission, scope, from_policy);

	if (held && leyser_permission_notes)
		leyser_permission_note(permission, scope, from_policy);
	return held;
}

/* ---- call sites ---- */

static inline bool
site_has_permission(const CallSite *site, text *permission)
{
	return (int) VARSIZE_ANY_EXHDR(permission) == site->permission_length &&
		   memcmp(VARDATA_ANY(permission), site->permission, site->permission_length) ==
			   0;
}

/* Whether a call site's answers are about this permission, in this statement. */
static inline bool
site_is_current(const CallSite *site, text *permission)
{
	return site != NULL && site->check == leyser_context_values.check &&
		   site_has_permission(site, permission);
}

/* Starts a call site, or starts it anew; NULL where nothing can be kept. */
static CallSite *
site_begin(FmgrInfo *flinfo, text *permission)
{
	CallSite *site = flinfo->fn_extra;

	if (VARSIZE_ANY_EXHDR(permission) > LEYSER_PERMISSION_MAX)
		return NULL;
	if (site == NULL)
		site = flinfo->fn_extra =
			MemoryContextAllocZero(flinfo->fn_mcxt, sizeof(CallSite));
	site->everywhere_known = false;
	/* the same check may ask about another permission: its answers go */
	if (site->scopes && !site_has_permission(site, permission))
		memset(site->scopes, 0, site->slots * sizeof(SiteScope));
	site->permission_length = VARSIZE_ANY_EXHDR(permission);
	memcpy(site->permission, VARDATA_ANY(permission), site->permission_length);
	site->check = leyser_context_values.check;
	return site;
}

static bool
site_ask_everywhere(CallSite *site, text *permission, bool from_policy)
{
	if (!site->everywhere_known)
	{
		site->held = ask(permission, NULL, from_policy);
		site->everywhere_known = true;
	}
	return site->held;
}

/* Eight bytes at a time, some two nanoseconds. */
static inline uint32
site_hash(const char *scope, int length)
{
	uint64 hash = length;
	uint64 part;

	for (; length >= 8; length -= 8, scope += 8)
	{
		memcpy(&part, scope, 8);
		hash = (hash ^ part) * UINT64CONST(0x9E3779B97F4A7C15);
		hash ^= hash >> 32;
	}
	part = 0;
	memcpy(&part, scope, length);
	hash = (hash ^ part) * UINT64CONST(0x9E3779B97F4A7C15);
	return hash >> 32;
}

/* The first slots, or twice as many: those start empty. */
static void
site_grow(FmgrInfo *flinfo, CallSite *site)
{
	int slots = site->scopes ? site->slots * 2 : SITE_SLOTS_FIRST;
	SiteScope *scopes =
		MemoryContextAllocZero(flinfo->fn_mcxt, slots * sizeof(SiteScope));

	if (site->scopes)
		pfree(site->scopes);
	site->scopes = scopes;
	site->slots = slots;
	site->put_out = 0;
}

/* Asks, and keeps the answer in a slot in place of what is there. */
static bool
site_keep(CallSite *site, SiteScope *slot, text *permission, text *scope,
		  bool from_policy)
{
	if (slot->check == site->check)
		site->put_out++;
	slot->check = 0;
	slot->held = ask(permission, scope, from_policy);
	slot->length = VARSIZE_ANY_EXHDR(scope);
	memcpy(slot->scope, VARDATA_ANY(scope), slot->length);
	slot->check = site->check;
	return slot->held;
}

static bool
site_ask_scope(FmgrInfo *flinfo, CallSite *site, text *permission, text *scope,
			   bool from_policy)
{
	const char *start = VARDATA_ANY(scope);
	int length = VARSIZE_ANY_EXHDR(scope);
	SiteScope *slot;

	if (length > SITE_SCOPE_BYTES)
		return ask(permission, scope, from_policy);
	if (site->scopes == NULL ||
		(site->put_out > site->slots && site->slots < SITE_SLOTS_MAX))
		site_grow(flinfo, site);
	slot = &site->scopes[site_hash(start, length) & (site->slots - 1)];
	if (slot->check == site->check && slot->length == length &&
		memcmp(slot->scope, start, length) == 0)
		return slot->held;
	return site_keep(site, slot, permission, scope, from_policy);
}

/* What all three functions do: false without an account, errors as tenant_id(). */
static bool
permission_held(FunctionCallInfo fcinfo, bool from_policy)
{
	CallSite *site = fcinfo->flinfo->fn_extra;
	text *permission;
	text *scope;

	if (unlikely(!leyser_context_values.checked) && !leyser_context_require())
		return false;
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("permission must not be null"),
						errdetail("It names what is to be done."),
						errhint("For example leyser.has_permission('account.read').")));
	permission = PG_GETARG_TEXT_PP(0);
	scope = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	if (unlikely(!site_is_current(site, permission)))
		site = site_begin(fcinfo->flinfo, permission);
	if (unlikely(site == NULL))
		return ask(permission, scope, from_policy);
	return scope ? site_ask_scope(fcinfo->flinfo, site, permission, scope, from_policy)
				 : site_ask_everywhere(site, permission, from_policy);
}

/* ---- SQL ---- */

/* has_permission(permission text, scope text) → boolean */
Datum
leyser_has_permission(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(permission_held(fcinfo, false));
}

/* row_permission(permission text, scope text) → boolean */
Datum
leyser_row_permission(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(permission_held(fcinfo, true));
}

/* require_permission(permission text, scope text) → void */
Datum
leyser_require_permission(PG_FUNCTION_ARGS)
{
	if (!permission_held(fcinfo, false))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied"),
				 leyser_context_values.checked && leyser_context_values.account_id != 0
					 ? errdetail("The context's account does not have permission \"%s\" "
								 "here.",
								 text_to_cstring(PG_GETARG_TEXT_PP(0)))
					 : errdetail("The context has no account."),
				 errhint("leyser.explain_permission() tells what is missing.")));
	PG_RETURN_VOID();
}

/*
 * What the planner is to expect of row_permission(): that it lets all rows
 * through.  Users seldom ask for what they may not see, and the default of a
 * third would misjudge every join below a policy.
 */
Datum
leyser_row_permission_support(PG_FUNCTION_ARGS)
{
	Node *request = (Node *) PG_GETARG_POINTER(0);

	if (IsA(request, SupportRequestSelectivity))
	{
		((SupportRequestSelectivity *) request)->selectivity = 1.0;
		PG_RETURN_POINTER(request);
	}
	PG_RETURN_POINTER(NULL);
}
