/*
 * suspend.c
 *		A suspended table: for a time its policies let through who has no context.
 *
 * The policies of a suspended table are
 *		CASE WHEN leyser.protection_is_suspended(second, for_applications) THEN true
 *		ELSE column = getter END
 * so its protection comes back when the clock says so, whether anybody acts or not.
 * What stays bound meanwhile: every transaction in which a context is or was set
 * (else hostile SQL would leave its tenant's first), a role in whose window a tenant is
 * exported, and, unless they were let in, roles with usage application or gateway.  The
 * clock is asked for each row.
 *
 * That a suspension has ended never changes, so the planner may leave it out of a
 * plan: the tenant's index is used again.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "leyser.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/supportnodes.h"
#include "utils/timestamp.h"

#include "cache.h"
#include "context.h"

PG_FUNCTION_INFO_V1(leyser_protection_is_suspended);
PG_FUNCTION_INFO_V1(leyser_suspension_support);

static bool
suspension_has_ended(int64 until_second)
{
	int64 second =
		until_second - (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;

	return GetCurrentTimestamp() / USECS_PER_SEC >= second;
}

/* What one execution of a plan knows of its role. */
typedef struct SuspendedRole
{
	bool has_context; /* that of an export window, too */
	bool restricted;
} SuspendedRole;

static const SuspendedRole *
suspension_role(FmgrInfo *flinfo)
{
	SuspendedRole *role = flinfo->fn_extra;
	LeyserTokenError error;

	if (role)
		return role;
	role = MemoryContextAlloc(flinfo->fn_mcxt, sizeof(SuspendedRole));
	role->has_context = leyser_context_check(&error);
	/* also behind SET ROLE, in a definer function */
	role->restricted = leyser_cache_role_is_restricted(GetSessionUserId()) ||
					   leyser_cache_role_is_restricted(GetOuterUserId()) ||
					   leyser_cache_role_is_restricted(GetUserId());
	flinfo->fn_extra = role;
	return role;
}

/* protection_is_suspended(until_second bigint, for_applications boolean) → boolean */
Datum
leyser_protection_is_suspended(PG_FUNCTION_ARGS)
{
	const SuspendedRole *role;

	leyser_require_preloaded();
	if (suspension_has_ended(PG_GETARG_INT64(0)) || leyser_context_is_set() ||
		leyser_context_is_bound())
		PG_RETURN_BOOL(false);
	role = suspension_role(fcinfo->flinfo);
	PG_RETURN_BOOL(!role->has_context && (PG_GETARG_BOOL(1) || !role->restricted));
}

/* suspension_support(internal) → internal */
Datum
leyser_suspension_support(PG_FUNCTION_ARGS)
{
	SupportRequestSimplify *request = (SupportRequestSimplify *) PG_GETARG_POINTER(0);
	Const *until;

	if (!IsA(request, SupportRequestSimplify))
		PG_RETURN_POINTER(NULL);
	until = linitial(request->fcall->args);
	if (!IsA(until, Const) || until->constisnull || until->consttype != INT8OID ||
		!suspension_has_ended(DatumGetInt64(until->constvalue)))
		PG_RETURN_POINTER(NULL);
	PG_RETURN_POINTER(makeBoolConst(false, false));
}
