/*
 * work.h
 *		Procedures of many steps that commit: the lock of who does one.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_WORK_H
#define LEYSER_WORK_H

#include "leyser.h"

/*
 * Releases the lock that leyser.work_begin() took; nothing where it was not taken.
 * Call it in PG_FINALLY: the lock is the session's, and outlives the transaction.
 */
extern void leyser_work_unlock(int64 work_id);

#endif /* LEYSER_WORK_H */
