/*
 * purge_condition.c
 *		What an operator's purge_condition may be, and what a plan asks tables.
 *
 * A condition is SQL text, written by an operator, who sees no rows, and run over
 * a table with the rights of its owner.  So it must be one expression (what would
 * end the parentheses around it does not parse), and call nothing that an
 * operator could have made: functions, domains and relations in it belong to the
 * table's owner or to a superuser, and no function in it is volatile, so that it
 * changes nothing.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "leyser.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/syscache.h"

#include "owner.h"

PG_FUNCTION_INFO_V1(leyser_condition_relations);
PG_FUNCTION_INFO_V1(leyser_query_as_owner);
PG_FUNCTION_INFO_V1(leyser_explain_as_owner);

typedef struct ConditionWalk
{
	Oid relation;    /* the table that the condition is for */
	Oid owner;       /* its owner */
	bool seen;       /* the table itself was met: it comes first */
	List *relations; /* other relations, and the table where it comes again */
} ConditionWalk;

static void
refuse_condition(Oid relation, const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid purge_condition of \"%s\"", get_rel_name(relation)),
					errdetail("%s", detail),
					errhint("Declare the table with a condition on its columns in which "
							"$1 is the tenant id, a text.")));
}

/* Alone it must be what PL/pgSQL takes for an expression, and nothing around it. */
static void
check_is_expression(Oid relation, const char *condition)
{
	List *statements = raw_parser(condition, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select = (SelectStmt *) linitial_node(RawStmt, statements)->stmt;

	if (list_length(statements) != 1 || !IsA(select, SelectStmt) ||
		select->op != SETOP_NONE || list_length(select->targetList) != 1 ||
		linitial_node(ResTarget, select->targetList)->name || select->distinctClause ||
		select->fromClause || select->whereClause || select->groupClause ||
		select->havingClause || select->windowClause || select->sortClause ||
		select->limitOffset || select->limitCount || select->lockingClause ||
		select->valuesLists || select->withClause || select->intoClause)
		refuse_condition(relation, "It is not one expression.");
}

static bool
is_trusted(const ConditionWalk *walk, Oid role)
{
	return role == walk->owner || superuser_arg(role);
}

static Oid
class_owner(Oid relation)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "relation %u does not exist", relation);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static bool
check_function(Oid function, void *context)
{
	ConditionWalk *walk = context;
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "function %u does not exist", function);
	form = (Form_pg_proc) GETSTRUCT(tuple);
	if (form->provolatile == PROVOLATILE_VOLATILE || !is_trusted(walk, form->proowner))
		refuse_condition(walk->relation,
						 psprintf("Function \"%s\" is volatile, or belongs to neither "
								  "the table's owner nor a superuser.",
								  NameStr(form->proname)));
	ReleaseSysCache(tuple);
	return false;
}

static void
check_domain(const ConditionWalk *walk, Oid type)
{
	HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "type %u does not exist", type);
	owner = ((Form_pg_type) GETSTRUCT(tuple))->typowner;
	ReleaseSysCache(tuple);
	if (!is_trusted(walk, owner))
		refuse_condition(
			walk->relation,
			psprintf(
				"Domain \"%s\" belongs to neither the table's owner nor a superuser.",
				format_type_be(type)));
}

static void
check_relation(ConditionWalk *walk, Oid relation)
{
	if (relation == walk->relation && !walk->seen)
	{
		walk->seen = true;
		return;
	}
	if (!is_trusted(walk, class_owner(relation)))
		refuse_condition(
			walk->relation,
			psprintf(
				"Relation \"%s\" belongs to neither the table's owner nor a superuser.",
				get_rel_name(relation)));
	walk->relations = list_append_unique_oid(walk->relations, relation);
}

static bool
condition_walker(Node *node, void *context)
{
	ConditionWalk *walk = context;

	if (!node)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		if (OidIsValid(((RangeTblEntry *) node)->relid))
			check_relation(walk, ((RangeTblEntry *) node)->relid);
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, condition_walker, context,
								 QTW_EXAMINE_RTES_BEFORE);
	if (IsA(node, CoerceToDomain))
		check_domain(walk, ((CoerceToDomain *) node)->resulttype);
	check_functions_in_node(node, check_function, context);
	return expression_tree_walker(node, condition_walker, context);
}

/* Analyzes and rewrites the condition, as the table's owner would run it. */
static void
walk_condition(ConditionWalk *walk, const char *condition)
{
	Oid types[] = {TEXTOID};
	StringInfoData query;
	SPIPlanPtr plan;
	ListCell *source;

	initStringInfo(&query);
	appendStringInfo(
		&query, "SELECT FROM ONLY %s WHERE (%s\n)",
		quote_qualified_identifier(get_namespace_name(get_rel_namespace(walk->relation)),
								   get_rel_name(walk->relation)),
		condition);
	plan = SPI_prepare(query.data, 1, types);
	if (!plan)
		elog(ERROR, "could not prepare a condition: %s",
			 SPI_result_code_string(SPI_result));
	foreach (source, SPI_plan_get_plan_sources(plan))
	{
		CachedPlanSource *prepared = lfirst(source);

		condition_walker((Node *) prepared->query_list, walk);
	}
}

/*
 * condition_relations(relation regclass, condition text) → regclass[]: raises
 * 22023 for a condition that a purge must not run, otherwise gives the relations
 * in it, views and what they read, beside the table itself (which is there only
 * if it comes a second time).  A syntax error keeps its own SQLSTATE.
 */
Datum
leyser_condition_relations(PG_FUNCTION_ARGS)
{
	ConditionWalk walk = {.relation = PG_GETARG_OID(0)};
	char *condition = text_to_cstring(PG_GETARG_TEXT_PP(1));
	MemoryContext caller = CurrentMemoryContext;
	LeyserOwnerState state;
	Datum *relations;
	int count = 0;
	ListCell *one;

	walk.owner = class_owner(walk.relation);
	leyser_owner_begin_as(&state, walk.owner);
	/* the worker reads the text by this rule, whatever the operator's session says */
	(void) set_config_option("standard_conforming_strings", "on", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	check_is_expression(walk.relation, condition);
	walk_condition(&walk, condition);
	relations = MemoryContextAlloc(
		caller, add_size(mul_size(list_length(walk.relations), sizeof(Datum)), 1));
	foreach (one, walk.relations)
		relations[count++] = ObjectIdGetDatum(lfirst_oid(one));
	leyser_owner_end(&state);
	PG_RETURN_ARRAYTYPE_P(
		construct_array(relations, count, REGCLASSOID, sizeof(Oid), true, TYPALIGN_INT));
}

/*
 * query_as_owner(relation regclass, query text, tenant_id text, keys jsonb) → text:
 * the one value of a reading query of the relation, run with its owner's rights;
 * $1 is the tenant id, $2 what another query gave.
 */
Datum
leyser_query_as_owner(PG_FUNCTION_ARGS)
{
	Oid types[] = {TEXTOID, JSONBOID};
	Datum values[] = {PG_ARGISNULL(2) ? (Datum) 0 : PG_GETARG_DATUM(2),
					  PG_ARGISNULL(3) ? (Datum) 0 : PG_GETARG_DATUM(3)};
	char nulls[] = {PG_ARGISNULL(2) ? 'n' : ' ', PG_ARGISNULL(3) ? 'n' : ' ', '\0'};
	MemoryContext caller = CurrentMemoryContext;
	LeyserOwnerState state;
	char *query;
	char *value;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	query = text_to_cstring(PG_GETARG_TEXT_PP(1));
	leyser_owner_begin_as(&state, class_owner(PG_GETARG_OID(0)));
	(void) set_config_option("standard_conforming_strings", "on", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (SPI_execute_with_args(query, 2, types, values, nulls, true, 2) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "query does not give one value");
	value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (value)
		value = MemoryContextStrdup(caller, value);
	leyser_owner_end(&state);
	if (!value)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(value));
}

/*
 * explain_as_owner(relation regclass, query text) → void: plans a query as the
 * relation's owner would, whom FORCE binds here: a policy that wants a context
 * raises LY001, whatever the database is set to do without one.
 */
Datum
leyser_explain_as_owner(PG_FUNCTION_ARGS)
{
	Oid relation = PG_GETARG_OID(0);
	char *query = text_to_cstring(PG_GETARG_TEXT_PP(1));
	LeyserOwnerState state;
	Oid role;
	int security_context;

	leyser_owner_begin_as(&state, class_owner(relation));
	GetUserIdAndSecContext(&role, &security_context);
	SetUserIdAndSecContext(role, security_context & ~SECURITY_NOFORCE_RLS);
	(void) set_config_option("leyser.on_missing_context", "error", PGC_SUSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (SPI_execute(psprintf("EXPLAIN %s", query), false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "a query is not explained");
	leyser_owner_end(&state);
	PG_RETURN_VOID();
}
