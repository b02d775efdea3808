/*
 * scrub_utility.c
 *		Runs statements that must not run in a transaction block.
 *
 * VACUUM, REINDEX CONCURRENTLY and their like commit in the middle.  They want
 * to be the top-level statement of a portal that outlives their transactions
 * (without its PortalContext VACUUM crashes), and SPI refuses them.  So this
 * does what the server does with a simple query.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "scrub.h"

#include "access/xact.h"
#include "pgstat.h"
#include "tcop/dest.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

#include "compat.h"

/* Parses and plans a statement, which is a utility statement: no planning. */
static List *
utility_plan(RawStmt *statement, const char *sql)
{
	List *queries = pg_analyze_and_rewrite_fixedparams(statement, sql, NULL, 0, NULL);

	return pg_plan_queries(queries, sql, 0, NULL);
}

static void
utility_run(RawStmt *statement, const char *sql)
{
	List *plans = utility_plan(statement, sql);
	Portal portal = CreatePortal("", true, true);
	QueryCompletion completion;

	portal->visible = false;
	PortalDefineQuery(portal, NULL, sql, CreateCommandTag(statement->stmt), plans, NULL);
	PortalStart(portal, NULL, 0, InvalidSnapshot);
	leyser_portal_run(portal, None_Receiver, &completion);
	PortalDrop(portal, false);
}

/*
 * Runs one utility statement in transactions of its own.  An error leaves the
 * transaction to the caller, who aborts it as after any other error.
 */
void
leyser_scrub_utility(const char *sql)
{
	/* lives as long as the longest statement; an error's is freed here */
	static MemoryContext statement_context = NULL;
	MemoryContext caller = CurrentMemoryContext;
	List *statements;

	if (statement_context == NULL)
		statement_context = AllocSetContextCreate(TopMemoryContext, "leyser utility",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(statement_context);
	sql = MemoryContextStrdup(statement_context, sql);
	pgstat_report_activity(STATE_RUNNING, sql);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	MemoryContextSwitchTo(statement_context);
	statements = pg_parse_query(sql);
	Assert(list_length(statements) == 1);
	utility_run(linitial_node(RawStmt, statements), sql);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	MemoryContextReset(statement_context);
	pgstat_report_stat(false);
}
