/*
 * each_tenant.c
 *		CALL leyser.for_each_tenant(): a statement in each tenant's context.
 *
 * The books are in sql/each_tenant.sql.  Here is what SQL cannot do: commit after
 * each tenant, and keep what a statement does apart from the books.  The rules:
 *
 *  - The statement runs with the rights of the role that calls and no others, in
 *    the context of one tenant.  It enters tenants as leyser.enter() does, so it
 *    is for those who may call that.  A role that row security does not bind is
 *    refused: its statement would change every tenant's rows, once for each.
 *  - What the statement calls, triggers of tables' owners too, cannot SET ROLE.
 *    Where SET ROLE made the caller, the session may be a superuser's: then all
 *    of it is a restricted operation, which leaves no trigger, cursor or temporary
 *    table behind that would run later with the session's rights.
 *  - Deferred constraints are checked before the tenant counts as done; settings
 *    that the statement made end with it.
 *  - A tenant's mark is committed together with its rows.  So a call that was
 *    killed goes on with the next tenant, and no tenant is done twice.
 *  - A tenant that fails is rolled back, and its error's SQLSTATE and object are
 *    noted; the message, which may hold its values, goes to the caller alone.
 *  - Cancelling ends the call, whatever on_error says.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "leyser.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "cache.h"
#include "context.h"
#include "owner.h"
#include "step.h"
#include "work.h"

PG_FUNCTION_INFO_V1(leyser_for_each_tenant);

typedef struct EachTenant
{
	MemoryContext context; /* outlives the transactions */
	int64 work_id;
	char *statement;
	char *tenant; /* NULL: there is none left */
	char *after;  /* the last one by their ids: all up to it had their turn */
	bool stop;    /* at the first error */
	int64 failed;
} EachTenant;

/* ---- what is refused ---- */

static void
refuse_nulls(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(2))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("%s must not be null",
							   PG_ARGISNULL(0) ? "statement" : "on_error"),
						errdetail("A call needs what is to be done, and what becomes of "
								  "errors: continue or stop."),
						errhint("Give a statement; leave on_error out to go on after an "
								"error.")));
}

static void
refuse_unbound_role(void)
{
	if (has_bypassrls_privilege(GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("row security does not bind role \"%s\"",
						GetUserNameFromId(GetUserId(), false)),
				 errdetail("Its statement would meet every tenant's rows, once for each "
						   "tenant."),
				 errhint("SET ROLE to a role with usage gateway, and CALL it again.")));
}

static void
refuse_statement(const char *message)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("%s", message),
			 errdetail("Each tenant is one transaction, which leyser begins and ends."),
			 errhint("Give statements without transaction control, COPY or VACUUM.")));
}

/* Looks at the text only, so a mistake shows before the first tenant. */
static void
check_statement(const char *statement)
{
	List *parsed = pg_parse_query(statement);
	ListCell *cell;

	if (parsed == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("statement is empty"),
				 errdetail("There is nothing to do for a tenant."),
				 errhint("For example 'UPDATE invoice SET …'.")));
	foreach (cell, parsed)
	{
		Node *one = lfirst_node(RawStmt, cell)->stmt;

		if (IsA(one, TransactionStmt))
			refuse_statement("a tenant's statement cannot control transactions");
		if (IsA(one, CopyStmt) || IsA(one, VacuumStmt))
			refuse_statement(
				psprintf("%s cannot run for each tenant", CreateCommandName(one)));
	}
}

/* ---- the books ---- */

/*
 * Calls a function of the books as the extension's owner.  The one value of the
 * result, as text in the context that outlives transactions; NULL for none.
 */
static char *
each_call(const EachTenant *each, const char *query, int nargs, Oid *types, Datum *values,
		  const char *nulls)
{
	LeyserOwnerState owner;
	char *result;

	leyser_owner_begin(&owner);
	if (SPI_execute_with_args(query, nargs, types, values, nulls, false, 1) !=
			SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not keep the books of leyser.for_each_tenant()");
	result = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (result != NULL)
		result = MemoryContextStrdup(each->context, result);
	leyser_owner_end(&owner);
	return result;
}

static void
each_begin(EachTenant *each, FunctionCallInfo fcinfo)
{
	Oid types[] = {TEXTOID, TEXTARRAYOID, TEXTOID, TEXTOID};
	Datum values[4];
	char nulls[5] = "    ";

	for (int i = 0; i < 4; i++)
	{
		values[i] = PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	each->stop = strcmp(text_to_cstring(PG_GETARG_TEXT_PP(2)), "stop") == 0;
	each->work_id =
		strtoll(each_call(each, "SELECT leyser.begin_each_tenant($1, $2, $3, $4)", 4,
						  types, values, nulls),
				NULL, 10);
}

static void
each_next(EachTenant *each)
{
	Oid types[] = {INT8OID, TEXTOID};
	Datum values[] = {Int64GetDatum(each->work_id), CStringGetTextDatum(each->after)};

	each->tenant =
		each_call(each, "SELECT leyser.next_each_tenant($1, $2)", 2, types, values, NULL);
}

/* error NULL: it is done. */
static void
each_mark(const EachTenant *each, const ErrorData *error)
{
	Oid types[] = {INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	Datum values[5] = {Int64GetDatum(each->work_id), CStringGetTextDatum(each->tenant)};
	char nulls[6] = "  nnn";

	if (error)
	{
		values[2] = CStringGetTextDatum(unpack_sql_state(error->sqlerrcode));
		nulls[2] = ' ';
		if (error->schema_name && error->table_name)
		{
			values[3] = CStringGetTextDatum(
				quote_qualified_identifier(error->schema_name, error->table_name));
			nulls[3] = ' ';
		}
		if (error->constraint_name)
		{
			values[4] = CStringGetTextDatum(error->constraint_name);
			nulls[4] = ' ';
		}
	}
	(void) each_call(each, "SELECT leyser.mark_each_tenant($1, $2, $3, $4, $5)", 5, types,
					 values, nulls);
}

static void
each_end(const EachTenant *each)
{
	Oid types[] = {INT8OID};
	Datum values[] = {Int64GetDatum(each->work_id)};
	char *summary =
		each_call(each, "SELECT leyser.end_each_tenant($1)", 1, types, values, NULL);

	SPI_commit();
	if (each->failed > 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION), errmsg("%s", summary),
			 errdetail("What was done for the others is committed.  View "
					   "leyser.each_tenant tells the SQLSTATE of each failure."),
			 errhint("CALL it again with the same arguments: it goes on with those that "
					 "are not done.")));
	ereport(NOTICE, (errmsg("%s", summary)));
}

/* ---- one tenant ---- */

static void
tenant_enter(const EachTenant *each)
{
	LeyserClaims claims;
	Oid types[] = {INT8OID, TEXTOID};
	Datum values[] = {Int64GetDatum(each->work_id), CStringGetTextDatum(each->tenant)};
	char *token;

	memset(&claims, 0, sizeof(LeyserClaims));
	claims.tenant = each->tenant;
	(void) each_call(each, "SELECT leyser.enter_each_tenant($1, $2)", 2, types, values,
					 NULL);
	token = leyser_context_sign(&claims, DT_NOEND);
	leyser_context_set(token, true);
	explicit_bzero(token, strlen(token));
}

static void
tenant_run(const char *statement)
{
	SPIExecuteOptions options = {.dest = CreateDestReceiver(DestNone)};
	int result;

	SPI_connect();
	result = SPI_execute_extended(statement, &options);
	if (result < 0)
		refuse_statement("the statement cannot run for each tenant");
	if (SPI_execute("SET CONSTRAINTS ALL IMMEDIATE", false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not check deferred constraints");
	SPI_finish();
}

/* As the caller, who cannot become anybody else meanwhile. */
static void
tenant_run_as_caller(const char *statement)
{
	int restricted =
		GetSessionUserId() != GetUserId() ? SECURITY_RESTRICTED_OPERATION : 0;
	int security_context;
	int guc_level;
	Oid user;

	GetUserIdAndSecContext(&user, &security_context);
	guc_level = NewGUCNestLevel();
	if (restricted &&
		SPI_execute("SET CONSTRAINTS ALL IMMEDIATE", false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not make constraints immediate");
	SetUserIdAndSecContext(user,
						   security_context | SECURITY_LOCAL_USERID_CHANGE | restricted);
	tenant_run(statement);
	SetUserIdAndSecContext(user, security_context);
	AtEOXact_GUC(false, guc_level);
}

/* NULL where the tenant's statement worked; its rows are not committed yet. */
static ErrorData *
tenant_try(const EachTenant *each)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		tenant_enter(each);
		tenant_run_as_caller(each->statement);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(each->context);
		error = CopyErrorData();
		error->sqlerrcode = leyser_owner_error_code(error);
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return error;
}

/* The mark and the rows, together; what fails only now has rolled back both. */
static ErrorData *
tenant_commit(const EachTenant *each)
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorData *volatile error = NULL;

	PG_TRY();
	{
		SPI_commit();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(each->context);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return error;
}

static void
tenant_failed(EachTenant *each, ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	each->failed++;
	ereport(WARNING, (errcode(error->sqlerrcode),
					  errmsg("the statement failed for tenant \"%s\": %s", each->tenant,
							 error->message),
					  error->detail ? errdetail("%s", error->detail) : 0,
					  error->hint ? errhint("%s", error->hint) : 0));
	each_mark(each, error);
	SPI_commit();
	FreeErrorData(error);
}

static void
tenant_do(EachTenant *each)
{
	ErrorData *error = tenant_try(each);

	if (error == NULL)
	{
		each_mark(each, NULL);
		error = tenant_commit(each);
	}
	if (error != NULL)
		tenant_failed(each, error);
	if (strcmp(each->tenant, each->after) > 0)
		each->after = each->tenant;
	else
		pfree(each->tenant);
}

/* ---- the call ---- */

static void
each_run(EachTenant *each)
{
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		each_next(each);
		SPI_commit();
		if (each->tenant == NULL)
			break;
		tenant_do(each);
		if (each->failed > 0 && each->stop)
			break;
	}
	each_end(each);
}

/* CALL for_each_tenant(statement text, tenants text[], on_error text, label text) */
Datum
leyser_for_each_tenant(PG_FUNCTION_ARGS)
{
	EachTenant each = {0};

	leyser_require_preloaded();
	PreventCommandDuringRecovery("leyser.for_each_tenant()");
	refuse_nulls(fcinfo);
	leyser_step_refuse_block(fcinfo, "for_each_tenant");
	refuse_unbound_role();
	each.context =
		AllocSetContextCreate(PortalContext, "leyser each tenant", ALLOCSET_SMALL_SIZES);
	each.statement =
		MemoryContextStrdup(each.context, text_to_cstring(PG_GETARG_TEXT_PP(0)));
	each.after = MemoryContextStrdup(each.context, "");
	check_statement(each.statement);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	PG_TRY();
	{
		each_begin(&each, fcinfo);
		SPI_commit();
		each_run(&each);
	}
	PG_FINALLY();
	{
		leyser_work_unlock(each.work_id);
	}
	PG_END_TRY();
	SPI_finish();
	MemoryContextDelete(each.context);
	PG_RETURN_VOID();
}
