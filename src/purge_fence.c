/*
 * purge_fence.c
 *		A purge and its fence: no row is deleted before the fence says so.
 *
 * Otherwise a backup of before could come back with the tenant's rows, and nothing
 * would tell.  That a purge has begun is committed in the tables first, then it is
 * in the fence, then the first row goes; where the fence cannot be written, the
 * purge waits for it as for any other blocker.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "purge.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "fence_keep.h"

#define FENCE_WAIT 1000 /* milliseconds between attempts */

/* A NULL detail: there is nothing to wait for any longer. */
static void
purge_note_fence(LeyserPurge *purge, const char *detail, const char *remedy)
{
	Oid types[3] = {INT8OID, TEXTOID, TEXTOID};
	Datum values[3] = {Int64GetDatum(purge->purge_id)};
	char nulls[4] = "   ";

	leyser_purge_begin();
	if (detail == NULL)
		nulls[1] = nulls[2] = 'n';
	else
	{
		values[1] = CStringGetTextDatum(detail);
		values[2] = CStringGetTextDatum(remedy);
	}
	if (SPI_execute_with_args("SELECT leyser.note_fence($1, $2, $3)", 3, types, values,
							  nulls, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not note what a purge's fence is like");
	leyser_purge_commit();
}

bool
leyser_purge_fence(LeyserPurge *purge)
{
	LeyserKeyringError error;

	if (purge->fenced)
		return true;
	leyser_purge_tell("purge %lld: writing the fence", (long long) purge->purge_id);
	purge->fenced = leyser_fence_keep(&error);
	if (purge->fenced)
	{
		purge_note_fence(purge, NULL, NULL);
		return true;
	}
	purge_note_fence(purge, error.message, error.hint);
	purge->next_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), FENCE_WAIT);
	return false;
}
