/*
 * scrub_standby.c
 *		A standby's own pg_wal.
 *
 * A standby recycles its segments at its own restartpoints, and nothing but WAL
 * from the primary overwrites the recycled files; how far that goes the standby
 * cannot tell.  So it removes recycled files itself, overwritten first.
 *
 * The walreceiver opens the file of the segment that it receives, and the next
 * one before it says that it has got there.  A message never spans more than two
 * segments, so it cannot have opened a segment that is two ahead of what it says
 * after the file was renamed; such a file is overwritten under its other name.
 * Files that are nearer are left to the WAL that comes (the primary sees to that:
 * leyser_scrub_standbys()).  The server removes files of that other name when it
 * recovers.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "scrub_wal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "replication/walreceiver.h"
#include "storage/fd.h"

#include "scrub_relation.h"

/* Several databases may each have a worker at it. */
static const char *
removed_name(void)
{
	static char name[MAXPGPATH];

	snprintf(name, sizeof(name), XLOGDIR "/xlogtemp.leyser.%d", MyProcPid);
	return name;
}

/* Up to where WAL has come, as far as anybody has said. */
static XLogRecPtr
received_up_to(void)
{
	XLogRecPtr received = GetXLogReplayRecPtr(NULL);

	/* a walreceiver that starts again writes from further back */
	received = Max(received, GetWalRcvFlushRecPtr(NULL, NULL));
	return Max(received, GetWalRcvWriteRecPtr());
}

static bool
is_ahead(XLogSegNo segment)
{
	return segment >= received_up_to() / wal_segment_size + 2;
}

/*
 * Gives a file its name back, for the walreceiver may have it open; false where
 * that has made another one, and so writes there.
 */
static bool
removed_file_restore(const char *path)
{
	if (link(removed_name(), path) != 0)
	{
		if (errno == EEXIST)
			return false;
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not link file \"%s\" to \"%s\": %m", removed_name(),
							   path)));
	}
	(void) unlink(removed_name());
	return true;
}

/* Takes a recycled file away, if nobody can have it open. */
static void
recycled_file_found(LeyserWalLook *look, const char *name, XLogSegNo segment)
{
	char path[MAXPGPATH];

	if (!RecoveryInProgress() || !IsXLogFileName(name) || !is_ahead(segment))
		return;
	snprintf(path, sizeof(path), XLOGDIR "/%s", name);
	if (rename(path, removed_name()) != 0)
		return;
	if (!is_ahead(segment) && removed_file_restore(path))
		return;
	(void) leyser_scrub_overwrite(removed_name());
	(void) unlink(removed_name());
}

/* Whether all that was replayed up to a place is on disk. */
static bool
is_restartable_from(XLogRecPtr place)
{
	XLogRecPtr redo;
	TimeLineID timeline;

	GetOldestRestartPoint(&redo, &timeline);
	return redo >= place;
}

bool
leyser_scrub_standby_wal(XLogRecPtr end, LeyserScrubResult *result)
{
	LeyserWalLook look = {.end = end};

	memset(result, 0, sizeof(*result));
	if (GetXLogReplayRecPtr(NULL) < end)
	{
		leyser_scrub_note(result, "WAL has not been replayed up to %X/%X",
						  LSN_FORMAT_ARGS(end));
		return false;
	}
	leyser_scrub_utility("CHECKPOINT"); /* here: a restartpoint */
	if (!is_restartable_from(end))
	{
		leyser_scrub_note(result, "no checkpoint after %X/%X has been replayed",
						  LSN_FORMAT_ARGS(end));
		return false;
	}
	look.received = received_up_to();
	look.found = recycled_file_found;
	leyser_scrub_wal_look(&look);
	look.received = received_up_to();
	look.found = NULL;
	leyser_scrub_wal_look(&look);
	if (look.held == 0 && look.old == 0)
		return true;
	leyser_scrub_note(result,
					  "pg_wal holds %d segments and %d recycled files from before %X/%X",
					  look.held, look.old, LSN_FORMAT_ARGS(end));
	return false;
}
