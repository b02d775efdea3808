/*
 * fence_sql.c
 *		Fences for the functions of fence.sql and replay.sql.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "leyser.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/tuplestore.h"

#include "cache.h"
#include "cache_fence.h"

PG_FUNCTION_INFO_V1(leyser_fence_create);
PG_FUNCTION_INFO_V1(leyser_fence_list);
PG_FUNCTION_INFO_V1(leyser_fence_status);
PG_FUNCTION_INFO_V1(leyser_restore_is_held);

/* create_fence() → text: why there is none, or NULL. */
Datum
leyser_fence_create(PG_FUNCTION_ARGS)
{
	LeyserKeyringError error;
	pg_uuid_t database;

	leyser_require_preloaded();
	if (!leyser_fence_database(&database))
		elog(ERROR, "leyser is not installed in this database");
	if (leyser_fence_claim(&database, &error) &&
		leyser_fence_write(leyser_fence_new(&database), false, &error))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(error.message));
}

static void
put_time(Datum *value, bool *isnull, TimestampTz when)
{
	*isnull = TIMESTAMP_IS_NOBEGIN(when);
	*value = TimestampTzGetDatum(when);
}

static void
put_entry(ReturnSetInfo *result, const LeyserFenceEntry *entry)
{
	const LeyserFencePurge *purge = &entry->purge;
	Datum values[8] = {
		UUIDPGetDatum(&entry->database), CStringGetTextDatum(purge->tenant_id),
		Int64GetDatum(purge->purge_id),
		CStringGetTextDatum(psprintf(UINT64_FORMAT, purge->system_identifier)),
		LSNGetDatum(purge->started_lsn)};
	bool nulls[8] = {0};

	nulls[4] = XLogRecPtrIsInvalid(purge->started_lsn);
	put_time(&values[5], &nulls[5], purge->started_at);
	put_time(&values[6], &nulls[6], purge->erased_at);
	values[7] = BoolGetDatum(entry->known);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* fence_entries(): a row for each purge in the fences. */
Datum
leyser_fence_list(PG_FUNCTION_ARGS)
{
	ListCell *cell;

	leyser_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	foreach (cell, leyser_fence_entries())
		put_entry((ReturnSetInfo *) fcinfo->resultinfo, lfirst(cell));
	return (Datum) 0;
}

static const char *
verdict_name(LeyserFenceVerdict verdict)
{
	switch (verdict)
	{
		case LEYSER_FENCE_UNKNOWN:
		case LEYSER_FENCE_NONE:
			return "none";
		case LEYSER_FENCE_SOUND:
			return "sound";
		case LEYSER_FENCE_AHEAD:
			return "ahead";
		case LEYSER_FENCE_LOST:
			return "lost";
	}
	return "lost";
}

/* look_at_fence(): how this database stands to its fence, looked at now. */
Datum
leyser_fence_status(PG_FUNCTION_ARGS)
{
	const LeyserFenceView *view;
	TupleDesc row;
	Datum values[7];
	bool nulls[7] = {0};

	leyser_require_preloaded();
	if (get_call_result_type(fcinfo, NULL, &row) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	view = leyser_fence_look();
	values[0] = CStringGetTextDatum(verdict_name(view->verdict));
	values[1] = BoolGetDatum(view->held);
	values[2] = BoolGetDatum(view->keys_refused);
	values[3] = Int32GetDatum(view->missing);
	values[4] = TimestampTzGetDatum(view->since);
	values[5] = CStringGetTextDatum(view->message);
	values[6] = CStringGetTextDatum(view->remedy);
	nulls[5] = view->message[0] == '\0';
	nulls[6] = view->remedy[0] == '\0';
	PG_RETURN_DATUM(
		HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row), values, nulls)));
}

/* restore_is_held() → boolean, as it was last seen by anybody. */
Datum
leyser_restore_is_held(PG_FUNCTION_ARGS)
{
	leyser_require_preloaded();
	PG_RETURN_BOOL(leyser_fence_view()->held);
}
