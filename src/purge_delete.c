/*
 * purge_delete.c
 *		Deletes a tenant's rows: passes over the tables of a plan, in batches.
 *
 * A pass goes over all tables of the plan, children before parents; passes are
 * repeated until one finds nothing that began when nobody could still write.
 * Each batch deletes, where the condition holds, rows at certain places, and
 * commits.  Where a table has a row of the tenant a page or more, these are so many
 * blocks as hold about a batch; where they are fewer, their places are collected
 * once before (purge_places.c), through an index if there is one.  The rules:
 *
 *  - Tables whose foreign keys form a circle are emptied in one transaction, and
 *    the keys are checked when all are: as within one statement, which could not
 *    run with the rights of several owners.
 *  - A partition that can hold nobody else's rows is truncated, if nobody uses it
 *    at that moment; the old file is overwritten (scrub_file.c).
 *  - A batch looks, under a lock of the purge's row, whether the purge is held.
 *  - A table that was dropped or changed ends the pass; the next one plans anew.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "purge.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "owner.h"
#include "purge_places.h"

#define WRITERS_WAIT 1000 /* milliseconds between looks for transactions */

/* A row of purge_table that deletes, or erases columns. */
typedef struct DeletionStep
{
	int64 step;
	Oid relation;
	char *name;
	char *condition;
	char *assignments; /* of an UPDATE; NULL: rows are deleted */
	int64 together;    /* steps of one number are one transaction; 0: none */
	bool whole;        /* may be truncated */
	int64 planned;
	int64 deleted;
	LeyserPlaces *places; /* of its rows, or NULL */
	BlockNumber blocks;   /* of the table, where it is gone through from end to end */
	BlockNumber next_block;
	BlockNumber window; /* blocks a batch */
} DeletionStep;

struct LeyserDeletion
{
	MemoryContext context;
	bool clean; /* nobody who could write for the tenant was left when it began */
	int64 found;
	int count;
	int current;
	DeletionStep *steps;
};

/* ---- a pass ---- */

static void
step_forget_places(DeletionStep *step)
{
	if (step->places != NULL)
		leyser_places_close(step->places);
	step->places = NULL;
}

void
leyser_purge_delete_reset(LeyserPurge *purge)
{
	leyser_purge_triggers_off(false);
	if (purge->deletion == NULL)
		return;
	for (int i = 0; i < purge->deletion->count; i++)
		step_forget_places(&purge->deletion->steps[i]);
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
	int count = (int) SPI_processed;

	deletion->steps = MemoryContextAllocZero(deletion->context,
											 mul_size(sizeof(DeletionStep), count + 1));
	for (int i = 0; i < count; i++)
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
		step->whole = step_number(i, 9) != 0;
	}
	deletion->count = count;
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
	purge->failures = 0;
	purge->emptied = deletion->found == 0;
	leyser_purge_delete_reset(purge);
}

/* ---- statements ---- */

static char *
step_table(const DeletionStep *step)
{
	return quote_qualified_identifier(
		get_namespace_name(get_rel_namespace(step->relation)),
		get_rel_name(step->relation));
}

/* A condition may end in a comment. */
static char *
step_condition(const DeletionStep *step)
{
	return psprintf("(%s\n)", step->condition);
}

/* What empties places of a table; the rows of a circle were judged together. */
static char *
batch_query(const DeletionStep *step)
{
	char *table = step_table(step);
	char *condition = step->together != 0 ? "true" : step_condition(step);

	if (step->assignments != NULL)
		return psprintf("UPDATE ONLY %s SET %s WHERE %s AND ctid = ANY ($2)", table,
						step->assignments, condition);
	return psprintf("DELETE FROM ONLY %s WHERE %s AND ctid = ANY ($2)", table, condition);
}

/*
 * Runs a statement with the rights of the table's owner, without users' triggers.
 * The checks of foreign keys are made at its end, or, with "later", by whoever
 * called AfterTriggerBeginQuery().
 */
static int64
batch_execute(const char *query, const LeyserPurge *purge, Relation rel, Datum places,
			  bool later)
{
	Oid types[2] = {TEXTOID, TIDARRAYOID};
	Datum values[2] = {CStringGetTextDatum(purge->tenant_id), places};
	char nulls[] = {' ', places == (Datum) 0 ? 'n' : ' ', '\0'};
	LeyserOwnerState owner;
	SPIPlanPtr plan;
	int64 rows;
	int result;

	leyser_owner_begin_as(&owner, rel->rd_rel->relowner);
	leyser_purge_triggers_off(true);
	plan = SPI_prepare(query, 2, types);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\"", query);
	result = SPI_execute_snapshot(plan, values, nulls, InvalidSnapshot, InvalidSnapshot,
								  false, !later, 0);
	leyser_purge_triggers_off(false);
	if (result != SPI_OK_DELETE && result != SPI_OK_UPDATE)
		elog(ERROR, "could not run \"%s\"", query);
	rows = (int64) SPI_processed;
	leyser_owner_end(&owner);
	return rows;
}

static int
batch_rows(const LeyserPurge *purge)
{
	if (purge->max_rows_per_second > 0)
		return Min(purge->batch_size, purge->max_rows_per_second);
	return purge->batch_size;
}

/* A batch of the rows in the next blocks. */
static int64
window_delete(LeyserPurge *purge, DeletionStep *step, Relation rel)
{
	BlockNumber first = step->next_block;
	BlockNumber end = first + Min(step->window, step->blocks - first);
	char *query = psprintf("DELETE FROM ONLY %s WHERE %s AND ctid >= '(%u,0)'::tid "
						   "AND ctid < '(%u,0)'::tid AND $2 IS NULL",
						   step_table(step), step_condition(step), first, end);
	int64 deleted = batch_execute(query, purge, rel, (Datum) 0, false);

	step->next_block = end;
	if (deleted > batch_rows(purge))
		step->window = Max(step->window / 2, 1);
	return deleted;
}

/* Whether a query of the table gives a row. */
static bool
step_finds(const LeyserPurge *purge, const DeletionStep *step, Relation rel,
		   const char *condition)
{
	Oid types[1] = {TEXTOID};
	Datum values[1] = {CStringGetTextDatum(purge->tenant_id)};
	LeyserOwnerState owner;
	bool found;

	leyser_owner_begin_as(&owner, rel->rd_rel->relowner);
	if (SPI_execute_with_args(
			psprintf("SELECT FROM ONLY %s WHERE %s", step_table(step), condition), 1,
			types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look into \"%s\"", step->name);
	found = SPI_processed > 0;
	leyser_owner_end(&owner);
	return found;
}

/* ---- batches ---- */

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
	if (deleted > 0)
		purge->failures = 0;
}

/* When as many rows may be deleted again. */
static void
batch_throttle(LeyserPurge *purge, int64 deleted)
{
	if (purge->max_rows_per_second > 0)
		purge->next_at = TimestampTzPlusMilliseconds(
			GetCurrentTimestamp(), deleted * 1000 / purge->max_rows_per_second);
}

static void
batch_tell(const LeyserPurge *purge, const DeletionStep *step)
{
	int64 left = step->places != NULL ? leyser_places_left(step->places) : 0;

	leyser_purge_tell("purge %lld: deleting from %s, %lld of %lld rows",
					  (long long) purge->purge_id, step->name, (long long) step->deleted,
					  (long long) Max(step->planned, step->deleted + left));
}

static void
step_collect(LeyserPurge *purge, DeletionStep *step, Relation rel)
{
	char *query = psprintf("SELECT ctid FROM ONLY %s WHERE %s", step_table(step),
						   step_condition(step));

	leyser_purge_tell("purge %lld: looking for rows of %s", (long long) purge->purge_id,
					  step->name);
	step->places = leyser_places_open(purge->deletion->context);
	leyser_places_collect(step->places, query, rel->rd_rel->relowner, purge->tenant_id);
}

/*
 * Truncates a table that holds this tenant's rows and nobody else's; false where
 * it does not, or where somebody uses it.
 */
static bool
step_truncate(LeyserPurge *purge, DeletionStep *step, Relation rel)
{
	int64 rows;

	if (!step->whole || !ConditionalLockRelationOid(step->relation, AccessExclusiveLock))
		return false;
	if (step_finds(purge, step, rel, psprintf("%s IS NOT TRUE", step_condition(step))))
		return false;
	step_collect(purge, step, rel);
	rows = leyser_places_left(step->places);
	/* an open relation cannot be truncated */
	relation_close(rel, NoLock);
	if (SPI_execute(psprintf("TRUNCATE ONLY %s", step_table(step)), false, 0) !=
		SPI_OK_UTILITY)
		elog(ERROR, "could not truncate \"%s\"", step->name);
	note_deleted(purge, step, rows);
	return true;
}

/* Looks at the table in one way or the other; true where nothing is to be deleted. */
static bool
step_begin(LeyserPurge *purge, DeletionStep *step, Relation rel)
{
	int64 rows = step->planned - step->deleted;
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);

	if (step->assignments == NULL && blocks > 0 && rows >= blocks)
	{
		step->blocks = blocks;
		step->window = (BlockNumber) Max(batch_rows(purge) * (double) blocks / rows, 1);
		return false;
	}
	if (step->places == NULL)
		step_collect(purge, step, rel);
	return leyser_places_left(step->places) == 0;
}

static int64
step_delete(LeyserPurge *purge, DeletionStep *step, Relation rel)
{
	if (step->blocks > 0)
		return window_delete(purge, step, rel);
	return batch_execute(batch_query(step), purge, rel,
						 leyser_places_next(step->places, batch_rows(purge)), false);
}

static bool
step_is_done(const DeletionStep *step)
{
	if (step->blocks > 0)
		return step->next_block >= step->blocks;
	return leyser_places_left(step->places) == 0;
}

/* With the table open, which it closes; true where the step is done. */
static bool
step_batch(LeyserPurge *purge, DeletionStep *step, Relation rel)
{
	int64 deleted;
	bool done;

	if (step->places == NULL && step->blocks == 0)
	{
		if (step_truncate(purge, step, rel))
			return true;
		done = step_begin(purge, step, rel);
		relation_close(rel, NoLock);
		return done;
	}
	batch_tell(purge, step);
	deleted = step_delete(purge, step, rel);
	note_deleted(purge, step, deleted);
	batch_throttle(purge, deleted);
	relation_close(rel, NoLock);
	return step_is_done(step);
}

/* ---- circles ---- */

static void
circle_delete(LeyserPurge *purge, DeletionStep *step, Relation rel)
{
	while (leyser_places_left(step->places) > 0)
	{
		batch_tell(purge, step);
		note_deleted(purge, step,
					 batch_execute(batch_query(step), purge, rel,
								   leyser_places_next(step->places, purge->batch_size),
								   true));
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Deletes from all tables of a circle in this transaction.  What is to go is found
 * in all of them before anything goes, for their conditions may read each other.
 */
static void
circle_run(LeyserPurge *purge, DeletionStep *steps, Relation *rels, int count)
{
	for (int i = 0; i < count; i++)
		step_collect(purge, &steps[i], rels[i]);
	AfterTriggerBeginQuery();
	for (int i = 0; i < count; i++)
		circle_delete(purge, &steps[i], rels[i]);
	leyser_purge_triggers_off(true);
	AfterTriggerEndQuery(NULL);
	leyser_purge_triggers_off(false);
}

/* How many steps from here on are one transaction. */
static int
circle_size(const LeyserDeletion *deletion)
{
	const DeletionStep *first = &deletion->steps[deletion->current];
	int size = 1;

	while (first->together != 0 && deletion->current + size < deletion->count &&
		   first[size].together == first->together)
		size++;
	return size;
}

/* ---- a step ---- */

/* Opens the tables of steps; false where one is gone. */
static bool
steps_open(const DeletionStep *steps, Relation *rels, int count)
{
	for (int i = 0; i < count; i++)
	{
		rels[i] = try_relation_open(steps[i].relation, RowExclusiveLock);
		if (rels[i] == NULL)
			return false;
	}
	return true;
}

/* In a transaction: what is done until the next commit; true where the step is done. */
static bool
steps_work(LeyserPurge *purge, DeletionStep *steps, Relation *rels, int count)
{
	if (steps->together == 0)
		return step_batch(purge, steps, rels[0]);
	circle_run(purge, steps, rels, count);
	for (int i = 0; i < count; i++)
		relation_close(rels[i], NoLock);
	return true;
}

/* One batch of one table, or all of a circle, and the commit. */
static void
step_run(LeyserPurge *purge)
{
	LeyserDeletion *deletion = purge->deletion;
	DeletionStep *steps = &deletion->steps[deletion->current];
	int count = circle_size(deletion);
	Relation *rels = palloc0(mul_size(sizeof(Relation), count));
	bool done;

	leyser_purge_begin();
	leyser_purge_constraints_immediate();
	if (leyser_purge_query("SELECT leyser.lock_purge($1)", purge->purge_id) == 0 ||
		!steps_open(steps, rels, count))
	{
		/* it is held, or the plan is no longer right: begin again */
		AbortOutOfAnyTransaction();
		leyser_purge_delete_reset(purge);
		return;
	}
	done = steps_work(purge, steps, rels, count);
	leyser_purge_commit();
	if (!done)
		return;
	for (int i = 0; i < count; i++)
		step_forget_places(&steps[i]);
	deletion->current += count;
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
