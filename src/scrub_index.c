/*
 * scrub_index.c
 *		Indexes without a byte of deleted rows.
 *
 * Indexes keep copies of values in inner pages, so they are built anew, by the
 * server's own REINDEX, which may be cut off anywhere.  The rules:
 *
 *  - What an interrupted REINDEX CONCURRENTLY left behind is dropped first, so
 *    however often one fails, no more than one such index is there.
 *  - Nobody queues behind us: REINDEX and DROP INDEX CONCURRENTLY wait for
 *    transactions, not in the queue of a lock, so they may wait long.  The index of
 *    an exclusion constraint cannot be rebuilt like that: its lock is asked for
 *    only for a moment, again and again.
 *  - What was rebuilt is not rebuilt again when a later index has to be waited for.
 *  - An index that cannot be rebuilt as it is, whoever ends, is told.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "scrub_relation.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "owner.h"
#include "scrub_pace.h"

/* For transactions, while nobody queues. */
#define CONCURRENT_LOCK_TIMEOUT "60s"
/* For a lock that keeps everybody else from the table. */
#define EXCLUSIVE_LOCK_TIMEOUT "200ms"

typedef struct ScrubIndex
{
	Oid index;
	Oid file;       /* another one once it is rebuilt */
	bool left;      /* what an interrupted REINDEX CONCURRENTLY left behind */
	bool exclusion; /* cannot be rebuilt concurrently */
} ScrubIndex;

/* What is still to be rebuilt of a table, since it was vacuumed up to a limit. */
static struct
{
	Oid relation;
	TransactionId limit;
	List *files;
	int renewed;
} waiting = {InvalidOid, InvalidTransactionId, NIL, 0};

/* ---- which there are ---- */

/* Fills in the list of a table's indexes, allocated in "context". */
static int
indexes_read(Oid relation, ScrubIndex **indexes, MemoryContext context)
{
	static const char *const query =
		"SELECT i.indexrelid, c.relfilenode, l.is_left, i.indisexclusion "
		"FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid "
		"CROSS JOIN LATERAL (SELECT NOT i.indislive OR "
		"       (NOT i.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$')) l (is_left) "
		"WHERE i.indrelid = $1 ORDER BY l.is_left DESC, c.relpages, 1";
	Oid type = OIDOID;
	Datum value = ObjectIdGetDatum(relation);
	int count;

	SPI_connect();
	if (SPI_execute_with_args(query, 1, &type, &value, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the indexes of relation %u", relation);
	count = (int) SPI_processed;
	*indexes = MemoryContextAlloc(context, (count + 1) * sizeof(ScrubIndex));
	for (int i = 0; i < count; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		TupleDesc columns = SPI_tuptable->tupdesc;
		bool null;

		(*indexes)[i].index = DatumGetObjectId(SPI_getbinval(row, columns, 1, &null));
		(*indexes)[i].file = DatumGetObjectId(SPI_getbinval(row, columns, 2, &null));
		(*indexes)[i].left = DatumGetBool(SPI_getbinval(row, columns, 3, &null));
		(*indexes)[i].exclusion = DatumGetBool(SPI_getbinval(row, columns, 4, &null));
	}
	SPI_finish();
	return count;
}

static int
indexes_of(Oid relation, ScrubIndex **indexes)
{
	MemoryContext caller = CurrentMemoryContext;
	int count;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	count = indexes_read(relation, indexes, caller);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return count;
}

/* At the first call for a table and a limit: all are to be rebuilt. */
static void
indexes_await(Oid relation, TransactionId limit, const ScrubIndex *indexes, int count)
{
	MemoryContext caller;

	if (waiting.relation == relation && waiting.limit == limit)
		return;
	caller = MemoryContextSwitchTo(TopMemoryContext);
	list_free(waiting.files);
	waiting.files = NIL;
	for (int i = 0; i < count; i++)
		waiting.files = lappend_oid(waiting.files, indexes[i].file);
	MemoryContextSwitchTo(caller);
	waiting.relation = relation;
	waiting.limit = limit;
	waiting.renewed = 0;
}

/* ---- one ---- */

static void
index_renew(const ScrubIndex *index)
{
	const char *statement = "REINDEX INDEX CONCURRENTLY %s";
	bool exclusive = index->exclusion && !index->left;

	if (index->left)
		statement = "DROP INDEX CONCURRENTLY %s";
	else if (exclusive)
		statement = "REINDEX INDEX %s";
	SetConfigOption("lock_timeout",
					exclusive ? EXCLUSIVE_LOCK_TIMEOUT : CONCURRENT_LOCK_TIMEOUT,
					PGC_SUSET, PGC_S_OVERRIDE);
	if (!leyser_scrub_run(statement, index->index) || index->left)
		return;
	waiting.renewed++;
	leyser_scrub_pace_after((double) leyser_scrub_pages_of(waiting.relation) +
							leyser_scrub_pages_of(index->index));
}

/* In PG_CATCH. */
static int
index_error_code(MemoryContext context)
{
	ErrorData *error;
	int code;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	code = leyser_owner_error_code(error);
	FreeErrorData(error);
	return code;
}

/* False where the index cannot be rebuilt, which the result tells. */
static bool
index_try(const ScrubIndex *index, LeyserScrubResult *result)
{
	MemoryContext caller = CurrentMemoryContext;

	PG_TRY();
	{
		index_renew(index);
	}
	PG_CATCH();
	{
		result->failed_code = index_error_code(caller);
		if (index->left || leyser_scrub_may_pass(result->failed_code))
			PG_RE_THROW();
		HOLD_INTERRUPTS();
		result->failed_index = index->index;
		EmitErrorReport();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return !OidIsValid(result->failed_index);
}

/* ---- all ---- */

static void
indexes_renew(const ScrubIndex *indexes, int count, LeyserScrubResult *result)
{
	char before[32];

	snprintf(before, sizeof(before), "%dms", LockTimeout);
	PG_TRY();
	{
		for (int i = 0; i < count; i++)
		{
			if (!indexes[i].left && !list_member_oid(waiting.files, indexes[i].file))
				continue;
			if (!index_try(&indexes[i], result))
				break;
		}
	}
	PG_FINALLY();
	{
		SetConfigOption("lock_timeout", before, PGC_SUSET, PGC_S_OVERRIDE);
	}
	PG_END_TRY();
}

void
leyser_scrub_indexes(Oid relation, TransactionId limit, LeyserScrubResult *result)
{
	int failed = leyser_scrub_failed_files();
	ScrubIndex *indexes;
	int count;

	memset(result, 0, sizeof(*result));
	count = indexes_of(relation, &indexes);
	indexes_await(relation, limit, indexes, count);
	indexes_renew(indexes, count, result);
	result->indexes = waiting.renewed;
	if (!OidIsValid(result->failed_index))
		waiting.relation = InvalidOid;
	pfree(indexes);
	failed = leyser_scrub_failed_files() - failed;
	if (failed > 0)
		leyser_scrub_note(result, "%d old index files could not be overwritten", failed);
}
