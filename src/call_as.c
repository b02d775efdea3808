/*
 * call_as.c
 *		SQL functions that must know who really calls.
 *
 * protect() and its like are everybody's, for a table's owner may call them, and
 * their work is done with the rights of the extension's owner.  A SECURITY
 * DEFINER function cannot tell who called it: neither the session's role nor the
 * one that SET ROLE chose will do, for a superuser's ANALYZE runs functions of
 * other people's tables, as their owner.  So the entry f(…) is this function,
 * with the rights of its caller, and hands them on: it calls f_as(role, …).
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "leyser.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "follow.h"
#include "owner.h"

PG_FUNCTION_INFO_V1(leyser_call_as);
PG_FUNCTION_INFO_V1(leyser_caller);

/*
 * What the server runs of a table's owner (indexes, materialized views) runs in
 * such an operation, while the session's role is somebody else's.
 */
static void
refuse_restricted_operation(void)
{
	if (InSecurityRestrictedOperation())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot call leyser within a security-restricted operation"),
				 errdetail("Functions of indexes and materialized views run in one."),
				 errhint("Call it as a statement of its own.")));
}

/* f(…) → void: calls f_as(role that calls, …). */
Datum
leyser_call_as(PG_FUNCTION_ARGS)
{
	Oid types[FUNC_MAX_ARGS] = {REGROLEOID};
	Datum values[FUNC_MAX_ARGS];
	char nulls[FUNC_MAX_ARGS + 1] = " ";
	char *name = get_func_name(fcinfo->flinfo->fn_oid);
	LeyserOwnerState owner;
	StringInfoData call;

	leyser_require_preloaded();
	refuse_restricted_operation();
	initStringInfo(&call);
	appendStringInfo(&call, "SELECT leyser.%s($1",
					 quote_identifier(psprintf("%s_as", name)));
	values[0] = ObjectIdGetDatum(GetUserId());
	for (int i = 0; i < PG_NARGS(); i++)
	{
		types[i + 1] = get_fn_expr_argtype(fcinfo->flinfo, i);
		values[i + 1] = PG_GETARG_DATUM(i);
		nulls[i + 1] = PG_ARGISNULL(i) ? 'n' : ' ';
		appendStringInfo(&call, ", $%d", i + 2);
	}
	appendStringInfoChar(&call, ')');
	leyser_owner_begin(&owner);
	if (SPI_execute_with_args(call.data, PG_NARGS() + 1, types, values, nulls, false,
							  1) != SPI_OK_SELECT)
		elog(ERROR, "could not call \"%s\"", name);
	leyser_owner_end(&owner);
	leyser_follow_check();
	PG_RETURN_VOID();
}

/*
 * caller() → regrole: the role in force in the session: follows SET ROLE, not
 * SECURITY DEFINER.
 */
Datum
leyser_caller(PG_FUNCTION_ARGS)
{
	refuse_restricted_operation();
	PG_RETURN_OID(GetOuterUserId());
}
