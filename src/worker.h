/*
 * worker.h
 *		What callers of tasks (task.c) and the workers (worker.c) share.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_WORKER_H
#define LEYSER_WORKER_H

#include "leyser.h"

#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "task.h"
#include "utils/timestamp.h"

#define LEYSER_SLOTS 64   /* tasks that wait or are done, of all databases */
#define LEYSER_WORKERS 32 /* databases with a worker at a time */

typedef enum LeyserSlotState
{
	LEYSER_SLOT_FREE,
	LEYSER_SLOT_WAITING,
	LEYSER_SLOT_RUNNING,
	LEYSER_SLOT_DONE,
	LEYSER_SLOT_FAILED
} LeyserSlotState;

/* A task's place in the queue. */
typedef struct LeyserSlot
{
	LeyserSlotState state;
	bool abandoned; /* nobody waits: the worker frees it */
	Oid database;
	uint64 number; /* tasks are done in this order */
	ConditionVariable finished;
	char task[LEYSER_TASK_NAME_MAX];
	char payload[LEYSER_TASK_PAYLOAD_MAX];
	char result[LEYSER_TASK_RESULT_MAX];
} LeyserSlot;

/* A place in the list of workers. */
typedef struct LeyserWorker
{
	Oid database;         /* InvalidOid: free */
	TimestampTz asked_at; /* when it was last to be started */
	Latch *latch;         /* NULL while it starts */
} LeyserWorker;

typedef struct LeyserWorkerShared
{
	LWLock *lock; /* held for a few instructions, never while SQL runs */
	uint64 next_number;
	bool reserve_started; /* there is one, which may be at work */
	Latch *reserve;       /* of the reserve, while it waits */
	LeyserWorker workers[LEYSER_WORKERS];
	LeyserSlot slots[LEYSER_SLOTS];
} LeyserWorkerShared;

extern LeyserWorkerShared *leyser_worker_shared;

/* At the server's start: the worker whose place nobody else can take. */
extern void leyser_worker_register_reserve(void);

/*
 * Wakes this database's worker, or has one started or the reserve take its place;
 * 53000 where there is neither.
 */
extern void leyser_worker_ensure(void);

/* The same; false where there is neither. */
extern bool leyser_worker_try(void);

/* In the worker, before and after it connects: worker_settings.c. */
extern void leyser_worker_fix_settings(void);
extern void leyser_worker_fix_role(void);

/* Under the lock: a task that runs has ended. */
extern void leyser_task_finish(LeyserSlot *slot, bool ok);

#endif /* LEYSER_WORKER_H */
