/*
 * tenant_column.c
 *		Keeps a child table's tenant column right: the trigger of
 *		leyser.add_tenant_column().
 *
 * Applications that know nothing of the column insert rows without it, and move rows
 * from one parent to another.  The trigger looks the tenant up in the parent, through
 * the foreign key that the column follows:
 *
 *  - where the column is null, it gets the parent's tenant;
 *  - where the foreign key's columns change and the tenant does not, the tenant follows;
 *  - a tenant that somebody gives is compared with the parent's (23503) until the
 *    foreign key has the tenant column, and compares it itself.
 *
 * The parent's row is locked as by the foreign key (FOR KEY SHARE), so that it does not
 * get another tenant meanwhile, and is read with the rights of its owner, whoever
 * inserts, as foreign keys do.  In a context only parents of its tenant count, once
 * the table is protected: else an error would tell which keys other tenants have, and
 * their rows would be waited for.
 *
 * Which columns: while the column is filled every update must pass here, and the
 * trigger's arguments name the parent's tenant column, ours, and the foreign key's.
 * Afterwards the trigger is for updates of these columns only, and its list of
 * columns says them, in this order: renaming leaves it alone.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "leyser.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "alter.h"
#include "compat.h"
#include "context.h"
#include "owner.h"
#include "relation.h"

PG_FUNCTION_INFO_V1(leyser_fill_tenant);

typedef struct TenantSource
{
	Oid trigger; /* the key */
	Oid relation;
	Oid parent;
	bool valid;
	bool compared; /* the foreign key has the tenant column */
	AttrNumber tenant;
	AttrNumber parent_tenant;
	int key_count;
	AttrNumber keys[INDEX_MAX_KEYS];
	AttrNumber parent_keys[INDEX_MAX_KEYS];
	SPIPlanPtr plans[2]; /* of all parents, of the context's tenant; NULL: not made yet */
} TenantSource;

static HTAB *sources = NULL;

/* ---- which parent, and how to ask it ---- */

/* The callback only marks: what it marks may be in use. */
static void
sources_invalidate(Datum arg, Oid relation)
{
	HASH_SEQ_STATUS status;
	TenantSource *source;

	hash_seq_init(&status, sources);
	while ((source = hash_seq_search(&status)) != NULL)
	{
		if (!OidIsValid(relation) || source->relation == relation ||
			source->parent == relation)
			source->valid = false;
	}
}

static void
sources_init(void)
{
	HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(TenantSource)};

	sources = hash_create("leyser tenant columns", 16, &control, HASH_ELEM | HASH_BLOBS);
	CacheRegisterRelcacheCallback(sources_invalidate, (Datum) 0);
}

leyser_noreturn static void
source_missing(Relation rel)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the tenant column of \"%s\" has lost its foreign key",
					RelationGetRelationName(rel)),
			 errdetail("Its trigger asks the parent for the tenant, through this key."),
			 errhint("Add the foreign key again, with the tenant column, or drop the "
					 "trigger and give the tenant yourself."),
			 errtable(rel)));
}

/* The columns that the trigger is for; the parent's tenant column where it is named. */
static void
source_read_columns(TenantSource *source, Relation rel, const Trigger *trigger,
					const char **parent_column)
{
	int count = trigger->tgnattr > 0 ? trigger->tgnattr - 1 : trigger->tgnargs - 2;

	*parent_column = trigger->tgnattr > 0 ? NULL : trigger->tgargs[0];
	if (count < 1 || count > INDEX_MAX_KEYS)
		elog(ERROR, "trigger \"%s\" is not for this function", trigger->tgname);
	for (int i = 0; i <= count; i++)
	{
		AttrNumber column = trigger->tgnattr > 0
								? trigger->tgattr[i]
								: get_attnum(source->relation, trigger->tgargs[i + 1]);

		if (column == InvalidAttrNumber)
			source_missing(rel);
		if (i == 0)
			source->tenant = column;
		else
			source->keys[i - 1] = column;
	}
	source->key_count = count;
}

/* The parent's column for one of ours, or InvalidAttrNumber. */
static AttrNumber
key_pair(const ForeignKeyCacheInfo *key, AttrNumber column)
{
	for (int i = 0; i < key->nkeys; i++)
	{
		if (key->conkey[i] == column)
			return key->confkey[i];
	}
	return InvalidAttrNumber;
}

/* Whether a foreign key is the one, with or without the tenant column. */
static bool
source_take_key(TenantSource *source, const ForeignKeyCacheInfo *key,
				const char *parent_column)
{
	AttrNumber paired = key_pair(key, source->tenant);

	if (key->nkeys != source->key_count + (paired != InvalidAttrNumber ? 1 : 0))
		return false;
	for (int i = 0; i < source->key_count; i++)
	{
		source->parent_keys[i] = key_pair(key, source->keys[i]);
		if (source->parent_keys[i] == InvalidAttrNumber)
			return false;
	}
	source->compared = paired != InvalidAttrNumber;
	source->parent_tenant = paired;
	if (!source->compared && parent_column != NULL)
		source->parent_tenant = get_attnum(key->confrelid, parent_column);
	source->parent = key->confrelid;
	return source->parent_tenant != InvalidAttrNumber;
}

static const char *
source_getter(const TenantSource *source)
{
	switch (getBaseType(get_atttype(source->parent, source->parent_tenant)))
	{
		case UUIDOID:
			return "leyser.tenant_id_uuid()";
		case TEXTOID:
		case VARCHAROID:
			return "leyser.tenant_id()";
		default:
			return "leyser.tenant_id_int8()";
	}
}

/* SELECT tenant FROM ONLY parent WHERE key = $1 … FOR KEY SHARE */
static SPIPlanPtr
source_prepare(const TenantSource *source, bool of_context)
{
	Oid types[INDEX_MAX_KEYS];
	StringInfoData query;
	SPIPlanPtr plan;

	initStringInfo(&query);
	appendStringInfo(
		&query, "SELECT p.%s::%s FROM ONLY %s p WHERE",
		quote_identifier(get_attname(source->parent, source->parent_tenant, false)),
		format_type_be_qualified(get_atttype(source->relation, source->tenant)),
		leyser_relation_name(source->parent));
	for (int i = 0; i < source->key_count; i++)
	{
		types[i] = get_atttype(source->relation, source->keys[i]);
		appendStringInfo(
			&query, "%s p.%s = $%d", i == 0 ? "" : " AND",
			quote_identifier(get_attname(source->parent, source->parent_keys[i], false)),
			i + 1);
	}
	if (of_context)
		appendStringInfo(
			&query, " AND p.%s = %s",
			quote_identifier(get_attname(source->parent, source->parent_tenant, false)),
			source_getter(source));
	appendStringInfoString(&query, " FOR KEY SHARE OF p");
	plan = SPI_prepare(query.data, source->key_count, types);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\"", query.data);
	return plan;
}

static void
source_fill(TenantSource *source, Relation rel, const Trigger *trigger)
{
	const char *parent_column;
	bool found = false;
	ListCell *cell;

	for (int i = 0; i < (int) lengthof(source->plans); i++)
	{
		if (source->plans[i] != NULL)
			SPI_freeplan(source->plans[i]);
		source->plans[i] = NULL;
	}
	source->relation = RelationGetRelid(rel);
	source->parent = InvalidOid;
	/* what comes in while we look counts */
	source->valid = true;
	source_read_columns(source, rel, trigger, &parent_column);
	foreach (cell, RelationGetFKeyList(rel))
	{
		TenantSource candidate = *source;

		if (source_take_key(&candidate, lfirst(cell), parent_column) &&
			(!found || candidate.compared))
		{
			*source = candidate;
			found = true;
		}
	}
	if (!found)
	{
		source->valid = false;
		source_missing(rel);
	}
}

static TenantSource *
source_find(const TriggerData *data)
{
	TenantSource *source;
	bool found;

	if (sources == NULL)
		sources_init();
	source = hash_search(sources, &data->tg_trigger->tgoid, HASH_ENTER, &found);
	if (!found)
	{
		source->valid = false;
		memset(source->plans, 0, sizeof(source->plans));
	}
	if (!source->valid)
		source_fill(source, data->tg_relation, data->tg_trigger);
	return source;
}

/* ---- a row ---- */

typedef struct TenantRow
{
	HeapTuple tuple;
	TupleDesc desc;
	Datum tenant;
	bool isnull;
	bool tenant_changed; /* somebody gave it */
	bool keys_changed;
} TenantRow;

static bool
row_differs(HeapTuple old, HeapTuple new, TupleDesc desc, AttrNumber column)
{
	Form_pg_attribute attribute = TupleDescAttr(desc, column - 1);
	bool old_null;
	bool new_null;
	Datum old_value = heap_getattr(old, column, desc, &old_null);
	Datum new_value = heap_getattr(new, column, desc, &new_null);

	if (old_null || new_null)
		return old_null != new_null;
	return !datum_image_eq(old_value, new_value, attribute->attbyval, attribute->attlen);
}

static void
row_read(TenantRow *row, const TriggerData *data, const TenantSource *source)
{
	bool inserted = TRIGGER_FIRED_BY_INSERT(data->tg_event);

	row->desc = RelationGetDescr(data->tg_relation);
	row->tuple = inserted ? data->tg_trigtuple : data->tg_newtuple;
	row->tenant = heap_getattr(row->tuple, source->tenant, row->desc, &row->isnull);
	row->keys_changed = inserted;
	for (int i = 0; !row->keys_changed && i < source->key_count; i++)
		row->keys_changed =
			row_differs(data->tg_trigtuple, row->tuple, row->desc, source->keys[i]);
	row->tenant_changed =
		inserted ? !row->isnull
				 : row_differs(data->tg_trigtuple, row->tuple, row->desc, source->tenant);
}

static bool
row_needs_parent(const TenantRow *row, const TenantSource *source)
{
	if (row->isnull)
		return true;
	if (source->compared)
		return row->keys_changed && !row->tenant_changed;
	return row->keys_changed || row->tenant_changed;
}

/* Whether who writes may know of the context's tenant's parents only. */
static bool
source_is_bound(const TenantSource *source)
{
	return source->compared && leyser_context_is_set() &&
		   leyser_is_protected(source->relation) && !has_bypassrls_privilege(GetUserId());
}

/* The parent's tenant; false where there is none. */
static bool
parent_tenant(TenantSource *source, const TenantRow *row, Datum *tenant)
{
	Form_pg_attribute attribute = TupleDescAttr(row->desc, source->tenant - 1);
	MemoryContext caller = CurrentMemoryContext;
	Datum values[INDEX_MAX_KEYS];
	SPIPlanPtr *plan = &source->plans[source_is_bound(source) ? 1 : 0];
	LeyserOwnerState owner;
	bool isnull = true;

	for (int i = 0; i < source->key_count; i++)
	{
		values[i] = heap_getattr(row->tuple, source->keys[i], row->desc, &isnull);
		if (isnull)
			return false;
	}
	leyser_owner_begin_as(&owner, leyser_relation_owner(source->parent));
	if (*plan == NULL)
		*plan = source_prepare(source, plan != source->plans);
	if (SPI_execute_plan(*plan, values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for the parent's tenant");
	isnull = true;
	if (SPI_processed > 0)
		*tenant = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
	{
		MemoryContext inner = MemoryContextSwitchTo(caller);

		*tenant = datumCopy(*tenant, attribute->attbyval, attribute->attlen);
		MemoryContextSwitchTo(inner);
	}
	leyser_owner_end(&owner);
	return !isnull;
}

/* The row with the parent's tenant, or an error where it has another's. */
static HeapTuple
row_settle(const TenantRow *row, const TenantSource *source, Relation rel, Datum tenant)
{
	Form_pg_attribute attribute = TupleDescAttr(row->desc, source->tenant - 1);
	int column = source->tenant;
	bool isnull = false;

	if (!row->isnull &&
		datum_image_eq(row->tenant, tenant, attribute->attbyval, attribute->attlen))
		return row->tuple;
	if (!row->isnull && row->tenant_changed)
		ereport(ERROR,
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg("a row of \"%s\" names another tenant than its parent",
						RelationGetRelationName(rel)),
				 errdetail("Column \"%s\" must be that of the row of \"%s\".",
						   NameStr(attribute->attname), get_rel_name(source->parent)),
				 errhint("Leave the column out: it follows the parent."),
				 errtablecol(rel, source->tenant)));
	return heap_modify_tuple_by_cols(row->tuple, row->desc, 1, &column, &tenant, &isnull);
}

/* fill_tenant() trigger */
Datum
leyser_fill_tenant(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	TenantSource *source;
	TenantRow row;
	Datum tenant = (Datum) 0;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		!TRIGGER_FIRED_BEFORE(data->tg_event) || TRIGGER_FIRED_BY_DELETE(data->tg_event))
		elog(ERROR, "leyser.fill_tenant() is a trigger before INSERT or UPDATE");
	source = source_find(data);
	row_read(&row, data, source);
	if (!row_needs_parent(&row, source) || !parent_tenant(source, &row, &tenant))
		return PointerGetDatum(row.tuple);
	return PointerGetDatum(row_settle(&row, source, data->tg_relation, tenant));
}
