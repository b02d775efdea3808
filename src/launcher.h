/*
 * launcher.h
 *		Starts purge workers where there is something for them to do.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_LAUNCHER_H
#define LEYSER_LAUNCHER_H

#include "leyser.h"

#include "access/xlogdefs.h"

/* What a worker that was started for a look found in its database. */
typedef enum LeyserLauncherAnswer
{
	LEYSER_LAUNCHER_NO_ANSWER,
	LEYSER_LAUNCHER_NOT_INSTALLED, /* leyser is not there */
	LEYSER_LAUNCHER_IDLE,          /* no purge is open */
	LEYSER_LAUNCHER_OPEN           /* the worker stays */
} LeyserLauncherAnswer;

extern void leyser_launcher_init(void);

/* In a worker: what it found. */
extern void leyser_launcher_answer(Oid database, LeyserLauncherAnswer answer);

/*
 * Takes the lock under which a database's only purge worker works, until the
 * process ends; false where another has it.
 */
extern bool leyser_launcher_lock(Oid database);

/* On a standby: up to which end of a scrub its pg_wal is clean; 0: unknown. */
extern void leyser_launcher_set_standby_scrubbed(XLogRecPtr end);
extern XLogRecPtr leyser_launcher_standby_scrubbed(void);

/* Starts a purge worker for a database; false where no slot is free. */
struct BackgroundWorkerHandle;
extern bool leyser_launcher_start(Oid database, struct BackgroundWorkerHandle **handle);

#endif /* LEYSER_LAUNCHER_H */
