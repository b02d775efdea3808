/*
 * cache_account.c
 *		Which accounts are active, which sessions were revoked, and which are of
 *		support access.  See cache.c for the rules.
 *
 * Accounts are kept in sixteen buckets by a hash of their tenant, each with a
 * proxy relation of its own: a revoke in one tenant makes a backend look again
 * at a sixteenth of what it knows.  What the accounts may (cache_permission.c)
 * lies in the same buckets.  A bucket that exceeds BUCKET_BYTES starts again
 * from nothing, so that a backend never holds much more than sixteen times that.
 *
 * Revoked sessions, and those of support access, are not kept: a context looks its own one up once, and again
 * when a message tells of revoked sessions.  Absent is valid, which is right on
 * a lagging standby too.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "cache_account.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/uuid.h"

#include "cache.h"
#include "cache_relation.h"

#define BUCKET_BYTES (2 * 1024 * 1024)

/* Columns, in the order of sql/account_tables.sql. */
enum
{
	ACCOUNT_ID = 1,
	ACCOUNT_TENANT = 2,
	ACCOUNT_NAME = 3,
	ACCOUNT_STATE = 5,
	ACCOUNT_NAMED_AT = 6,
	ROLE_ID = 1,
	ROLE_TENANT = 2,
	REVOKED_SESSION_ID = 1,
	SUPPORT_TO_ROLE = 3,
	SUPPORT_SESSION = 9
};

typedef struct AccountKey
{
	const char *tenant_id;
	const char *account_name;
} AccountKey;

typedef struct CachedAccount
{
	AccountKey key; /* strings in the bucket's memory */
	LeyserAccount account;
} CachedAccount;

static LeyserAccountBucket buckets[LEYSER_ACCOUNT_BUCKETS];

PG_FUNCTION_INFO_V1(leyser_account_invalidate);

/* ---- buckets ---- */

static uint32
account_hash_name(const char *name)
{
	return hash_bytes((const unsigned char *) name, strlen(name));
}

static int
account_bucket_number(const char *tenant_id)
{
	return account_hash_name(tenant_id) % LEYSER_ACCOUNT_BUCKETS;
}

static uint32
account_hash(const void *key, Size keysize)
{
	const AccountKey *account = key;

	return hash_combine(account_hash_name(account->tenant_id),
						account_hash_name(account->account_name));
}

static int
account_compare(const void *key1, const void *key2, Size keysize)
{
	const AccountKey *a = key1;
	const AccountKey *b = key2;

	return strcmp(a->tenant_id, b->tenant_id) != 0 ||
		   strcmp(a->account_name, b->account_name) != 0;
}

static void
account_bucket_empty(LeyserAccountBucket *bucket)
{
	HASHCTL ctl = {.keysize = sizeof(AccountKey),
				   .entrysize = sizeof(CachedAccount),
				   .hash = account_hash,
				   .match = account_compare};

	bucket->epoch++;
	bucket->accounts = bucket->roles = bucket->permissions = NULL;
	if (bucket->memory)
		MemoryContextReset(bucket->memory);
	else
		bucket->memory = AllocSetContextCreate(TopMemoryContext, "leyser accounts",
											   ALLOCSET_DEFAULT_SIZES);
	ctl.hcxt = bucket->memory;
	bucket->accounts =
		hash_create("leyser accounts", 32, &ctl,
					HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

LeyserAccountBucket *
leyser_cache_account_bucket(const char *tenant_id)
{
	int number = account_bucket_number(tenant_id);
	LeyserAccountBucket *bucket = &buckets[number];
	uint32 bit = 1U << number;

	if (bucket->accounts == NULL || (leyser_cache_stale.accounts & bit) != 0 ||
		MemoryContextMemAllocated(bucket->memory, true) > BUCKET_BYTES)
	{
		leyser_cache_stale.accounts &= ~bit;
		account_bucket_empty(bucket);
	}
	return bucket;
}

/* ---- accounts ---- */

static LeyserAccount
account_of_tuple(HeapTuple tuple, Relation rel)
{
	LeyserAccount account = {0, DT_NOBEGIN};
	TimestampTz named_at;
	bool isnull;

	if (strcmp(leyser_cache_text(tuple, rel, ACCOUNT_STATE), "active") != 0)
		return account;
	account.account_id =
		DatumGetInt64(heap_getattr(tuple, ACCOUNT_ID, RelationGetDescr(rel), &isnull));
	named_at = DatumGetTimestampTz(
		heap_getattr(tuple, ACCOUNT_NAMED_AT, RelationGetDescr(rel), &isnull));
	account.named_at = named_at - named_at % USECS_PER_SEC;
	return account;
}

static LeyserAccount
account_read(const char *tenant_id, const char *account_name)
{
	Relation rel = table_open(leyser_cache_relations[REL_ACCOUNT], AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;
	LeyserAccount account = {0, DT_NOBEGIN};

	ScanKeyInit(&keys[0], ACCOUNT_TENANT, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(tenant_id));
	ScanKeyInit(&keys[1], ACCOUNT_NAME, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(account_name));
	scan = systable_beginscan(rel, leyser_cache_index(REL_ACCOUNT_NAME), true, NULL, 2,
							  keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		account = account_of_tuple(tuple, rel);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return account;
}

static void
account_remember(LeyserAccountBucket *bucket, const AccountKey *key,
				 LeyserAccount account)
{
	AccountKey copy = {MemoryContextStrdup(bucket->memory, key->tenant_id),
					   MemoryContextStrdup(bucket->memory, key->account_name)};
	CachedAccount *entry = hash_search(bucket->accounts, &copy, HASH_ENTER, NULL);

	entry->account = account;
}

LeyserAccount
leyser_cache_account(const char *tenant_id, const char *account_name)
{
	AccountKey key = {tenant_id, account_name};

	for (;;)
	{
		LeyserAccountBucket *bucket;
		CachedAccount *known;
		LeyserAccount account = {0, DT_NOBEGIN};
		uint64 before;

		if (!leyser_cache_find_relations())
			return account;
		bucket = leyser_cache_account_bucket(tenant_id);
		known = hash_search(bucket->accounts, &key, HASH_FIND, NULL);
		if (known)
			return known->account;
		before = leyser_cache_generation();
		account = account_read(tenant_id, account_name);
		if (before != leyser_cache_generation())
			continue; /* something came in while we read */
		if (account.account_id != 0)
			account_remember(bucket, &key, account);
		return account;
	}
}

/* ---- sessions ---- */

bool
leyser_cache_session_is_revoked(const pg_uuid_t *session)
{
	Relation rel;
	ScanKeyData key;
	SysScanDesc scan;
	bool revoked;

	if (!leyser_cache_find_relations())
		return true;
	rel = table_open(leyser_cache_relations[REL_REVOKED_SESSION], AccessShareLock);
	ScanKeyInit(&key, REVOKED_SESSION_ID, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(session));
	scan = systable_beginscan(rel, leyser_cache_index(REL_REVOKED_SESSION_PKEY), true,
							  NULL, 1, &key);
	revoked = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return revoked;
}

Oid
leyser_cache_support_role(const pg_uuid_t *session)
{
	Relation rel;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	Oid role = InvalidOid;
	bool isnull;

	if (!leyser_cache_find_relations())
		return InvalidOid;
	rel = table_open(leyser_cache_relations[REL_SUPPORT], AccessShareLock);
	ScanKeyInit(&key, SUPPORT_SESSION, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(session));
	scan = systable_beginscan(rel, leyser_cache_index(REL_SUPPORT_SESSION), true, NULL, 1,
							  &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		role = DatumGetObjectId(
			heap_getattr(tuple, SUPPORT_TO_ROLE, RelationGetDescr(rel), &isnull));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return role;
}

/* ---- invalidation ---- */

/* The tenant of an account or role; NULL where the row is gone. */
static char *
invalidate_find_tenant(bool account, int64 id)
{
	Relation rel = table_open(leyser_cache_relations[account ? REL_ACCOUNT : REL_ROLE],
							  AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	char *tenant_id = NULL;

	ScanKeyInit(&key, account ? ACCOUNT_ID : ROLE_ID, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(id));
	scan = systable_beginscan(
		rel, leyser_cache_index(account ? REL_ACCOUNT_PKEY : REL_ROLE_PKEY), true, NULL,
		1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		tenant_id = leyser_cache_text(tuple, rel, account ? ACCOUNT_TENANT : ROLE_TENANT);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return tenant_id;
}

static void
invalidate_all_buckets(void)
{
	for (int i = 0; i < LEYSER_ACCOUNT_BUCKETS; i++)
		CacheInvalidateRelcacheByRelid(leyser_cache_relations[PROXY_ACCOUNTS + i]);
}

/* What a row's column says about its tenant: the tenant itself, an account, a role. */
static void
invalidate_row(Relation rel, HeapTuple tuple, const char *column)
{
	int number = SPI_fnumber(RelationGetDescr(rel), column);
	char *tenant_id;
	bool isnull;
	Datum value;

	if (number <= 0)
		elog(ERROR, "leyser.account_invalidate knows no column \"%s\"", column);
	value = heap_getattr(tuple, number, RelationGetDescr(rel), &isnull);
	if (strcmp(column, "tenant_id") == 0)
		tenant_id = TextDatumGetCString(value);
	else
		tenant_id = invalidate_find_tenant(strcmp(column, "account_id") == 0,
										   DatumGetInt64(value));
	if (tenant_id == NULL)
		invalidate_all_buckets();
	else
		CacheInvalidateRelcacheByRelid(
			leyser_cache_relations[PROXY_ACCOUNTS + account_bucket_number(tenant_id)]);
}

/*
 * Trigger on accounts, roles and grants: invalidates the proxy relation of the
 * tenant to which the old and the new row belong.  Its argument is the column
 * that says so (tenant_id, account_id or role_id), or "all".
 */
Datum
leyser_account_invalidate(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || trigdata->tg_trigger->tgnargs != 1)
		elog(ERROR, "leyser.account_invalidate is a trigger with one argument");
	leyser_cache_changed_here();
	if (!leyser_cache_find_relations())
		return PointerGetDatum(NULL); /* an install script at work */
	if (!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event))
	{
		invalidate_all_buckets();
		return PointerGetDatum(NULL);
	}
	invalidate_row(trigdata->tg_relation, trigdata->tg_trigtuple,
				   trigdata->tg_trigger->tgargs[0]);
	if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
		invalidate_row(trigdata->tg_relation, trigdata->tg_newtuple,
					   trigdata->tg_trigger->tgargs[0]);
	return PointerGetDatum(NULL);
}
