/*
 * purge_plain.c
 *		The purge_condition that an operator may declare.
 *
 * The plan tells how many rows a condition finds, so whoever writes one asks the
 * rows a question.  An operator sees no rows: it may only say where a row names its
 * tenant.  Comparing with anything but $1, by anything but "=", would let it search
 * for values (secret > 'm'), in this table or, by a subquery, in others.  So its
 * conditions are made of these alone, joined by AND and OR:
 *
 *		column = $1		column ->> 'key' = $1		$1 = ANY (column)
 *
 * with casts of the column to text and of $1 to the type of a column.  What needs
 * more is declared by the table's owner or a superuser.
 *
 * Only the text is looked at; purge_condition.c looks at what it stands for, each
 * time before it is run.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "purge_condition.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(leyser_condition_is_plain);

static bool
is_among(const char *name, const char *const *names, int count)
{
	for (int i = 0; i < count; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* The catalogue's name, with or without its schema; NULL for another one. */
static const char *
catalogue_name(List *name)
{
	if (list_length(name) == 2 && strcmp(strVal(linitial(name)), "pg_catalog") != 0)
		return NULL;
	return list_length(name) <= 2 ? strVal(llast(name)) : NULL;
}

static bool
is_type(const TypeName *type, const char *const *names, int count)
{
	const char *name = catalogue_name(type->names);

	return name != NULL && is_among(name, names, count) && !type->setof &&
		   !type->pct_type && type->typmods == NIL && type->arrayBounds == NIL;
}

static bool
is_operator(const A_Expr *expression, A_Expr_Kind kind, const char *const *names,
			int count)
{
	const char *name = expression->kind == kind ? catalogue_name(expression->name) : NULL;

	return name != NULL && is_among(name, names, count);
}

/* $1, perhaps as the type of a column. */
static bool
is_tenant(Node *node)
{
	static const char *const types[] = {"text", "varchar", "uuid",   "int2",
										"int4", "int8",    "numeric"};

	if (node != NULL && IsA(node, TypeCast) &&
		is_type(((TypeCast *) node)->typeName, types, lengthof(types)))
		node = ((TypeCast *) node)->arg;
	return node != NULL && IsA(node, ParamRef) && ((ParamRef *) node)->number == 1;
}

/* A column, a field of JSON in it, either perhaps as a text. */
static bool
is_column(Node *node)
{
	static const char *const texts[] = {"text", "varchar"};
	static const char *const fields[] = {"->", "->>", "#>", "#>>"};

	check_stack_depth();
	if (node == NULL)
		return false;
	if (IsA(node, ColumnRef))
		return IsA(llast(((ColumnRef *) node)->fields), String);
	if (IsA(node, TypeCast))
		return is_type(((TypeCast *) node)->typeName, texts, lengthof(texts)) &&
			   is_column(((TypeCast *) node)->arg);
	return IsA(node, A_Expr) &&
		   is_operator((A_Expr *) node, AEXPR_OP, fields, lengthof(fields)) &&
		   ((A_Expr *) node)->rexpr != NULL && IsA(((A_Expr *) node)->rexpr, A_Const) &&
		   is_column(((A_Expr *) node)->lexpr);
}

static bool
is_comparison(const A_Expr *expression)
{
	static const char *const equal[] = {"="};
	Node *left = expression->lexpr;
	Node *right = expression->rexpr;

	if (is_operator(expression, AEXPR_OP_ANY, equal, 1))
		return is_tenant(left) && is_column(right);
	return is_operator(expression, AEXPR_OP, equal, 1) &&
		   ((is_column(left) && is_tenant(right)) ||
			(is_tenant(left) && is_column(right)));
}

static bool
is_plain(Node *node)
{
	ListCell *cell;

	check_stack_depth();
	if (IsA(node, A_Expr))
		return is_comparison((A_Expr *) node);
	if (!IsA(node, BoolExpr) || ((BoolExpr *) node)->boolop == NOT_EXPR)
		return false;
	foreach (cell, ((BoolExpr *) node)->args)
		if (!is_plain(lfirst(cell)))
			return false;
	return true;
}

/* condition_is_plain(condition text) → boolean: whether an operator may declare it. */
Datum
leyser_condition_is_plain(PG_FUNCTION_ARGS)
{
	Node *expression = leyser_condition_expression(text_to_cstring(PG_GETARG_TEXT_PP(0)));

	PG_RETURN_BOOL(expression != NULL && is_plain(expression));
}
