/*
 * observe_plan.c
 *		The condition that looks on is put into queries of observed tables before they
 *		are planned.  See observe.c.
 *
 * A condition over all relations of a FROM makes the planner weigh every order in which
 * they can be joined, three times as many with each relation.  Where there are more
 * than JOIN_MAX of them each observed table has a condition of its own, which sees rows
 * that the joins leave out, too: what is counted then can be too much, not too little.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "observe.h"

#include "access/sysattr.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/supportnodes.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "cache.h"
#include "compat.h"

#define JOIN_MAX 8 /* relations of a FROM that are looked at after their joins */

static planner_hook_type prev_planner = NULL;

PG_FUNCTION_INFO_V1(leyser_observe_support);

typedef struct ObserveQuery
{
	Query *query;
	Oid function;
	int64 query_id;
	List *tables;  /* relation, check_as, tenant column; for each observed table */
	List *anchors; /* a column of each other table: after all joins, then */
} ObserveQuery;

static Const *
observe_oid(Oid value)
{
	return makeConst(OIDOID, -1, InvalidOid, sizeof(Oid), ObjectIdGetDatum(value), false,
					 true);
}

/* observe_rows(query_id, writes, number of tables, tables …, anchors …) */
static Node *
observe_condition(const ObserveQuery *state, bool writes, List *tables, List *anchors)
{
	List *args =
		list_make3(makeConst(INT8OID, -1, InvalidOid, 8, Int64GetDatum(state->query_id),
							 false, FLOAT8PASSBYVAL),
				   makeBoolConst(writes, false),
				   makeConst(INT4OID, -1, InvalidOid, 4,
							 Int32GetDatum(list_length(tables) / 3), false, true));

	return (Node *) makeFuncExpr(state->function, BOOLOID,
								 list_concat(list_concat(args, tables), anchors),
								 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}

static List *
observe_table_args(const ObserveQuery *state, int rtindex, const LeyserGoverned *table,
				   Bitmapset *nulling)
{
	RangeTblEntry *rte = rt_fetch(rtindex, state->query->rtable);
	Oid type;
	int32 typmod;
	Oid collation;
	Var *column;

	get_atttypetypmodcoll(table->relation, table->tenant_attnum, &type, &typmod,
						  &collation);
	column = makeVar(rtindex, table->tenant_attnum, type, typmod, collation, 0);
	leyser_var_set_nulling(column, nulling);
	return list_make3(observe_oid(table->relation),
					  observe_oid(leyser_query_check_as(state->query, rte)), column);
}

static void
observe_add_relation(ObserveQuery *state, int rtindex, Bitmapset *nulling)
{
	RangeTblEntry *rte = rt_fetch(rtindex, state->query->rtable);
	const LeyserGoverned *table;
	Var *anchor;

	if (rte->rtekind != RTE_RELATION)
		return;
	table = leyser_cache_observed(rte->relid);
	if (table)
	{
		state->tables = list_concat(state->tables,
									observe_table_args(state, rtindex, table, nulling));
		return;
	}
	anchor = makeVar(rtindex, TableOidAttributeNumber, OIDOID, -1, InvalidOid, 0);
	leyser_var_set_nulling(anchor, nulling);
	state->anchors = lappend(state->anchors, anchor);
}

/* The tables of a FROM, and which outer joins can make their columns NULL. */
static void
observe_add_from(ObserveQuery *state, Node *node, Bitmapset *nulling)
{
	ListCell *cell;

	if (node == NULL)
		return;
	if (IsA(node, RangeTblRef))
		observe_add_relation(state, ((RangeTblRef *) node)->rtindex, nulling);
	else if (IsA(node, FromExpr))
	{
		foreach (cell, ((FromExpr *) node)->fromlist)
			observe_add_from(state, lfirst(cell), nulling);
	}
	else if (IsA(node, JoinExpr))
	{
		JoinExpr *join = (JoinExpr *) node;
		Bitmapset *nulled = bms_add_member(bms_copy(nulling), join->rtindex);
		bool left = join->jointype == JOIN_RIGHT || join->jointype == JOIN_FULL;
		bool right = join->jointype == JOIN_LEFT || join->jointype == JOIN_FULL;

		observe_add_from(state, join->larg, left ? nulled : nulling);
		observe_add_from(state, join->rarg, right ? nulled : nulling);
	}
}

/* The last condition of a WHERE.  A MERGE has its conditions in its join. */
static void
observe_reads(ObserveQuery *state)
{
	FromExpr *from = state->query->jointree;
	int most = LEYSER_OBSERVE_TABLES_MAX;

	if (from == NULL || state->query->commandType == CMD_MERGE)
		return;
	observe_add_from(state, (Node *) from, NULL);
	if (list_length(state->tables) / 3 + list_length(state->anchors) > JOIN_MAX)
	{
		most = 1;
		state->anchors = NIL;
	}
	while (state->tables != NIL)
	{
		int count = Min(list_length(state->tables), most * 3);
		List *tables = list_truncate(list_copy(state->tables), count);
		List *anchors =
			list_truncate(list_copy(state->anchors), LEYSER_OBSERVE_TABLES_MAX);

		state->tables = list_copy_tail(state->tables, count);
		from->quals =
			make_and_qual(from->quals, observe_condition(state, false, tables, anchors));
	}
}

static void
observe_check_option(ObserveQuery *state, WCOKind kind, bool writes,
					 const LeyserGoverned *table)
{
	Query *query = state->query;
	WithCheckOption *option = makeNode(WithCheckOption);

	option->kind = kind;
	option->relname = get_rel_name(table->relation);
	option->qual = observe_condition(
		state, writes, observe_table_args(state, query->resultRelation, table, NULL),
		NIL);
	query->withCheckOptions = lappend(query->withCheckOptions, option);
}

/* The rows that a statement writes, at the places where row security looks. */
static void
observe_writes(ObserveQuery *state)
{
	Query *query = state->query;
	const LeyserGoverned *table;

	if (query->resultRelation == 0 || query->commandType == CMD_DELETE)
		return;
	table = leyser_cache_observed(rt_fetch(query->resultRelation, query->rtable)->relid);
	if (table == NULL)
		return;
	if (query->commandType != CMD_UPDATE)
		observe_check_option(state, WCO_RLS_INSERT_CHECK, true, table);
	if (query->commandType != CMD_INSERT || query->onConflict)
		observe_check_option(state, WCO_RLS_UPDATE_CHECK, true, table);
	if (query->onConflict && query->onConflict->action == ONCONFLICT_UPDATE)
		observe_check_option(state, WCO_RLS_CONFLICT_CHECK, false, table);
	if (query->commandType == CMD_MERGE)
	{
		observe_check_option(state, WCO_RLS_MERGE_UPDATE_CHECK, false, table);
		observe_check_option(state, WCO_RLS_MERGE_DELETE_CHECK, false, table);
	}
}

/* Inner queries first: what is added is not walked through. */
static bool
observe_walk(Node *node, void *context)
{
	ObserveQuery state = *(ObserveQuery *) context;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, observe_walk, context);
	(void) query_tree_walker((Query *) node, observe_walk, context, 0);
	state.query = (Query *) node;
	state.tables = state.anchors = NIL;
	if (state.query->commandType == CMD_UTILITY)
		return false;
	observe_reads(&state);
	observe_writes(&state);
	return false;
}

static Oid
observe_function(void)
{
	Oid types[] = {INT8OID, BOOLOID, INT4OID, ANYOID};

	return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
						   CStringGetDatum("observe_rows"),
						   PointerGetDatum(buildoidvector(types, lengthof(types))),
						   ObjectIdGetDatum(get_namespace_oid("leyser", true)));
}

/* What names no table of users is none of ours: nothing is looked up for it. */
static bool
names_tables(Node *node, void *context)
{
	ListCell *cell;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, names_tables, context);
	foreach (cell, ((Query *) node)->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, cell);

		if (rte->rtekind == RTE_RELATION && rte->relid >= FirstNormalObjectId)
			return true;
	}
	return query_tree_walker((Query *) node, names_tables, context, 0);
}

static PlannedStmt *
observe_planner(Query *query, const char *query_string, int cursor_options,
				ParamListInfo params)
{
	if (IsTransactionState() && names_tables((Node *) query, NULL) &&
		leyser_cache_observes())
	{
		ObserveQuery state = {.function = observe_function(),
							  .query_id = (int64) query->queryId};

		if (OidIsValid(state.function))
			(void) observe_walk((Node *) query, &state);
	}
	if (prev_planner)
		return prev_planner(query, query_string, cursor_options, params);
	return standard_planner(query, query_string, cursor_options, params);
}

/* observe_support(internal) → internal: the condition leaves all rows */
Datum
leyser_observe_support(PG_FUNCTION_ARGS)
{
	Node *request = (Node *) PG_GETARG_POINTER(0);

	if (!IsA(request, SupportRequestSelectivity))
		PG_RETURN_POINTER(NULL);
	((SupportRequestSelectivity *) request)->selectivity = 1.0;
	PG_RETURN_POINTER(request);
}

void
leyser_observe_plan_init(void)
{
	prev_planner = planner_hook;
	planner_hook = observe_planner;
}
