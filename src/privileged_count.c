/*
 * privileged_count.c
 *		Counts of privileged accesses, in shared memory, on their way to the event log.
 *
 * An entry is what one session does with one table in one way; each statement adds
 * one.  So a million statements are a million additions, and some events:
 *
 *  - What is new in a session goes to the server log at once.  Then the worker is
 *    asked to write all counts of the database as events, and waited for.  So of
 *    whatever was seen something is on disk before, and no rollback, read-only
 *    transaction or crash hides it.
 *  - What comes again only adds.  It is written when an access finds that the last
 *    writing is FLUSH_INTERVAL old, when the session ends, by the heartbeat, and with
 *    what is new of others.  View leyser.privileged_access shows what is not written
 *    yet, too.
 *  - Where the worker cannot write (it has no place, somebody holds a lock on the
 *    event log), the count waits, and the session goes on after WAIT_TIMEOUT; in a
 *    window under leyser.privileged_access = refuse it does not.
 *  - A standby writes nothing: the log has a line when an access is new and when its
 *    session ends, and the counts stay; the worker writes them after a promotion.
 *  - Before a database has its keyring nothing is written, either: it may be one to
 *    which a dump is being restored, whose events are to come in first.
 *  - A crash or restart loses counts that were not written.  At a session's end they
 *    are a line of the server log before.
 *
 * The memory is bounded.  A session that has more than SESSION_ENTRIES gives up one
 * that is written; where there is none, or no room at all, the database's last entry
 * counts, which names nobody, and each access that it counts has its line of the log.
 *
 * What is counted is told and written by privileged_write.c.
 *
 * Locking: entries are taken and freed under the exclusive lock, and read for writing
 * under the shared one.  Only its own session adds to an entry.  Only the database's
 * one worker takes what is to be written, and marks it as written when it has committed.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "privileged_entry.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "cache.h"
#include "relation.h"
#include "task.h"

#define SPARE 32                   /* of the entries: databases' last entries */
#define SESSION_ENTRIES 128        /* of one session */
#define FLUSH_INTERVAL (60 * 1000) /* milliseconds between a session's writings */
#define WAIT_TIMEOUT 2000          /* milliseconds until a session goes on */
#define MUST_WAIT_TIMEOUT 15000    /* ... or gives up */
#define ASK_AGAIN 200              /* milliseconds between looks while it waits */

/* In a session: where its entries are. */
typedef struct KnownEntry
{
	LeyserPrivilegedKey key;
	LeyserPrivilegedEntry *entry;
} KnownEntry;

LeyserPrivilegedShared *leyser_privileged_shared = NULL;
static HTAB *known = NULL;

static shmem_request_hook_type prev_shmem_request = NULL;
static shmem_startup_hook_type prev_shmem_startup = NULL;

/* ---- shared memory ---- */

static void
count_shmem_request(void)
{
	if (prev_shmem_request)
		prev_shmem_request();
	RequestAddinShmemSpace(MAXALIGN(sizeof(LeyserPrivilegedShared)));
	RequestNamedLWLockTranche("leyser privileged access", 1);
}

static void
count_shmem_startup(void)
{
	bool found;

	if (prev_shmem_startup)
		prev_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	leyser_privileged_shared = ShmemInitStruct("leyser privileged access",
											   sizeof(LeyserPrivilegedShared), &found);
	if (!found)
	{
		memset(leyser_privileged_shared, 0, sizeof(LeyserPrivilegedShared));
		leyser_privileged_shared->lock =
			&GetNamedLWLockTranche("leyser privileged access")->lock;
		ConditionVariableInit(&leyser_privileged_shared->written);
	}
	LWLockRelease(AddinShmemInitLock);
}

/* ---- entries of a session ---- */

/* The session ends: who writes its counts finds them marked, and the log has them. */
static void
count_at_exit(int code, Datum arg)
{
	HASH_SEQ_STATUS scan;
	KnownEntry *one;
	bool waiting = false;

	hash_seq_init(&scan, known);
	while ((one = hash_seq_search(&scan)) != NULL)
	{
		LeyserPrivilegedEntry *entry = one->entry;
		uint64 count = pg_atomic_read_u64(&entry->count);

		if (count > entry->told)
			leyser_privileged_tell(entry, count - entry->told);
		LWLockAcquire(leyser_privileged_shared->lock, LW_EXCLUSIVE);
		entry->told = count;
		entry->ended = true;
		if (leyser_privileged_waiting(entry) == 0)
			entry->used = false;
		else
			waiting = true;
		LWLockRelease(leyser_privileged_shared->lock);
	}
	if (waiting && !RecoveryInProgress())
		(void) leyser_task_leave("privileged access", "");
}

static void
count_begin_session(void)
{
	HASHCTL control = {.keysize = sizeof(LeyserPrivilegedKey),
					   .entrysize = sizeof(KnownEntry),
					   .hcxt = TopMemoryContext};

	if (known != NULL)
		return;
	known = hash_create("leyser privileged access", SESSION_ENTRIES, &control,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	before_shmem_exit(count_at_exit, (Datum) 0);
}

static void
count_fill_name(char *into, Oid role)
{
	char *name = GetUserNameFromId(role, true);

	strlcpy(into, name ? name : "", NAMEDATALEN);
}

/* Catalogues are read here, so not under the lock. */
static LeyserPrivilegedEntry *
count_make(const LeyserPrivilegedKey *key, int64 query_id)
{
	LeyserPrivilegedEntry *entry = palloc0(sizeof(LeyserPrivilegedEntry));
	char *relation = leyser_relation_name(key->relation);

	entry->used = true;
	entry->database = MyDatabaseId;
	entry->pid = MyProcPid;
	entry->key = *key;
	entry->query_id = query_id;
	entry->first_at = entry->last_at = entry->written_at = GetCurrentTimestamp();
	pg_atomic_init_u64(&entry->count, 1);
	pg_atomic_init_u64(&entry->written, 0);
	entry->told = 1;
	strlcpy(entry->relation, relation ? relation : "", sizeof(entry->relation));
	count_fill_name(entry->session_role, key->session_role);
	count_fill_name(entry->caller_role, key->caller_role);
	count_fill_name(entry->role, key->role);
	strlcpy(entry->application, application_name ? application_name : "",
			sizeof(entry->application));
	leyser_port_address(MyProcPort, entry->address);
	return entry;
}

/* Under the lock: a free place among the first of them, or NULL. */
static LeyserPrivilegedEntry *
count_vacant(int from, int to)
{
	for (int i = from; i < to; i++)
	{
		if (!leyser_privileged_shared->entries[i].used)
			return &leyser_privileged_shared->entries[i];
	}
	return NULL;
}

/* Gives up one of this session's that is written whole, if there is one. */
static bool
count_give_up_one(void)
{
	HASH_SEQ_STATUS scan;
	KnownEntry *one;

	hash_seq_init(&scan, known);
	while ((one = hash_seq_search(&scan)) != NULL)
	{
		if (leyser_privileged_waiting(one->entry) != 0)
			continue;
		LWLockAcquire(leyser_privileged_shared->lock, LW_EXCLUSIVE);
		one->entry->used = false;
		LWLockRelease(leyser_privileged_shared->lock);
		(void) hash_search(known, &one->key, HASH_REMOVE, NULL);
		hash_seq_term(&scan);
		return true;
	}
	return false;
}

/* Puts a new entry into its place; NULL where there is no room. */
static LeyserPrivilegedEntry *
count_put(const LeyserPrivilegedEntry *made)
{
	LeyserPrivilegedEntry *entry;
	KnownEntry *one;

	if (hash_get_num_entries(known) >= SESSION_ENTRIES && !count_give_up_one())
		return NULL;
	/* first what may fail */
	one = hash_search(known, &made->key, HASH_ENTER, NULL);
	LWLockAcquire(leyser_privileged_shared->lock, LW_EXCLUSIVE);
	entry = count_vacant(SPARE, LEYSER_PRIVILEGED_ENTRIES);
	if (entry != NULL)
		*entry = *made;
	LWLockRelease(leyser_privileged_shared->lock);
	one->entry = entry;
	if (entry == NULL)
		(void) hash_search(known, &made->key, HASH_REMOVE, NULL);
	return entry;
}

/* No room: the database's last entry counts it, and the log tells it whole. */
static void
count_others(const LeyserPrivilegedEntry *made)
{
	LeyserPrivilegedEntry *entry = NULL;

	LWLockAcquire(leyser_privileged_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < SPARE && entry == NULL; i++)
	{
		if (leyser_privileged_shared->entries[i].used &&
			leyser_privileged_shared->entries[i].database == MyDatabaseId)
			entry = &leyser_privileged_shared->entries[i];
	}
	if (entry == NULL && (entry = count_vacant(0, SPARE)) != NULL)
	{
		memset(entry, 0, sizeof(LeyserPrivilegedEntry));
		entry->used = entry->others = true;
		entry->database = MyDatabaseId;
		entry->first_at = made->first_at;
		pg_atomic_init_u64(&entry->count, 0);
		pg_atomic_init_u64(&entry->written, 0);
	}
	if (entry != NULL)
	{
		entry->last_at = made->first_at;
		entry->told = pg_atomic_add_fetch_u64(&entry->count, 1);
	}
	LWLockRelease(leyser_privileged_shared->lock);
}

/* ---- waiting for the worker ---- */

/* False where it was not written in time. */
static bool
count_wait(LeyserPrivilegedEntry *entry, int timeout)
{
	TimestampTz started = GetCurrentTimestamp();
	bool in_time = true;

	ConditionVariablePrepareToSleep(&leyser_privileged_shared->written);
	(void) leyser_task_leave("privileged access", "");
	while (in_time && pg_atomic_read_u64(&entry->written) == 0)
	{
		if (ConditionVariableTimedSleep(&leyser_privileged_shared->written, ASK_AGAIN,
										PG_WAIT_EXTENSION))
			(void) leyser_task_leave("privileged access", "");
		in_time = !TimestampDifferenceExceeds(started, GetCurrentTimestamp(), timeout);
	}
	ConditionVariableCancelSleep();
	return in_time || pg_atomic_read_u64(&entry->written) > 0;
}

static void
count_write(LeyserPrivilegedEntry *entry, bool must)
{
	if (RecoveryInProgress() || !IsUnderPostmaster || leyser_privileged_is_writer() ||
		!leyser_cache_has_keyring())
		return;
	if (count_wait(entry, must ? MUST_WAIT_TIMEOUT : WAIT_TIMEOUT) || !must)
		return;
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					errmsg("privileged access could not be recorded"),
					errdetail("leyser's worker did not write the event in %d seconds.",
							  MUST_WAIT_TIMEOUT / 1000),
					errhint("See the server log.")));
}

/* ---- counting ---- */

static void
count_again(LeyserPrivilegedEntry *entry)
{
	pg_atomic_fetch_add_u64(&entry->count, 1);
	entry->last_at = GetCurrentStatementStartTimestamp();
	if (!TimestampDifferenceExceeds(entry->written_at, entry->last_at, FLUSH_INTERVAL) ||
		RecoveryInProgress())
		return;
	entry->written_at = entry->last_at;
	(void) leyser_task_leave("privileged access", "");
}

void
leyser_privileged_count(const LeyserPrivilegedKey *key, int64 query_id, bool must)
{
	KnownEntry *one;
	LeyserPrivilegedEntry *made;
	LeyserPrivilegedEntry *entry;

	count_begin_session();
	one = hash_search(known, key, HASH_FIND, NULL);
	if (one != NULL)
	{
		count_again(one->entry);
		return;
	}
	made = count_make(key, query_id);
	leyser_privileged_tell(made, 1);
	entry = count_put(made);
	if (entry != NULL)
		count_write(entry, must);
	else
		count_others(made);
	pfree(made);
}

void
leyser_privileged_count_init(void)
{
	prev_shmem_request = shmem_request_hook;
	shmem_request_hook = count_shmem_request;
	prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = count_shmem_startup;
}
