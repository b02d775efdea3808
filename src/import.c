/*
 * import.c
 *		import_finish(): the rows of a staging table go into a protected one.
 *
 * The server refuses COPY into a table with row security.  So a tenant's client
 * copies into a staging table that leyser.import_table() makes (sql/import.sql):
 * temporary, dropped on commit, with the columns of the table and none of its
 * constraints.  Here its rows are inserted, with the caller's rights, in its
 * context and under its search_path, as its own INSERT would.  The rules:
 *
 *  - All or nothing: one statement inserts all rows.
 *  - Where that fails, the lines that cannot be inserted are looked for: pages by
 *    halves, then the rows of a page, each in a subtransaction.  They are told
 *    together, in an error, so nothing is inserted.  The rows lie in the order of
 *    the lines, for nothing was ever deleted there.
 *  - Errors that have nothing to do with a row (cancelled, locked, no memory, no
 *    context) are raised as they are.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "leyser.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/comment.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"

#include "compat.h"
#include "context.h"
#include "owner.h"
#include "relation.h"

#define CHUNK_PAGES 1024
#define MAX_ERRORS 1000

PG_FUNCTION_INFO_V1(leyser_import_finish);

typedef struct Import
{
	Oid staging;
	Oid relation;
	char *insert; /* INSERT … SELECT … FROM staging */
	char *from;   /* the staging table's name */
	int max_errors;
	int errors;
	int sqlerrcode; /* of the first */
	StringInfoData lines;
} Import;

/* ---- what is imported ---- */

static void
refuse_staging(Oid staging)
{
	char *name = get_rel_name(staging);

	ereport(ERROR,
			(errcode(LEYSER_ERRCODE_WRONG_STATE),
			 errmsg("\"%s\" is no import of this transaction", name ? name : "-"),
			 errdetail("An import is begun, copied and finished in one "
					   "transaction, once."),
			 errhint("SELECT leyser.import_table(…) gives the table to copy into.")));
}

/* The comment was made by leyser, for only the owner of a table can comment it. */
static Oid
import_target(Oid staging)
{
	char *comment;
	Oid relation = InvalidOid;

	if (!isTempNamespace(get_rel_namespace(staging)) ||
		!superuser_arg(leyser_relation_owner(staging)))
		refuse_staging(staging);
	comment = GetComment(staging, RelationRelationId, 0);
	if (comment == NULL || sscanf(comment, "leyser: import into %u", &relation) != 1 ||
		leyser_relation_name(relation) == NULL)
		refuse_staging(staging);
	return relation;
}

/* The staging table has the columns that are imported, and no others. */
static char *
import_columns(Oid staging)
{
	Relation rel = table_open(staging, AccessShareLock);
	StringInfoData columns;

	initStringInfo(&columns);
	for (int i = 0; i < rel->rd_att->natts; i++)
		appendStringInfo(
			&columns, "%s%s", i > 0 ? ", " : "",
			quote_identifier(NameStr(TupleDescAttr(rel->rd_att, i)->attname)));
	table_close(rel, NoLock);
	return columns.data;
}

static void
import_prepare(Import *import)
{
	char *columns = import_columns(import->staging);

	import->from = leyser_relation_name(import->staging);
	import->insert =
		psprintf("INSERT INTO %s (%s) SELECT %s FROM ONLY %s",
				 leyser_relation_name(import->relation), columns, columns, import->from);
	initStringInfo(&import->lines);
}

/* ---- inserting ---- */

static uint64
import_insert(const Import *import, const char *condition)
{
	char *command = psprintf("%s%s", import->insert, condition);

	if (SPI_execute(command, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not insert the rows of an import");
	pfree(command);
	return SPI_processed;
}

/* Whether an error can be that of a row. */
static bool
import_is_of_a_row(int sqlerrcode)
{
	int category = ERRCODE_TO_CATEGORY(sqlerrcode);

	return category == ERRCODE_DATA_EXCEPTION ||
		   category == ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION ||
		   category == ERRCODE_WITH_CHECK_OPTION_VIOLATION ||
		   category == ERRCODE_PLPGSQL_ERROR ||
		   sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE;
}

/*
 * Inserts some rows in a subtransaction; NULL where that worked.  An error that is
 * not of a row is raised.
 */
static ErrorData *
import_try(const Import *import, const char *condition, uint64 *rows)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		*rows = import_insert(import, condition);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	if (error && !import_is_of_a_row(error->sqlerrcode))
		ReThrowError(error);
	return error;
}

/* ---- which lines ---- */

static bool
import_has_enough(const Import *import)
{
	return import->errors >= import->max_errors;
}

/* The number of the line that a row came from. */
static int64
import_line(const Import *import, const char *place)
{
	bool isnull;

	if (SPI_execute(psprintf("SELECT pg_catalog.count(*) FROM ONLY %s WHERE ctid "
							 "OPERATOR(pg_catalog.<=) '%s'::pg_catalog.tid",
							 import->from, place),
					true, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not count the lines of an import");
	return DatumGetInt64(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

static void
import_note(Import *import, const char *place, const ErrorData *error)
{
	if (import->errors++ == 0)
		import->sqlerrcode = error->sqlerrcode;
	else
		appendStringInfoChar(&import->lines, '\n');
	appendStringInfo(&import->lines, "line %lld: %s: %s",
					 (long long) import_line(import, place),
					 unpack_sql_state(error->sqlerrcode), error->message);
	if (error->detail)
		appendStringInfo(&import->lines, " (%s)", error->detail);
}

static char *
import_page_condition(BlockNumber first, BlockNumber end)
{
	return psprintf(" WHERE ctid OPERATOR(pg_catalog.>=) '(%u,0)'::pg_catalog.tid AND "
					"ctid OPERATOR(pg_catalog.<) '(%u,0)'::pg_catalog.tid",
					first, end);
}

/* Each row of a page by itself. */
static void
import_page(Import *import, BlockNumber page)
{
	SPITupleTable *found;
	uint64 count;

	if (SPI_execute(psprintf("SELECT ctid FROM ONLY %s%s ORDER BY ctid", import->from,
							 import_page_condition(page, page + 1)),
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the rows of an import");
	found = SPI_tuptable;
	count = SPI_processed;
	for (uint64 i = 0; i < count && !import_has_enough(import); i++)
	{
		char *place = SPI_getvalue(found->vals[i], found->tupdesc, 1);
		uint64 rows;
		ErrorData *error = import_try(
			import,
			psprintf(" WHERE ctid OPERATOR(pg_catalog.=) '%s'::pg_catalog.tid", place),
			&rows);

		if (error)
			import_note(import, place, error);
	}
	SPI_freetuptable(found);
}

/* Pages up to, and without, end. */
static void
import_search(Import *import, BlockNumber first, BlockNumber end)
{
	uint64 rows;

	CHECK_FOR_INTERRUPTS();
	if (import_has_enough(import) ||
		import_try(import, import_page_condition(first, end), &rows) == NULL)
		return;
	if (end - first == 1)
	{
		import_page(import, first);
		return;
	}
	import_search(import, first, first + (end - first) / 2);
	import_search(import, first + (end - first) / 2, end);
}

leyser_noreturn static void
import_refuse(Import *import, ErrorData *error)
{
	Relation rel = table_open(import->staging, AccessShareLock);
	BlockNumber pages = RelationGetNumberOfBlocks(rel);

	table_close(rel, NoLock);
	for (BlockNumber page = 0; page < pages; page += CHUNK_PAGES)
		import_search(import, page, Min(page + CHUNK_PAGES, pages));
	if (import->errors == 0) /* it takes all rows to fail */
		ReThrowError(error);
	ereport(ERROR,
			(errcode(import->sqlerrcode),
			 errmsg(import_has_enough(import)
						? "%d or more lines cannot be inserted into \"%s\""
						: "%d lines cannot be inserted into \"%s\"",
					import->errors, get_rel_name(import->relation)),
			 errdetail("%s", import->lines.data),
			 errhint("Nothing was inserted.  Mend these lines and import all of them.")));
}

/* ---- the call ---- */

/* The staging table goes, and the import is told. */
static void
import_end(const Import *import, uint64 rows)
{
	Oid types[] = {REGCLASSOID, REGCLASSOID, INT8OID};
	Datum values[] = {ObjectIdGetDatum(import->staging),
					  ObjectIdGetDatum(import->relation), Int64GetDatum((int64) rows)};
	LeyserOwnerState owner;

	leyser_owner_begin(&owner);
	if (SPI_execute_with_args("SELECT leyser.end_import($1, $2, $3)", 3, types, values,
							  NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not end an import");
	leyser_owner_end(&owner);
}

static void
import_check_arguments(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0) || get_rel_name(PG_GETARG_OID(0)) == NULL)
		refuse_staging(PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0));
	if (PG_ARGISNULL(1) || PG_GETARG_INT32(1) < 1 || PG_GETARG_INT32(1) > MAX_ERRORS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid max_errors"),
				 errdetail("It is 1 to %d.", MAX_ERRORS),
				 errhint("Leave it out to get 20.")));
	(void) leyser_context_require();
}

/* import_finish(staging regclass, max_errors int) → bigint: the rows inserted. */
Datum
leyser_import_finish(PG_FUNCTION_ARGS)
{
	Import import = {0};
	ErrorData *error;
	uint64 rows = 0;

	leyser_require_preloaded();
	import_check_arguments(fcinfo);
	import.staging = PG_GETARG_OID(0);
	import.max_errors = PG_GETARG_INT32(1);
	SPI_connect();
	import.relation = import_target(import.staging);
	import_prepare(&import);
	/* the caller's rights, before a row is blamed for them */
	(void) import_insert(&import, " WHERE false");
	error = import_try(&import, "", &rows);
	if (error)
		import_refuse(&import, error);
	import_end(&import, rows);
	SPI_finish();
	PG_RETURN_INT64((int64) rows);
}
