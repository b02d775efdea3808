/*
 * worker.c
 *		The background worker: one for each database that has tasks.
 *
 * Starting a process for each task costs milliseconds and finds no slot when
 * many ask at once, so a database's worker stays while there is work.  The
 * rules, beside those of task.c:
 *
 *  - A worker without work ends after IDLE_TIMEOUT.  That is shorter than the
 *    five seconds for which DROP DATABASE waits for others to leave.
 *  - Whoever ends first looks for tasks and leaves the list of workers under
 *    the same lock, so no task is put in between; SIGTERM ends a worker only
 *    there.
 *  - A worker serves everybody in its database, so a task waits for no lock for
 *    longer than its lock_timeout (worker_settings.c).
 *  - The server does not restart a worker: whoever needs one starts it.  A
 *    restart could find its database dropped, again and again.
 *  - Parallel queries may take every place for a background worker.  So one
 *    more is registered at the server's start, whose place nobody else can have:
 *    the reserve.  It waits without a database, becomes the worker of the one whose
 *    worker found no place, and ends like any other; the server starts it anew.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "worker.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#define IDLE_TIMEOUT 2000  /* milliseconds */
#define START_TIMEOUT 3000 /* milliseconds until a start counts as failed */
#define RESERVE_RESTART 1  /* seconds until the server starts the reserve anew */

/* In the worker: what it is doing. */
static LeyserSlot *current_slot = NULL;

extern PGDLLEXPORT void leyser_worker_main(Datum arg);
extern PGDLLEXPORT void leyser_worker_reserve_main(Datum arg);

/* ---- the list of workers ---- */

/* Under the lock: a database's entry in the list of workers, or NULL. */
static LeyserWorker *
worker_find(Oid database)
{
	for (int i = 0; i < LEYSER_WORKERS; i++)
	{
		if (leyser_worker_shared->workers[i].database == database)
			return &leyser_worker_shared->workers[i];
	}
	return NULL;
}

/* Under the lock: this database's worker with that latch is no longer there. */
static void
worker_forget(const Latch *latch)
{
	LeyserWorker *worker = worker_find(MyDatabaseId);

	if (worker != NULL && worker->latch == latch)
		memset(worker, 0, sizeof(LeyserWorker));
}

/* Was asked to start, and did not come up. */
static bool
worker_is_stale(const LeyserWorker *worker, TimestampTz now)
{
	return worker->latch == NULL &&
		   TimestampDifferenceExceeds(worker->asked_at, now, START_TIMEOUT);
}

/* Under the lock: a place in the list, or NULL. */
static LeyserWorker *
worker_vacant(TimestampTz now)
{
	for (int i = 0; i < LEYSER_WORKERS; i++)
	{
		LeyserWorker *worker = &leyser_worker_shared->workers[i];

		if (!OidIsValid(worker->database) || worker_is_stale(worker, now))
			return worker;
	}
	return NULL;
}

/* ---- starting a worker ---- */

static BackgroundWorker
worker_description(const char *name, const char *function, int restart, Oid database)
{
	BackgroundWorker worker = {.bgw_flags = BGWORKER_SHMEM_ACCESS |
											BGWORKER_BACKEND_DATABASE_CONNECTION,
							   .bgw_start_time = BgWorkerStart_RecoveryFinished,
							   .bgw_restart_time = restart,
							   .bgw_main_arg = ObjectIdGetDatum(database)};

	strlcpy(worker.bgw_library_name, "leyser", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);
	strlcpy(worker.bgw_name, name, BGW_MAXLEN);
	strlcpy(worker.bgw_type, "leyser worker", BGW_MAXLEN);
	return worker;
}

/*
 * At the server's start.  Where even then there is no place for it the server
 * says so in its log, and names max_worker_processes.
 */
void
leyser_worker_register_reserve(void)
{
	BackgroundWorker worker = worker_description(
		"leyser reserve", "leyser_worker_reserve_main", RESERVE_RESTART, InvalidOid);

	RegisterBackgroundWorker(&worker);
}

/* Where no place is free the reserve takes it on, if it is not at work; else false. */
static bool
worker_register(void)
{
	BackgroundWorker worker = worker_description("leyser worker", "leyser_worker_main",
												 BGW_NEVER_RESTART, MyDatabaseId);
	bool served;

	if (RegisterDynamicBackgroundWorker(&worker, NULL))
		return true;
	LWLockAcquire(leyser_worker_shared->lock, LW_EXCLUSIVE);
	worker_forget(NULL);
	served = leyser_worker_shared->reserve_started;
	if (leyser_worker_shared->reserve != NULL)
		SetLatch(leyser_worker_shared->reserve);
	LWLockRelease(leyser_worker_shared->lock);
	return served;
}

/*
 * Wakes this database's worker, or has one started.  Where the list is full,
 * the caller looks again until its time is up.
 */
bool
leyser_worker_try(void)
{
	TimestampTz now = GetCurrentTimestamp();
	bool start = false;
	LeyserWorker *worker;

	LWLockAcquire(leyser_worker_shared->lock, LW_EXCLUSIVE);
	worker = worker_find(MyDatabaseId);
	if (worker != NULL && worker->latch != NULL)
		SetLatch(worker->latch);
	else if (worker == NULL || worker_is_stale(worker, now))
	{
		if (worker == NULL)
			worker = worker_vacant(now);
		start = worker != NULL;
		if (start)
			*worker = (LeyserWorker){.database = MyDatabaseId, .asked_at = now};
	}
	LWLockRelease(leyser_worker_shared->lock);
	return !start || worker_register();
}

void
leyser_worker_ensure(void)
{
	if (!leyser_worker_try())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
						errmsg("could not start leyser's worker"),
						errdetail("All background worker slots are in use."),
						errhint("Raise max_worker_processes.")));
}

/* ---- the worker ---- */

/* However the worker ends: what it was doing failed. */
static void
worker_exit(int code, Datum arg)
{
	LWLockAcquire(leyser_worker_shared->lock, LW_EXCLUSIVE);
	if (current_slot != NULL)
		leyser_task_finish(current_slot, false);
	worker_forget(MyLatch);
	LWLockRelease(leyser_worker_shared->lock);
}

/* Takes this database's place in the list; false where another worker has it. */
static bool
worker_join(void)
{
	LeyserWorker *worker;
	bool joined;

	LWLockAcquire(leyser_worker_shared->lock, LW_EXCLUSIVE);
	worker = worker_find(MyDatabaseId);
	if (worker == NULL)
		worker = worker_vacant(GetCurrentTimestamp());
	joined = worker != NULL && worker->latch == NULL;
	if (joined)
		*worker = (LeyserWorker){.database = MyDatabaseId, .latch = MyLatch};
	LWLockRelease(leyser_worker_shared->lock);
	if (joined)
		before_shmem_exit(worker_exit, (Datum) 0);
	return joined;
}

/* The oldest task of this database; leaves the list where there is none. */
static LeyserSlot *
worker_take(bool leave)
{
	LeyserSlot *oldest = NULL;

	LWLockAcquire(leyser_worker_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < LEYSER_SLOTS; i++)
	{
		LeyserSlot *slot = &leyser_worker_shared->slots[i];

		if (slot->state == LEYSER_SLOT_WAITING && slot->database == MyDatabaseId &&
			(oldest == NULL || slot->number < oldest->number))
			oldest = slot;
	}
	current_slot = oldest;
	if (oldest != NULL)
		oldest->state = LEYSER_SLOT_RUNNING;
	else if (leave)
		worker_forget(MyLatch);
	LWLockRelease(leyser_worker_shared->lock);
	return oldest;
}

/* Runs leyser.perform_task(task, payload); its result goes into the slot. */
static void
task_execute(LeyserSlot *slot)
{
	Oid types[2] = {TEXTOID, TEXTOID};
	Datum values[2] = {CStringGetTextDatum(slot->task),
					   CStringGetTextDatum(slot->payload)};
	char *result;

	if (SPI_execute_with_args("SELECT leyser.perform_task($1, $2)", 2, types, values,
							  NULL, false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not call leyser.perform_task()");
	result = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (result != NULL && strlen(result) >= LEYSER_TASK_RESULT_MAX)
		elog(ERROR, "result of a task is too long");
	strlcpy(slot->result, result ? result : "", sizeof(slot->result));
}

static bool
task_run(LeyserSlot *slot)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool ok = true;

	PG_TRY();
	{
		StartTransactionCommand();
		SPI_connect();
		PushActiveSnapshot(GetTransactionSnapshot());
		task_execute(slot);
		SPI_finish();
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		EmitErrorReport();
		AbortCurrentTransaction();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		RESUME_INTERRUPTS();
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return ok;
}

static void
worker_perform(LeyserSlot *slot)
{
	bool ok;

	pgstat_report_activity(STATE_RUNNING, slot->task);
	ok = task_run(slot);
	LWLockAcquire(leyser_worker_shared->lock, LW_EXCLUSIVE);
	leyser_task_finish(slot, ok);
	current_slot = NULL;
	LWLockRelease(leyser_worker_shared->lock);
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

static void
worker_handle_signals(void)
{
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
}

/* The database of the oldest task for which no worker runs or starts, or InvalidOid. */
static Oid
reserve_find(void)
{
	LeyserSlot *oldest = NULL;
	Oid database;

	LWLockAcquire(leyser_worker_shared->lock, LW_SHARED);
	for (int i = 0; i < LEYSER_SLOTS; i++)
	{
		LeyserSlot *slot = &leyser_worker_shared->slots[i];

		if (slot->state == LEYSER_SLOT_WAITING && worker_find(slot->database) == NULL &&
			(oldest == NULL || slot->number < oldest->number))
			oldest = slot;
	}
	database = oldest == NULL ? InvalidOid : oldest->database;
	LWLockRelease(leyser_worker_shared->lock);
	return database;
}

static void
worker_begin(Oid database)
{
	leyser_worker_fix_settings();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	leyser_worker_fix_role();
}

/* Does this database's tasks until there are none; the reserve leaves for others. */
static void
worker_serve(Oid database, bool is_reserve)
{
	bool idle = false;

	worker_begin(database);
	if (!worker_join())
		return;
	for (;;)
	{
		bool leave =
			idle || ShutdownRequestPending || (is_reserve && OidIsValid(reserve_find()));
		LeyserSlot *slot;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		slot = worker_take(leave);
		if (slot != NULL)
			worker_perform(slot);
		else if (leave)
			return;
		idle = slot == NULL &&
			   (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						  IDLE_TIMEOUT, PG_WAIT_EXTENSION) &
				WL_TIMEOUT) != 0;
	}
}

void
leyser_worker_main(Datum arg)
{
	worker_handle_signals();
	worker_serve(DatumGetObjectId(arg), false);
}

/* ---- the reserve ---- */

static void
reserve_exit(int code, Datum arg)
{
	LWLockAcquire(leyser_worker_shared->lock, LW_EXCLUSIVE);
	leyser_worker_shared->reserve = NULL;
	LWLockRelease(leyser_worker_shared->lock);
}

/* The database that needs it, or InvalidOid; then it can be woken. */
static Oid
reserve_look(void)
{
	LWLockAcquire(leyser_worker_shared->lock, LW_EXCLUSIVE);
	leyser_worker_shared->reserve_started = true;
	leyser_worker_shared->reserve = MyLatch;
	LWLockRelease(leyser_worker_shared->lock);
	return reserve_find();
}

void
leyser_worker_reserve_main(Datum arg)
{
	Oid database;

	worker_handle_signals();
	before_shmem_exit(reserve_exit, (Datum) 0);
	while (!OidIsValid(database = reserve_look()) && !ShutdownRequestPending)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, 0,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	if (OidIsValid(database))
		worker_serve(database, true);
	/* so that the server starts it anew */
	proc_exit(1);
}
