/*
 * scrub_wal.c
 *		pg_wal without what was written before a purge's end.
 *
 * A segment file is old by its name until a checkpoint removes or recycles it.
 * Recycling renames it for later use with its old content, which stays until the
 * file is written again from its beginning to its end.  So: a checkpoint, and
 * then as many switches of segments as there are files with old content (a switch
 * fills the rest of its segment with zeros), until there are none.
 *
 * What a file holds is not guessed from its name: every page of WAL tells in its
 * header where in WAL it belongs, so each page of each file in pg_wal must either
 * be empty or lie after the end of the purge.
 *
 * Everybody who receives WAL must have it before the checkpoint that removes it.
 * While a slot, the archiver or wal_keep_size hold old segments back nothing is
 * switched: that would only add segments that are held back, too.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "scrub_wal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xloginsert.h"
#include "catalog/pg_control.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "pause.h"
#include "scrub_relation.h"

#define READ_SIZE (32 * XLOG_BLCKSZ)
/* A burn leaves nothing old behind unless others recycle meanwhile. */
#define MAX_ROUNDS 8
#define RECEIVE_TIMEOUT 30000 /* milliseconds without which a standby is too far behind */
#define REPLAY_TIMEOUT 10000
/* While standbys remove their recycled files, which takes them a second or two. */
#define STANDBY_SWITCHES 6
#define STANDBY_PAUSE 1500 /* milliseconds */

/* ---- looking ---- */

static bool
bytes_are_zero(const char *start, Size size)
{
	return size == 0 || (start[0] == 0 && memcmp(start, start + 1, size - 1) == 0);
}

/*
 * Whether a page holds something from before the end.  On a standby, the page
 * that is being received may have old bytes behind what was received.
 */
static bool
page_is_old(const LeyserWalLook *look, const char *page)
{
	const XLogPageHeader header = (const XLogPageHeader) page;

	if (bytes_are_zero(page, XLOG_BLCKSZ))
		return false;
	if (header->xlp_magic != XLOG_PAGE_MAGIC || header->xlp_pageaddr < look->end)
		return true;
	if (look->received >= header->xlp_pageaddr &&
		look->received < header->xlp_pageaddr + XLOG_BLCKSZ)
	{
		Size written = look->received - header->xlp_pageaddr;

		return !bytes_are_zero(page + written, XLOG_BLCKSZ - written);
	}
	return false;
}

/* True where a file holds an old page; false where it holds none or is gone. */
static bool
file_is_old(const LeyserWalLook *look, const char *path)
{
	char *pages = palloc(READ_SIZE);
	int fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	bool old = false;
	ssize_t got;

	if (fd < 0 && errno == ENOENT)
	{
		pfree(pages);
		return false;
	}
	if (fd < 0)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not open file \"%s\": %m", path)));
	while (!old && (got = read(fd, pages, READ_SIZE)) > 0)
	{
		CHECK_FOR_INTERRUPTS();
		for (ssize_t at = 0; !old && at + XLOG_BLCKSZ <= got; at += XLOG_BLCKSZ)
			old = page_is_old(look, pages + at);
	}
	CloseTransientFile(fd);
	pfree(pages);
	return old;
}

static void
look_at_file(LeyserWalLook *look, const char *name)
{
	char path[MAXPGPATH];
	struct stat info;
	TimeLineID timeline;
	XLogSegNo segment = 0;

	snprintf(path, sizeof(path), XLOGDIR "/%s", name);
	if (lstat(path, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size < XLOG_BLCKSZ)
		return;
	if (strspn(name, "0123456789ABCDEF") >= 24)
		XLogFromFileName(name, &timeline, &segment, wal_segment_size);
	if (segment > 0 && segment * (uint64) wal_segment_size < look->end)
	{
		look->held++;
		return;
	}
	if (!file_is_old(look, path))
		return;
	look->old++;
	look->last = Max(look->last, segment);
	if (look->found != NULL)
		look->found(look, name, segment);
}

void
leyser_scrub_wal_look(LeyserWalLook *look)
{
	DIR *folder = AllocateDir(XLOGDIR);
	struct dirent *entry;

	look->held = look->old = 0;
	look->last = 0;
	while ((entry = ReadDir(folder, XLOGDIR)) != NULL)
		look_at_file(look, entry->d_name);
	FreeDir(folder);
}

/* ---- burning ---- */

/* Ends the current segment, however full it is; gives where the next one starts. */
static XLogRecPtr
wal_switch(void)
{
	char nothing = 0;
	XLogRecPtr end;
	XLogSegNo segment;

	/* a switch right behind another one would do nothing */
	XLogBeginInsert();
	XLogRegisterData(&nothing, 1);
	(void) XLogInsert(RM_XLOG_ID, XLOG_NOOP);
	end = RequestXLogSwitch(false);
	XLByteToPrevSeg(end, segment, wal_segment_size);
	return (segment + 1) * (uint64) wal_segment_size;
}

/*
 * Switches, and waits until everybody has received that; gives where the next
 * segment starts, or 0 where somebody does not receive it.
 *
 * The switch must not start a checkpoint (as max_wal_size has it): with nothing to
 * write that would be over, and the segment removed, while a standby without a
 * slot still receives it.
 */
static XLogRecPtr
wal_switch_received(void)
{
	uint64 written =
		GetXLogInsertRecPtr() / wal_segment_size - GetRedoRecPtr() / wal_segment_size;
	XLogRecPtr start;

	if (written + 3 >= (uint64) CheckPointSegments)
	{
		if (!leyser_scrub_receivers_wait(GetFlushRecPtr(NULL), false, RECEIVE_TIMEOUT))
			return InvalidXLogRecPtr;
		leyser_scrub_utility("CHECKPOINT");
	}
	start = wal_switch();
	return leyser_scrub_receivers_wait(start, false, RECEIVE_TIMEOUT) ? start
																	  : InvalidXLogRecPtr;
}

/*
 * Writes WAL until a segment's file has been written again as a whole, no faster
 * than others receive it; false where they do not.
 */
static bool
wal_burn(XLogSegNo last)
{
	XLogRecPtr start;

	do
	{
		CHECK_FOR_INTERRUPTS();
		start = wal_switch_received();
		if (XLogRecPtrIsInvalid(start))
			return false;
	} while (start / wal_segment_size <= last);
	return true;
}

/* Own files: true where none is old any longer. */
static bool
wal_renew(LeyserWalLook *look, LeyserScrubResult *result)
{
	for (int round = 0; round < MAX_ROUNDS; round++)
	{
		if (!leyser_scrub_receivers_wait(GetFlushRecPtr(NULL), false, RECEIVE_TIMEOUT))
			break;
		leyser_scrub_utility("CHECKPOINT");
		leyser_scrub_wal_look(look);
		if (look->held == 0 && look->old == 0)
			return true;
		if (look->held > 0 || !wal_burn(look->last))
			break;
	}
	leyser_scrub_note(result,
					  "pg_wal holds %d segments and %d recycled files from before %X/%X",
					  look->held, look->old, LSN_FORMAT_ARGS(look->end));
	return false;
}

/*
 * A standby cannot overwrite the file that it is writing to nor the next one; the
 * WAL that comes after its own look does that.
 */
bool
leyser_scrub_standbys(XLogRecPtr end, LeyserScrubResult *result)
{
	memset(result, 0, sizeof(*result));
	if (!leyser_scrub_have_standbys())
		return true;
	if (!leyser_scrub_receivers_wait(end, true, REPLAY_TIMEOUT))
	{
		leyser_scrub_note(result, "a standby has not replayed WAL up to %X/%X",
						  LSN_FORMAT_ARGS(end));
		return false;
	}
	for (int i = 0; i < STANDBY_SWITCHES; i++)
	{
		leyser_pause(STANDBY_PAUSE);
		(void) wal_switch_received();
	}
	return true;
}

bool
leyser_scrub_wal(XLogRecPtr *end, LeyserScrubResult *result)
{
	LeyserWalLook look = {0};

	memset(result, 0, sizeof(*result));
	if (XLogRecPtrIsInvalid(*end))
		*end = wal_switch();
	look.end = *end;
	return wal_renew(&look, result);
}
