/*
 * fence_file.c
 *		The file of a fence: <database uuid>.fence in leyser.fence_directory.
 *
 * A fence holds for each tenant whose purge has begun when that was, and when it
 * was erased; how far the database's events have come; and how many restores it
 * has seen released.  The rules:
 *
 *  - The file is whole or it is not there: it is written under a temporary name,
 *    synced and renamed, and then the directory is synced.  Its last line is the
 *    SHA-256 of what precedes it; a file that fails its check is damaged, never
 *    half believed.
 *  - What it says of a purge only grows.  Several servers on one host may share a
 *    directory: whoever writes reads first, under the lock of a file that nobody
 *    else may open, so nobody else can hold it.
 *  - What was being written when its process was killed is removed by the next one
 *    that writes.
 *  - It holds ids of tenants and numbers, nothing of their data, and no secret.
 *
 * Lines of words; a tenant's id has its bytes outside of the visible ASCII, and %,
 * as %XX.  Times are UTC.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "fence.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/string.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "encoding.h"
#include "fence_text.h"
#include "keyring_file.h"

#define FENCE_SUFFIX ".fence"
#define FENCE_TEMPORARY ".tmp"
#define FENCE_NAME_MAX (LEYSER_UUID_TEXT_LEN + 32)
#define FENCE_FILE_MAX (256 * 1024 * 1024)
#define FENCE_LOCK_FILE ".fence.lock"
#define FENCE_LOCK_LOOKS 50
#define FENCE_LOCK_WAIT 20000 /* microseconds between looks */
#define FENCE_LEFT_AFTER 600  /* seconds; nobody writes for as long */

static char *fence_directory = NULL;

void
leyser_fence_init(void)
{
	DefineCustomStringVariable(
		"leyser.fence_directory", "Directory that holds the fences of erased tenants.",
		"It must lie outside the data directory.  Without it, fences lie in "
		"leyser.keyring_directory.",
		&fence_directory, NULL, PGC_POSTMASTER, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
}

/* ---- reading ---- */

int
leyser_fence_open_directory(LeyserKeyringError *error)
{
	if (fence_directory == NULL || fence_directory[0] == '\0')
		return leyser_keyring_open(error);
	return leyser_directory_open(fence_directory, "fence", "leyser.fence_directory",
								 error);
}

static const char *
fence_path(void)
{
	if (fence_directory == NULL || fence_directory[0] == '\0')
		return leyser_keyring_directory();
	return fence_directory;
}

static void
fence_name(const pg_uuid_t *database, char name[FENCE_NAME_MAX])
{
	leyser_uuid_to_text(database, name);
	strlcat(name, FENCE_SUFFIX, FENCE_NAME_MAX);
}

/* Nobody else may write it; its content is no secret of the server's. */
static bool
fence_file_is_safe(int fd, off_t *size)
{
	struct stat st;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > FENCE_FILE_MAX)
		return false;
	*size = st.st_size;
	return (st.st_uid == geteuid() || st.st_uid == 0) &&
		   (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* Reads size bytes; what is shorter fails the check. */
static char *
fence_slurp(int fd, off_t size)
{
	char *text = MemoryContextAllocExtended(CurrentMemoryContext, size + 1,
											MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	off_t len = 0;

	while (text != NULL && len < size)
	{
		ssize_t got = read(fd, text + len, size - len);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		len += got;
	}
	if (text != NULL)
		text[len] = '\0';
	return text;
}

static LeyserFenceState
fence_failed(LeyserFenceState state, const char *message, const char *hint,
			 const char *name, const char *reason, LeyserKeyringError *error)
{
	leyser_keyring_fail(error, LEYSER_KEYRING_DAMAGED, message, hint, "\"%s/%s\": %s",
						fence_path(), name, reason);
	return state;
}

/* The file's text; NULL where there is none to be had. */
static char *
fence_load(int dir, const char *name, LeyserFenceState *state, LeyserKeyringError *error)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char *text = NULL;
	off_t size;

	if (fd < 0 && errno == ENOENT)
		*state = fence_failed(
			LEYSER_FENCE_ABSENT, "there is no fence of this database on this host",
			"Copy it from the server that this database was last on; if it is lost, "
			"CALL leyser.accept_fence() once it is known which tenants were erased "
			"since.",
			name, strerror(errno), error);
	else if (fd < 0)
		*state = fence_failed(LEYSER_FENCE_UNREADABLE, "could not read the fence",
							  "Let the user that runs the server read it.", name,
							  strerror(errno), error);
	else if (!fence_file_is_safe(fd, &size))
		*state = fence_failed(LEYSER_FENCE_DAMAGED,
							  "the fence belongs to another user, or others may write it",
							  "Give it to the user that runs the server, with mode 0600, "
							  "once it is known to be unchanged.",
							  name, "owner or mode", error);
	else if ((text = fence_slurp(fd, size)) == NULL)
		*state =
			fence_failed(LEYSER_FENCE_UNREADABLE, "could not read the fence",
						 "It does not fit into memory.", name, "out of memory", error);
	if (fd >= 0)
		close(fd);
	return text;
}

static LeyserFence *
fence_read_in(int dir, const pg_uuid_t *database, LeyserFenceState *state,
			  LeyserKeyringError *error)
{
	char name[FENCE_NAME_MAX];
	LeyserFence *fence;
	char *text;

	fence_name(database, name);
	text = fence_load(dir, name, state, error);
	if (text == NULL)
		return NULL;
	fence = leyser_fence_new(database);
	if (leyser_fence_parse(text, fence))
	{
		*state = LEYSER_FENCE_FOUND;
		pfree(text);
		return fence;
	}
	pfree(text);
	*state = fence_failed(
		LEYSER_FENCE_DAMAGED, "the fence of this database is damaged",
		"Copy it from a standby or from a backup of its directory; if it is lost, CALL "
		"leyser.accept_fence() once it is known which tenants were erased since.",
		name, "it fails its check", error);
	return NULL;
}

LeyserFence *
leyser_fence_read(const pg_uuid_t *database, LeyserFenceState *state,
				  LeyserKeyringError *error)
{
	int dir = leyser_fence_open_directory(error);
	LeyserFence *fence = NULL;

	if (dir < 0)
	{
		*state = LEYSER_FENCE_UNREADABLE;
		return NULL;
	}
	PG_TRY();
	{
		fence = fence_read_in(dir, database, state, error);
	}
	PG_FINALLY();
	{
		close(dir);
	}
	PG_END_TRY();
	return fence;
}

/* ---- writing ---- */

static bool
fence_write_failed(const char *name, LeyserKeyringError *error)
{
	return leyser_keyring_fail(
		error, LEYSER_KEYRING_UNREADABLE, "could not write the fence",
		"Let the user that runs the server create files in leyser.fence_directory "
		"(without it: leyser.keyring_directory).",
		"\"%s/%s\": %s", fence_path(), name, strerror(errno));
}

/* Others that write: of this server, or of another one that shares the directory. */
static bool
lock_wait(int fd)
{
	for (int i = 0; i < FENCE_LOCK_LOOKS; i++)
	{
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return true;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return errno == EINVAL || errno == ENOSYS || errno == EBADF ||
				   errno == ENOTSUP; /* some file systems have no locks */
		pg_usleep(FENCE_LOCK_WAIT);
	}
	errno = EWOULDBLOCK;
	return false;
}

/* A copy of the directory may have been given other rights. */
int
leyser_fence_lock(int dir)
{
	int fd = openat(dir, FENCE_LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
					S_IRUSR | S_IWUSR);
	int errnum;

	if (fd < 0)
		return -1;
	if (fchmod(fd, S_IRUSR | S_IWUSR) == 0 && lock_wait(fd))
		return fd;
	errnum = errno;
	close(fd);
	errno = errnum;
	return -1;
}

/* Whether a file's name is that under which some process writes name. */
static bool
is_temporary(const char *file, const char *name)
{
	size_t len = strlen(name);

	return file[0] == '.' && strncmp(file + 1, name, len) == 0 && file[len + 1] == '.' &&
		   pg_str_endswith(file, FENCE_TEMPORARY);
}

/* Removes what a killed process left; what cannot be removed does no harm. */
static void
fence_remove_left(int dir, const char *name)
{
	DIR *stream = AllocateDir(fence_path());
	struct dirent *entry;
	struct stat st;

	while ((entry = ReadDirExtended(stream, fence_path(), LOG)) != NULL)
	{
		if (is_temporary(entry->d_name, name) &&
			fstatat(dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			st.st_mtime < time(NULL) - FENCE_LEFT_AFTER)
			(void) unlinkat(dir, entry->d_name, 0);
	}
	if (stream != NULL)
		FreeDir(stream);
}

/* Writes, syncs and closes it; false and errno. */
static bool
fence_fill(int fd, const StringInfo text)
{
	ssize_t written;
	bool filled;
	int errnum;

	errno = ENOSPC; /* what a short write means */
	written = write(fd, text->data, text->len);
	filled = written == text->len && fsync(fd) == 0;
	errnum = errno;
	if (close(fd) != 0)
		return false;
	errno = errnum;
	return filled;
}

bool
leyser_fence_store(int dir, const char *name, const StringInfo text)
{
	char temporary[FENCE_NAME_MAX + 16];
	int fd;

	fence_remove_left(dir, name);
	snprintf(temporary, sizeof(temporary), ".%s.%d" FENCE_TEMPORARY, name, MyProcPid);
	fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
				0600);
	if (fd < 0)
		return false;
	if (!fence_fill(fd, text) || renameat(dir, temporary, dir, name) != 0)
	{
		int errnum = errno;

		unlinkat(dir, temporary, 0);
		errno = errnum;
		return false;
	}
	/* Some file systems cannot sync a directory; PostgreSQL tolerates that too. */
	return fsync(dir) == 0 || errno == EBADF || errno == EINVAL;
}

bool
leyser_fence_is_written(const LeyserFence *fence)
{
	LeyserFenceState state;
	LeyserKeyringError error;
	LeyserFence *present = leyser_fence_read(&fence->database, &state, &error);

	return present != NULL && !leyser_fence_merge(present, fence);
}

static void
fence_put_aside(int dir, const char *name)
{
	char aside[FENCE_NAME_MAX + 32];

	snprintf(aside, sizeof(aside), "%s.damaged." INT64_FORMAT, name,
			 GetCurrentTimestamp());
	(void) renameat(dir, name, dir, aside);
}

/* Under the lock. */
static bool
fence_write_in(int dir, const char *name, const LeyserFence *fence, bool replace,
			   LeyserKeyringError *error)
{
	LeyserFenceState state = LEYSER_FENCE_UNREADABLE;
	LeyserFence *present;
	StringInfoData text;

	present = fence_read_in(dir, &fence->database, &state, error);
	if (state == LEYSER_FENCE_DAMAGED && replace)
	{
		fence_put_aside(dir, name);
		state = LEYSER_FENCE_ABSENT;
	}
	if (state == LEYSER_FENCE_ABSENT)
		present = leyser_fence_new(&fence->database);
	else if (state != LEYSER_FENCE_FOUND)
		return false;
	if (!leyser_fence_merge(present, fence) && state == LEYSER_FENCE_FOUND)
		return true;
	initStringInfo(&text);
	leyser_fence_render(present, &text);
	if (leyser_fence_store(dir, name, &text))
		return true;
	return fence_write_failed(name, error);
}

static bool
fence_write_locked(int dir, const LeyserFence *fence, bool replace,
				   LeyserKeyringError *error)
{
	char name[FENCE_NAME_MAX];
	volatile bool written = false;
	int lock = leyser_fence_lock(dir);

	fence_name(&fence->database, name);
	if (lock < 0)
		return fence_write_failed(name, error);
	PG_TRY();
	{
		written = fence_write_in(dir, name, fence, replace, error);
	}
	PG_FINALLY();
	{
		close(lock);
	}
	PG_END_TRY();
	return written;
}

bool
leyser_fence_write(const LeyserFence *fence, bool replace, LeyserKeyringError *error)
{
	int dir = leyser_fence_open_directory(error);
	bool written = false;

	if (dir < 0)
		return false;
	PG_TRY();
	{
		written = fence_write_locked(dir, fence, replace, error);
	}
	PG_FINALLY();
	{
		close(dir);
	}
	PG_END_TRY();
	return written;
}
