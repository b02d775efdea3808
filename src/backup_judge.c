/*
 * backup_judge.c
 *		How a backup ends: it is complete, and verified, or it has failed.
 *
 * A folder that has its name is whole, whoever was killed after that: its figures
 * are read from its manifest, and pg_verifybackup says how good it is.  What is not
 * as its manifest says is removed, as is all that fails before it is whole.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "backup.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "miscadmin.h"
#include "postmaster/interrupt.h"

#include "purge.h"

/* ---- complete ---- */

static void
figures_read(const LeyserBackupDirectory *directory, const char *name,
			 LeyserBackupManifest *manifest, int64 *bytes)
{
	leyser_backup_manifest_read(
		psprintf("%s/%s/data/backup_manifest", directory->path, name), manifest);
	do
	{
		CHECK_FOR_INTERRUPTS();
		*bytes = leyser_backup_tree_bytes(directory->fd, name);
	} while (*bytes < 0 && errno == EINTR);
	if (*bytes < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not examine \"%s/%s\": %m", directory->path, name)));
}

void
leyser_backup_finish(const LeyserBackupDirectory *directory, const char *name,
					 int64 generation_id)
{
	LeyserBackupManifest manifest;
	int64 bytes;

	figures_read(directory, name, &manifest, &bytes);
	leyser_backup_books_complete(generation_id, bytes, &manifest);
}

int64
leyser_backup_adopt(const LeyserBackupDirectory *directory, const char *name)
{
	LeyserBackupManifest manifest;
	int64 bytes;

	figures_read(directory, name, &manifest, &bytes);
	return leyser_backup_books_find(directory, name, bytes, &manifest);
}

/* ---- failed ---- */

/* While we clean up nothing is to interrupt that; it is heard of afterwards. */
static void
signals_hold(sigset_t *before)
{
	sigset_t held;

	sigemptyset(&held);
	sigaddset(&held, SIGINT);
	sigaddset(&held, SIGTERM);
	(void) sigprocmask(SIG_BLOCK, &held, before);
	QueryCancelPending = false;
}

/* What the books say of an error. */
static char *
error_text(const ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		return pstrdup(ShutdownRequestPending ? "the worker was told to end"
											  : "it was cancelled");
	return psprintf("%s%s%s", error->message, error->detail ? ": " : "",
					error->detail ? error->detail : "");
}

typedef struct BackupFailure
{
	const LeyserBackupDirectory *directory;
	const char *name;
	int64 generation_id;
	const ErrorData *error;
	bool removed;
} BackupFailure;

static void
failure_remove(void *arg)
{
	BackupFailure *failure = arg;

	leyser_backup_remove(failure->directory, failure->name);
	failure->removed = true;
}

static void
failure_note(void *arg)
{
	BackupFailure *failure = arg;

	leyser_backup_books_fail(failure->generation_id, error_text(failure->error),
							 failure->removed);
}

/* Where even that fails the next one cleans up; the first error is told. */
void
leyser_backup_fail(const LeyserBackupDirectory *directory, const char *name,
				   int64 generation_id, ErrorData *error)
{
	BackupFailure failure = {.directory = directory,
							 .name = name,
							 .generation_id = generation_id,
							 .error = error};
	sigset_t before;

	signals_hold(&before);
	(void) leyser_purge_guard(failure_remove, &failure);
	(void) leyser_purge_guard(failure_note, &failure);
	(void) sigprocmask(SIG_SETMASK, &before, NULL);
	leyser_backup_rethrow(error);
}

/* ---- verified ---- */

typedef struct BackupCheck
{
	const LeyserBackupDirectory *directory;
	const char *name;
	int64 generation_id;
	bool finish;
} BackupCheck;

/* For the server's other databases, which count this backup as theirs, too. */
static void
verified_mark(const LeyserBackupDirectory *directory, const char *name)
{
	char *mark = psprintf("%s/" LEYSER_BACKUP_VERIFIED, name);
	int fd = openat(directory->fd, mark, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
					S_IRUSR | S_IWUSR);

	if (fd < 0)
		ereport(LOG, (errcode_for_file_access(),
					  errmsg("could not make \"%s/%s\": %m", directory->path, mark)));
	else
		close(fd);
}

static void
backup_check(void *arg)
{
	BackupCheck *check = arg;

	leyser_backup_tell(LEYSER_BACKUP_VERIFYING);
	if (check->finish)
		leyser_backup_finish(check->directory, check->name, check->generation_id);
	leyser_backup_verify(check->directory, check->name);
	verified_mark(check->directory, check->name);
}

void
leyser_backup_judge(const LeyserBackupDirectory *directory, const char *name,
					int64 generation_id, bool finish)
{
	BackupCheck check = {.directory = directory,
						 .name = name,
						 .generation_id = generation_id,
						 .finish = finish};
	ErrorData *error = leyser_purge_guard(backup_check, &check);

	if (error == NULL)
		leyser_backup_books_verified(generation_id);
	else if (error->sqlerrcode == ERRCODE_DATA_CORRUPTED)
		leyser_backup_fail(directory, name, generation_id, error);
	else /* it stays as it is, and is looked at again the next time */
		leyser_backup_rethrow(error);
}
