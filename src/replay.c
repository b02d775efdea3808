/*
 * replay.c
 *		CALL leyser.replay_purges(): erases again what a restore brought back, and
 *		CALL leyser.accept_fence(): goes on without a fence.
 *
 * Both commit before they touch the fence's file, as a file cannot be rolled back:
 * what the fence says has to be in the tables.  Killed at any moment, the next call
 * finds in tables and fence what is left to do.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "purge.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "cache_fence.h"
#include "fence_keep.h"
#include "owner.h"

PG_FUNCTION_INFO_V1(leyser_replay_call);
PG_FUNCTION_INFO_V1(leyser_accept_fence_call);

/* It commits, so it cannot be part of somebody's transaction. */
static void
refuse_transaction_block(FunctionCallInfo fcinfo, const char *procedure)
{
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
						errmsg("%s cannot run inside a transaction block", procedure),
						errdetail("It commits before it writes the fence."),
						errhint("CALL it as a statement of its own.")));
}

/* As the extension's owner, for the role that calls. */
static void
run_for_caller(const char *sql, Datum first, Oid first_type)
{
	Oid types[2] = {REGROLEOID, first_type};
	Datum values[2] = {ObjectIdGetDatum(GetOuterUserId()), first};

	if (SPI_execute_with_args(sql, OidIsValid(first_type) ? 2 : 1, types, values, NULL,
							  false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not run \"%s\"", sql);
}

/* The purges that are to be waited for, as bigints in the portal's memory. */
static List *
replay_queue(void)
{
	List *purges = NIL;
	LeyserOwnerState owner;

	leyser_owner_begin(&owner);
	run_for_caller("SELECT leyser.queue_replays($1)", (Datum) 0, InvalidOid);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext caller = MemoryContextSwitchTo(PortalContext);
		int64 *purge_id = palloc(sizeof(int64));

		*purge_id = leyser_purge_column((int) i, 1);
		purges = lappend(purges, purge_id);
		MemoryContextSwitchTo(caller);
	}
	leyser_owner_end(&owner);
	SPI_commit();
	return purges;
}

/* Writes what is committed into the fence, and tells all backends. */
static void
fence_follow(bool replace)
{
	LeyserKeyringError error;
	LeyserOwnerState owner;
	LeyserFence *fence;
	bool written;

	leyser_owner_begin(&owner);
	fence = leyser_fence_from_tables(PortalContext, true);
	leyser_owner_end(&owner);
	written = fence == NULL || (leyser_fence_claim(&fence->database, &error) &&
								leyser_fence_write(fence, replace, &error));
	(void) leyser_fence_look();
	if (!written && !replace && error.state == LEYSER_KEYRING_FOREIGN)
		ereport(WARNING, (errmsg("%s", error.message),
						  errdetail("Nothing is held any longer, but purges that are not "
									"in it wait."),
						  errhint("%s", error.hint)));
	else if (!written)
		leyser_keyring_raise(&error);
}

/* The commit waits for the disk, whatever synchronous_commit says. */
static void
commit_durably(void)
{
	(void) GetCurrentTransactionId();
	ForceSyncCommit();
	SPI_commit();
}

static void
replay_release(void)
{
	LeyserOwnerState owner;

	leyser_owner_begin(&owner);
	run_for_caller("SELECT leyser.release_restore($1)", (Datum) 0, InvalidOid);
	leyser_owner_end(&owner);
	commit_durably();
	fence_follow(false);
}

/* CALL replay_purges() */
Datum
leyser_replay_call(PG_FUNCTION_ARGS)
{
	ListCell *cell;

	leyser_require_preloaded();
	PreventCommandDuringRecovery("leyser.replay_purges()");
	refuse_transaction_block(fcinfo, "leyser.replay_purges()");
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	foreach (cell, replay_queue())
		leyser_purge_watch(*(int64 *) lfirst(cell));
	replay_release();
	SPI_finish();
	PG_RETURN_VOID();
}

/* CALL accept_fence(reason text) */
Datum
leyser_accept_fence_call(PG_FUNCTION_ARGS)
{
	LeyserOwnerState owner;
	char *reason = PG_ARGISNULL(0) ? pstrdup("") : text_to_cstring(PG_GETARG_TEXT_PP(0));

	leyser_require_preloaded();
	PreventCommandDuringRecovery("leyser.accept_fence()");
	refuse_transaction_block(fcinfo, "leyser.accept_fence()");
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	leyser_owner_begin(&owner);
	run_for_caller("SELECT leyser.note_acceptance($2, $1)", CStringGetTextDatum(reason),
				   TEXTOID);
	leyser_owner_end(&owner);
	commit_durably();
	fence_follow(true);
	SPI_finish();
	PG_RETURN_VOID();
}
