/*
 * purge_step.c
 *		Transactions and statements of the purge worker.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "purge.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "owner.h"

void
leyser_purge_begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
leyser_purge_commit(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
}

int64
leyser_purge_column(int row, int column)
{
	bool isnull;
	Datum value =
		SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

int64
leyser_purge_query(const char *sql, int64 purge_id)
{
	Oid types[1] = {INT8OID};
	Datum values[1] = {Int64GetDatum(purge_id)};

	if (SPI_execute_with_args(sql, purge_id != 0 ? 1 : 0, types, values, NULL, false, 0) <
		0)
		elog(ERROR, "could not run \"%s\"", sql);
	return SPI_processed > 0 && SPI_tuptable != NULL ? leyser_purge_column(0, 1) : 0;
}

int64
leyser_purge_step(const char *sql, int64 purge_id)
{
	int64 result;

	leyser_purge_begin();
	result = leyser_purge_query(sql, purge_id);
	leyser_purge_commit();
	return result;
}

void
leyser_purge_tell(const char *format, ...)
{
	char line[NAMEDATALEN * 6];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	pgstat_report_activity(STATE_RUNNING, line);
}

ErrorData *
leyser_purge_guard(void (*work)(void *), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData *volatile error = NULL;

	PG_TRY();
	{
		work(arg);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		EmitErrorReport();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		error->sqlerrcode = leyser_owner_error_code(error);
		FlushErrorState();
		AbortOutOfAnyTransaction();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return error;
}

char *
leyser_purge_error_text(const ErrorData *error)
{
	const char *sqlstate = unpack_sql_state(error->sqlerrcode);
	const char *classes[] = {"25", "40", "53", "54", "55", "57", "58"};

	if (strncmp(sqlstate, "LY", 2) == 0)
		return psprintf("%s%s%s", error->message, error->detail ? ". " : "",
						error->detail ? error->detail : "");
	for (int i = 0; i < (int) lengthof(classes); i++)
	{
		if (strncmp(sqlstate, classes[i], 2) == 0)
			return pstrdup(error->message);
	}
	return psprintf("a statement failed%s%s%s%s; the server log tells how",
					error->table_name ? " on table " : "",
					error->table_name ? error->table_name : "",
					error->constraint_name ? ", constraint " : "",
					error->constraint_name ? error->constraint_name : "");
}
