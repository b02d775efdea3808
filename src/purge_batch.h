/*
 * purge_batch.h
 *		The steps of a deletion, and what empties their tables.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_PURGE_BATCH_H
#define LEYSER_PURGE_BATCH_H

#include "purge.h"

#include "purge_places.h"
#include "storage/block.h"
#include "utils/relcache.h"

/* A row of purge_table that deletes, or erases columns. */
typedef struct LeyserDeletionStep
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
	bool is_rest;       /* a batch was full before its blocks were done */
} LeyserDeletionStep;

struct LeyserDeletion
{
	MemoryContext context;
	bool clean; /* nobody who could write for the tenant was left when it began */
	int64 found;
	int count;
	int current;
	LeyserDeletionStep *steps;
};

/*
 * One batch of a table, in the caller's transaction; closes the table.  True where
 * the step is done.
 */
extern bool leyser_purge_batch(LeyserPurge *purge, LeyserDeletionStep *step,
							   Relation rel);

/*
 * Deletes from all tables of a circle in this transaction.  What is to go is found
 * in all of them before anything goes, for their conditions may read each other.
 */
extern void leyser_purge_circle(LeyserPurge *purge, LeyserDeletionStep *steps,
								Relation *rels, int count);

#endif /* LEYSER_PURGE_BATCH_H */
