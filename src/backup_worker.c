/*
 * backup_worker.c
 *		The worker that takes a backup, or cleans up after one.
 *
 * It works in no transaction while a program runs: it holds back no vacuum and no
 * purge.  The rules:
 *
 *  - What it does is in the books before it is done: a row that is running is
 *    committed before pg_basebackup starts, so what was killed is found
 *    (backup_clean.c).
 *  - SIGINT and SIGTERM stop the work with an error.  What was begun is then removed
 *    and noted as failed, for which further ones wait.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "backup.h"

#include <signal.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"

#include "fence_keep.h"
#include "program.h"
#include "purge.h"
#include "worker.h"

extern PGDLLEXPORT void leyser_backup_main(Datum arg);

static uint64 request_number = 0; /* ours */
static char request_label[sizeof(((LeyserBackupRequest *) NULL)->label)];
static Oid request_caller;

/* One backup. */
typedef struct Backup
{
	LeyserBackupDirectory *directory;
	char name[LEYSER_BACKUP_NAME_MAX];
	int64 generation_id;
} Backup;

/* ---- starting it ---- */

bool
leyser_backup_worker_start(uint64 number, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = {.bgw_flags = BGWORKER_SHMEM_ACCESS |
											BGWORKER_BACKEND_DATABASE_CONNECTION,
							   .bgw_start_time = BgWorkerStart_RecoveryFinished,
							   .bgw_restart_time = BGW_NEVER_RESTART,
							   .bgw_main_arg = Int64GetDatum((int64) number),
							   .bgw_notify_pid = MyProcPid};

	strlcpy(worker.bgw_library_name, "leyser", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "leyser_backup_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "leyser backup worker", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "leyser backup worker", BGW_MAXLEN);
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

/* ---- what others see of it ---- */

void
leyser_backup_tell(LeyserBackupStage stage)
{
	static const char *const stages[] = {"starting",  "cleaning up", "copying",
										 "verifying", "done",        "failed"};

	pgstat_report_activity(STATE_RUNNING, stages[stage]);
	LWLockAcquire(leyser_backup_shared->lock, LW_EXCLUSIVE);
	leyser_backup_shared->request.stage = stage;
	LWLockRelease(leyser_backup_shared->lock);
}

/* A whole number of characters. */
static void
error_part(char *into, const char *from)
{
	int length = from == NULL ? 0 : (int) strlen(from);

	length = pg_mbcliplen(from, length, LEYSER_BACKUP_ERROR_MAX - 1);
	if (length > 0)
		memcpy(into, from, length);
	into[length] = '\0';
}

static void
request_end(int sqlstate, const char *message, const char *detail, const char *hint)
{
	LeyserBackupRequest *request = &leyser_backup_shared->request;

	LWLockAcquire(leyser_backup_shared->lock, LW_EXCLUSIVE);
	request->sqlstate = sqlstate;
	error_part(request->message, message);
	error_part(request->detail, detail);
	error_part(request->hint, hint);
	request->stage = sqlstate == 0 ? LEYSER_BACKUP_DONE : LEYSER_BACKUP_FAILED;
	LWLockRelease(leyser_backup_shared->lock);
}

/* However the worker ends. */
static void
worker_exit(int code, Datum arg)
{
	LeyserBackupRequest *request = &leyser_backup_shared->request;

	LWLockAcquire(leyser_backup_shared->lock, LW_EXCLUSIVE);
	if (request->number == request_number)
	{
		request->worker = 0;
		if (request->stage < LEYSER_BACKUP_DONE)
		{
			request->stage = LEYSER_BACKUP_FAILED;
			request->sqlstate = ERRCODE_SYSTEM_ERROR;
			strlcpy(request->message, "leyser's backup worker ended",
					LEYSER_BACKUP_ERROR_MAX);
		}
	}
	LWLockRelease(leyser_backup_shared->lock);
}

/* False where nobody wants it any longer. */
static bool
worker_join(uint64 number, Oid *database)
{
	LeyserBackupRequest *request = &leyser_backup_shared->request;
	bool joined;

	LWLockAcquire(leyser_backup_shared->lock, LW_EXCLUSIVE);
	joined = request->number == number && request->stage == LEYSER_BACKUP_STARTING &&
			 request->worker == 0;
	if (joined)
	{
		request->worker = MyProcPid;
		request_number = number;
		request_caller = request->caller;
		strlcpy(request_label, request->label, sizeof(request_label));
		*database = request->database;
	}
	LWLockRelease(leyser_backup_shared->lock);
	if (joined)
		before_shmem_exit(worker_exit, (Datum) 0);
	return joined;
}

/* Whoever asked may have gone away before we could be told. */
static void
require_wanted(void)
{
	bool unwanted;

	LWLockAcquire(leyser_backup_shared->lock, LW_SHARED);
	unwanted = leyser_backup_shared->request.unwanted;
	LWLockRelease(leyser_backup_shared->lock);
	if (unwanted)
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("backup was cancelled")));
}

/* ---- taking a backup ---- */

static void
backup_begin(Backup *backup)
{
	int64 generation_id;

	leyser_backup_name(backup->name);
	leyser_backup_directory_require_room(
		backup->directory, leyser_purge_step("SELECT leyser.own_backup_bytes()", 0));
	require_wanted();
	generation_id = leyser_backup_books_begin(backup->directory, backup->name,
											  request_label, request_caller);
	backup->generation_id = generation_id;
	LWLockAcquire(leyser_backup_shared->lock, LW_EXCLUSIVE);
	leyser_backup_shared->request.generation_id = generation_id;
	LWLockRelease(leyser_backup_shared->lock);
}

static void
backup_make(void *arg)
{
	Backup *backup = arg;

	leyser_backup_tell(LEYSER_BACKUP_COPYING);
	leyser_backup_copy(backup->directory, backup->name);
	leyser_backup_finish(backup->directory, backup->name, backup->generation_id);
}

static void
backup_take(LeyserBackupDirectory *directory)
{
	Backup backup = {.directory = directory};
	ErrorData *error;

	backup_begin(&backup);
	error = leyser_purge_guard(backup_make, &backup);
	if (error != NULL)
		leyser_backup_fail(directory, backup.name, backup.generation_id, error);
	leyser_backup_judge(directory, backup.name, backup.generation_id, false);
}

/* ---- the worker ---- */

/*
 * Books of a copy that lives beside its original, with its settings, are no books of
 * the original's backups: it would remove them, and give its own to it.
 */
static void
require_original(void)
{
	LeyserKeyringError error;
	bool is_copy;

	leyser_purge_begin();
	is_copy = leyser_fence_is_of_original(&error);
	leyser_purge_commit();
	if (is_copy)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("%s", error.message),
						errdetail("Backups of both would lie together."),
						errhint("%s", error.hint)));
}

/* The directory is closed by the end of the process, too. */
static void
worker_work(void *clean_only)
{
	LeyserBackupDirectory directory;
	bool has_id;

	leyser_backup_tell(LEYSER_BACKUP_CLEANING);
	require_original();
	leyser_backup_directory_open(&directory);
	has_id = leyser_backup_directory_lock(&directory, !*(bool *) clean_only);
	(void) leyser_program_end_strays();
	if (has_id)
		(void) leyser_backup_clean(&directory, false);
	if (!*(bool *) clean_only)
		backup_take(&directory);
	leyser_backup_directory_close(&directory);
}

static void
worker_handle_shutdown(SIGNAL_ARGS)
{
	int save_errno = errno;

	ShutdownRequestPending = true;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
	errno = save_errno;
}

static bool
worker_begin(uint64 number)
{
	Oid database;

	pqsignal(SIGINT, StatementCancelHandler);
	pqsignal(SIGTERM, worker_handle_shutdown);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	if (!worker_join(number, &database))
		return false;
	leyser_worker_fix_settings();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	leyser_worker_fix_role();
	return true;
}

void
leyser_backup_main(Datum arg)
{
	bool clean_only;
	ErrorData *error;

	if (!worker_begin((uint64) DatumGetInt64(arg)))
		return;
	MemoryContextSwitchTo(
		AllocSetContextCreate(TopMemoryContext, "leyser backup", ALLOCSET_DEFAULT_SIZES));
	clean_only = leyser_backup_shared->request.clean_only;
	error = leyser_purge_guard(worker_work, &clean_only);
	if (error == NULL)
		request_end(0, NULL, NULL, NULL);
	else
		request_end(error->sqlerrcode, error->message, error->detail, error->hint);
}
