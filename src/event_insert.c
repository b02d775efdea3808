/*
 * event_insert.c
 *		How an event's row gets into the log.
 *
 * The rules:
 *
 *  - The row goes into the child of leyser.event_record that holds its month, or
 *    into event_record itself where nobody made one: no event fails for that.
 *  - Beside it goes a row of leyser.event_pending, which holds the hash of what
 *    stays of the event.  Who seals events (sql/event_seal.sql) takes these once they
 *    are committed, so a writer waits for nobody, and nobody for it.
 *  - Rows are inserted without a query: an audited statement adds one each time.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "event_insert.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "compat.h"

#define MONTH_PREFIX "event_record_"

PG_FUNCTION_INFO_V1(leyser_event_insert_sql);

typedef struct EventPlaces
{
	Oid schema;
	Oid sequence;
	Oid pending;
	Oid parent;
} EventPlaces;

/* ---- where ---- */

static Oid
place_named(Oid schema, const char *name)
{
	Oid relation = get_relname_relid(name, schema);

	if (!OidIsValid(relation))
		elog(ERROR, "relation leyser.%s is missing", name);
	return relation;
}

static void
places_find(EventPlaces *places)
{
	places->schema = get_namespace_oid("leyser", false);
	places->sequence = place_named(places->schema, "event_record_event_id_seq");
	places->pending = place_named(places->schema, "event_pending");
	places->parent = place_named(places->schema, "event_record");
}

/* The table of a moment's month, by UTC. */
static Oid
places_month(const EventPlaces *places, TimestampTz at)
{
	char name[NAMEDATALEN];
	struct pg_tm tm;
	fsec_t fraction;
	Oid relation;

	if (timestamp2tm(at, NULL, &tm, &fraction, NULL, NULL) != 0)
		return places->parent;
	snprintf(name, sizeof(name), MONTH_PREFIX "%04d_%02d", tm.tm_year, tm.tm_mon);
	relation = get_relname_relid(name, places->schema);
	return OidIsValid(relation) ? relation : places->parent;
}

/* ---- rows ---- */

/* Into a table without indexes: no executor. */
static void
insert_plainly(Relation rel, const Datum *values, const bool *nulls)
{
	TupleTableSlot *slot =
		MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);

	memcpy(slot->tts_values, values, sizeof(Datum) * slot->tts_tupleDescriptor->natts);
	memcpy(slot->tts_isnull, nulls, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(rel);
	simple_table_tuple_insert(rel, slot);
	ExecDropSingleTupleTableSlot(slot);
}

/* Neither triggers nor constraints: what is added is ours. */
static void
insert_with_indexes(Relation rel, const Datum *values, const bool *nulls)
{
	EState *estate = CreateExecutorState();
	ResultRelInfo *target = makeNode(ResultRelInfo);
	TupleTableSlot *slot;

	leyser_range_table_of(estate, rel);
	InitResultRelInfo(target, rel, 1, NULL, 0);
	ExecOpenIndices(target, false);
	slot = ExecInitExtraTupleSlot(estate, RelationGetDescr(rel), &TTSOpsVirtual);
	memcpy(slot->tts_values, values, sizeof(Datum) * slot->tts_tupleDescriptor->natts);
	memcpy(slot->tts_isnull, nulls, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(rel);
	simple_table_tuple_insert(rel, slot);
	if (target->ri_NumIndices > 0)
		list_free(leyser_insert_index_tuples(target, slot, estate));
	ExecCloseIndices(target);
	ExecResetTupleTable(estate->es_tupleTable, false);
	FreeExecutorState(estate);
}

/* A month may be dropped between its look-up and its lock, but not the present one. */
static void
insert_event(const EventPlaces *places, Datum *values, bool *nulls)
{
	Oid month = places_month(places, DatumGetTimestampTz(values[LEYSER_EVENT_AT]));
	Relation rel = try_table_open(month, RowExclusiveLock);

	if (rel == NULL)
		rel = table_open(places->parent, RowExclusiveLock);
	if (RelationGetNumberOfAttributes(rel) != LEYSER_EVENT_COLUMNS)
		elog(ERROR, "\"%s\" has other columns than events", RelationGetRelationName(rel));
	insert_with_indexes(rel, values, nulls);
	table_close(rel, NoLock);
}

static void
insert_pending(const EventPlaces *places, const Datum *values, const bool *nulls,
			   int64 rows, bytea *leaf)
{
	Relation rel = table_open(places->pending, RowExclusiveLock);
	Datum pending[6] = {values[LEYSER_EVENT_ID],
						values[LEYSER_EVENT_AT],
						nulls[LEYSER_EVENT_TENANT] ? CStringGetTextDatum("")
												   : values[LEYSER_EVENT_TENANT],
						values[LEYSER_EVENT_NAME],
						Int64GetDatum(rows),
						PointerGetDatum(leaf)};
	bool none[6] = {false};

	/* nobody but a superuser gives it an index */
	if (rel->rd_rel->relhasindex)
		insert_with_indexes(rel, pending, none);
	else
		insert_plainly(rel, pending, none);
	table_close(rel, NoLock);
}

static bytea *
bytes_new(size_t length)
{
	bytea *bytes = palloc(VARHDRSZ + length);

	SET_VARSIZE(bytes, VARHDRSZ + length);
	return bytes;
}

void
leyser_event_insert(Datum *values, bool *nulls, int64 rows)
{
	MemoryContext memory =
		AllocSetContextCreate(CurrentMemoryContext, "leyser event", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(memory);
	bytea *salt = bytes_new(LEYSER_SALT_LENGTH);
	bytea *digest = bytes_new(LEYSER_DIGEST_LENGTH);
	bytea *leaf = bytes_new(LEYSER_DIGEST_LENGTH);
	EventPlaces places;

	places_find(&places);
	if (!pg_strong_random(VARDATA(salt), LEYSER_SALT_LENGTH))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
						errmsg("could not get random bytes for an event"),
						errhint("See the server's OpenSSL and its random source.")));
	values[LEYSER_EVENT_ID] = Int64GetDatum(nextval_internal(places.sequence, false));
	values[LEYSER_EVENT_SALT] = PointerGetDatum(salt);
	values[LEYSER_EVENT_DIGEST] = PointerGetDatum(digest);
	nulls[LEYSER_EVENT_ID] = nulls[LEYSER_EVENT_SALT] = nulls[LEYSER_EVENT_DIGEST] =
		false;
	leyser_event_digest(values, nulls, (uint8 *) VARDATA(digest));
	leyser_event_leaf(values, nulls, (uint8 *) VARDATA(leaf));
	insert_event(&places, values, nulls);
	insert_pending(&places, values, nulls, rows, leaf);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(memory);
}

/* insert_event(at, event, tenant_id, session_role, … detail) → void */
Datum
leyser_event_insert_sql(PG_FUNCTION_ARGS)
{
	Datum values[LEYSER_EVENT_COLUMNS] = {0};
	bool nulls[LEYSER_EVENT_COLUMNS];

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("an event has a time and a name")));
	memset(nulls, true, sizeof(nulls));
	for (int i = 0; i <= LEYSER_EVENT_DETAIL - LEYSER_EVENT_AT; i++)
	{
		nulls[LEYSER_EVENT_AT + i] = PG_ARGISNULL(i);
		values[LEYSER_EVENT_AT + i] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
	}
	leyser_event_insert(values, nulls, 0);
	PG_RETURN_VOID();
}
