/*
 * event_insert.h
 *		How an event's row gets into the log.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_EVENT_INSERT_H
#define LEYSER_EVENT_INSERT_H

#include "event_digest.h"

/*
 * Adds an event: values and nulls are those of leyser.event_record, of which id,
 * salt and digest are filled in.  rows: how many an audited statement changed, for
 * leyser.daily_usage; 0 of other events.  Needs no rights; the caller may not be
 * read-only.
 */
extern void leyser_event_insert(Datum *values, bool *nulls, int64 rows);

#endif /* LEYSER_EVENT_INSERT_H */
