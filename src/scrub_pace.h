/*
 * scrub_pace.h
 *		How fast a scrub may go.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_SCRUB_PACE_H
#define LEYSER_SCRUB_PACE_H

#include "scrub.h"

#include "storage/block.h"

/*
 * After a page of a pass: sleeps where vacuum_cost_delay and vacuum_cost_limit say
 * so, as VACUUM would; true where it did.  "balance" begins with 0.
 */
extern bool leyser_scrub_pace_page(int *balance, bool dirtied);

/* Outside of transactions: sleeps for pages that the server went through unslowed. */
extern void leyser_scrub_pace_after(double pages);

/* Outside of transactions, where there is a pace: the pages of a relation; or 0. */
extern BlockNumber leyser_scrub_pages_of(Oid relation);

#endif /* LEYSER_SCRUB_PACE_H */
