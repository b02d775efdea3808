/*
 * context_gap.c
 *		Counts of what observed tables let through, in shared memory.
 *
 * An entry is a table, what happened there, the query's id, the role and the
 * application's name; never a query's text, a row or a tenant.  The memory is
 * bounded: GAP_ENTRIES of all databases.  Who floods it, by queries or names that
 * are always new, fills its own role's share: from then on what is new of that
 * role, table and kind is counted in one entry without query and application (the
 * others), and what other roles do has its room still.  Where even that finds no
 * room, one entry of the database without a table and role counts.  So a gap can
 * lose its details, but not itself.  Nothing is evicted.
 *
 * Locking: entries are found under the shared lock and counted with atomic
 * operations; only new entries and forgetting take it exclusively.  The counts
 * begin anew with the server, and after a crash: leyser.observed_since() says when.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "context_gap.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#define GAP_ENTRIES 4096
#define GAP_SPARE 64         /* of them for the databases' last entries */
#define GAP_ROLE_ENTRIES 512 /* with details, of one role */
#define GAP_COLUMNS 9

/* Zeroed before it is filled in: it is compared byte by byte. */
typedef struct GapKey
{
	Oid database;
	Oid relation;
	Oid role;
	LeyserGapKind kind;
	int sqlerrcode;
	bool others; /* of what came when the role's share was full */
	int64 query_id;
	char application[NAMEDATALEN];
} GapKey;

typedef struct GapEntry
{
	GapKey key;
	TimestampTz first_seen;
	pg_atomic_uint64 last_seen;
	pg_atomic_uint64 count;
} GapEntry;

typedef struct GapShared
{
	LWLock *lock;
	TimestampTz since;
} GapShared;

static GapShared *gap_shared = NULL;
static HTAB *gap_entries = NULL;

static shmem_request_hook_type prev_shmem_request = NULL;
static shmem_startup_hook_type prev_shmem_startup = NULL;

PG_FUNCTION_INFO_V1(leyser_list_context_gaps);
PG_FUNCTION_INFO_V1(leyser_forget_gaps);
PG_FUNCTION_INFO_V1(leyser_observed_since);

/* ---- shared memory ---- */

static void
gap_shmem_request(void)
{
	if (prev_shmem_request)
		prev_shmem_request();
	RequestAddinShmemSpace(add_size(MAXALIGN(sizeof(GapShared)),
									hash_estimate_size(GAP_ENTRIES, sizeof(GapEntry))));
	RequestNamedLWLockTranche("leyser context gaps", 1);
}

static void
gap_shmem_startup(void)
{
	HASHCTL control = {.keysize = sizeof(GapKey), .entrysize = sizeof(GapEntry)};
	bool found;

	if (prev_shmem_startup)
		prev_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	gap_shared = ShmemInitStruct("leyser context gaps", sizeof(GapShared), &found);
	if (!found)
	{
		gap_shared->lock = &GetNamedLWLockTranche("leyser context gaps")->lock;
		gap_shared->since = GetCurrentTimestamp();
	}
	gap_entries = ShmemInitHash("leyser context gap entries", GAP_ENTRIES, GAP_ENTRIES,
								&control, HASH_ELEM | HASH_BLOBS);
	LWLockRelease(AddinShmemInitLock);
}

void
leyser_context_gap_init(void)
{
	prev_shmem_request = shmem_request_hook;
	shmem_request_hook = gap_shmem_request;
	prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = gap_shmem_startup;
}

/* ---- counting ---- */

static bool
gap_count_known(const GapKey *key, TimestampTz now)
{
	GapEntry *entry = hash_search(gap_entries, key, HASH_FIND, NULL);

	if (entry == NULL)
		return false;
	pg_atomic_fetch_add_u64(&entry->count, 1);
	pg_atomic_write_u64(&entry->last_seen, (uint64) now);
	return true;
}

/* Under the exclusive lock; false where there is no room. */
static bool
gap_count_new(const GapKey *key, TimestampTz now, long limit)
{
	GapEntry *entry;

	if (gap_count_known(key, now))
		return true;
	if (hash_get_num_entries(gap_entries) >= limit)
		return false;
	entry = hash_search(gap_entries, key, HASH_ENTER_NULL, NULL);
	if (entry == NULL)
		return false;
	entry->first_seen = now;
	pg_atomic_init_u64(&entry->last_seen, (uint64) now);
	pg_atomic_init_u64(&entry->count, 1);
	return true;
}

/* Whether a role has used up its share of the entries with details. */
static bool
gap_share_is_full(const GapKey *key)
{
	HASH_SEQ_STATUS scan;
	GapEntry *entry;
	int count = 0;

	hash_seq_init(&scan, gap_entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (!entry->key.others && entry->key.role == key->role &&
			entry->key.database == key->database)
			count++;
	}
	return count >= GAP_ROLE_ENTRIES;
}

static void
gap_add(const GapKey *key, const GapKey *others, TimestampTz now)
{
	GapKey last;

	if (!gap_share_is_full(key) && gap_count_new(key, now, GAP_ENTRIES - GAP_SPARE))
		return;
	if (gap_count_new(others, now, GAP_ENTRIES - GAP_SPARE))
		return;
	memset(&last, 0, sizeof(last));
	last.database = key->database;
	last.kind = key->kind;
	last.others = true;
	(void) gap_count_new(&last, now, GAP_ENTRIES);
}

void
leyser_context_gap_note(Oid relation, LeyserGapKind kind, int sqlerrcode, int64 query_id)
{
	TimestampTz now = GetCurrentTimestamp();
	GapKey key;
	GapKey others;
	bool known;

	if (gap_entries == NULL)
		return;
	memset(&key, 0, sizeof(key));
	key.database = MyDatabaseId;
	key.relation = relation;
	key.role = GetOuterUserId();
	key.kind = kind;
	others = key;
	others.others = true;
	key.sqlerrcode = sqlerrcode;
	key.query_id = query_id;
	if (application_name)
		strlcpy(key.application, application_name, sizeof(key.application));

	LWLockAcquire(gap_shared->lock, LW_SHARED);
	known = gap_count_known(&key, now) || gap_count_known(&others, now);
	LWLockRelease(gap_shared->lock);
	if (known)
		return;
	LWLockAcquire(gap_shared->lock, LW_EXCLUSIVE);
	gap_add(&key, &others, now);
	LWLockRelease(gap_shared->lock);
}

/* ---- SQL ---- */

static const char *
gap_kind_name(LeyserGapKind kind)
{
	switch (kind)
	{
		case LEYSER_GAP_MISSING:
			return "missing";
		case LEYSER_GAP_FOREIGN:
			return "foreign";
		default:
			return "refused";
	}
}

static void
gap_put(ReturnSetInfo *rsinfo, GapEntry *entry)
{
	Datum values[GAP_COLUMNS];
	bool nulls[GAP_COLUMNS] = {false};
	const GapKey *key = &entry->key;

	values[0] = ObjectIdGetDatum(key->relation);
	nulls[0] = !OidIsValid(key->relation);
	values[1] = CStringGetTextDatum(gap_kind_name(key->kind));
	nulls[2] = key->sqlerrcode == 0;
	if (!nulls[2])
		values[2] = CStringGetTextDatum(unpack_sql_state(key->sqlerrcode));
	values[3] = Int64GetDatum(key->query_id);
	nulls[3] = key->query_id == 0;
	values[4] = ObjectIdGetDatum(key->role);
	nulls[4] = !OidIsValid(key->role);
	nulls[5] = key->others;
	if (!nulls[5])
		values[5] = CStringGetTextDatum(key->application);
	values[6] = Int64GetDatum((int64) pg_atomic_read_u64(&entry->count));
	values[7] = TimestampTzGetDatum(entry->first_seen);
	values[8] = TimestampTzGetDatum((TimestampTz) pg_atomic_read_u64(&entry->last_seen));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* list_context_gaps() → setof (…): of this database */
Datum
leyser_list_context_gaps(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	HASH_SEQ_STATUS scan;
	GapEntry *entry;

	leyser_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	LWLockAcquire(gap_shared->lock, LW_SHARED);
	hash_seq_init(&scan, gap_entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->key.database == MyDatabaseId)
			gap_put(rsinfo, entry);
	}
	LWLockRelease(gap_shared->lock);
	return (Datum) 0;
}

/* forget_gaps(relation oid) → bigint: of one table, or with NULL of this database */
Datum
leyser_forget_gaps(PG_FUNCTION_ARGS)
{
	Oid relation = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);
	HASH_SEQ_STATUS scan;
	GapEntry *entry;
	int64 forgotten = 0;

	leyser_require_preloaded();
	LWLockAcquire(gap_shared->lock, LW_EXCLUSIVE);
	hash_seq_init(&scan, gap_entries);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->key.database != MyDatabaseId ||
			(OidIsValid(relation) && entry->key.relation != relation))
			continue;
		forgotten++;
		(void) hash_search(gap_entries, &entry->key, HASH_REMOVE, NULL);
	}
	LWLockRelease(gap_shared->lock);
	PG_RETURN_INT64(forgotten);
}

/* observed_since() → timestamptz: when the counts began, with the server */
Datum
leyser_observed_since(PG_FUNCTION_ARGS)
{
	leyser_require_preloaded();
	PG_RETURN_TIMESTAMPTZ(gap_shared->since);
}
