/*
 * privileged_own.c
 *		Which statements are the server's or leyser's own work.
 *
 * The server checks foreign keys, and leyser purges, counts and adopts, with queries
 * that run as a table's owner whom FORCE does not bind meanwhile.  These are nobody's
 * look: what they are for has its record elsewhere.  The server's sign of them is
 * SECURITY_NOFORCE_RLS, or that a process of leyser's runs them.
 *
 * But what the owner attached to the table (triggers, index expressions, CHECKs) runs
 * inside of them, with all that; and reads what it likes.  So only the statement that
 * is on top is own work.  What runs inside of its planning, execution or utility
 * command counts like everybody's.  Not what its AFTER triggers run, for foreign keys
 * are checked there, too.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "privileged.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "optimizer/planner.h"
#include "postmaster/bgworker.h"
#include "tcop/utility.h"

#include "compat.h"

/* Statements of own work that run now, one within the other. */
static int own_depth = 0;

static planner_hook_type prev_planner = NULL;
static ExecutorRun_hook_type prev_executor_run = NULL;
static ProcessUtility_hook_type prev_utility = NULL;

/* The purge worker and the other ones of leyser's, save those that act as somebody. */
static inline bool
own_process(void)
{
	return MyBgworkerEntry != NULL &&
		   strcmp(MyBgworkerEntry->bgw_library_name, "leyser") == 0 &&
		   strcmp(MyBgworkerEntry->bgw_function_name, "leyser_attack_main") != 0;
}

bool
leyser_privileged_is_own_work(void)
{
	return own_depth == 0 && (InNoForceRLSOperation() || own_process());
}

/* ---- planning ---- */

static PlannedStmt *
own_chain_planner(Query *query, const char *text, int options, ParamListInfo params)
{
	if (prev_planner)
		return prev_planner(query, text, options, params);
	return standard_planner(query, text, options, params);
}

static PlannedStmt *
own_planner(Query *query, const char *text, int options, ParamListInfo params)
{
	PlannedStmt *plan = NULL;

	if (likely(!InNoForceRLSOperation()))
		return own_chain_planner(query, text, options, params);
	own_depth++;
	PG_TRY();
	{
		plan = own_chain_planner(query, text, options, params);
	}
	PG_FINALLY();
	{
		own_depth--;
	}
	PG_END_TRY();
	return plan;
}

/* ---- execution ---- */

static void
own_chain_run(LEYSER_EXECUTOR_RUN_PARAMS)
{
	if (prev_executor_run)
		prev_executor_run(LEYSER_EXECUTOR_RUN_ARGS);
	else
		standard_ExecutorRun(LEYSER_EXECUTOR_RUN_ARGS);
}

static void
own_executor_run(LEYSER_EXECUTOR_RUN_PARAMS)
{
	if (likely(!InNoForceRLSOperation()))
	{
		own_chain_run(LEYSER_EXECUTOR_RUN_ARGS);
		return;
	}
	own_depth++;
	PG_TRY();
	{
		own_chain_run(LEYSER_EXECUTOR_RUN_ARGS);
	}
	PG_FINALLY();
	{
		own_depth--;
	}
	PG_END_TRY();
}

/* ---- utility commands ---- */

static void
own_chain_utility(PlannedStmt *plan, const char *text, bool read_only_tree,
				  ProcessUtilityContext context, ParamListInfo params,
				  QueryEnvironment *env, DestReceiver *dest, QueryCompletion *completion)
{
	if (prev_utility)
		prev_utility(plan, text, read_only_tree, context, params, env, dest, completion);
	else
		standard_ProcessUtility(plan, text, read_only_tree, context, params, env, dest,
								completion);
}

static void
own_utility(PlannedStmt *plan, const char *text, bool read_only_tree,
			ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *env,
			DestReceiver *dest, QueryCompletion *completion)
{
	if (likely(!InNoForceRLSOperation()))
	{
		own_chain_utility(plan, text, read_only_tree, context, params, env, dest,
						  completion);
		return;
	}
	own_depth++;
	PG_TRY();
	{
		own_chain_utility(plan, text, read_only_tree, context, params, env, dest,
						  completion);
	}
	PG_FINALLY();
	{
		own_depth--;
	}
	PG_END_TRY();
}

/* Before the guard, whose hook is called before this one's and asks about what begins. */
void
leyser_privileged_own_init(void)
{
	prev_planner = planner_hook;
	planner_hook = own_planner;
	prev_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = own_executor_run;
	prev_utility = ProcessUtility_hook;
	ProcessUtility_hook = own_utility;
}
