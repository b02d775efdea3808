/*
 * cache_tenant.c
 *		Which tenants are active, and until when.  See cache.c for the rules.
 *
 * Only active tenants are remembered, at most CACHE_MAX_TENANTS of them: some
 * 100 bytes each, 2 microseconds to read one.  With each stands the moment at
 * which its contract ends: a tenant is locked out by the clock, on standbys too,
 * without anybody having to change a row at that moment.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "cache.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "cache_fence.h"
#include "cache_relation.h"

#define CACHE_MAX_TENANTS 4096

/* Columns of leyser.tenant_record, in the order of sql/tables.sql. */
#define TENANT_STATE 4
#define TENANT_ENDS_AT 7
#define TENANT_IS_SUSPENDED 8

typedef struct CachedTenant
{
	const char *tenant_id; /* hash key, in tenants_context */
	TimestampTz ends_at;
} CachedTenant;

static MemoryContext tenants_context = NULL;
static HTAB *tenants = NULL;

static uint32
cache_tenant_hash(const void *key, Size keysize)
{
	const char *id = *(const char *const *) key;

	return hash_bytes((const unsigned char *) id, strlen(id));
}

static int
cache_tenant_compare(const void *key1, const void *key2, Size keysize)
{
	return strcmp(*(const char *const *) key1, *(const char *const *) key2);
}

static void
cache_refresh_tenants(void)
{
	HASHCTL ctl = {.keysize = sizeof(char *),
				   .entrysize = sizeof(CachedTenant),
				   .hash = cache_tenant_hash,
				   .match = cache_tenant_compare};

	if (leyser_cache_stale.tenants ||
		(tenants && hash_get_num_entries(tenants) >= CACHE_MAX_TENANTS))
	{
		leyser_cache_stale.tenants = false;
		tenants = NULL;
		if (tenants_context)
			MemoryContextReset(tenants_context);
	}
	if (tenants)
		return;
	if (!tenants_context)
		tenants_context = AllocSetContextCreate(TopMemoryContext, "leyser tenants",
												ALLOCSET_DEFAULT_SIZES);
	ctl.hcxt = tenants_context;
	tenants = hash_create("leyser tenants", 64, &ctl,
						  HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

/* Whether a row's state lets its tenant in, as long as its time has not come. */
static bool
cache_tenant_may_enter(HeapTuple tuple, Relation rel)
{
	char *state = leyser_cache_text(tuple, rel, TENANT_STATE);
	bool isnull;
	bool is_suspended = DatumGetBool(
		heap_getattr(tuple, TENANT_IS_SUSPENDED, RelationGetDescr(rel), &isnull));
	bool result = strcmp(state, "active") == 0 ||
				  (strcmp(state, "terminating") == 0 && !is_suspended);

	pfree(state);
	return result;
}

static TimestampTz
cache_read_tenant_end(const char *tenant_id)
{
	Relation rel = table_open(leyser_cache_relations[REL_TENANT], AccessShareLock);
	SysScanDesc scan = leyser_cache_begin_scan(rel, REL_TENANT_PKEY, tenant_id);
	HeapTuple tuple = systable_getnext(scan);
	TimestampTz ends_at = DT_NOBEGIN;

	if (HeapTupleIsValid(tuple) && cache_tenant_may_enter(tuple, rel))
	{
		bool isnull;
		Datum datum = heap_getattr(tuple, TENANT_ENDS_AT, RelationGetDescr(rel), &isnull);

		ends_at = isnull ? DT_NOEND : DatumGetTimestampTz(datum);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return ends_at;
}

static void
cache_remember_tenant(const char *tenant_id, TimestampTz ends_at)
{
	const char *copy = MemoryContextStrdup(tenants_context, tenant_id);
	CachedTenant *entry = hash_search(tenants, &copy, HASH_ENTER, NULL);

	entry->ends_at = ends_at;
}

TimestampTz
leyser_cache_tenant_end(const char *tenant_id)
{
	for (;;)
	{
		uint64 before;
		TimestampTz ends_at;
		CachedTenant *entry;

		if (!leyser_cache_find_relations())
			return DT_NOBEGIN;
		cache_refresh_tenants();
		entry = hash_search(tenants, &tenant_id, HASH_FIND, NULL);
		if (entry)
			return entry->ends_at;
		before = leyser_cache_generation();
		/* erased since, says the fence of a server that was restored */
		ends_at =
			leyser_fence_locks(tenant_id) ? DT_NOBEGIN : cache_read_tenant_end(tenant_id);
		if (before != leyser_cache_generation())
			continue; /* something came in while we read */
		if (ends_at != DT_NOBEGIN)
			cache_remember_tenant(tenant_id, ends_at);
		return ends_at;
	}
}

bool
leyser_cache_tenant_is_active(const char *tenant_id)
{
	return GetCurrentTimestamp() < leyser_cache_tenant_end(tenant_id);
}
