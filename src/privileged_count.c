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
 * Locking: entries are taken and freed under the exclusive lock, and read for writing
 * under the shared one.  Only its own session adds to an entry.  Only the database's
 * one worker takes what is to be written, and marks it as written when it has committed.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "privileged.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "postmaster/bgworker.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "cache.h"
#include "port.h"
#include "relation.h"
#include "task.h"

#define ENTRIES 1024
#define SPARE 32                   /* of them: databases' last entries */
#define SESSION_ENTRIES 128        /* of one session */
#define FLUSH_INTERVAL (60 * 1000) /* milliseconds between a session's writings */
#define WAIT_TIMEOUT 2000          /* milliseconds until a session goes on */
#define MUST_WAIT_TIMEOUT 15000    /* ... or gives up */
#define ASK_AGAIN 200              /* milliseconds between looks while it waits */
#define RELATION_NAME_MAX (4 * NAMEDATALEN + 8) /* both names quoted */
#define COLUMNS 17

typedef struct PrivilegedEntry
{
	bool used;
	bool ended;  /* its session is gone */
	bool others; /* a database's last entry: without a session */
	Oid database;
	int pid;
	LeyserPrivilegedKey key;
	int64 query_id; /* of the first access */
	TimestampTz first_at;
	TimestampTz last_at;
	TimestampTz written_at;
	pg_atomic_uint64 count;
	pg_atomic_uint64 written; /* of them: events that are committed */
	uint64 told;              /* of them: have a line of the server log */
	char relation[RELATION_NAME_MAX];
	char session_role[NAMEDATALEN];
	char caller_role[NAMEDATALEN];
	char role[NAMEDATALEN];
	char application[NAMEDATALEN];
	char address[LEYSER_ADDRESS_MAX];
} PrivilegedEntry;

typedef struct PrivilegedShared
{
	LWLock *lock;
	ConditionVariable written;
	PrivilegedEntry entries[ENTRIES];
} PrivilegedShared;

/* In a session: where its entries are. */
typedef struct KnownEntry
{
	LeyserPrivilegedKey key;
	PrivilegedEntry *entry;
} KnownEntry;

static PrivilegedShared *shared = NULL;
static HTAB *known = NULL;

/* In the worker: what the transaction writes. */
static uint64 *taken = NULL;
static bool is_taking = false;

static shmem_request_hook_type prev_shmem_request = NULL;
static shmem_startup_hook_type prev_shmem_startup = NULL;

PG_FUNCTION_INFO_V1(leyser_list_privileged);
PG_FUNCTION_INFO_V1(leyser_take_privileged);

/* ---- shared memory ---- */

static void
count_shmem_request(void)
{
	if (prev_shmem_request)
		prev_shmem_request();
	RequestAddinShmemSpace(MAXALIGN(sizeof(PrivilegedShared)));
	RequestNamedLWLockTranche("leyser privileged access", 1);
}

static void
count_shmem_startup(void)
{
	bool found;

	if (prev_shmem_startup)
		prev_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared =
		ShmemInitStruct("leyser privileged access", sizeof(PrivilegedShared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(PrivilegedShared));
		shared->lock = &GetNamedLWLockTranche("leyser privileged access")->lock;
		ConditionVariableInit(&shared->written);
	}
	LWLockRelease(AddinShmemInitLock);
}

static inline uint64
entry_waiting(PrivilegedEntry *entry)
{
	return pg_atomic_read_u64(&entry->count) - pg_atomic_read_u64(&entry->written);
}

/* ---- a line of the server log ---- */

static const char *
count_event(const LeyserPrivilegedKey *key)
{
	switch (key->kind)
	{
		case LEYSER_PRIVILEGED_REFUSED:
			return "privileged.refused";
		case LEYSER_PRIVILEGED_DDL:
			return "privileged.ddl";
		default:
			return "privileged.access";
	}
}

static void
line_add(StringInfo line, const char *name, const char *value)
{
	if (value[0] == '\0')
		return;
	appendStringInfo(line, "%s\"%s\": ", line->len > 1 ? ", " : "", name);
	escape_json(line, value);
}

/* The same words as the event's row has; nothing of a statement's text. */
static void
entry_tell(PrivilegedEntry *entry, uint64 statements)
{
	StringInfoData line;

	initStringInfo(&line);
	appendStringInfoChar(&line, '{');
	line_add(&line, "event", count_event(&entry->key));
	line_add(&line, "session_role", entry->session_role);
	line_add(&line, "caller_role", entry->caller_role);
	line_add(&line, "client_address", entry->address);
	line_add(&line, "object", entry->relation);
	line_add(&line, "role", entry->role);
	line_add(&line, "command", entry->key.command);
	line_add(&line, "bypass", entry->key.bypass);
	line_add(&line, "application", entry->application);
	if (entry->query_id != 0)
		appendStringInfo(&line, ", \"query_id\": " INT64_FORMAT, entry->query_id);
	if (entry->key.window != 0)
		appendStringInfo(&line, ", \"window\": " INT64_FORMAT, entry->key.window);
	appendStringInfo(&line, ", \"pid\": %d, \"statements\": " UINT64_FORMAT "}",
					 entry->pid, statements);
	ereport(LOG_SERVER_ONLY, (errhidestmt(true), errhidecontext(true),
							  errmsg("leyser event: %s", line.data)));
	pfree(line.data);
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
		PrivilegedEntry *entry = one->entry;
		uint64 count = pg_atomic_read_u64(&entry->count);

		if (count > entry->told)
			entry_tell(entry, count - entry->told);
		LWLockAcquire(shared->lock, LW_EXCLUSIVE);
		entry->told = count;
		entry->ended = true;
		if (entry_waiting(entry) == 0)
			entry->used = false;
		else
			waiting = true;
		LWLockRelease(shared->lock);
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
static PrivilegedEntry *
count_make(const LeyserPrivilegedKey *key, int64 query_id)
{
	PrivilegedEntry *entry = palloc0(sizeof(PrivilegedEntry));
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
static PrivilegedEntry *
count_vacant(int from, int to)
{
	for (int i = from; i < to; i++)
	{
		if (!shared->entries[i].used)
			return &shared->entries[i];
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
		if (entry_waiting(one->entry) != 0)
			continue;
		LWLockAcquire(shared->lock, LW_EXCLUSIVE);
		one->entry->used = false;
		LWLockRelease(shared->lock);
		(void) hash_search(known, &one->key, HASH_REMOVE, NULL);
		hash_seq_term(&scan);
		return true;
	}
	return false;
}

/* Puts a new entry into its place; NULL where there is no room. */
static PrivilegedEntry *
count_put(const PrivilegedEntry *made)
{
	PrivilegedEntry *entry;
	KnownEntry *one;

	if (hash_get_num_entries(known) >= SESSION_ENTRIES && !count_give_up_one())
		return NULL;
	/* first what may fail */
	one = hash_search(known, &made->key, HASH_ENTER, NULL);
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	entry = count_vacant(SPARE, ENTRIES);
	if (entry != NULL)
		*entry = *made;
	LWLockRelease(shared->lock);
	one->entry = entry;
	if (entry == NULL)
		(void) hash_search(known, &made->key, HASH_REMOVE, NULL);
	return entry;
}

/* No room: the database's last entry counts it, and the log tells it whole. */
static void
count_others(const PrivilegedEntry *made)
{
	PrivilegedEntry *entry = NULL;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < SPARE && entry == NULL; i++)
	{
		if (shared->entries[i].used && shared->entries[i].database == MyDatabaseId)
			entry = &shared->entries[i];
	}
	if (entry == NULL && (entry = count_vacant(0, SPARE)) != NULL)
	{
		memset(entry, 0, sizeof(PrivilegedEntry));
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
	LWLockRelease(shared->lock);
}

/* ---- waiting for the worker ---- */

/* False where it was not written in time. */
static bool
count_wait(PrivilegedEntry *entry, int timeout)
{
	TimestampTz started = GetCurrentTimestamp();
	bool in_time = true;

	ConditionVariablePrepareToSleep(&shared->written);
	(void) leyser_task_leave("privileged access", "");
	while (in_time && pg_atomic_read_u64(&entry->written) == 0)
	{
		if (ConditionVariableTimedSleep(&shared->written, ASK_AGAIN, PG_WAIT_EXTENSION))
			(void) leyser_task_leave("privileged access", "");
		in_time = !TimestampDifferenceExceeds(started, GetCurrentTimestamp(), timeout);
	}
	ConditionVariableCancelSleep();
	return in_time || pg_atomic_read_u64(&entry->written) > 0;
}

/* In the worker itself nobody else would write it. */
static bool
count_is_writer(void)
{
	return MyBgworkerEntry != NULL &&
		   strcmp(MyBgworkerEntry->bgw_type, "leyser worker") == 0;
}

static void
count_write(PrivilegedEntry *entry, bool must)
{
	if (RecoveryInProgress() || !IsUnderPostmaster || count_is_writer() ||
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
count_again(PrivilegedEntry *entry)
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
	PrivilegedEntry *made;
	PrivilegedEntry *entry;

	count_begin_session();
	one = hash_search(known, key, HASH_FIND, NULL);
	if (one != NULL)
	{
		count_again(one->entry);
		return;
	}
	made = count_make(key, query_id);
	entry_tell(made, 1);
	entry = count_put(made);
	if (entry != NULL)
		count_write(entry, must);
	else
		count_others(made);
	pfree(made);
}

/* ---- SQL ---- */

static void
entry_put(ReturnSetInfo *rsinfo, PrivilegedEntry *entry, uint64 statements, bool untold)
{
	Datum values[COLUMNS];
	bool nulls[COLUMNS] = {false};
	const char *texts[] = {entry->session_role, entry->caller_role, entry->address,
						   entry->relation,     entry->role,        entry->key.command,
						   entry->key.bypass,   entry->application};

	values[0] = CStringGetTextDatum(count_event(&entry->key));
	for (int i = 0; i < (int) lengthof(texts); i++)
	{
		nulls[i + 1] = texts[i][0] == '\0';
		values[i + 1] = nulls[i + 1] ? (Datum) 0 : CStringGetTextDatum(texts[i]);
	}
	values[9] = Int64GetDatum(entry->query_id);
	nulls[9] = entry->query_id == 0;
	values[10] = Int64GetDatum(entry->key.window);
	nulls[10] = entry->key.window == 0;
	values[11] = Int32GetDatum(entry->pid);
	nulls[11] = entry->others;
	values[12] = Int64GetDatum((int64) statements);
	values[13] = TimestampTzGetDatum(entry->first_at);
	values[14] = TimestampTzGetDatum(entry->last_at);
	values[15] = BoolGetDatum(untold);
	values[16] = BoolGetDatum(entry->others);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* list_privileged() → setof (…): what is counted in this database and not written */
Datum
leyser_list_privileged(PG_FUNCTION_ARGS)
{
	leyser_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < ENTRIES; i++)
	{
		PrivilegedEntry *entry = &shared->entries[i];
		uint64 waiting = entry->used ? entry_waiting(entry) : 0;

		if (waiting > 0 && entry->database == MyDatabaseId)
			entry_put((ReturnSetInfo *) fcinfo->resultinfo, entry, waiting, false);
	}
	LWLockRelease(shared->lock);
	return (Datum) 0;
}

/* In the worker: what it took is written, or to be taken again. */
static void
count_xact_ended(XactEvent event, void *arg)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!is_taking || (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT))
		return;
	is_taking = false;
	if (event == XACT_EVENT_ABORT)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < ENTRIES; i++)
	{
		PrivilegedEntry *entry = &shared->entries[i];

		if (taken[i] == 0)
			continue;
		pg_atomic_fetch_add_u64(&entry->written, taken[i]);
		entry->written_at = now;
		entry->told = Max(entry->told, (uint64) pg_atomic_read_u64(&entry->written));
		if ((entry->ended || entry->others) && entry_waiting(entry) == 0)
			entry->used = false;
	}
	LWLockRelease(shared->lock);
	ConditionVariableBroadcast(&shared->written);
}

static void
count_begin_taking(void)
{
	if (!count_is_writer())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("only leyser's worker writes privileged accesses"),
						errhint("View leyser.privileged_access shows them.")));
	if (taken == NULL)
	{
		taken = MemoryContextAlloc(TopMemoryContext, sizeof(uint64) * ENTRIES);
		RegisterXactCallback(count_xact_ended, NULL);
	}
	memset(taken, 0, sizeof(uint64) * ENTRIES);
	is_taking = true;
}

/* take_privileged() → setof (…): the same in the worker, whose transaction writes it */
Datum
leyser_take_privileged(PG_FUNCTION_ARGS)
{
	leyser_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	count_begin_taking();
	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < ENTRIES; i++)
	{
		PrivilegedEntry *entry = &shared->entries[i];
		uint64 waiting = entry->used ? entry_waiting(entry) : 0;

		if (waiting == 0 || entry->database != MyDatabaseId)
			continue;
		taken[i] = waiting;
		entry_put((ReturnSetInfo *) fcinfo->resultinfo, entry, waiting,
				  pg_atomic_read_u64(&entry->written) + waiting > entry->told);
	}
	LWLockRelease(shared->lock);
	return (Datum) 0;
}

void
leyser_privileged_count_init(void)
{
	prev_shmem_request = shmem_request_hook;
	shmem_request_hook = count_shmem_request;
	prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = count_shmem_startup;
}
