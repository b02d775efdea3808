/*
 * privileged_write.c
 *		What was counted of privileged accesses: told in the server log, shown, and taken
 *		by the worker, which writes it as events.
 *
 * privileged_count.c says what is counted, when it is written, and how it is locked.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "privileged_entry.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/memutils.h"

#define COLUMNS 17

/* In the worker: what the transaction writes. */
static uint64 *taken = NULL;
static bool is_taking = false;

PG_FUNCTION_INFO_V1(leyser_list_privileged);
PG_FUNCTION_INFO_V1(leyser_take_privileged);

/* ---- a line of the server log ---- */

static const char *
count_event(const LeyserPrivilegedKey *key)
{
	switch (key->kind)
	{
		case LEYSER_PRIVILEGED_REFUSED:
			return "privileged.refused";
		case LEYSER_PRIVILEGED_DDL:
			return "privileged.ddl";
		default:
			return "privileged.access";
	}
}

static void
line_add(StringInfo line, const char *name, const char *value)
{
	if (value[0] == '\0')
		return;
	appendStringInfo(line, "%s\"%s\": ", line->len > 1 ? ", " : "", name);
	escape_json(line, value);
}

/* The same words as the event's row has; nothing of a statement's text. */
void
leyser_privileged_tell(LeyserPrivilegedEntry *entry, uint64 statements)
{
	StringInfoData line;

	initStringInfo(&line);
	appendStringInfoChar(&line, '{');
	line_add(&line, "event", count_event(&entry->key));
	line_add(&line, "session_role", entry->session_role);
	line_add(&line, "caller_role", entry->caller_role);
	line_add(&line, "client_address", entry->address);
	line_add(&line, "object", entry->relation);
	line_add(&line, "role", entry->role);
	line_add(&line, "command", entry->key.command);
	line_add(&line, "bypass", entry->key.bypass);
	line_add(&line, "application", entry->application);
	if (entry->query_id != 0)
		appendStringInfo(&line, ", \"query_id\": " INT64_FORMAT, entry->query_id);
	if (entry->key.window != 0)
		appendStringInfo(&line, ", \"window\": " INT64_FORMAT, entry->key.window);
	appendStringInfo(&line, ", \"pid\": %d, \"statements\": " UINT64_FORMAT "}",
					 entry->pid, statements);
	ereport(LOG_SERVER_ONLY, (errhidestmt(true), errhidecontext(true),
							  errmsg("leyser event: %s", line.data)));
	pfree(line.data);
}

/* ---- SQL ---- */

bool
leyser_privileged_is_writer(void)
{
	return MyBgworkerEntry != NULL &&
		   strcmp(MyBgworkerEntry->bgw_type, "leyser worker") == 0;
}

static void
entry_put(ReturnSetInfo *rsinfo, LeyserPrivilegedEntry *entry, uint64 statements,
		  bool untold)
{
	Datum values[COLUMNS];
	bool nulls[COLUMNS] = {false};
	const char *texts[] = {entry->session_role, entry->caller_role, entry->address,
						   entry->relation,     entry->role,        entry->key.command,
						   entry->key.bypass,   entry->application};

	values[0] = CStringGetTextDatum(count_event(&entry->key));
	for (int i = 0; i < (int) lengthof(texts); i++)
	{
		nulls[i + 1] = texts[i][0] == '\0';
		values[i + 1] = nulls[i + 1] ? (Datum) 0 : CStringGetTextDatum(texts[i]);
	}
	values[9] = Int64GetDatum(entry->query_id);
	nulls[9] = entry->query_id == 0;
	values[10] = Int64GetDatum(entry->key.window);
	nulls[10] = entry->key.window == 0;
	values[11] = Int32GetDatum(entry->pid);
	nulls[11] = entry->others;
	values[12] = Int64GetDatum((int64) statements);
	values[13] = TimestampTzGetDatum(entry->first_at);
	values[14] = TimestampTzGetDatum(entry->last_at);
	values[15] = BoolGetDatum(untold);
	values[16] = BoolGetDatum(entry->others);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* list_privileged() → setof (…): what is counted in this database and not written */
Datum
leyser_list_privileged(PG_FUNCTION_ARGS)
{
	leyser_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	LWLockAcquire(leyser_privileged_shared->lock, LW_SHARED);
	for (int i = 0; i < LEYSER_PRIVILEGED_ENTRIES; i++)
	{
		LeyserPrivilegedEntry *entry = &leyser_privileged_shared->entries[i];
		uint64 waiting = entry->used ? leyser_privileged_waiting(entry) : 0;

		if (waiting > 0 && entry->database == MyDatabaseId)
			entry_put((ReturnSetInfo *) fcinfo->resultinfo, entry, waiting, false);
	}
	LWLockRelease(leyser_privileged_shared->lock);
	return (Datum) 0;
}

/* In the worker: what it took is written, or to be taken again. */
static void
count_xact_ended(XactEvent event, void *arg)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!is_taking || (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT))
		return;
	is_taking = false;
	if (event == XACT_EVENT_ABORT)
		return;
	LWLockAcquire(leyser_privileged_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < LEYSER_PRIVILEGED_ENTRIES; i++)
	{
		LeyserPrivilegedEntry *entry = &leyser_privileged_shared->entries[i];

		if (taken[i] == 0)
			continue;
		pg_atomic_fetch_add_u64(&entry->written, taken[i]);
		entry->written_at = now;
		entry->told = Max(entry->told, (uint64) pg_atomic_read_u64(&entry->written));
		if ((entry->ended || entry->others) && leyser_privileged_waiting(entry) == 0)
			entry->used = false;
	}
	LWLockRelease(leyser_privileged_shared->lock);
	ConditionVariableBroadcast(&leyser_privileged_shared->written);
}

static void
count_begin_taking(void)
{
	if (!leyser_privileged_is_writer())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("only leyser's worker writes privileged accesses"),
						errhint("View leyser.privileged_access shows them.")));
	if (taken == NULL)
	{
		taken = MemoryContextAlloc(TopMemoryContext,
								   sizeof(uint64) * LEYSER_PRIVILEGED_ENTRIES);
		RegisterXactCallback(count_xact_ended, NULL);
	}
	memset(taken, 0, sizeof(uint64) * LEYSER_PRIVILEGED_ENTRIES);
	is_taking = true;
}

/* take_privileged() → setof (…): the same in the worker, whose transaction writes it */
Datum
leyser_take_privileged(PG_FUNCTION_ARGS)
{
	leyser_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	count_begin_taking();
	LWLockAcquire(leyser_privileged_shared->lock, LW_SHARED);
	for (int i = 0; i < LEYSER_PRIVILEGED_ENTRIES; i++)
	{
		LeyserPrivilegedEntry *entry = &leyser_privileged_shared->entries[i];
		uint64 waiting = entry->used ? leyser_privileged_waiting(entry) : 0;

		if (waiting == 0 || entry->database != MyDatabaseId)
			continue;
		taken[i] = waiting;
		entry_put((ReturnSetInfo *) fcinfo->resultinfo, entry, waiting,
				  pg_atomic_read_u64(&entry->written) + waiting > entry->told);
	}
	LWLockRelease(leyser_privileged_shared->lock);
	return (Datum) 0;
}
