/*
 * protect.c
 *		The SQL function protect(): who calls it.
 *
 * It is everybody's, for a table's owner may protect it, and its work is done
 * with the rights of the extension's owner.  So it must know who really calls:
 * neither the session's role nor the one that SET ROLE chose will do, for a
 * superuser's ANALYZE runs functions of other people's tables, as their owner.
 * The rights that count are those in force at the call.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "leyser.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"

#include "follow.h"
#include "owner.h"

#define PROTECT_ARGS 6

PG_FUNCTION_INFO_V1(leyser_protect);

/* protect(relation, tenant_column, kind, enforcement, set_default, accept_gaps) */
Datum
leyser_protect(PG_FUNCTION_ARGS)
{
	Oid types[PROTECT_ARGS + 1] = {REGROLEOID, REGCLASSOID, NAMEOID, TEXTOID,
								   TEXTOID,    BOOLOID,     BOOLOID};
	Datum values[PROTECT_ARGS + 1];
	char nulls[PROTECT_ARGS + 2] = "       ";
	LeyserOwnerState owner;

	leyser_require_preloaded();
	if (InSecurityRestrictedOperation())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot protect a table within a security-restricted operation"),
				 errdetail("Functions of indexes and materialized views run in one."),
				 errhint("Call it as a statement of its own.")));
	values[0] = ObjectIdGetDatum(GetUserId());
	for (int i = 0; i < PROTECT_ARGS; i++)
	{
		values[i + 1] = PG_GETARG_DATUM(i);
		nulls[i + 1] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	leyser_owner_begin(&owner);
	if (SPI_execute_with_args("SELECT leyser.protect_as($1, $2, $3, $4, $5, $6, $7)",
							  PROTECT_ARGS + 1, types, values, nulls, false,
							  1) != SPI_OK_SELECT)
		elog(ERROR, "could not protect a table");
	leyser_owner_end(&owner);
	leyser_follow_check();
	PG_RETURN_VOID();
}
