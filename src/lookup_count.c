/*
 * lookup_count.c
 *		How often look-ups are asked: somebody who tries keys shows.
 *
 * Counters in shared memory, since the server's start, for all databases.  A
 * function takes a place at its first question and keeps it; where all are taken
 * the rest is not counted, and view leyser.lookup shows NULL for it.  The minute
 * that runs and the one before are kept apart: the questions of a whole minute
 * are what can be watched.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "lookup.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#define LOOKUPS 128

PG_FUNCTION_INFO_V1(leyser_lookup_counts);

typedef struct LookupCount
{
	Oid database; /* InvalidOid: free */
	Oid function;
	int64 asked;
	int64 found;
	int64 minute; /* since the epoch: of the last question */
	int64 this_minute;
	int64 last_minute;
} LookupCount;

typedef struct LookupShared
{
	slock_t mutex;
	LookupCount counts[LOOKUPS];
} LookupShared;

static LookupShared *shared = NULL;
static shmem_request_hook_type prev_shmem_request = NULL;
static shmem_startup_hook_type prev_shmem_startup = NULL;

static void
count_shmem_request(void)
{
	if (prev_shmem_request)
		prev_shmem_request();
	RequestAddinShmemSpace(MAXALIGN(sizeof(LookupShared)));
}

static void
count_shmem_startup(void)
{
	bool found;

	if (prev_shmem_startup)
		prev_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("leyser look-ups", sizeof(LookupShared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(LookupShared));
		SpinLockInit(&shared->mutex);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
leyser_lookup_count_init(void)
{
	prev_shmem_request = shmem_request_hook;
	shmem_request_hook = count_shmem_request;
	prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = count_shmem_startup;
}

static int64
count_minute(void)
{
	return GetCurrentTimestamp() / USECS_PER_MINUTE;
}

/* Under the lock: its place, or a free one; NULL where all are taken. */
static LookupCount *
count_place(Oid function)
{
	for (int i = 0; i < LOOKUPS; i++)
	{
		LookupCount *count = &shared->counts[i];

		if (!OidIsValid(count->database) ||
			(count->database == MyDatabaseId && count->function == function))
			return count;
	}
	return NULL;
}

/* Under the lock. */
static void
count_turn_minute(LookupCount *count, int64 minute)
{
	if (count->minute == minute)
		return;
	count->last_minute = count->minute == minute - 1 ? count->this_minute : 0;
	count->this_minute = 0;
	count->minute = minute;
}

void
leyser_lookup_count(Oid function, bool found)
{
	int64 minute = count_minute();
	LookupCount *count;

	SpinLockAcquire(&shared->mutex);
	count = count_place(function);
	if (count)
	{
		count->database = MyDatabaseId;
		count->function = function;
		count_turn_minute(count, minute);
		count->asked++;
		count->this_minute++;
		count->found += found ? 1 : 0;
	}
	SpinLockRelease(&shared->mutex);
}

/*
 * lookup_counts(function oid) → (asked, found, this_minute, last_minute) bigint
 */
Datum
leyser_lookup_counts(PG_FUNCTION_ARGS)
{
	Oid function = PG_GETARG_OID(0);
	int64 minute = count_minute();
	LookupCount copy = {0};
	LookupCount *count;
	Datum values[4];
	bool nulls[4] = {false};
	TupleDesc descriptor;

	leyser_require_preloaded();
	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	SpinLockAcquire(&shared->mutex);
	count = count_place(function);
	if (count)
	{
		count_turn_minute(count, minute);
		copy = *count;
	}
	SpinLockRelease(&shared->mutex);
	if (!count)
		PG_RETURN_NULL();
	values[0] = Int64GetDatum(copy.asked);
	values[1] = Int64GetDatum(copy.found);
	values[2] = Int64GetDatum(copy.this_minute);
	values[3] = Int64GetDatum(copy.last_minute);
	PG_RETURN_DATUM(
		HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls)));
}
