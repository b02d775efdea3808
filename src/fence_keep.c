/*
 * fence_keep.c
 *		Keeps a database's fence as its tables say.
 *
 * Done by the purge worker each time it visits a database, before a purge deletes
 * its first row, and when a purge is over.  The rules:
 *
 *  - The tables come first.  What a transaction has committed without waiting for
 *    the disk could be lost in a crash, so all that was read is flushed before the
 *    fence says it: otherwise a crash would look like a restore.
 *  - A server that was restored adds nothing to its mark until the restore is
 *    released, or its own new events would hide that it went back.
 *  - A standby writes its fence from what it has replayed, as long as it receives;
 *    one that is restored from an archive is to be compared with the fence as it is.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "fence_keep.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"

#include "cache_fence.h"
#include "keyring_file.h"
#include "purge.h"

#define TEND_INTERVAL 60000 /* milliseconds */

/* ---- what the tables say ---- */

static Datum
content_column(int row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

static TimestampTz
content_time(int row, int column)
{
	bool isnull;
	Datum value = content_column(row, column, &isnull);

	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

static void
content_add_purge(LeyserFence *fence, int row)
{
	bool isnull;
	Datum lsn;
	LeyserFencePurge purge = {
		.tenant_id = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 1),
		.purge_id = leyser_purge_column(row, 2),
		.system_identifier = (uint64) leyser_purge_column(row, 3),
		.started_at = content_time(row, 5),
		.erased_at = content_time(row, 6)};

	lsn = content_column(row, 4, &isnull);
	purge.started_lsn = isnull ? InvalidXLogRecPtr : DatumGetLSN(lsn);
	(void) leyser_fence_add(fence, &purge);
}

static void
content_add_mark(LeyserFence *fence, bool with_mark)
{
	LeyserFenceMark mark;
	bool isnull;
	Datum incarnation;

	(void) leyser_purge_query(
		"SELECT f.restores, f.event_id, f.incarnation, f.event_digest"
		" FROM leyser.fence_mark() f",
		0);
	if (SPI_processed != 1)
		return;
	fence->restores = leyser_purge_column(0, 1);
	mark.event_id = leyser_purge_column(0, 2);
	mark.event_digest = (uint64) leyser_purge_column(0, 4);
	incarnation = content_column(0, 3, &isnull);
	if (isnull || !with_mark)
		return;
	mark.incarnation = *DatumGetUUIDP(incarnation);
	(void) leyser_fence_set_mark(fence, &mark);
}

LeyserFence *
leyser_fence_from_tables(MemoryContext context, bool with_mark)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	LeyserFence *fence = NULL;
	pg_uuid_t database;

	if (leyser_fence_database(&database))
		fence = leyser_fence_new(&database);
	MemoryContextSwitchTo(caller);
	if (fence == NULL)
		return NULL;
	(void) leyser_purge_query("SELECT * FROM leyser.fence_content()", 0);
	for (uint64 i = 0; i < SPI_processed; i++)
		content_add_purge(fence, (int) i);
	content_add_mark(fence, with_mark);
	return fence;
}

/* ---- the worker's part ---- */

/* All that was read so far survives a crash. */
static void
flush_tables(void)
{
	StartTransactionCommand();
	(void) GetCurrentTransactionId();
	ForceSyncCommit();
	CommitTransactionCommand();
}

/* A look in a transaction of its own. */
static LeyserFenceView
keep_look(void)
{
	LeyserFenceView view;

	leyser_purge_begin();
	view = *leyser_fence_look();
	leyser_purge_commit();
	return view;
}

/* A restore, or a database without a fence, is written down first. */
static LeyserFenceView
keep_settle(void)
{
	LeyserFenceView view = keep_look();

	if (RecoveryInProgress())
		return view;
	if (view.verdict == LEYSER_FENCE_AHEAD && view.keys_refused)
		(void) leyser_purge_step("SELECT leyser.note_restore()", 0);
	else if (view.verdict == LEYSER_FENCE_NONE ||
			 (view.verdict == LEYSER_FENCE_SOUND && !view.is_recorded))
		(void) leyser_purge_step("SELECT leyser.begin_fence()", 0);
	else
		return view;
	return keep_look();
}

/* Why the fence is not to be had; what is wrong with the directory shows by trying. */
static void
keep_fail(const LeyserFenceView *view, LeyserKeyringError *error)
{
	pg_uuid_t database;

	(void) leyser_keyring_fail(error, LEYSER_KEYRING_LOST, view->message, view->remedy,
							   "%s", "");
	if (view->verdict != LEYSER_FENCE_NONE)
		return;
	leyser_purge_begin();
	if (leyser_fence_database(&database))
		(void) leyser_fence_write(leyser_fence_new(&database), false, error);
	leyser_purge_commit();
}

/* What another server wrote is good for this one, too: a replay finds all it needs. */
static bool
keep_content(bool with_mark, bool claimed, LeyserKeyringError *error)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "leyser fence", ALLOCSET_DEFAULT_SIZES);
	LeyserFence *fence;
	bool written;

	leyser_purge_begin();
	fence = leyser_fence_from_tables(context, with_mark);
	leyser_purge_commit();
	MemoryContextSwitchTo(context);
	written = fence == NULL || leyser_fence_is_written(fence);
	if (!written && claimed)
	{
		if (!RecoveryInProgress())
			flush_tables();
		MemoryContextSwitchTo(context);
		written = leyser_fence_write(fence, false, error);
	}
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextDelete(context);
	return written;
}

static bool
keep_claim(LeyserKeyringError *error)
{
	pg_uuid_t database;
	bool claimed;

	leyser_purge_begin();
	claimed = !leyser_fence_database(&database) || leyser_fence_claim(&database, error);
	leyser_purge_commit();
	return claimed;
}

bool
leyser_fence_is_of_original(LeyserKeyringError *error)
{
	pg_uuid_t database;

	return leyser_fence_database(&database) && !leyser_fence_claim(&database, error) &&
		   error->state == LEYSER_KEYRING_FOREIGN;
}

bool
leyser_fence_keep(LeyserKeyringError *error)
{
	MemoryContext caller = CurrentMemoryContext;
	LeyserFenceView view = keep_settle();
	bool kept;

	if (RecoveryInProgress())
		/* one that its primary keeps on this host needs no other writer */
		kept = !leyser_fence_follows_now() || view.verdict == LEYSER_FENCE_NONE ||
			   !keep_claim(error) || keep_content(true, true, error);
	else if (view.verdict == LEYSER_FENCE_LOST || view.verdict == LEYSER_FENCE_NONE)
	{
		kept = false;
		keep_fail(&view, error);
	}
	else
		kept = keep_content(!view.held, keep_claim(error), error);
	(void) keep_look();
	MemoryContextSwitchTo(caller);
	return kept;
}

/* ---- now and then ---- */

static void
tend(void *unused)
{
	LeyserKeyringError error;

	if (!leyser_fence_keep(&error))
		ereport(LOG, (errmsg("%s", error.message),
					  error.detail[0] ? errdetail("%s", error.detail) : 0,
					  errhint("%s", error.hint)));
}

static TimestampTz tended_at = DT_NOBEGIN;

void
leyser_fence_tend(void)
{
	ErrorData *failed = leyser_purge_guard(tend, NULL);

	tended_at = GetCurrentTimestamp();
	if (failed != NULL)
		FreeErrorData(failed);
}

void
leyser_fence_tend_in_turn(void)
{
	if (TimestampDifferenceExceeds(tended_at, GetCurrentTimestamp(), TEND_INTERVAL))
		leyser_fence_tend();
}
