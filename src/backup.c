/*
 * backup.c
 *		Asks for leyser's own backups, and waits for them.
 *
 * There is one request at a time in the whole server, for a backup holds every
 * database.  A worker of its own does the work (backup_worker.c), in its own
 * transactions: what it did stays, whatever becomes of the caller's.  The rules:
 *
 *  - A caller that waits and goes away, cancelled or timed out, cancels the backup.
 *    One that only starts it does not.
 *  - A request ends with its worker; the next one takes its place when nobody waits
 *    for its outcome any longer.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "backup.h"

#include <signal.h>

#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "tcop/utility.h"
#include "utils/builtins.h"

#include "owner.h"
#include "pause.h"

#define LOOK_WAIT 200        /* milliseconds between looks at a request */
#define START_TIMEOUT 10000  /* milliseconds until a worker counts as lost */
#define NEEDED_WAL_SENDERS 2 /* one for the files, one for the WAL */

LeyserBackupShared *leyser_backup_shared = NULL;

static shmem_request_hook_type prev_shmem_request = NULL;
static shmem_startup_hook_type prev_shmem_startup = NULL;

PG_FUNCTION_INFO_V1(leyser_perform_backup);
PG_FUNCTION_INFO_V1(leyser_clean_backups);
PG_FUNCTION_INFO_V1(leyser_backup_is_running);

/* ---- shared memory ---- */

static void
backup_shmem_request(void)
{
	if (prev_shmem_request)
		prev_shmem_request();
	RequestAddinShmemSpace(MAXALIGN(sizeof(LeyserBackupShared)));
	RequestNamedLWLockTranche("leyser backup", 1);
}

static void
backup_shmem_startup(void)
{
	bool found;

	if (prev_shmem_startup)
		prev_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	leyser_backup_shared =
		ShmemInitStruct("leyser backup", sizeof(LeyserBackupShared), &found);
	if (!found)
	{
		memset(leyser_backup_shared, 0, sizeof(LeyserBackupShared));
		leyser_backup_shared->lock = &GetNamedLWLockTranche("leyser backup")->lock;
		leyser_backup_shared->request.stage = LEYSER_BACKUP_DONE;
	}
	LWLockRelease(AddinShmemInitLock);
}

void
leyser_backup_init(void)
{
	leyser_backup_directory_init();
	prev_shmem_request = shmem_request_hook;
	shmem_request_hook = backup_shmem_request;
	prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = backup_shmem_startup;
}

/* ---- requests ---- */

static bool
request_has_ended(const LeyserBackupRequest *request)
{
	return request->stage >= LEYSER_BACKUP_DONE;
}

/* Asked for, and its worker never came. */
static bool
request_is_stale(const LeyserBackupRequest *request)
{
	return request->stage == LEYSER_BACKUP_STARTING && request->worker == 0 &&
		   TimestampDifferenceExceeds(request->asked_at, GetCurrentTimestamp(),
									  START_TIMEOUT);
}

static void
request_read(LeyserBackupRequest *request)
{
	LWLockAcquire(leyser_backup_shared->lock, LW_SHARED);
	*request = leyser_backup_shared->request;
	LWLockRelease(leyser_backup_shared->lock);
}

/* Takes the place of the last request, if it is free: our number, or 0. */
static uint64
request_try(const char *label, bool clean_only, bool *cleaning)
{
	LeyserBackupRequest *request = &leyser_backup_shared->request;
	uint64 number = 0;

	LWLockAcquire(leyser_backup_shared->lock, LW_EXCLUSIVE);
	*cleaning = request->clean_only;
	if ((request_has_ended(request) && !request->watched) || request_is_stale(request))
	{
		number = request->number + 1;
		*request = (LeyserBackupRequest){.number = number,
										 .database = MyDatabaseId,
										 .caller = GetOuterUserId(),
										 .clean_only = clean_only,
										 .watched = true,
										 .asked_at = GetCurrentTimestamp()};
		strlcpy(request->label, label, sizeof(request->label));
	}
	LWLockRelease(leyser_backup_shared->lock);
	return number;
}

/* Another one's cleaning is waited for, another one's backup is not. */
static uint64
request_make(const char *label, bool clean_only)
{
	bool cleaning;
	uint64 number;

	while ((number = request_try(label, clean_only, &cleaning)) == 0)
	{
		if (!cleaning)
			ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
							errmsg("a backup is being taken already"),
							errdetail("The server takes one at a time."),
							errhint("See view leyser.backup_generation.")));
		leyser_pause(LOOK_WAIT);
	}
	return number;
}

/* We go away before its end: it is not wanted any longer. */
static void
request_cancel(int code, Datum arg)
{
	LeyserBackupRequest *request = &leyser_backup_shared->request;

	LWLockAcquire(leyser_backup_shared->lock, LW_EXCLUSIVE);
	if (request->number == DatumGetUInt64(arg))
	{
		request->watched = false;
		request->unwanted = true;
		/* under the lock it is still there: its end takes the lock first */
		if (!request_has_ended(request) && request->worker != 0)
			(void) kill(request->worker, SIGINT);
	}
	LWLockRelease(leyser_backup_shared->lock);
}

static void
request_release(uint64 number)
{
	LeyserBackupRequest *request = &leyser_backup_shared->request;

	LWLockAcquire(leyser_backup_shared->lock, LW_EXCLUSIVE);
	if (request->number == number)
		request->watched = false;
	LWLockRelease(leyser_backup_shared->lock);
}

/* The worker has ended, so nobody else will say how the request did. */
static void
request_lose(uint64 number)
{
	LeyserBackupRequest *request = &leyser_backup_shared->request;

	LWLockAcquire(leyser_backup_shared->lock, LW_EXCLUSIVE);
	if (request->number == number && !request_has_ended(request))
	{
		request->stage = LEYSER_BACKUP_FAILED;
		request->sqlstate = ERRCODE_SYSTEM_ERROR;
		strlcpy(request->message, "leyser's backup worker did not start",
				LEYSER_BACKUP_ERROR_MAX);
	}
	LWLockRelease(leyser_backup_shared->lock);
}

/* ---- watching ---- */

static void
request_tell(const LeyserBackupRequest *request)
{
	if (request->stage == LEYSER_BACKUP_COPYING)
		ereport(NOTICE,
				(errmsg("generation %lld: copying", (long long) request->generation_id)));
	else if (request->stage == LEYSER_BACKUP_VERIFYING && request->generation_id != 0)
		ereport(NOTICE, (errmsg("generation %lld: verifying",
								(long long) request->generation_id)));
}

/* Until its end, or until a backup is in the books. */
static void
request_watch(uint64 number, bool to_its_end, LeyserBackupRequest *request)
{
	LeyserBackupStage told = LEYSER_BACKUP_STARTING;
	BackgroundWorkerHandle *handle;

	if (!leyser_backup_worker_start(number, &handle))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
						errmsg("could not start leyser's backup worker"),
						errdetail("All background worker slots are in use."),
						errhint("Raise max_worker_processes.")));
	for (;;)
	{
		pid_t pid;

		if (GetBackgroundWorkerPid(handle, &pid) == BGWH_STOPPED)
			request_lose(number);
		request_read(request);
		if (request->stage != told && to_its_end)
			request_tell(request);
		told = request->stage;
		if (request_has_ended(request) || (!to_its_end && request->generation_id != 0))
			return;
		leyser_pause(LOOK_WAIT);
	}
}

static void
request_raise(const LeyserBackupRequest *request)
{
	ereport(ERROR, (errcode(request->sqlstate), errmsg_internal("%s", request->message),
					request->detail[0] ? errdetail_internal("%s", request->detail) : 0,
					request->hint[0] ? errhint("%s", request->hint) : 0));
}

/* Asks, and waits; the id of the generation, or 0. */
static int64
request_perform(const char *label, bool clean_only, bool to_its_end)
{
	uint64 number = request_make(label, clean_only);
	LeyserBackupRequest *request = palloc(sizeof(LeyserBackupRequest));

	PG_ENSURE_ERROR_CLEANUP(request_cancel, UInt64GetDatum(number));
	{
		request_watch(number, to_its_end, request);
	}
	PG_END_ENSURE_ERROR_CLEANUP(request_cancel, UInt64GetDatum(number));
	request_release(number);
	if (request->stage == LEYSER_BACKUP_FAILED)
		request_raise(request);
	return request->generation_id;
}

/* ---- called from SQL ---- */

static void
require_primary(void)
{
	leyser_require_preloaded();
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("a standby cannot take a backup of leyser"),
				 errdetail("Its books cannot be written here."),
				 errhint("Call it on the primary, or let another tool take backups from "
						 "the standby and import them there.")));
}

static void
require_wal_senders(void)
{
	if (max_wal_senders >= NEEDED_WAL_SENDERS && XLogIsNeeded())
		return;
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("the server's settings allow no base backup"),
					errdetail("It needs max_wal_senders of at least %d and wal_level "
							  "replica or logical.",
							  NEEDED_WAL_SENDERS),
					errhint("Change them in postgresql.conf and restart the server.")));
}

/* perform_backup(label text, wait boolean) → bigint */
Datum
leyser_perform_backup(PG_FUNCTION_ARGS)
{
	char *label = PG_ARGISNULL(0) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(0));

	require_primary();
	require_wal_senders();
	Assert(strlen(label) < sizeof(((LeyserBackupRequest *) NULL)->label));
	PG_RETURN_INT64(request_perform(label, false, PG_GETARG_BOOL(1)));
}

/* backup_is_running() → boolean */
Datum
leyser_backup_is_running(PG_FUNCTION_ARGS)
{
	LeyserBackupRequest *request = palloc(sizeof(LeyserBackupRequest));

	leyser_require_preloaded();
	request_read(request);
	PG_RETURN_BOOL(!request_has_ended(request) && !request_is_stale(request));
}

static int
clean_look(void)
{
	LeyserBackupDirectory directory;
	LeyserOwnerState owner;
	volatile int due = 0;

	leyser_backup_directory_open(&directory);
	PG_TRY();
	{
		leyser_backup_directory_identify(&directory);
		leyser_owner_begin(&owner);
		due = leyser_backup_clean(&directory, true);
		leyser_owner_end(&owner);
	}
	PG_FINALLY();
	{
		leyser_backup_directory_close(&directory);
	}
	PG_END_TRY();
	return due;
}

/* clean_backups(wait boolean) → integer: how much there was to be done */
Datum
leyser_clean_backups(PG_FUNCTION_ARGS)
{
	LeyserBackupRequest *request = palloc(sizeof(LeyserBackupRequest));
	int due;

	require_primary();
	request_read(request);
	if (!leyser_backup_directory_is_set() || !request_has_ended(request))
		PG_RETURN_INT32(0);
	due = clean_look();
	if (due > 0)
		(void) request_perform("", true, PG_GETARG_BOOL(0));
	PG_RETURN_INT32(due);
}
