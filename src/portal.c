/*
 * portal.c
 *		Cursors: what their later rows depend on still has to hold.
 *
 * Who fetches from a cursor runs a statement, but the plan goes on from where
 * it stood: the getter behind an index's condition was called long ago, and
 * rows that wait in a sort's buffer have passed their policies.  So when a
 * portal is run again, all that its rows depended on until now is looked at
 * before any more of them are shown: the context, if a getter was called, and
 * each permission that was found to be held.  What the context's end, a revoke
 * or an expiry took away in between raises, as it does for any other statement.
 *
 * Only portals that can be run again are remembered: those with a name, and
 * those that a client runs with a limit.  Row security does not bind superusers,
 * nor their functions: leyser's own goes on where it has just ended a session.  A portal that waits is not run in
 * parallel, so all that is asked is asked in this process.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "portal.h"

#include "leyser.h"

#include "executor/executor.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "utils/memutils.h"
#include "utils/portal.h"

#include "compat.h"
#include "context.h"
#include "permission.h"

/* A portal that was run and may be run again; lives and dies with its executor state. */
typedef struct WaitingPortal
{
	dlist_node node;
	const QueryDesc *query;
	bool needs_context;
	LeyserPermissionNotes *notes;
	MemoryContextCallback forget;
} WaitingPortal;

static dlist_head waiting = DLIST_STATIC_INIT(waiting);

static ExecutorRun_hook_type prev_executor_run = NULL;

static bool
portal_can_be_run_again(const QueryDesc *query, uint64 count)
{
	return ActivePortal != NULL && ActivePortal->queryDesc == query &&
		   (count != 0 || ActivePortal->name[0] != '\0') && !superuser();
}

static WaitingPortal *
portal_find(const QueryDesc *query)
{
	dlist_iter iter;

	dlist_foreach(iter, &waiting)
	{
		WaitingPortal *portal = dlist_container(WaitingPortal, node, iter.cur);

		if (portal->query == query)
			return portal;
	}
	return NULL;
}

static void
portal_forget(void *arg)
{
	dlist_delete(&((WaitingPortal *) arg)->node);
}

static WaitingPortal *
portal_remember(const QueryDesc *query)
{
	MemoryContext memory = query->estate->es_query_cxt;
	WaitingPortal *portal = MemoryContextAllocZero(memory, sizeof(WaitingPortal));

	portal->query = query;
	portal->notes = leyser_permission_notes_make(memory);
	portal->forget.func = portal_forget;
	portal->forget.arg = portal;
	dlist_push_head(&waiting, &portal->node);
	MemoryContextRegisterResetCallback(memory, &portal->forget);
	return portal;
}

/* Before a portal goes on. */
static void
portal_check(const WaitingPortal *portal)
{
	if (!portal->needs_context)
		return;
	leyser_context_new_statement();
	if (leyser_context_require() && leyser_permission_still_held(portal->notes))
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		 errmsg("permission denied to go on with the cursor"),
		 errdetail(
			 "What its rows depend on was revoked, or has ended, since it was opened."),
		 errhint("Run the query again.")));
}

static void
portal_run_noted(WaitingPortal *portal, LEYSER_EXECUTOR_RUN_PARAMS)
{
	LeyserPermissionNotes *outer = leyser_permission_notes;

	leyser_permission_notes = portal->notes;
	PG_TRY();
	{
		prev_executor_run(LEYSER_EXECUTOR_RUN_ARGS);
	}
	PG_FINALLY();
	{
		leyser_permission_notes = outer;
	}
	PG_END_TRY();
	portal->needs_context |= leyser_context_values.checked;
}

static void
portal_executor_run(LEYSER_EXECUTOR_RUN_PARAMS)
{
	WaitingPortal *portal;

	if (likely(!portal_can_be_run_again(queryDesc, count)))
	{
		prev_executor_run(LEYSER_EXECUTOR_RUN_ARGS);
		return;
	}
	portal = portal_find(queryDesc);
	if (portal)
		portal_check(portal);
	else
		portal = portal_remember(queryDesc);
	portal_run_noted(portal, LEYSER_EXECUTOR_RUN_ARGS);
}

/* After context_check.c, whose hook is the one before ours. */
void
leyser_portal_init(void)
{
	prev_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = portal_executor_run;
}
