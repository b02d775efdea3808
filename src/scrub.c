/*
 * scrub.c
 *		Tables without a byte of deleted rows.
 *
 * VACUUM takes out row versions, the page pass what they leave in the pages.
 * Every step may be cut off anywhere and is simply done again: VACUUM is the
 * server's own, a page is changed and logged at once.
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
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "relation.h"
#include "scrub_page.h"

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

bool
leyser_scrub_may_pass(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
			return true;
		default:
			return false;
	}
}

/* Runs a statement in which %s stands for the relation's name, if it is still there. */
bool
leyser_scrub_run(const char *format, Oid relation)
{
	MemoryContext caller = CurrentMemoryContext;
	char *name;
	char *sql;

	StartTransactionCommand();
	name = leyser_relation_name(relation);
	if (name != NULL)
		name = MemoryContextStrdup(caller, name);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	if (name == NULL)
		return false;
	sql = psprintf(format, name);
	leyser_scrub_utility(sql);
	pfree(sql);
	pfree(name);
	return true;
}

/* ---- tables ---- */

/* Raises an error where the pages of a relation of this kind cannot be scrubbed. */
static void
refuse_kind(Relation relation)
{
	const char *name = RelationGetRelationName(relation);
	char kind = relation->rd_rel->relkind;

	if (kind != RELKIND_RELATION && kind != RELKIND_TOASTVALUE && kind != RELKIND_MATVIEW)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("cannot scrub \"%s\"", name),
				 errdetail("Only tables and materialized views can be scrubbed."),
				 errhint("Scrub a partitioned table's partitions; rebuild an index "
						 "with REINDEX.")));
	if (relation->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot scrub temporary table \"%s\"", name),
						errdetail("Its pages are known to its own session only."),
						errhint("Drop the table.")));
	if (relation->rd_tableam != GetHeapamTableAmRoutine())
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot scrub \"%s\"", name),
						errdetail("Its access method is not heap."),
						errhint("ALTER TABLE … SET ACCESS METHOD heap.")));
}

/*
 * Opens a table, TOAST table or materialized view whose pages can be scrubbed;
 * NULL where it is gone.  Errors: 42809 for every other kind of relation, 0A000
 * for temporary tables and other access methods than heap.
 */
Relation
leyser_scrub_open(Oid relation, LOCKMODE lock)
{
	Relation opened = try_relation_open(relation, lock);

	if (opened != NULL)
		refuse_kind(opened);
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
	leyser_scrub_page_pass(pass);
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

/*
 * Pages of an unlogged table do not tell when they were changed: what is found there
 * may be others' bytes, but it may not.  So it is zeroed once more.
 */
static bool
tells_changes(Oid relation)
{
	return get_rel_persistence(relation) == RELPERSISTENCE_PERMANENT;
}

bool
leyser_scrub_verify(Oid relation, TransactionId limit, XLogRecPtr since,
					LeyserScrubResult *result)
{
	MemoryContext caller = CurrentMemoryContext;
	bool looks;

	memset(result, 0, sizeof(*result));
	StartTransactionCommand();
	looks = tells_changes(relation);
	leyser_scrub_pages(relation, !looks, limit, since, result);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return (result->zeroed == 0 || !looks) && result->leftover == 0;
}
