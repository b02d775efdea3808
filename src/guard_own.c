/*
 * guard_own.c
 *		Statements about leyser itself: what they may not alter, and what goes with
 *		the extension when it is dropped.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "guard_own.h"

#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "executor/spi.h"
#include "utils/lsyscache.h"

#include "cache.h"
#include "event_month.h"
#include "owner.h"
#include "relation.h"

/* Whether a statement alters leyser itself, not by an update of the extension. */
static bool
guard_alters_own(Node *statement)
{
	const RangeVar *name = NULL;

	if (IsA(statement, AlterTableStmt))
		name = ((AlterTableStmt *) statement)->relation;
	else if (IsA(statement, RenameStmt))
		name = ((RenameStmt *) statement)->relation;
	else if (IsA(statement, AlterObjectSchemaStmt))
		name = ((AlterObjectSchemaStmt *) statement)->relation;
	else if (IsA(statement, AlterExtensionContentsStmt))
		return strcmp(((AlterExtensionContentsStmt *) statement)->extname, "leyser") == 0;
	if (name == NULL || leyser_event_month_is(name))
		return false;
	return get_rel_namespace(RangeVarGetRelid(name, NoLock, true)) ==
		   get_namespace_oid("leyser", true);
}

void
leyser_guard_own_check(Node *statement)
{
	if (guard_alters_own(statement))
		ereport(ERROR, (errcode(LEYSER_ERRCODE_GUARD_REFUSED),
						errmsg("leyser's own objects cannot be altered"),
						errdetail("The protection of tables relies on them."),
						errhint("Only ALTER EXTENSION leyser UPDATE changes them.")));
}

/* ---- DROP EXTENSION ---- */

bool
leyser_guard_own_is_dropped(Node *statement)
{
	ListCell *cell;

	if (!IsA(statement, DropStmt) ||
		((DropStmt *) statement)->removeType != OBJECT_EXTENSION)
		return false;
	foreach (cell, ((DropStmt *) statement)->objects)
	{
		if (strcmp(strVal(lfirst(cell)), "leyser") == 0)
			return true;
	}
	return false;
}

/* pg_cron would go on calling what is dropped. */
void
leyser_guard_own_leave_cron(void)
{
	LeyserOwnerState owner;

	if (!OidIsValid(leyser_cache_extension()))
		return;
	leyser_owner_begin(&owner);
	if (SPI_execute("SELECT leyser.leave_cron()", false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not take jobs from pg_cron");
	leyser_owner_end(&owner);
}

/*
 * CREATE EXTENSION made the schema, which is none of the extension's members.  A
 * restore that drops it by itself turns the guards off.
 */
void
leyser_guard_own_drop_schema(void)
{
	ObjectAddress schema;

	ObjectAddressSet(schema, NamespaceRelationId, get_namespace_oid("leyser", true));
	if (OidIsValid(schema.objectId) && !OidIsValid(leyser_cache_extension()) &&
		leyser_relation_schema_is_empty(schema.objectId))
		performDeletion(&schema, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
}
