/*
 * cache_fence.c
 *		What every backend is told of fences (fence_look.c).
 *
 * One look, at most, a life of the server and database is needed: what was found
 * lies in shared memory, with a number that changes when it does; the purge worker
 * looks again each time it visits a database.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "cache_fence.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "postmaster/bgworker.h"
#include "replication/walreceiver.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/memutils.h"

#include "cache.h"
#include "fence_look.h"

#define FENCE_DATABASES 256 /* more than these look again in each backend */

typedef struct FenceSlot
{
	Oid database;
	Oid extension;
	bool in_recovery; /* when it was looked at */
	bool was_sound;   /* in this life of the server */
	LeyserFenceView view;
} FenceSlot;

typedef struct FenceShared
{
	LWLock *lock;
	pg_atomic_uint64 generation;
	bool followed; /* WAL came from another server in this life */
	FenceSlot slots[FENCE_DATABASES];
} FenceShared;

static FenceShared *fence_shared = NULL;

static shmem_request_hook_type prev_shmem_request = NULL;
static shmem_startup_hook_type prev_shmem_startup = NULL;

/* What this backend has seen last. */
static uint64 seen_generation = 0;
static bool seen_recovery = false;
static uint64 local_generation = 0; /* of local_view; 0: none */
static Oid local_extension = InvalidOid;
static LeyserFenceView local_view;
static uint64 locked_generation = 0; /* of locked_tenants; 0: none */
static HTAB *locked_tenants = NULL;
static MemoryContext locked_context = NULL;

/* ---- shared memory ---- */

static void
fence_shmem_request(void)
{
	if (prev_shmem_request)
		prev_shmem_request();
	RequestAddinShmemSpace(MAXALIGN(sizeof(FenceShared)));
	RequestNamedLWLockTranche("leyser fence", 1);
}

static void
fence_shmem_startup(void)
{
	bool found;

	if (prev_shmem_startup)
		prev_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	fence_shared = ShmemInitStruct("leyser fence", sizeof(FenceShared), &found);
	if (!found)
	{
		memset(fence_shared, 0, sizeof(FenceShared));
		fence_shared->lock = &GetNamedLWLockTranche("leyser fence")->lock;
		pg_atomic_init_u64(&fence_shared->generation, 1);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
leyser_cache_fence_init(void)
{
	leyser_fence_init();
	prev_shmem_request = shmem_request_hook;
	shmem_request_hook = fence_shmem_request;
	prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = fence_shmem_startup;
}

/* Under the lock; a vacant one where there is none, NULL where all are taken. */
static FenceSlot *
slot_find(Oid database, bool vacant)
{
	for (int i = 0; i < FENCE_DATABASES; i++)
	{
		FenceSlot *slot = &fence_shared->slots[i];

		if (slot->database == database)
			return slot;
		if (!OidIsValid(slot->database))
			return vacant ? slot : NULL;
	}
	return NULL;
}

static FenceSlot
slot_read(Oid extension)
{
	FenceSlot result = {0};
	FenceSlot *slot;

	LWLockAcquire(fence_shared->lock, LW_SHARED);
	slot = slot_find(MyDatabaseId, false);
	if (slot != NULL && slot->extension == extension)
		result = *slot;
	LWLockRelease(fence_shared->lock);
	return result;
}

static bool
view_differs(const LeyserFenceView *a, const LeyserFenceView *b)
{
	return a->verdict != b->verdict || a->held != b->held ||
		   a->keys_refused != b->keys_refused || a->locks != b->locks ||
		   a->missing != b->missing || a->missing_hash != b->missing_hash ||
		   strcmp(a->message, b->message) != 0;
}

/* Tells every backend; whether there was something to tell. */
static bool
slot_write(Oid extension, LeyserFenceView *view, bool in_recovery)
{
	bool differs = true;
	FenceSlot *slot;

	LWLockAcquire(fence_shared->lock, LW_EXCLUSIVE);
	slot = slot_find(MyDatabaseId, true);
	if (slot != NULL)
	{
		if (slot->extension != extension)
			*slot = (FenceSlot){.database = MyDatabaseId, .extension = extension};
		differs = view_differs(&slot->view, view);
		if (!differs)
			view->since = slot->view.since;
		slot->in_recovery = in_recovery;
		slot->was_sound |= view->verdict == LEYSER_FENCE_SOUND;
		slot->view = *view;
		if (differs)
			pg_atomic_fetch_add_u64(&fence_shared->generation, 1);
	}
	LWLockRelease(fence_shared->lock);
	return differs;
}

bool
leyser_fence_changed(void)
{
	uint64 generation = pg_atomic_read_u64(&fence_shared->generation);
	bool in_recovery = RecoveryInProgress();
	bool changed = generation != seen_generation || in_recovery != seen_recovery;

	seen_generation = generation;
	seen_recovery = in_recovery;
	if (changed)
		local_generation = 0;
	return changed;
}

/* ---- where this server stands ---- */

/* Whether a walreceiver is connected; remembered for the time after a promotion. */
bool
leyser_fence_follows_now(void)
{
	bool streams = false;

	if (RecoveryInProgress())
	{
		SpinLockAcquire(&WalRcv->mutex);
		streams = WalRcv->pid != 0 && WalRcv->ready_to_display &&
				  WalRcv->walRcvState == WALRCV_STREAMING;
		SpinLockRelease(&WalRcv->mutex);
	}
	if (streams && !fence_shared->followed)
	{
		LWLockAcquire(fence_shared->lock, LW_EXCLUSIVE);
		fence_shared->followed = true;
		LWLockRelease(fence_shared->lock);
	}
	return streams;
}

bool
leyser_fence_has_followed(void)
{
	return fence_shared->followed;
}

/* ---- looking ---- */

/* What is held, or locked, is a line of the server log when it is first seen. */
static void
look_log(const LeyserFenceView *view)
{
	if (view->held || view->verdict == LEYSER_FENCE_AHEAD ||
		view->verdict == LEYSER_FENCE_LOST)
		ereport(MyBgworkerEntry != NULL ? WARNING : LOG_SERVER_ONLY,
				(errmsg("%s", view->message),
				 errdetail("Database with oid %u: %d tenants are locked, %s, %s.",
						   MyDatabaseId, view->missing,
						   view->held ? "purges and the expiry of backups are held"
									  : "nothing is held",
						   view->keys_refused ? "tokens that leyser signed are refused"
											  : "no token is refused"),
				 errhint("%s", view->remedy)));
}

const LeyserFenceView *
leyser_fence_look(void)
{
	Oid extension = leyser_cache_extension();
	MemoryContext context = AllocSetContextCreate(
		CurrentMemoryContext, "leyser fence look", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	bool in_recovery = RecoveryInProgress();
	LeyserFenceLook look;

	(void) leyser_fence_follows_now();
	leyser_fence_compare(&look, false);
	leyser_fence_judge(&local_view, &look, in_recovery, slot_read(extension).was_sound);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	if (slot_write(extension, &local_view, in_recovery))
		look_log(&local_view);
	local_extension = extension;
	local_generation = pg_atomic_read_u64(&fence_shared->generation);
	return &local_view;
}

const LeyserFenceView *
leyser_fence_view(void)
{
	Oid extension = leyser_cache_extension();
	uint64 generation = pg_atomic_read_u64(&fence_shared->generation);
	FenceSlot slot;

	if (local_generation == generation && local_extension == extension)
		return &local_view;
	slot = slot_read(extension);
	if (slot.view.verdict == LEYSER_FENCE_UNKNOWN ||
		slot.in_recovery != RecoveryInProgress())
		return leyser_fence_look();
	local_view = slot.view;
	local_extension = extension;
	local_generation = generation;
	return &local_view;
}

/* ---- which tenants ---- */

List *
leyser_fence_entries(void)
{
	LeyserFenceLook look;

	leyser_fence_compare(&look, true);
	return look.entries;
}

static void
locked_read(uint64 generation)
{
	HASHCTL ctl = {.keysize = sizeof(char *), .entrysize = sizeof(char *)};
	MemoryContext caller;
	ListCell *cell;

	if (locked_context == NULL)
		locked_context = AllocSetContextCreate(TopMemoryContext, "leyser locked tenants",
											   ALLOCSET_DEFAULT_SIZES);
	locked_generation = 0;
	MemoryContextReset(locked_context);
	ctl.hcxt = locked_context;
	caller = MemoryContextSwitchTo(locked_context);
	locked_tenants = leyser_fence_id_table("leyser locked tenants", &ctl);
	foreach (cell, leyser_fence_entries())
	{
		LeyserFenceEntry *entry = lfirst(cell);

		if (!entry->known)
			(void) hash_search(locked_tenants, &entry->purge.tenant_id, HASH_ENTER, NULL);
	}
	MemoryContextSwitchTo(caller);
	locked_generation = generation;
}

bool
leyser_fence_locks(const char *tenant_id)
{
	uint64 generation;

	if (!leyser_fence_view()->locks)
		return false;
	generation = pg_atomic_read_u64(&fence_shared->generation);
	if (locked_generation != generation)
		locked_read(generation);
	return hash_search(locked_tenants, &tenant_id, HASH_FIND, NULL) != NULL;
}

bool
leyser_fence_database(pg_uuid_t *database)
{
	LeyserFenceTables tables;

	if (!OidIsValid(leyser_cache_extension()))
		return false;
	leyser_fence_tables_open(&tables);
	*database = tables.database;
	leyser_fence_tables_close(&tables);
	return true;
}
