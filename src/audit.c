/*
 * audit.c
 *		Triggers that record what a statement did to an audited table's rows.
 *
 * One event a statement, tenant and EVENT_BYTES of images, whatever the number of
 * rows: the transition tables are read once.  The actor is the context's account, and
 * the roles.  The rules:
 *
 *  - Text does not depend on the session: settings that change it are fixed meanwhile.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "audit_table.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "context.h"
#include "event.h"
#include "event_insert.h"

#define EVENT_BYTES (256 * 1024)
#define ROWS_AT_ONCE 64 /* until the scratch memory is given back */

PG_FUNCTION_INFO_V1(leyser_audit_statement);

#define GROUP_BUCKETS 256

/* The rows of one tenant, while a statement's are read. */
typedef struct AuditGroup
{
	Datum tenant; /* as its column has it */
	bool tenant_is_null;
	char *tenant_id; /* NULL: none */
	int64 rows;
	StringInfoData images;
} AuditGroup;

typedef struct AuditStatement
{
	LeyserAuditTable *table;
	const char *event;
	AuditGroup *last; /* of the former row */
	List *groups[GROUP_BUCKETS];
	MemoryContext memory; /* until the statement's events are written */
	MemoryContext scratch;
} AuditStatement;

/* ---- events ---- */

/* {"rows": n} */
static Datum
detail_of(int64 rows)
{
	JsonbParseState *state = NULL;
	JsonbValue key = {.type = jbvString, .val.string = {.val = "rows", .len = 4}};
	JsonbValue value = {.type = jbvNumeric, .val.numeric = int64_to_numeric(rows)};

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	(void) pushJsonbValue(&state, WJB_KEY, &key);
	(void) pushJsonbValue(&state, WJB_VALUE, &value);
	return JsonbPGetDatum(
		JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

static void
actor_fill(Datum *values, bool *nulls)
{
	const LeyserContext *context = leyser_context_current();
	LOCAL_FCINFO(call, 0);
	Datum address;

	values[LEYSER_EVENT_SESSION_ROLE] =
		CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(), false));
	values[LEYSER_EVENT_CALLER_ROLE] =
		CStringGetTextDatum(GetUserNameFromId(GetOuterUserId(), false));
	nulls[LEYSER_EVENT_SESSION_ROLE] = nulls[LEYSER_EVENT_CALLER_ROLE] = false;
	if (context != NULL && context->account_id != 0)
	{
		values[LEYSER_EVENT_ACCOUNT] = Int64GetDatum(context->account_id);
		nulls[LEYSER_EVENT_ACCOUNT] = false;
	}
	InitFunctionCallInfoData(*call, NULL, 0, InvalidOid, NULL, NULL);
	address = inet_client_addr(call);
	nulls[LEYSER_EVENT_ADDRESS] = call->isnull;
	values[LEYSER_EVENT_ADDRESS] = address;
}

/* images: NULL for none. */
static void
event_write(const AuditStatement *statement, const char *tenant_id, const int64 *rows,
			const StringInfo images)
{
	Datum values[LEYSER_EVENT_COLUMNS] = {0};
	bool nulls[LEYSER_EVENT_COLUMNS];

	memset(nulls, true, sizeof(nulls));
	actor_fill(values, nulls);
	values[LEYSER_EVENT_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[LEYSER_EVENT_NAME] = CStringGetTextDatum(statement->event);
	values[LEYSER_EVENT_OBJECT] = CStringGetTextDatum(statement->table->name);
	nulls[LEYSER_EVENT_AT] = nulls[LEYSER_EVENT_NAME] = nulls[LEYSER_EVENT_OBJECT] =
		false;
	if (tenant_id != NULL)
		values[LEYSER_EVENT_TENANT] = CStringGetTextDatum(tenant_id);
	nulls[LEYSER_EVENT_TENANT] = tenant_id == NULL;
	if (rows != NULL)
		values[LEYSER_EVENT_DETAIL] = detail_of(*rows);
	nulls[LEYSER_EVENT_DETAIL] = rows == NULL;
	if (images != NULL)
		values[LEYSER_EVENT_IMAGES] =
			PointerGetDatum(cstring_to_text_with_len(images->data, images->len));
	nulls[LEYSER_EVENT_IMAGES] = images == NULL;
	leyser_event_insert(values, nulls, rows ? *rows : 0);
	leyser_event_line(values, nulls);
}

static void
group_write(const AuditStatement *statement, AuditGroup *group)
{
	if (group->rows == 0)
		return;
	event_write(statement, group->tenant_id, &group->rows, &group->images);
	group->rows = 0;
	leyser_audit_begin(&group->images, &statement->table->shape);
}

/* ---- rows ---- */

/* Of a table without tenants: the context's, if there is one. */
static char *
group_tenant(const AuditStatement *statement, const AuditGroup *group)
{
	const LeyserContext *context;
	LeyserAuditTable *table = statement->table;

	if (table->tenant != 0)
		return group->tenant_is_null
				   ? NULL
				   : OutputFunctionCall(&table->tenant_output, group->tenant);
	context = leyser_context_current();
	return context ? pstrdup(leyser_context_string(context, tenant)) : NULL;
}

static AuditGroup *
group_new(const AuditStatement *statement, Datum tenant, bool isnull,
		  Form_pg_attribute attribute)
{
	MemoryContext caller = MemoryContextSwitchTo(statement->memory);
	AuditGroup *group = palloc0(sizeof(AuditGroup));

	group->tenant_is_null = isnull;
	if (!isnull)
		group->tenant = datumCopy(tenant, attribute->attbyval, attribute->attlen);
	group->tenant_id = group_tenant(statement, group);
	initStringInfo(&group->images);
	leyser_audit_begin(&group->images, &statement->table->shape);
	MemoryContextSwitchTo(caller);
	return group;
}

static bool
group_has(const AuditGroup *group, Datum tenant, bool isnull, Form_pg_attribute attribute)
{
	if (isnull || group->tenant_is_null)
		return isnull && group->tenant_is_null;
	return datum_image_eq(tenant, group->tenant, attribute->attbyval, attribute->attlen);
}

static AuditGroup *
group_find(AuditStatement *statement, Datum tenant, bool isnull,
		   Form_pg_attribute attribute)
{
	uint32 hash =
		isnull ? 0 : datum_image_hash(tenant, attribute->attbyval, attribute->attlen);
	List **bucket = &statement->groups[hash % GROUP_BUCKETS];
	MemoryContext caller;
	AuditGroup *group;
	ListCell *cell;

	foreach (cell, *bucket)
	{
		if (group_has(lfirst(cell), tenant, isnull, attribute))
			return lfirst(cell);
	}
	group = group_new(statement, tenant, isnull, attribute);
	caller = MemoryContextSwitchTo(statement->memory);
	*bucket = lappend(*bucket, group);
	MemoryContextSwitchTo(caller);
	return group;
}

/* In the scratch context: what is looked at of a tenant's column may be compressed. */
static AuditGroup *
group_of(AuditStatement *statement, TupleTableSlot *slot)
{
	int i = statement->table->tenant - 1;
	Form_pg_attribute attribute;

	if (i < 0)
	{
		if (statement->last == NULL)
			statement->last = group_find(statement, (Datum) 0, true, NULL);
		return statement->last;
	}
	slot_getallattrs(slot);
	attribute = TupleDescAttr(slot->tts_tupleDescriptor, i);
	if (statement->last == NULL ||
		!group_has(statement->last, slot->tts_values[i], slot->tts_isnull[i], attribute))
		statement->last =
			group_find(statement, slot->tts_values[i], slot->tts_isnull[i], attribute);
	return statement->last;
}

/* From its beginning, whoever has read it before. */
static Tuplestorestate *
rows_begin(Tuplestorestate *rows)
{
	if (rows != NULL)
	{
		tuplestore_select_read_pointer(
			rows, tuplestore_alloc_read_pointer(rows, EXEC_FLAG_REWIND));
		tuplestore_rescan(rows);
	}
	return rows;
}

static void
group_add(AuditStatement *statement, AuditGroup *group, TupleTableSlot *old,
		  TupleTableSlot *new)
{
	leyser_audit_row(&group->images, &statement->table->shape, old, new);
	group->rows++;
	if (group->images.len > EVENT_BYTES)
		group_write(statement, group);
}

/* Of a row that moves to another tenant each is told what it had, or has, and no more. */
static void
row_add(AuditStatement *statement, TupleTableSlot *old, TupleTableSlot *new)
{
	AuditGroup *group = group_of(statement, old ? old : new);
	AuditGroup *other = old && new ? group_of(statement, new) : group;

	if (group == other)
		group_add(statement, group, old, new);
	else
	{
		group_add(statement, group, old, NULL);
		group_add(statement, other, NULL, new);
	}
}

/*
 * A row that an UPDATE moves to another partition can be lost there to a trigger BEFORE
 * INSERT: then there are fewer new rows than old ones, and nobody knows whose is whose.
 */
static bool
rows_are_pairs(Tuplestorestate *olds, Tuplestorestate *news)
{
	return olds == NULL || news == NULL ||
		   tuplestore_tuple_count(olds) == tuplestore_tuple_count(news);
}

static void
rows_read(AuditStatement *statement, const TriggerData *trigger)
{
	TupleDesc descriptor = RelationGetDescr(trigger->tg_relation);
	TupleTableSlot *old = MakeSingleTupleTableSlot(descriptor, &TTSOpsMinimalTuple);
	TupleTableSlot *new = MakeSingleTupleTableSlot(descriptor, &TTSOpsMinimalTuple);
	Tuplestorestate *olds = rows_begin(trigger->tg_oldtable);
	Tuplestorestate *news = rows_begin(trigger->tg_newtable);
	bool pairs = rows_are_pairs(olds, news);

	for (int64 count = 1;; count++)
	{
		bool has_old = olds && tuplestore_gettupleslot(olds, true, false, old);
		bool has_new = news && (pairs || !has_old) &&
					   tuplestore_gettupleslot(news, true, false, new);
		MemoryContext caller;

		if (!has_old && !has_new)
			break;
		caller = MemoryContextSwitchTo(statement->scratch);
		row_add(statement, has_old ? old : NULL, has_new ? new : NULL);
		MemoryContextSwitchTo(caller);
		if (count % ROWS_AT_ONCE == 0)
			MemoryContextReset(statement->scratch);
	}
	ExecDropSingleTupleTableSlot(old);
	ExecDropSingleTupleTableSlot(new);
}

/* ---- the trigger ---- */

static int
settings_begin(void)
{
	static const char *const settings[][2] = {
		{"datestyle", "ISO, YMD"},     {"timezone", "UTC"},
		{"intervalstyle", "iso_8601"}, {"extra_float_digits", "1"},
		{"bytea_output", "hex"},       {"search_path", "pg_catalog, pg_temp"}};
	int level = NewGUCNestLevel();

	for (int i = 0; i < (int) lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return level;
}

static const char *
event_of(TriggerEvent event)
{
	if (TRIGGER_FIRED_BY_INSERT(event))
		return "row.inserted";
	if (TRIGGER_FIRED_BY_UPDATE(event))
		return "row.updated";
	if (TRIGGER_FIRED_BY_DELETE(event))
		return "row.deleted";
	return "table.truncated";
}

static void
statement_record(AuditStatement *statement, const TriggerData *trigger)
{
	ListCell *cell;

	if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
	{
		event_write(statement, NULL, NULL, NULL);
		return;
	}
	rows_read(statement, trigger);
	for (int i = 0; i < GROUP_BUCKETS; i++)
	{
		foreach (cell, statement->groups[i])
			group_write(statement, lfirst(cell));
	}
}

/* audit_statement('{columns}', '{redacted columns}') */
Datum
leyser_audit_statement(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	AuditStatement statement = {0};
	MemoryContext caller;
	int level = 0;

	if (!CALLED_AS_TRIGGER(fcinfo) || TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		elog(ERROR, "leyser.audit_statement() is a trigger of statements");
	leyser_require_preloaded();
	statement.memory = AllocSetContextCreate(CurrentMemoryContext, "leyser audit",
											 ALLOCSET_DEFAULT_SIZES);
	statement.scratch = AllocSetContextCreate(statement.memory, "leyser audited row",
											  ALLOCSET_SMALL_SIZES);
	caller = MemoryContextSwitchTo(statement.memory);
	statement.table = leyser_audit_table(trigger->tg_relation, trigger->tg_trigger);
	statement.event = event_of(trigger->tg_event);
	if (statement.table->shape.depends_on_settings)
		level = settings_begin();
	statement_record(&statement, trigger);
	if (level != 0)
		AtEOXact_GUC(false, level);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(statement.memory);
	return PointerGetDatum(NULL);
}
