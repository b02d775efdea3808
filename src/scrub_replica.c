/*
 * scrub_replica.c
 *		Whoever receives WAL from this server keeps up while pg_wal is burned.
 *
 * A checkpoint removes segments that a standby without a slot has not received
 * yet, and then that standby can never go on.  Burning writes faster than any
 * load, so it waits for everybody who is connected.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "scrub_wal.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "pause.h"

#define LOOK_AGAIN 20 /* milliseconds */

/* Where a walsender's receiver is; false where nobody streams through it. */
static bool
receiver_position(WalSnd *sender, bool replayed, XLogRecPtr *position)
{
	bool streams;

	SpinLockAcquire(&sender->mutex);
	streams = sender->pid != 0 && (sender->state == WALSNDSTATE_STREAMING ||
								   sender->state == WALSNDSTATE_CATCHUP);
	*position = replayed ? sender->apply : sender->flush;
	/* those who only keep WAL (pg_receivewal) never apply any */
	if (replayed && XLogRecPtrIsInvalid(*position))
		streams = false;
	SpinLockRelease(&sender->mutex);
	return streams;
}

/* How many receivers have not got to a place yet; all = how many there are. */
static int
receivers_behind(XLogRecPtr place, bool replayed, int *all)
{
	int behind = 0;

	*all = 0;
	for (int i = 0; i < max_wal_senders; i++)
	{
		XLogRecPtr position;

		if (!receiver_position(&WalSndCtl->walsnds[i], replayed, &position))
			continue;
		(*all)++;
		if (position < place)
			behind++;
	}
	return behind;
}

/*
 * Waits until everybody who streams WAL has written it to disk (or replayed it)
 * up to a place; false where that took longer than "timeout" milliseconds.
 */
bool
leyser_scrub_receivers_wait(XLogRecPtr place, bool replayed, int timeout)
{
	TimestampTz start = GetCurrentTimestamp();
	int all;

	while (receivers_behind(place, replayed, &all) > 0)
	{
		if (TimestampDifferenceExceeds(start, GetCurrentTimestamp(), timeout))
			return false;
		leyser_pause(LOOK_AGAIN);
	}
	return true;
}

/* Whether anybody streams WAL and replays it. */
bool
leyser_scrub_have_standbys(void)
{
	int all;

	(void) receivers_behind(InvalidXLogRecPtr, true, &all);
	return all > 0;
}
