/*
 * backup.h
 *		What the parts of leyser's own backups share.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_BACKUP_H
#define LEYSER_BACKUP_H

#include "leyser.h"

#include "mb/pg_wchar.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"

#include "compat.h"

#define LEYSER_BACKUP_LABEL_MAX 1000 /* characters, as check_line() has it */
#define LEYSER_BACKUP_NAME_MAX 128   /* bytes of a folder's name, with a suffix */
#define LEYSER_BACKUP_PARTIAL ".partial"
#define LEYSER_BACKUP_REMOVING ".removing"
#define LEYSER_BACKUP_VERIFIED "verified" /* a file in a folder */

#define LEYSER_BACKUP_ERROR_MAX 1024 /* bytes of each part of an error */

typedef enum LeyserBackupStage
{
	LEYSER_BACKUP_STARTING,
	LEYSER_BACKUP_CLEANING,
	LEYSER_BACKUP_COPYING,
	LEYSER_BACKUP_VERIFYING,
	LEYSER_BACKUP_DONE, /* from here on it has ended */
	LEYSER_BACKUP_FAILED
} LeyserBackupStage;

/* What is asked for, how far it is and how it ended. */
typedef struct LeyserBackupRequest
{
	uint64 number; /* of the request; 0: there was none yet */
	Oid database;
	Oid caller;      /* the role */
	bool clean_only; /* no backup is to be taken */
	bool watched;    /* somebody waits for how it ends */
	bool unwanted;   /* whoever asked went away before the worker was there */
	TimestampTz asked_at;
	pid_t worker; /* 0: it is not there yet, or not any longer */
	LeyserBackupStage stage;
	int64 generation_id; /* 0: not in the books yet */
	int sqlstate;
	char message[LEYSER_BACKUP_ERROR_MAX];
	char detail[LEYSER_BACKUP_ERROR_MAX];
	char hint[LEYSER_BACKUP_ERROR_MAX];
	char label[LEYSER_BACKUP_LABEL_MAX * MAX_MULTIBYTE_CHAR_LEN + 1]; /* '': none */
} LeyserBackupRequest;

typedef struct LeyserBackupShared
{
	LWLock *lock; /* held for a few instructions */
	LeyserBackupRequest request;
} LeyserBackupShared;

extern LeyserBackupShared *leyser_backup_shared;

/* The directory as the setting names it, once it was found fit. */
typedef struct LeyserBackupDirectory
{
	int fd;
	int lock_fd; /* of the file that only one may have locked; -1: not locked */
	char path[MAXPGPATH];
	char id[37]; /* a uuid, made with the first backup; '': none yet */
} LeyserBackupDirectory;

/* ---- backup.c ---- */

extern void leyser_backup_init(void);

/* ---- backup_directory.c ---- */

extern void leyser_backup_directory_init(void);

/* Whether leyser.backup_directory is set. */
extern bool leyser_backup_directory_is_set(void);

/*
 * Opens it; 55000 where it is not set or not a safe place, 58P01 where it is
 * missing, 42809 where it is none, 42501 where we may not write.
 */
extern void leyser_backup_directory_open(LeyserBackupDirectory *directory);

/* Fills in its id, if it has one. */
extern void leyser_backup_directory_identify(LeyserBackupDirectory *directory);

/*
 * Nobody else works in it until it is closed; 55006 where somebody does.  "make"
 * gives a new directory its id; without, false where it has none.
 */
extern bool leyser_backup_directory_lock(LeyserBackupDirectory *directory, bool make);
extern void leyser_backup_directory_close(LeyserBackupDirectory *directory);

/* 53100 where so many bytes would not fit. */
extern void leyser_backup_directory_require_room(const LeyserBackupDirectory *directory,
												 int64 bytes);

/* Makes what was written in it so far durable. */
extern void leyser_backup_directory_sync(const LeyserBackupDirectory *directory);

/* ---- backup_tree.c ---- */

/* The bytes of all files below a folder, links not followed; -1 and errno. */
extern int64 leyser_backup_tree_bytes(int dirfd, const char *name);

/* Removes a folder, links not followed; gone already is fine; false and errno. */
extern bool leyser_backup_tree_remove(int dirfd, const char *name);

/* ---- backup_manifest.c ---- */

/* What the manifest of a finished backup says. */
typedef struct LeyserBackupManifest
{
	char checksum[65]; /* SHA-256 of the file, in hex */
	char *wal_ranges;  /* JSON, as it is there */
} LeyserBackupManifest;

/* The manifest of a folder with a data directory; XX001 where it is none. */
extern void leyser_backup_manifest_read(const char *path, LeyserBackupManifest *manifest);

/* ---- backup_take.c ---- */

/* Copies the cluster into name.partial of the directory and renames that to name. */
extern void leyser_backup_copy(const LeyserBackupDirectory *directory, const char *name);

/* Checks a backup that is complete; XX001 where it is not as its manifest says. */
extern void leyser_backup_verify(const LeyserBackupDirectory *directory,
								 const char *name);

/* ---- backup_clean.c ---- */

/*
 * Into at least LEYSER_BACKUP_NAME_MAX bytes: the name of a backup of this
 * database that begins now.
 */
extern void leyser_backup_name(char *name);

/* What is left to be removed or judged; "look" only counts it. */
extern int leyser_backup_clean(const LeyserBackupDirectory *directory, bool look);

/* Removes all of one backup, in whatever state it is; 58030 where it cannot. */
extern void leyser_backup_remove(const LeyserBackupDirectory *directory,
								 const char *name);

/* ---- backup_books.c ---- */

/* Each in a transaction of its own; the first returns the generation's id. */
extern int64 leyser_backup_books_begin(const LeyserBackupDirectory *directory,
									   const char *name, const char *label, Oid role);
extern void leyser_backup_books_complete(int64 generation_id, int64 bytes,
										 const LeyserBackupManifest *manifest);
extern void leyser_backup_books_verified(int64 generation_id);
extern void leyser_backup_books_fail(int64 generation_id, const char *error,
									 bool removed);
extern int64 leyser_backup_books_find(const LeyserBackupDirectory *directory,
									  const char *name, int64 bytes,
									  const LeyserBackupManifest *manifest);
extern void leyser_backup_books_gone(int64 generation_id);

/* Raises an error that leyser_purge_guard() caught, which the server log has already. */
leyser_noreturn extern void leyser_backup_rethrow(ErrorData *error);

/* ---- backup_judge.c ---- */

/* A backup is whole: its figures go into the books. */
extern void leyser_backup_finish(const LeyserBackupDirectory *directory, const char *name,
								 int64 generation_id);

/* The same of one that the books do not know; gives its new id. */
extern int64 leyser_backup_adopt(const LeyserBackupDirectory *directory,
								 const char *name);

/* It is checked, and finished before; the books say how it is. */
extern void leyser_backup_judge(const LeyserBackupDirectory *directory, const char *name,
								int64 generation_id, bool finish);

/* Removes what there is of it, notes the error and raises it again. */
extern void leyser_backup_fail(const LeyserBackupDirectory *directory, const char *name,
							   int64 generation_id, ErrorData *error);

/* ---- backup_worker.c ---- */

/* The worker for a request; false where no slot is free. */
struct BackgroundWorkerHandle;
extern bool leyser_backup_worker_start(uint64 number,
									   struct BackgroundWorkerHandle **handle);

/* In the worker: how far it is. */
extern void leyser_backup_tell(LeyserBackupStage stage);

#endif /* LEYSER_BACKUP_H */
