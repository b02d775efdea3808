/*
 * scrub_statistics.c
 *		Statistics, which hold the most common values of deleted rows.
 *
 * ANALYZE alone does not help: it updates rows of the catalogues, and a table
 * that became empty keeps its old ones.  So the rows are deleted (of tables, of
 * their indexes' expressions, of extended statistics, and of all parents, whose
 * statistics are of their children's rows, too), collected anew, and then the
 * catalogues are scrubbed like any table.
 *
 * The rows are deleted under the lock that ANALYZE takes, so an ANALYZE that saw
 * the deleted rows has written what it found before.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "scrub_relation.h"

#include "access/relation.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/heap.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_statistic_ext_data.h"
#include "catalog/partition.h"
#include "commands/defrem.h"
#include "commands/vacuum.h"
#include "nodes/nodes.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "access/genam.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

#include "scrub_pace.h"

/* A relation's direct parents, of which inheritance allows several. */
static List *
parents_of(Oid relation)
{
	Relation catalogue = table_open(InheritsRelationId, AccessShareLock);
	List *parents = NIL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple row;

	ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relation));
	scan = systable_beginscan(catalogue, InheritsRelidSeqnoIndexId, true, NULL, 1, &key);
	while ((row = systable_getnext(scan)) != NULL)
		parents = lappend_oid(parents, ((Form_pg_inherits) GETSTRUCT(row))->inhparent);
	systable_endscan(scan);
	table_close(catalogue, AccessShareLock);
	return parents;
}

/* The relations and all their ancestors, allocated in "context". */
static List *
with_ancestors(List *relations, MemoryContext context)
{
	MemoryContext caller;
	List *all;
	ListCell *cell;

	StartTransactionCommand();
	caller = MemoryContextSwitchTo(context);
	all = list_copy(relations);
	foreach (cell, all) /* which grows */
		all = list_concat_unique_oid(all, parents_of(lfirst_oid(cell)));
	MemoryContextSwitchTo(caller);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return all;
}

/* In a transaction: deletes what is known about one relation. */
static void
forget_relation(Oid relation)
{
	Relation opened = try_relation_open(relation, ShareUpdateExclusiveLock);
	ListCell *cell;

	if (opened == NULL)
		return;
	RemoveStatistics(relation, 0);
	foreach (cell, RelationGetIndexList(opened))
		RemoveStatistics(lfirst_oid(cell), 0);
	foreach (cell, RelationGetStatExtList(opened))
	{
		RemoveStatisticsDataById(lfirst_oid(cell), false);
		RemoveStatisticsDataById(lfirst_oid(cell), true);
	}
	relation_close(opened, NoLock);
}

static void
forget_relations(List *relations)
{
	MemoryContext caller = CurrentMemoryContext;
	ListCell *cell;

	foreach (cell, relations)
	{
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		forget_relation(lfirst_oid(cell));
		PopActiveSnapshot();
		CommitTransactionCommand();
		MemoryContextSwitchTo(caller);
	}
}

/* ANALYZE of a partitioned table does its partitions, too. */
static bool
analyzed_with_parent(Oid relation)
{
	MemoryContext caller = CurrentMemoryContext;
	bool partition;

	StartTransactionCommand();
	partition = get_rel_relispartition(relation);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return partition;
}

/* How many pages of a relation, or of a partition, ANALYZE looks at. */
static BlockNumber
pages_analyzed(Oid relation)
{
	return Min(leyser_scrub_pages_of(relation),
			   300 * (BlockNumber) default_statistics_target);
}

/* A pace is kept by sleeping afterwards, when ANALYZE has no snapshot any longer. */
static void
analyze_relations(List *relations)
{
	int pace = leyser_scrub_pace(0);
	ListCell *cell;

	foreach (cell, relations)
	{
		if (!analyzed_with_parent(lfirst_oid(cell)))
			(void) leyser_scrub_run("ANALYZE %s", lfirst_oid(cell));
	}
	(void) leyser_scrub_pace(pace);
	foreach (cell, relations)
		leyser_scrub_pace_after(pages_analyzed(lfirst_oid(cell)));
}

static void
scrub_catalogues(TransactionId limit, LeyserScrubResult *result)
{
	static const Oid catalogues[] = {StatisticRelationId, StatisticExtDataRelationId};

	for (int i = 0; i < (int) lengthof(catalogues); i++)
	{
		LeyserScrubResult one;

		leyser_scrub_table(catalogues[i], limit, &one);
		result->zeroed += one.zeroed;
		result->leftover += one.leftover;
	}
}

void
leyser_scrub_statistics(List *relations, LeyserScrubResult *result)
{
	/*
	 * What the last call renewed but could not scrub, for somebody still saw it.
	 * A table that was scrubbed since may have been of another purge.
	 */
	static List *renewed = NIL;
	static uint64 renewed_after = 0;
	static TransactionId limit = InvalidTransactionId;
	MemoryContext caller = CurrentMemoryContext;
	List *all;

	memset(result, 0, sizeof(*result));
	if (renewed_after != leyser_scrub_count || !equal(relations, renewed))
	{
		all = with_ancestors(relations, CurrentMemoryContext);
		forget_relations(all);
		limit = ReadNextTransactionId();
		analyze_relations(all);
		list_free(all);
	}
	list_free(renewed);
	renewed = NIL;
	renewed_after = 0;
	scrub_catalogues(limit, result);
	if (result->leftover == 0)
		return;
	MemoryContextSwitchTo(TopMemoryContext);
	renewed = list_copy(relations);
	MemoryContextSwitchTo(caller);
	renewed_after = leyser_scrub_count;
}
