/*
 * scrub_page.h
 *		The page pass over one file of rows.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_SCRUB_PAGE_H
#define LEYSER_SCRUB_PAGE_H

#include "scrub.h"

#include "utils/rel.h"

typedef struct LeyserPagePass
{
	Relation relation;   /* locked so that no VACUUM runs */
	bool zero;           /* false: only look */
	bool report;         /* tell pg_stat_activity how far it is */
	TransactionId limit; /* see leyser_scrub_table() */
	XLogRecPtr since;    /* looking: pages changed later do not count */
	LeyserScrubResult *result;
} LeyserPagePass;

/* Goes through all pages of a table, TOAST table or materialized view. */
extern void leyser_scrub_page_pass(LeyserPagePass *pass);

#endif /* LEYSER_SCRUB_PAGE_H */
