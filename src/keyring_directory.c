/*
 * keyring_directory.c
 *		Where the keyring lies: the setting, and what a directory must be like.
 *
 * Nobody else may write in the directory; a sticky one that root owns is let
 * pass, since a mounted secret's directory is one and others' files in it fail
 * the files' own rule.  A directory inside the data directory, a tablespace or
 * pg_wal is refused: its keys would travel with every backup, and be gone with
 * every new cluster.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "keyring_file.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "utils/guc.h"

#include "place.h"

static char *keyring_directory = NULL;

void
leyser_keyring_init(void)
{
	/*
	 * A postmaster setting, so that no session can point the server at keys of
	 * its own; hidden from ordinary roles, since it tells where keys lie.
	 */
	DefineCustomStringVariable(
		"leyser.keyring_directory", "Directory that holds the signing keys of tokens.",
		"It must lie outside the data directory.  There is no "
		"default.",
		&keyring_directory, NULL, PGC_POSTMASTER, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
}

const char *
leyser_keyring_directory(void)
{
	if (keyring_directory == NULL || keyring_directory[0] == '\0')
		return NULL;
	return keyring_directory;
}

/* A directory that may be opened, and what it is called. */
typedef struct Directory
{
	const char *path;
	const char *what;    /* "keyring" */
	const char *setting; /* "leyser.keyring_directory" */
} Directory;

/* A message with the directory's name at its %s; a hint with its setting's, and that. */
static bool
directory_fail(const Directory *directory, LeyserKeyringError *error,
			   LeyserKeyringState state, const char *message, const char *hint,
			   const char *reason)
{
	char text[sizeof(error->message)];
	char step[sizeof(error->hint)];

	snprintf(text, sizeof(text), message, directory->what);
	snprintf(step, sizeof(step), hint, directory->setting, directory->what);
	return leyser_keyring_fail(error, state, text, step, "\"%s\"%s%s", directory->path,
							   reason[0] ? ": " : "", reason);
}

static bool
directory_is_outside(const Directory *directory, LeyserKeyringError *error)
{
	char resolved[PATH_MAX];

	if (realpath(directory->path, resolved) == NULL)
		return directory_fail(directory, error, LEYSER_KEYRING_UNREADABLE,
							  "could not resolve the %s directory",
							  "Check %s and the rights on its path.", strerror(errno));
	if (!leyser_place_is_in_cluster(resolved))
		return true;
	return directory_fail(
		directory, error, LEYSER_KEYRING_UNSAFE,
		"%s directory lies inside the data directory",
		"Move it out of the data directory, pg_wal and every tablespace, where backups "
		"would carry it, set %s and restart the server.",
		resolved);
}

static bool
directory_is_safe(const Directory *directory, int fd, LeyserKeyringError *error)
{
	struct stat st;
	char mode[32];

	if (fstat(fd, &st) != 0)
		return directory_fail(directory, error, LEYSER_KEYRING_UNREADABLE,
							  "could not examine the %s directory",
							  "Check the file system that %s names.", strerror(errno));
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return directory_fail(
			directory, error, LEYSER_KEYRING_UNSAFE,
			"%s directory belongs to another user",
			"Give what %s names to the user that runs the server, or to root.", "");
	snprintf(mode, sizeof(mode), "mode %04o", (unsigned) st.st_mode & 07777);
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0 &&
		!(st.st_uid == 0 && (st.st_mode & S_ISVTX) != 0))
		return directory_fail(directory, error, LEYSER_KEYRING_UNSAFE,
							  "%s directory can be written by others",
							  "Take the right to write to what %s names from group and "
							  "others: chmod go-w.",
							  mode);
	return directory_is_outside(directory, error);
}

static void
directory_cannot_be_opened(const Directory *directory, LeyserKeyringError *error,
						   int errnum)
{
	if (errnum == ENOENT || errnum == ENOTDIR)
		directory_fail(directory, error, LEYSER_KEYRING_MISSING,
					   "%s directory does not exist",
					   "Mount what %1$s names or create it for the user that runs the "
					   "server (mode 0700). If this database has one already: Copy the "
					   "%2$s directory from the primary or from its backup; it is not "
					   "part of base backups.",
					   strerror(errnum));
	else
		directory_fail(directory, error, LEYSER_KEYRING_UNREADABLE,
					   "could not open the %s directory",
					   "Let the user that runs the server read what %s names.",
					   strerror(errnum));
}

int
leyser_directory_open(const char *path, const char *what, const char *setting,
					  LeyserKeyringError *error)
{
	Directory directory = {.path = path ? path : "", .what = what, .setting = setting};
	int fd;

	if (path == NULL || !is_absolute_path(path))
	{
		char message[sizeof(error->message)];

		snprintf(message, sizeof(message), "%s is not set to an absolute path", setting);
		directory_fail(&directory, error, LEYSER_KEYRING_NOT_CONFIGURED, message,
					   "Set %s in postgresql.conf to a directory outside the data "
					   "directory and restart the server.",
					   "");
		return -1;
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
	{
		directory_cannot_be_opened(&directory, error, errno);
		return -1;
	}
	if (!directory_is_safe(&directory, fd, error))
	{
		close(fd);
		return -1;
	}
	return fd;
}

int
leyser_keyring_open(LeyserKeyringError *error)
{
	return leyser_directory_open(leyser_keyring_directory(), "keyring",
								 "leyser.keyring_directory", error);
}
