/*
 * support.c
 *		Contexts in which a tenant lets the provider look.
 *
 * Such a context has a session, which stands in support_record, and no account.
 * What ends it is what ends every context: its expiry at the end of the window,
 * and the list of revoked sessions.  Policies of set_permissions() let it read.
 *
 * It must not write.  leyser.enter_support() makes the transaction read-only, but
 * that alone would not do: the end of a subtransaction, or of a function with a
 * SET clause, brings back what was before it, and a statement that writes already
 * when its own SELECT list calls enter_support() is looked at no more.  So every
 * check of such a context looks whether the transaction is read-only now, and
 * whether a statement that writes is being executed, here or further up.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "support.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"

#include "cache.h"
#include "compat.h"
#include "disclosure.h"

/* Statements that write and are being executed, one within the other. */
static int writing = 0;

static ExecutorRun_hook_type prev_executor_run = NULL;
static ExecutorFinish_hook_type prev_executor_finish = NULL;

/* ---- looking ---- */

bool
leyser_support_only_reads(void)
{
	/* nothing is written in parallel mode, and workers do not know XactReadOnly */
	return IsParallelWorker() || (XactReadOnly && writing == 0);
}

bool
leyser_support_check(const LeyserContext *context, LeyserTokenError *error)
{
	if (!context->has_session || context->account != 0 || leyser_support_only_reads())
		return true;
	if (OidIsValid(leyser_disclosure_role(&context->session)))
		leyser_context_error(error, ERRCODE_READ_ONLY_SQL_TRANSACTION,
							 "a disclosure only reads",
							 "The transaction, or the statement, can write.",
							 "Call leyser.enter_disclosure() in a statement of its own, "
							 "in a transaction that stays read-only.");
	else
		leyser_context_error(error, ERRCODE_READ_ONLY_SQL_TRANSACTION,
							 "support access only reads",
							 "The transaction, or the statement, can write.",
							 "Call leyser.enter_support() in a statement of its own, in "
							 "a transaction that stays read-only.");
	return false;
}

bool
leyser_support_is_open(void)
{
	const LeyserContextValues *values = &leyser_context_values;

	return values->account == NULL && values->session != NULL &&
		   (leyser_cache_support_role(values->session) == GetOuterUserId() ||
			leyser_disclosure_role(values->session) == GetOuterUserId());
}

/* ---- statements that write ---- */

static inline bool
support_writes(const QueryDesc *query)
{
	return query->operation != CMD_SELECT || query->plannedstmt->hasModifyingCTE;
}

static void
support_chain_run(LEYSER_EXECUTOR_RUN_PARAMS)
{
	if (prev_executor_run)
		prev_executor_run(LEYSER_EXECUTOR_RUN_ARGS);
	else
		standard_ExecutorRun(LEYSER_EXECUTOR_RUN_ARGS);
}

static void
support_executor_run(LEYSER_EXECUTOR_RUN_PARAMS)
{
	if (!support_writes(queryDesc))
	{
		support_chain_run(LEYSER_EXECUTOR_RUN_ARGS);
		return;
	}
	writing++;
	PG_TRY();
	{
		support_chain_run(LEYSER_EXECUTOR_RUN_ARGS);
	}
	PG_FINALLY();
	{
		writing--;
	}
	PG_END_TRY();
}

static void
support_chain_finish(QueryDesc *queryDesc)
{
	if (prev_executor_finish)
		prev_executor_finish(queryDesc);
	else
		standard_ExecutorFinish(queryDesc);
}

/* Runs what is left of WITH queries that write. */
static void
support_executor_finish(QueryDesc *queryDesc)
{
	if (!support_writes(queryDesc))
	{
		support_chain_finish(queryDesc);
		return;
	}
	writing++;
	PG_TRY();
	{
		support_chain_finish(queryDesc);
	}
	PG_FINALLY();
	{
		writing--;
	}
	PG_END_TRY();
}

void
leyser_support_init(void)
{
	prev_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = support_executor_run;
	prev_executor_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = support_executor_finish;
}
