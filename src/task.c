/*
 * task.c
 *		Tasks for the background worker: a bounded queue in shared memory.
 *
 * What must survive a rollback (a failed login, a session) is done by another
 * process in a transaction of its own; see worker.c.  The rules:
 *
 *  - A caller puts its task into a slot (where none is free it looks for one for
 *    SLOT_TIMEOUT), sees that a worker runs, and waits.
 *    It looks again each second, so a worker that died is replaced; after
 *    PERFORM_TIMEOUT it gives up and raises: callers fail closed.
 *  - Who does not want to wait leaves a task that is the worker's from the beginning.
 *  - A caller that goes away takes back what was not begun, and leaves a task
 *    that runs to the worker, which then frees the slot.
 *  - A crash of any server process empties shared memory and ends the callers,
 *    too; the next task starts a worker.
 *
 * Tasks can hold a hash of a password: slots are wiped when they are freed.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "task.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "tcop/utility.h"
#include "utils/builtins.h"

#include "pause.h"
#include "worker.h"

#define LOOK_AGAIN 1000       /* milliseconds between a caller's looks */
#define PERFORM_TIMEOUT 15000 /* milliseconds until a caller gives up */
#define SLOT_LOOK_AGAIN 2     /* milliseconds between looks for a free slot */
#define SLOT_TIMEOUT 2000     /* milliseconds until a caller without one gives up */

LeyserWorkerShared *leyser_worker_shared = NULL;

static shmem_request_hook_type prev_shmem_request = NULL;
static shmem_startup_hook_type prev_shmem_startup = NULL;

PG_FUNCTION_INFO_V1(leyser_task_perform_sql);

/* ---- shared memory ---- */

static void
task_shmem_request(void)
{
	if (prev_shmem_request)
		prev_shmem_request();
	RequestAddinShmemSpace(MAXALIGN(sizeof(LeyserWorkerShared)));
	RequestNamedLWLockTranche("leyser worker", 1);
}

static void
task_shmem_startup(void)
{
	bool found;

	if (prev_shmem_startup)
		prev_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	leyser_worker_shared =
		ShmemInitStruct("leyser worker", sizeof(LeyserWorkerShared), &found);
	if (!found)
	{
		memset(leyser_worker_shared, 0, sizeof(LeyserWorkerShared));
		leyser_worker_shared->lock = &GetNamedLWLockTranche("leyser worker")->lock;
		for (int i = 0; i < LEYSER_SLOTS; i++)
			ConditionVariableInit(&leyser_worker_shared->slots[i].finished);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
leyser_task_init(void)
{
	prev_shmem_request = shmem_request_hook;
	shmem_request_hook = task_shmem_request;
	prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = task_shmem_startup;
	leyser_worker_register_reserve();
}

/* ---- slots ---- */

/* Under the lock. */
static void
slot_free(LeyserSlot *slot)
{
	explicit_bzero(slot->payload, sizeof(slot->payload));
	explicit_bzero(slot->result, sizeof(slot->result));
	slot->abandoned = false;
	slot->state = LEYSER_SLOT_FREE;
}

void
leyser_task_finish(LeyserSlot *slot, bool ok)
{
	slot->state = ok ? LEYSER_SLOT_DONE : LEYSER_SLOT_FAILED;
	ConditionVariableBroadcast(&slot->finished);
	if (slot->abandoned)
		slot_free(slot);
}

/* NULL where all are taken. */
static LeyserSlot *
slot_try_submit(const char *task, const char *payload, bool abandoned)
{
	LeyserSlot *slot = NULL;

	LWLockAcquire(leyser_worker_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < LEYSER_SLOTS && slot == NULL; i++)
	{
		if (leyser_worker_shared->slots[i].state == LEYSER_SLOT_FREE)
			slot = &leyser_worker_shared->slots[i];
	}
	if (slot != NULL)
	{
		slot->state = LEYSER_SLOT_WAITING;
		slot->abandoned = abandoned;
		slot->database = MyDatabaseId;
		slot->number = leyser_worker_shared->next_number++;
		strlcpy(slot->task, task, sizeof(slot->task));
		strlcpy(slot->payload, payload, sizeof(slot->payload));
	}
	LWLockRelease(leyser_worker_shared->lock);
	return slot;
}

/* More may call at once than there are slots, which are free again in no time. */
static LeyserSlot *
slot_submit(const char *task, const char *payload)
{
	TimestampTz started = GetCurrentTimestamp();
	LeyserSlot *slot;

	while ((slot = slot_try_submit(task, payload, false)) == NULL)
	{
		if (TimestampDifferenceExceeds(started, GetCurrentTimestamp(), SLOT_TIMEOUT))
			ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
							errmsg("leyser's worker has too much to do"),
							errdetail("%d tasks wait already.", LEYSER_SLOTS),
							errhint("Try again in a moment.")));
		leyser_pause(SLOT_LOOK_AGAIN);
	}
	return slot;
}

/* Whether it waits already; where it has not begun, one run is for all who asked. */
static bool
slot_waits_for_all(const char *task, const char *payload)
{
	bool waits = false;

	LWLockAcquire(leyser_worker_shared->lock, LW_SHARED);
	for (int i = 0; i < LEYSER_SLOTS && !waits; i++)
	{
		const LeyserSlot *slot = &leyser_worker_shared->slots[i];

		waits = slot->state == LEYSER_SLOT_WAITING && slot->abandoned &&
				slot->database == MyDatabaseId && strcmp(slot->task, task) == 0 &&
				strcmp(slot->payload, payload) == 0;
	}
	LWLockRelease(leyser_worker_shared->lock);
	return waits;
}

/* The caller is done with its slot, or is interrupted, or ends. */
static void
slot_release(int code, Datum arg)
{
	LeyserSlot *slot = (LeyserSlot *) DatumGetPointer(arg);

	ConditionVariableCancelSleep();
	LWLockAcquire(leyser_worker_shared->lock, LW_EXCLUSIVE);
	if (slot->state == LEYSER_SLOT_RUNNING)
		slot->abandoned = true;
	else
		slot_free(slot);
	LWLockRelease(leyser_worker_shared->lock);
}

static bool
slot_is_finished(LeyserSlot *slot)
{
	bool finished;

	LWLockAcquire(leyser_worker_shared->lock, LW_SHARED);
	finished = slot->state == LEYSER_SLOT_DONE || slot->state == LEYSER_SLOT_FAILED;
	LWLockRelease(leyser_worker_shared->lock);
	return finished;
}

static void
slot_wait(LeyserSlot *slot)
{
	TimestampTz started = GetCurrentTimestamp();

	ConditionVariablePrepareToSleep(&slot->finished);
	while (!slot_is_finished(slot))
	{
		if (TimestampDifferenceExceeds(started, GetCurrentTimestamp(), PERFORM_TIMEOUT))
			ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
							errmsg("leyser's worker does not answer"),
							errdetail("It had not done its task in %d seconds.",
									  PERFORM_TIMEOUT / 1000),
							errhint("See the server log.")));
		leyser_worker_ensure();
		(void) ConditionVariableTimedSleep(&slot->finished, LOOK_AGAIN,
										   PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
}

char *
leyser_task_perform(const char *task, const char *payload)
{
	LeyserSlot *slot;
	bool ok;
	char *result;

	leyser_require_preloaded();
	PreventCommandDuringRecovery("a task of leyser's worker");
	if (strlen(task) >= LEYSER_TASK_NAME_MAX ||
		strlen(payload) >= LEYSER_TASK_PAYLOAD_MAX)
		elog(ERROR, "a task of leyser's worker is too long");
	slot = slot_submit(task, payload);
	PG_ENSURE_ERROR_CLEANUP(slot_release, PointerGetDatum(slot));
	{
		slot_wait(slot);
	}
	PG_END_ENSURE_ERROR_CLEANUP(slot_release, PointerGetDatum(slot));
	ok = slot->state == LEYSER_SLOT_DONE;
	result = pstrdup(slot->result);
	slot_release(0, PointerGetDatum(slot));
	if (!ok)
		ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR),
						errmsg("leyser's worker could not do its task"),
						errdetail_log("The task was \"%s\".", task),
						errhint("The server log says why.")));
	return result;
}

bool
leyser_task_leave(const char *task, const char *payload)
{
	if (!slot_waits_for_all(task, payload) &&
		slot_try_submit(task, payload, true) == NULL)
		return false;
	return leyser_worker_try();
}

/* submit_task(task text, payload text) → text */
Datum
leyser_task_perform_sql(PG_FUNCTION_ARGS)
{
	char *task = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char *payload = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char *result = leyser_task_perform(task, payload);

	explicit_bzero(payload, strlen(payload));
	PG_RETURN_TEXT_P(cstring_to_text(result));
}
