/*
 * purge_places.h
 *		Where the rows lie that a purge deletes.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_PURGE_PLACES_H
#define LEYSER_PURGE_PLACES_H

#include "leyser.h"

typedef struct LeyserPlaces LeyserPlaces;

/* A file that outlives transactions; whoever opens it closes it, also after errors. */
extern LeyserPlaces *leyser_places_open(MemoryContext context);

/* Collects what a query gives, a tid a row, run with a role's rights; $1 is the tenant id. */
extern void leyser_places_collect(LeyserPlaces *places, const char *query, Oid role,
								  const char *tenant_id);

/* How many have not been taken. */
extern int64 leyser_places_left(const LeyserPlaces *places);

/* Takes the next ones, at most so many, as tid[]. */
extern Datum leyser_places_next(LeyserPlaces *places, int count);

extern void leyser_places_close(LeyserPlaces *places);

#endif /* LEYSER_PURGE_PLACES_H */
