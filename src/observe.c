/*
 * observe.c
 *		Tables that are observed: nothing is refused, all that would be is counted.
 *
 * An observed table has no policies.  Row security would change results: it takes
 * no COPY FROM, binds the owner to policies of the table's own, and fails where
 * row_security is off.  So what looks on is put into plans, and is always true:
 *
 *  - When a plan is executed, the tables that its statement names are looked up.
 *    Where no context counts, that is a gap ("missing"), whether the statement
 *    finds a row or not: enforced, it would raise at once.
 *  - Before a query is planned, it gets a condition over the tenant columns of its
 *    observed tables, leyser.observe_rows(…), which sees the rows that are left
 *    after all joins and other conditions; and a check of the rows it writes, as
 *    row security would.  A row of another tenant than the context's is a gap
 *    ("foreign"), once a statement.
 *  - COPY of a table and TRUNCATE pass by the planner, and are looked at by
 *    themselves.
 *
 * What row security would not bind is not counted: superusers, roles with
 * BYPASSRLS, and what their views read.  Functions in SQL that the planner inlines
 * into a FROM are seen by the first rule only.
 *
 * Plans are kept across a change of a table's enforcement until the message of
 * leyser.forget_plans() comes in; the condition itself looks once a statement
 * whether the table is observed still.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "observe.h"

#include "access/parallel.h"
#include "access/sysattr.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/supportnodes.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/uuid.h"

#include "cache.h"
#include "compat.h"
#include "context.h"
#include "context_gap.h"

#define OBSERVE_TABLES_MAX 16 /* of one condition: a function takes 100 arguments */
#define OBSERVE_FIXED_ARGS 3

static planner_hook_type prev_planner = NULL;
static ExecutorStart_hook_type prev_executor_start = NULL;

PG_FUNCTION_INFO_V1(leyser_observe_rows);
PG_FUNCTION_INFO_V1(leyser_observe_support);
PG_FUNCTION_INFO_V1(leyser_forget_plans);

static void
observe_refuse_call(void)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("leyser.observe_rows() is for plans only"),
					errdetail("The planner puts it into statements of observed tables."),
					errhint("See view leyser.context_gap.")));
}

/* Whether row security would bind whoever reads a table. */
static bool
observe_binds(Oid check_as)
{
	return !has_bypassrls_privilege(OidIsValid(check_as) ? check_as : GetUserId());
}

/* ---- plans: what a query is to be looked at for ---- */

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

	if (from == NULL || state->query->commandType == CMD_MERGE)
		return;
	observe_add_from(state, (Node *) from, NULL);
	while (state->tables != NIL)
	{
		int count = Min(list_length(state->tables), OBSERVE_TABLES_MAX * 3);
		List *tables = list_truncate(list_copy(state->tables), count);
		List *anchors = list_truncate(list_copy(state->anchors), OBSERVE_TABLES_MAX);

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

/* forget_plans(relation regclass) → void: once the transaction commits */
Datum
leyser_forget_plans(PG_FUNCTION_ARGS)
{
	CacheInvalidateRelcacheByRelid(PG_GETARG_OID(0));
	PG_RETURN_VOID();
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

/* ---- rows ---- */

typedef enum ObserveType
{
	OBSERVE_INT2,
	OBSERVE_INT4,
	OBSERVE_INT8,
	OBSERVE_TEXT,
	OBSERVE_UUID
} ObserveType;

typedef struct ObservedColumn
{
	bool skip; /* not to be looked at, or counted in this statement already */
	ObserveType type;
} ObservedColumn;

/* What one execution of a plan knows of a condition. */
typedef struct ObserveRows
{
	LeyserContextValues context; /* as it was when the first row came */
	bool has_context;
	int64 query_id;
	int count;
	ObservedColumn columns[FLEXIBLE_ARRAY_MEMBER];
} ObserveRows;

static ObserveType
observe_type(Oid type)
{
	switch (getBaseType(type))
	{
		case INT2OID:
			return OBSERVE_INT2;
		case INT4OID:
			return OBSERVE_INT4;
		case INT8OID:
			return OBSERVE_INT8;
		case UUIDOID:
			return OBSERVE_UUID;
		case TEXTOID:
		case VARCHAROID:
			return OBSERVE_TEXT;
		default:
			observe_refuse_call();
			return OBSERVE_TEXT;
	}
}

static void
observe_begin_column(FunctionCallInfo fcinfo, ObservedColumn *column, int arg)
{
	if (get_fn_expr_argtype(fcinfo->flinfo, arg) != OIDOID ||
		get_fn_expr_argtype(fcinfo->flinfo, arg + 1) != OIDOID || PG_ARGISNULL(arg) ||
		PG_ARGISNULL(arg + 1))
		observe_refuse_call();
	column->type = observe_type(get_fn_expr_argtype(fcinfo->flinfo, arg + 2));
	column->skip = !leyser_cache_observed(PG_GETARG_OID(arg)) ||
				   !observe_binds(PG_GETARG_OID(arg + 1));
}

/*
 * The context's values, without a trace that a getter was called: a cursor whose
 * rows do not depend on the context is not to end with it (portal.c).
 */
static bool
observe_context(LeyserContextValues *values)
{
	bool checked = leyser_context_values.checked;
	LeyserTokenError error;

	if (!checked && !leyser_context_check(&error))
		return false;
	*values = leyser_context_values;
	leyser_context_values.checked = checked;
	return true;
}

/* Also everybody can call it: what is no plan's call is refused. */
static ObserveRows *
observe_begin(FunctionCallInfo fcinfo)
{
	int count = PG_ARGISNULL(2) ? -1 : PG_GETARG_INT32(2);
	ObserveRows *rows;

	leyser_require_preloaded();
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || count < 0 || count > OBSERVE_TABLES_MAX ||
		PG_NARGS() < OBSERVE_FIXED_ARGS + 3 * count ||
		get_fn_expr_variadic(fcinfo->flinfo))
		observe_refuse_call();
	rows = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt,
								  offsetof(ObserveRows, columns) +
									  count * sizeof(ObservedColumn));
	rows->count = count;
	rows->query_id = PG_GETARG_INT64(0);
	for (int i = 0; i < count; i++)
		observe_begin_column(fcinfo, &rows->columns[i], OBSERVE_FIXED_ARGS + 3 * i);
	rows->has_context = observe_context(&rows->context);
	return rows;
}

static bool
observe_text_is_ours(const text *ours, Datum value)
{
	text *column = DatumGetTextPP(value);
	bool same =
		VARSIZE_ANY_EXHDR(column) == VARSIZE_ANY_EXHDR(ours) &&
		memcmp(VARDATA_ANY(column), VARDATA_ANY(ours), VARSIZE_ANY_EXHDR(ours)) == 0;

	if ((Pointer) column != DatumGetPointer(value))
		pfree(column);
	return same;
}

static bool
observe_is_ours(const LeyserContextValues *context, ObserveType type, Datum value)
{
	switch (type)
	{
		case OBSERVE_INT2:
			return context->has_int8 && DatumGetInt16(value) == context->as_int8;
		case OBSERVE_INT4:
			return context->has_int8 && DatumGetInt32(value) == context->as_int8;
		case OBSERVE_INT8:
			return context->has_int8 && DatumGetInt64(value) == context->as_int8;
		case OBSERVE_UUID:
			return context->has_uuid &&
				   memcmp(DatumGetUUIDP(value), context->as_uuid, sizeof(pg_uuid_t)) == 0;
		default:
			return observe_text_is_ours(context->tenant, value);
	}
}

/*
 * observe_rows(query_id bigint, writes boolean, tables integer, VARIADIC "any")
 * → boolean: true.  The arguments behind are a relation, the role that reads it
 * for a view, and the tenant column; for each table.
 */
Datum
leyser_observe_rows(PG_FUNCTION_ARGS)
{
	ObserveRows *rows = fcinfo->flinfo->fn_extra;

	if (unlikely(rows == NULL))
		rows = fcinfo->flinfo->fn_extra = observe_begin(fcinfo);
	if (!rows->has_context)
		PG_RETURN_BOOL(true); /* counted when the plan was begun */
	for (int i = 0; i < rows->count; i++)
	{
		ObservedColumn *column = &rows->columns[i];
		int arg = OBSERVE_FIXED_ARGS + 3 * i;
		bool writes = PG_GETARG_BOOL(1);

		if (column->skip)
			continue;
		/* what is read as NULL is an outer join's, or global */
		if (PG_ARGISNULL(arg + 2)
				? !writes
				: observe_is_ours(&rows->context, column->type, PG_GETARG_DATUM(arg + 2)))
			continue;
		column->skip = true;
		leyser_context_gap_note(PG_GETARG_OID(arg), LEYSER_GAP_FOREIGN,
								writes ? ERRCODE_INSUFFICIENT_PRIVILEGE : 0,
								rows->query_id);
	}
	PG_RETURN_BOOL(true);
}

/* ---- statements ---- */

/* The tables that a statement names, where no context counts. */
static void
observe_statement(const PlannedStmt *plan)
{
	LeyserTokenError error;
	ListCell *cell;
	bool checked = false;

	foreach (cell, plan->rtable)
	{
		const RangeTblEntry *rte = lfirst(cell);
		Oid check_as;

		if (rte->rtekind != RTE_RELATION || rte->relid < FirstNormalObjectId ||
			!leyser_cache_observed(rte->relid) ||
			!leyser_plan_names(plan, rte, &check_as) || !observe_binds(check_as))
			continue;
		if (!checked && leyser_context_check(&error))
			return;
		checked = true;
		leyser_context_gap_note(rte->relid, LEYSER_GAP_MISSING, error.sqlerrcode,
								(int64) plan->queryId);
	}
}

static void
observe_executor_start(QueryDesc *query, int eflags)
{
	if (!(eflags & EXEC_FLAG_EXPLAIN_ONLY) && !IsParallelWorker())
		observe_statement(query->plannedstmt);
	if (prev_executor_start)
		prev_executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
}

void
leyser_observe_utility(const PlannedStmt *statement)
{
	const CopyStmt *copy = (const CopyStmt *) statement->utilityStmt;
	LeyserTokenError error;
	Oid relation;

	if (!IsA(copy, CopyStmt) || copy->relation == NULL || !leyser_cache_observes())
		return;
	relation = RangeVarGetRelid(copy->relation, NoLock, true);
	if (!OidIsValid(relation) || !leyser_cache_observed(relation) ||
		!observe_binds(InvalidOid))
		return;
	if (copy->is_from)
		leyser_context_gap_note(relation, LEYSER_GAP_REFUSED,
								ERRCODE_FEATURE_NOT_SUPPORTED,
								(int64) statement->queryId);
	else if (!leyser_context_check(&error))
		leyser_context_gap_note(relation, LEYSER_GAP_MISSING, error.sqlerrcode,
								(int64) statement->queryId);
	else
		leyser_context_gap_note(relation, LEYSER_GAP_FOREIGN, 0,
								(int64) statement->queryId);
}

void
leyser_observe_truncate(Oid relation)
{
	if (leyser_cache_observes() && leyser_cache_observed(relation))
		leyser_context_gap_note(relation, LEYSER_GAP_REFUSED,
								LEYSER_ERRCODE_GUARD_REFUSED, 0);
}

/* Ids of queries are computed where nobody turned that off. */
void
leyser_observe_init(void)
{
	EnableQueryId();
	prev_planner = planner_hook;
	planner_hook = observe_planner;
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = observe_executor_start;
}
