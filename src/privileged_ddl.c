/*
 * privileged_ddl.c
 *		DDL that runs expressions over the rows of a protected table.
 *
 * ADD CHECK, an index over an expression, ALTER COLUMN … USING read every row, of all
 * tenants, and hand it to functions that the statement's author chose: neither row
 * security nor the hook for permissions sees it, FORCE or not.  So it counts as
 * access (event privileged.ddl), whoever does it, before it runs.
 *
 * Not looked at, for what they run was chosen by such a statement before: REINDEX,
 * CLUSTER, VACUUM FULL and ANALYZE (by autovacuum, too).
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "privileged.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_type.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "alter.h"
#include "cache.h"
#include "compat.h"

/* ALTER TABLEs that run, one within the other. */
static int alters = 0;

/* The tables of a foreign key that is being added, and its columns. */
#define KEY_TABLES 2

typedef struct KeyTable
{
	Oid relation;
	Bitmapset *columns;
} KeyTable;

static KeyTable asked[KEY_TABLES];
static int asked_count = 0;

/* ---- what a statement runs over rows ---- */

static const char *
ddl_constraint(const Constraint *constraint)
{
	switch (constraint->contype)
	{
		case CONSTR_CHECK:
			return "ADD CHECK";
		case CONSTR_EXCLUSION:
			return "ADD EXCLUDE";
		case CONSTR_FOREIGN:
			return constraint->skip_validation ? NULL : "ADD FOREIGN KEY";
		case CONSTR_GENERATED:
			return "ADD COLUMN GENERATED";
		default:
			return NULL;
	}
}

static const char *
ddl_column(const ColumnDef *column)
{
	ListCell *cell;

	foreach (cell, column->constraints)
	{
		const char *found = ddl_constraint(lfirst_node(Constraint, cell));

		if (found != NULL)
			return found;
	}
	return NULL;
}

static const char *
ddl_alter_part(const AlterTableCmd *part)
{
	switch (part->subtype)
	{
		case AT_AddColumn:
			return ddl_column((const ColumnDef *) part->def);
		case AT_AddConstraint:
			return ddl_constraint(castNode(Constraint, part->def));
		case AT_ValidateConstraint:
			return "VALIDATE CONSTRAINT";
		case AT_AlterColumnType:
			return "ALTER COLUMN TYPE";
		case AT_AttachPartition:
			return "ATTACH PARTITION";
		default:
			return leyser_alter_sets_expression(part) ? "SET EXPRESSION" : NULL;
	}
}

static const char *
ddl_alter(const AlterTableStmt *statement)
{
	const char *found = NULL;
	ListCell *cell;

	foreach (cell, statement->cmds)
	{
		if (found == NULL)
			found = ddl_alter_part(lfirst_node(AlterTableCmd, cell));
	}
	return found;
}

static const char *
ddl_index(const IndexStmt *statement)
{
	ListCell *cell;

	if (statement->whereClause != NULL)
		return "CREATE INDEX WHERE";
	foreach (cell, statement->indexParams)
	{
		if (lfirst_node(IndexElem, cell)->expr != NULL)
			return "CREATE INDEX (expression)";
	}
	return NULL;
}

static const char *
ddl_statistics(const CreateStatsStmt *statement)
{
	ListCell *cell;

	foreach (cell, statement->exprs)
	{
		if (lfirst_node(StatsElem, cell)->expr != NULL)
			return "CREATE STATISTICS";
	}
	return NULL;
}

/* ---- of which tables ---- */

static void
ddl_meet(Oid relation, const char *what)
{
	const char *bypass;

	if (!OidIsValid(relation) || !leyser_is_protected(relation))
		return;
	bypass = leyser_privileged_bypass(relation, GetUserId());
	leyser_privileged_meet(LEYSER_PRIVILEGED_DDL, relation, GetUserId(), what,
						   bypass ? bypass : "ddl", 0);
}

static void
ddl_meet_named(const RangeVar *name, const char *what)
{
	if (name != NULL && what != NULL)
		ddl_meet(RangeVarGetRelid(name, NoLock, true), what);
}

/* A domain's type, which may be a domain again; InvalidOid for other types. */
static Oid
ddl_domain_of(Oid type)
{
	HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Oid base = InvalidOid;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	if (((Form_pg_type) GETSTRUCT(tuple))->typtype == TYPTYPE_DOMAIN)
		base = ((Form_pg_type) GETSTRUCT(tuple))->typbasetype;
	ReleaseSysCache(tuple);
	return base;
}

static bool
ddl_uses_domain(Oid relation, Oid domain)
{
	Relation rel = try_relation_open(relation, AccessShareLock);
	bool uses = false;

	if (rel == NULL)
		return false;
	for (int i = 0; i < RelationGetNumberOfAttributes(rel) && !uses; i++)
	{
		Form_pg_attribute column = TupleDescAttr(RelationGetDescr(rel), i);
		Oid type = column->attisdropped ? InvalidOid : column->atttypid;

		while (OidIsValid(type) && type != domain)
			type = ddl_domain_of(type);
		uses = OidIsValid(type);
	}
	relation_close(rel, NoLock);
	return uses;
}

/* Its new CHECK runs over each column of the domain, in whichever table. */
static void
ddl_meet_domain(const AlterDomainStmt *statement)
{
	Oid domain =
		LookupTypeNameOid(NULL, makeTypeNameFromNameList(statement->typeName), true);
	const LeyserGoverned *governed;
	int count;
	List *relations = NIL;
	ListCell *cell;

	if ((statement->subtype != 'C' && statement->subtype != 'V') || !OidIsValid(domain))
		return;
	/* the array lives until the next look */
	governed = leyser_cache_governed(&count);
	for (int i = 0; i < count; i++)
	{
		if (governed[i].is_protected)
			relations = lappend_oid(relations, governed[i].relation);
	}
	foreach (cell, relations)
	{
		if (ddl_uses_domain(lfirst_oid(cell), domain))
			ddl_meet(lfirst_oid(cell), "ALTER DOMAIN");
	}
}

/* ---- a statement ---- */

void
leyser_privileged_check_ddl(Node *statement)
{
	if (!leyser_privileged_is_watched() || leyser_privileged_is_own_work())
		return;
	switch (nodeTag(statement))
	{
		case T_AlterTableStmt:
			ddl_meet_named(((AlterTableStmt *) statement)->relation,
						   ddl_alter((AlterTableStmt *) statement));
			break;
		case T_IndexStmt:
			ddl_meet_named(((IndexStmt *) statement)->relation,
						   ddl_index((IndexStmt *) statement));
			break;
		case T_CreateStatsStmt:
			ddl_meet_named(linitial(((CreateStatsStmt *) statement)->relations),
						   ddl_statistics((CreateStatsStmt *) statement));
			break;
		case T_AlterDomainStmt:
			ddl_meet_domain((AlterDomainStmt *) statement);
			break;
		default:
			break;
	}
}

/* ---- foreign keys ---- */

static void
key_forget(void)
{
	while (asked_count > 0)
		bms_free(asked[--asked_count].columns);
}

void
leyser_privileged_key_asked(const List *permissions)
{
	MemoryContext caller;
	ListCell *cell;

	key_forget();
	if (alters == 0 || list_length(permissions) != KEY_TABLES)
		return;
	caller = MemoryContextSwitchTo(TopMemoryContext);
	foreach (cell, permissions)
	{
		const leyser_permission_info *info = lfirst(cell);
		Bitmapset *columns = bms_copy(info->selectedCols);

		asked[asked_count++] = (KeyTable){info->relid, columns};
	}
	MemoryContextSwitchTo(caller);
}

static bool
key_has(const leyser_permission_info *info)
{
	for (int i = 0; i < asked_count; i++)
	{
		if (asked[i].relation == info->relid &&
			bms_equal(asked[i].columns, info->selectedCols))
			return true;
	}
	return false;
}

static bool
key_is_asked(const List *permissions)
{
	ListCell *cell;
	int tables = 0;

	foreach (cell, permissions)
	{
		const leyser_permission_info *info = lfirst(cell);

		if (info->requiredPerms == 0)
			continue;
		if (info->requiredPerms != ACL_SELECT || !key_has(info))
			return false;
		tables++;
	}
	return tables == KEY_TABLES;
}

/*
 * The server checks a foreign key that is added with a query of its own, by the rights
 * of whoever adds it.  The statement was counted.  But what CHECKs and USING run in
 * such a statement could look like that query: so it is the first one after the server
 * asked for these columns of both tables, and of no more.
 */
bool
leyser_privileged_is_key_check(const char *query, const List *permissions)
{
	bool is_key_check = asked_count > 0 && alters > 0 &&
						strncmp(query, "SELECT fk.", 10) == 0 &&
						key_is_asked(permissions);

	key_forget();
	return is_key_check;
}

void
leyser_privileged_alters(bool is_alter, int more)
{
	if (!is_alter)
		return;
	alters += more;
	key_forget();
}
