/*
 * backup_tree.c
 *		Walks the folder of a backup: measures it, or removes it.
 *
 * Each folder is opened relative to the one above it and never through a link, so
 * whatever somebody does to the tree meanwhile, nothing outside of it is touched:
 * a tablespace's link is removed, not what it points to.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "backup.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "miscadmin.h"

typedef struct TreeWalk
{
	bool remove;
	int64 bytes;
} TreeWalk;

static bool tree_walk(int dirfd, const char *name, TreeWalk *walk);

static bool
entry_walk(int dirfd, const char *name, TreeWalk *walk)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT;
	if (S_ISDIR(st.st_mode))
		return tree_walk(dirfd, name, walk);
	if (S_ISREG(st.st_mode))
		walk->bytes += st.st_size;
	return !walk->remove || unlinkat(dirfd, name, 0) == 0 || errno == ENOENT;
}

static bool
entries_walk(DIR *dir, TreeWalk *walk)
{
	struct dirent *entry;

	for (;;)
	{
		/* what is left is found again the next time */
		if (INTERRUPTS_PENDING_CONDITION() && InterruptHoldoffCount == 0)
		{
			errno = EINTR;
			return false;
		}
		errno = 0;
		entry = readdir(dir);
		if (entry == NULL)
			return errno == 0;
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (!entry_walk(dirfd(dir), entry->d_name, walk))
			return false;
	}
}

static bool
tree_walk(int dirfd, const char *name, TreeWalk *walk)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	bool walked;
	int error;

	if (dir == NULL)
	{
		error = errno;
		if (fd >= 0)
			close(fd);
		errno = error;
		return error == ENOENT;
	}
	walked = entries_walk(dir, walk);
	error = errno;
	closedir(dir);
	errno = error;
	if (!walked || !walk->remove)
		return walked;
	return unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT;
}

int64
leyser_backup_tree_bytes(int dirfd, const char *name)
{
	TreeWalk walk = {.remove = false};

	return tree_walk(dirfd, name, &walk) ? walk.bytes : -1;
}

bool
leyser_backup_tree_remove(int dirfd, const char *name)
{
	TreeWalk walk = {.remove = true};

	return tree_walk(dirfd, name, &walk);
}
