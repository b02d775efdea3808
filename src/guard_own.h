/*
 * guard_own.h
 *		Statements about leyser itself.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_GUARD_OWN_H
#define LEYSER_GUARD_OWN_H

#include "leyser.h"

#include "nodes/parsenodes.h"

/* Refuses (LY007) to alter leyser's own objects, save by an update of the extension. */
extern void leyser_guard_own_check(Node *statement);

/* Whether a statement drops the extension. */
extern bool leyser_guard_own_is_dropped(Node *statement);

/* Before it is dropped: takes leyser's jobs from pg_cron. */
extern void leyser_guard_own_leave_cron(void);

/* After it was dropped: drops its schema where nothing is left in it. */
extern void leyser_guard_own_drop_schema(void);

#endif /* LEYSER_GUARD_OWN_H */
