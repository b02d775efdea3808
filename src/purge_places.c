/*
 * purge_places.c
 *		Where the rows lie that a purge deletes, in a temporary file.
 *
 * A cursor WITH HOLD would do the same, but its query is run to the end by the
 * commit, with the worker's rights, and what an owner attached to a table must
 * run with the owner's only (owner.c).  The file holds nothing but places.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "purge_places.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/buffile.h"
#include "storage/itemptr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "owner.h"

#define COLLECT_ROWS 10000 /* that are fetched at a time */

struct LeyserPlaces
{
	BufFile *file;
	int64 left;
};

static void
places_write(LeyserPlaces *places)
{
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;
		ItemPointer place = (ItemPointer) DatumGetPointer(
			SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));

		BufFileWrite(places->file, place, sizeof(ItemPointerData));
	}
	places->left += SPI_processed;
}

static void
places_fetch(LeyserPlaces *places, Portal portal)
{
	for (;;)
	{
		SPI_cursor_fetch(portal, true, COLLECT_ROWS);
		if (SPI_processed == 0)
			return;
		places_write(places);
		SPI_freetuptable(SPI_tuptable);
		CHECK_FOR_INTERRUPTS();
	}
}

LeyserPlaces *
leyser_places_open(MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	LeyserPlaces *places = palloc0(sizeof(LeyserPlaces));

	places->file = BufFileCreateTemp(true);
	MemoryContextSwitchTo(caller);
	return places;
}

void
leyser_places_collect(LeyserPlaces *places, const char *query, Oid role,
					  const char *tenant_id)
{
	Oid types[1] = {TEXTOID};
	Datum values[1] = {CStringGetTextDatum(tenant_id)};
	LeyserOwnerState owner;
	Portal portal;

	leyser_owner_begin_as(&owner, role);
	portal = SPI_cursor_open_with_args(NULL, query, 1, types, values, NULL, false, 0);
	places_fetch(places, portal);
	SPI_cursor_close(portal);
	leyser_owner_end(&owner);
	if (BufFileSeek(places->file, 0, 0, SEEK_SET) != 0)
		elog(ERROR, "could not rewind a temporary file");
}

int64
leyser_places_left(const LeyserPlaces *places)
{
	return places->left;
}

Datum
leyser_places_next(LeyserPlaces *places, int count)
{
	ItemPointerData *taken;
	Datum *values;

	count = (int) Min(count, places->left);
	taken = palloc(mul_size(sizeof(ItemPointerData), count));
	values = palloc(mul_size(sizeof(Datum), count));
	if (BufFileRead(places->file, taken, sizeof(ItemPointerData) * count) !=
		sizeof(ItemPointerData) * count)
		elog(ERROR, "could not read a temporary file");
	for (int i = 0; i < count; i++)
		values[i] = PointerGetDatum(&taken[i]);
	places->left -= count;
	return PointerGetDatum(construct_array(values, count, TIDOID, sizeof(ItemPointerData),
										   false, TYPALIGN_SHORT));
}

void
leyser_places_close(LeyserPlaces *places)
{
	BufFileClose(places->file);
	pfree(places);
}
