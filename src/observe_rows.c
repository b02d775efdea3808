/*
 * observe_rows.c
 *		The condition of plans that looks at the rows of observed tables.  See observe.c.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "observe.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"

#include "cache.h"
#include "compat.h"
#include "context.h"
#include "context_gap.h"

PG_FUNCTION_INFO_V1(leyser_observe_rows);

static void
observe_refuse_call(void)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("leyser.observe_rows() is for plans only"),
					errdetail("The planner puts it into statements of observed tables."),
					errhint("See view leyser.context_gap.")));
}

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
				   !leyser_observe_binds(PG_GETARG_OID(arg + 1));
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
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || count < 0 ||
		count > LEYSER_OBSERVE_TABLES_MAX ||
		PG_NARGS() < LEYSER_OBSERVE_FIXED_ARGS + 3 * count ||
		get_fn_expr_variadic(fcinfo->flinfo))
		observe_refuse_call();
	rows = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt,
								  offsetof(ObserveRows, columns) +
									  count * sizeof(ObservedColumn));
	rows->count = count;
	rows->query_id = PG_GETARG_INT64(0);
	for (int i = 0; i < count; i++)
		observe_begin_column(fcinfo, &rows->columns[i],
							 LEYSER_OBSERVE_FIXED_ARGS + 3 * i);
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
		int arg = LEYSER_OBSERVE_FIXED_ARGS + 3 * i;
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
