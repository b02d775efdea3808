/*
 * backup_clean.c
 *		What is left of leyser's own backups, and what the policy gave up.
 *
 * It is found by comparing the books with the directory, so it does not matter
 * when anything was killed:
 *
 *	running, and nobody is at it	its folder is finished, if it is whole; else
 *									removed, and it failed
 *	failed, or expired				its folders are removed
 *	complete, not verified yet		it is checked
 *	any, and its folder is gone		it is deleted
 *	no row							a folder that is begun, or half removed, is
 *									removed; a whole one goes into the books
 *
 * Books that were restored know the backup that they were restored from as running,
 * and none that was taken later: both are whole folders.
 *
 * A folder is renamed before it is removed, so a half removed one never looks
 * whole.  Only what has a name of ours is ever touched, only in the directory
 * that has the id with which the books noted it.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "backup.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"

#include "cache_fence.h"
#include "purge.h"

#define LOST "the server or its backup worker was stopped meanwhile"
#define NAME_PREFIX "leyser-"
#define NAME_CHARACTERS "0123456789.-TZ" /* the rest of a name */

/* A generation of the books that still has something in the directory. */
typedef struct BackupRow
{
	int64 generation_id;
	char *state;
	char *name; /* of the folder */
	bool here;  /* in this directory */
} BackupRow;

/* ---- names ---- */

/* What the names of this database's backups begin with. */
static void
name_own_prefix(char *prefix)
{
	snprintf(prefix, LEYSER_BACKUP_NAME_MAX, NAME_PREFIX "%llu-%u-",
			 (unsigned long long) GetSystemIdentifier(), MyDatabaseId);
}

void
leyser_backup_name(char *name)
{
	struct timeval now;
	struct tm utc;
	size_t length;

	name_own_prefix(name);
	gettimeofday(&now, NULL);
	(void) gmtime_r(&now.tv_sec, &utc);
	length = strlen(name);
	length +=
		strftime(name + length, LEYSER_BACKUP_NAME_MAX - length, "%Y%m%dT%H%M%S", &utc);
	snprintf(name + length, LEYSER_BACKUP_NAME_MAX - length, ".%03dZ",
			 (int) (now.tv_usec / 1000));
}

/* A name as ours are, of whatever database: no path, no suffix. */
static bool
name_is_safe(const char *name)
{
	size_t prefix = strlen(NAME_PREFIX);

	return strncmp(name, NAME_PREFIX, prefix) == 0 &&
		   strlen(name) < LEYSER_BACKUP_NAME_MAX - 16 &&
		   strspn(name + prefix, NAME_CHARACTERS) == strlen(name + prefix) &&
		   name[prefix] != '\0';
}

/* What a folder of a backup of this database is, by its name. */
typedef enum FolderKind
{
	FOLDER_OTHER, /* none of ours */
	FOLDER_WHOLE,
	FOLDER_LEFT /* begun, or half removed */
} FolderKind;

static FolderKind
name_kind(const char *name)
{
	char prefix[LEYSER_BACKUP_NAME_MAX];
	const char *end;

	name_own_prefix(prefix);
	if (strncmp(name, prefix, strlen(prefix)) != 0)
		return FOLDER_OTHER;
	end = name + strlen(prefix) + strspn(name + strlen(prefix), NAME_CHARACTERS);
	if (*end == '\0' && name_is_safe(name))
		return FOLDER_WHOLE;
	/* the dot of a suffix is one of the characters */
	return end[-1] == '.' && (strcmp(end - 1, LEYSER_BACKUP_PARTIAL) == 0 ||
							  strcmp(end - 1, LEYSER_BACKUP_REMOVING) == 0)
			   ? FOLDER_LEFT
			   : FOLDER_OTHER;
}

/* ---- removing ---- */

static void
folder_remove(const LeyserBackupDirectory *directory, const char *name)
{
	while (!leyser_backup_tree_remove(directory->fd, name))
	{
		if (errno != EINTR)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not remove \"%s/%s\": %m", directory->path, name)));
		CHECK_FOR_INTERRUPTS();
	}
}

static bool
folder_is_missing(const LeyserBackupDirectory *directory, const char *name)
{
	struct stat st;

	return fstatat(directory->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT;
}

void
leyser_backup_remove(const LeyserBackupDirectory *directory, const char *name)
{
	char *partial = psprintf("%s" LEYSER_BACKUP_PARTIAL, name);
	char *removing = psprintf("%s" LEYSER_BACKUP_REMOVING, name);

	if (!name_is_safe(name))
		elog(ERROR, "\"%s\" is not the name of a backup of leyser", name);
	folder_remove(directory, partial);
	folder_remove(directory, removing);
	if (renameat(directory->fd, name, directory->fd, removing) == 0)
		folder_remove(directory, removing);
	else if (errno != ENOENT)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not rename \"%s/%s\": %m", directory->path, name)));
	leyser_backup_directory_sync(directory);
}

/* ---- the books ---- */

/* Within a transaction. */
static List *
rows_read(const LeyserBackupDirectory *directory, MemoryContext context)
{
	Oid types[1] = {TEXTOID};
	Datum values[1] = {CStringGetTextDatum(directory->id)};
	List *rows = NIL;

	if (SPI_execute_with_args("SELECT * FROM leyser.own_backups($1)", 1, types, values,
							  NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the books");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		char *state = SPI_getvalue(tuple, SPI_tuptable->tupdesc, 2);
		char *name = SPI_getvalue(tuple, SPI_tuptable->tupdesc, 3);
		BackupRow *row = MemoryContextAlloc(context, sizeof(BackupRow));
		MemoryContext caller;
		bool isnull;

		row->generation_id = leyser_purge_column((int) i, 1);
		row->state = MemoryContextStrdup(context, state);
		row->name = MemoryContextStrdup(context, name);
		row->here = DatumGetBool(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 4, &isnull));
		caller = MemoryContextSwitchTo(context);
		rows = lappend(rows, row);
		MemoryContextSwitchTo(caller);
	}
	return rows;
}

/* The folders of all backups that the books have ever known; within a transaction. */
static List *
names_read(MemoryContext context)
{
	List *names = NIL;
	MemoryContext caller;

	if (SPI_execute("SELECT leyser.own_backup_names()", true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the books");
	caller = MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < SPI_processed; i++)
		names = lappend(names, pstrdup(SPI_getvalue(SPI_tuptable->vals[i],
													SPI_tuptable->tupdesc, 1)));
	MemoryContextSwitchTo(caller);
	return names;
}

static bool
row_is_in(const BackupRow *row, const char *state)
{
	return strcmp(row->state, state) == 0;
}

static bool
row_is_due(const LeyserBackupDirectory *directory, const BackupRow *row)
{
	if (row_is_in(row, "running"))
		return true;
	if (!row->here || !name_is_safe(row->name))
		return false;
	return row_is_in(row, "failed") || row_is_in(row, "expired") ||
		   row_is_in(row, "complete") || folder_is_missing(directory, row->name);
}

static void
row_clean(const LeyserBackupDirectory *directory, const BackupRow *row)
{
	leyser_backup_tell(LEYSER_BACKUP_CLEANING);
	if (row_is_in(row, "running") && !row->here)
		leyser_backup_books_fail(row->generation_id, LOST, false);
	else if ((row_is_in(row, "running") || row_is_in(row, "complete")) &&
			 !folder_is_missing(directory, row->name))
		leyser_backup_judge(directory, row->name, row->generation_id,
							row_is_in(row, "running"));
	else if (row_is_in(row, "running"))
	{
		leyser_backup_remove(directory, row->name);
		leyser_backup_books_fail(row->generation_id, LOST, true);
	}
	else
	{
		leyser_backup_remove(directory, row->name);
		leyser_backup_books_gone(row->generation_id);
	}
}

/* ---- all of it ---- */

typedef struct CleanWork
{
	const LeyserBackupDirectory *directory;
	const BackupRow *row;
	const char *name;
} CleanWork;

static void
clean_work(void *arg)
{
	CleanWork *work = arg;

	if (work->row != NULL)
		row_clean(work->directory, work->row);
	else if (name_kind(work->name) == FOLDER_LEFT)
		folder_remove(work->directory, work->name);
	else
		leyser_backup_judge(work->directory, work->name,
							leyser_backup_adopt(work->directory, work->name), false);
}

/* What cannot be removed keeps nothing else from it; a cancel does. */
static void
clean_try(const LeyserBackupDirectory *directory, const BackupRow *row, const char *name)
{
	CleanWork work = {.directory = directory, .row = row, .name = name};
	ErrorData *error = leyser_purge_guard(clean_work, &work);

	if (error != NULL && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		leyser_backup_rethrow(error);
}

/* A folder of ours without a manifest is none that a restore could use. */
static bool
folder_is_backup(const LeyserBackupDirectory *directory, const char *name)
{
	char *manifest = psprintf("%s/data/backup_manifest", name);

	return faccessat(directory->fd, manifest, R_OK, 0) == 0;
}

static bool
name_is_known(const char *name, List *known)
{
	ListCell *cell;

	foreach (cell, known)
	{
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	}
	return false;
}

/* Their names: the directory is not read while it changes. */
static List *
folders_due(const LeyserBackupDirectory *directory, List *known)
{
	List *names = NIL;
	DIR *dir = AllocateDir(directory->path);
	struct dirent *entry;

	while ((entry = ReadDir(dir, directory->path)) != NULL)
	{
		FolderKind kind = name_kind(entry->d_name);

		if (kind == FOLDER_LEFT ||
			(kind == FOLDER_WHOLE && !name_is_known(entry->d_name, known) &&
			 folder_is_backup(directory, entry->d_name)))
			names = lappend(names, pstrdup(entry->d_name));
	}
	FreeDir(dir);
	return names;
}

int
leyser_backup_clean(const LeyserBackupDirectory *directory, bool look)
{
	MemoryContext context = CurrentMemoryContext;
	List *rows;
	List *known;
	List *names;
	ListCell *cell;
	int due = 0;
	bool held;

	if (!look)
		leyser_purge_begin();
	held = leyser_fence_view()->held;
	rows = rows_read(directory, context);
	known = names_read(context);
	if (!look)
		leyser_purge_commit();
	if (held) /* books that were restored do not know what became of the folders */
		return 0;
	MemoryContextSwitchTo(context);
	foreach (cell, rows)
	{
		if (!row_is_due(directory, lfirst(cell)))
			continue;
		due++;
		if (!look)
			clean_try(directory, lfirst(cell), NULL);
	}
	names = folders_due(directory, known);
	foreach (cell, names)
	{
		due++;
		if (!look)
			clean_try(directory, NULL, lfirst(cell));
	}
	return due;
}
