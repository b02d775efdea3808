/*
 * purge_delete.c
 *		Deletes a tenant's rows: passes over the tables of a plan.
 *
 * A pass goes over all tables of the plan, children before parents, batch by batch
 * (purge_batch.c); passes are repeated until one finds nothing that began when
 * nobody could still write.  The rules:
 *
 *  - A batch looks, under a lock of the purge's row, whether the purge is held.
 *  - A table that was dropped or changed ends the pass; the next one plans anew.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "purge_batch.h"

#include "access/relation.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#define WRITERS_WAIT 1000 /* milliseconds between looks for transactions */

/* ---- a pass ---- */

static void
step_forget_places(LeyserDeletionStep *step)
{
	if (step->places != NULL)
		leyser_places_close(step->places);
	step->places = NULL;
}

void
leyser_purge_delete_reset(LeyserPurge *purge)
{
	leyser_purge_triggers_on();
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

static void
pass_read_steps(LeyserDeletion *deletion)
{
	int count = (int) SPI_processed;

	deletion->steps = MemoryContextAllocZero(
		deletion->context, mul_size(sizeof(LeyserDeletionStep), count + 1));
	for (int i = 0; i < count; i++)
	{
		LeyserDeletionStep *step = &deletion->steps[i];

		step->step = leyser_purge_column(i, 1);
		step->relation = (Oid) leyser_purge_column(i, 2);
		step->name = step_text(deletion->context, i, 3);
		step->condition = step_text(deletion->context, i, 4);
		step->assignments = step_text(deletion->context, i, 5);
		step->together = leyser_purge_column(i, 6);
		step->planned = leyser_purge_column(i, 7);
		step->deleted = leyser_purge_column(i, 8);
		step->whole = leyser_purge_column(i, 9) != 0;
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

/* ---- a step ---- */

/* How many steps from here on are one transaction. */
static int
circle_size(const LeyserDeletion *deletion)
{
	const LeyserDeletionStep *first = &deletion->steps[deletion->current];
	int size = 1;

	while (first->together != 0 && deletion->current + size < deletion->count &&
		   first[size].together == first->together)
		size++;
	return size;
}

/* Opens the tables of steps; false where one is gone. */
static bool
steps_open(const LeyserDeletionStep *steps, Relation *rels, int count)
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
steps_work(LeyserPurge *purge, LeyserDeletionStep *steps, Relation *rels, int count)
{
	if (steps->together == 0)
		return leyser_purge_batch(purge, steps, rels[0]);
	leyser_purge_circle(purge, steps, rels, count);
	for (int i = 0; i < count; i++)
		relation_close(rels[i], NoLock);
	return true;
}

/* One batch of one table, or all of a circle, and the commit. */
static void
step_run(LeyserPurge *purge)
{
	LeyserDeletion *deletion = purge->deletion;
	LeyserDeletionStep *steps = &deletion->steps[deletion->current];
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
		if (leyser_purge_fence(purge) && !writers_remain(purge))
			pass_begin(purge);
	}
	else if (purge->deletion->current < purge->deletion->count)
		step_run(purge);
	else
		pass_end(purge);
}
