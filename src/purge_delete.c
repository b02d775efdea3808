/*
 * purge_delete.c
 *		Deletes a tenant's rows, batch by batch.
 *
 * A pass goes over all tables of the plan, children before parents; passes are
 * repeated until one finds nothing that began when nobody could still write.
 * For each table the places (ctid) of the tenant's rows are collected once into
 * a temporary file, which holds nothing else; each batch deletes the rows at the
 * next places, where the condition still holds, and commits.  The rules:
 *
 *  - No trigger of users fires: history and audit tables would get the data
 *    back, and others would act on what they believe is a user's deletion.
 *    Referential integrity stays on: what the server's own foreign key triggers
 *    do, in nested statements too, is done.  An ExecutorStart hook leaves only
 *    those in the result relations; session_replication_role would also drop
 *    integrity, and still fire ENABLE ALWAYS triggers.
 *  - What an owner attached to a table (index expressions, functions in a
 *    condition) runs with the owner's rights, never the worker's; see owner.c.
 *    So there is no cursor WITH HOLD: the commit would run the query to its end
 *    with the worker's rights.
 *  - A table that was dropped or changed ends the pass; the next one plans anew.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "purge.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/buffile.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "owner.h"

#define COLLECT_ROWS 10000 /* that are fetched at a time */
#define WRITERS_WAIT 1000  /* milliseconds between looks for transactions */

/* A row of purge_table that deletes, or erases columns. */
typedef struct DeletionStep
{
	int64 step;
	Oid relation;
	char *name;
	char *condition;
	char *assignments; /* of an UPDATE; NULL: rows are deleted */
	int64 together;    /* steps of one number are one statement; 0: none */
	int64 planned;
	int64 deleted;
} DeletionStep;

struct LeyserDeletion
{
	MemoryContext context;
	bool clean; /* nobody who could write for the tenant was left when it began */
	int64 found;
	int count;
	int current;
	DeletionStep *steps;
	BufFile *places; /* of the current step's rows, or NULL */
	int64 left;      /* places not yet read */
};

static bool deleting = false;
static ExecutorStart_hook_type previous_executor_start = NULL;

/* ---- triggers ---- */

/* What the server itself attached to keep constraints. */
static bool
trigger_is_kept(const Trigger *trigger)
{
	return trigger->tgisinternal &&
		   (RI_FKey_trigger_type(trigger->tgfoid) != RI_TRIGGER_NONE ||
			trigger->tgfoid == F_UNIQUE_KEY_RECHECK);
}

/* Which events the remaining triggers are for. */
static void
triggers_describe(TriggerDesc *triggers)
{
	triggers->trig_delete_before_row = triggers->trig_update_before_row = false;
	triggers->trig_delete_instead_row = triggers->trig_update_instead_row = false;
	triggers->trig_delete_before_statement = false;
	triggers->trig_delete_after_statement = false;
	triggers->trig_update_before_statement = false;
	triggers->trig_update_after_statement = false;
	triggers->trig_delete_old_table = false;
	triggers->trig_update_old_table = triggers->trig_update_new_table = false;
	triggers->trig_delete_after_row = triggers->trig_update_after_row = false;
	for (int i = 0; i < triggers->numtriggers; i++)
	{
		int16 type = triggers->triggers[i].tgtype;

		triggers->trig_delete_after_row |= TRIGGER_FOR_DELETE(type);
		triggers->trig_update_after_row |= TRIGGER_FOR_UPDATE(type);
	}
}

/*
 * The result relation has a copy of its own of the relation's triggers, whose
 * array we shorten in place; arrays beside it stay longer than needed.
 */
static void
triggers_filter(ResultRelInfo *target)
{
	TriggerDesc *triggers = target->ri_TrigDesc;
	int kept = 0;

	if (triggers == NULL)
		return;
	for (int i = 0; i < triggers->numtriggers; i++)
	{
		if (trigger_is_kept(&triggers->triggers[i]))
			triggers->triggers[kept++] = triggers->triggers[i];
	}
	triggers->numtriggers = kept;
	triggers_describe(triggers);
}

/* Nobody is left to read what transition tables would collect. */
static void
transition_tables_drop(PlanState *plan)
{
	if (plan != NULL && IsA(plan, ModifyTableState))
	{
		((ModifyTableState *) plan)->mt_transition_capture = NULL;
		((ModifyTableState *) plan)->mt_oc_transition_capture = NULL;
	}
}

static void
delete_executor_start(QueryDesc *queryDesc, int eflags)
{
	ListCell *cell;

	if (previous_executor_start)
		previous_executor_start(queryDesc, eflags);
	else
		standard_ExecutorStart(queryDesc, eflags);
	if (!deleting)
		return;
	foreach (cell, queryDesc->estate->es_opened_result_relations)
		triggers_filter(lfirst(cell));
	transition_tables_drop(queryDesc->planstate);
	foreach (cell, queryDesc->estate->es_subplanstates)
		transition_tables_drop(lfirst(cell));
}

void
leyser_purge_delete_init(void)
{
	previous_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = delete_executor_start;
}

/* ---- a pass ---- */

void
leyser_purge_delete_reset(LeyserPurge *purge)
{
	deleting = false;
	if (purge->deletion == NULL)
		return;
	if (purge->deletion->places != NULL)
		BufFileClose(purge->deletion->places);
	MemoryContextDelete(purge->deletion->context);
	purge->deletion = NULL;
}

static char *
step_text(MemoryContext context, int row, int column)
{
	char *value = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);

	return value != NULL ? MemoryContextStrdup(context, value) : NULL;
}

static int64
step_number(int row, int column)
{
	bool isnull;
	Datum value =
		SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

static void
pass_read_steps(LeyserDeletion *deletion)
{
	deletion->count = (int) SPI_processed;
	deletion->steps = MemoryContextAllocZero(
		deletion->context, mul_size(sizeof(DeletionStep), deletion->count + 1));
	for (int i = 0; i < deletion->count; i++)
	{
		DeletionStep *step = &deletion->steps[i];

		step->step = step_number(i, 1);
		step->relation = (Oid) step_number(i, 2);
		step->name = step_text(deletion->context, i, 3);
		step->condition = step_text(deletion->context, i, 4);
		step->assignments = step_text(deletion->context, i, 5);
		step->together = step_number(i, 6);
		step->planned = step_number(i, 7);
		step->deleted = step_number(i, 8);
	}
}

static void
pass_begin(LeyserPurge *purge)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "leyser deletion",
												  ALLOCSET_DEFAULT_SIZES);
	LeyserDeletion *deletion = MemoryContextAllocZero(context, sizeof(LeyserDeletion));

	deletion->context = context;
	purge->deletion = deletion;
	purge->emptied = false;
	leyser_purge_tell("purge %lld: planning", (long long) purge->purge_id);
	leyser_purge_begin();
	deletion->clean =
		leyser_purge_query("SELECT leyser.begin_pass($1)", purge->purge_id) == 0;
	(void) leyser_purge_query("SELECT * FROM leyser.deletion_steps($1)", purge->purge_id);
	pass_read_steps(deletion);
	leyser_purge_commit();
}

/* Nothing found by a pass that began when nobody could write: deletion is over. */
static void
pass_end(LeyserPurge *purge)
{
	LeyserDeletion *deletion = purge->deletion;

	if (deletion->found == 0 && deletion->clean)
	{
		leyser_purge_begin();
		(void) leyser_purge_query("SELECT leyser.finish_deletion($1)", purge->purge_id);
		/* accounts, grants and sessions went without their triggers */
		CacheInvalidateRelcacheAll();
		leyser_purge_commit();
		purge->deleted = true;
	}
	purge->emptied = deletion->found == 0;
	leyser_purge_delete_reset(purge);
}

/* ---- a table's rows ---- */

static char *
step_table(Relation rel)
{
	return psprintf("ONLY %s", quote_qualified_identifier(
								   get_namespace_name(RelationGetNamespace(rel)),
								   RelationGetRelationName(rel)));
}

/* A condition may end in a comment. */
static char *
step_condition(const DeletionStep *step)
{
	return psprintf("(%s\n)", step->condition);
}

static void
places_write(LeyserDeletion *deletion)
{
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;
		ItemPointer place = (ItemPointer) DatumGetPointer(
			SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));

		BufFileWrite(deletion->places, place, sizeof(ItemPointerData));
	}
	deletion->left += SPI_processed;
}

/* Finds the rows of the current step; true where there are any. */
static bool
places_collect(LeyserPurge *purge, const DeletionStep *step, Relation rel)
{
	LeyserDeletion *deletion = purge->deletion;
	Oid types[1] = {TEXTOID};
	Datum values[1] = {CStringGetTextDatum(purge->tenant_id)};
	char *query =
		psprintf("SELECT ctid FROM %s WHERE %s", step_table(rel), step_condition(step));
	LeyserOwnerState owner;
	MemoryContext caller = MemoryContextSwitchTo(deletion->context);
	Portal portal;

	leyser_purge_tell("purge %lld: looking for rows of %s", (long long) purge->purge_id,
					  step->name);
	deletion->places = BufFileCreateTemp(true);
	deletion->left = 0;
	MemoryContextSwitchTo(caller);
	leyser_owner_begin_as(&owner, rel->rd_rel->relowner);
	portal = SPI_cursor_open_with_args(NULL, query, 1, types, values, NULL, false, 0);
	for (;;)
	{
		SPI_cursor_fetch(portal, true, COLLECT_ROWS);
		if (SPI_processed == 0)
			break;
		places_write(deletion);
		SPI_freetuptable(SPI_tuptable);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_cursor_close(portal);
	leyser_owner_end(&owner);
	if (BufFileSeek(deletion->places, 0, 0, SEEK_SET) != 0)
		elog(ERROR, "could not rewind a temporary file");
	return deletion->left > 0;
}

/* The next places, as tid[]. */
static Datum
places_read(LeyserDeletion *deletion, int count)
{
	ItemPointerData *places = palloc(mul_size(sizeof(ItemPointerData), count));
	Datum *values = palloc(mul_size(sizeof(Datum), count));

	if (BufFileRead(deletion->places, places, sizeof(ItemPointerData) * count) !=
		sizeof(ItemPointerData) * count)
		elog(ERROR, "could not read a temporary file");
	for (int i = 0; i < count; i++)
		values[i] = PointerGetDatum(&places[i]);
	deletion->left -= count;
	return PointerGetDatum(construct_array(values, count, TIDOID, sizeof(ItemPointerData),
										   false, TYPALIGN_SHORT));
}

static char *
batch_query(const DeletionStep *step, Relation rel)
{
	char *table = step_table(rel);
	char *where = psprintf("%s AND ctid = ANY ($2)", step_condition(step));

	if (step->assignments != NULL)
		return psprintf("UPDATE %s SET %s WHERE %s", table, step->assignments, where);
	return psprintf("DELETE FROM %s WHERE %s", table, where);
}

/* Runs a statement as the table's owner, without users' triggers. */
static int64
batch_execute(const char *query, LeyserPurge *purge, Oid owner_role, Datum places)
{
	Oid types[2] = {TEXTOID, TIDARRAYOID};
	Datum values[2] = {CStringGetTextDatum(purge->tenant_id), places};
	char nulls[] = {' ', places == (Datum) 0 ? 'n' : ' ', '\0'};
	LeyserOwnerState owner;
	int64 rows;
	int result;

	leyser_owner_begin_as(&owner, owner_role);
	deleting = true;
	result = SPI_execute_with_args(query, 2, types, values, nulls, false, 0);
	deleting = false;
	if (result < 0)
		elog(ERROR, "could not run \"%s\"", query);
	rows = (int64) SPI_processed;
	leyser_owner_end(&owner);
	return rows;
}

/* ---- a batch ---- */

static void
note_deleted(LeyserPurge *purge, DeletionStep *step, int64 deleted)
{
	Oid types[3] = {INT8OID, INT8OID, INT8OID};
	Datum values[3] = {Int64GetDatum(purge->purge_id), Int64GetDatum(step->step),
					   Int64GetDatum(deleted)};

	(void) SPI_execute_with_args("SELECT leyser.note_deleted($1, $2, $3)", 3, types,
								 values, NULL, false, 0);
	step->deleted += deleted;
	purge->deletion->found += deleted;
}

/* When as many rows may be deleted again. */
static void
batch_throttle(LeyserPurge *purge, int64 deleted)
{
	if (purge->max_rows_per_second > 0)
		purge->next_at = TimestampTzPlusMilliseconds(
			GetCurrentTimestamp(), deleted * 1000 / purge->max_rows_per_second);
}

static int
batch_rows(const LeyserPurge *purge)
{
	int rows = purge->batch_size;

	if (purge->max_rows_per_second > 0)
		rows = Min(rows, purge->max_rows_per_second);
	return (int) Min(rows, purge->deletion->left);
}

/* With the relation open; true where the step is done. */
static bool
step_batch(LeyserPurge *purge, DeletionStep *step, Relation rel)
{
	LeyserDeletion *deletion = purge->deletion;
	int64 deleted;

	if (deletion->places == NULL)
		return !places_collect(purge, step, rel);
	leyser_purge_tell("purge %lld: deleting from %s, %lld of %lld rows",
					  (long long) purge->purge_id, step->name, (long long) step->deleted,
					  (long long) Max(step->planned, step->deleted + deletion->left));
	deleted = batch_execute(batch_query(step, rel), purge, rel->rd_rel->relowner,
							places_read(deletion, batch_rows(purge)));
	note_deleted(purge, step, deleted);
	batch_throttle(purge, deleted);
	return deletion->left == 0;
}

static void
step_finish(LeyserDeletion *deletion)
{
	if (deletion->places != NULL)
		BufFileClose(deletion->places);
	deletion->places = NULL;
	deletion->current++;
}

/* One batch of one table, and its commit. */
static void
step_run(LeyserPurge *purge)
{
	LeyserDeletion *deletion = purge->deletion;
	DeletionStep *step = &deletion->steps[deletion->current];
	Relation rel;
	bool done = false;

	leyser_purge_begin();
	if (leyser_purge_query("SELECT leyser.lock_purge($1)", purge->purge_id) == 0 ||
		(rel = try_relation_open(step->relation, RowExclusiveLock)) == NULL)
	{
		/* it is held, or the plan is no longer right: begin again */
		leyser_purge_commit();
		leyser_purge_delete_reset(purge);
		return;
	}
	done = step_batch(purge, step, rel);
	relation_close(rel, NoLock);
	leyser_purge_commit();
	if (done)
		step_finish(deletion);
}

/* After a pass that found nothing: whether somebody could still write. */
static bool
writers_remain(LeyserPurge *purge)
{
	if (!purge->emptied ||
		leyser_purge_step("SELECT leyser.wait_for_writers($1)", purge->purge_id) == 0)
		return false;
	purge->next_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), WRITERS_WAIT);
	return true;
}

void
leyser_purge_delete(LeyserPurge *purge)
{
	if (purge->deletion == NULL)
	{
		if (!writers_remain(purge))
			pass_begin(purge);
	}
	else if (purge->deletion->current < purge->deletion->count)
		step_run(purge);
	else
		pass_end(purge);
}
