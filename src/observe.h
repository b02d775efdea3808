/*
 * observe.h
 *		Tables that are observed: nothing is refused, all that would be is counted.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_OBSERVE_H
#define LEYSER_OBSERVE_H

#include "leyser.h"

#include "nodes/plannodes.h"

/* Utility statements that pass by the planner: COPY of a table. */
extern void leyser_observe_utility(const PlannedStmt *statement);

/* TRUNCATE of a table, which a protected one refuses. */
extern void leyser_observe_truncate(Oid relation);

extern void leyser_observe_init(void);

/* ---- among its files ---- */

#define LEYSER_OBSERVE_TABLES_MAX                                                        \
	16 /* of one condition: a function takes 100 arguments */
#define LEYSER_OBSERVE_FIXED_ARGS 3

/* Whether row security would bind whoever reads a table. */
extern bool leyser_observe_binds(Oid check_as);

extern void leyser_observe_plan_init(void);

#endif /* LEYSER_OBSERVE_H */
