/*
 * guard.c
 *		Statements that would open a table or leave something behind in a
 *		pooled connection.
 *
 * Two hooks, saved and chained.  The utility hook sees every utility statement,
 * also those of functions and of DO; the object hook sees TRUNCATE whatever
 * statement brings it.  What is refused (LY007) with leyser.guards on:
 *
 *  - what connection.c refuses to application and gateway roles;
 *  - DDL after which a protected table is less protected than before
 *    (protection.c), or without the extension that protects it;
 *  - ALTER TABLE on a protected table while a context is set: a new column
 *    with DEFAULT leyser.tenant_id() would stamp every tenant's rows as this
 *    tenant's;
 *  - a protected table that becomes the child of one that is not;
 *  - a foreign key added or validated by a role that row security binds:
 *    inside a context it would be marked validated with dangling rows of other
 *    tenants, without one the check fails;
 *  - TRUNCATE of a protected table, except by superusers: row security does
 *    not filter it, so it removes every tenant's rows.
 *
 * The guards bind superusers too, save where said, but they can turn them off:
 * a restore has to.  Not undone by that: after any DDL, tables that became
 * partitions or children of a protected table are protected like it, and
 * tables that are gone leave the registry (leyser.follow_tables()).
 *
 * Utility statements also run where no catalogue can be read: in aborted
 * transactions, or without a database.  Those pass, and so do transaction
 * statements and all that is neither DDL nor ruled by connection.c, without a
 * look-up.  Scripts of extensions are judged as a whole, at the end of CREATE
 * or ALTER EXTENSION; parts of a statement (indexes of CREATE TABLE) with it.
 *
 * The state before a DDL statement lies in a memory context of its own under
 * TopMemoryContext, because some statements commit in between; it goes with
 * the statement, in error too.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "guard.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "cache.h"
#include "connection.h"
#include "context.h"
#include "follow.h"
#include "protection.h"

#define UTILITY_PARAMS                                                                   \
	PlannedStmt *pstmt, const char *query_string, bool read_only_tree,                   \
		ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *env,      \
		DestReceiver *dest, QueryCompletion *completion
#define UTILITY_ARGS                                                                     \
	pstmt, query_string, read_only_tree, context, params, env, dest, completion

static bool guards = true;

/*
 * leyser's own functions that change tables and registry together have this in
 * their SET clauses.  Between their statements the two disagree, and comparing
 * after each would cost protect() the square of the number of partitions.
 */
static bool registry_work = false;

static ProcessUtility_hook_type previous_utility = NULL;
static object_access_hook_type previous_object_access = NULL;

/* ---- what a statement is about ---- */

static bool
guard_is_protected(Oid relation)
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
guard_reaches_protected(Oid relation)
{
	ListCell *cell;

	if (guard_is_protected(relation))
		return true;
	foreach (cell, find_all_inheritors(relation, NoLock, NULL))
	{
		if (guard_is_protected(lfirst_oid(cell)))
			return true;
	}
	return false;
}

/* The foreign key that a part of ALTER TABLE adds, or NULL. */
static const Constraint *
guard_added_foreign_key(const AlterTableCmd *command)
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

static bool
guard_adds_foreign_key(Node *statement)
{
	ListCell *cell;

	if (!IsA(statement, AlterTableStmt))
		return false;
	foreach (cell, ((AlterTableStmt *) statement)->cmds)
	{
		if (guard_added_foreign_key(lfirst_node(AlterTableCmd, cell)))
			return true;
	}
	return false;
}

/* ---- refusals before a statement runs ---- */

/* The table that a foreign key's VALIDATE CONSTRAINT looks up, or InvalidOid. */
static Oid
guard_validated_reference(Oid relation, const char *constraint)
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
guard_binds_check(Oid relation)
{
	return guard_is_protected(relation) &&
		   check_enable_rls(relation, InvalidOid, true) == RLS_ENABLED;
}

static void
guard_check_foreign_key(Oid relation, const AlterTableCmd *command)
{
	const Constraint *added = guard_added_foreign_key(command);
	Oid referenced = InvalidOid;

	if (command->subtype == AT_ValidateConstraint)
		referenced = guard_validated_reference(relation, command->name);
	else if (added && !added->skip_validation)
		referenced = RangeVarGetRelid(added->pktable, NoLock, true);
	if (!OidIsValid(referenced) ||
		(!guard_binds_check(relation) && !guard_binds_check(referenced)))
		return;
	ereport(ERROR,
			(errcode(LEYSER_ERRCODE_GUARD_REFUSED),
			 errmsg("foreign key of table \"%s\" cannot be validated under row security",
					get_rel_name(relation)),
			 errdetail("The check would see one tenant's rows, or none."),
			 errhint("Add it NOT VALID, and let a superuser validate it.")));
}

/*
 * A query of a parent reads its children under the parent's policies alone: a
 * protected table must not get a parent that is not protected.
 */
static void
guard_check_new_parent(Oid relation, const AlterTableCmd *command)
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
	if (!OidIsValid(child) || !OidIsValid(parent) || guard_is_protected(parent) ||
		!guard_reaches_protected(child))
		return;
	ereport(ERROR, (errcode(LEYSER_ERRCODE_GUARD_REFUSED),
					errmsg("protected table \"%s\" cannot become a child of \"%s\"",
						   get_rel_name(child), get_rel_name(parent)),
					errdetail("Whoever reads the parent would see every tenant's rows."),
					errhint("Protect the parent first: SELECT leyser.protect(%s);",
							quote_literal_cstr(quote_qualified_identifier(
								get_namespace_name(get_rel_namespace(parent)),
								get_rel_name(parent))))));
}

static void
guard_check_alter_table(const AlterTableStmt *statement)
{
	Oid relation = RangeVarGetRelid(statement->relation, NoLock, true);
	ListCell *cell;

	if (!OidIsValid(relation))
		return;
	if (leyser_context_is_set() && guard_reaches_protected(relation))
		ereport(ERROR,
				(errcode(LEYSER_ERRCODE_GUARD_REFUSED),
				 errmsg("table \"%s\" cannot be altered while a context is set",
						get_rel_name(relation)),
				 errdetail("Defaults and checks would be computed as if every row were "
						   "this tenant's."),
				 errhint("Run it in a transaction without a context.")));
	foreach (cell, statement->cmds)
	{
		guard_check_new_parent(relation, lfirst_node(AlterTableCmd, cell));
		guard_check_foreign_key(relation, lfirst_node(AlterTableCmd, cell));
	}
}

static bool
guard_names_extension(const DropStmt *statement)
{
	ListCell *cell;

	if (statement->removeType != OBJECT_EXTENSION)
		return false;
	foreach (cell, statement->objects)
	{
		if (strcmp(strVal(lfirst(cell)), "leyser") == 0)
			return true;
	}
	return false;
}

static void
guard_check_before(Node *statement, const LeyserProtection *before)
{
	if (IsA(statement, AlterTableStmt))
		guard_check_alter_table((AlterTableStmt *) statement);
	else if (IsA(statement, DropStmt) && guard_names_extension((DropStmt *) statement))
		leyser_protection_refuse_drop(before);
}

/* ---- after a statement ---- */

static void
guard_check_after(const LeyserProtection *before, bool foreign_keys)
{
	if (!OidIsValid(leyser_cache_extension()))
	{
		leyser_protection_refuse_drop(before);
		return;
	}
	leyser_protection_compare(before, leyser_protection_capture(foreign_keys));
}

/* ---- the hooks ---- */

static void
guard_chain_utility(UTILITY_PARAMS)
{
	if (previous_utility)
		previous_utility(UTILITY_ARGS);
	else
		standard_ProcessUtility(UTILITY_ARGS);
}

/* The state before a DDL statement, or NULL where there is nothing to guard. */
static const LeyserProtection *
guard_prepare(MemoryContext memory, Node *statement, bool foreign_keys)
{
	MemoryContext caller = MemoryContextSwitchTo(memory);
	LeyserProtection *before = guards ? leyser_protection_capture(foreign_keys) : NULL;

	if (before && leyser_protection_is_empty(before))
		before = NULL;
	if (before)
		guard_check_before(statement, before);
	MemoryContextSwitchTo(caller);
	return before;
}

static void
guard_finish(MemoryContext memory, const LeyserProtection *before, bool foreign_keys)
{
	MemoryContext caller;

	if (!IsTransactionState())
		return;
	caller = MemoryContextSwitchTo(memory);
	CommandCounterIncrement();
	leyser_cache_catch_up();
	if (before)
		guard_check_after(before, foreign_keys);
	leyser_follow_tables();
	MemoryContextSwitchTo(caller);
}

static void
guard_run_ddl(UTILITY_PARAMS)
{
	MemoryContext memory =
		AllocSetContextCreate(TopMemoryContext, "leyser guard", ALLOCSET_SMALL_SIZES);

	PG_TRY();
	{
		bool foreign_keys = guard_adds_foreign_key(pstmt->utilityStmt);
		const LeyserProtection *before =
			guard_prepare(memory, pstmt->utilityStmt, foreign_keys);

		guard_chain_utility(UTILITY_ARGS);
		guard_finish(memory, before, foreign_keys);
	}
	PG_FINALLY();
	{
		MemoryContextDelete(memory);
	}
	PG_END_TRY();
}

static bool
guard_is_installed(void)
{
	leyser_cache_catch_up();
	return OidIsValid(leyser_cache_extension());
}

static void
guard_utility(UTILITY_PARAMS)
{
	Node *statement = pstmt->utilityStmt;

	leyser_context_new_statement();
	if (IsA(statement, TransactionStmt) || context == PROCESS_UTILITY_SUBCOMMAND ||
		registry_work || creating_extension || IsBinaryUpgrade || !IsTransactionState() ||
		!OidIsValid(MyDatabaseId))
	{
		guard_chain_utility(UTILITY_ARGS);
		return;
	}
	if (guards)
		leyser_connection_check_statement(statement, leyser_context_is_set());
	if (GetCommandLogLevel(statement) == LOGSTMT_DDL && guard_is_installed())
		guard_run_ddl(UTILITY_ARGS);
	else
		guard_chain_utility(UTILITY_ARGS);
}

static void
guard_object_access(ObjectAccessType access, Oid class, Oid object, int subobject,
					void *arg)
{
	if (previous_object_access)
		previous_object_access(access, class, object, subobject, arg);
	if (access != OAT_TRUNCATE || !guards || superuser() || !guard_is_protected(object))
		return;
	ereport(ERROR,
			(errcode(LEYSER_ERRCODE_GUARD_REFUSED),
			 errmsg("protected table \"%s\" cannot be truncated", get_rel_name(object)),
			 errdetail("TRUNCATE is not subject to row security and would remove every "
					   "tenant's rows."),
			 errhint("DELETE in a tenant's context; only superusers can truncate.")));
}

void
leyser_guard_init(void)
{
	DefineCustomBoolVariable(
		"leyser.guards",
		"Refuses statements that would weaken the separation of tenants.",
		"Turn it off for a restore, in that session only.  Tables that become "
		"partitions or children of protected tables are protected even so.",
		&guards, true, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable(
		"leyser.registry_work",
		"Set by leyser's own functions while they change tables and their registry.",
		"Nobody else has a use for it.", &registry_work, false, PGC_SUSET,
		GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE, NULL, NULL, NULL);
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = guard_utility;
	previous_object_access = object_access_hook;
	object_access_hook = guard_object_access;
}
