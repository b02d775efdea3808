/*
 * privileged_window.c
 *		Windows in which privileged access has a purpose.
 *
 * pg_dump and migrations see all rows, and have to.  A superuser opens a window for
 * the role that does it, with a purpose and an end: what the role does meanwhile is
 * recorded with the window's number, and not refused.
 *
 * The windows are read with a catalogue snapshot: once they are committed they count at
 * the next statement, also for a session that was there before, in REPEATABLE READ
 * and on a standby; and so does their end.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "privileged.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "cache.h"
#include "cache_relation.h"

/* Columns of leyser.privileged_window_record, in the order of sql/privileged_tables.sql. */
enum
{
	WINDOW_ID = 1,
	WINDOW_ROLE = 2,
	WINDOW_ENDS_AT = 3,
	WINDOW_CLOSED_AT = 4
};

/* The windows that are not closed; read again after each message. */
typedef struct Window
{
	int64 id;
	Oid role;
	TimestampTz ends_at;
} Window;

#define WINDOWS_MAX 64 /* that are looked at */

static Window windows[WINDOWS_MAX];
static int windows_count = 0;
static uint64 windows_generation = 0;

static void
window_add(HeapTuple tuple, TupleDesc desc)
{
	bool open;
	bool isnull;
	Window *window = &windows[windows_count];

	(void) heap_getattr(tuple, WINDOW_CLOSED_AT, desc, &open);
	window->ends_at =
		DatumGetTimestampTz(heap_getattr(tuple, WINDOW_ENDS_AT, desc, &isnull));
	if (!open || GetCurrentTimestamp() >= window->ends_at)
		return;
	window->id = DatumGetInt64(heap_getattr(tuple, WINDOW_ID, desc, &isnull));
	window->role = DatumGetObjectId(heap_getattr(tuple, WINDOW_ROLE, desc, &isnull));
	windows_count++;
}

static void
windows_read(void)
{
	Relation rel = table_open(leyser_cache_relations[REL_WINDOW], AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple tuple;

	windows_count = 0;
	while (windows_count < WINDOWS_MAX &&
		   HeapTupleIsValid(tuple = systable_getnext(scan)))
		window_add(tuple, RelationGetDescr(rel));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

int64
leyser_privileged_window(void)
{
	uint64 generation;

	leyser_cache_catch_up();
	if (!leyser_cache_find_relations())
		return 0;
	generation = leyser_cache_generation();
	if (generation != windows_generation)
	{
		windows_read();
		windows_generation = generation;
	}
	for (int i = 0; i < windows_count; i++)
	{
		if ((windows[i].role == GetOuterUserId() ||
			 windows[i].role == GetSessionUserId()) &&
			GetCurrentTimestamp() < windows[i].ends_at)
			return windows[i].id;
	}
	return 0;
}
