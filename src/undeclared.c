/*
 * undeclared.c
 *		New tables of governed schemas that have no kind.
 *
 * A table that nobody gave a kind is not protected, and nobody notices.  So who
 * makes one in a governed schema (CREATE TABLE, also LIKE, AS and SELECT INTO), or
 * moves or detaches one, is told when the transaction commits; with
 * leyser.undeclared_tables = refuse it cannot be committed (LY007).  A migration
 * makes and protects a table in one transaction.  Partitions and children have the
 * kind of their parent.
 *
 * The tables are remembered when they are made, and looked up when the transaction is
 * about to commit: those that are gone, or were rolled back, are not there.
 * leyser.guards = off turns it off.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "undeclared.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "cache.h"
#include "guard.h"
#include "relation.h"

typedef enum UndeclaredTables
{
	UNDECLARED_WARN,
	UNDECLARED_REFUSE
} UndeclaredTables;

static const struct config_enum_entry undeclared_options[] = {
	{"warn", UNDECLARED_WARN, false},
	{"refuse", UNDECLARED_REFUSE, false},
	{NULL, 0, false}};

static int undeclared_tables = UNDECLARED_WARN;

/* In the transaction's memory: what it made, moved or detached. */
static List *made = NIL;

static object_access_hook_type prev_object_access = NULL;

/* ---- which tables ---- */

static bool
schema_is_governed(Oid schema)
{
	int count;
	const NameData *schemas = leyser_cache_governed_schemas(&count);
	const LeyserGoverned *governed;
	char *name = get_namespace_name(schema);

	for (int i = 0; i < count; i++)
	{
		if (name && strcmp(NameStr(schemas[i]), name) == 0)
			return true;
	}
	governed = leyser_cache_governed(&count);
	for (int i = 0; i < count; i++)
	{
		if (get_rel_namespace(governed[i].relation) == schema)
			return true;
	}
	return false;
}

static bool
table_is_registered(Oid relation)
{
	int count;
	const LeyserGoverned *governed = leyser_cache_governed(&count);

	for (int i = 0; i < count; i++)
	{
		if (governed[i].relation == relation)
			return true;
	}
	return false;
}

/* Whether a table or one above it is registered: what follows it does so itself. */
static bool
table_has_kind(Oid relation)
{
	Relation inherits;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple tuple;
	List *parents = NIL;
	ListCell *cell;

	if (table_is_registered(relation))
		return true;
	inherits = table_open(InheritsRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relation));
	scan = systable_beginscan(inherits, InheritsRelidSeqnoIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		parents = lappend_oid(parents, ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent);
	systable_endscan(scan);
	table_close(inherits, AccessShareLock);
	foreach (cell, parents)
	{
		if (table_has_kind(lfirst_oid(cell)))
			return true;
	}
	return false;
}

/* Whether a relation is a table that should have a kind, and has none. */
static bool
table_is_undeclared(Oid relation)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Form_pg_class form;
	bool counts;
	Oid schema;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_class) GETSTRUCT(tuple);
	counts = (form->relkind == RELKIND_RELATION ||
			  form->relkind == RELKIND_PARTITIONED_TABLE) &&
			 form->relpersistence != RELPERSISTENCE_TEMP;
	schema = form->relnamespace;
	ReleaseSysCache(tuple);
	return counts && schema_is_governed(schema) && !table_has_kind(relation);
}

/* ---- telling ---- */

static void
undeclared_tell(Oid relation)
{
	const char *name = quote_literal_cstr(leyser_relation_name(relation));
	bool refuse = undeclared_tables == UNDECLARED_REFUSE;

	ereport(
		refuse ? ERROR : WARNING,
		(errcode(LEYSER_ERRCODE_GUARD_REFUSED),
		 errmsg("table \"%s\" of a governed schema has no kind", get_rel_name(relation)),
		 errdetail("Tenants are not separated in it, and a purge does not know it.%s",
				   refuse ? " leyser.undeclared_tables is \"refuse\"." : ""),
		 errhint("SELECT leyser.protect(%s); or, by an operator, SELECT "
				 "leyser.declare_table(%s, kind, reason); in the same transaction.",
				 name, name)));
}

static void
undeclared_check(void)
{
	ListCell *cell;

	if (made == NIL || !leyser_guards_are_on())
		return;
	leyser_cache_catch_up();
	if (!OidIsValid(leyser_cache_extension()))
		return;
	foreach (cell, made)
	{
		if (table_is_undeclared(lfirst_oid(cell)))
			undeclared_tell(lfirst_oid(cell));
	}
}

/* ---- noticing ---- */

static void
undeclared_remember(Oid relation)
{
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);

	made = lappend_oid(made, relation);
	MemoryContextSwitchTo(caller);
}

/* The table that loses its parent by a part of ALTER TABLE, or NULL. */
static const RangeVar *
undeclared_orphan(const AlterTableStmt *statement, const AlterTableCmd *command)
{
	if (command->subtype == AT_DetachPartition)
		return castNode(PartitionCmd, command->def)->name;
	return command->subtype == AT_DropInherit ? statement->relation : NULL;
}

void
leyser_undeclared_look(Node *statement)
{
	const RangeVar *table = NULL;
	ListCell *cell;

	if (IsA(statement, AlterObjectSchemaStmt))
		table = ((AlterObjectSchemaStmt *) statement)->relation;
	else if (IsA(statement, AlterTableStmt))
	{
		foreach (cell, ((AlterTableStmt *) statement)->cmds)
		{
			table = undeclared_orphan((AlterTableStmt *) statement,
									  lfirst_node(AlterTableCmd, cell));
			if (table)
				break;
		}
	}
	if (table && OidIsValid(RangeVarGetRelid(table, NoLock, true)))
		undeclared_remember(RangeVarGetRelid(table, NoLock, true));
}

static void
undeclared_object_access(ObjectAccessType access, Oid class, Oid object, int subobject,
						 void *arg)
{
	if (prev_object_access)
		prev_object_access(access, class, object, subobject, arg);
	if (class != RelationRelationId || subobject != 0 || IsBinaryUpgrade ||
		!IsTransactionState())
		return;
	if (access == OAT_POST_CREATE && !((ObjectAccessPostCreate *) arg)->is_internal)
		undeclared_remember(object);
}

static void
undeclared_xact_ended(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			undeclared_check();
			break;
		default:
			made = NIL;
			break;
	}
}

void
leyser_undeclared_init(void)
{
	DefineCustomEnumVariable(
		"leyser.undeclared_tables",
		"What becomes of new tables of governed schemas that have no kind.",
		"\"warn\" tells who makes one, \"refuse\" keeps the transaction from committing.",
		&undeclared_tables, UNDECLARED_WARN, undeclared_options, PGC_SUSET, 0, NULL, NULL,
		NULL);
	RegisterXactCallback(undeclared_xact_ended, NULL);
	prev_object_access = object_access_hook;
	object_access_hook = undeclared_object_access;
}
