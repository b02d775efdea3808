/*
 * fence_tables.h
 *		What the tables say of what a fence holds.  Only for fence_look.c and cache_fence.c.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_FENCE_TABLES_H
#define LEYSER_FENCE_TABLES_H

#include "fence.h"

#include "utils/relcache.h"

/* A database that rows were dumped from. */
typedef struct LeyserFenceOrigin
{
	pg_uuid_t database;
	bool is_accepted; /* to be without its fence */
} LeyserFenceOrigin;

typedef struct LeyserFenceTables
{
	pg_uuid_t database;
	bool is_fenced; /* there was a fence of this database */
	pg_uuid_t incarnation;
	List *origins;      /* of LeyserFenceOrigin */
	int64 open_restore; /* restore_id, or 0 */
	Relation tenants;
	Oid tenants_key;
	HTAB *begun; /* tenants whose purges have begun, or NULL before it is asked */
} LeyserFenceTables;

extern void leyser_fence_tables_open(LeyserFenceTables *tables);
extern void leyser_fence_tables_close(LeyserFenceTables *tables);
extern bool leyser_fence_tenant_is_erased(LeyserFenceTables *tables,
										  const char *tenant_id);
extern bool leyser_fence_purge_has_begun(LeyserFenceTables *tables,
										 const char *tenant_id);

/* Whether there is an event with this id, and it is this one. */
extern bool leyser_fence_event_is_known(int64 event_id, uint64 digest);

/* A table of strings; ctl says where it lies. */
extern HTAB *leyser_fence_id_table(const char *name, HASHCTL *ctl);

#endif /* LEYSER_FENCE_TABLES_H */
