/*
 * follow.c
 *		Keeps the registry of table kinds in step with the tables themselves.
 *
 * A partition or child can be named directly, past the policies of its parent,
 * so it must have its own from the statement on that makes it one.  The work is
 * done by leyser.follow_tables() (sql/protect.sql) with the rights of the
 * extension's owner, and only when a look at the catalogues finds a registered
 * table gone, its tenant or scope column renamed, or a child of a protected or shared one
 * unregistered.  That look costs two syscache probes per registered table and an
 * index scan of pg_inherits per parent.
 *
 * Statements that run inside are not judged by the guards, and do not call it
 * again: leyser.follow_tables() sets leyser.registry_work.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "follow.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "cache.h"
#include "lookup.h"
#include "owner.h"

/* Whether a table got a child that is not among the (sorted) ones that follow. */
static bool
follow_has_new_child(Oid parent, const Oid *following, int count)
{
	ListCell *cell;

	foreach (cell, find_inheritance_children(parent, NoLock))
	{
		Oid child = lfirst_oid(cell);

		if (bsearch(&child, following, count, sizeof(Oid), oid_cmp))
			continue;
		/* a temporary child is seen by one session; a foreign one has no policies */
		if (get_rel_persistence(child) != RELPERSISTENCE_TEMP &&
			get_rel_relkind(child) != RELKIND_FOREIGN_TABLE)
			return true;
	}
	return false;
}

/* Whether a table's column has another name by now. */
static bool
follow_is_renamed(Oid relation, int16 attnum, const char *known)
{
	char *name;
	bool renamed;

	if (attnum == 0)
		return false;
	name = get_attname(relation, attnum, true);
	renamed = name != NULL && strcmp(name, known) != 0;
	if (name != NULL)
		pfree(name);
	return renamed;
}

/*
 * Whether the registry lags behind the tables.  The children of a protected table
 * must be protected; those of a shared one need some kind.
 */
static bool
follow_is_needed(void)
{
	int count;
	const LeyserGoverned *governed = leyser_cache_governed(&count);
	Oid *registered = palloc(Max(count, 1) * sizeof(Oid));
	Oid *protected = palloc(Max(count, 1) * sizeof(Oid));
	int protected_count = 0;
	bool found = false;

	for (int i = 0; i < count; i++)
	{
		registered[i] = governed[i].relation;
		if (governed[i].is_protected)
		protected[protected_count++] = governed[i].relation;
	}
	qsort(registered, count, sizeof(Oid), oid_cmp);
	qsort(protected, protected_count, sizeof(Oid), oid_cmp);
	for (int i = 0; i < count && !found; i++)
	{
		HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(governed[i].relation));

		if (!HeapTupleIsValid(tuple))
			return true;
		found = follow_is_renamed(governed[i].relation, governed[i].tenant_attnum,
								  NameStr(governed[i].tenant_column)) ||
				follow_is_renamed(governed[i].relation, governed[i].scope_attnum,
								  NameStr(governed[i].scope_column));
		if (!found && governed[i].children_follow &&
			((Form_pg_class) GETSTRUCT(tuple))->relhassubclass)
			found = governed[i].is_protected
						? follow_has_new_child(governed[i].relation, protected,
											   protected_count)
						: follow_has_new_child(governed[i].relation, registered, count);
		ReleaseSysCache(tuple);
	}
	return found || leyser_lookup_is_behind();
}

/*
 * Where a snapshot of the transaction hid the parent's protection, the child would
 * stay open.
 */
void
leyser_follow_check(void)
{
	leyser_cache_catch_up();
	if (!follow_is_needed())
		return;
	ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					errmsg("could not follow changes of governed tables"),
					errdetail("They were changed after this transaction began."),
					errhint("Run the transaction again.")));
}

void
leyser_follow_tables(bool force)
{
	LeyserOwnerState owner;
	bool pushed;

	if (RecoveryInProgress() || XactReadOnly || !(force || follow_is_needed()))
		return;
	pushed = !ActiveSnapshotSet();
	if (pushed)
		PushActiveSnapshot(GetTransactionSnapshot());
	leyser_owner_begin(&owner);
	if (SPI_execute("SELECT leyser.follow_tables()", false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not follow changes of tables");
	leyser_owner_end(&owner);
	if (pushed)
		PopActiveSnapshot();
	CommandCounterIncrement();
	leyser_follow_check();
}
