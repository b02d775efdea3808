/*
 * adopt_index.c
 *		CREATE INDEX CONCURRENTLY as a step of a procedure.
 *
 * SPI refuses it, for it commits in the middle.  A procedure's transactions are its
 * own, too, so the server's function for it can be called between two of them.  It
 * needs no rights of ours: that the call may do this was found out before, and the
 * server itself runs what it runs of the table's owner with the owner's rights.
 *
 * An index that was not finished stays behind, invalid; the next look at what is to
 * be done finds it and drops it (sql/adopt_plan.sql).
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "adopt.h"

#include "access/xact.h"
#include "catalog/index.h"
#include "commands/defrem.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "compat.h"

static IndexStmt *
index_statement(Oid relation, const char *name, List *columns, bool unique)
{
	IndexStmt *statement = makeNode(IndexStmt);
	ListCell *cell;

	statement->idxname = pstrdup(name);
	statement->relation = makeRangeVar(get_namespace_name(get_rel_namespace(relation)),
									   get_rel_name(relation), -1);
	statement->accessMethod = pstrdup(DEFAULT_INDEX_TYPE);
	statement->unique = unique;
	statement->concurrent = true;
	foreach (cell, columns)
	{
		IndexElem *element = makeNode(IndexElem);

		element->name = lfirst(cell);
		statement->indexParams = lappend(statement->indexParams, element);
	}
	return statement;
}

/* Waiting for older transactions keeps nobody waiting: it has no time-out. */
static void
index_settings(void)
{
	static const char *const timeouts[] = {"statement_timeout", "lock_timeout",
										   "transaction_timeout"};

	for (int i = 0; i < (int) lengthof(timeouts); i++)
	{
		if (GetConfigOption(timeouts[i], true, false) != NULL)
			(void) set_config_option(timeouts[i], "0", PGC_SUSET, PGC_S_SESSION,
									 GUC_ACTION_LOCAL, true, 0, false);
	}
}

void
leyser_adopt_build_index(Oid relation, const char *name, List *columns, bool unique)
{
	MemoryContext caller = CurrentMemoryContext;
	IndexStmt *statement = index_statement(relation, name, columns, unique);

	index_settings();
	PushActiveSnapshot(GetTransactionSnapshot());
	leyser_define_index(relation, statement);
	if (ActiveSnapshotSet())
		PopActiveSnapshot();
	CommitTransactionCommand();
	StartTransactionCommand();
	MemoryContextSwitchTo(caller);
}
