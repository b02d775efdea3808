/*
 * alter.c
 *		What ALTER TABLE may not do to a protected table, judged by the
 *		statement's text.
 *
 * Refused before it runs, for what it would do cannot be seen afterwards:
 *
 *  - any ALTER TABLE while a context is set: defaults and checks would be
 *    computed as if every row were this tenant's;
 *  - a foreign key added or validated by a role that row security binds: it
 *    would be marked valid with dangling rows of other tenants;
 *  - INHERIT and ATTACH PARTITION below a table that is not protected: whoever
 *    reads the parent reads the child past its own policies.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "alter.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "cache.h"
#include "context.h"
#include "relation.h"

bool
leyser_is_protected(Oid relation)
{
	int count;
	const LeyserGoverned *governed = leyser_cache_governed(&count);

	for (int i = 0; i < count; i++)
	{
		if (governed[i].relation == relation)
			return governed[i].is_protected;
	}
	return false;
}

/* A protected table, or one that an ALTER TABLE hands down to. */
static bool
alter_reaches_protected(Oid relation)
{
	ListCell *cell;

	if (leyser_is_protected(relation))
		return true;
	foreach (cell, find_all_inheritors(relation, NoLock, NULL))
	{
		if (leyser_is_protected(lfirst_oid(cell)))
			return true;
	}
	return false;
}

/* The foreign key that a part of ALTER TABLE adds, or NULL. */
static const Constraint *
alter_added_foreign_key(const AlterTableCmd *command)
{
	ListCell *cell;

	if (command->subtype == AT_AddConstraint && IsA(command->def, Constraint))
	{
		const Constraint *constraint = (const Constraint *) command->def;

		return constraint->contype == CONSTR_FOREIGN ? constraint : NULL;
	}
	if (command->subtype != AT_AddColumn || !IsA(command->def, ColumnDef))
		return NULL;
	foreach (cell, ((const ColumnDef *) command->def)->constraints)
	{
		if (((const Constraint *) lfirst(cell))->contype == CONSTR_FOREIGN)
			return lfirst(cell);
	}
	return NULL;
}

bool
leyser_alter_adds_foreign_key(Node *statement)
{
	ListCell *cell;

	if (!IsA(statement, AlterTableStmt))
		return false;
	foreach (cell, ((AlterTableStmt *) statement)->cmds)
	{
		if (alter_added_foreign_key(lfirst_node(AlterTableCmd, cell)))
			return true;
	}
	return false;
}

/* The table that a foreign key's VALIDATE CONSTRAINT looks up, or InvalidOid. */
static Oid
alter_validated_reference(Oid relation, const char *constraint)
{
	HeapTuple tuple = SearchSysCache1(
		CONSTROID,
		ObjectIdGetDatum(get_relation_constraint_oid(relation, constraint, true)));
	Oid referenced = InvalidOid;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	if (((Form_pg_constraint) GETSTRUCT(tuple))->contype == CONSTRAINT_FOREIGN)
		referenced = ((Form_pg_constraint) GETSTRUCT(tuple))->confrelid;
	ReleaseSysCache(tuple);
	return referenced;
}

/* Whether row security would hide rows from a check by the current user. */
static bool
alter_binds_check(Oid relation)
{
	return leyser_is_protected(relation) &&
		   check_enable_rls(relation, InvalidOid, true) == RLS_ENABLED;
}

static void
alter_check_foreign_key(Oid relation, const AlterTableCmd *command)
{
	const Constraint *added = alter_added_foreign_key(command);
	Oid referenced = InvalidOid;

	if (command->subtype == AT_ValidateConstraint)
		referenced = alter_validated_reference(relation, command->name);
	else if (added && !added->skip_validation)
		referenced = RangeVarGetRelid(added->pktable, NoLock, true);
	/* leyser.validate_constraint(): the owner sees all rows of its tables, and rows of
	 * others' are looked up one by one, as their owners */
	if (InNoForceRLSOperation())
		return;
	if (!OidIsValid(referenced) ||
		(!alter_binds_check(relation) && !alter_binds_check(referenced)))
		return;
	ereport(ERROR,
			(errcode(LEYSER_ERRCODE_GUARD_REFUSED),
			 errmsg("foreign key of table \"%s\" cannot be validated under row security",
					get_rel_name(relation)),
			 errdetail("The check would see one tenant's rows, or none."),
			 errhint("Add it NOT VALID, then SELECT leyser.validate_constraint(…).")));
}

/*
 * A query of a parent reads its children under the parent's policies alone: a
 * protected table must not get a parent that is not protected.
 */
static void
alter_check_new_parent(Oid relation, const AlterTableCmd *command)
{
	Oid parent;
	Oid child;

	if (command->subtype == AT_AddInherit)
	{
		child = relation;
		parent = RangeVarGetRelid(castNode(RangeVar, command->def), NoLock, true);
	}
	else if (command->subtype == AT_AttachPartition)
	{
		child =
			RangeVarGetRelid(castNode(PartitionCmd, command->def)->name, NoLock, true);
		parent = relation;
	}
	else
		return;
	if (!OidIsValid(child) || !OidIsValid(parent) || leyser_is_protected(parent) ||
		!alter_reaches_protected(child))
		return;
	ereport(ERROR, (errcode(LEYSER_ERRCODE_GUARD_REFUSED),
					errmsg("protected table \"%s\" cannot become a child of \"%s\"",
						   get_rel_name(child), get_rel_name(parent)),
					errdetail("Whoever reads the parent would see every tenant's rows."),
					errhint("Protect the parent first: SELECT leyser.protect(%s);",
							quote_literal_cstr(leyser_relation_name(parent)))));
}

void
leyser_alter_check(const AlterTableStmt *statement)
{
	Oid relation = RangeVarGetRelid(statement->relation, NoLock, true);
	ListCell *cell;

	if (!OidIsValid(relation))
		return;
	if (leyser_context_is_set() && alter_reaches_protected(relation))
		ereport(ERROR,
				(errcode(LEYSER_ERRCODE_GUARD_REFUSED),
				 errmsg("table \"%s\" cannot be altered while a context is set",
						get_rel_name(relation)),
				 errdetail("Defaults and checks would be computed as if every row were "
						   "this tenant's."),
				 errhint("Run it in a transaction without a context.")));
	foreach (cell, statement->cmds)
	{
		alter_check_new_parent(relation, lfirst_node(AlterTableCmd, cell));
		alter_check_foreign_key(relation, lfirst_node(AlterTableCmd, cell));
	}
}
