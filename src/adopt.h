/*
 * adopt.h
 *		Online adoption: steps that take short locks, one transaction each.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_ADOPT_H
#define LEYSER_ADOPT_H

#include "leyser.h"

#include "nodes/pg_list.h"

/*
 * Builds an index CONCURRENTLY, in transactions of its own; the caller is in one
 * without a snapshot, and without a connection to SPI, and so it is afterwards.
 * Columns are a list of names, whose memory outlives transactions.
 */
extern void leyser_adopt_build_index(Oid relation, const char *name, List *columns,
									 bool unique);

#endif /* LEYSER_ADOPT_H */
