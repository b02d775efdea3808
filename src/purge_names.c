/*
 * purge_names.c
 *		The names in an operator's purge_condition, before it is analyzed.
 *
 * To analyze an expression runs code already: a literal becomes a value by the
 * input function of its type, which for an array, a range or a row of domains
 * evaluates their CHECKs.  An operator could name a type of its own, or a function
 * of its own with such an argument, and its code would run as the table's owner.
 * So the parsed text is searched first.  Only kinds of nodes that we know are let
 * through, which leaves out whatever could lock or change rows; and each name that
 * is not the catalogue's must stand for things of the table's owner or of a
 * superuser, all that it can stand for.
 *
 * Functions and operators without a schema are looked up in pg_catalog alone, types
 * and relations also among the session's temporary ones.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "purge_condition.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parse_type.h"
#include "parser/parser.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "relation.h"

static void check_type(const LeyserCondition *condition, Oid type);

static void
check_row_type(const LeyserCondition *condition, Oid type)
{
	TupleDesc columns = lookup_rowtype_tupdesc(type, -1);

	for (int i = 0; i < columns->natts; i++)
		if (!TupleDescAttr(columns, i)->attisdropped)
			check_type(condition, TupleDescAttr(columns, i)->atttypid);
	ReleaseTupleDesc(columns);
}

/* A type and what it is made of. */
static void
check_type(const LeyserCondition *condition, Oid type)
{
	HeapTuple tuple;
	Form_pg_type form;

	if (type < FirstNormalObjectId)
		return;
	check_stack_depth();
	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "type %u does not exist", type);
	form = (Form_pg_type) GETSTRUCT(tuple);
	if (!leyser_condition_trusts(condition, form->typowner))
		leyser_refuse_condition(
			condition,
			psprintf("Type \"%s\" belongs to neither the table's owner nor a superuser.",
					 NameStr(form->typname)));
	if (OidIsValid(get_element_type(type)))
		check_type(condition, get_element_type(type));
	else if (form->typtype == TYPTYPE_DOMAIN)
		check_type(condition, form->typbasetype);
	else if (form->typtype == TYPTYPE_COMPOSITE)
		check_row_type(condition, type);
	else if (form->typtype == TYPTYPE_RANGE)
		check_type(condition, get_range_subtype(type));
	else if (form->typtype == TYPTYPE_MULTIRANGE)
		check_type(condition, get_multirange_range(type));
	ReleaseSysCache(tuple);
}

static void
check_type_name(const LeyserCondition *condition, const TypeName *name)
{
	Oid type = LookupTypeNameOid(NULL, name, true);

	if (OidIsValid(type))
		check_type(condition, type);
}

static void
check_function(const LeyserCondition *condition, Oid function)
{
	HeapTuple tuple;
	Form_pg_proc form;

	if (function < FirstNormalObjectId)
		return;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "function %u does not exist", function);
	form = (Form_pg_proc) GETSTRUCT(tuple);
	if (!leyser_condition_trusts(condition, form->proowner))
		leyser_refuse_condition(
			condition,
			psprintf(
				"A function \"%s\" belongs to neither the table's owner nor a superuser.",
				NameStr(form->proname)));
	for (int i = 0; i < form->pronargs; i++)
		check_type(condition, form->proargtypes.values[i]);
	ReleaseSysCache(tuple);
}

/* What looks like a function may be a type, whose literal is the argument. */
static void
check_function_name(const LeyserCondition *condition, List *name)
{
	FuncCandidateList candidate;

	check_type_name(condition, makeTypeNameFromNameList(name));
	if (list_length(name) < 2)
		return;
	candidate = FuncnameGetCandidates(name, -1, NIL, false, false, true, true);
	for (; candidate; candidate = candidate->next)
		check_function(condition, candidate->oid);
}

static void
check_operator_name(const LeyserCondition *condition, List *name)
{
	const char kinds[] = {'b', 'l'};

	if (list_length(name) < 2)
		return;
	for (int i = 0; i < (int) lengthof(kinds); i++)
	{
		FuncCandidateList candidate = OpernameGetCandidates(name, kinds[i], true);

		for (; candidate; candidate = candidate->next)
		{
			check_function(condition, get_opcode(candidate->oid));
			check_type(condition, candidate->args[0]);
			check_type(condition, candidate->args[1]);
		}
	}
}

static void
check_relation_name(const LeyserCondition *condition, const RangeVar *name)
{
	Oid relation = RangeVarGetRelid(name, NoLock, true);

	if (OidIsValid(relation) &&
		!leyser_condition_trusts(condition, leyser_relation_owner(relation)))
		leyser_refuse_condition(
			condition,
			psprintf(
				"Relation \"%s\" belongs to neither the table's owner nor a superuser.",
				name->relname));
}

/* The grammar's nodes of which a condition and its subqueries are made. */
static bool
is_known_node(const Node *node)
{
	switch (nodeTag(node))
	{
		case T_List:
		case T_String:
		case T_A_Const:
		case T_A_Expr:
		case T_A_Indices:
		case T_A_Indirection:
		case T_A_ArrayExpr:
		case T_Alias:
		case T_BoolExpr:
		case T_BooleanTest:
		case T_CaseExpr:
		case T_CaseWhen:
		case T_CoalesceExpr:
		case T_CollateClause:
		case T_ColumnRef:
		case T_CommonTableExpr:
		case T_FuncCall:
		case T_GroupingFunc:
		case T_GroupingSet:
		case T_JoinExpr:
		case T_MinMaxExpr:
		case T_NamedArgExpr:
		case T_NullTest:
		case T_ParamRef:
		case T_RangeFunction:
		case T_RangeSubselect:
		case T_RangeVar:
		case T_ResTarget:
		case T_RowExpr:
		case T_SelectStmt:
		case T_SortBy:
		case T_SQLValueFunction:
		case T_SubLink:
		case T_TypeCast:
		case T_TypeName:
		case T_WindowDef:
		case T_WithClause:
			return true;
		default:
			return false;
	}
}

static bool
names_walker(Node *node, void *context)
{
	const LeyserCondition *condition = context;

	if (!node)
		return false;
	if (!is_known_node(node))
		leyser_refuse_condition(
			condition,
			"It contains a clause or a construct that conditions cannot have.");
	check_stack_depth();
	if (IsA(node, TypeName))
		check_type_name(condition, (TypeName *) node);
	else if (IsA(node, FuncCall))
		check_function_name(condition, ((FuncCall *) node)->funcname);
	else if (IsA(node, A_Expr))
		check_operator_name(condition, ((A_Expr *) node)->name);
	else if (IsA(node, SubLink))
		check_operator_name(condition, ((SubLink *) node)->operName);
	else if (IsA(node, SortBy))
		check_operator_name(condition, ((SortBy *) node)->useOp);
	else if (IsA(node, RangeVar))
		check_relation_name(condition, (RangeVar *) node);
	else if (IsA(node, RangeFunction) && ((RangeFunction *) node)->coldeflist)
		leyser_refuse_condition(condition, "It contains a list of column definitions.");
	return raw_expression_tree_walker(node, names_walker, context);
}

/* Alone it must be what PL/pgSQL takes for an expression, and nothing around it. */
Node *
leyser_condition_expression(const char *text)
{
	List *statements = raw_parser(text, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select = (SelectStmt *) linitial_node(RawStmt, statements)->stmt;

	if (list_length(statements) != 1 || !IsA(select, SelectStmt) ||
		select->op != SETOP_NONE || list_length(select->targetList) != 1 ||
		linitial_node(ResTarget, select->targetList)->name || select->distinctClause ||
		select->fromClause || select->whereClause || select->groupClause ||
		select->havingClause || select->windowClause || select->sortClause ||
		select->limitOffset || select->limitCount || select->lockingClause ||
		select->valuesLists || select->withClause || select->intoClause)
		return NULL;
	return linitial_node(ResTarget, select->targetList)->val;
}

void
leyser_check_condition_names(const LeyserCondition *condition, const char *text)
{
	Node *expression = leyser_condition_expression(text);

	if (expression == NULL)
		leyser_refuse_condition(condition, "It is not one expression.");
	names_walker(expression, (void *) condition);
}
