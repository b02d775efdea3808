/*
 * scrub.h
 *		Takes the bytes of deleted rows out of files.
 *
 * All of these run in a process of their own that is in no transaction: they
 * start and commit transactions themselves, and raise whatever VACUUM, REINDEX
 * and ANALYZE raise.  The order: tables until nothing is left over, then their
 * indexes, then statistics, then WAL.
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
	int64 zeroed;     /* pages that held bytes outside of rows */
	int64 leftover;   /* row versions that cannot be removed yet */
	int indexes;      /* that were rebuilt */
	char note[512];   /* what could not be done, or empty */
	Oid failed_index; /* that cannot be rebuilt as it is, or InvalidOid, */
	int failed_code;  /* and with which SQLSTATE that failed */
} LeyserScrubResult;

/*
 * From now on (or no longer) every file that a transaction of this process drops
 * (by TRUNCATE, REINDEX, REFRESH, DROP) is overwritten before its blocks are freed.
 */
extern void leyser_scrub_dropped_files(bool on);

/* How many such files could not be overwritten since the process started. */
extern int leyser_scrub_failed_files(void);

/*
 * How many files such a transaction dropped that perhaps were not overwritten, for
 * the server crashed at that moment; asked for again until they are forgotten.
 */
extern int leyser_scrub_lost_files(void);
extern void leyser_scrub_forget_lost_files(void);

/*
 * From now on the functions below look at no more than so many pages a second, or,
 * with 0, go as fast as they can; returns what was said before.
 */
extern int leyser_scrub_pace(int pages);

/*
 * Vacuums a table and its TOAST table and zeroes all bytes of their pages that
 * belong to no row.  leftover counts row versions that were deleted, or whose
 * insertion failed, by a transaction before "limit", and that are still there:
 * do it again later.  What later transactions leave is other people's.  An
 * invalid limit means now.
 */
extern void leyser_scrub_table(Oid relation, TransactionId limit,
							   LeyserScrubResult *result);

/*
 * Looks whether leyser_scrub_table() has nothing left to do.  Pages that others
 * changed after "since", which was before that call, may hold their bytes; those of
 * unlogged tables, which do not tell when, are zeroed again.
 */
extern bool leyser_scrub_verify(Oid relation, TransactionId limit, XLogRecPtr since,
								LeyserScrubResult *result);

/*
 * Builds all indexes of a table anew (TOAST tables' hold no data), and removes
 * what an interrupted call left behind.  After an error, call it again: for the
 * same limit, of the table's VACUUM, it goes on where it was.
 */
extern void leyser_scrub_indexes(Oid relation, TransactionId limit,
								 LeyserScrubResult *result);

/*
 * Deletes what is known about the contents of these tables (and their parents),
 * collects it anew, and scrubs the catalogues that held it.
 */
extern void leyser_scrub_statistics(List *relations, LeyserScrubResult *result);

/*
 * Sees that no file in pg_wal holds anything older than *end, which the first
 * call sets (give it InvalidXLogRecPtr) to a place after everything written so
 * far; false while something holds older segments back (see note).
 */
extern bool leyser_scrub_wal(XLogRecPtr *end, LeyserScrubResult *result);

/*
 * After that, and once the end is in a row that standbys see: helps those that are
 * connected to clear their own pg_wal, with some WAL; takes ten seconds where there
 * are any.  False while one has not replayed up to end (see note): call it again.
 */
extern bool leyser_scrub_standbys(XLogRecPtr end, LeyserScrubResult *result);

/*
 * On a standby: the same for its own pg_wal, once it has replayed up to end;
 * false: not yet, call again.
 */
extern bool leyser_scrub_standby_wal(XLogRecPtr end, LeyserScrubResult *result);

/*
 * Whether a statement that failed may do better the next time, with nobody's doing: a
 * lock, a cancel or a lack of space was the reason.
 */
extern bool leyser_scrub_may_pass(int sqlstate);

/* Runs one statement (VACUUM, REINDEX …) as if a client had sent it. */
extern void leyser_scrub_utility(const char *sql);

#endif /* LEYSER_SCRUB_H */
