/*
 * pause.h
 *		Lets some time pass.
 *
 * Whoever sets this process's latch ends a pause early; a cancel and the end of the
 * server end the process or its statement.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_PAUSE_H
#define LEYSER_PAUSE_H

#include "leyser.h"

extern void leyser_pause(long milliseconds);

/* The same between two tasks of a background worker, which reads its settings anew. */
extern void leyser_pause_worker(long milliseconds);

#endif /* LEYSER_PAUSE_H */
