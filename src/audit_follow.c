/*
 * audit_follow.c
 *		Keeps audited tables audited.
 *
 * A table is audited by its triggers, which its owner could drop or disable like any
 * other: guard.c asks here, and refuses it.  A partition or child can be named
 * directly, past the triggers of its parent, so one that comes later gets its own
 * with the statement that makes it one.  Who may drop a table ends its audit with it:
 * that is recorded.
 *
 * Statements are looked at by what they name: no catalogue is scanned for it.  Only
 * what a DROP takes along is not in its text: then the dependencies of audit()'s
 * function tell which tables there are.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "audit_follow.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "audit_table.h"
#include "owner.h"

static bool
is_audit_trigger(const char *name)
{
	return strncmp(name, LEYSER_AUDIT_TRIGGER, strlen(LEYSER_AUDIT_TRIGGER)) == 0;
}

static Oid
audit_function(void)
{
	Oid schema = get_namespace_oid("leyser", true);

	return GetSysCacheOid3(
		PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum("audit_statement"),
		PointerGetDatum(buildoidvector(NULL, 0)), ObjectIdGetDatum(schema));
}

/*
 * Whether a table has triggers of audit(), or one of that name.  The lock is given back:
 * the statement itself takes a stronger one.
 */
static bool
has_audit_trigger(Oid relation, const char *name)
{
	Oid function = audit_function();
	Relation rel;
	bool found = false;

	if (!OidIsValid(relation) || !OidIsValid(function))
		return false;
	rel = try_relation_open(relation, AccessShareLock);
	if (rel == NULL)
		return false;
	for (int i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers && !found; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];

		found = trigger->tgfoid == function &&
				(name == NULL || strcmp(trigger->tgname, name) == 0);
	}
	relation_close(rel, AccessShareLock);
	return found;
}

static bool
is_audited(const RangeVar *name, const char *trigger)
{
	return has_audit_trigger(RangeVarGetRelid(name, NoLock, true), trigger);
}

/* ---- what is refused ---- */

static bool
command_disables(const AlterTableStmt *statement, const AlterTableCmd *command)
{
	switch (command->subtype)
	{
		case AT_DisableTrigAll:
		case AT_DisableTrigUser:
		case AT_EnableTrigAll: /* no longer always */
		case AT_EnableTrigUser:
			return is_audited(statement->relation, NULL);
		case AT_DisableTrig:
		case AT_EnableTrig:
		case AT_EnableReplicaTrig:
			return is_audited(statement->relation, command->name);
		default:
			return false;
	}
}

static bool
alter_disables(const AlterTableStmt *statement)
{
	ListCell *cell;

	foreach (cell, statement->cmds)
	{
		if (command_disables(statement, lfirst_node(AlterTableCmd, cell)))
			return true;
	}
	return false;
}

static bool
drop_removes(const DropStmt *statement)
{
	ListCell *cell;

	if (statement->removeType != OBJECT_TRIGGER)
		return false;
	foreach (cell, statement->objects)
	{
		List *name = lfirst_node(List, cell);
		List *relation = list_copy_head(name, list_length(name) - 1);

		if (relation != NIL &&
			is_audited(makeRangeVarFromNameList(relation), strVal(llast(name))))
			return true;
	}
	return false;
}

static bool
statement_ends_audit(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_AlterTableStmt:
			return alter_disables(castNode(AlterTableStmt, statement));
		case T_DropStmt:
			return drop_removes(castNode(DropStmt, statement));
		case T_RenameStmt:
		{
			RenameStmt *rename = castNode(RenameStmt, statement);

			return rename->renameType == OBJECT_TRIGGER && rename->relation != NULL &&
				   is_audited(rename->relation, rename->subname);
		}
		case T_AlterObjectDependsStmt: /* it would go with another extension */
		{
			AlterObjectDependsStmt *depends = castNode(AlterObjectDependsStmt, statement);

			return depends->objectType == OBJECT_TRIGGER && depends->relation != NULL &&
				   is_audited(depends->relation,
							  strVal(llast(castNode(List, depends->object))));
		}
		case T_CreateTrigStmt:
			return castNode(CreateTrigStmt, statement)->replace &&
				   is_audit_trigger(castNode(CreateTrigStmt, statement)->trigname) &&
				   is_audited(castNode(CreateTrigStmt, statement)->relation,
							  castNode(CreateTrigStmt, statement)->trigname);
		default:
			return false;
	}
}

/*
 * A statement that names a table changes its children's rows, and fires no trigger of
 * theirs.
 */
static bool
command_escapes(const AlterTableStmt *statement, const AlterTableCmd *command)
{
	if (command->subtype == AT_AddInherit)
		return is_audited(statement->relation, NULL) &&
			   !is_audited(castNode(RangeVar, command->def), NULL);
	if (command->subtype == AT_AttachPartition)
		return is_audited(castNode(PartitionCmd, command->def)->name, NULL) &&
			   !is_audited(statement->relation, NULL);
	return false;
}

/* A child of an audited table and of another one. */
static bool
create_escapes(const CreateStmt *statement)
{
	int audited = 0;
	ListCell *cell;

	foreach (cell, statement->inhRelations)
		audited += is_audited(lfirst_node(RangeVar, cell), NULL);
	return audited > 0 && audited < list_length(statement->inhRelations);
}

static bool
statement_escapes(Node *statement)
{
	ListCell *cell;

	if (IsA(statement, CreateStmt))
		return create_escapes(castNode(CreateStmt, statement));
	if (!IsA(statement, AlterTableStmt))
		return false;
	foreach (cell, castNode(AlterTableStmt, statement)->cmds)
	{
		if (command_escapes(castNode(AlterTableStmt, statement),
							lfirst_node(AlterTableCmd, cell)))
			return true;
	}
	return false;
}

const LeyserFinding *
leyser_audit_check(Node *statement)
{
	static const LeyserFinding ends = {
		.message = "table is audited",
		.detail = "The statement would drop, disable or change triggers that record "
				  "what is done to its rows.",
		.hint = "leyser.unaudit() ends that, and is recorded; a restore sets "
				"leyser.guards to off."};
	static const LeyserFinding escapes = {
		.message = "table is audited, and the one above it is not",
		.detail = "What is done to its rows by the parent's name would not be recorded.",
		.hint = "Audit the parent first: leyser.audit()."};

	if (statement_ends_audit(statement))
		return &ends;
	return statement_escapes(statement) ? &escapes : NULL;
}

/* ---- new children ---- */

static List *
add_parent(List *parents, const RangeVar *name)
{
	Oid relation = name ? RangeVarGetRelid(name, NoLock, true) : InvalidOid;

	return has_audit_trigger(relation, NULL) ? list_append_unique_oid(parents, relation)
											 : parents;
}

static List *
parents_of_command(List *parents, const AlterTableStmt *statement,
				   const AlterTableCmd *command)
{
	if (command->subtype == AT_AttachPartition)
		return add_parent(parents, statement->relation);
	if (command->subtype == AT_AddInherit)
		return add_parent(parents, castNode(RangeVar, command->def));
	return parents;
}

List *
leyser_audit_parents(Node *statement)
{
	List *parents = NIL;
	ListCell *cell;

	if (IsA(statement, CreateStmt))
	{
		foreach (cell, castNode(CreateStmt, statement)->inhRelations)
			parents = add_parent(parents, lfirst_node(RangeVar, cell));
	}
	else if (IsA(statement, AlterTableStmt))
	{
		foreach (cell, castNode(AlterTableStmt, statement)->cmds)
			parents = parents_of_command(parents, castNode(AlterTableStmt, statement),
										 lfirst_node(AlterTableCmd, cell));
	}
	else if (IsA(statement, CreateSchemaStmt))
	{
		foreach (cell, castNode(CreateSchemaStmt, statement)->schemaElts)
			parents = list_concat_unique_oid(parents, leyser_audit_parents(lfirst(cell)));
	}
	return parents;
}

static void
follow_parent(Oid parent)
{
	Oid types[1] = {OIDOID};
	Datum values[1] = {ObjectIdGetDatum(parent)};

	if (SPI_execute_with_args("SELECT leyser.follow_audit($1)", 1, types, values, NULL,
							  false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not audit the children of a table");
}

void
leyser_audit_follow(const List *parents)
{
	LeyserOwnerState owner;
	ListCell *cell;
	bool pushed;

	if (parents == NIL || RecoveryInProgress() || XactReadOnly)
		return;
	pushed = !ActiveSnapshotSet();
	if (pushed)
		PushActiveSnapshot(GetTransactionSnapshot());
	leyser_owner_begin(&owner);
	foreach (cell, parents)
		follow_parent(lfirst_oid(cell));
	leyser_owner_end(&owner);
	if (pushed)
		PopActiveSnapshot();
	CommandCounterIncrement();
}

/* ---- tables that are dropped ---- */

/* A table, and how it was called. */
typedef struct AuditedTable
{
	Oid relation;
	char *name;
} AuditedTable;

/* The table of a trigger, if it is the one that each audited table has once. */
static Oid
audited_by(Relation triggers, Oid trigger)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	Oid relation = InvalidOid;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(trigger));
	scan = systable_beginscan(triggers, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

		if (strcmp(NameStr(form->tgname), LEYSER_AUDIT_TRIGGER "update") == 0)
			relation = form->tgrelid;
	}
	systable_endscan(scan);
	return relation;
}

static AuditedTable *
audited_table(Oid relation)
{
	AuditedTable *table = palloc(sizeof(AuditedTable));

	table->relation = relation;
	table->name = quote_qualified_identifier(
		get_namespace_name(get_rel_namespace(relation)), get_rel_name(relation));
	return table;
}

/* All audited tables: the triggers that depend on audit()'s function. */
static List *
audited_tables(Oid function)
{
	Relation depend = table_open(DependRelationId, AccessShareLock);
	Relation triggers = table_open(TriggerRelationId, AccessShareLock);
	List *tables = NIL;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(ProcedureRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(function));
	scan = systable_beginscan(depend, DependReferenceIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);
		Oid relation = form->classid == TriggerRelationId
						   ? audited_by(triggers, form->objid)
						   : InvalidOid;

		if (OidIsValid(relation))
			tables = lappend(tables, audited_table(relation));
	}
	systable_endscan(scan);
	table_close(triggers, AccessShareLock);
	table_close(depend, AccessShareLock);
	return tables;
}

List *
leyser_audit_droppable(Node *statement)
{
	Oid function;

	if (!IsA(statement, DropStmt) && !IsA(statement, DropOwnedStmt))
		return NIL;
	function = audit_function();
	return OidIsValid(function) ? audited_tables(function) : NIL;
}

static void
note_dropped(const AuditedTable *table)
{
	Oid types[1] = {TEXTOID};
	Datum values[1] = {CStringGetTextDatum(table->name)};

	if (SPI_execute_with_args("SELECT leyser.record_event('table.unaudited', NULL, $1, "
							  "pg_catalog.jsonb_build_object('dropped', true))",
							  1, types, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not record that an audited table was dropped");
}

void
leyser_audit_note_dropped(const List *tables)
{
	ListCell *cell;

	foreach (cell, tables)
	{
		const AuditedTable *table = lfirst(cell);
		LeyserOwnerState owner;
		bool pushed;

		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(table->relation)))
			continue;
		pushed = !ActiveSnapshotSet();
		if (pushed)
			PushActiveSnapshot(GetTransactionSnapshot());
		leyser_owner_begin(&owner);
		note_dropped(table);
		leyser_owner_end(&owner);
		if (pushed)
			PopActiveSnapshot();
	}
}
