/*
 * scrub_relation.h
 *		What the parts of the scrub share.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_SCRUB_RELATION_H
#define LEYSER_SCRUB_RELATION_H

#include "scrub.h"

#include "storage/lockdefs.h"
#include "utils/relcache.h"

/* Calls of leyser_scrub_table() for tables of users. */
extern uint64 leyser_scrub_count;

/* Adds to the note of a result. */
extern void leyser_scrub_note(LeyserScrubResult *result, const char *format, ...)
	pg_attribute_printf(2, 3);

/* Runs a statement in which %s stands for a relation's name; false where it is gone. */
extern bool leyser_scrub_run(const char *format, Oid relation);

/* Opens what can be scrubbed, or raises 42809 or 0A000; NULL where it is gone. */
extern Relation leyser_scrub_open(Oid relation, LOCKMODE lock);

/* Writes zeros over a file; false where there is none.  Raises no error. */
extern bool leyser_scrub_overwrite(const char *path);

/* In a transaction: the page pass over a relation and its TOAST table. */
extern void leyser_scrub_pages(Oid relation, bool zero, TransactionId limit,
							   XLogRecPtr since, LeyserScrubResult *result);

#endif /* LEYSER_SCRUB_RELATION_H */
