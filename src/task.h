/*
 * task.h
 *		Work whose results stay whatever becomes of the caller's transaction.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_TASK_H
#define LEYSER_TASK_H

#include "leyser.h"

/* Bytes with the zero; what is longer is refused, never cut. */
#define LEYSER_TASK_NAME_MAX 64
#define LEYSER_TASK_PAYLOAD_MAX 4096
#define LEYSER_TASK_RESULT_MAX 1024

extern void leyser_task_init(void);

/*
 * Has this database's worker run leyser.perform_task(task, payload) in a
 * transaction of its own, and returns the result (palloc'd) once that has
 * committed.  Where it raises (53000: no worker, no room or no answer; 58000:
 * the task failed; 25006: on a standby; or the caller was cancelled) the task
 * was done once or not at all.
 */
extern char *leyser_task_perform(const char *task, const char *payload);

/*
 * The same without waiting, and without raising anything; one that waits already is
 * enough.  False where there is no room, or no worker now.
 */
extern bool leyser_task_leave(const char *task, const char *payload);

#endif /* LEYSER_TASK_H */
