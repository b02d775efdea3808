/*
 * scrub.c
 *		Tables and their indexes without a byte of deleted rows.
 *
 * VACUUM takes out row versions, the page pass what they leave in the pages;
 * indexes keep copies of values in inner pages, so they are built anew.  Every
 * step may be cut off anywhere and is simply done again: VACUUM and REINDEX are
 * the server's own, a page is changed and logged at once.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "scrub_relation.h"

#include "access/heapam.h"
#include "access/relation.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "scrub_page.h"

/* REINDEX waits that long for transactions that are older than its phases. */
#define REINDEX_LOCK_TIMEOUT "60s"
/* An exclusion constraint's index is locked against readers: nobody shall queue long. */
#define EXCLUSIVE_LOCK_TIMEOUT "2s"

/* Calls of leyser_scrub_table() for tables of users. */
uint64 leyser_scrub_count = 0;

void
leyser_scrub_note(LeyserScrubResult *result, const char *format, ...)
{
	Size used = strlen(result->note);
	va_list arguments;

	if (used > 0)
		used += strlcpy(result->note + used, "; ", sizeof(result->note) - used);
	if (used >= sizeof(result->note))
		return;
	va_start(arguments, format);
	vsnprintf(result->note + used, sizeof(result->note) - used, format, arguments);
	va_end(arguments);
}

/* Runs a statement in which %s stands for the relation's name, if it is still there. */
bool
leyser_scrub_run(const char *format, Oid relation)
{
	MemoryContext caller = CurrentMemoryContext;
	char *name = NULL;
	char *sql;

	StartTransactionCommand();
	if (get_rel_name(relation) != NULL)
		name = MemoryContextStrdup(
			caller,
			quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)),
									   get_rel_name(relation)));
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	if (name == NULL)
		return false;
	sql = psprintf(format, name);
	leyser_run_utility(sql);
	pfree(sql);
	pfree(name);
	return true;
}

/* ---- tables ---- */

/*
 * Opens a table, TOAST table or materialized view whose pages can be scrubbed;
 * NULL where it is gone.  Errors: 42809 for every other kind of relation.
 */
Relation
leyser_scrub_open(Oid relation, LOCKMODE lock)
{
	Relation opened = try_relation_open(relation, lock);
	char kind;

	if (opened == NULL)
		return NULL;
	kind = opened->rd_rel->relkind;
	if ((kind != RELKIND_RELATION && kind != RELKIND_TOASTVALUE &&
		 kind != RELKIND_MATVIEW) ||
		opened->rd_tableam != GetHeapamTableAmRoutine() ||
		opened->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot scrub \"%s\"", RelationGetRelationName(opened)),
				 errdetail("Only lasting tables and materialized views of access method "
						   "heap can be scrubbed."),
				 errhint("Scrub a partitioned table's partitions; rebuild an index with "
						 "REINDEX.")));
	return opened;
}

/* The page pass over a relation and its TOAST table. */
static void
scrub_pass(LeyserPagePass *pass, Oid relation)
{
	LOCKMODE lock = pass->zero ? ShareUpdateExclusiveLock : AccessShareLock;
	Oid toast;

	pass->relation = leyser_scrub_open(relation, lock);
	if (pass->relation == NULL)
		return;
	toast = pass->relation->rd_rel->reltoastrelid;
	leyser_page_pass(pass);
	relation_close(pass->relation, NoLock);
	if (OidIsValid(toast))
		scrub_pass(pass, toast);
}

/* In a transaction: the page pass over a relation and its TOAST table. */
void
leyser_scrub_pages(Oid relation, bool zero, TransactionId limit, XLogRecPtr since,
				   LeyserScrubResult *result)
{
	LeyserPagePass pass = {.zero = zero,
						   .report = MyBackendType == B_BG_WORKER,
						   .limit = limit,
						   .since = since,
						   .result = result};

	if (!TransactionIdIsValid(limit))
		pass.limit = ReadNextTransactionId();
	scrub_pass(&pass, relation);
}

void
leyser_scrub_table(Oid relation, TransactionId limit, LeyserScrubResult *result)
{
	MemoryContext caller = CurrentMemoryContext;

	memset(result, 0, sizeof(*result));
	if (!IsCatalogRelationOid(relation))
		leyser_scrub_count++;
	if (!TransactionIdIsValid(limit))
		limit = ReadNextTransactionId();
	/* TRUNCATE would free pages that nobody has overwritten */
	if (!leyser_scrub_run(
			"VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF, DISABLE_PAGE_SKIPPING, "
			"PARALLEL 0) %s",
			relation))
		return;
	StartTransactionCommand();
	leyser_scrub_pages(relation, true, limit, InvalidXLogRecPtr, result);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
}

bool
leyser_scrub_verify(Oid relation, TransactionId limit, XLogRecPtr since,
					LeyserScrubResult *result)
{
	MemoryContext caller = CurrentMemoryContext;

	memset(result, 0, sizeof(*result));
	StartTransactionCommand();
	leyser_scrub_pages(relation, false, limit, since, result);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return result->zeroed == 0 && result->leftover == 0;
}

/* ---- indexes ---- */

typedef struct ScrubIndex
{
	Oid index;
	bool broken;    /* what an interrupted REINDEX CONCURRENTLY left behind */
	bool exclusion; /* cannot be rebuilt concurrently */
} ScrubIndex;

/* Fills in the list of a table's indexes, allocated in "context". */
static int
indexes_of(Oid relation, ScrubIndex **indexes, MemoryContext context)
{
	static const char *const query =
		"SELECT i.indexrelid, NOT i.indislive OR "
		"       (NOT i.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$'), "
		"i.indisexclusion "
		"FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid "
		"WHERE i.indrelid = $1 ORDER BY c.relpages, 1";
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
		(*indexes)[i].broken = DatumGetBool(SPI_getbinval(row, columns, 2, &null));
		(*indexes)[i].exclusion = DatumGetBool(SPI_getbinval(row, columns, 3, &null));
	}
	SPI_finish();
	return count;
}

static void
index_renew(const ScrubIndex *index, LeyserScrubResult *result)
{
	const char *statement = "REINDEX INDEX CONCURRENTLY %s";

	if (index->broken)
		statement = "DROP INDEX %s";
	else if (index->exclusion)
		statement = "REINDEX INDEX %s";
	SetConfigOption("lock_timeout",
					index->exclusion ? EXCLUSIVE_LOCK_TIMEOUT : REINDEX_LOCK_TIMEOUT,
					PGC_SUSET, PGC_S_OVERRIDE);
	if (leyser_scrub_run(statement, index->index) && !index->broken)
		result->indexes++;
}

static void
indexes_renew(const ScrubIndex *indexes, int count, LeyserScrubResult *result)
{
	char before[32];

	snprintf(before, sizeof(before), "%dms", LockTimeout);
	PG_TRY();
	{
		for (int i = 0; i < count; i++)
			index_renew(&indexes[i], result);
	}
	PG_FINALLY();
	{
		SetConfigOption("lock_timeout", before, PGC_SUSET, PGC_S_OVERRIDE);
	}
	PG_END_TRY();
}

void
leyser_scrub_indexes(Oid relation, LeyserScrubResult *result)
{
	MemoryContext caller = CurrentMemoryContext;
	int failed = leyser_scrub_failed_files();
	ScrubIndex *indexes;
	int count;

	memset(result, 0, sizeof(*result));
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	count = indexes_of(relation, &indexes, caller);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	indexes_renew(indexes, count, result);
	pfree(indexes);
	failed = leyser_scrub_failed_files() - failed;
	if (failed > 0)
		leyser_scrub_note(result, "%d old index files could not be overwritten", failed);
}
