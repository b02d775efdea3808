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

static bool
directory_is_outside(LeyserKeyringError *error)
{
	char resolved[PATH_MAX];

	if (realpath(keyring_directory, resolved) == NULL)
		return leyser_keyring_fail(
			error, LEYSER_KEYRING_UNREADABLE, "could not resolve the keyring directory",
			"Check leyser.keyring_directory and the rights on its path.", "\"%s\": %s",
			keyring_directory, strerror(errno));
	if (!leyser_place_is_in_cluster(resolved))
		return true;
	return leyser_keyring_fail(
		error, LEYSER_KEYRING_UNSAFE, "keyring directory lies inside the data directory",
		"Move it out of the data directory, pg_wal and every tablespace, where backups "
		"would carry the keys, set leyser.keyring_directory and restart the server.",
		"\"%s\" is \"%s\".", keyring_directory, resolved);
}

static bool
directory_is_safe(int fd, LeyserKeyringError *error)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return leyser_keyring_fail(error, LEYSER_KEYRING_UNREADABLE,
								   "could not examine the keyring directory",
								   "Check the file system it lies on.", "\"%s\": %s",
								   keyring_directory, strerror(errno));
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return leyser_keyring_fail(
			error, LEYSER_KEYRING_UNSAFE, "keyring directory belongs to another user",
			"Give it to the user that runs the server, or to root.", "\"%s\"",
			keyring_directory);
	if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0 &&
		!(st.st_uid == 0 && (st.st_mode & S_ISVTX) != 0))
		return leyser_keyring_fail(
			error, LEYSER_KEYRING_UNSAFE, "keyring directory can be written by others",
			"Take the right to write from group and others: chmod go-w.",
			"\"%s\" has mode %04o.", keyring_directory, (unsigned) st.st_mode & 07777);
	return directory_is_outside(error);
}

static void
directory_cannot_be_opened(LeyserKeyringError *error, int errnum)
{
	if (errnum == ENOENT || errnum == ENOTDIR)
		leyser_keyring_fail(error, LEYSER_KEYRING_MISSING,
							"keyring directory does not exist",
							"Mount it or create it for the user that runs the server "
							"(mode 0700). If this "
							"database has a keyring already: " LEYSER_KEYRING_COPY_HINT,
							"\"%s\": %s", keyring_directory, strerror(errnum));
	else
		leyser_keyring_fail(error, LEYSER_KEYRING_UNREADABLE,
							"could not open the keyring directory",
							"Let the user that runs the server read it.", "\"%s\": %s",
							keyring_directory, strerror(errnum));
}

int
leyser_keyring_open(LeyserKeyringError *error)
{
	int fd;

	if (leyser_keyring_directory() == NULL || !is_absolute_path(keyring_directory))
	{
		leyser_keyring_fail(
			error, LEYSER_KEYRING_NOT_CONFIGURED,
			"leyser.keyring_directory is not set to an absolute path",
			"Set leyser.keyring_directory in postgresql.conf to a "
			"directory outside the data directory and restart the server.",
			"%s", "");
		return -1;
	}
	fd = open(keyring_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
	{
		directory_cannot_be_opened(error, errno);
		return -1;
	}
	if (!directory_is_safe(fd, error))
	{
		close(fd);
		return -1;
	}
	return fd;
}
