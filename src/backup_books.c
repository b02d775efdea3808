/*
 * backup_books.c
 *		What the backup worker writes into the books.
 *
 * Each is a transaction of its own.  Somebody else may have locked the books for
 * longer than their lock_timeout; a backup that took an hour is not given up for
 * that, so it is tried again.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "backup.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "pause.h"
#include "purge.h"

#define TRIES 300         /* of some seconds each, with those of lock_timeout */
#define TRY_INTERVAL 1000 /* milliseconds */
#define MAX_ARGUMENTS 6

typedef struct BooksEntry
{
	const char *sql;
	int count;
	Oid types[MAX_ARGUMENTS];
	Datum values[MAX_ARGUMENTS]; /* they outlive a transaction */
	int64 result;
} BooksEntry;

static void
entry_add(BooksEntry *entry, Oid type, Datum value)
{
	Assert(entry->count < MAX_ARGUMENTS);
	entry->types[entry->count] = type;
	entry->values[entry->count++] = value;
}

static void
entry_write(void *arg)
{
	BooksEntry *entry = arg;

	leyser_purge_begin();
	if (SPI_execute_with_args(entry->sql, entry->count, entry->types, entry->values, NULL,
							  false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not run \"%s\"", entry->sql);
	entry->result = SPI_gettypeid(SPI_tuptable->tupdesc, 1) == INT8OID
						? leyser_purge_column(0, 1)
						: 0;
	leyser_purge_commit();
}

static int64
books_write(BooksEntry *entry)
{
	for (int try = 1;; try++)
	{
		ErrorData *error = leyser_purge_guard(entry_write, entry);

		if (error == NULL)
			return entry->result;
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE || try == TRIES)
			leyser_backup_rethrow(error);
		FreeErrorData(error);
		leyser_pause_worker(TRY_INTERVAL);
	}
}

/* A generation's id is the first argument of all but the one that makes it. */
static void
books_write_of(const char *sql, int64 generation_id)
{
	BooksEntry entry = {.sql = sql};

	entry_add(&entry, INT8OID, Int64GetDatum(generation_id));
	(void) books_write(&entry);
}

int64
leyser_backup_books_begin(const LeyserBackupDirectory *directory, const char *name,
						  const char *label, Oid role)
{
	BooksEntry entry = {.sql = "SELECT leyser.begin_own_backup($1, $2, $3, $4, $5)"};

	entry_add(&entry, TEXTOID, CStringGetTextDatum(label));
	entry_add(&entry, TEXTOID, CStringGetTextDatum(name));
	entry_add(&entry, TEXTOID, CStringGetTextDatum(directory->path));
	entry_add(&entry, TEXTOID, CStringGetTextDatum(directory->id));
	entry_add(&entry, OIDOID, ObjectIdGetDatum(role));
	return books_write(&entry);
}

void
leyser_backup_books_complete(int64 generation_id, int64 bytes,
							 const LeyserBackupManifest *manifest)
{
	BooksEntry entry = {.sql =
							"SELECT leyser.complete_own_backup($1, $2, $3, $4::jsonb)"};

	entry_add(&entry, INT8OID, Int64GetDatum(generation_id));
	entry_add(&entry, INT8OID, Int64GetDatum(bytes));
	entry_add(&entry, TEXTOID, CStringGetTextDatum(manifest->checksum));
	entry_add(&entry, TEXTOID, CStringGetTextDatum(manifest->wal_ranges));
	(void) books_write(&entry);
}

int64
leyser_backup_books_find(const LeyserBackupDirectory *directory, const char *name,
						 int64 bytes, const LeyserBackupManifest *manifest)
{
	BooksEntry entry = {
		.sql = "SELECT leyser.find_own_backup($1, $2, $3, $4, $5, $6::jsonb)"};

	entry_add(&entry, TEXTOID, CStringGetTextDatum(name));
	entry_add(&entry, TEXTOID, CStringGetTextDatum(directory->path));
	entry_add(&entry, TEXTOID, CStringGetTextDatum(directory->id));
	entry_add(&entry, INT8OID, Int64GetDatum(bytes));
	entry_add(&entry, TEXTOID, CStringGetTextDatum(manifest->checksum));
	entry_add(&entry, TEXTOID, CStringGetTextDatum(manifest->wal_ranges));
	return books_write(&entry);
}

void
leyser_backup_books_verified(int64 generation_id)
{
	books_write_of("SELECT leyser.verify_generation($1, true, 'pg_verifybackup')",
				   generation_id);
}

void
leyser_backup_books_fail(int64 generation_id, const char *error, bool removed)
{
	BooksEntry entry = {.sql = "SELECT leyser.fail_own_backup($1, $2, $3)"};

	entry_add(&entry, INT8OID, Int64GetDatum(generation_id));
	entry_add(&entry, TEXTOID, CStringGetTextDatum(error));
	entry_add(&entry, BOOLOID, BoolGetDatum(removed));
	(void) books_write(&entry);
}

void
leyser_backup_books_gone(int64 generation_id)
{
	books_write_of("SELECT leyser.own_backup_is_gone($1)", generation_id);
}

void
leyser_backup_rethrow(ErrorData *error)
{
	error->output_to_server = false;
	ReThrowError(error);
}
