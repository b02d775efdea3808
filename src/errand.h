/*
 * errand.h
 *		A background worker that does one thing, while its caller waits.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_ERRAND_H
#define LEYSER_ERRAND_H

#include "leyser.h"

#include "storage/dsm.h"

/*
 * Starts a function of this library in a worker, and waits for its end.  The worker
 * finds what it is to do, and leaves its answer, in the segment, whose handle is the
 * function's argument.  53000 where there is no place for a worker.
 */
extern void leyser_errand_run(const char *function, const char *name,
							  dsm_segment *segment);

/* In the worker: the segment, for its whole life; NULL where nobody waits any longer. */
extern void *leyser_errand_attach(Datum arg);

#endif /* LEYSER_ERRAND_H */
