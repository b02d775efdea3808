/*
 * adopt.c
 *		CALL leyser.protect_schema() and CALL leyser.add_tenant_column().
 *
 * What is to be done next is told by sql/adopt_schema.sql and sql/adopt_column.sql,
 * which look at the catalogues for it, so that a call that was killed, cancelled or
 * refused goes on where it stopped.  Here is what SQL cannot do: commit between
 * steps, build indexes CONCURRENTLY, and wait for locks without keeping everybody
 * else waiting.  The rules:
 *
 *  - Each step is a transaction.  While it waits for a lock others wait behind it, so
 *    it gives up after "lock_wait", lets them pass, and tries again; no longer than
 *    "retry_for" in a row.
 *  - An error is written down with the work before it is raised.
 *  - Nothing of the session's settings counts (step.c).
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "adopt.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "pause.h"
#include "step.h"
#include "work.h"

#define TELL_INTERVAL 2000 /* milliseconds between notices of mere progress */
#define SHORTEST_PAUSE 20  /* milliseconds between two tries for a lock */
#define LONGEST_PAUSE 1000
#define LONGEST_LOCK_WAIT (3 * USECS_PER_SEC)

PG_FUNCTION_INFO_V1(leyser_adopt_call);

/* What leyser.…_step() says. */
typedef struct AdoptStep
{
	char *action; /* again, idle (nothing was found to do), index, locked, failed, done */
	Oid relation;
	char *index;
	List *columns;
	bool unique;
	char *line; /* for whoever watches */
	char *sqlstate;
	char *message;
	char *detail;
	char *hint;
} AdoptStep;

typedef struct AdoptWork
{
	MemoryContext context; /* of a step; outlives its transactions */
	const char *procedure;
	int64 work_id;
	char lock_wait[32]; /* as a setting */
	int64 retry_for;    /* microseconds */
	TimestampTz locked_since;
	long pause;
	TimestampTz told_at;
} AdoptWork;

/* ---- reading a step ---- */

/* A value of the only row, in the step's memory; NULL for null and for nothing. */
static char *
step_text(const AdoptWork *work, int column)
{
	char *value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);

	return value == NULL || *value == '\0' ? NULL
										   : MemoryContextStrdup(work->context, value);
}

static List *
step_columns(const AdoptWork *work, int column)
{
	bool isnull;
	Datum value =
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);
	MemoryContext caller;
	List *columns = NIL;
	Datum *names;
	int count;

	if (isnull)
		return NIL;
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &names,
					  NULL, &count);
	caller = MemoryContextSwitchTo(work->context);
	for (int i = 0; i < count; i++)
		columns = lappend(columns, TextDatumGetCString(names[i]));
	MemoryContextSwitchTo(caller);
	return columns;
}

static void
step_read(const AdoptWork *work, AdoptStep *step)
{
	bool isnull;

	step->action = step_text(work, 1);
	step->relation = DatumGetObjectId(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	step->index = step_text(work, 3);
	step->columns = step_columns(work, 4);
	step->unique = DatumGetBool(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 5, &isnull));
	step->line = step_text(work, 6);
	step->sqlstate = step_text(work, 7);
	step->message = step_text(work, 8);
	step->detail = step_text(work, 9);
	step->hint = step_text(work, 10);
}

/* ---- steps ---- */

static void
work_query(const AdoptWork *work, AdoptStep *step)
{
	Oid types[] = {INT8OID};
	Datum values[] = {Int64GetDatum(work->work_id)};
	char *query = psprintf("SELECT * FROM leyser.%s_step($1)", work->procedure);
	LeyserOwnerState owner;

	leyser_step_begin(&owner);
	(void) set_config_option("lock_timeout", work->lock_wait, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	/* what a step did is lost with the note that it was done */
	(void) set_config_option("synchronous_commit", "off", PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	if (SPI_execute_with_args(query, 1, types, values, NULL, false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not do a step of leyser.%s()", work->procedure);
	step_read(work, step);
	leyser_step_end(&owner);
}

/* Tells what is done: in pg_stat_activity always, to the client now and then. */
static void
work_tell(AdoptWork *work, const AdoptStep *step)
{
	TimestampTz now = GetCurrentTimestamp();
	char *line;

	if (step->line == NULL)
		return;
	line = psprintf("leyser.%s: %s", work->procedure, step->line);
	pgstat_report_activity(STATE_RUNNING, line);
	if (strcmp(step->action, "done") == 0 ||
		TimestampDifferenceExceeds(work->told_at, now, TELL_INTERVAL))
	{
		ereport(NOTICE, (errmsg_internal("%s", line)));
		work->told_at = now;
	}
	pfree(line);
}

static void
work_fail(const AdoptStep *step)
{
	ereport(ERROR, (errcode(MAKE_SQLSTATE(step->sqlstate[0], step->sqlstate[1],
										  step->sqlstate[2], step->sqlstate[3],
										  step->sqlstate[4])),
					errmsg_internal("%s", step->message),
					step->detail != NULL ? errdetail_internal("%s", step->detail) : 0,
					step->hint != NULL ? errhint("%s", step->hint) : 0));
}

static void
work_give_up(const AdoptWork *work, const AdoptStep *step)
{
	Oid types[] = {INT8OID, TEXTOID};
	Datum values[] = {Int64GetDatum(work->work_id), CStringGetTextDatum(step->message)};
	LeyserOwnerState owner;

	leyser_step_begin(&owner);
	(void) SPI_execute_with_args("SELECT leyser.work_end($1, 'failed', $2)", 2, types,
								 values, NULL, false, 0);
	leyser_step_end(&owner);
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE), errmsg_internal("%s", step->message),
			 step->detail != NULL ? errdetail_internal("%s", step->detail) : 0,
			 errhint("The same CALL goes on from here; pg_blocking_pids() and "
					 "pg_stat_activity show who holds the lock.")));
}

/* Lets the others pass. */
static void
work_wait(AdoptWork *work, const AdoptStep *step)
{
	TimestampTz now = GetCurrentTimestamp();

	if (work->locked_since == 0)
	{
		work->locked_since = now;
		work->pause = SHORTEST_PAUSE;
	}
	if (now - work->locked_since > work->retry_for)
		work_give_up(work, step);
	leyser_pause(work->pause);
	work->pause = Min(work->pause * 2, LONGEST_PAUSE);
}

static void
work_index(const AdoptStep *step)
{
	SPI_finish();
	leyser_adopt_build_index(step->relation, step->index, step->columns, step->unique);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
}

/* False where all is done. */
static bool
work_do(AdoptWork *work)
{
	AdoptStep step = {0};

	MemoryContextReset(work->context);
	work_query(work, &step);
	work_tell(work, &step);
	if (strcmp(step.action, "failed") == 0)
		work_fail(&step);
	if (strcmp(step.action, "locked") == 0)
	{
		work_wait(work, &step);
		return true;
	}
	if (strcmp(step.action, "idle") != 0)
		work->locked_since = 0;
	if (strcmp(step.action, "index") == 0)
		work_index(&step);
	return strcmp(step.action, "done") != 0;
}

static void
work_loop(AdoptWork *work)
{
	while (work_do(work))
		CHECK_FOR_INTERRUPTS();
}

static void
work_run(AdoptWork *work)
{
	PG_TRY();
	{
		work_loop(work);
	}
	PG_CATCH();
	{
		leyser_work_unlock(work->work_id);
		PG_RE_THROW();
	}
	PG_END_TRY();
	leyser_work_unlock(work->work_id);
}

/* ---- the call ---- */

/* Microseconds. */
static int64
call_interval(FunctionCallInfo fcinfo, int argument, const char *name, int64 longest)
{
	const Interval *interval;

	if (PG_ARGISNULL(argument))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("\"%s\" cannot be null", name),
						errdetail("It is 0 to %lld seconds.",
								  (long long) (longest / USECS_PER_SEC)),
						errhint("Leave it out to get its default.")));
	interval = PG_GETARG_INTERVAL_P(argument);
	if (interval->month != 0 || interval->day != 0 || interval->time < 0 ||
		interval->time > longest)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid \"%s\"", name),
				 errdetail("It is 0 to %lld seconds, without days and months.",
						   (long long) (longest / USECS_PER_SEC)),
				 errhint("Leave it out to get its default.")));
	return interval->time;
}

/* leyser.…_begin(role that calls, arguments without the last two) → work id */
static int64
call_begin(FunctionCallInfo fcinfo, const char *procedure)
{
	Oid types[FUNC_MAX_ARGS] = {REGROLEOID};
	Datum values[FUNC_MAX_ARGS] = {ObjectIdGetDatum(GetUserId())};
	char nulls[FUNC_MAX_ARGS + 1] = " ";
	LeyserOwnerState owner;
	StringInfoData call;
	int64 work_id;
	bool isnull;

	initStringInfo(&call);
	appendStringInfo(&call, "SELECT leyser.%s_begin($1", procedure);
	for (int i = 0; i < PG_NARGS() - 2; i++)
	{
		types[i + 1] = get_fn_expr_argtype(fcinfo->flinfo, i);
		values[i + 1] = PG_GETARG_DATUM(i);
		nulls[i + 1] = PG_ARGISNULL(i) ? 'n' : ' ';
		appendStringInfo(&call, ", $%d", i + 2);
	}
	appendStringInfoChar(&call, ')');
	leyser_owner_begin(&owner);
	if (SPI_execute_with_args(call.data, PG_NARGS() - 1, types, values, nulls, false,
							  1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not begin leyser.%s()", procedure);
	work_id = DatumGetInt64(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	leyser_owner_end(&owner);
	return work_id;
}

/* An error before the commit would leave the session's lock behind. */
static void
call_commit(int64 work_id)
{
	PG_TRY();
	{
		SPI_commit();
	}
	PG_CATCH();
	{
		leyser_work_unlock(work_id);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/* CALL f(…, lock_wait interval, retry_for interval) */
Datum
leyser_adopt_call(PG_FUNCTION_ARGS)
{
	AdoptWork work = {.procedure = get_func_name(fcinfo->flinfo->fn_oid)};
	int last = PG_NARGS() - 1;

	leyser_require_preloaded();
	leyser_step_refuse_block(fcinfo, work.procedure);
	PreventCommandDuringRecovery(psprintf("leyser.%s()", work.procedure));
	snprintf(
		work.lock_wait, sizeof(work.lock_wait), "%lld ms",
		(long long) Max(
			call_interval(fcinfo, last - 1, "lock_wait", LONGEST_LOCK_WAIT) / 1000, 1));
	work.retry_for = call_interval(fcinfo, last, "retry_for", 24 * USECS_PER_HOUR);
	work.context =
		AllocSetContextCreate(PortalContext, "leyser adoption", ALLOCSET_SMALL_SIZES);
	work.procedure = MemoryContextStrdup(PortalContext, work.procedure);
	if (get_timeout_active(STATEMENT_TIMEOUT))
		disable_timeout(STATEMENT_TIMEOUT, false);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	work.work_id = call_begin(fcinfo, work.procedure);
	call_commit(work.work_id);
	work_run(&work);
	SPI_finish();
	PG_RETURN_VOID();
}
