/*
 * lookup.c
 *		Look-ups before a context: an exact key in, a tenant's id out.
 *
 * Who signs in is known by a subdomain, an e-mail address or an API key, and
 * which tenant that is stands in a protected table, whose rows nobody sees
 * without a context.  Each function that leyser.create_lookup() makes is this
 * one, under a name of its own.  The rules:
 *
 *  - It looks into a unique index of exactly the key's columns, for a whole key,
 *    and gives the tenant's id: no other column, no part of a key, no list.
 *  - It scans the index itself.  A query would need rights on the table and a
 *    way around its policies, and planning it may run what the table's owner
 *    attached to it; here nothing runs but the operator class's comparison.
 *  - A tenant that is locked out is not found.
 *  - Every question is counted (lookup_count.c): somebody who tries keys shows.
 *
 * What a function looks up stands in leyser.lookup_record, found by the
 * function's name, for that is what a dump and pg_upgrade keep.  It is read with
 * a catalogue snapshot, its columns by number; the answer itself is of the
 * query's snapshot.  Both are looked up once an execution.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "lookup.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "cache.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(leyser_lookup);

/* The first columns of leyser.lookup_record. */
#define COLUMN_FUNCTION_NAME 1
#define COLUMN_RELATION 2
#define COLUMN_KEY_ATTNUMS 3
#define COLUMN_KEY_COLUMNS 4

typedef struct Lookup
{
	Oid relation;
	Oid index;
	AttrNumber tenant;
	Oid tenant_output;
	int keys;
	int16 attnums[INDEX_MAX_KEYS];
	int arguments[INDEX_MAX_KEYS]; /* of the index's columns */
	FmgrInfo equal[INDEX_MAX_KEYS];
	Oid collations[INDEX_MAX_KEYS];
} Lookup;

/* ---- what is looked up ---- */

/* InvalidOid where leyser is not installed here. */
static Oid
lookup_table(void)
{
	Oid namespace = get_namespace_oid("leyser", true);

	return OidIsValid(namespace) ? get_relname_relid("lookup_record", namespace)
								 : InvalidOid;
}

static int
lookup_read_attnums(Datum value, int16 *attnums)
{
	Datum *elements;
	bool *nulls;
	int count;

	deconstruct_array(DatumGetArrayTypeP(value), INT2OID, sizeof(int16), true,
					  TYPALIGN_SHORT, &elements, &nulls, &count);
	if (count < 1 || count > INDEX_MAX_KEYS)
		elog(ERROR, "a look-up's columns are not known");
	for (int i = 0; i < count; i++)
		attnums[i] = nulls[i] ? InvalidAttrNumber : DatumGetInt16(elements[i]);
	return count;
}

/* The record of a function; false where there is none. */
static bool
lookup_find_record(Oid function, Lookup *lookup)
{
	char *name = quote_qualified_identifier(
		get_namespace_name(get_func_namespace(function)), get_func_name(function));
	Oid table = lookup_table();
	Relation rel;
	SysScanDesc scan;
	HeapTuple tuple;
	bool found = false;

	if (!OidIsValid(table))
		return false;
	rel = table_open(table, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool isnull;
		Datum value = heap_getattr(tuple, COLUMN_FUNCTION_NAME, rel->rd_att, &isnull);

		if (isnull || strcmp(TextDatumGetCString(value), name) != 0)
			continue;
		lookup->relation =
			DatumGetObjectId(heap_getattr(tuple, COLUMN_RELATION, rel->rd_att, &isnull));
		lookup->keys = lookup_read_attnums(
			heap_getattr(tuple, COLUMN_KEY_ATTNUMS, rel->rd_att, &isnull),
			lookup->attnums);
		found = true;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/* The argument for an index's column, or -1 where it is not part of the key. */
static int
lookup_argument(const Lookup *lookup, int16 attnum)
{
	for (int i = 0; i < lookup->keys; i++)
	{
		if (lookup->attnums[i] == attnum)
			return i;
	}
	return -1;
}

/* Whether an index is unique over exactly the key's columns. */
static bool
lookup_fits(const Lookup *lookup, Relation index)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisunique || !form->indisvalid || !form->indimmediate ||
		index->rd_rel->relam != BTREE_AM_OID || form->indnkeyatts != lookup->keys ||
		!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
		return false;
	for (int i = 0; i < lookup->keys; i++)
	{
		if (lookup_argument(lookup, form->indkey.values[i]) < 0)
			return false;
	}
	return true;
}

static void
lookup_use_index(Lookup *lookup, Relation index, MemoryContext memory)
{
	lookup->index = RelationGetRelid(index);
	for (int i = 0; i < lookup->keys; i++)
	{
		Oid type = index->rd_opcintype[i];
		Oid operator=
			get_opfamily_member(index->rd_opfamily[i], type, type, BTEqualStrategyNumber);

		fmgr_info_cxt(get_opcode(operator), &lookup->equal[i], memory);
		lookup->arguments[i] = lookup_argument(lookup, index->rd_index->indkey.values[i]);
		lookup->collations[i] = index->rd_indcollation[i];
	}
}

static void
lookup_find_index(Lookup *lookup, Relation rel, MemoryContext memory)
{
	ListCell *cell;

	foreach (cell, RelationGetIndexList(rel))
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);

		if (lookup_fits(lookup, index))
			lookup_use_index(lookup, index, memory);
		index_close(index, NoLock);
		if (OidIsValid(lookup->index))
			return;
	}
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("look-up has no unique index on its columns"),
					errdetail("It looks into a unique index on exactly the columns with "
							  "which it was created."),
					errhint("Create that index again.")));
}

/*
 * A column can get another type later.  Where its values are not what the function
 * takes, comparing them would read memory that is none of theirs.
 */
static void
lookup_check_types(const Lookup *lookup, Oid function)
{
	Oid *types;
	int count;

	(void) get_func_signature(function, &types, &count);
	for (int i = 0; i < lookup->keys; i++)
	{
		if (getBaseType(get_atttype(lookup->relation, lookup->attnums[i])) != types[i])
			ereport(ERROR,
					(errcode(LEYSER_ERRCODE_WRONG_STATE),
					 errmsg("look-up's column has another type by now"),
					 errdetail("The function takes values of the type that the column "
							   "had when the look-up was made."),
					 errhint("An operator calls leyser.drop_lookup(), then "
							 "leyser.create_lookup() again.")));
	}
}

/* Where the tenant's id stands, by the registry of table kinds. */
static void
lookup_find_tenant(Lookup *lookup)
{
	int count;
	const LeyserGoverned *governed = leyser_cache_governed(&count);
	bool varlena;
	Oid output;

	for (int i = 0; i < count; i++)
	{
		if (governed[i].relation == lookup->relation)
			lookup->tenant = governed[i].tenant_attnum;
	}
	if (lookup->tenant == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(LEYSER_ERRCODE_WRONG_STATE),
				 errmsg("look-up's table is not protected"),
				 errdetail("Its tenant column is not known."),
				 errhint("SELECT leyser.protect(…); then leyser.create_lookup().")));
	getTypeOutputInfo(get_atttype(lookup->relation, lookup->tenant), &output, &varlena);
	lookup->tenant_output = output;
}

static Lookup *
lookup_prepare(FunctionCallInfo fcinfo)
{
	MemoryContext memory = fcinfo->flinfo->fn_mcxt;
	Lookup *lookup = MemoryContextAllocZero(memory, sizeof(Lookup));
	Relation rel;

	leyser_require_preloaded();
	leyser_cache_catch_up();
	if (!lookup_find_record(fcinfo->flinfo->fn_oid, lookup) || lookup->keys != PG_NARGS())
		ereport(ERROR, (errcode(LEYSER_ERRCODE_WRONG_STATE),
						errmsg("function \"%s\" is no look-up of leyser",
							   get_func_name(fcinfo->flinfo->fn_oid)),
						errdetail("No look-up is registered under this name."),
						errhint("An operator calls leyser.create_lookup().")));
	rel = table_open(lookup->relation, AccessShareLock);
	lookup_check_types(lookup, fcinfo->flinfo->fn_oid);
	lookup_find_tenant(lookup);
	lookup_find_index(lookup, rel, memory);
	table_close(rel, NoLock);
	fcinfo->flinfo->fn_extra = lookup;
	return lookup;
}

/* ---- looking ---- */

/* The tenant id of the row with this key, as text; NULL where there is none. */
static char *
lookup_scan(const Lookup *lookup, FunctionCallInfo fcinfo)
{
	Relation rel = table_open(lookup->relation, AccessShareLock);
	Relation index = index_open(lookup->index, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan =
		leyser_index_beginscan(rel, index, GetActiveSnapshot(), lookup->keys);
	ScanKeyData keys[INDEX_MAX_KEYS];
	char *tenant = NULL;

	for (int i = 0; i < lookup->keys; i++)
	{
		FmgrInfo *equal = unconstify(FmgrInfo *, &lookup->equal[i]);

		ScanKeyEntryInitializeWithInfo(&keys[i], 0, i + 1, BTEqualStrategyNumber,
									   index->rd_opcintype[i], lookup->collations[i],
									   equal, PG_GETARG_DATUM(lookup->arguments[i]));
	}
	index_rescan(scan, keys, lookup->keys, NULL, 0);
	if (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		bool isnull;
		Datum value = slot_getattr(slot, lookup->tenant, &isnull);

		if (!isnull)
			tenant = OidOutputFunctionCall(lookup->tenant_output, value);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	return tenant;
}

/* A look-up made by create_lookup(): key … → text, the tenant id or NULL. */
Datum
leyser_lookup(PG_FUNCTION_ARGS)
{
	Lookup *lookup = fcinfo->flinfo->fn_extra;
	char *tenant;

	for (int i = 0; i < PG_NARGS(); i++)
	{
		if (PG_ARGISNULL(i))
			PG_RETURN_NULL();
	}
	if (lookup == NULL)
		lookup = lookup_prepare(fcinfo);
	tenant = lookup_scan(lookup, fcinfo);
	leyser_cache_catch_up();
	if (tenant != NULL && !leyser_cache_tenant_is_active(tenant))
		tenant = NULL;
	leyser_lookup_count(fcinfo->flinfo->fn_oid, tenant != NULL);
	if (tenant == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(tenant));
}

/* ---- following the table ---- */

static bool
lookup_record_is_behind(HeapTuple tuple, TupleDesc descriptor)
{
	bool isnull;
	Oid relation =
		DatumGetObjectId(heap_getattr(tuple, COLUMN_RELATION, descriptor, &isnull));
	int16 attnums[INDEX_MAX_KEYS];
	Datum *names;
	int count;

	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relation)))
		return true;
	(void) lookup_read_attnums(
		heap_getattr(tuple, COLUMN_KEY_ATTNUMS, descriptor, &isnull), attnums);
	deconstruct_array(
		DatumGetArrayTypeP(heap_getattr(tuple, COLUMN_KEY_COLUMNS, descriptor, &isnull)),
		NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR, &names, NULL, &count);
	for (int i = 0; i < count; i++)
	{
		char *name = get_attname(relation, attnums[i], true);

		if (name == NULL || strcmp(name, NameStr(*DatumGetName(names[i]))) != 0)
			return true;
	}
	return false;
}

bool
leyser_lookup_is_behind(void)
{
	Oid table = lookup_table();
	Relation rel;
	SysScanDesc scan;
	HeapTuple tuple;
	bool behind = false;

	if (!OidIsValid(table))
		return false;
	rel = table_open(table, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (!behind && HeapTupleIsValid(tuple = systable_getnext(scan)))
		behind = lookup_record_is_behind(tuple, rel->rd_att);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return behind;
}
