/*
 * scrub_file.c
 *		Overwrites files before the server gives their blocks back.
 *
 * REINDEX, TRUNCATE, REFRESH and DROP leave an old file behind, which the server
 * cuts to nothing and unlinks at the end of their transaction, so its bytes stay
 * on the disk where no later pass finds them.  (A second link to the file does
 * not help: cutting empties that, too.)  When may it be overwritten?
 *
 *  - Not before the commit: until then a crash or an error brings it back.
 *  - After the commit record is on disk, which a transaction that drops files
 *    waits for, whatever synchronous_commit says; but before its locks are
 *    released and the files are cut.  That is when the server calls
 *    transaction callbacks with XACT_EVENT_COMMIT.
 *
 * So nothing is in use that is overwritten, and a crash leaves no file that is
 * overwritten and in use: recovery replays the commit and removes the file (with
 * what had not been overwritten yet).  Dirty pages of the file in the buffer pool
 * go first, lest they are written after us.  No error may be raised there: the
 * transaction is committed and the server would panic.
 *
 * What a crash between commit and overwriting removes is known afterwards: before
 * the commit the names of the files are written to a list, which is removed when
 * they are overwritten.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "scrub_relation.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xact.h"
#include "catalog/storage.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/fd.h"
#include "storage/smgr.h"
#include "utils/memutils.h"

#include "compat.h"

#define ZEROS_SIZE (64 * 1024)

typedef struct DroppedFile
{
	char path[MAXPGPATH]; /* of the first segment */
} DroppedFile;

static bool overwrite = false;
static int failed_files = 0;

/* What the transaction that is about to commit drops; in its own memory. */
static leyser_file *dropped_relations = NULL;
static SMgrRelation *dropped_storage = NULL;
static int dropped_count = 0;
static DroppedFile *dropped_files = NULL;
static int file_count = 0;

/* Writes zeros over an open file; false where that failed. */
static bool
file_zero(int fd)
{
	static const char zeros[ZEROS_SIZE];
	struct stat info;

	if (fstat(fd, &info) != 0)
		return false;
	for (off_t at = 0; at < info.st_size;)
	{
		size_t size = Min(info.st_size - at, ZEROS_SIZE);
		ssize_t written = pg_pwrite(fd, zeros, size, at);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return false;
		at += written;
	}
	/* even where the server runs with fsync = off: what is cut is not written later */
	return fsync(fd) == 0;
}

/* Overwrites one file; false where there is none.  Raises no error. */
bool
leyser_scrub_overwrite(const char *path)
{
	int fd = BasicOpenFile(path, O_RDWR | PG_BINARY);
	bool done;

	if (fd < 0 && errno == ENOENT)
		return false;
	done = fd >= 0 && file_zero(fd);
	if (fd >= 0)
		close(fd);
	if (!done)
	{
		failed_files++;
		ereport(WARNING, (errcode_for_file_access(),
						  errmsg("could not overwrite file \"%s\": %m", path),
						  errdetail("It is being removed; its bytes stay in free "
									"blocks of the disk.")));
	}
	return true;
}

/* ---- the list, for after a crash ---- */

/* Several databases may each have a worker at it. */
static const char *
list_path(void)
{
	static char path[MAXPGPATH];

	snprintf(path, sizeof(path), "leyser_dropped.%u", MyDatabaseId);
	return path;
}

static bool
file_holds_bytes(const char *path)
{
	struct stat info;

	return stat(path, &info) == 0 && info.st_size > 0;
}

static void
list_write(void)
{
	FILE *list = AllocateFile(list_path(), PG_BINARY_W);
	bool failed = list == NULL;

	for (int i = 0; !failed && i < file_count; i++)
	{
		if (file_holds_bytes(dropped_files[i].path))
			failed = fprintf(list, "%s\n", dropped_files[i].path) < 0;
	}
	failed = failed || fflush(list) != 0 || fsync(fileno(list)) != 0;
	if (list != NULL && FreeFile(list) != 0)
		failed = true;
	if (failed)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not write file \"%s\": %m", list_path())));
	fsync_fname(".", true);
}

/* How many of the files of a list that a crash left are gone, or cut to nothing. */
static int
list_lost(FILE *list)
{
	char path[MAXPGPATH];
	int lost = 0;

	while (fgets(path, sizeof(path), list) != NULL)
	{
		path[strcspn(path, "\n")] = '\0';
		if (path[0] != '\0' && !file_holds_bytes(path))
			lost++;
	}
	return lost;
}

int
leyser_scrub_lost_files(void)
{
	FILE *list = AllocateFile(list_path(), PG_BINARY_R);
	int lost;

	if (list == NULL && errno == ENOENT)
		return 0;
	if (list == NULL)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not open file \"%s\": %m", list_path())));
	lost = list_lost(list);
	FreeFile(list);
	return lost;
}

void
leyser_scrub_forget_lost_files(void)
{
	(void) unlink(list_path());
}

/* ---- transactions that drop files ---- */

/* While an error may still be raised: what will be dropped. */
static void
dropped_collect(void)
{
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);

	dropped_count = smgrGetPendingDeletes(true, &dropped_relations);
	dropped_storage = palloc_array(SMgrRelation, dropped_count + 1);
	dropped_files = palloc_array(DroppedFile, dropped_count * (MAX_FORKNUM + 1) + 1);
	file_count = 0;
	for (int i = 0; i < dropped_count; i++)
	{
		for (int fork = 0; fork <= MAX_FORKNUM; fork++)
			leyser_file_path(dropped_relations[i], fork,
							 dropped_files[file_count++].path);
	}
	if (dropped_count > 0)
		list_write();
	MemoryContextSwitchTo(caller);
}

static void
dropped_overwrite(void)
{
	if (dropped_count == 0)
		return;
	for (int i = 0; i < dropped_count; i++)
		dropped_storage[i] = leyser_file_open(dropped_relations[i]);
	leyser_drop_buffers(dropped_storage, dropped_count);
	for (int i = 0; i < file_count; i++)
	{
		char path[MAXPGPATH + 16];
		bool more = leyser_scrub_overwrite(dropped_files[i].path);

		for (int segment = 1; more; segment++)
		{
			snprintf(path, sizeof(path), "%s.%d", dropped_files[i].path, segment);
			more = leyser_scrub_overwrite(path);
		}
	}
}

static void
file_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT && overwrite)
		dropped_collect();
	else if (event == XACT_EVENT_COMMIT)
		dropped_overwrite();
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
		return;
	if (dropped_count > 0)
		(void) unlink(list_path());
	dropped_count = 0;
}

void
leyser_scrub_dropped_files(bool on)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(file_transaction, NULL);
	registered = true;
	overwrite = on;
}

int
leyser_scrub_failed_files(void)
{
	return failed_files;
}
