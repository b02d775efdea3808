/*
 * backup_take.c
 *		Copies the cluster with the server's own programs, and checks the copy.
 *
 * pg_basebackup comes in over the server's own socket, as the server's first
 * superuser, and writes plain files: pg_verifybackup of 15 reads no tar.  A backup
 * is a folder:
 *
 *		name.partial			while it is made; then renamed to
 *		name/data				a data directory with its manifest and its WAL
 *		name/tablespaces/OID	what the links in data/pg_tblspc point to
 *
 * No text of users is an argument: the backup's own label is the folder's name.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "backup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "replication/slot.h"
#include "utils/builtins.h"
#include "utils/varlena.h"

#include "program.h"
#include "purge.h"

#define DATA "data"
#define TABLESPACES "tablespaces"

/* A tablespace that lies outside the data directory. */
typedef struct BackupTablespace
{
	Oid oid;
	char *location;
} BackupTablespace;

/* ---- where to connect to ---- */

static void
conninfo_add(StringInfo conninfo, const char *keyword, const char *value)
{
	appendStringInfo(conninfo, "%s%s='", conninfo->len > 0 ? " " : "", keyword);
	for (const char *c = value; *c != '\0'; c++)
	{
		if (*c == '\'' || *c == '\\')
			appendStringInfoChar(conninfo, '\\');
		appendStringInfoChar(conninfo, *c);
	}
	appendStringInfoChar(conninfo, '\'');
}

/* The first socket's directory, or without one the first address. */
static char *
server_host(void)
{
	char *sockets = pstrdup(Unix_socket_directories ? Unix_socket_directories : "");
	char *addresses = pstrdup(ListenAddresses ? ListenAddresses : "");
	List *hosts = NIL;
	char *host;

	if (SplitDirectoriesString(sockets, ',', &hosts) && hosts != NIL)
		return linitial(hosts);
	if (!SplitGUCList(addresses, ',', &hosts) || hosts == NIL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the server listens nowhere"),
						errhint("Set unix_socket_directories or listen_addresses.")));
	host = linitial(hosts);
	if (strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0)
		return "127.0.0.1";
	return strcmp(host, "::") == 0 ? "::1" : host;
}

/* Within a transaction. */
static char *
server_conninfo(void)
{
	StringInfoData conninfo;

	initStringInfo(&conninfo);
	conninfo_add(&conninfo, "host", server_host());
	conninfo_add(&conninfo, "port", psprintf("%d", PostPortNumber));
	conninfo_add(&conninfo, "user", GetUserNameFromId(BOOTSTRAP_SUPERUSERID, false));
	conninfo_add(&conninfo, "application_name", "leyser backup");
	conninfo_add(&conninfo, "connect_timeout", "60");
	return conninfo.data;
}

/* ---- running a program ---- */

static void
program_failed(const char *name, int status, const StringInfo errors)
{
	int sqlstate = ERRCODE_SYSTEM_ERROR;
	const char *hint = "See also the server log.";

	if (strstr(errors->data, strerror(ENOSPC)) != NULL)
	{
		sqlstate = ERRCODE_DISK_FULL;
		hint = "Enlarge the disk of leyser.backup_directory.";
	}
	else if (strstr(errors->data, "pg_hba.conf") != NULL ||
			 strstr(errors->data, "authentication failed") != NULL ||
			 strstr(errors->data, "no password supplied") != NULL)
	{
		sqlstate = ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION;
		hint = "Let the server's first superuser in for replication: a line \"local "
			   "replication <role> peer\" of pg_hba.conf, or a password in the .pgpass "
			   "of the user that runs the server.";
	}
	ereport(ERROR, (errcode(sqlstate),
					status > 128 ? errmsg("%s was ended by signal %d", name, status - 128)
								 : errmsg("%s failed", name),
					errors->len > 0 ? errdetail_internal("%s", errors->data) : 0,
					errhint("%s", hint)));
}

/* The arguments are strings; the first is the program's name. */
static int
program_run(List *arguments, StringInfo errors)
{
	const char **argv = palloc0(sizeof(char *) * (list_length(arguments) + 1));

	for (int i = 0; i < list_length(arguments); i++)
		argv[i] = list_nth(arguments, i);
	argv[0] = leyser_program_path(argv[0]);
	return leyser_program_run(argv, 0, NULL, NULL, errors);
}

/* ---- copying ---- */

/* Within a transaction; those in place of pg_tblspc are copied as folders. */
static List *
tablespaces_read(MemoryContext context)
{
	List *tablespaces = NIL;

	if (SPI_execute("SELECT t.oid, pg_tablespace_location(t.oid) FROM pg_tablespace t "
					"WHERE pg_tablespace_location(t.oid) LIKE '/%'",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not list the tablespaces");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple row = SPI_tuptable->vals[i];
		char *location = SPI_getvalue(row, SPI_tuptable->tupdesc, 2);
		bool isnull;
		MemoryContext caller = MemoryContextSwitchTo(context);
		BackupTablespace *tablespace = palloc(sizeof(BackupTablespace));

		tablespace->oid =
			DatumGetObjectId(SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &isnull));
		tablespace->location = pstrdup(location);
		tablespaces = lappend(tablespaces, tablespace);
		MemoryContextSwitchTo(caller);
	}
	return tablespaces;
}

/* "=" stands between the two, so one in a path has a backslash before it. */
static char *
tablespace_mapping(const char *from, const char *to)
{
	StringInfoData mapping;

	initStringInfo(&mapping);
	appendStringInfoString(&mapping, "--tablespace-mapping=");
	for (const char *side = from;; side = to)
	{
		for (const char *c = side; *c != '\0'; c++)
		{
			if (*c == '=')
				appendStringInfoChar(&mapping, '\\');
			appendStringInfoChar(&mapping, *c);
		}
		if (side == to)
			return mapping.data;
		appendStringInfoChar(&mapping, '=');
	}
}

static List *
copy_arguments(const char *folder, const char *name, const char *conninfo,
			   List *tablespaces)
{
	List *arguments = list_make5("pg_basebackup", psprintf("--pgdata=%s/" DATA, folder),
								 psprintf("--dbname=%s", conninfo),
								 psprintf("--label=%s", name), "--no-password");
	ListCell *cell;

	arguments = lappend(arguments, "--format=plain");
	arguments = lappend(arguments, "--wal-method=stream");
	arguments = lappend(arguments, "--checkpoint=fast");
	arguments = lappend(arguments, "--manifest-checksums=SHA256");
	if (max_replication_slots == 0)
		arguments = lappend(arguments, "--no-slot");
	foreach (cell, tablespaces)
	{
		BackupTablespace *tablespace = lfirst(cell);

		arguments =
			lappend(arguments, tablespace_mapping(tablespace->location,
												  psprintf("%s/" TABLESPACES "/%u",
														   folder, tablespace->oid)));
	}
	return arguments;
}

/* A folder in the directory, and what was last renamed in it, is on disk. */
static void
folder_sync(const LeyserBackupDirectory *directory, const char *name)
{
	int fd = openat(directory->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	bool synced = fd >= 0 && fsync(fd) == 0;

	if (fd >= 0)
		close(fd);
	if (!synced)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not fsync \"%s/%s\": %m", directory->path, name)));
}

/* The links were made for the folder's first name. */
static void
tablespaces_relink(const LeyserBackupDirectory *directory, const char *name,
				   const char *partial, List *tablespaces)
{
	ListCell *cell;

	foreach (cell, tablespaces)
	{
		Oid oid = ((BackupTablespace *) lfirst(cell))->oid;
		char *link = psprintf("%s/" DATA "/pg_tblspc/%u", partial, oid);
		char *target = psprintf("%s/%s/" TABLESPACES "/%u", directory->path, name, oid);

		/* it may have been dropped since */
		if (unlinkat(directory->fd, link, 0) != 0 && errno == ENOENT)
			continue;
		if (symlinkat(target, directory->fd, link) != 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not make link \"%s/%s\": %m", directory->path, link)));
	}
	folder_sync(directory, psprintf("%s/" DATA "/pg_tblspc", partial));
}

static void
folder_make(const LeyserBackupDirectory *directory, const char *name)
{
	if (mkdirat(directory->fd, name, S_IRWXU) != 0)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not make directory \"%s/%s\": %m", directory->path,
							   name)));
}

static void
folder_rename(const LeyserBackupDirectory *directory, const char *from, const char *to)
{
	if (renameat(directory->fd, from, directory->fd, to) != 0)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not rename \"%s/%s\" to \"%s\": %m",
							   directory->path, from, to)));
}

void
leyser_backup_copy(const LeyserBackupDirectory *directory, const char *name)
{
	MemoryContext context = CurrentMemoryContext;
	char *partial = psprintf("%s" LEYSER_BACKUP_PARTIAL, name);
	char *folder = psprintf("%s/%s", directory->path, partial);
	StringInfoData errors;
	List *tablespaces;
	char *conninfo;
	int status;

	initStringInfo(&errors);
	leyser_purge_begin();
	tablespaces = tablespaces_read(context);
	conninfo = MemoryContextStrdup(context, server_conninfo());
	leyser_purge_commit();
	MemoryContextSwitchTo(context);
	folder_make(directory, partial);
	status = program_run(copy_arguments(folder, name, conninfo, tablespaces), &errors);
	if (status != 0)
		program_failed("pg_basebackup", status, &errors);
	tablespaces_relink(directory, name, partial, tablespaces);
	folder_sync(directory, partial);
	folder_rename(directory, partial, name);
	leyser_backup_directory_sync(directory);
}

/* ---- checking ---- */

/* Without it pg_verifybackup would call a good backup bad. */
static void
require_waldump(void)
{
	char *path = leyser_program_path("pg_waldump");

	if (access(path, X_OK) != 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not run \"%s\": %m", path),
				 errhint("pg_verifybackup needs it.")));
}

void
leyser_backup_verify(const LeyserBackupDirectory *directory, const char *name)
{
	char *data = psprintf("%s/%s/" DATA, directory->path, name);
	StringInfoData errors;
	int status;

	initStringInfo(&errors);
	require_waldump();
	status = program_run(
		list_make4("pg_verifybackup", "--quiet", "--exit-on-error", data), &errors);
	if (status == 0)
		return;
	/* one that was killed says nothing about the backup */
	if (status != 1)
		program_failed("pg_verifybackup", status, &errors);
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("backup is not as its manifest says"),
					errors.len > 0 ? errdetail_internal("%s", errors.data) : 0));
}
