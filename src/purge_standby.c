/*
 * purge_standby.c
 *		A standby's part of purges: its own pg_wal.
 *
 * Tables, indexes and catalogues of a standby become clean by replay.  Its
 * segments of the write-ahead log are its own, so the purge worker that the
 * launcher starts there waits for the end of each scrub on the primary, which
 * purge_record tells, and sees that nothing older is left.
 *
 * A standby that is promoted before it came so far does the same as a primary: the
 * purges that ended before speak of another timeline.
 *
 * How far it is, is remembered in shared memory only: after a restart it looks
 * once more.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "purge.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "pgstat.h"
#include "utils/pg_lsn.h"

#include "fence_keep.h"
#include "launcher.h"
#include "pause.h"
#include "scrub.h"

#define STANDBY_WAIT 2000 /* milliseconds between looks */

PG_FUNCTION_INFO_V1(leyser_standby_scrubbed);

/* Up to where the newest scrub of the primary reaches; 0 where there was none. */
static XLogRecPtr
standby_wanted(void)
{
	return (XLogRecPtr) leyser_purge_query("SELECT leyser.standby_wanted()", 0);
}

bool
leyser_purge_standby_due(void)
{
	return standby_wanted() > leyser_launcher_standby_scrubbed();
}

/* Sets the argument to whether there is something to wait for. */
static void
standby_step(void *arg)
{
	bool *waits = arg;
	LeyserScrubResult result;
	XLogRecPtr wanted;

	*waits = true;
	leyser_purge_begin();
	wanted = standby_wanted();
	*waits = wanted > leyser_launcher_standby_scrubbed() ||
			 leyser_purge_query("SELECT count(*) FROM leyser.open_purges()", 0) > 0;
	leyser_purge_commit();
	if (wanted <= leyser_launcher_standby_scrubbed())
		return;
	leyser_purge_tell("purge: writing over old segments of the write-ahead log");
	if (leyser_scrub_standby_wal(wanted, &result))
	{
		leyser_launcher_set_standby_scrubbed(wanted);
		ereport(LOG, (errmsg("write-ahead log of this standby holds nothing from before "
							 "%X/%X, where a purge ended",
							 LSN_FORMAT_ARGS(wanted))));
	}
	pgstat_report_activity(STATE_IDLE, result.note);
}

void
leyser_purge_standby(void)
{
	bool waits = true;

	while (waits && RecoveryInProgress())
	{
		leyser_fence_tend();
		(void) leyser_purge_guard(standby_step, &waits);
		if (waits)
			leyser_pause_worker(STANDBY_WAIT);
	}
}

/* ---- a server that was a standby ---- */

static bool promoted_waits = true;
static TimestampTz promoted_next_at = 0;

bool
leyser_purge_promoted_due(void)
{
	return leyser_purge_query("SELECT leyser.promoted_wanted()", 0) != 0;
}

bool
leyser_purge_promoted_waits(void)
{
	return promoted_waits;
}

static void
note_promoted(XLogRecPtr wanted)
{
	Oid type = LSNOID;
	Datum value = LSNGetDatum(wanted);

	leyser_purge_begin();
	if (SPI_execute_with_args("SELECT leyser.note_promoted($1)", 1, &type, &value, NULL,
							  false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not note a scrub");
	leyser_purge_commit();
	ereport(LOG, (errmsg("write-ahead log of this server, which was promoted, holds "
						 "nothing from before %X/%X, where a purge ended",
						 LSN_FORMAT_ARGS(wanted))));
}

void
leyser_purge_promoted(void)
{
	LeyserScrubResult result;
	XLogRecPtr wanted;

	if (!promoted_waits || promoted_next_at > GetCurrentTimestamp())
		return;
	promoted_next_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), STANDBY_WAIT);
	wanted = (XLogRecPtr) leyser_purge_step("SELECT leyser.promoted_wanted()", 0);
	promoted_waits = !XLogRecPtrIsInvalid(wanted);
	if (!promoted_waits)
		return;
	leyser_purge_tell("purge: writing over old segments of the write-ahead log");
	if (!leyser_scrub_wal(&wanted, &result))
		return;
	note_promoted(wanted);
	promoted_waits = false;
}

/* standby_scrubbed() → pg_lsn: before this, pg_wal of this standby holds nothing. */
Datum
leyser_standby_scrubbed(PG_FUNCTION_ARGS)
{
	XLogRecPtr scrubbed;

	leyser_require_preloaded();
	scrubbed = leyser_launcher_standby_scrubbed();
	if (XLogRecPtrIsInvalid(scrubbed) || !RecoveryInProgress())
		PG_RETURN_NULL();
	PG_RETURN_LSN(scrubbed);
}
