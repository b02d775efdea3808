/*
 * backup_directory.c
 *		Where leyser's own backups lie: the setting, and what the directory must be.
 *
 * A backup holds everything, so nobody else may write there, and a place inside
 * the data directory or a tablespace, also by a link, is refused: a backup would
 * hold the one before.
 *
 * The file ".leyser" in it says two things.  Its lock (flock) keeps other databases
 * and other clusters out while one works there, and ends with the process that has
 * it.  Its contents, a uuid, are the directory's id, which the books note with each
 * backup: where the directory is not mounted, or is another host's after a
 * failover, its backups are not there, but neither are they gone.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "backup.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "miscadmin.h"
#include "utils/guc.h"

#include "encoding.h"
#include "place.h"

#define MARK_FILE ".leyser"

static char *backup_directory = NULL;

void
leyser_backup_directory_init(void)
{
	/* a reload changes it: backups that lie elsewhere stay where they are */
	DefineCustomStringVariable("leyser.backup_directory",
							   "Directory in which leyser.take_backup() keeps backups.",
							   "It must lie outside the data directory and every "
							   "tablespace.  There is no default.",
							   &backup_directory, NULL, PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   NULL, NULL, NULL);
}

bool
leyser_backup_directory_is_set(void)
{
	return backup_directory != NULL && backup_directory[0] != '\0';
}

/* ---- what it must be ---- */

static void
directory_refuse(const char *problem, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("backup directory %s", problem),
					errdetail("leyser.backup_directory is \"%s\".", backup_directory),
					errhint("%s", hint)));
}

static void
directory_check_owner(int fd)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not examine directory \"%s\": %m", backup_directory)));
	if (st.st_uid != geteuid())
		directory_refuse("belongs to another user",
						 "Give it to the user that runs the server.");
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		directory_refuse(
			"can be written by others",
			"Take the right to write from group and others: chmod go-w, better 0700.");
}

/* So that the path of each file in it fits into what programs have for it. */
static void
directory_check_length(const char *path)
{
	if (strlen(path) + LEYSER_BACKUP_NAME_MAX + 128 > MAXPGPATH)
		directory_refuse("has too long a path", "Choose a shorter one.");
}

static void
directory_resolve(LeyserBackupDirectory *directory)
{
	char resolved[PATH_MAX];

	if (realpath(backup_directory, resolved) == NULL ||
		access(resolved, R_OK | W_OK | X_OK) != 0)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not use directory \"%s\": %m", backup_directory),
						errhint("Let the user that runs the server write in it.")));
	if (leyser_place_is_in_cluster(resolved))
		directory_refuse("lies inside the data directory or a tablespace",
						 "Choose a place outside of them, best on another disk.");
	directory_check_length(resolved);
	strlcpy(directory->path, resolved, sizeof(directory->path));
}

void
leyser_backup_directory_open(LeyserBackupDirectory *directory)
{
	*directory = (LeyserBackupDirectory){.fd = -1, .lock_fd = -1};
	if (!leyser_backup_directory_is_set() || !is_absolute_path(backup_directory))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("leyser.backup_directory is not set to an absolute path"),
				 errhint("Set leyser.backup_directory in postgresql.conf to a directory "
						 "outside the data directory and reload the configuration.")));
	directory_check_length(backup_directory);
	directory->fd = open(backup_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory->fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open directory \"%s\": %m", backup_directory),
				 errhint("Mount it, or create it for the user that runs the server "
						 "(mode 0700).")));
	PG_TRY();
	{
		directory_check_owner(directory->fd);
		directory_resolve(directory);
	}
	PG_CATCH();
	{
		leyser_backup_directory_close(directory);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

void
leyser_backup_directory_close(LeyserBackupDirectory *directory)
{
	if (directory->lock_fd >= 0)
		close(directory->lock_fd);
	if (directory->fd >= 0)
		close(directory->fd);
	directory->fd = directory->lock_fd = -1;
}

/* ---- its id and its lock ---- */

static void
mark_failed(const char *what)
{
	ereport(ERROR, (errcode_for_file_access(),
					errmsg("could not %s file \"%s/" MARK_FILE "\": %m", what,
						   backup_directory)));
}

/* Written once, under the lock: a file without a whole id has none. */
static void
mark_write(LeyserBackupDirectory *directory)
{
	pg_uuid_t uuid;
	char text[LEYSER_UUID_TEXT_LEN + 2];

	if (!pg_strong_random(uuid.data, UUID_LEN))
		elog(ERROR, "could not make a random id");
	leyser_uuid_to_text(&uuid, text);
	strlcpy(directory->id, text, sizeof(directory->id));
	strlcat(text, "\n", sizeof(text));
	if (ftruncate(directory->lock_fd, 0) != 0 ||
		pwrite(directory->lock_fd, text, strlen(text), 0) != (ssize_t) strlen(text) ||
		fsync(directory->lock_fd) != 0 || fsync(directory->fd) != 0)
		mark_failed("write");
	ereport(LOG, (errmsg("backup directory \"%s\" is new: it is given the id %s",
						 directory->path, directory->id)));
}

static bool
mark_read(LeyserBackupDirectory *directory, int fd)
{
	char text[LEYSER_UUID_TEXT_LEN + 1] = "";
	pg_uuid_t uuid;

	if (pread(fd, text, LEYSER_UUID_TEXT_LEN, 0) != LEYSER_UUID_TEXT_LEN ||
		!leyser_uuid_from_text(text, &uuid))
		return false; /* unreadable, too: nothing in it is known then */
	strlcpy(directory->id, text, sizeof(directory->id));
	return true;
}

void
leyser_backup_directory_identify(LeyserBackupDirectory *directory)
{
	int fd = openat(directory->fd, MARK_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 && errno == ENOENT)
		return;
	if (fd < 0)
		mark_failed("open");
	(void) mark_read(directory, fd);
	close(fd);
}

bool
leyser_backup_directory_lock(LeyserBackupDirectory *directory, bool make)
{
	int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | (make ? O_CREAT : 0);

	directory->lock_fd = openat(directory->fd, MARK_FILE, flags, S_IRUSR | S_IWUSR);
	if (directory->lock_fd < 0 && errno == ENOENT && !make)
		return false;
	if (directory->lock_fd < 0)
		mark_failed("open");
	if (flock(directory->lock_fd, LOCK_EX | LOCK_NB) != 0)
	{
		if (errno != EWOULDBLOCK)
			mark_failed("lock");
		ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
						errmsg("another server works in the backup directory"),
						errdetail("leyser.backup_directory is \"%s\".", backup_directory),
						errhint("Wait for its end, or give each server a directory.")));
	}
	if (mark_read(directory, directory->lock_fd))
		return true;
	if (make)
		mark_write(directory);
	return make;
}

/* ---- its disk ---- */

void
leyser_backup_directory_require_room(const LeyserBackupDirectory *directory, int64 bytes)
{
	struct statvfs vfs;
	uint64 room;

	if (fstatvfs(directory->fd, &vfs) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not examine the disk of \"%s\": %m", backup_directory)));
	room = (uint64) vfs.f_bavail * vfs.f_frsize;
	if (room >= (uint64) bytes)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DISK_FULL), errmsg("backup directory has not enough room"),
			 errdetail("A backup may need %lld MB, %llu MB are free.",
					   (long long) (bytes >> 20), (unsigned long long) (room >> 20)),
			 errhint("Enlarge the disk, or let fewer generations be kept: "
					 "leyser.set_backup_policy().")));
}

void
leyser_backup_directory_sync(const LeyserBackupDirectory *directory)
{
	if (fsync(directory->fd) != 0)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not fsync directory \"%s\": %m", directory->path)));
}
