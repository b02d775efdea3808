/*
 * purge_reference.h
 *		What still refers to the rows that a batch deletes.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_PURGE_REFERENCE_H
#define LEYSER_PURGE_REFERENCE_H

#include "leyser.h"

#include "executor/spi.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"

/* The foreign keys to a relation, by oid, that can be checked for a batch at once. */
extern List *leyser_references_to(Relation rel);

/* The columns that they refer to, for a RETURNING list. */
extern char *leyser_reference_keys(Relation rel, List *references);

/*
 * After a statement, in its transaction and connection: LY008 where a row refers to
 * one of those that it returned.
 */
extern void leyser_references_check(List *references, SPITupleTable *deleted,
									uint64 rows);

#endif /* LEYSER_PURGE_REFERENCE_H */
