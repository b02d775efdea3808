/*
 * scrub_pace.c
 *		How fast a scrub may go.
 *
 * A pace is so many pages a second.  The settings by which the server slows VACUUM
 * say it, so that VACUUM keeps to it, too: each page that is looked at costs one,
 * wherever it is found.  The rules:
 *
 *  - Nobody is held back by who sleeps: no transaction's snapshot is kept.
 *  - The server cannot slow a REINDEX, nor does it an ANALYZE while nobody's VACUUM
 *    may remove what it sees.  These run without helpers, and the pages that they
 *    read and wrote are slept for afterwards.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "scrub_pace.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define USUAL_DELAY 20.0    /* milliseconds; many short sleeps disturb least */
#define LONGEST_DELAY 100.0 /* that the server's settings take */
#define HIGHEST_LIMIT 10000

static int pages_per_second = 0;

static void
pace_option(const char *name, const char *value)
{
	SetConfigOption(name, value, PGC_SUSET, PGC_S_OVERRIDE);
}

/* Helpers of REINDEX, as the server's configuration says where there is no pace. */
static void
pace_helpers(bool allowed)
{
	static char configured[16] = "";

	if (configured[0] == '\0')
		strlcpy(configured,
				GetConfigOption("max_parallel_maintenance_workers", false, false),
				sizeof(configured));
	pace_option("max_parallel_maintenance_workers", allowed ? configured : "0");
}

int
leyser_scrub_pace(int pages)
{
	int before = pages_per_second;
	double limit = Min(Max(pages * USUAL_DELAY / 1000, 1), HIGHEST_LIMIT);
	double delay = pages > 0 ? Min((int) limit * 1000.0 / pages, LONGEST_DELAY) : 0;

	pages_per_second = pages;
	pace_option("vacuum_cost_page_hit", "1");
	pace_option("vacuum_cost_page_miss", "1");
	pace_option("vacuum_cost_page_dirty", "0");
	pace_option("vacuum_cost_limit", psprintf("%d", (int) limit));
	pace_option("vacuum_cost_delay", psprintf("%.3fms", delay));
	pace_helpers(pages == 0);
	return before;
}

/* Sleeps so long, whatever sets the latch; a cancel ends it. */
static void
pace_sleep(double milliseconds)
{
	TimestampTz end = GetCurrentTimestamp() + (TimestampTz) (milliseconds * 1000);
	long left;

	/* of what the catalogues said */
	InvalidateCatalogSnapshotConditionally();
	while ((left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end)) > 0)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

bool
leyser_scrub_pace_page(int *balance, bool dirtied)
{
	double delay = VacuumCostDelay;

	if (delay <= 0)
		return false;
	*balance += VacuumCostPageMiss + (dirtied ? VacuumCostPageDirty : 0);
	if (*balance < VacuumCostLimit)
		return false;
	pace_sleep(delay * *balance / VacuumCostLimit);
	*balance = 0;
	return true;
}

void
leyser_scrub_pace_after(double pages)
{
	if (pages_per_second > 0)
		pace_sleep(pages * 1000 / pages_per_second);
}

BlockNumber
leyser_scrub_pages_of(Oid relation)
{
	MemoryContext caller = CurrentMemoryContext;
	BlockNumber blocks = 0;
	Relation opened;

	if (pages_per_second == 0)
		return 0;
	StartTransactionCommand();
	opened = try_relation_open(relation, AccessShareLock);
	if (opened != NULL && RELKIND_HAS_STORAGE(opened->rd_rel->relkind))
		blocks = RelationGetNumberOfBlocks(opened);
	if (opened != NULL)
		relation_close(opened, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return blocks;
}
