/*
 * owner.c
 *		Acting as the extension's owner for a moment.
 *
 * The user is switched as for a SECURITY DEFINER function: with
 * SECURITY_LOCAL_USERID_CHANGE, so that nothing that runs inside can SET ROLE,
 * and with a search_path in which nobody else's objects lie.
 *
 * What an owner attached to a table (index expressions, CHECKs, domains) may run
 * as soon as a query of that table is planned.  So leyser plans such queries
 * with the rights of the table's owner, in a restricted operation, as the server
 * does for REINDEX; with guards in force.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "owner.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/syscache.h"

#include "cache.h"
#include "relation.h"

PG_FUNCTION_INFO_V1(leyser_count_as_owner);
PG_FUNCTION_INFO_V1(leyser_run_as_owner);
PG_FUNCTION_INFO_V1(leyser_query_as_owner);
PG_FUNCTION_INFO_V1(leyser_explain_as_owner);

/* The role that owns the extension. */
static Oid
owner_role(void)
{
	Oid extension = leyser_cache_extension();
	Relation rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	Oid owner = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	if (!OidIsValid(owner))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("leyser is not installed in this database"),
						errhint("CREATE EXTENSION leyser;")));
	return owner;
}

static void
owner_switch(LeyserOwnerState *state, Oid role, int flags)
{
	GetUserIdAndSecContext(&state->user, &state->security_context);
	state->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	SetUserIdAndSecContext(role, state->security_context | flags);
	SPI_connect();
}

void
leyser_owner_begin(LeyserOwnerState *state)
{
	owner_switch(state, owner_role(), SECURITY_LOCAL_USERID_CHANGE);
}

void
leyser_owner_begin_as(LeyserOwnerState *state, Oid role)
{
	owner_switch(state, role,
				 SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION |
					 SECURITY_NOFORCE_RLS);
}

void
leyser_owner_end(const LeyserOwnerState *state)
{
	SPI_finish();
	AtEOXact_GUC(false, state->guc_level);
	SetUserIdAndSecContext(state->user, state->security_context);
}

/* Procedural languages hand on the text that they are given, whole. */
int
leyser_owner_error_code(const ErrorData *error)
{
	Oid user;
	int security_context;

	GetUserIdAndSecContext(&user, &security_context);
	if ((security_context & SECURITY_RESTRICTED_OPERATION) != 0 &&
		error->message_id != NULL && strcmp(error->message_id, "%s") == 0)
		return ERRCODE_RAISE_EXCEPTION;
	return error->sqlerrcode;
}

/*
 * count_as_owner(relation regclass, query text) → bigint: the one value of a
 * query of the relation, run with its owner's rights.
 */
Datum
leyser_count_as_owner(PG_FUNCTION_ARGS)
{
	char *query = text_to_cstring(PG_GETARG_TEXT_PP(1));
	LeyserOwnerState state;
	int64 count;
	bool isnull;

	leyser_owner_begin_as(&state, leyser_relation_owner(PG_GETARG_OID(0)));
	if (SPI_execute(query, true, 2) != SPI_OK_SELECT || SPI_processed != 1 ||
		SPI_gettypeid(SPI_tuptable->tupdesc, 1) != INT8OID)
		elog(ERROR, "query does not count");
	count = DatumGetInt64(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	leyser_owner_end(&state);
	PG_RETURN_INT64(count);
}

/* run_as_owner(relation regclass, command text) → void: DDL with the owner's rights. */
Datum
leyser_run_as_owner(PG_FUNCTION_ARGS)
{
	char *command = text_to_cstring(PG_GETARG_TEXT_PP(1));
	LeyserOwnerState state;

	leyser_owner_begin_as(&state, leyser_relation_owner(PG_GETARG_OID(0)));
	if (SPI_execute(command, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "command is not a utility statement");
	leyser_owner_end(&state);
	PG_RETURN_VOID();
}

/*
 * query_as_owner(relation regclass, query text, tenant_id text) → text: the one
 * value of a reading query of the relation, run with its owner's rights; $1 is the
 * tenant id.
 */
Datum
leyser_query_as_owner(PG_FUNCTION_ARGS)
{
	Oid types[] = {TEXTOID};
	Datum values[] = {PG_ARGISNULL(2) ? (Datum) 0 : PG_GETARG_DATUM(2)};
	char nulls[] = {PG_ARGISNULL(2) ? 'n' : ' ', '\0'};
	MemoryContext caller = CurrentMemoryContext;
	LeyserOwnerState state;
	char *query;
	char *value;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	query = text_to_cstring(PG_GETARG_TEXT_PP(1));
	leyser_owner_begin_as(&state, leyser_relation_owner(PG_GETARG_OID(0)));
	(void) set_config_option("standard_conforming_strings", "on", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (SPI_execute_with_args(query, 1, types, values, nulls, true, 2) != SPI_OK_SELECT ||
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

	leyser_owner_begin_as(&state, leyser_relation_owner(relation));
	GetUserIdAndSecContext(&role, &security_context);
	SetUserIdAndSecContext(role, security_context & ~SECURITY_NOFORCE_RLS);
	(void) set_config_option("leyser.on_missing_context", "error", PGC_SUSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (SPI_execute(psprintf("EXPLAIN %s", query), false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "a query is not explained");
	leyser_owner_end(&state);
	PG_RETURN_VOID();
}
