/*
 * place.c
 *		Where a directory of leyser's must not lie: inside the cluster.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "place.h"

#include <dirent.h>
#include <limits.h>

#include "miscadmin.h"

/* Both resolved; a path that cannot be resolved contains nothing. */
static bool
path_is_inside(const char *path, const char *outer)
{
	char resolved[PATH_MAX];
	size_t len;

	if (realpath(outer, resolved) == NULL)
		return false;
	len = strlen(resolved);
	return strncmp(path, resolved, len) == 0 &&
		   (path[len] == '/' || path[len] == '\0' || len == 1);
}

static bool
path_is_in_tablespace(const char *path)
{
	char name[MAXPGPATH];
	struct dirent *entry;
	DIR *dir;
	bool inside = false;

	snprintf(name, sizeof(name), "%s/pg_tblspc", DataDir);
	dir = opendir(name);
	if (dir == NULL)
		return false;
	while (!inside && (entry = readdir(dir)) != NULL)
	{
		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/pg_tblspc/%s", DataDir, entry->d_name);
		inside = path_is_inside(path, name);
	}
	closedir(dir);
	return inside;
}

bool
leyser_place_is_in_cluster(const char *resolved)
{
	char wal[MAXPGPATH];

	snprintf(wal, sizeof(wal), "%s/pg_wal", DataDir);
	return path_is_inside(resolved, DataDir) || path_is_inside(resolved, wal) ||
		   path_is_in_tablespace(resolved);
}
