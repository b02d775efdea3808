/*
 * scrub.h
 *		Takes the bytes of deleted rows out of files.
 *
 * All of these run in a process of their own that is in no transaction: they
 * start and commit transactions themselves.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_SCRUB_H
#define LEYSER_SCRUB_H

#include "leyser.h"

#include "access/xlogdefs.h"
#include "nodes/pg_list.h"

typedef struct LeyserScrubResult
{
	int64 pages;    /* that were looked at */
	int64 zeroed;   /* that held bytes outside of rows */
	int64 leftover; /* row versions that cannot be removed yet */
	int indexes;    /* that were rebuilt */
	char note[512]; /* what could not be done, or empty */
} LeyserScrubResult;

/*
 * Vacuums a table and its TOAST table and zeroes all bytes of their pages that
 * belong to no row.  Where leftover is not 0, somebody may still see what was
 * deleted: do it again later.
 */
extern void leyser_scrub_table(Oid relation, LeyserScrubResult *result);

/* Only looks: whether leyser_scrub_table() has nothing left to do. */
extern bool leyser_scrub_verify(Oid relation, LeyserScrubResult *result);

/* Builds all indexes of a table and its TOAST table anew and overwrites the old files. */
extern void leyser_scrub_indexes(Oid relation, LeyserScrubResult *result);

/*
 * Deletes what is known about the contents of these tables (and their parents),
 * collects it anew, and scrubs the catalogues that held it.
 */
extern void leyser_scrub_statistics(List *relations, LeyserScrubResult *result);

/* Overwrites files that an interrupted call left behind; before anything else. */
extern void leyser_scrub_left_files(void);

/*
 * Sees that pg_wal holds nothing older than the end of WAL at the call, which it
 * returns in end; false while something (see blockers) holds older segments back.
 */
extern bool leyser_scrub_wal(XLogRecPtr *end);

/* On a standby: the same for its own pg_wal, once it has replayed up to end. */
extern bool leyser_scrub_standby_wal(XLogRecPtr end);

/* Runs one statement (VACUUM, REINDEX …) as if a client had sent it. */
extern void leyser_run_utility(const char *sql);

/* Prepares the hidden part of TRUNCATE and REFRESH: see scrub_file.c. */
extern void leyser_scrub_link_files(Oid relation);
extern void leyser_scrub_linked_files(Oid relation, LeyserScrubResult *result);

#endif /* LEYSER_SCRUB_H */
