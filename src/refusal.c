/*
 * refusal.c
 *		Counts of what was refused, by tenant, in shared memory.
 *
 * Refused tokens, missing contexts and denied statements come with an error, so the
 * transaction that could write them down is rolled back; and whoever tries them often
 * must not cost a row each time.  So they are counted here, and once a minute the
 * heartbeat adds the counts to leyser.daily_usage_record (sql/daily_usage.sql).
 *
 * Tokens and contexts are counted where they are refused, even if the error is
 * caught.  Denials (42501) and what a guard refuses (LY007) come from everywhere: they
 * are counted as they go to the server log, which what is caught does not.
 *
 * The memory is bounded: REFUSAL_ENTRIES of all databases.  Where there is no room for
 * another tenant it is counted without one.  What was taken by a transaction that is
 * rolled back is put back.  A crash loses what was not written yet, a minute's at most;
 * the server log has its lines.
 *
 * Locking: the lock is held for a few instructions, and nothing raises under it.  The
 * hook runs while an error is handled, perhaps under other locks: it looks up nothing.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "refusal.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "context.h"

#define REFUSAL_ENTRIES 1024
#define REFUSAL_SPARE 64 /* of them for what is counted without a tenant */

typedef enum RefusalKind
{
	REFUSAL_NONE,
	REFUSAL_TOKEN,     /* of a token: invalid, expired, of a tenant that is not active */
	REFUSAL_MISSING,   /* without a context */
	REFUSAL_CONTEXT,   /* a second context, or a connection that is not clean */
	REFUSAL_STATEMENT, /* by a guard */
	REFUSAL_PERMISSION
} RefusalKind;

/* As leyser.daily_usage_record names them. */
static const char *const kind_names[] = {
	NULL,
	"token.refused",
	"context.missing",
	"context.refused",
	"statement.refused",
	"permission.denied",
};

/* Zeroed before it is filled in: it is compared byte by byte. */
typedef struct RefusalKey
{
	Oid database;
	RefusalKind kind;
	char tenant_id[LEYSER_NAME_MAX_BYTES + 1]; /* empty: none */
} RefusalKey;

typedef struct Refusal
{
	RefusalKey key;
	int64 count;
	TimestampTz first_at;
	TimestampTz last_at;
} Refusal;

/* What the transaction took, to be put back where it is rolled back. */
typedef struct Taken
{
	SubTransactionId subtransaction;
	int count;
	Refusal refusals[FLEXIBLE_ARRAY_MEMBER];
} Taken;

static LWLock *refusal_lock = NULL;
static HTAB *refusals = NULL;
static List *taken = NIL;

static shmem_request_hook_type prev_shmem_request = NULL;
static shmem_startup_hook_type prev_shmem_startup = NULL;
static emit_log_hook_type prev_emit_log = NULL;

PG_FUNCTION_INFO_V1(leyser_take_refusals);
PG_FUNCTION_INFO_V1(leyser_refusals_wait);

/* ---- counting ---- */

/* Under the lock.  Nothing is there for it: false. */
static bool
refusal_add(const Refusal *refusal, long limit)
{
	Refusal *entry = hash_search(refusals, &refusal->key, HASH_FIND, NULL);

	if (entry == NULL)
	{
		if (hash_get_num_entries(refusals) >= limit)
			return false;
		entry = hash_search(refusals, &refusal->key, HASH_ENTER_NULL, NULL);
		if (entry == NULL)
			return false;
		*entry = *refusal;
		return true;
	}
	entry->count += refusal->count;
	entry->first_at = Min(entry->first_at, refusal->first_at);
	entry->last_at = Max(entry->last_at, refusal->last_at);
	return true;
}

/* Under the lock. */
static void
refusal_add_somewhere(const Refusal *refusal)
{
	Refusal nameless;

	if (refusal_add(refusal, REFUSAL_ENTRIES - REFUSAL_SPARE))
		return;
	nameless = *refusal;
	memset(nameless.key.tenant_id, 0, sizeof(nameless.key.tenant_id));
	(void) refusal_add(&nameless, REFUSAL_ENTRIES);
}

static RefusalKind
refusal_kind(int sqlerrcode)
{
	switch (sqlerrcode)
	{
		case LEYSER_ERRCODE_NO_CONTEXT:
			return REFUSAL_MISSING;
		case LEYSER_ERRCODE_TOKEN_REFUSED:
		case LEYSER_ERRCODE_TOKEN_EXPIRED:
		case LEYSER_ERRCODE_TENANT_NOT_ACTIVE:
		case LEYSER_ERRCODE_SESSION_ENDED:
		case ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION: /* without TLS */
			return REFUSAL_TOKEN;
		case LEYSER_ERRCODE_CONTEXT_CONFLICT:
			return REFUSAL_CONTEXT;
		default:
			return REFUSAL_NONE;
	}
}

static void
refusal_count_kind(RefusalKind kind, const char *tenant_id)
{
	Refusal refusal;

	/* the postmaster reads settings, too */
	if (kind == REFUSAL_NONE || refusals == NULL || MyProc == NULL ||
		!OidIsValid(MyDatabaseId))
		return;
	memset(&refusal, 0, sizeof(refusal));
	refusal.key.database = MyDatabaseId;
	refusal.key.kind = kind;
	if (tenant_id != NULL)
		strlcpy(refusal.key.tenant_id, tenant_id, sizeof(refusal.key.tenant_id));
	refusal.count = 1;
	refusal.first_at = refusal.last_at = GetCurrentTimestamp();
	LWLockAcquire(refusal_lock, LW_EXCLUSIVE);
	refusal_add_somewhere(&refusal);
	LWLockRelease(refusal_lock);
}

void
leyser_refusal_count(int sqlerrcode, const char *tenant_id)
{
	refusal_count_kind(refusal_kind(sqlerrcode), tenant_id);
}

static void
refusal_emit_log(ErrorData *edata)
{
	if (edata->elevel == ERROR && edata->output_to_server &&
		(edata->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE ||
		 edata->sqlerrcode == LEYSER_ERRCODE_GUARD_REFUSED))
	{
		const LeyserContext *context = leyser_context_current();

		refusal_count_kind(edata->sqlerrcode == LEYSER_ERRCODE_GUARD_REFUSED
							   ? REFUSAL_STATEMENT
							   : REFUSAL_PERMISSION,
						   context ? leyser_context_string(context, tenant) : NULL);
	}
	if (prev_emit_log)
		prev_emit_log(edata);
}

/* ---- what a transaction takes ---- */

static void
taken_put_back(const Taken *one)
{
	LWLockAcquire(refusal_lock, LW_EXCLUSIVE);
	for (int i = 0; i < one->count; i++)
		refusal_add_somewhere(&one->refusals[i]);
	LWLockRelease(refusal_lock);
}

static void
taken_end_transaction(XactEvent event, void *arg)
{
	ListCell *cell;

	if (event != XACT_EVENT_ABORT && event != XACT_EVENT_COMMIT &&
		event != XACT_EVENT_PREPARE)
		return;
	if (event == XACT_EVENT_ABORT)
	{
		foreach (cell, taken)
			taken_put_back(lfirst(cell));
	}
	/* it lies in the transaction's memory */
	taken = NIL;
}

static void
taken_end_subtransaction(SubXactEvent event, SubTransactionId own,
						 SubTransactionId parent, void *arg)
{
	ListCell *cell;

	foreach (cell, taken)
	{
		Taken *one = lfirst(cell);

		if (one->subtransaction != own)
			continue;
		if (event == SUBXACT_EVENT_ABORT_SUB)
		{
			taken_put_back(one);
			one->count = 0;
		}
		else if (event == SUBXACT_EVENT_COMMIT_SUB)
			one->subtransaction = parent;
	}
}

static Taken *
taken_new(void)
{
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
	Taken *one = palloc(offsetof(Taken, refusals) + sizeof(Refusal) * REFUSAL_ENTRIES);

	one->subtransaction = GetCurrentSubTransactionId();
	one->count = 0;
	taken = lappend(taken, one);
	MemoryContextSwitchTo(caller);
	return one;
}

static void
taken_fill(Taken *one)
{
	HASH_SEQ_STATUS scan;
	Refusal *entry;

	LWLockAcquire(refusal_lock, LW_EXCLUSIVE);
	hash_seq_init(&scan, refusals);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->key.database != MyDatabaseId || one->count == REFUSAL_ENTRIES)
			continue;
		one->refusals[one->count++] = *entry;
		(void) hash_search(refusals, &entry->key, HASH_REMOVE, NULL);
	}
	LWLockRelease(refusal_lock);
}

/* ---- shared memory ---- */

static void
refusal_shmem_request(void)
{
	if (prev_shmem_request)
		prev_shmem_request();
	RequestAddinShmemSpace(hash_estimate_size(REFUSAL_ENTRIES, sizeof(Refusal)));
	RequestNamedLWLockTranche("leyser refusals", 1);
}

static void
refusal_shmem_startup(void)
{
	HASHCTL control = {.keysize = sizeof(RefusalKey), .entrysize = sizeof(Refusal)};

	if (prev_shmem_startup)
		prev_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	refusal_lock = &GetNamedLWLockTranche("leyser refusals")->lock;
	refusals = ShmemInitHash("leyser refusals", REFUSAL_ENTRIES, REFUSAL_ENTRIES,
							 &control, HASH_ELEM | HASH_BLOBS);
	LWLockRelease(AddinShmemInitLock);
}

void
leyser_refusal_init(void)
{
	prev_shmem_request = shmem_request_hook;
	shmem_request_hook = refusal_shmem_request;
	prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = refusal_shmem_startup;
	prev_emit_log = emit_log_hook;
	emit_log_hook = refusal_emit_log;
	RegisterXactCallback(taken_end_transaction, NULL);
	RegisterSubXactCallback(taken_end_subtransaction, NULL);
}

/* ---- SQL ---- */

/* take_refusals() → setof (event, tenant_id, events, first_at, last_at): of this database */
Datum
leyser_take_refusals(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Taken *one;

	leyser_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	one = taken_new();
	taken_fill(one);
	for (int i = 0; i < one->count; i++)
	{
		const Refusal *refusal = &one->refusals[i];
		Datum values[5] = {CStringGetTextDatum(kind_names[refusal->key.kind]),
						   CStringGetTextDatum(refusal->key.tenant_id),
						   Int64GetDatum(refusal->count),
						   TimestampTzGetDatum(refusal->first_at),
						   TimestampTzGetDatum(refusal->last_at)};
		bool nulls[5] = {false};

		nulls[1] = refusal->key.tenant_id[0] == '\0';
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* refusals_wait() → boolean: whether there is something to take */
Datum
leyser_refusals_wait(PG_FUNCTION_ARGS)
{
	HASH_SEQ_STATUS scan;
	Refusal *entry;
	bool found = false;

	leyser_require_preloaded();
	LWLockAcquire(refusal_lock, LW_SHARED);
	hash_seq_init(&scan, refusals);
	while ((entry = hash_seq_search(&scan)) != NULL)
		found = found || entry->key.database == MyDatabaseId;
	LWLockRelease(refusal_lock);
	PG_RETURN_BOOL(found);
}
