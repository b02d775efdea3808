/*
 * fence_tables.c
 *		What the tables say of what a fence holds.
 *
 * Read as cache.c reads: with catalogue snapshots, so that a look works in any
 * transaction, in recovery, and in a token's check hook.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "fence_tables.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "nodes/pg_list.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"

static uint32
id_hash(const void *key, Size keysize)
{
	const char *id = *(const char *const *) key;

	return hash_bytes((const unsigned char *) id, strlen(id));
}

static int
id_compare(const void *key1, const void *key2, Size keysize)
{
	return strcmp(*(const char *const *) key1, *(const char *const *) key2);
}

HTAB *
leyser_fence_id_table(const char *name, HASHCTL *ctl)
{
	ctl->keysize = sizeof(char *);
	ctl->entrysize = sizeof(char *);
	ctl->hash = id_hash;
	ctl->match = id_compare;
	return hash_create(name, 64, ctl,
					   HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

static Oid
relation_oid(const char *name)
{
	Oid relation = get_relname_relid(name, get_namespace_oid("leyser", false));

	if (!OidIsValid(relation))
		elog(ERROR, "could not find leyser.%s", name);
	return relation;
}

static Relation
relation_open_named(const char *name)
{
	return table_open(relation_oid(name), AccessShareLock);
}

static Datum
column_of(HeapTuple tuple, Relation rel, const char *column, bool *isnull)
{
	AttrNumber number = get_attnum(RelationGetRelid(rel), column);

	if (number == InvalidAttrNumber)
		elog(ERROR, "could not find column \"%s\" of leyser.%s", column,
			 RelationGetRelationName(rel));
	return heap_getattr(tuple, number, RelationGetDescr(rel), isnull);
}

/* Calls read for each row of a small table. */
static void
relation_scan(LeyserFenceTables *tables, const char *name,
			  void (*read)(LeyserFenceTables *, HeapTuple, Relation))
{
	Relation rel = relation_open_named(name);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		read(tables, tuple, rel);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

static void
read_identity(LeyserFenceTables *tables, HeapTuple tuple, Relation rel)
{
	bool isnull;
	Datum id = column_of(tuple, rel, "database_id", &isnull);

	if (isnull)
		elog(ERROR, "leyser.identity has no database_id");
	tables->database = *DatumGetUUIDP(id);
}

static void
read_fence_record(LeyserFenceTables *tables, HeapTuple tuple, Relation rel)
{
	bool isnull;
	pg_uuid_t *database = DatumGetUUIDP(column_of(tuple, rel, "database_id", &isnull));
	LeyserFenceOrigin *origin;
	Datum accepted;

	if (memcmp(database->data, tables->database.data, UUID_LEN) == 0)
	{
		tables->is_fenced = true;
		tables->incarnation =
			*DatumGetUUIDP(column_of(tuple, rel, "incarnation", &isnull));
		return;
	}
	origin = palloc0(sizeof(LeyserFenceOrigin));
	origin->database = *database;
	accepted = column_of(tuple, rel, "accepted_in", &isnull);
	/* by this database: a dump carries what another one accepted */
	origin->is_accepted = !isnull && memcmp(DatumGetUUIDP(accepted)->data,
											tables->database.data, UUID_LEN) == 0;
	tables->origins = lappend(tables->origins, origin);
}

static void
read_restore_record(LeyserFenceTables *tables, HeapTuple tuple, Relation rel)
{
	bool isnull;
	int64 restore_id = DatumGetInt64(column_of(tuple, rel, "restore_id", &isnull));

	(void) column_of(tuple, rel, "released_at", &isnull);
	if (isnull)
		tables->open_restore = Max(tables->open_restore, restore_id);
}

void
leyser_fence_tables_open(LeyserFenceTables *tables)
{
	memset(tables, 0, sizeof(LeyserFenceTables));
	relation_scan(tables, "identity", read_identity);
	relation_scan(tables, "fence_record", read_fence_record);
	relation_scan(tables, "restore_record", read_restore_record);
	tables->tenants = relation_open_named("tenant_record");
	tables->tenants_key = relation_oid("tenant_record_pkey");
}

void
leyser_fence_tables_close(LeyserFenceTables *tables)
{
	table_close(tables->tenants, AccessShareLock);
	tables->tenants = NULL;
}

bool
leyser_fence_tenant_is_erased(LeyserFenceTables *tables, const char *tenant_id)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	bool isnull;
	bool erased = false;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(tenant_id));
	scan = systable_beginscan(tables->tenants, tables->tenants_key, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		erased = strcmp(TextDatumGetCString(
							column_of(tuple, tables->tenants, "state", &isnull)),
						"erased") == 0;
	systable_endscan(scan);
	return erased;
}

/* In event_record, or in one month's child of it. */
static bool
relation_knows_event(Oid relation, int64 event_id, uint64 digest)
{
	Relation rel = table_open(relation, AccessShareLock);
	Oid index = leyser_primary_key(rel);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	bool known = false;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(event_id));
	scan = systable_beginscan(rel, index, OidIsValid(index), NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool isnull;
		bytea *found = DatumGetByteaPP(column_of(tuple, rel, "digest", &isnull));
		uint64 first;

		if (VARSIZE_ANY_EXHDR(found) >= sizeof(first))
		{
			memcpy(&first, VARDATA_ANY(found), sizeof(first));
			known = pg_ntoh64(first) == digest;
		}
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return known;
}

/* Events up to one of these went at the end of their retention. */
static bool
event_was_dropped(int64 event_id)
{
	Relation rel = relation_open_named("event_checkpoint");
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple tuple;
	bool dropped = false;

	while (!dropped && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool isnull;
		Datum last = column_of(tuple, rel, "last_event", &isnull);

		dropped = !isnull && DatumGetInt64(last) >= event_id;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return dropped;
}

bool
leyser_fence_event_is_known(int64 event_id, uint64 digest)
{
	Oid parent = relation_oid("event_record");
	List *relations = lcons_oid(parent, find_inheritance_children(parent, NoLock));
	ListCell *cell;

	foreach (cell, relations)
	{
		if (relation_knows_event(lfirst_oid(cell), event_id, digest))
			return true;
	}
	return event_was_dropped(event_id);
}

static void
read_purge_record(LeyserFenceTables *tables, HeapTuple tuple, Relation rel)
{
	bool isnull;
	const char *tenant_id;

	(void) column_of(tuple, rel, "started_at", &isnull);
	if (isnull)
		return;
	tenant_id = TextDatumGetCString(column_of(tuple, rel, "tenant_id", &isnull));
	(void) hash_search(tables->begun, &tenant_id, HASH_ENTER, NULL);
}

bool
leyser_fence_purge_has_begun(LeyserFenceTables *tables, const char *tenant_id)
{
	if (tables->begun == NULL)
	{
		HASHCTL ctl = {.hcxt = CurrentMemoryContext};

		tables->begun = leyser_fence_id_table("leyser begun purges", &ctl);
		relation_scan(tables, "purge_record", read_purge_record);
	}
	return hash_search(tables->begun, &tenant_id, HASH_FIND, NULL) != NULL;
}
