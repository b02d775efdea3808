/*
 * event.h
 *		The event log, as C code writes to it.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_EVENT_H
#define LEYSER_EVENT_H

#include "leyser.h"

/* Calls leyser.record_event(event, tenant_id, object, NULL); object may be NULL. */
extern void leyser_event_record(const char *event, const char *tenant_id,
								const char *object);

/*
 * The same with leyser.record_lasting_event(): the row is committed when this
 * returns, whatever becomes of the transaction.  Raises 53000 or 58000.
 */
extern void leyser_event_record_lasting(const char *event, const char *tenant_id,
										const char *object);

/*
 * The line of the server log for a row that C code adds to the log by itself, without
 * its images; see event_digest.h for the columns.
 */
extern void leyser_event_line(const Datum *values, const bool *nulls);

#endif /* LEYSER_EVENT_H */
