/*
 * purge_call.c
 *		CALL leyser.purge(): queues a purge, starts the worker and watches it.
 *
 * The call commits what it queued before anything else, so cancelling it, or
 * losing the connection, stops the watching and not the purge.  While it watches
 * it holds no snapshot between two looks: otherwise it would be what the purge
 * waits for.  So it is in C, and no SECURITY DEFINER procedure, which could not
 * commit: the looks act as the extension's owner instead.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "purge.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "postmaster/bgworker.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "launcher.h"
#include "owner.h"
#include "pause.h"

#define LOOK_WAIT 200       /* milliseconds between looks at a purge */
#define TELL_INTERVAL 2000  /* milliseconds between notices of mere progress */
#define START_INTERVAL 5000 /* milliseconds until a worker is started again */

PG_FUNCTION_INFO_V1(leyser_purge_call);
PG_FUNCTION_INFO_V1(leyser_start_purge_worker);

/* What leyser.look_at_purge() says. */
typedef struct PurgeLook
{
	bool ended;
	bool worker; /* it runs */
	char *stage; /* a change of it is told at once, */
	char *line;  /* this now and then */
} PurgeLook;

typedef struct PurgeWatch
{
	MemoryContext context; /* outlives the transactions */
	int64 purge_id;
	char *stage;
	char *line;
	TimestampTz told_at;
	TimestampTz started_at; /* when a worker was last started */
} PurgeWatch;

/* ---- the worker ---- */

/* This transaction's commit starts it. */
static bool worker_wanted = false;

static void
worker_start(void)
{
	if (!leyser_launcher_start(MyDatabaseId, NULL))
		ereport(WARNING,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not start leyser's purge worker"),
				 errdetail("All background worker slots are in use.  The purge is queued "
						   "and begins when one is free."),
				 errhint("Raise max_worker_processes.")));
}

/* It finds what was committed, so it is not started before that. */
static void
worker_start_at_commit(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			/* where there is no slot: the launcher tries again within a minute */
			if (worker_wanted)
				(void) leyser_launcher_start(MyDatabaseId, NULL);
			worker_wanted = false;
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			worker_wanted = false;
			break;
		default:
			break;
	}
}

/* start_purge_worker() → void: for purges that may go on, once this is committed. */
Datum
leyser_start_purge_worker(PG_FUNCTION_ARGS)
{
	static bool registered = false;

	leyser_require_preloaded();
	if (!registered)
		RegisterXactCallback(worker_start_at_commit, NULL);
	registered = true;
	worker_wanted = true;
	PG_RETURN_VOID();
}

/* ---- queueing ---- */

static void
refuse_null(FunctionCallInfo fcinfo)
{
	for (int i = 0; i < PG_NARGS(); i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("arguments of leyser.purge() cannot be null"),
							errdetail("Argument %d is null.", i + 1),
							errhint("Leave it out to get its default.")));
	}
}

/* It commits, so it cannot be part of somebody's transaction. */
static void
refuse_transaction_block(FunctionCallInfo fcinfo)
{
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
						errmsg("leyser.purge() cannot run inside a transaction block"),
						errdetail("It commits, for the work is done by another process."),
						errhint("CALL it as a statement of its own.")));
}

static int64
purge_queue(FunctionCallInfo fcinfo)
{
	Oid types[4] = {TEXTOID, INT4OID, INT4OID, REGROLEOID};
	Datum values[4] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), PG_GETARG_DATUM(2),
					   ObjectIdGetDatum(GetOuterUserId())};
	LeyserOwnerState owner;
	int64 purge_id;
	bool isnull;

	leyser_owner_begin(&owner);
	if (SPI_execute_with_args("SELECT leyser.queue_purge($1, $2, $3, $4)", 4, types,
							  values, NULL, false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not queue a purge");
	purge_id = DatumGetInt64(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	leyser_owner_end(&owner);
	return purge_id;
}

/* ---- watching ---- */

/* The strings live in the caller's context. */
static void
purge_look(int64 purge_id, PurgeLook *look)
{
	Oid types[1] = {INT8OID};
	Datum values[1] = {Int64GetDatum(purge_id)};
	MemoryContext caller = CurrentMemoryContext;
	LeyserOwnerState owner;
	bool isnull;

	leyser_owner_begin(&owner);
	if (SPI_execute_with_args("SELECT * FROM leyser.look_at_purge($1)", 1, types, values,
							  NULL, false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not look at purge %lld", (long long) purge_id);
	look->ended = DatumGetBool(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	look->worker = DatumGetBool(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	look->stage = MemoryContextStrdup(
		caller, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3));
	look->line = MemoryContextStrdup(
		caller, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4));
	leyser_owner_end(&owner);
}

/* Tells what is new; nothing twice. */
static void
purge_tell(PurgeWatch *watch, const PurgeLook *look)
{
	TimestampTz now = GetCurrentTimestamp();
	bool moved = watch->stage == NULL || strcmp(watch->stage, look->stage) != 0;

	if (!moved && (strcmp(watch->line, look->line) == 0 ||
				   !TimestampDifferenceExceeds(watch->told_at, now, TELL_INTERVAL)))
		return;
	ereport(NOTICE, (errmsg("%s", look->line)));
	watch->stage = MemoryContextStrdup(watch->context, look->stage);
	watch->line = MemoryContextStrdup(watch->context, look->line);
	watch->told_at = now;
}

/* A worker may have found no slot, or died. */
static void
worker_keep(PurgeWatch *watch, bool running)
{
	TimestampTz now = GetCurrentTimestamp();

	if (running || !TimestampDifferenceExceeds(watch->started_at, now, START_INTERVAL))
		return;
	watch->started_at = now;
	worker_start();
}

static void
watch_until_end(PurgeWatch *watch)
{
	for (;;)
	{
		MemoryContext caller = MemoryContextSwitchTo(watch->context);
		PurgeLook look = {0};

		purge_look(watch->purge_id, &look);
		MemoryContextSwitchTo(caller);
		SPI_commit();
		purge_tell(watch, &look);
		pfree(look.stage);
		pfree(look.line);
		if (look.ended)
			return;
		worker_keep(watch, look.worker);
		leyser_pause(LOOK_WAIT);
	}
}

void
leyser_purge_watch(int64 purge_id)
{
	PurgeWatch watch = {.purge_id = purge_id, .started_at = GetCurrentTimestamp()};

	worker_start();
	watch.context =
		AllocSetContextCreate(PortalContext, "leyser purge watch", ALLOCSET_SMALL_SIZES);
	watch_until_end(&watch);
	MemoryContextDelete(watch.context);
}

/* CALL purge(tenant_id text, batch_size int, max_rows_per_second int, wait boolean) */
Datum
leyser_purge_call(PG_FUNCTION_ARGS)
{
	int64 purge_id;
	bool wait;

	leyser_require_preloaded();
	PreventCommandDuringRecovery("leyser.purge()");
	refuse_null(fcinfo);
	refuse_transaction_block(fcinfo);
	wait = PG_GETARG_BOOL(3);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	purge_id = purge_queue(fcinfo);
	SPI_commit();
	if (wait)
		leyser_purge_watch(purge_id);
	else
		worker_start();
	SPI_finish();
	PG_RETURN_VOID();
}
