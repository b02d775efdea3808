/*
 * observe.c
 *		Tables that are observed: nothing is refused, all that would be is counted.
 *
 * An observed table has no policies.  Row security would change results: it takes
 * no COPY FROM, binds the owner to policies of the table's own, and fails where
 * row_security is off.  So what looks on is put into plans, and is always true:
 *
 *  - When a plan is executed, the tables that its statement names are looked up.
 *    Where no context counts, that is a gap ("missing"), whether the statement
 *    finds a row or not: enforced, it would raise at once.
 *  - Before a query is planned, it gets a condition over the tenant columns of its
 *    observed tables, leyser.observe_rows(…), which sees the rows that are left
 *    after all joins and other conditions; and a check of the rows it writes, as
 *    row security would.  A row of another tenant than the context's is a gap
 *    ("foreign"), once a statement.
 *  - COPY of a table and TRUNCATE pass by the planner, and are looked at by
 *    themselves.
 *
 * What row security would not bind is not counted: superusers, roles with
 * BYPASSRLS, and what their views read.  Functions in SQL that the planner inlines
 * into a FROM are seen by the first rule only.
 *
 * Plans are kept across a change of a table's enforcement until the message of
 * leyser.forget_plans() comes in; the condition itself looks once a statement
 * whether the table is observed still.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "observe.h"

#include "access/parallel.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/inval.h"

#include "cache.h"
#include "compat.h"
#include "context.h"
#include "context_gap.h"

static ExecutorStart_hook_type prev_executor_start = NULL;

PG_FUNCTION_INFO_V1(leyser_forget_plans);

bool
leyser_observe_binds(Oid check_as)
{
	return !has_bypassrls_privilege(OidIsValid(check_as) ? check_as : GetUserId());
}

/* The tables that a statement names, where no context counts. */
static void
observe_statement(const PlannedStmt *plan)
{
	LeyserTokenError error;
	ListCell *cell;
	bool checked = false;

	foreach (cell, plan->rtable)
	{
		const RangeTblEntry *rte = lfirst(cell);
		Oid check_as;

		if (rte->rtekind != RTE_RELATION || rte->relid < FirstNormalObjectId ||
			!leyser_cache_observed(rte->relid) ||
			!leyser_plan_names(plan, rte, &check_as) || !leyser_observe_binds(check_as))
			continue;
		if (!checked && leyser_context_check(&error))
			return;
		checked = true;
		leyser_context_gap_note(rte->relid, LEYSER_GAP_MISSING, error.sqlerrcode,
								(int64) plan->queryId);
	}
}

static void
observe_executor_start(QueryDesc *query, int eflags)
{
	if (!(eflags & EXEC_FLAG_EXPLAIN_ONLY) && !IsParallelWorker())
		observe_statement(query->plannedstmt);
	if (prev_executor_start)
		prev_executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
}

void
leyser_observe_utility(const PlannedStmt *statement)
{
	const CopyStmt *copy = (const CopyStmt *) statement->utilityStmt;
	LeyserTokenError error;
	Oid relation;

	if (!IsA(copy, CopyStmt) || copy->relation == NULL || !leyser_cache_observes())
		return;
	relation = RangeVarGetRelid(copy->relation, NoLock, true);
	if (!OidIsValid(relation) || !leyser_cache_observed(relation) ||
		!leyser_observe_binds(InvalidOid))
		return;
	if (copy->is_from)
		leyser_context_gap_note(relation, LEYSER_GAP_REFUSED,
								ERRCODE_FEATURE_NOT_SUPPORTED,
								(int64) statement->queryId);
	else if (!leyser_context_check(&error))
		leyser_context_gap_note(relation, LEYSER_GAP_MISSING, error.sqlerrcode,
								(int64) statement->queryId);
	else
		leyser_context_gap_note(relation, LEYSER_GAP_FOREIGN, 0,
								(int64) statement->queryId);
}

void
leyser_observe_truncate(Oid relation)
{
	if (leyser_cache_observes() && leyser_cache_observed(relation))
		leyser_context_gap_note(relation, LEYSER_GAP_REFUSED,
								LEYSER_ERRCODE_GUARD_REFUSED, 0);
}

/* forget_plans(relation regclass) → void: once the transaction commits */
Datum
leyser_forget_plans(PG_FUNCTION_ARGS)
{
	CacheInvalidateRelcacheByRelid(PG_GETARG_OID(0));
	PG_RETURN_VOID();
}

/* Ids of queries are computed where nobody turned that off. */
void
leyser_observe_init(void)
{
	EnableQueryId();
	leyser_observe_plan_init();
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = observe_executor_start;
}
