/*
 * launcher.c
 *		A background worker that starts purge workers.
 *
 * Purges go on after a restart or crash of the server without anybody's doing.
 * This process runs as long as the server does.  It is connected to no database,
 * so it can read only which databases there are; whether there is something to
 * do in one of them a purge worker finds out, which ends at once where there is
 * not.  The rules:
 *
 *  - One database after the other: at most one worker starts at a time.
 *  - A database that was found to be without leyser is not asked again until CALL
 *    leyser.purge() starts a worker of its own somewhere: then all are asked.
 *    Those with leyser are asked each minute, for on a standby purges arrive
 *    without a CALL; those where purges were open each OPEN_INTERVAL, for their
 *    worker may have died.  Where one works (it holds a lock), nobody is asked.
 *  - On a standby, too, from the moment on at which it can be read.  There all are
 *    asked in each round: a purge is to be noticed while the primary still writes
 *    the log that helps the standby (leyser_scrub_standbys()).
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "launcher.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "pause.h"

#define OPEN_INTERVAL 5000 /* milliseconds between rounds */
#define LOOK_ROUNDS 12     /* rounds until all databases are asked again */
#define RESTART_SECONDS 10
#define ANSWER_INTERVAL 50   /* milliseconds between looks for an answer */
#define ANSWER_TIMEOUT 30000 /* milliseconds until it is the next database's turn */

#define LOCK_NUMBER 0x6c79

typedef struct LauncherShared
{
	LWLock *lock;
	Oid asked; /* the database whose worker is to answer */
	LeyserLauncherAnswer answer;
	bool forget;                 /* leyser was made where there was none */
	XLogRecPtr standby_scrubbed; /* pg_wal of this standby holds nothing older */
} LauncherShared;

static LauncherShared *launcher_shared = NULL;
/* Databases, by oid, as they answered. */
static List *without_leyser = NIL;
static List *with_purges = NIL;

static shmem_request_hook_type prev_shmem_request = NULL;
static shmem_startup_hook_type prev_shmem_startup = NULL;

extern PGDLLEXPORT void leyser_launcher_main(Datum arg);

/* ---- shared memory ---- */

static void
launcher_shmem_request(void)
{
	if (prev_shmem_request)
		prev_shmem_request();
	RequestAddinShmemSpace(MAXALIGN(sizeof(LauncherShared)));
	RequestNamedLWLockTranche("leyser launcher", 1);
}

static void
launcher_shmem_startup(void)
{
	bool found;

	if (prev_shmem_startup)
		prev_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	launcher_shared = ShmemInitStruct("leyser launcher", sizeof(LauncherShared), &found);
	if (!found)
	{
		memset(launcher_shared, 0, sizeof(LauncherShared));
		launcher_shared->lock = &GetNamedLWLockTranche("leyser launcher")->lock;
	}
	LWLockRelease(AddinShmemInitLock);
}

static void
launcher_ask(Oid database)
{
	LWLockAcquire(launcher_shared->lock, LW_EXCLUSIVE);
	launcher_shared->asked = database;
	launcher_shared->answer = LEYSER_LAUNCHER_NO_ANSWER;
	LWLockRelease(launcher_shared->lock);
}

void
leyser_launcher_answer(Oid database, LeyserLauncherAnswer answer)
{
	LWLockAcquire(launcher_shared->lock, LW_EXCLUSIVE);
	if (launcher_shared->asked == database)
		launcher_shared->answer = answer;
	else if (answer != LEYSER_LAUNCHER_NOT_INSTALLED)
		launcher_shared->forget = true;
	LWLockRelease(launcher_shared->lock);
}

static LeyserLauncherAnswer
launcher_answered(void)
{
	LeyserLauncherAnswer answer;

	LWLockAcquire(launcher_shared->lock, LW_SHARED);
	answer = launcher_shared->answer;
	LWLockRelease(launcher_shared->lock);
	return answer;
}

/* Forgets which databases are without leyser; true where one of them has it by now. */
static bool
launcher_forget(void)
{
	bool forget;

	LWLockAcquire(launcher_shared->lock, LW_EXCLUSIVE);
	forget = launcher_shared->forget;
	launcher_shared->forget = false;
	LWLockRelease(launcher_shared->lock);
	if (forget)
	{
		list_free(without_leyser);
		without_leyser = NIL;
	}
	return forget;
}

void
leyser_launcher_set_standby_scrubbed(XLogRecPtr end)
{
	LWLockAcquire(launcher_shared->lock, LW_EXCLUSIVE);
	launcher_shared->standby_scrubbed = Max(launcher_shared->standby_scrubbed, end);
	LWLockRelease(launcher_shared->lock);
}

XLogRecPtr
leyser_launcher_standby_scrubbed(void)
{
	XLogRecPtr end;

	LWLockAcquire(launcher_shared->lock, LW_SHARED);
	end = launcher_shared->standby_scrubbed;
	LWLockRelease(launcher_shared->lock);
	return end;
}

/* ---- starting workers ---- */

bool
leyser_launcher_start(Oid database, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = {.bgw_flags = BGWORKER_SHMEM_ACCESS |
											BGWORKER_BACKEND_DATABASE_CONNECTION,
							   .bgw_start_time = BgWorkerStart_ConsistentState,
							   .bgw_restart_time = BGW_NEVER_RESTART,
							   .bgw_main_arg = ObjectIdGetDatum(database),
							   .bgw_notify_pid = MyProcPid};

	strlcpy(worker.bgw_library_name, "leyser", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "leyser_purge_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "leyser purge worker", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "leyser purge worker", BGW_MAXLEN);
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

/*
 * A lock of the kind that a session keeps until it ends, also on a standby, with
 * a last number that pg_advisory_lock() does not give: nobody else can take it.
 */
static void
launcher_lock_tag(LOCKTAG *tag, Oid database)
{
	SET_LOCKTAG_ADVISORY(*tag, database, ExtensionRelationId, 0, LOCK_NUMBER);
}

bool
leyser_launcher_lock(Oid database)
{
	LOCKTAG tag;

	launcher_lock_tag(&tag, database);
	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

/* Whether a purge worker works in a database. */
static bool
launcher_is_served(Oid database)
{
	LOCKTAG tag;

	if (!leyser_launcher_lock(database))
		return true;
	launcher_lock_tag(&tag, database);
	(void) LockRelease(&tag, ExclusiveLock, true);
	return false;
}

/* Workers that start and end wake us, too. */
static void
launcher_wait_until(TimestampTz end)
{
	long left;

	while ((left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end)) > 0)
		leyser_pause_worker(left);
}

static void
launcher_remember(Oid database, LeyserLauncherAnswer answer)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

	with_purges = list_delete_oid(with_purges, database);
	if (answer == LEYSER_LAUNCHER_NOT_INSTALLED)
		without_leyser = list_append_unique_oid(without_leyser, database);
	else if (answer != LEYSER_LAUNCHER_IDLE)
		with_purges = lappend_oid(with_purges, database);
	MemoryContextSwitchTo(caller);
}

/* Has a worker look into a database, and waits for its answer or its end. */
static void
launcher_look(Oid database)
{
	TimestampTz started = GetCurrentTimestamp();
	BackgroundWorkerHandle *handle;
	pid_t pid;

	launcher_ask(database);
	if (!leyser_launcher_start(database, &handle))
		return;
	while (launcher_answered() == LEYSER_LAUNCHER_NO_ANSWER &&
		   GetBackgroundWorkerPid(handle, &pid) != BGWH_STOPPED &&
		   !TimestampDifferenceExceeds(started, GetCurrentTimestamp(), ANSWER_TIMEOUT))
		leyser_pause_worker(ANSWER_INTERVAL);
	launcher_remember(database, launcher_answered());
	launcher_ask(InvalidOid);
	pfree(handle);
}

/* The databases that one can connect to. */
static List *
launcher_databases(MemoryContext context)
{
	List *databases = NIL;
	Relation rel;
	TableScanDesc scan;
	HeapTuple tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext caller = MemoryContextSwitchTo(context);

		if (database->datallowconn && database->datconnlimit != -2)
			databases = lappend_oid(databases, database->oid);
		MemoryContextSwitchTo(caller);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	return databases;
}

/* Asks all databases, or those where purges were open; ends when its time is up. */
static void
launcher_round(List *databases, bool all)
{
	TimestampTz next = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), OPEN_INTERVAL);
	ListCell *cell;

	all |= launcher_forget();
	foreach (cell, databases)
	{
		Oid database = lfirst_oid(cell);

		if (launcher_is_served(database))
			launcher_remember(database, LEYSER_LAUNCHER_OPEN);
		else if (all ? !list_member_oid(without_leyser, database)
					 : list_member_oid(with_purges, database))
			launcher_look(database);
	}
	launcher_wait_until(next);
}

void
leyser_launcher_main(Datum arg)
{
	MemoryContext round;
	bool in_recovery = RecoveryInProgress();
	bool was_in_recovery = in_recovery;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	round = AllocSetContextCreate(TopMemoryContext, "leyser launcher",
								  ALLOCSET_DEFAULT_SIZES);
	for (int number = 0;; number++)
	{
		launcher_round(launcher_databases(round),
					   was_in_recovery || number % LOOK_ROUNDS == 0);
		/* once more after a promotion: it may be a restore (fence_look.c) */
		was_in_recovery = in_recovery;
		in_recovery = RecoveryInProgress();
		was_in_recovery |= in_recovery;
		MemoryContextReset(round);
	}
}

void
leyser_launcher_init(void)
{
	BackgroundWorker worker = {.bgw_flags = BGWORKER_SHMEM_ACCESS |
											BGWORKER_BACKEND_DATABASE_CONNECTION,
							   .bgw_start_time = BgWorkerStart_ConsistentState,
							   .bgw_restart_time = RESTART_SECONDS};

	prev_shmem_request = shmem_request_hook;
	shmem_request_hook = launcher_shmem_request;
	prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = launcher_shmem_startup;
	if (IsBinaryUpgrade)
		return;
	strlcpy(worker.bgw_library_name, "leyser", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "leyser_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "leyser launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "leyser launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
