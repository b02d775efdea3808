/*
 * scrub_page.c
 *		Zeroes the bytes of a heap page that belong to no row.
 *
 * VACUUM frees a row's place by moving the others together; the old bytes stay
 * in the hole between the line pointers and the rows, and up to seven of them in
 * the pad behind each row.  The rules:
 *
 *  - A page is changed under an exclusive content lock.  Whoever holds only a pin
 *    reads rows, which are neither moved nor changed, so no cleanup lock is
 *    needed; that would wait for every cursor.
 *  - Change and WAL record (a full image, whose hole is left out and replayed as
 *    zeros) are one critical section, so a crash shows the page before or after.
 *  - Pages that hold nothing to zero are not touched.
 *  - A row version that cannot be removed yet is counted, not zeroed: VACUUM's
 *    work is not repeated here.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "scrub_page.h"

#include "access/heapam.h"
#include "access/transam.h"
#include "access/xloginsert.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "utils/lsyscache.h"

#include "scrub_pace.h"

#define UNIT MAXIMUM_ALIGNOF
#define UNITS (BLCKSZ / UNIT)
#define REPORT_PAGES 4096

/* ---- bytes ---- */

/* True where there was something; zeroes it where wanted. */
static inline bool
scrub_bytes(char *start, Size size, bool zero)
{
	for (Size i = 0; i < size; i++)
	{
		if (start[i] == 0)
			continue;
		if (zero)
			memset(start + i, 0, size - i);
		return true;
	}
	return false;
}

static void
page_corrupted(LeyserPagePass *pass, BlockNumber block)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("page %u of relation \"%s\" is corrupted", block,
						   RelationGetRelationName(pass->relation)),
					errdetail("A line pointer or the page's header points outside of "
							  "the page.")));
}

/*
 * Marks the places of rows in "used", a flag for each unit of alignment (rows
 * start aligned), and scrubs the pads behind them.
 */
static bool
scrub_pads(LeyserPagePass *pass, Page page, BlockNumber block, bool zero, char *used)
{
	OffsetNumber last = PageGetMaxOffsetNumber(page);
	bool found = false;

	for (OffsetNumber i = FirstOffsetNumber; i <= last; i++)
	{
		ItemId item = PageGetItemId(page, i);
		Size start, end;

		if (!ItemIdHasStorage(item))
			continue;
		start = ItemIdGetOffset(item);
		end = start + ItemIdGetLength(item);
		if (start % UNIT != 0 || start < ((PageHeader) page)->pd_upper || end > BLCKSZ)
			page_corrupted(pass, block);
		if (scrub_bytes((char *) page + end, MAXALIGN(end) - end, zero))
			found = true;
		memset(used + start / UNIT, 1, MAXALIGN(end) / UNIT - start / UNIT);
	}
	return found;
}

/* From the line pointers to the page's end: what no row has. */
static bool
scrub_holes(Page page, bool zero, const char *used)
{
	Size lower = ((PageHeader) page)->pd_lower;
	uint64 *words = (uint64 *) page;
	bool found = scrub_bytes((char *) page + lower, MAXALIGN(lower) - lower, zero);

	StaticAssertStmt(UNIT == sizeof(uint64), "rows are aligned to 8 bytes");
	for (Size i = MAXALIGN(lower) / UNIT; i < UNITS; i++)
	{
		if (used[i] || words[i] == 0)
			continue;
		if (!zero)
			return true;
		words[i] = 0;
		found = true;
	}
	return found;
}

/* Whether a page holds bytes outside of rows, which are zeroed where wanted. */
static bool
scrub_page(LeyserPagePass *pass, Page page, BlockNumber block, bool zero)
{
	PageHeader header = (PageHeader) page;
	char used[UNITS] = {0};
	bool found;

	if (header->pd_lower < SizeOfPageHeaderData || header->pd_lower > header->pd_upper ||
		header->pd_upper > header->pd_special || header->pd_special != BLCKSZ)
		page_corrupted(pass, block);
	found = scrub_pads(pass, page, block, zero, used);
	return scrub_holes(page, zero, used) || found;
}

/* ---- row versions ---- */

/*
 * Whether a row version should not be there any longer: deleted, or its insertion
 * failed, by a transaction before the limit; or nobody knows yet.
 */
static bool
version_is_left(HeapTuple tuple, TransactionId limit, Buffer buffer)
{
	switch (HeapTupleSatisfiesVacuum(tuple, limit, buffer))
	{
		case HEAPTUPLE_DEAD:
			return !HeapTupleHeaderXminInvalid(tuple->t_data) ||
				   TransactionIdPrecedes(HeapTupleHeaderGetRawXmin(tuple->t_data), limit);
		case HEAPTUPLE_INSERT_IN_PROGRESS:
			return TransactionIdPrecedes(HeapTupleHeaderGetRawXmin(tuple->t_data), limit);
		case HEAPTUPLE_DELETE_IN_PROGRESS:
			return TransactionIdPrecedes(HeapTupleHeaderGetUpdateXid(tuple->t_data),
										 limit);
		case HEAPTUPLE_LIVE:
		case HEAPTUPLE_RECENTLY_DEAD: /* by a later transaction */
			break;
	}
	return false;
}

static int
count_left_versions(LeyserPagePass *pass, Buffer buffer, Page page, BlockNumber block)
{
	OffsetNumber last = PageGetMaxOffsetNumber(page);
	int left = 0;

	for (OffsetNumber i = FirstOffsetNumber; i <= last; i++)
	{
		ItemId item = PageGetItemId(page, i);
		HeapTupleData tuple;

		if (!ItemIdIsNormal(item))
			continue;
		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		/* most are: inserted by a transaction that is known to have committed */
		if (HeapTupleHeaderXminCommitted(tuple.t_data) &&
			(tuple.t_data->t_infomask & HEAP_XMAX_INVALID) != 0)
			continue;
		tuple.t_len = ItemIdGetLength(item);
		tuple.t_tableOid = RelationGetRelid(pass->relation);
		ItemPointerSet(&tuple.t_self, block, i);
		if (version_is_left(&tuple, pass->limit, buffer))
			left++;
	}
	return left;
}

/* ---- the pass ---- */

static void
pass_zero(LeyserPagePass *pass, Buffer buffer, BlockNumber block)
{
	START_CRIT_SECTION();
	(void) scrub_page(pass, BufferGetPage(buffer), block, true);
	MarkBufferDirty(buffer);
	if (RelationNeedsWAL(pass->relation))
		log_newpage_buffer(buffer, true);
	END_CRIT_SECTION();
}

static void
pass_page(LeyserPagePass *pass, BlockNumber block, BufferAccessStrategy strategy)
{
	Buffer buffer =
		ReadBufferExtended(pass->relation, MAIN_FORKNUM, block, RBM_NORMAL, strategy);
	Page page = BufferGetPage(buffer);

	LockBuffer(buffer, pass->zero ? BUFFER_LOCK_EXCLUSIVE : BUFFER_LOCK_SHARE);
	if (!PageIsNew(page))
	{
		pass->result->leftover += count_left_versions(pass, buffer, page, block);
		if (scrub_page(pass, page, block, false) &&
			(pass->zero || PageGetLSN(page) < pass->since))
		{
			pass->result->zeroed++;
			if (pass->zero)
				pass_zero(pass, buffer, block);
		}
	}
	UnlockReleaseBuffer(buffer);
}

static void
pass_report(LeyserPagePass *pass, BlockNumber block, BlockNumber blocks)
{
	char *activity;

	if (!pass->report)
		return;
	activity =
		psprintf("%s %s.%s: block %u of %u", pass->zero ? "scrubbing" : "verifying",
				 get_namespace_name(RelationGetNamespace(pass->relation)),
				 RelationGetRelationName(pass->relation), block, blocks);
	pgstat_report_activity(STATE_RUNNING, activity);
	pfree(activity);
}

/*
 * The checkpoints of WAL-logged tables write their pages; those of unlogged ones
 * stay in memory until the server is shut down.
 */
static void
pass_flush(LeyserPagePass *pass)
{
	if (!pass->zero || RelationNeedsWAL(pass->relation))
		return;
	FlushRelationBuffers(pass->relation);
	smgrimmedsync(RelationGetSmgr(pass->relation), MAIN_FORKNUM);
}

void
leyser_scrub_page_pass(LeyserPagePass *pass)
{
	BufferAccessStrategy strategy = GetAccessStrategy(BAS_VACUUM);
	/* pages that are added later are written by others, with their own rows */
	BlockNumber blocks = RelationGetNumberOfBlocks(pass->relation);
	bool slept = false;
	int balance = 0;

	for (BlockNumber block = 0; block < blocks; block++)
	{
		int64 zeroed = pass->result->zeroed;

		CHECK_FOR_INTERRUPTS();
		if (slept || block % REPORT_PAGES == 0)
			pass_report(pass, block, blocks);
		pass_page(pass, block, strategy);
		slept = leyser_scrub_pace_page(&balance, pass->result->zeroed != zeroed);
	}
	FreeAccessStrategy(strategy);
	pass_flush(pass);
}
