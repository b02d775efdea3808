/*
 * purge_scrub.c
 *		What all purges share that are through with deleting.
 *
 * leyser.next_scrub() says what comes next, from the tables: first every table
 * that was touched is vacuumed, its pages are zeroed and its indexes rebuilt;
 * then what the statistics know of it; then a look whether all is gone; then the
 * write-ahead log.  Each is noted when it is done, so it is not done again by a
 * worker that takes over; doing it twice would do no harm.
 *
 * A table that several purges touched is scrubbed once.  No purge ends its
 * deletion meanwhile: both are done by this one worker.
 *
 * What still sees deleted rows, or holds old segments of the log, is named in
 * purge_blocker, and looked for again each BLOCKED_WAIT.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "purge.h"

#include "access/xlog.h"
#include "access/transam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"

#include "relation.h"
#include "scrub.h"

#define BLOCKED_WAIT 1000 /* milliseconds between looks for blockers */

static TimestampTz next_look = 0;

/* Something was not done, and others have to end before it can be. */
static void
scrub_pause(void)
{
	next_look = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), BLOCKED_WAIT);
}

/* As leyser.next_scrub() numbers them. */
typedef enum ScrubPhase
{
	PHASE_NONE,
	PHASE_TABLE,
	PHASE_STATISTICS,
	PHASE_VERIFY,
	PHASE_WAL,
	PHASE_FINISH
} ScrubPhase;

/* What comes next, about which table, as leyser.next_scrub() says. */
typedef struct ScrubNext
{
	ScrubPhase phase;
	Oid relation;
	TransactionId limit; /* transactions before it deleted */
	XLogRecPtr since;    /* what others changed later is theirs */
	bool indexes;        /* they are to be rebuilt */
	bool refresh;        /* a materialized view is to be filled anew */
	int pace;            /* pages a second, or 0 */
} ScrubNext;

static Datum
next_column(int column)
{
	bool isnull;
	Datum value =
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? (Datum) 0 : value;
}

static void
scrub_next(ScrubNext *next)
{
	memset(next, 0, sizeof(ScrubNext));
	leyser_purge_begin();
	next->phase = (ScrubPhase) leyser_purge_query("SELECT * FROM leyser.next_scrub()", 0);
	if (next->phase != PHASE_NONE)
	{
		next->relation = DatumGetObjectId(next_column(2));
		next->limit = DatumGetTransactionId(next_column(3));
		next->since = DatumGetLSN(next_column(4));
		next->indexes = DatumGetBool(next_column(5));
		next->refresh = DatumGetBool(next_column(6));
		next->pace = DatumGetInt32(next_column(7));
	}
	leyser_purge_commit();
}

/* Notes what was done: SELECT leyser.function(relation, …). */
static void
scrub_note(const char *function, Oid relation, XLogRecPtr lsn, bool done,
		   const LeyserScrubResult *result)
{
	Oid types[6] = {OIDOID, LSNOID, BOOLOID, INT8OID, INT4OID, TEXTOID};
	Datum values[6] = {ObjectIdGetDatum(relation),
					   LSNGetDatum(lsn),
					   BoolGetDatum(done),
					   Int64GetDatum(result->zeroed),
					   Int32GetDatum(result->indexes),
					   (Datum) 0};
	char nulls[] = {' ', ' ', ' ', ' ', ' ', 'n', '\0'};

	leyser_purge_begin();
	if (result->note[0] != '\0')
	{
		values[5] = CStringGetTextDatum(result->note);
		nulls[5] = ' ';
	}
	if (SPI_execute_with_args(
			psprintf("SELECT leyser.%s($1, $2, $3, $4, $5, $6)", function), 6, types,
			values, nulls, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not note a scrub");
	leyser_purge_commit();
}

/* How a table is called in messages; NULL where it is gone. */
static char *
scrub_table_name(Oid relation, bool *is_view)
{
	MemoryContext caller = CurrentMemoryContext;
	char *name;

	leyser_purge_begin();
	name = leyser_relation_name(relation);
	if (name != NULL)
	{
		*is_view = get_rel_relkind(relation) == RELKIND_MATVIEW;
		name = MemoryContextStrdup(caller, name);
	}
	leyser_purge_commit();
	MemoryContextSwitchTo(caller);
	return name;
}

/* What was done for a table whose indexes have to be waited for. */
typedef struct ScrubbedPages
{
	Oid relation;
	TransactionId limit;
	XLogRecPtr since; /* what others changed later is theirs */
	int64 zeroed;
} ScrubbedPages;

static ScrubbedPages scrubbed_pages = {InvalidOid, InvalidTransactionId,
									   InvalidXLogRecPtr, 0};

static void
refresh_view(void *name)
{
	leyser_scrub_utility(psprintf("REFRESH MATERIALIZED VIEW %s", (char *) name));
}

/* Fills a view anew; false where that is left to somebody else. */
static bool
scrub_refresh(Oid relation, const char *name)
{
	Oid types[2] = {OIDOID, TEXTOID};
	Datum values[2] = {ObjectIdGetDatum(relation)};
	ErrorData *error = leyser_purge_guard(refresh_view, pstrdup(name));

	if (error == NULL)
		return true;
	if (leyser_scrub_may_pass(error->sqlerrcode))
		ReThrowError(error);
	leyser_purge_begin();
	values[1] = CStringGetTextDatum(unpack_sql_state(error->sqlerrcode));
	if (SPI_execute_with_args("SELECT leyser.note_refresh_failed($1, $2)", 2, types,
							  values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not note an error");
	leyser_purge_commit();
	return false;
}

/*
 * The rows and pages of a table; false where row versions are left over, or somebody
 * else is to refresh it.  A materialized view is filled anew before its former
 * indexes and pages matter: they are other files, which are overwritten as they are
 * dropped.
 */
static bool
scrub_pages(const ScrubNext *next, const char *name, bool is_view)
{
	ScrubbedPages *done = &scrubbed_pages;
	LeyserScrubResult result = {0};

	if (done->relation == next->relation && done->limit == next->limit)
		return true;
	done->relation = InvalidOid;
	done->since = GetXLogInsertRecPtr();
	leyser_purge_tell("purge: scrubbing %s", name);
	if (is_view && next->refresh && !scrub_refresh(next->relation, name))
		return false;
	leyser_scrub_table(next->relation, next->limit, &result);
	done->zeroed = result.zeroed;
	if (result.leftover > 0)
	{
		scrub_note("note_scrubbed", next->relation, done->since, false, &result);
		scrub_pause();
		return false;
	}
	done->relation = next->relation;
	done->limit = next->limit;
	return true;
}

/* Names an index that cannot be rebuilt, and fails. */
static void
scrub_index_failed(const ScrubNext *next, const LeyserScrubResult *result)
{
	Oid types[3] = {OIDOID, OIDOID, TEXTOID};
	Datum values[3] = {ObjectIdGetDatum(next->relation),
					   ObjectIdGetDatum(result->failed_index), (Datum) 0};

	leyser_purge_begin();
	values[2] = CStringGetTextDatum(unpack_sql_state(result->failed_code));
	if (SPI_execute_with_args("SELECT leyser.note_failed_index($1, $2, $3)", 3, types,
							  values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not note an index");
	leyser_purge_commit();
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("an index could not be rebuilt"),
					errhint("See the blockers in leyser.purge_report().")));
}

static void
scrub_table(const ScrubNext *next)
{
	LeyserScrubResult result = {0};
	bool is_view = false;
	char *name = scrub_table_name(next->relation, &is_view);

	if (name == NULL)
	{
		strlcpy(result.note, "dropped before it was scrubbed", sizeof(result.note));
		scrub_note("note_scrubbed", next->relation, GetXLogInsertRecPtr(), true, &result);
		return;
	}
	if (!scrub_pages(next, name, is_view))
		return;
	if (next->indexes)
	{
		leyser_purge_tell("purge: rebuilding the indexes of %s", name);
		leyser_scrub_indexes(next->relation, next->limit, &result);
		if (OidIsValid(result.failed_index))
			scrub_index_failed(next, &result);
	}
	result.zeroed = scrubbed_pages.zeroed;
	scrubbed_pages.relation = InvalidOid;
	scrub_note("note_scrubbed", next->relation, scrubbed_pages.since, true, &result);
}

static void
scrub_verify(const ScrubNext *next)
{
	LeyserScrubResult result = {0};
	bool is_view;
	char *name = scrub_table_name(next->relation, &is_view);
	bool clean = true;

	if (name != NULL)
	{
		leyser_purge_tell("purge: looking whether %s is clean", name);
		clean = leyser_scrub_verify(next->relation, next->limit, next->since, &result);
	}
	scrub_note("note_verified", next->relation, InvalidXLogRecPtr, clean, &result);
	if (!clean)
		scrub_pause();
}

/* The tables whose statistics are to go, in a list that outlives transactions. */
static List *
scrub_relations(void)
{
	MemoryContext caller = CurrentMemoryContext;
	List *relations = NIL;

	leyser_purge_begin();
	(void) leyser_purge_query("SELECT 0::bigint, r FROM leyser.statistics_relations() r",
							  0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;
		Oid relation = DatumGetObjectId(
			SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
		MemoryContext spi = MemoryContextSwitchTo(caller);

		relations = lappend_oid(relations, relation);
		MemoryContextSwitchTo(spi);
	}
	leyser_purge_commit();
	MemoryContextSwitchTo(caller);
	return relations;
}

static void
scrub_statistics(void)
{
	LeyserScrubResult result = {0};
	List *relations = scrub_relations();

	leyser_purge_tell("purge: renewing the statistics of %d tables",
					  list_length(relations));
	leyser_scrub_statistics(relations, &result);
	scrub_note("note_statistics", InvalidOid, InvalidXLogRecPtr, result.leftover == 0,
			   &result);
	list_free(relations);
	if (result.leftover > 0)
		scrub_pause();
}

static void
scrub_wal(const ScrubNext *next)
{
	LeyserScrubResult result = {0};
	XLogRecPtr end = next->since;
	bool done;

	leyser_purge_tell("purge: writing over old segments of the write-ahead log");
	done = leyser_scrub_wal(&end, &result);
	scrub_note("note_wal", InvalidOid, end, done, &result);
	if (!done)
		scrub_pause();
}

/* Standbys know from their copy of the rows from where on WAL is clean. */
static void
scrub_finish(const ScrubNext *next)
{
	LeyserScrubResult result;

	leyser_purge_tell("purge: helping standbys to clear their write-ahead log");
	if (leyser_scrub_standbys(next->since, &result))
		(void) leyser_purge_step("SELECT leyser.finish_purges()", 0);
	else
	{
		scrub_note("note_standbys", InvalidOid, InvalidXLogRecPtr, false, &result);
		scrub_pause();
	}
}

bool
leyser_purge_scrub(void)
{
	ScrubNext next;

	if (next_look > GetCurrentTimestamp())
		return false;
	(void) leyser_purge_step("SELECT leyser.find_blockers()", 0);
	scrub_next(&next);
	(void) leyser_scrub_pace(next.pace);
	switch (next.phase)
	{
		case PHASE_TABLE:
			scrub_table(&next);
			return true;
		case PHASE_STATISTICS:
			scrub_statistics();
			return true;
		case PHASE_VERIFY:
			scrub_verify(&next);
			return true;
		case PHASE_WAL:
			scrub_wal(&next);
			return true;
		case PHASE_FINISH:
			scrub_finish(&next);
			return true;
		case PHASE_NONE:
			break;
	}
	scrub_pause();
	return false;
}

void
leyser_purge_watch_files(void *unused)
{
	Oid types[1] = {INT4OID};
	Datum values[1] = {Int32GetDatum(leyser_scrub_lost_files())};

	if (DatumGetInt32(values[0]) > 0)
	{
		leyser_purge_begin();
		if (SPI_execute_with_args("SELECT leyser.note_lost_files($1)", 1, types, values,
								  NULL, false, 0) != SPI_OK_SELECT)
			elog(ERROR, "could not note lost files");
		leyser_purge_commit();
	}
	leyser_scrub_forget_lost_files();
	leyser_scrub_dropped_files(true);
}
