/*
 * event.c
 *		The event log: a row in leyser.event_record, and a line of the server log.
 *
 * The row is written by leyser.record_event() (sql/event.sql) with the rights
 * of the extension's owner.  It is part of the caller's transaction: what is
 * rolled back did not happen, but its line stays in the server log.  What a
 * rollback does not undo is recorded by leyser.record_lasting_event(), whose row
 * the worker writes and commits.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "event.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "event_digest.h"
#include "owner.h"

PG_FUNCTION_INFO_V1(leyser_log_line);

static void
event_call(const char *command, const char *event, const char *tenant_id,
		   const char *object)
{
	Oid types[3] = {TEXTOID, TEXTOID, TEXTOID};
	Datum values[3];
	char nulls[4] = "   ";
	LeyserOwnerState owner;

	values[0] = CStringGetTextDatum(event);
	values[1] = CStringGetTextDatum(tenant_id);
	values[2] = object ? CStringGetTextDatum(object) : (Datum) 0;
	nulls[2] = object ? ' ' : 'n';
	leyser_owner_begin(&owner);
	if (SPI_execute_with_args(command, 3, types, values, nulls, false, 1) !=
		SPI_OK_SELECT)
		elog(ERROR, "could not record an event");
	leyser_owner_end(&owner);
}

void
leyser_event_record(const char *event, const char *tenant_id, const char *object)
{
	event_call("SELECT leyser.record_event($1, $2, $3, NULL)", event, tenant_id, object);
}

void
leyser_event_record_lasting(const char *event, const char *tenant_id, const char *object)
{
	event_call("SELECT leyser.record_lasting_event($1, $2, $3, NULL)", event, tenant_id,
			   object);
}

/*
 * log_line(text) → void: one line of the server log, never sent to a client.
 * The text is JSON, so line breaks in names are escaped.
 */
Datum
leyser_log_line(PG_FUNCTION_ARGS)
{
	char *line = text_to_cstring(PG_GETARG_TEXT_PP(0));

	ereport(LOG_SERVER_ONLY,
			(errhidestmt(true), errhidecontext(true), errmsg("leyser event: %s", line)));
	PG_RETURN_VOID();
}

/* ---- the line of a row that C code adds ---- */

static void
line_add(StringInfo line, const char *name, const char *text)
{
	appendStringInfo(line, ", \"%s\": ", name);
	escape_json(line, text);
}

static void
line_add_text(StringInfo line, const char *name, const Datum *values, const bool *nulls,
			  LeyserEventColumn column)
{
	if (!nulls[column])
		line_add(line, name, TextDatumGetCString(values[column]));
}

/* By UTC, whatever the session's time zone and style are. */
static void
line_add_time(StringInfo line, TimestampTz at)
{
	struct pg_tm tm;
	fsec_t fraction;

	if (timestamp2tm(at, NULL, &tm, &fraction, NULL, NULL) != 0)
		return;
	appendStringInfo(line, ", \"at\": \"%04d-%02d-%02dT%02d:%02d:%02d.%06dZ\"",
					 tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
					 fraction);
}

void
leyser_event_line(const Datum *values, const bool *nulls)
{
	StringInfoData line;

	initStringInfo(&line);
	appendStringInfoString(&line, "{\"event\": ");
	escape_json(&line, TextDatumGetCString(values[LEYSER_EVENT_NAME]));
	line_add_time(&line, DatumGetTimestampTz(values[LEYSER_EVENT_AT]));
	line_add_text(&line, "tenant_id", values, nulls, LEYSER_EVENT_TENANT);
	line_add_text(&line, "session_role", values, nulls, LEYSER_EVENT_SESSION_ROLE);
	line_add_text(&line, "caller_role", values, nulls, LEYSER_EVENT_CALLER_ROLE);
	if (!nulls[LEYSER_EVENT_ADDRESS])
		line_add(
			&line, "client_address",
			DatumGetCString(DirectFunctionCall1(inet_out, values[LEYSER_EVENT_ADDRESS])));
	if (!nulls[LEYSER_EVENT_ACCOUNT])
		appendStringInfo(&line, ", \"account_id\": " INT64_FORMAT,
						 DatumGetInt64(values[LEYSER_EVENT_ACCOUNT]));
	line_add_text(&line, "object", values, nulls, LEYSER_EVENT_OBJECT);
	if (!nulls[LEYSER_EVENT_DETAIL])
	{
		Jsonb *detail = DatumGetJsonbP(values[LEYSER_EVENT_DETAIL]);

		appendStringInfoString(&line, ", \"detail\": ");
		(void) JsonbToCString(&line, &detail->root, VARSIZE(detail));
	}
	appendStringInfoChar(&line, '}');
	ereport(LOG_SERVER_ONLY, (errhidestmt(true), errhidecontext(true),
							  errmsg_internal("leyser event: %s", line.data)));
	pfree(line.data);
}
