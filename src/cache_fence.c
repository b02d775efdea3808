/*
 * cache_fence.c
 *		Fences compared with the tables, and what every backend is told of it.
 *
 * A restore is found by what the fence holds and the tables do not: a purge that
 * had begun or was over, or an event.  Not by the timeline, which a failover changes
 * too.  The tables are always written, and flushed, before the fence is: so no
 * crash, restart or failover of a server that had replayed all makes a fence that
 * is ahead.  The rules:
 *
 *  - A fence that is ahead: its tenants are locked, on a standby too, without any
 *    row having to be written.  And the server was restored, so that what destroys
 *    is held, and own tokens are refused until that has been written down (which
 *    retires the keys themselves).
 *  - No fence where there was one, or one that cannot be read or believed: assume a
 *    restore.  Own tokens are refused and work is held as long as that is so.  But
 *    what was sound in this life of the server cannot have been restored: then work
 *    is held, no more.
 *  - A standby that is set up to follow a primary only locks the tenants that its
 *    fence knows more of, as it may just lag behind (its fence may be another
 *    node's, too).  What it is, is decided when it is promoted.  One that has
 *    followed in this life and is promoted is a failover: events that did not
 *    arrive are no sign then, nor is a fence that could not be written.
 *  - The newest event is marked with its digest, so that another one that got its
 *    number after the restore does not pass for it.
 *  - A mark of events counts for one incarnation, which is another one after each
 *    released restore: two servers that went apart do not accuse each other.
 *
 * One look, at most, a life of the server and database is needed: what was found
 * lies in shared memory, with a number that changes when it does; the purge worker
 * looks again each time it visits a database.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "cache_fence.h"

#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "common/hashfn.h"
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
#include "fence_tables.h"

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

/* A standby of a primary, whether or not that answers; no restore from an archive. */
static bool
follows_by_settings(void)
{
	struct stat st;

	return PrimaryConnInfo != NULL && PrimaryConnInfo[0] != '\0' &&
		   stat(STANDBY_SIGNAL_FILE, &st) == 0;
}

/* ---- comparing ---- */

/* What a look gathers. */
typedef struct FenceLook
{
	LeyserFenceTables tables;
	LeyserFenceVerdict verdict; /* of this database's own fence */
	LeyserFenceState state;
	int64 restores;    /* of it */
	bool moved_back;   /* it knows events that the tables do not */
	bool foreign_lost; /* one that rows were dumped under */
	int missing;       /* purges that the tables do not know */
	int own_missing;
	uint32 missing_hash;
	LeyserKeyringError error; /* why a fence cannot be had */
	List *entries;            /* or NIL where nobody wants them */
	bool wants_entries;
} FenceLook;

/* Whether the tables know as much of a purge as the fence. */
static bool
look_knows(FenceLook *look, const LeyserFencePurge *purge)
{
	return leyser_fence_tenant_is_erased(&look->tables, purge->tenant_id) ||
		   (TIMESTAMP_IS_NOBEGIN(purge->erased_at) &&
			leyser_fence_purge_has_begun(&look->tables, purge->tenant_id));
}

static void
look_at_purges(FenceLook *look, const LeyserFence *fence, bool own)
{
	HASH_SEQ_STATUS scan;
	LeyserFencePurge *purge;

	hash_seq_init(&scan, fence->purges);
	while ((purge = hash_seq_search(&scan)) != NULL)
	{
		bool known = look_knows(look, purge);

		if (!known)
		{
			look->missing++;
			look->own_missing += own;
			look->missing_hash ^= hash_bytes((const unsigned char *) purge->tenant_id,
											 strlen(purge->tenant_id));
		}
		if (look->wants_entries)
		{
			LeyserFenceEntry *entry = palloc(sizeof(LeyserFenceEntry));

			entry->database = fence->database;
			entry->purge = *purge;
			entry->known = known;
			look->entries = lappend(look->entries, entry);
		}
	}
}

static void
look_at_own(FenceLook *look)
{
	LeyserFence *fence =
		leyser_fence_read(&look->tables.database, &look->state, &look->error);
	const LeyserFenceMark *mark;

	if (fence == NULL)
	{
		/* what never was there is not lost; but what is there and damaged is */
		look->verdict = look->tables.is_fenced || look->state == LEYSER_FENCE_DAMAGED
							? LEYSER_FENCE_LOST
							: LEYSER_FENCE_NONE;
		return;
	}
	look->restores = fence->restores;
	mark = look->tables.is_fenced ? leyser_fence_mark(fence, &look->tables.incarnation)
								  : NULL;
	look->moved_back = mark != NULL && mark->event_id != 0 &&
					   !leyser_fence_event_is_known(mark->event_id, mark->event_digest);
	look_at_purges(look, fence, true);
	look->verdict = LEYSER_FENCE_SOUND;
}

/* The fences of databases that rows were dumped from: these tenants may be theirs. */
static void
look_at_origins(FenceLook *look)
{
	ListCell *cell;

	foreach (cell, look->tables.origins)
	{
		LeyserFenceOrigin *origin = lfirst(cell);
		LeyserFenceState state = LEYSER_FENCE_UNREADABLE;
		LeyserKeyringError error;
		LeyserFence *fence = leyser_fence_read(&origin->database, &state, &error);

		if (fence != NULL)
			look_at_purges(look, fence, false);
		else if (!origin->is_accepted)
		{
			look->foreign_lost = true;
			look->error = error;
			strlcpy(look->error.message,
					"there is no fence of the database that this one was dumped from",
					sizeof(look->error.message));
		}
	}
}

static void
look_begin(FenceLook *look, bool wants_entries)
{
	memset(look, 0, sizeof(FenceLook));
	look->wants_entries = wants_entries;
	look->verdict = LEYSER_FENCE_NONE;
	leyser_fence_tables_open(&look->tables);
	look_at_own(look);
	look_at_origins(look);
	leyser_fence_tables_close(&look->tables);
}

/* ---- judging ---- */

static void
view_tell(LeyserFenceView *view, const char *message, const char *remedy)
{
	strlcpy(view->message, message, sizeof(view->message));
	strlcpy(view->remedy, remedy, sizeof(view->remedy));
}

/* The fence holds more than the tables. */
static void
judge_ahead(LeyserFenceView *view, const FenceLook *look, bool own)
{
	view->verdict = LEYSER_FENCE_AHEAD;
	view->held = true;
	/* written down once: by this restore, not by an older one */
	view->keys_refused = own && look->tables.open_restore <= look->restores;
	if (look->missing > 0)
		snprintf(view->message, sizeof(view->message),
				 "this server was restored to a time before %d purges began or ended",
				 look->missing);
	else
		view_tell(view, "this server was restored to a time before its latest events",
				  "");
	strlcpy(view->remedy,
			"CALL leyser.replay_purges(); it erases again what was erased since.",
			sizeof(view->remedy));
}

/* There was a fence; in this life of the server, or before a restore? */
static void
judge_lost(LeyserFenceView *view, const FenceLook *look, bool own, bool was_sound)
{
	view->verdict = LEYSER_FENCE_LOST;
	view->held = true;
	view->keys_refused = own && !was_sound;
	view_tell(view, look->error.message, look->error.hint);
}

static void
judge(LeyserFenceView *view, const FenceLook *look, bool in_recovery, bool was_sound)
{
	bool followed = fence_shared->followed;
	bool moved_back = look->moved_back && !followed;

	memset(view, 0, sizeof(LeyserFenceView));
	view->since = GetCurrentTimestamp();
	view->verdict = look->verdict;
	view->missing = look->missing;
	view->missing_hash = look->missing_hash;
	view->locks = look->missing > 0;
	if (in_recovery && follows_by_settings())
	{
		if (look->missing > 0)
			view->verdict = LEYSER_FENCE_AHEAD;
		if (look->missing > 0 || view->verdict == LEYSER_FENCE_LOST)
			view_tell(view,
					  look->missing > 0
						  ? "this standby's fence knows purges that have not "
							"been replayed here"
						  : look->error.message,
					  look->missing > 0 ? "Wait for its replay; if it stays, have these "
										  "tenants purged on the primary."
										: look->error.hint);
		return;
	}
	if (followed && !in_recovery && look->state == LEYSER_FENCE_ABSENT)
		view->verdict = LEYSER_FENCE_NONE; /* the standby could not write it */
	if (look->missing > 0 || moved_back)
		judge_ahead(view, look, look->own_missing > 0 || moved_back);
	else if (view->verdict == LEYSER_FENCE_LOST || look->foreign_lost)
		judge_lost(view, look, view->verdict == LEYSER_FENCE_LOST, was_sound);
	if (look->tables.open_restore > 0 && !view->held)
	{
		view->held = true;
		view_tell(view, "this server was restored, and the restore is not yet released",
				  "CALL leyser.replay_purges().");
	}
}

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
	FenceLook look;

	(void) leyser_fence_follows_now();
	look_begin(&look, false);
	judge(&local_view, &look, in_recovery, slot_read(extension).was_sound);
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
	FenceLook look;

	look_begin(&look, true);
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
