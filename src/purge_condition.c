/*
 * purge_condition.c
 *		What an operator's purge_condition may be, and what a plan asks tables.
 *
 * A condition is SQL text, written by an operator, who sees no rows, and run over
 * a table with the rights of its owner.  So it must be one expression (what would
 * end the parentheses around it does not parse), and call nothing that an
 * operator could have made.  purge_names.c looks at the names in its text; here
 * it is analyzed as the owner would run it: functions, domains and relations,
 * also those behind views and casts, belong to the table's owner or to a
 * superuser, no function is volatile, so that it changes nothing, and no relation
 * is the system's, so that passwords and statistics are out of reach.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "purge_condition.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/syscache.h"

#include "owner.h"
#include "relation.h"

PG_FUNCTION_INFO_V1(leyser_condition_relations);

void
leyser_refuse_condition(const LeyserCondition *condition, const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid purge_condition of \"%s\"",
						   get_rel_name(condition->relation)),
					errdetail("%s", detail),
					errhint("Declare the table with a condition on its columns in which "
							"$1 is the tenant id, a text.")));
}

bool
leyser_condition_trusts(const LeyserCondition *condition, Oid role)
{
	return role == condition->owner || superuser_arg(role);
}

/*
 * A built-in function of plain values.  Others take the name of a type, a relation
 * or a schema (domain_in(), table_to_xml(), pg_input_is_valid()) and run what it
 * stands for.
 */
static bool
is_plain_builtin(Oid function, Form_pg_proc form)
{
	if (function >= FirstNormalObjectId ||
		strncmp(NameStr(form->proname), "pg_", 3) == 0 ||
		strstr(NameStr(form->proname), "xml"))
		return false;
	for (int i = 0; i < form->pronargs; i++)
	{
		Oid type = form->proargtypes.values[i];
		char category;
		bool preferred;

		get_type_category_preferred(type, &category, &preferred);
		/* numeric, as the catalogue has it: names by oid */
		if (type == CSTRINGOID || type == INTERNALOID || type == OIDOID ||
			(category == TYPCATEGORY_NUMERIC && type != INT2OID && type != INT4OID &&
			 type != INT8OID && type != FLOAT4OID && type != FLOAT8OID &&
			 type != NUMERICOID && type != CASHOID))
			return false;
	}
	return true;
}

/*
 * Whether a function neither changes anything nor runs what its arguments name.
 * Extensions bring functions that execute SQL and are stable all the same
 * (tablefunc's crosstab()); so what is a superuser's must be immutable.
 */
static bool
is_harmless(const LeyserCondition *walk, Oid function, Form_pg_proc form)
{
	if (form->provolatile == PROVOLATILE_VOLATILE)
		return false;
	if (form->proowner == walk->owner && function >= FirstNormalObjectId &&
		!OidIsValid(getExtensionOfObject(ProcedureRelationId, function)))
		return true;
	if (!superuser_arg(form->proowner))
		return false;
	return form->provolatile == PROVOLATILE_IMMUTABLE || is_plain_builtin(function, form);
}

static bool
check_function(Oid function, void *context)
{
	LeyserCondition *walk = context;
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "function %u does not exist", function);
	form = (Form_pg_proc) GETSTRUCT(tuple);
	if (!is_harmless(walk, function, form))
		leyser_refuse_condition(
			walk, psprintf("Function \"%s\" is none of those that conditions may call:"
						   " immutable ones, stable built-in ones of plain values,"
						   " stable ones of the table's owner.",
						   NameStr(form->proname)));
	ReleaseSysCache(tuple);
	return false;
}

static void
check_domain(const LeyserCondition *walk, Oid type)
{
	HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "type %u does not exist", type);
	owner = ((Form_pg_type) GETSTRUCT(tuple))->typowner;
	ReleaseSysCache(tuple);
	if (!leyser_condition_trusts(walk, owner))
		leyser_refuse_condition(
			walk,
			psprintf(
				"Domain \"%s\" belongs to neither the table's owner nor a superuser.",
				format_type_be(type)));
}

static void
check_relation(LeyserCondition *walk, Oid relation)
{
	Oid leyser =
		get_namespace_oid("leyser", false); /* its own tables' conditions are ours */

	if (relation == walk->relation && !walk->seen)
	{
		walk->seen = true;
		return;
	}
	if (get_rel_namespace(walk->relation) != leyser &&
		(relation < FirstNormalObjectId || get_rel_namespace(relation) == leyser))
		leyser_refuse_condition(
			walk, psprintf("Relation \"%s\" is the system's, or leyser's own.",
						   get_rel_name(relation)));
	if (!leyser_condition_trusts(walk, leyser_relation_owner(relation)))
		leyser_refuse_condition(
			walk,
			psprintf(
				"Relation \"%s\" belongs to neither the table's owner nor a superuser.",
				get_rel_name(relation)));
	walk->relations = list_append_unique_oid(walk->relations, relation);
}

static bool
condition_walker(Node *node, void *context)
{
	LeyserCondition *walk = context;

	if (!node)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		if (OidIsValid(((RangeTblEntry *) node)->relid))
			check_relation(walk, ((RangeTblEntry *) node)->relid);
		return false;
	}
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXTERN)
		walk->asks = true;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, condition_walker, context,
								 QTW_EXAMINE_RTES_BEFORE);
	if (IsA(node, CoerceToDomain))
		check_domain(walk, ((CoerceToDomain *) node)->resulttype);
	/* what a cast reads or prints was looked at where its type was named */
	if (!IsA(node, CoerceViaIO))
		check_functions_in_node(node, check_function, context);
	return expression_tree_walker(node, condition_walker, context);
}

/* Analyzes and rewrites the condition, as the table's owner would run it. */
static void
walk_condition(LeyserCondition *walk, const char *condition)
{
	Oid types[] = {TEXTOID};
	StringInfoData query;
	SPIPlanPtr plan;
	ListCell *source;

	initStringInfo(&query);
	appendStringInfo(&query, "SELECT FROM ONLY %s WHERE (%s\n)",
					 leyser_relation_name(walk->relation), condition);
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
	LeyserCondition walk = {.relation = PG_GETARG_OID(0)};
	char *condition = text_to_cstring(PG_GETARG_TEXT_PP(1));
	MemoryContext caller = CurrentMemoryContext;
	LeyserOwnerState state;
	Datum *relations;
	int count = 0;
	ListCell *one;

	walk.owner = leyser_relation_owner(walk.relation);
	leyser_owner_begin_as(&state, walk.owner);
	/* the worker reads the text by this rule, whatever the operator's session says */
	(void) set_config_option("standard_conforming_strings", "on", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	leyser_check_condition_names(&walk, condition);
	walk_condition(&walk, condition);
	if (!walk.asks)
		leyser_refuse_condition(
			&walk, "It does not say whose rows: it lacks $1, the tenant's id.");
	relations = MemoryContextAlloc(
		caller, add_size(mul_size(list_length(walk.relations), sizeof(Datum)), 1));
	foreach (one, walk.relations)
		relations[count++] = ObjectIdGetDatum(lfirst_oid(one));
	leyser_owner_end(&state);
	PG_RETURN_ARRAYTYPE_P(
		construct_array(relations, count, REGCLASSOID, sizeof(Oid), true, TYPALIGN_INT));
}
