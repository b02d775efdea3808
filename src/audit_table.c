/*
 * audit_table.c
 *		What is audited of a table.
 *
 * It stands in the arguments of the table's triggers, by name, so that a dump carries
 * it.  Where a column has another name by now, all columns are audited, and all are
 * redacted: neither a gap nor a secret comes from a RENAME.  What is known of a table is
 * kept until its catalogue entry changes.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "audit_table.h"

#include "access/sysattr.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "cache.h"
#include "relation.h"

static HTAB *tables = NULL;

static void
tables_invalidate(Datum arg, Oid relation)
{
	HASH_SEQ_STATUS status;
	LeyserAuditTable *table;

	if (tables == NULL)
		return;
	hash_seq_init(&status, tables);
	while ((table = hash_seq_search(&status)) != NULL)
	{
		if (!OidIsValid(relation) || table->relation == relation)
			table->valid = false;
	}
}

/* The numbers of the columns that an argument names; false where one is gone. */
static bool
columns_parse(const char *argument, Relation rel, Bitmapset **columns)
{
	ArrayType *array = DatumGetArrayTypeP(
		OidInputFunctionCall(F_ARRAY_IN, unconstify(char *, argument), TEXTOID, -1));
	Datum *names;
	int count;
	bool all = true;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &names, NULL, &count);
	for (int i = 0; i < count; i++)
	{
		AttrNumber number =
			get_attnum(RelationGetRelid(rel), TextDatumGetCString(names[i]));

		if (number > 0)
			*columns = bms_add_member(*columns, number);
		else
			all = false;
	}
	return all;
}

static void
table_read_columns(LeyserAuditTable *table, Relation rel, const Trigger *trigger)
{
	TupleDesc descriptor = RelationGetDescr(rel);
	Bitmapset *wanted = NULL;
	Bitmapset *redacted = NULL;
	bool named = trigger->tgnargs > 0 &&
				 columns_parse(trigger->tgargs[0], rel, &wanted) && !bms_is_empty(wanted);
	bool shown =
		trigger->tgnargs < 2 || columns_parse(trigger->tgargs[1], rel, &redacted);

	table->shape.columns = palloc0(sizeof(LeyserAuditColumn) * descriptor->natts);
	for (AttrNumber number = 1; number <= descriptor->natts; number++)
	{
		if (TupleDescAttr(descriptor, number - 1)->attisdropped ||
			(named && !bms_is_member(number, wanted)))
			continue;
		leyser_audit_column(&table->shape.columns[table->shape.count++], descriptor,
							number, !shown || bms_is_member(number, redacted));
	}
	for (int i = 0; i < table->shape.count; i++)
	{
		Oid type = table->shape.columns[i].type;

		if (type != INT4OID && type != INT8OID && type != TEXTOID && type != VARCHAROID &&
			type != BPCHAROID && type != UUIDOID && type != BOOLOID && type != NUMERICOID)
			table->shape.depends_on_settings = true;
	}
}

/* Without the whole key in it, an updated row is written whole. */
static void
table_read_key(LeyserAuditTable *table, Relation rel)
{
	Bitmapset *key = RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_PRIMARY_KEY);
	int found = 0;

	for (int i = 0; i < table->shape.count; i++)
	{
		LeyserAuditColumn *column = &table->shape.columns[i];

		column->is_key =
			bms_is_member(column->number - FirstLowInvalidHeapAttributeNumber, key);
		found += column->is_key;
	}
	table->shape.has_key = found > 0 && found == bms_num_members(key);
}

static void
table_read_tenant(LeyserAuditTable *table, Relation rel)
{
	int count;
	const LeyserGoverned *governed = leyser_cache_governed(&count);

	for (int i = 0; i < count; i++)
	{
		Oid output;
		bool is_varlena;

		if (governed[i].relation != RelationGetRelid(rel) ||
			governed[i].tenant_attnum == 0)
			continue;
		table->tenant = governed[i].tenant_attnum;
		table->tenant_type =
			TupleDescAttr(RelationGetDescr(rel), table->tenant - 1)->atttypid;
		getTypeOutputInfo(table->tenant_type, &output, &is_varlena);
		fmgr_info(output, &table->tenant_output);
	}
}

static void
table_read(LeyserAuditTable *table, Relation rel, const Trigger *trigger)
{
	MemoryContext caller;

	if (table->memory != NULL)
		MemoryContextReset(table->memory);
	else
		table->memory = AllocSetContextCreate(CacheMemoryContext, "leyser audited table",
											  ALLOCSET_SMALL_SIZES);
	caller = MemoryContextSwitchTo(table->memory);
	memset(&table->shape, 0, sizeof(table->shape));
	table->tenant = 0;
	table->valid = true;
	table->name = leyser_relation_name(RelationGetRelid(rel));
	table_read_columns(table, rel, trigger);
	table_read_key(table, rel);
	table_read_tenant(table, rel);
	MemoryContextSwitchTo(caller);
}

LeyserAuditTable *
leyser_audit_table(Relation rel, const Trigger *trigger)
{
	Oid relation = RelationGetRelid(rel);
	LeyserAuditTable *table;
	bool found;

	if (tables == NULL)
	{
		HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(LeyserAuditTable)};

		tables =
			hash_create("leyser audited tables", 16, &control, HASH_ELEM | HASH_BLOBS);
		CacheRegisterRelcacheCallback(tables_invalidate, (Datum) 0);
	}
	table = hash_search(tables, &relation, HASH_ENTER, &found);
	if (!found)
	{
		table->memory = NULL;
		table->valid = false;
	}
	if (!table->valid)
		table_read(table, rel, trigger);
	return table;
}
