/*
 * cache_tenant.c
 *		Which tenants are active.  See cache.c for the rules.
 *
 * Only active tenants are remembered, at most CACHE_MAX_TENANTS of them: some
 * 100 bytes each, 2 microseconds to read one.
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

#include "cache_relation.h"

#define CACHE_MAX_TENANTS 4096

/* Column of leyser.tenant_record, in the order of sql/tables.sql. */
#define TENANT_STATE 4

typedef struct CachedTenant
{
	const char *tenant_id; /* hash key, in tenants_context */
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

static bool
cache_read_tenant_is_active(const char *tenant_id)
{
	Relation rel = table_open(leyser_cache_relations[REL_TENANT], AccessShareLock);
	SysScanDesc scan = leyser_cache_begin_scan(rel, REL_TENANT_PKEY, tenant_id);
	HeapTuple tuple = systable_getnext(scan);
	bool active = false;

	if (HeapTupleIsValid(tuple))
	{
		char *state = leyser_cache_text(tuple, rel, TENANT_STATE);

		active = strcmp(state, "active") == 0;
		pfree(state);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return active;
}

bool
leyser_cache_tenant_is_active(const char *tenant_id)
{
	for (;;)
	{
		uint64 before;
		bool active;

		if (!leyser_cache_find_relations())
			return false;
		cache_refresh_tenants();
		if (hash_search(tenants, &tenant_id, HASH_FIND, NULL))
			return true;
		before = leyser_cache_generation();
		active = cache_read_tenant_is_active(tenant_id);
		if (before != leyser_cache_generation())
			continue; /* something came in while we read */
		if (active)
		{
			const char *copy = MemoryContextStrdup(tenants_context, tenant_id);

			hash_search(tenants, &copy, HASH_ENTER, NULL);
		}
		return active;
	}
}
