/*
 * audit_memory.c
 *		Memory for the rows of audited statements.
 *
 * The server keeps the rows that a statement changed, before and after, for the
 * trigger that records them, each in work_mem, beyond which they go through temporary
 * files.  At the usual 4 MB that is a tenth of the time of 100,000 rows.  So where a
 * statement changes an audited table they have TABLE_KILOBYTES each, which are taken
 * only as rows come.  The limit is fixed when the executor starts a plan: what else of
 * the plan asks then (hashed aggregates) has it, too.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "audit_table.h"

#include "access/table.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/plannodes.h"
#include "parser/parsetree.h"
#include "utils/rel.h"

#define TABLE_KILOBYTES (32 * 1024)

static ExecutorStart_hook_type prev_executor_start = NULL;

/* The plan holds locks on its tables. */
static bool
table_is_audited(Oid relation)
{
	Relation rel = RelationIdGetRelation(relation);
	bool audited = false;

	if (rel == NULL)
		return false;
	for (int i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers && !audited; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];

		audited = (trigger->tgoldtable || trigger->tgnewtable) &&
				  strncmp(trigger->tgname, LEYSER_AUDIT_TRIGGER,
						  strlen(LEYSER_AUDIT_TRIGGER)) == 0;
	}
	RelationClose(rel);
	return audited;
}

static bool
plan_is_audited(const PlannedStmt *plan)
{
	ListCell *cell;

	foreach (cell, plan->resultRelations)
	{
		if (table_is_audited(rt_fetch(lfirst_int(cell), plan->rtable)->relid))
			return true;
	}
	return false;
}

static void
memory_start(QueryDesc *queryDesc, int eflags)
{
	if (prev_executor_start)
		prev_executor_start(queryDesc, eflags);
	else
		standard_ExecutorStart(queryDesc, eflags);
}

static void
memory_executor_start(QueryDesc *queryDesc, int eflags)
{
	int former = work_mem;

	if (queryDesc->plannedstmt->resultRelations == NIL ||
		(eflags & EXEC_FLAG_EXPLAIN_ONLY) != 0 || former >= TABLE_KILOBYTES ||
		!plan_is_audited(queryDesc->plannedstmt))
	{
		memory_start(queryDesc, eflags);
		return;
	}
	work_mem = TABLE_KILOBYTES;
	PG_TRY();
	{
		memory_start(queryDesc, eflags);
	}
	PG_FINALLY();
	{
		work_mem = former;
	}
	PG_END_TRY();
}

void
leyser_audit_memory_init(void)
{
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = memory_executor_start;
}
