/*
 * fence.h
 *		Fences: what a restore must not bring back, kept outside the data directory.
 *
 * A fence is a file of one database (by the uuid of leyser.identity), written from
 * the database's tables on each server that holds it.  fence_file.c knows the file
 * and no SQL; cache_fence.c compares it with the tables.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_FENCE_H
#define LEYSER_FENCE_H

#include "leyser.h"

#include "access/xlogdefs.h"
#include "lib/stringinfo.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "keyring.h"

/* A tenant's purge. */
typedef struct LeyserFencePurge
{
	const char *tenant_id; /* hash key */
	int64 purge_id;
	uint64 system_identifier;
	XLogRecPtr started_lsn; /* the deletion began behind it; 0: unknown */
	TimestampTz started_at; /* DT_NOBEGIN: unknown */
	TimestampTz erased_at;  /* DT_NOBEGIN: not yet */
} LeyserFencePurge;

/* How far one line of a database's life has come. */
typedef struct LeyserFenceMark
{
	pg_uuid_t incarnation; /* leyser.fence_record */
	int64 event_id;        /* the newest of leyser.event_record; 0: none */
	uint64 event_digest;   /* the first eight bytes of its digest */
} LeyserFenceMark;

typedef struct LeyserFence
{
	pg_uuid_t database;
	int64 restores; /* the newest of leyser.restore_record that was released */
	List *marks;    /* of LeyserFenceMark */
	HTAB *purges;   /* of LeyserFencePurge */
	MemoryContext context;
} LeyserFence;

typedef enum LeyserFenceState
{
	LEYSER_FENCE_FOUND,
	LEYSER_FENCE_ABSENT,    /* the directory is there, the file is not */
	LEYSER_FENCE_DAMAGED,   /* it fails its check, or anybody may write it */
	LEYSER_FENCE_UNREADABLE /* the directory is not fit, or cannot be read now */
} LeyserFenceState;

/* ---- fence.c ---- */

/* An empty fence in the current memory context. */
extern LeyserFence *leyser_fence_new(const pg_uuid_t *database);

/* Adds a purge: of two of a tenant, what is further stays.  Whether that changed it. */
extern bool leyser_fence_add(LeyserFence *fence, const LeyserFencePurge *purge);

/* Sets the mark of an incarnation.  Whether that changed it. */
extern bool leyser_fence_set_mark(LeyserFence *fence, const LeyserFenceMark *mark);

/* The mark of an incarnation, or NULL. */
extern const LeyserFenceMark *leyser_fence_mark(const LeyserFence *fence,
												const pg_uuid_t *incarnation);

/* Takes what a fence holds into another.  Whether that changed it. */
extern bool leyser_fence_merge(LeyserFence *into, const LeyserFence *from);

/* ---- fence_file.c ---- */

extern void leyser_fence_init(void);

/* Reads a database's fence; NULL and *error filled where the state is not FOUND. */
extern LeyserFence *leyser_fence_read(const pg_uuid_t *database, LeyserFenceState *state,
									  LeyserKeyringError *error);

/* Whether the file says all this already. */
extern bool leyser_fence_is_written(const LeyserFence *fence);

/*
 * Puts what fence holds into the file, durably, beside what is there; replace: a
 * damaged file is put aside first.  False and *error filled where that failed.
 */
extern bool leyser_fence_write(const LeyserFence *fence, bool replace,
							   LeyserKeyringError *error);

/* The directory of fences; -1 and *error filled where it is not to be had. */
extern int leyser_fence_open_directory(LeyserKeyringError *error);

/* Against all who write there, until what it returns is closed; -1 and errno. */
extern int leyser_fence_lock(int dir);

/* A file in it, whole or not at all; false and errno. */
extern bool leyser_fence_store(int dir, const char *name, const StringInfo text);

/* ---- fence_owner.c ---- */

/*
 * In a transaction: whether this server and database keep the fence, as they do from
 * now on where nobody else does; false and *error filled where it is another's.
 */
extern bool leyser_fence_claim(const pg_uuid_t *database, LeyserKeyringError *error);

#endif /* LEYSER_FENCE_H */
