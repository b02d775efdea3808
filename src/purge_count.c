/*
 * purge_count.c
 *		Counts rows of one owner's table by keys of another's.
 *
 * Neither owner's code may run with the other's rights, so the keys are read as one
 * and looked up as the other.  They are handed over a part at a time: memory stays
 * the same, however many there are.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "leyser.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "owner.h"

PG_FUNCTION_INFO_V1(leyser_count_by_keys);

#define FETCH_ROWS 1000
#define PART_BYTES (4 * 1024 * 1024)

typedef struct CountState
{
	Oid keys_owner;
	Oid rows_owner;
	Datum tenant_id;
	Portal keys;
	StringInfoData part; /* of the keys, an array of JSON without its last bracket */
} CountState;

static void
count_begin_as(LeyserOwnerState *owner, Oid role)
{
	leyser_owner_begin_as(owner, role);
	(void) set_config_option("standard_conforming_strings", "on", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

static void
keys_open(CountState *state, const char *query)
{
	Oid types[] = {TEXTOID};
	LeyserOwnerState owner;

	count_begin_as(&owner, state->keys_owner);
	state->keys = SPI_cursor_open_with_args(NULL, query, 1, types, &state->tenant_id,
											NULL, true, 0);
	leyser_owner_end(&owner);
}

/* Adds some keys to the part; false where there are no more. */
static bool
keys_fetch(CountState *state)
{
	LeyserOwnerState owner;
	uint64 rows;

	count_begin_as(&owner, state->keys_owner);
	SPI_cursor_fetch(state->keys, true, FETCH_ROWS);
	rows = SPI_processed;
	for (uint64 i = 0; i < rows; i++)
	{
		appendStringInfoChar(&state->part, state->part.len == 0 ? '[' : ',');
		appendStringInfoString(
			&state->part, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1));
	}
	leyser_owner_end(&owner);
	CHECK_FOR_INTERRUPTS();
	return rows > 0;
}

/* How many rows the part's keys find. */
static int64
part_count(CountState *state, const char *query)
{
	Oid types[] = {TEXTOID, JSONBOID};
	Datum values[] = {state->tenant_id, (Datum) 0};
	LeyserOwnerState owner;
	bool isnull;
	int64 count;

	if (state->part.len == 0)
		return 0;
	appendStringInfoChar(&state->part, ']');
	count_begin_as(&owner, state->rows_owner);
	values[1] = DirectFunctionCall1(jsonb_in, CStringGetDatum(state->part.data));
	if (SPI_execute_with_args(query, 2, types, values, NULL, true, 2) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "query does not count");
	count = DatumGetInt64(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	leyser_owner_end(&owner);
	resetStringInfo(&state->part);
	return count;
}

/*
 * count_by_keys(keys_owner regrole, keys_query text, rows_owner regrole,
 * count_query text, tenant_id text) → bigint: the sum of what count_query, as
 * rows_owner, gives for the rows of keys_query, as keys_owner, which are texts of
 * JSON.  In both $1 is the tenant id; in count_query $2 is an array of some of the
 * keys.
 */
Datum
leyser_count_by_keys(PG_FUNCTION_ARGS)
{
	CountState state = {.keys_owner = PG_GETARG_OID(0),
						.rows_owner = PG_GETARG_OID(2),
						.tenant_id = PG_GETARG_DATUM(4)};
	char *count_query = text_to_cstring(PG_GETARG_TEXT_PP(3));
	int64 count = 0;

	initStringInfo(&state.part);
	keys_open(&state, text_to_cstring(PG_GETARG_TEXT_PP(1)));
	while (keys_fetch(&state))
		if (state.part.len >= PART_BYTES)
			count += part_count(&state, count_query);
	count += part_count(&state, count_query);
	SPI_cursor_close(state.keys);
	pfree(state.part.data);
	PG_RETURN_INT64(count);
}
