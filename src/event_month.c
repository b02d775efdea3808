/*
 * event_month.c
 *		The tables of the months of events (sql/event_month.sql), kept from hands.
 *
 * They are no members of the extension, so the server would let their owner drop
 * them, or take them out of the log.  Only the end of their retention does.  What a
 * restore of a dump does to them is let through: constraints, triggers that always
 * fire, an owner, defaults.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "event_month.h"

#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "utils/lsyscache.h"

#include "cache.h"

PG_FUNCTION_INFO_V1(leyser_event_month_bind);

/* bind_event_month(relation regclass) → void */
Datum
leyser_event_month_bind(PG_FUNCTION_ARGS)
{
	ObjectAddress month;
	ObjectAddress extension;

	ObjectAddressSet(month, RelationRelationId, PG_GETARG_OID(0));
	ObjectAddressSet(extension, ExtensionRelationId, leyser_cache_extension());
	if (OidIsValid(extension.objectId))
		recordDependencyOn(&month, &extension, DEPENDENCY_AUTO_EXTENSION);
	PG_RETURN_VOID();
}

bool
leyser_event_month_is(const RangeVar *name)
{
	Oid relation = RangeVarGetRelid(name, NoLock, true);

	return OidIsValid(relation) &&
		   get_rel_namespace(relation) == get_namespace_oid("leyser", true) &&
		   strncmp(name->relname, "event_record_", strlen("event_record_")) == 0;
}

static bool
drop_names_month(const DropStmt *statement)
{
	ListCell *cell;

	if (statement->removeType != OBJECT_TABLE)
		return false;
	foreach (cell, statement->objects)
	{
		if (leyser_event_month_is(makeRangeVarFromNameList(lfirst_node(List, cell))))
			return true;
	}
	return false;
}

/* What takes a table out of the log, or makes its rows easy to change. */
static bool
command_is_refused(const AlterTableCmd *command)
{
	switch (command->subtype)
	{
		case AT_AddInherit:
		case AT_AddConstraint:
		case AT_AddIndexConstraint:
		case AT_ChangeOwner:
		case AT_ClusterOn:
		case AT_ColumnDefault:
		case AT_EnableAlwaysTrig:
		case AT_ReplicaIdentity:
		case AT_SetNotNull:
		case AT_SetStatistics:
		case AT_SetStorage:
			return false;
		default:
			return true;
	}
}

static bool
alter_changes_month(const AlterTableStmt *statement)
{
	ListCell *cell;

	if (statement->objtype != OBJECT_TABLE || !leyser_event_month_is(statement->relation))
		return false;
	foreach (cell, statement->cmds)
	{
		if (command_is_refused(lfirst_node(AlterTableCmd, cell)))
			return true;
	}
	return false;
}

void
leyser_event_month_check(Node *statement)
{
	bool refused = false;

	if (IsA(statement, DropStmt))
		refused = drop_names_month(castNode(DropStmt, statement));
	else if (IsA(statement, AlterTableStmt))
		refused = alter_changes_month(castNode(AlterTableStmt, statement));
	else if (IsA(statement, RenameStmt))
		refused = castNode(RenameStmt, statement)->relation != NULL &&
				  leyser_event_month_is(castNode(RenameStmt, statement)->relation);
	else if (IsA(statement, AlterObjectSchemaStmt))
		refused =
			castNode(AlterObjectSchemaStmt, statement)->relation != NULL &&
			leyser_event_month_is(castNode(AlterObjectSchemaStmt, statement)->relation);
	if (refused)
		ereport(ERROR, (errcode(LEYSER_ERRCODE_GUARD_REFUSED),
						errmsg("the event log cannot be changed"),
						errdetail("A month's events go at the end of their retention."),
						errhint("CALL leyser.tick() drops what is to be dropped.")));
}
