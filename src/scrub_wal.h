/*
 * scrub_wal.h
 *		What the files in pg_wal hold.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_SCRUB_WAL_H
#define LEYSER_SCRUB_WAL_H

#include "scrub.h"

#include "access/xlogdefs.h"

typedef struct LeyserWalLook
{
	XLogRecPtr end;      /* what was written before is old */
	XLogRecPtr received; /* on a standby: up to where it has received */
	int held;            /* segments that are old by their name */
	int old;             /* other files with old pages */
	XLogSegNo last;      /* the latest segment they are meant for */
	/* called for each of them, where set */
	void (*found)(struct LeyserWalLook *look, const char *name, XLogSegNo segment);
} LeyserWalLook;

/* Looks at all files in pg_wal; fills in held, old and last. */
extern void leyser_scrub_wal_look(LeyserWalLook *look);

/*
 * Waits until everybody who streams WAL has it on disk (or has replayed it) up to
 * a place; false after "timeout" milliseconds.
 */
extern bool leyser_scrub_receivers_wait(XLogRecPtr place, bool replayed, int timeout);

/* Whether anybody streams WAL and replays it. */
extern bool leyser_scrub_have_standbys(void);

#endif /* LEYSER_SCRUB_WAL_H */
