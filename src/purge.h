/*
 * purge.h
 *		What the parts of the purge worker share.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_PURGE_H
#define LEYSER_PURGE_H

#include "leyser.h"

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

typedef struct LeyserDeletion LeyserDeletion;

/* A purge that is under way; what must survive a crash is in purge_record. */
typedef struct LeyserPurge
{
	int64 purge_id;
	char *tenant_id;
	bool planned;             /* it has been started */
	bool deleted;             /* nothing of the tenant was found any longer */
	bool emptied;             /* the last pass found nothing */
	bool fenced;              /* the fence says that it has begun */
	int batch_size;           /* rows a commit */
	int max_rows_per_second;  /* 0: as fast as it goes */
	TimestampTz next_at;      /* nothing to do for it before */
	int failures;             /* in a row */
	LeyserDeletion *deletion; /* the pass it is in, or NULL; see purge_delete.c */
} LeyserPurge;

/* ---- purge_step.c ---- */

extern void leyser_purge_begin(void);
extern void leyser_purge_commit(void);

/* A bigint of the last query's rows, counted from 0 and 1; 0 for a null. */
extern int64 leyser_purge_column(int row, int column);

/*
 * Runs a statement of leyser's own with arguments, purge_id first where it is
 * not 0; the first column of its first row as a number, 0 where there is none.
 */
extern int64 leyser_purge_query(const char *sql, int64 purge_id);

/* The same in a transaction of its own. */
extern int64 leyser_purge_step(const char *sql, int64 purge_id);

/* What pg_stat_activity shows. */
extern void leyser_purge_tell(const char *format, ...) pg_attribute_printf(1, 2);

/*
 * Runs a part of the worker's work.  Where that fails, also by a cancel, the
 * error is in the server log, every transaction is over, and it is returned.
 */
extern ErrorData *leyser_purge_guard(void (*work)(void *), void *arg);

/*
 * What may be told about an error.  Messages of leyser and about locks, cancels and
 * resources quote no rows; others may, and so may details: those of a foreign key
 * quote its values, a failed cast or a user's function what it was given.
 */
extern char *leyser_purge_error_text(const ErrorData *error);

/* ---- purge_trigger.c ---- */

extern void leyser_purge_trigger_init(void);

/*
 * From now on no trigger of users fires in this process, nor one of these foreign
 * keys (oids) for a row that goes; and no statement but this one deletes or changes
 * rows: LY008 where a foreign key does.
 */
extern void leyser_purge_triggers_off(const char *statement, List *checked);
extern void leyser_purge_triggers_on(void);

/* Deferred foreign keys are checked at once for the rest of the transaction. */
extern void leyser_purge_constraints_immediate(void);

/* ---- purge_call.c ---- */

/*
 * In a procedure that may commit: starts the worker and tells how far a purge is
 * until it ends, or is held.
 */
extern void leyser_purge_watch(int64 purge_id);

/* ---- purge_fence.c ---- */

/* Sees that the fence says that a purge has begun; false where it waits for that. */
extern bool leyser_purge_fence(LeyserPurge *purge);

/* ---- purge_delete.c ---- */

/* One batch, or what comes between two passes. */
extern void leyser_purge_delete(LeyserPurge *purge);

/* Forgets the pass: the next one begins with the first table. */
extern void leyser_purge_delete_reset(LeyserPurge *purge);

/* ---- purge_scrub.c ---- */

/*
 * One step of what all purges share that are through with deleting; false where
 * there is none, or none at the moment.
 */
extern bool leyser_purge_scrub(void);

/*
 * From now on dropped files are overwritten; tells purges what a crash did to those
 * that were about to be.
 */
extern void leyser_purge_watch_files(void *unused);

/* ---- purge_standby.c ---- */

/* Within a transaction: whether a scrub of the primary is not yet done here. */
extern bool leyser_purge_standby_due(void);

/* The standby's part, until none is due and no purge is open there. */
extern void leyser_purge_standby(void);

/* Within a transaction: whether this server was promoted since a purge ended. */
extern bool leyser_purge_promoted_due(void);

/* On such a server: its own pg_wal, or a look at it now and then. */
extern void leyser_purge_promoted(void);

/* Whether that is still to be done. */
extern bool leyser_purge_promoted_waits(void);

#endif /* LEYSER_PURGE_H */
