/*
 * cache_table.c
 *		The registry of table kinds and the usages of roles, as the guard needs
 *		them.  See cache.c for the rules.
 *
 * Both are read whole: some microseconds for a hundred rows.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "cache.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "cache_relation.h"

/* Columns, in the order of sql/tables.sql: new ones belong at a table's end. */
enum
{
	TABLE_RELATION = 1,
	TABLE_KIND = 2,
	TABLE_ATTNUM = 3,
	TABLE_COLUMN = 4,
	TABLE_ENFORCEMENT = 6,
	TABLE_SCOPE_COLUMN = 17,
	TABLE_SCOPE_ATTNUM = 18,
	USAGE_ROLE = 1,
	USAGE_USAGE = 2,
	SCHEMA_SCHEMA = 1
};

static MemoryContext tables_context = NULL;
static LeyserGoverned *governed = NULL;
static int governed_count = 0;
static int observed_count = 0; /* of them */
static Oid *users = NULL;      /* roles with usage "application" or "gateway" */
static int users_count = 0;
static NameData *schemas = NULL; /* that were declared governed */
static int schemas_count = 0;

/*
 * A column's number, 0 where there is none, and its name.  While leyser's own
 * functions work on a row, it may have the one without the other.
 */
static int16
cache_read_column(HeapTuple tuple, TupleDesc desc, int number, int name, NameData *into)
{
	bool no_number;
	bool no_name;
	Datum attnum = heap_getattr(tuple, number, desc, &no_number);
	Datum attname = heap_getattr(tuple, name, desc, &no_name);

	if (no_number || no_name)
		return 0;
	*into = *DatumGetName(attname);
	return DatumGetInt16(attnum);
}

static void
cache_read_governed(void)
{
	Relation rel = table_open(leyser_cache_relations[REL_TABLE], AccessShareLock);
	SysScanDesc scan = leyser_cache_begin_scan(rel, 0, NULL);
	HeapTuple tuple;
	int size = 16;

	governed_count = observed_count = 0;
	governed = MemoryContextAlloc(tables_context, size * sizeof(LeyserGoverned));
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		TupleDesc desc = RelationGetDescr(rel);
		LeyserGoverned *row;
		char *kind = leyser_cache_text(tuple, rel, TABLE_KIND);
		char *enforcement = leyser_cache_text(tuple, rel, TABLE_ENFORCEMENT);
		bool has_tenant = strcmp(kind, "own") == 0 || strcmp(kind, "own_and_global") == 0;
		bool isnull;

		if (governed_count == size)
			governed = repalloc(governed, (size *= 2) * sizeof(LeyserGoverned));
		row = &governed[governed_count++];
		row->relation =
			DatumGetObjectId(heap_getattr(tuple, TABLE_RELATION, desc, &isnull));
		row->is_observed = has_tenant && strcmp(enforcement, "observe") == 0;
		row->is_protected = has_tenant && !row->is_observed;
		row->children_follow = has_tenant || strcmp(kind, "shared") == 0;
		observed_count += row->is_observed;
		row->tenant_attnum = cache_read_column(tuple, desc, TABLE_ATTNUM, TABLE_COLUMN,
											   &row->tenant_column);
		row->scope_attnum = cache_read_column(tuple, desc, TABLE_SCOPE_ATTNUM,
											  TABLE_SCOPE_COLUMN, &row->scope_column);
		pfree(kind);
		pfree(enforcement);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	qsort(governed, governed_count, sizeof(LeyserGoverned), oid_cmp);
}

static void
cache_read_users(void)
{
	Relation rel = table_open(leyser_cache_relations[REL_USAGE], AccessShareLock);
	SysScanDesc scan = leyser_cache_begin_scan(rel, 0, NULL);
	HeapTuple tuple;
	int size = 16;

	users_count = 0;
	users = MemoryContextAlloc(tables_context, size * sizeof(Oid));
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		char *usage = leyser_cache_text(tuple, rel, USAGE_USAGE);
		bool counts = strcmp(usage, "application") == 0 || strcmp(usage, "gateway") == 0;
		bool isnull;

		pfree(usage);
		if (!counts)
			continue;
		if (users_count == size)
			users = repalloc(users, (size *= 2) * sizeof(Oid));
		users[users_count++] = DatumGetObjectId(
			heap_getattr(tuple, USAGE_ROLE, RelationGetDescr(rel), &isnull));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

static void
cache_read_schemas(void)
{
	Relation rel = table_open(leyser_cache_relations[REL_SCHEMA], AccessShareLock);
	SysScanDesc scan = leyser_cache_begin_scan(rel, 0, NULL);
	HeapTuple tuple;
	int size = 4;

	schemas_count = 0;
	schemas = MemoryContextAlloc(tables_context, size * sizeof(NameData));
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool isnull;

		if (schemas_count == size)
			schemas = repalloc(schemas, (size *= 2) * sizeof(NameData));
		schemas[schemas_count++] = *DatumGetName(
			heap_getattr(tuple, SCHEMA_SCHEMA, RelationGetDescr(rel), &isnull));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* Reads the registry of table kinds, the usages and the schemas, until nothing comes in. */
static bool
cache_refresh_tables(void)
{
	while (leyser_cache_find_relations() && leyser_cache_stale.tables)
	{
		if (!tables_context)
			tables_context = AllocSetContextCreate(TopMemoryContext, "leyser tables",
												   ALLOCSET_SMALL_SIZES);
		MemoryContextReset(tables_context);
		governed_count = observed_count = users_count = schemas_count = 0;
		leyser_cache_stale.tables = false;
		PG_TRY();
		{
			cache_read_governed();
			cache_read_users();
			cache_read_schemas();
		}
		PG_CATCH();
		{
			leyser_cache_stale.tables = true;
			PG_RE_THROW();
		}
		PG_END_TRY();
	}
	return leyser_cache_find_relations();
}

const LeyserGoverned *
leyser_cache_governed(int *count)
{
	if (!cache_refresh_tables())
	{
		*count = 0;
		return NULL;
	}
	*count = governed_count;
	return governed;
}

const NameData *
leyser_cache_governed_schemas(int *count)
{
	*count = cache_refresh_tables() ? schemas_count : 0;
	return schemas;
}

bool
leyser_cache_observes(void)
{
	return cache_refresh_tables() && observed_count > 0;
}

const LeyserGoverned *
leyser_cache_observed(Oid relation)
{
	const LeyserGoverned *row;

	if (!leyser_cache_observes())
		return NULL;
	row = bsearch(&relation, governed, governed_count, sizeof(LeyserGoverned), oid_cmp);
	return row && row->is_observed ? row : NULL;
}

/* How many roles have usage "application" or "gateway". */
static int
cache_count_users(void)
{
	return cache_refresh_tables() ? users_count : 0;
}

bool
leyser_cache_has_usages(void)
{
	return cache_count_users() > 0;
}

bool
leyser_cache_role_is_restricted(Oid role)
{
	int count = cache_count_users();

	if (count == 0 || superuser_arg(role))
		return false;
	for (int i = 0; i < count; i++)
	{
		if (role == users[i] || is_member_of_role_nosuper(role, users[i]))
			return true;
	}
	return false;
}

bool
leyser_cache_role_is_unfit(Oid role)
{
	int count = cache_count_users();

	for (int i = 0; i < count; i++)
	{
		if (role == users[i])
			return has_bypassrls_privilege(role);
	}
	return false;
}
