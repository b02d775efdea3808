/*
 * event_month.h
 *		The tables of the months of events, kept from hands.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_EVENT_MONTH_H
#define LEYSER_EVENT_MONTH_H

#include "leyser.h"

#include "nodes/primnodes.h"

/* Whether a name is that of a month's table, which has rules of its own. */
extern bool leyser_event_month_is(const RangeVar *name);

/* LY007 where a statement would drop such a table or take it out of the log. */
extern void leyser_event_month_check(Node *statement);

#endif /* LEYSER_EVENT_MONTH_H */
