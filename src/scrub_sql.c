/*
 * scrub_sql.c
 *		The scrub's SQL functions, for superusers.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "scrub_relation.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/tableam.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "tcop/utility.h"
#include "utils/rel.h"

#include "compat.h"

PG_FUNCTION_INFO_V1(leyser_scrub);
PG_FUNCTION_INFO_V1(leyser_residue);

static void
relation_is_gone(Oid relation)
{
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
					errmsg("relation with OID %u does not exist", relation)));
}

/*
 * scrub(relation regclass) → bigint: zeroes what no row of the table and its
 * TOAST table holds; the number of pages that had such bytes.  It runs in its
 * caller's transaction, so it cannot VACUUM.  Errors: 42809 for what is no table,
 * 0A000 for temporary tables and other access methods, 42P01 for what is not there.
 */
Datum
leyser_scrub(PG_FUNCTION_ARGS)
{
	Oid relation = PG_GETARG_OID(0);
	LeyserScrubResult result = {0};
	Relation opened;

	leyser_require_preloaded();
	PreventCommandDuringRecovery("leyser.scrub()");
	opened = leyser_scrub_open(relation, ShareUpdateExclusiveLock);
	if (opened == NULL)
		relation_is_gone(relation);
	leyser_scrub_pages(relation, true, InvalidTransactionId, InvalidXLogRecPtr, &result);
	if (result.leftover > 0)
		ereport(NOTICE,
				(errmsg("%lld dead row versions remain in \"%s\"",
						(long long) result.leftover, RelationGetRelationName(opened)),
				 errhint("Run VACUUM and scrub again.")));
	relation_close(opened, NoLock);
	PG_RETURN_INT64(result.zeroed);
}

/* How often the needle occurs in one page. */
static int64
page_occurrences(const char *page, const bytea *needle)
{
	const char *at = page;
	int64 found = 0;

	while ((at = memmem(at, page + BLCKSZ - at, VARDATA_ANY(needle),
						VARSIZE_ANY_EXHDR(needle))) != NULL)
	{
		found++;
		at++;
	}
	return found;
}

static int64
relation_occurrences(Relation relation, const bytea *needle)
{
	BufferAccessStrategy strategy = GetAccessStrategy(BAS_BULKREAD);
	BlockNumber blocks = RelationGetNumberOfBlocks(relation);
	int64 found = 0;

	for (BlockNumber block = 0; block < blocks; block++)
	{
		Buffer buffer;

		CHECK_FOR_INTERRUPTS();
		buffer = ReadBufferExtended(relation, MAIN_FORKNUM, block, RBM_NORMAL, strategy);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		found += page_occurrences(BufferGetPage(buffer), needle);
		UnlockReleaseBuffer(buffer);
	}
	FreeAccessStrategy(strategy);
	return found;
}

/* In a relation, its TOAST table and the indexes of both. */
static int64
family_occurrences(Oid relation, const bytea *needle)
{
	Relation opened = try_relation_open(relation, AccessShareLock);
	int64 found = 0;

	if (opened == NULL)
		relation_is_gone(relation);
	if (RELKIND_HAS_STORAGE(opened->rd_rel->relkind))
		found += relation_occurrences(opened, needle);
	if (opened->rd_rel->relhasindex)
	{
		ListCell *cell;

		foreach (cell, RelationGetIndexList(opened))
			found += family_occurrences(lfirst_oid(cell), needle);
	}
	if (OidIsValid(opened->rd_rel->reltoastrelid))
		found += family_occurrences(opened->rd_rel->reltoastrelid, needle);
	relation_close(opened, NoLock);
	return found;
}

/* Raises an error where there are no pages, or none that this session can read. */
static void
refuse_without_pages(Oid relation)
{
	Relation opened = try_relation_open(relation, AccessShareLock);

	if (opened == NULL)
		relation_is_gone(relation);
	if (!RELKIND_HAS_STORAGE(opened->rd_rel->relkind))
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"%s\" has no pages", RelationGetRelationName(opened)),
						errdetail("Views, foreign tables and partitioned relations hold "
								  "nothing themselves."),
						errhint("Ask for the partitions, or for what a view reads.")));
	if (RELATION_IS_OTHER_TEMP(opened))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot read temporary table \"%s\" of another session",
							   RelationGetRelationName(opened)),
						errdetail("Its pages are known to its own session only."),
						errhint("Ask in that session, or end it.")));
	if (RELKIND_HAS_TABLE_AM(opened->rd_rel->relkind) &&
		opened->rd_tableam != GetHeapamTableAmRoutine())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot read \"%s\"", RelationGetRelationName(opened)),
				 errdetail("Its access method is not heap."),
				 errhint("Ask what its access method offers to look at its storage.")));
	relation_close(opened, NoLock);
}

/*
 * residue(relation regclass, needle bytea) → bigint: how often a byte string
 * occurs in the pages of a relation, its TOAST table and their indexes: in rows,
 * visible or not, and between them.  Errors: 22023 for an empty needle, 42809 for
 * what has no pages, 0A000 for temporary tables of other sessions and other access
 * methods, 42P01 for what is not there.
 */
Datum
leyser_residue(PG_FUNCTION_ARGS)
{
	Oid relation = PG_GETARG_OID(0);
	bytea *needle = PG_GETARG_BYTEA_PP(1);

	leyser_require_preloaded();
	if (VARSIZE_ANY_EXHDR(needle) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the needle is empty"),
				 errhint("Search for at least one byte.")));
	refuse_without_pages(relation);
	PG_RETURN_INT64(family_occurrences(relation, needle));
}
