/*
 * export.c
 *		Windows in which a role reads one tenant's rows, to hand them over.
 *
 * pg_dump sets no token, so a window is bound to a role: while it is open, and as
 * long as no token is set, the role's context is the window's tenant, without an
 * account.  It counts for the role in force outside of definer functions, and only
 * where nothing can be written: see support.c for what that takes.  That the
 * tenant's contract has ended does not matter; that its purge was called for does,
 * for that closes the window in the same transaction.
 *
 * The window's row is read anew, with a catalogue snapshot, whenever a statement
 * first asks for the context.  That look comes after the statement's snapshot was
 * taken, so a statement that finds the window open sees all rows that there were
 * before the purge.
 *
 * export_rows() reads with the rights of the table's owner and by the condition of
 * a purge, whatever policies there are: rows that a policy hides are the tenant's,
 * too, and tables without row security have rows of others.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "export.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "cache.h"
#include "cache_fence.h"
#include "cache_relation.h"
#include "event.h"
#include "owner.h"
#include "relation.h"
#include "support.h"

PG_FUNCTION_INFO_V1(leyser_export_rows);

#define FETCH_ROWS 1000

/* Columns of leyser.export_record, in the order of sql/export_tables.sql. */
enum
{
	EXPORT_TO_ROLE = 1,
	EXPORT_TENANT = 2,
	EXPORT_ENDS_AT = 3,
	EXPORT_ENDED_AT = 4
};

typedef struct ExportWindow
{
	bool exists;
	bool is_open;
	TimestampTz ends_at;
	char tenant_id[LEYSER_NAME_MAX_BYTES + 1];
} ExportWindow;

/* What was found last: the context that is handed out. */
static union
{
	LeyserContext context;
	char bytes[LEYSER_CONTEXT_MAX];
} current;
static ExportWindow window;

/* The window that this session has been noted to look through. */
static Oid noted_role = InvalidOid;
static TimestampTz noted_window = DT_NOBEGIN;

/* ---- the window ---- */

static void
window_fill(HeapTuple tuple, Relation rel)
{
	TupleDesc desc = RelationGetDescr(rel);
	char *tenant_id = leyser_cache_text(tuple, rel, EXPORT_TENANT);
	bool waits;
	bool isnull;
	Datum ends_at = heap_getattr(tuple, EXPORT_ENDS_AT, desc, &waits);

	(void) heap_getattr(tuple, EXPORT_ENDED_AT, desc, &isnull);
	window.exists = !waits;
	window.ends_at = waits ? DT_NOBEGIN : DatumGetTimestampTz(ends_at);
	window.is_open = isnull && GetCurrentTimestamp() < window.ends_at;
	strlcpy(window.tenant_id, tenant_id, sizeof(window.tenant_id));
	pfree(tenant_id);
}

/* Reads the role's window as it is now. */
static void
window_read(Oid role)
{
	Relation rel;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	window.exists = window.is_open = false;
	leyser_cache_catch_up();
	if (!leyser_cache_find_relations())
		return;
	rel = table_open(leyser_cache_relations[REL_EXPORT], AccessShareLock);
	ScanKeyInit(&key, EXPORT_TO_ROLE, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(role));
	scan =
		systable_beginscan(rel, leyser_cache_index(REL_EXPORT_PKEY), true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		window_fill(tuple, rel);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

const LeyserContext *
leyser_export_context(LeyserTokenError *error)
{
	LeyserClaims claims = {.tenant = window.tenant_id, .issued_at = DT_NOEND};

	error->sqlerrcode = 0;
	window_read(GetOuterUserId());
	if (!window.exists)
		return NULL;
	if (!window.is_open)
	{
		leyser_context_error(error, LEYSER_ERRCODE_TOKEN_EXPIRED,
							 "the export window has ended",
							 "Its time ran out, it was closed, or the tenant's purge was "
							 "called for.",
							 "Call leyser.open_export() again.");
		return NULL;
	}
	/* erased since, says the fence of a server that was restored */
	if (leyser_fence_locks(window.tenant_id))
	{
		leyser_context_error(
			error, LEYSER_ERRCODE_TENANT_NOT_ACTIVE, "tenant is not active",
			"Its purge has begun on the server of which this one is a copy.",
			"View leyser.backup_alert tells an operator what to do.");
		return NULL;
	}
	if (!leyser_support_only_reads())
	{
		leyser_context_error(error, ERRCODE_READ_ONLY_SQL_TRANSACTION,
							 "an export only reads",
							 "The transaction, or the statement, can write.",
							 "Begin with BEGIN READ ONLY, or set "
							 "default_transaction_read_only to on.");
		return NULL;
	}
	claims.expires_at = window.ends_at;
	leyser_context_build(&current.context, &claims, InvalidLocalTransactionId);
	return &current.context;
}

void
leyser_export_note_look(void)
{
	Oid role = GetOuterUserId();

	if (IsParallelWorker() || (noted_role == role && noted_window == window.ends_at))
		return;
	leyser_event_record_lasting("export.entered", window.tenant_id,
								GetUserNameFromId(role, false));
	noted_role = role;
	noted_window = window.ends_at;
}

/* ---- rows ---- */

typedef struct ExportSource
{
	Oid relation;
	char *tenant_id;
	char *query;
} ExportSource;

/* The table whose row type the argument has. */
static Oid
rows_relation(FunctionCallInfo fcinfo)
{
	Oid type = get_fn_expr_argtype(fcinfo->flinfo, 0);
	Oid relation = OidIsValid(type) ? get_typ_typrelid(type) : InvalidOid;

	if (!OidIsValid(relation))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("a table's row is expected"),
				 errdetail("The argument says by its type which table is meant."),
				 errhint("SELECT * FROM leyser.export_rows(NULL::schema.table);")));
	return relation;
}

/* Asks, with the extension's rights, what may be read; raises where nothing may. */
static void
rows_find_source(ExportSource *source)
{
	Oid types[] = {OIDOID};
	Datum values[] = {ObjectIdGetDatum(source->relation)};
	MemoryContext caller = CurrentMemoryContext;
	LeyserOwnerState owner;
	SPITupleTable *found;

	leyser_owner_begin(&owner);
	if (SPI_execute_with_args("SELECT tenant_id, query FROM leyser.export_source($1)", 1,
							  types, values, NULL, false, 2) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not find out what is exported");
	found = SPI_tuptable;
	source->tenant_id =
		MemoryContextStrdup(caller, SPI_getvalue(found->vals[0], found->tupdesc, 1));
	source->query =
		MemoryContextStrdup(caller, SPI_getvalue(found->vals[0], found->tupdesc, 2));
	leyser_owner_end(&owner);
}

/* The row type has the columns that were dropped, too. */
static void
rows_put(ReturnSetInfo *rsinfo, HeapTuple tuple, TupleDesc desc, Datum *values,
		 bool *nulls)
{
	TupleDesc wanted = rsinfo->setDesc;
	int column = 0;

	for (int i = 0; i < wanted->natts; i++)
	{
		nulls[i] = true;
		if (TupleDescAttr(wanted, i)->attisdropped)
			continue;
		if (++column > desc->natts)
			elog(ERROR, "a table has changed while it is exported");
		values[i] = SPI_getbinval(tuple, desc, column, &nulls[i]);
	}
	tuplestore_putvalues(rsinfo->setResult, wanted, values, nulls);
}

/* Reads with the statement's snapshot, a part at a time. */
static void
rows_read(ReturnSetInfo *rsinfo, const ExportSource *source)
{
	Oid types[] = {TEXTOID};
	Datum tenant_id[] = {CStringGetTextDatum(source->tenant_id)};
	Datum *values = palloc0(sizeof(Datum) * rsinfo->setDesc->natts);
	bool *nulls = palloc(sizeof(bool) * rsinfo->setDesc->natts);
	LeyserOwnerState owner;
	Portal portal;

	leyser_owner_begin_as(&owner, leyser_relation_owner(source->relation));
	(void) set_config_option("standard_conforming_strings", "on", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	portal = SPI_cursor_open_with_args(NULL, source->query, 1, types, tenant_id, NULL,
									   true, 0);
	for (;;)
	{
		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0; i < SPI_processed; i++)
			rows_put(rsinfo, SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values, nulls);
		SPI_freetuptable(SPI_tuptable);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_cursor_close(portal);
	leyser_owner_end(&owner);
}

/*
 * export_rows(row_type anyelement) → setof anyelement: the rows of a table that are
 * the tenant's whose export window the caller has open.
 */
Datum
leyser_export_rows(PG_FUNCTION_ARGS)
{
	ExportSource source = {.relation = rows_relation(fcinfo)};

	leyser_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	rows_find_source(&source);
	rows_read((ReturnSetInfo *) fcinfo->resultinfo, &source);
	return (Datum) 0;
}
