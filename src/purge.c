/*
 * purge.c
 *		The purge worker: one for each database with purges under way.
 *
 * CALL leyser.purge() only writes a row and sees that this worker runs; the
 * worker does the work, for it holds no snapshot between its steps, and goes on
 * whatever becomes of the caller.  The rules:
 *
 *  - All that is needed to go on lies in tables (purge_record, purge_table) and
 *    is committed with the work it speaks of, so a worker that was killed at any
 *    moment is replaced by one that finds the same purges and goes on.
 *  - One worker a database: it holds a lock of the session that nobody else can
 *    ask for.
 *  - Purges take turns by batch.  What all share (the scrub) is done when no
 *    purge has a batch to delete at the moment.
 *  - A step that fails is told in purge_record.last_error and tried again, later
 *    each time; a step that was cancelled likewise.
 *  - Between two steps a purge can be held: a step looks under a lock of the
 *    purge's row.
 *  - The worker ends when no purge is open.  It is started by CALL and by the
 *    launcher (launcher.c), which also replaces one that died.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "purge.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "cache.h"
#include "fence_keep.h"
#include "launcher.h"
#include "pause.h"
#include "scrub.h"
#include "worker.h"

#define IDLE_WAIT 1000    /* milliseconds between looks for something to do */
#define READ_INTERVAL 200 /* milliseconds between looks at the list of purges */
#define JOIN_WAIT 100     /* milliseconds between looks for the session's lock */
#define JOIN_LOOKS 10
#define RETRY_WAIT 1000 /* milliseconds after the first failure */
#define MAX_FAILURES 5
#define RETRY_DOUBLINGS 6 /* at most 64 times as long */
#define LOCK_TIMEOUT "2s" /* for a table that somebody else has locked */

extern PGDLLEXPORT void leyser_purge_main(Datum arg);

static MemoryContext purges_context = NULL;
static List *purges = NIL; /* of LeyserPurge */
static TimestampTz purges_read_at = 0;
static bool purge_ended = false; /* since the fence was last written */

/* ---- which purges there are ---- */

static LeyserPurge *
purge_known(int64 purge_id)
{
	ListCell *cell;

	foreach (cell, purges)
	{
		LeyserPurge *purge = lfirst(cell);

		if (purge->purge_id == purge_id)
			return purge;
	}
	return NULL;
}

/* A purge as the row of open_purges() says; what we know of it besides stays. */
static LeyserPurge *
purge_read(int row)
{
	int64 purge_id = leyser_purge_column(row, 1);
	LeyserPurge *purge = purge_known(purge_id);

	if (purge == NULL)
	{
		char *tenant_id = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 2);

		purge = MemoryContextAllocZero(purges_context, sizeof(LeyserPurge));
		purge->purge_id = purge_id;
		purge->tenant_id = MemoryContextStrdup(purges_context, tenant_id);
	}
	purge->planned = leyser_purge_column(row, 3) != 0;
	purge->deleted = leyser_purge_column(row, 4) != 0;
	purge->batch_size = (int) leyser_purge_column(row, 5);
	purge->max_rows_per_second = (int) leyser_purge_column(row, 6);
	return purge;
}

static void
purges_read(void *wait)
{
	List *open = NIL;
	MemoryContext caller;
	ListCell *cell;

	leyser_pause_worker(*(long *) wait);
	if (purges != NIL &&
		!TimestampDifferenceExceeds(purges_read_at, GetCurrentTimestamp(), READ_INTERVAL))
		return;
	leyser_purge_begin();
	(void) leyser_purge_query("SELECT * FROM leyser.open_purges()", 0);
	caller = MemoryContextSwitchTo(purges_context);
	for (uint64 i = 0; i < SPI_processed; i++)
		open = lappend(open, purge_read((int) i));
	MemoryContextSwitchTo(caller);
	foreach (cell, purges)
	{
		LeyserPurge *purge = lfirst(cell);

		if (list_member_ptr(open, purge))
			continue;
		purge_ended = true;
		leyser_purge_delete_reset(purge);
		pfree(purge->tenant_id);
		pfree(purge);
	}
	list_free(purges);
	purges = open;
	purges_read_at = GetCurrentTimestamp();
	leyser_purge_commit();
}

/* ---- steps that may fail ---- */

/* When a purge whose step failed tries again: later each time, but for locks. */
static void
purge_delay(LeyserPurge *purge, int sqlstate)
{
	int doublings = Min(purge->failures, RETRY_DOUBLINGS);

	if (sqlstate == ERRCODE_LOCK_NOT_AVAILABLE)
		doublings = 0;
	else
		purge->failures++;
	purge->next_at =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), RETRY_WAIT << doublings);
}

/* The last step that all share failed for a lock, which is named and waited for. */
static bool scrub_locked = false;

/* After an error: what is told about it; the transaction is over. */
static void
purge_failed(LeyserPurge *purge, const ErrorData *error)
{
	Oid types[3] = {INT8OID, TEXTOID, TEXTOID};
	Datum values[3];

	if (purge != NULL)
	{
		leyser_purge_delete_reset(purge);
		purge_delay(purge, error->sqlerrcode);
	}
	else
		scrub_locked = error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	leyser_purge_begin();
	values[0] = Int64GetDatum(purge != NULL ? purge->purge_id : 0);
	values[1] = CStringGetTextDatum(unpack_sql_state(error->sqlerrcode));
	values[2] = CStringGetTextDatum(leyser_purge_error_text(error));
	if (SPI_execute_with_args(purge != NULL ? "SELECT leyser.note_purge_error($1, $2, $3)"
											: "SELECT leyser.note_scrub_error($2, $3)",
							  3, types, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not note an error");
	leyser_purge_commit();
}

/* A purge's step, or without a purge one that all share. */
typedef struct PurgeWork
{
	void (*work)(LeyserPurge *);
	LeyserPurge *purge;
} PurgeWork;

static void
purge_work(void *arg)
{
	PurgeWork *work = arg;

	work->work(work->purge);
}

/* Does one step; false where it failed or was cancelled. */
static bool
purge_try(void (*work)(LeyserPurge *), LeyserPurge *purge)
{
	PurgeWork step = {.work = work, .purge = purge};
	ErrorData *error = leyser_purge_guard(purge_work, &step);

	if (error == NULL)
		return true;
	purge_failed(purge, error);
	FreeErrorData(error);
	return false;
}

/* ---- the loop ---- */

static void
purge_advance(LeyserPurge *purge)
{
	if (purge->planned)
	{
		leyser_purge_delete(purge);
		return;
	}
	leyser_purge_tell("purge %lld: planning", (long long) purge->purge_id);
	(void) leyser_purge_step("SELECT leyser.start_purge($1)", purge->purge_id);
	purge->planned = true;
}

/* A batch for each purge that may have one now; whether there was any. */
static bool
purges_advance(void)
{
	bool worked = false;
	ListCell *cell;

	foreach (cell, purges)
	{
		LeyserPurge *purge = lfirst(cell);

		if (purge->deleted || purge->next_at > GetCurrentTimestamp())
			continue;
		worked |= purge_try(purge_advance, purge);
	}
	return worked;
}

static bool scrub_worked;

static void
scrub_advance(LeyserPurge *unused)
{
	scrub_worked = leyser_purge_scrub();
}

static TimestampTz scrub_next_at = 0;
static int scrub_failures = 0;

/* As a purge's batch; all purges share it. */
static bool
scrubs_advance(void)
{
	scrub_worked = false;
	if (scrub_next_at > GetCurrentTimestamp())
		return false;
	if (purge_try(scrub_advance, NULL))
	{
		scrub_failures = 0;
		return scrub_worked;
	}
	if (scrub_locked)
		scrub_failures = 0;
	scrub_next_at = TimestampTzPlusMilliseconds(
		GetCurrentTimestamp(), RETRY_WAIT << Min(scrub_failures++, RETRY_DOUBLINGS));
	return false;
}

/* How long until a purge may have its next batch. */
static long
purges_idle_time(void)
{
	TimestampTz now = GetCurrentTimestamp();
	long wait = IDLE_WAIT;
	ListCell *cell;

	foreach (cell, purges)
	{
		LeyserPurge *purge = lfirst(cell);

		if (!purge->deleted)
			wait = Min(wait, TimestampDifferenceMilliseconds(now, purge->next_at));
	}
	return Max(wait, 1);
}

static void
purges_work(void *worked)
{
	leyser_purge_promoted();
	*(bool *) worked = purges_advance() || scrubs_advance();
}

static void
purges_idle(void *unused)
{
	pgstat_report_activity(STATE_IDLE, NULL);
	leyser_pause_worker(purges_idle_time());
}

/* Whether a part of a turn failed; there is nothing left to cancel. */
static bool
turn_failed(void (*work)(void *), void *arg)
{
	ErrorData *error = leyser_purge_guard(work, arg);

	return error != NULL && error->sqlerrcode != ERRCODE_QUERY_CANCELED;
}

/* One turn for all, after a while; false where that failed. */
static bool
purges_turn(long wait)
{
	bool worked = false;

	if (turn_failed(purges_read, &wait))
		return false;
	if (purge_ended)
		leyser_fence_tend();
	else
		leyser_fence_tend_in_turn();
	purge_ended = false;
	if (purges == NIL && !leyser_purge_promoted_waits())
		return true;
	if (turn_failed(purges_work, &worked))
		return false;
	return worked || !turn_failed(purges_idle, NULL);
}

/* Until no purge is open, or, leyser being dropped, say, nothing works any longer. */
static void
purges_run(void)
{
	MemoryContext turn = AllocSetContextCreate(TopMemoryContext, "leyser purge turn",
											   ALLOCSET_DEFAULT_SIZES);
	int failures = 0;

	do
	{
		MemoryContextReset(turn);
		MemoryContextSwitchTo(turn);
		failures = purges_turn(failures == 0 ? 0 : RETRY_WAIT) ? 0 : failures + 1;
	} while (failures < MAX_FAILURES &&
			 (failures > 0 || purges != NIL || leyser_purge_promoted_waits()));
}

/* ---- the worker ---- */

static void
purge_set(const char *name, const char *value)
{
	SetConfigOption(name, value, PGC_SUSET, PGC_S_OVERRIDE);
}

/* What the database's owner set for it must not stop or change a purge. */
static void
purge_connect(Oid database)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	leyser_worker_fix_settings();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	leyser_worker_fix_role();
	purge_set("lock_timeout", LOCK_TIMEOUT);
	purge_set("statement_timeout", "0");
	if (GetConfigOption("transaction_timeout", true, false) != NULL)
		purge_set("transaction_timeout", "0");
	purge_set("session_replication_role", "origin");
	purge_set("row_security", "on");
	purge_set("enable_tidscan", "on");
	/* conditions were checked as they are read here */
	purge_set("standard_conforming_strings", "on");
	purge_set("temp_file_limit", "-1");
}

/* Another worker may be just about to end. */
static bool
purge_join(void)
{
	for (int i = 0; i < JOIN_LOOKS; i++)
	{
		if (leyser_launcher_lock(MyDatabaseId))
			return true;
		leyser_pause_worker(JOIN_WAIT);
	}
	return false;
}

static LeyserLauncherAnswer
purge_look(void)
{
	bool installed;
	bool open;

	leyser_purge_begin();
	installed = OidIsValid(leyser_cache_extension());
	leyser_purge_commit();
	if (!installed)
		return LEYSER_LAUNCHER_NOT_INSTALLED;
	leyser_fence_tend();
	leyser_purge_begin();
	open =
		leyser_purge_query("SELECT count(*) FROM leyser.open_purges()", 0) > 0 ||
		(RecoveryInProgress() ? leyser_purge_standby_due() : leyser_purge_promoted_due());
	leyser_purge_commit();
	return open ? LEYSER_LAUNCHER_OPEN : LEYSER_LAUNCHER_IDLE;
}

void
leyser_purge_main(Datum arg)
{
	Oid database = DatumGetObjectId(arg);
	LeyserLauncherAnswer answer;

	purge_connect(database);
	purges_context =
		AllocSetContextCreate(TopMemoryContext, "leyser purges", ALLOCSET_DEFAULT_SIZES);
	answer = purge_look();
	leyser_launcher_answer(database, answer);
	if (answer != LEYSER_LAUNCHER_OPEN || !purge_join())
		return;
	if (RecoveryInProgress())
		leyser_purge_standby();
	else if (leyser_purge_guard(leyser_purge_watch_files, NULL) == NULL)
		purges_run();
}
