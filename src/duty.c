/*
 * duty.c
 *		Roles that have a usage must stay fit for it.
 *
 * grant_usage() refuses an application or gateway role that could step around
 * row security: by an attribute, a membership, ownership of a governed table or
 * the right to create objects.  A later GRANT or ALTER ROLE could bring that
 * about, so statements of these classes are judged by what they bring, as
 * protection.c does for tables: only a problem that was not there before is
 * refused.
 *
 * Cost: two calls of leyser.usage_drift() for such a statement, which look at
 * every schema for every role with usage application or gateway.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "duty.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "cache.h"
#include "owner.h"

/* Rights on tables matter where they are leyser's own. */
static bool
duty_is_grant_of_note(const GrantStmt *statement)
{
	ListCell *cell;

	if (statement->objtype != OBJECT_TABLE)
		return statement->objtype == OBJECT_SCHEMA ||
			   statement->objtype == OBJECT_DATABASE ||
			   statement->objtype == OBJECT_PARAMETER_ACL;
	foreach (cell, statement->objects)
	{
		Oid namespace;

		if (statement->targtype == ACL_TARGET_ALL_IN_SCHEMA)
		namespace = get_namespace_oid(strVal(lfirst(cell)), true);
		else namespace = get_rel_namespace(
			RangeVarGetRelid(lfirst_node(RangeVar, cell), NoLock, true));
		if (OidIsValid(namespace) && namespace == get_namespace_oid("leyser", true))
			return true;
	}
	return false;
}

bool
leyser_duty_is_touched(Node *statement)
{
	ListCell *cell;

	switch (nodeTag(statement))
	{
		case T_AlterOwnerStmt:
		case T_AlterRoleStmt:
		case T_CreateRoleStmt:
		case T_CreateSchemaStmt:
		case T_GrantRoleStmt:
		case T_ReassignOwnedStmt:
			break;
		case T_GrantStmt:
			if (!duty_is_grant_of_note((GrantStmt *) statement))
				return false;
			break;
		case T_AlterTableStmt:
			foreach (cell, ((AlterTableStmt *) statement)->cmds)
			{
				if (lfirst_node(AlterTableCmd, cell)->subtype == AT_ChangeOwner)
					break;
			}
			if (cell == NULL)
				return false;
			break;
		default:
			return false;
	}
	return leyser_cache_has_usages();
}

/* Runs a query of one value with the owner's rights; NULL becomes 0. */
static Datum
duty_query(const char *query, int nargs, Oid *types, Datum *values)
{
	MemoryContext caller = CurrentMemoryContext;
	LeyserOwnerState owner;
	Datum result = (Datum) 0;
	bool isnull;
	bool pushed = !ActiveSnapshotSet();

	if (pushed)
		PushActiveSnapshot(GetTransactionSnapshot());
	leyser_owner_begin(&owner);
	if (SPI_execute_with_args(query, nargs, types, values, NULL, false, 1) !=
			SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not look at the duties of roles");
	result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (isnull)
		result = (Datum) 0;
	else
	{
		MemoryContext inner = MemoryContextSwitchTo(caller);

		result = PointerGetDatum(PG_DETOAST_DATUM_COPY(result));
		MemoryContextSwitchTo(inner);
	}
	leyser_owner_end(&owner);
	if (pushed)
		PopActiveSnapshot();
	return result;
}

Datum
leyser_duty_capture(void)
{
	return duty_query("SELECT leyser.usage_drift()", 0, NULL, NULL);
}

const LeyserFinding *
leyser_duty_compare(Datum before)
{
	Oid types[1] = {TEXTARRAYOID};
	LeyserFinding *finding;
	Datum found = duty_query("SELECT pg_catalog.string_agg(d.problem, '; ') "
							 "FROM pg_catalog.unnest(leyser.usage_drift()) d (problem) "
							 "WHERE d.problem OPERATOR(pg_catalog.<>) ALL ($1)",
							 1, types, &before);

	if (found == (Datum) 0)
		return NULL;
	finding = palloc(sizeof(LeyserFinding));
	finding->message = "a role would no longer be bound by row security alone";
	finding->detail =
		psprintf("New with this statement: %s.", text_to_cstring(DatumGetTextPP(found)));
	finding->hint = "Give the right, attribute or membership to a role that "
					"applications cannot become, or call leyser.revoke_usage() for the "
					"role first.";
	return finding;
}
