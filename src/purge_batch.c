/*
 * purge_batch.c
 *		Empties the tables of a purge's plan, a batch at a time.
 *
 * Each batch deletes, where the condition holds, rows at certain places.  Where a
 * table has a row of the tenant a page or more, these are so many blocks as hold
 * about a batch; where they are fewer, their places are collected once before
 * (purge_places.c), through an index if there is one.  The rules:
 *
 *  - Statements run with the rights of the table's owner, in a restricted
 *    operation, and without users' triggers (purge_trigger.c).
 *  - Foreign keys to deleted rows are checked once a batch (purge_reference.c).
 *  - Tables whose foreign keys form a circle are emptied in one transaction, and
 *    the keys are checked when all are: as within one statement, which could not
 *    run with the rights of several owners.
 *  - A partition that can hold nobody else's rows is truncated, if nobody uses it
 *    at that moment; the old file is overwritten (scrub_file.c).
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "purge_batch.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "rewrite/rewriteDefine.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "owner.h"
#include "purge_reference.h"
#include "relation.h"

/* ---- statements ---- */

/* A condition may end in a comment. */
static char *
step_condition(const LeyserDeletionStep *step)
{
	return psprintf("(%s\n)", step->condition);
}

/* What empties places of a table; the rows of a circle were judged together. */
static char *
batch_query(const LeyserDeletionStep *step)
{
	char *table = leyser_relation_name(step->relation);
	char *condition = step->together != 0 ? "true" : step_condition(step);

	if (step->assignments != NULL)
		return psprintf("UPDATE ONLY %s SET %s WHERE %s AND ctid = ANY ($2)", table,
						step->assignments, condition);
	return psprintf("DELETE FROM ONLY %s WHERE %s AND ctid = ANY ($2)", table, condition);
}

/* The plan looked for them, too; while we hold our lock nobody makes another. */
static void
refuse_rules(Relation rel)
{
	for (int i = 0; rel->rd_rules != NULL && i < rel->rd_rules->numLocks; i++)
	{
		const RewriteRule *rule = rel->rd_rules->rules[i];

		if (rule->event == CMD_DELETE &&
			(rule->enabled == RULE_FIRES_ALWAYS || rule->enabled == RULE_FIRES_ON_ORIGIN))
			ereport(ERROR,
					(errcode(LEYSER_ERRCODE_WRONG_STATE),
					 errmsg("a rule of \"%s\" changes what DELETE does",
							RelationGetRelationName(rel)),
					 errhint("leyser.purge_plan() tells which one."), errtable(rel)));
	}
}

/*
 * Runs a statement without users' triggers, nor those of foreign keys that are
 * "checked" otherwise.  The checks of others are made at its end, or, with "later",
 * by whoever called AfterTriggerBeginQuery().  Ends after "limit" rows; 0: all.
 */
static void
batch_statement(const char *query, const LeyserPurge *purge, Datum places, List *checked,
				bool later, int limit)
{
	Oid types[2] = {TEXTOID, TIDARRAYOID};
	Datum values[2] = {CStringGetTextDatum(purge->tenant_id), places};
	char nulls[] = {' ', places == (Datum) 0 ? 'n' : ' ', '\0'};
	SPIPlanPtr plan;
	int result;

	leyser_purge_triggers_off(query, checked);
	plan = SPI_prepare(query, 2, types);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\"", query);
	result = SPI_execute_snapshot(plan, values, nulls, InvalidSnapshot, InvalidSnapshot,
								  false, !later, limit);
	leyser_purge_triggers_on();
	if (result != SPI_OK_DELETE && result != SPI_OK_UPDATE &&
		result != SPI_OK_DELETE_RETURNING)
		elog(ERROR, "could not run \"%s\"", query);
}

/*
 * Deletes (or changes) with the rights of the table's owner, and checks that nothing
 * refers to deleted rows; of a circle that is done when all are.
 */
static int64
batch_execute(const LeyserPurge *purge, const LeyserDeletionStep *step, Relation rel,
			  const char *query, Datum places, int limit)
{
	LeyserOwnerState owner;
	bool later = step->together != 0;
	List *references =
		later || step->assignments != NULL ? NIL : leyser_references_to(rel);
	int64 rows;

	refuse_rules(rel);
	if (references != NIL)
		query =
			psprintf("%s RETURNING %s", query, leyser_reference_keys(rel, references));
	else if (limit > 0)
		query = psprintf("%s RETURNING NULL", query);
	leyser_owner_begin_as(&owner, rel->rd_rel->relowner);
	batch_statement(query, purge, places, references, later, limit);
	rows = (int64) SPI_processed;
	if (references != NIL)
		leyser_references_check(references, SPI_tuptable, SPI_processed);
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

/*
 * How many blocks hold four fifths of a batch, if "blocks" hold so many rows: a batch
 * that is full before its blocks are done goes through the dead rows again.
 */
static BlockNumber
window_for(const LeyserPurge *purge, double blocks, int64 rows)
{
	double window = batch_rows(purge) * 0.8 * blocks / Max(rows, 1);

	return (BlockNumber) Max(Min(window, MaxBlockNumber), 1);
}

/*
 * A batch of the rows in the next blocks.  Where they hold more, the rest is the next
 * batch's; the tenant's rows may lie together, so the number of blocks follows.
 */
static int64
window_delete(LeyserPurge *purge, LeyserDeletionStep *step, Relation rel)
{
	BlockNumber first = step->next_block;
	BlockNumber count = Min(step->window, step->blocks - first);
	char *query = psprintf("DELETE FROM ONLY %s WHERE %s AND ctid >= '(%u,0)'::tid "
						   "AND ctid < '(%u,0)'::tid AND $2 IS NULL",
						   leyser_relation_name(step->relation), step_condition(step),
						   first, first + count);
	int limit = batch_rows(purge);
	int64 deleted = batch_execute(purge, step, rel, query, (Datum) 0, limit);

	if (deleted >= limit)
	{
		step->window = Max(count / 2, 1);
		step->is_rest = true;
		return deleted;
	}
	step->next_block = first + count;
	if (!step->is_rest)
		step->window = Min(window_for(purge, count, deleted), count * 2.0);
	step->is_rest = false;
	return deleted;
}

/* Whether a query of the table gives a row. */
static bool
step_finds(const LeyserPurge *purge, const LeyserDeletionStep *step, Relation rel,
		   const char *condition)
{
	Oid types[1] = {TEXTOID};
	Datum values[1] = {CStringGetTextDatum(purge->tenant_id)};
	LeyserOwnerState owner;
	bool found;

	leyser_owner_begin_as(&owner, rel->rd_rel->relowner);
	if (SPI_execute_with_args(psprintf("SELECT FROM ONLY %s WHERE %s",
									   leyser_relation_name(step->relation), condition),
							  1, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look into \"%s\"", step->name);
	found = SPI_processed > 0;
	leyser_owner_end(&owner);
	return found;
}

/* ---- batches ---- */

static void
note_deleted(LeyserPurge *purge, LeyserDeletionStep *step, int64 deleted)
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
batch_tell(const LeyserPurge *purge, const LeyserDeletionStep *step)
{
	int64 left = step->places != NULL ? leyser_places_left(step->places) : 0;

	leyser_purge_tell("purge %lld: deleting from %s, %lld of %lld rows",
					  (long long) purge->purge_id, step->name, (long long) step->deleted,
					  (long long) Max(step->planned, step->deleted + left));
}

static void
step_collect(LeyserPurge *purge, LeyserDeletionStep *step, Relation rel)
{
	char *query = psprintf("SELECT ctid FROM ONLY %s WHERE %s",
						   leyser_relation_name(step->relation), step_condition(step));

	leyser_purge_tell("purge %lld: looking for rows of %s", (long long) purge->purge_id,
					  step->name);
	step->places = leyser_places_open(purge->deletion->context);
	leyser_places_collect(step->places, query, rel->rd_rel->relowner, purge->tenant_id);
}

/* TRUNCATE would run them with our rights. */
static bool
has_truncate_triggers(Relation rel)
{
	return rel->trigdesc != NULL && (rel->trigdesc->trig_truncate_before_statement ||
									 rel->trigdesc->trig_truncate_after_statement);
}

/*
 * Truncates a table that holds this tenant's rows and nobody else's; false where
 * it does not, or where somebody uses it, or has made a trigger since the plan.
 */
static bool
step_truncate(LeyserPurge *purge, LeyserDeletionStep *step, Relation rel)
{
	int64 rows;

	if (!step->whole ||
		!ConditionalLockRelationOid(step->relation, AccessExclusiveLock) ||
		has_truncate_triggers(rel))
		return false;
	if (step_finds(purge, step, rel, psprintf("%s IS NOT TRUE", step_condition(step))))
		return false;
	step_collect(purge, step, rel);
	rows = leyser_places_left(step->places);
	/* an open relation cannot be truncated */
	relation_close(rel, NoLock);
	if (SPI_execute(psprintf("TRUNCATE ONLY %s", leyser_relation_name(step->relation)),
					false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not truncate \"%s\"", step->name);
	note_deleted(purge, step, rows);
	return true;
}

/* Looks at the table in one way or the other; true where nothing is to be deleted. */
static bool
step_begin(LeyserPurge *purge, LeyserDeletionStep *step, Relation rel)
{
	int64 rows = step->planned - step->deleted;
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);

	if (step->assignments == NULL && blocks > 0 && rows >= blocks)
	{
		step->blocks = blocks;
		step->window = window_for(purge, blocks, rows);
		return false;
	}
	if (step->places == NULL)
		step_collect(purge, step, rel);
	return leyser_places_left(step->places) == 0;
}

static int64
step_delete(LeyserPurge *purge, LeyserDeletionStep *step, Relation rel)
{
	if (step->blocks > 0)
		return window_delete(purge, step, rel);
	return batch_execute(purge, step, rel, batch_query(step),
						 leyser_places_next(step->places, batch_rows(purge)), 0);
}

static bool
step_is_done(const LeyserDeletionStep *step)
{
	if (step->blocks > 0)
		return step->next_block >= step->blocks;
	return leyser_places_left(step->places) == 0;
}

bool
leyser_purge_batch(LeyserPurge *purge, LeyserDeletionStep *step, Relation rel)
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
circle_delete(LeyserPurge *purge, LeyserDeletionStep *step, Relation rel)
{
	while (leyser_places_left(step->places) > 0)
	{
		batch_tell(purge, step);
		note_deleted(purge, step,
					 batch_execute(purge, step, rel, batch_query(step),
								   leyser_places_next(step->places, purge->batch_size),
								   0));
		CHECK_FOR_INTERRUPTS();
	}
}

void
leyser_purge_circle(LeyserPurge *purge, LeyserDeletionStep *steps, Relation *rels,
					int count)
{
	LeyserOwnerState owner;

	for (int i = 0; i < count; i++)
		step_collect(purge, &steps[i], rels[i]);
	AfterTriggerBeginQuery();
	for (int i = 0; i < count; i++)
		circle_delete(purge, &steps[i], rels[i]);
	/* the checks plan queries of their own: restricted, too, whoever's code that runs */
	leyser_owner_begin_as(&owner, rels[0]->rd_rel->relowner);
	leyser_purge_triggers_off("", NIL);
	AfterTriggerEndQuery(NULL);
	leyser_purge_triggers_on();
	leyser_owner_end(&owner);
}
