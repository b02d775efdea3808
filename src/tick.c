/*
 * tick.c
 *		CALL leyser.tick(): does the jobs that are due, one after the other.
 *
 * When a job is due, and what it does, is told by sql/schedule_job.sql.  Here is
 * what SQL cannot do: commit between jobs, and keep two of a kind apart.  The
 * rules:
 *
 *  - Whoever runs a job holds a lock of the session for its kind that nobody else
 *    can ask for.  It ends with the process, so a tick that was killed keeps
 *    nobody waiting; who finds the lock taken goes on with the next job.
 *  - A job is three steps that commit: it is marked as running, it is done, the
 *    mark is taken away with what was done.  A mark that is met under the lock is
 *    that of a run that was interrupted, and did nothing or left off between
 *    commits of its own.
 *  - Nothing of the session's settings counts: neither its timeouts nor its time
 *    zone, role, search_path or ways of transactions.
 *  - No job is begun once the budget is used, and no program waited for, save the
 *    one that delivers a mail, until leyser.mail_timeout.
 *
 * It commits, so it is in C and no SECURITY DEFINER procedure: the steps act as
 * the extension's owner instead.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "leyser.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "datatype/timestamp.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "mail.h"
#include "pgbackrest.h"
#include "step.h"

/* Beside launcher.c's, which has no number of a job. */
#define LOCK_NUMBER 0x6c7a

#define MAX_BUDGET USECS_PER_HOUR

/* The one that commits many times itself, as sql/schedule_job.sql names it. */
#define MAIL_JOB "send mail"

PG_FUNCTION_INFO_V1(leyser_tick);

typedef struct TickJob
{
	MemoryContext context; /* outlives the transactions */
	char *name;            /* NULL: none is due */
	int32 number;
	bool more; /* it has done a part only */
} TickJob;

/* ---- steps ---- */

/* One call with one argument; the result is in SPI_tuptable. */
static void
tick_query(const char *query, Oid type, Datum value)
{
	if (SPI_execute_with_args(query, 1, &type, &value, NULL, false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not do a step of a tick");
}

/* The job that a query found, (job, number), or none. */
static void
tick_read_job(TickJob *job)
{
	char *name = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	bool isnull;

	MemoryContextReset(job->context);
	job->name = name == NULL ? NULL : MemoryContextStrdup(job->context, name);
	job->number = DatumGetInt32(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
}

/* A step of a job that says yes or no. */
static bool
tick_step(const char *query, const TickJob *job)
{
	LeyserOwnerState owner;
	bool answer;
	bool isnull;

	leyser_step_begin(&owner);
	tick_query(query, TEXTOID, CStringGetTextDatum(job->name));
	answer = DatumGetBool(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	leyser_step_end(&owner);
	return answer;
}

static void
tick_first(TickJob *job, bool accept_clock)
{
	LeyserOwnerState owner;

	leyser_step_begin(&owner);
	tick_query("SELECT * FROM leyser.begin_tick($1)", BOOLOID,
			   BoolGetDatum(accept_clock));
	tick_read_job(job);
	leyser_step_end(&owner);
}

static void
tick_next(TickJob *job)
{
	LeyserOwnerState owner;

	leyser_step_begin(&owner);
	tick_query("SELECT * FROM leyser.next_job($1)", INT4OID, Int32GetDatum(job->number));
	tick_read_job(job);
	leyser_step_end(&owner);
}

/* ---- a job ---- */

static void
job_perform(TickJob *job, TimestampTz end)
{
	job->more = false;
	if (!tick_step("SELECT leyser.start_job($1)", job))
		return;
	if (strcmp(job->name, MAIL_JOB) == 0)
		leyser_mail_drain(end);
	job->more = tick_step("SELECT leyser.run_job($1)", job);
}

/* Runs a job unless another session does. */
static void
job_run(TickJob *job, TimestampTz end)
{
	LOCKTAG tag;

	job->more = false;
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, ExtensionRelationId, job->number,
						 LOCK_NUMBER);
	if (LockAcquire(&tag, ExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
		return;
	PG_TRY();
	{
		job_perform(job, end);
	}
	PG_FINALLY();
	{
		(void) LockRelease(&tag, ExclusiveLock, true);
	}
	PG_END_TRY();
}

/* ---- the call ---- */

/* Microseconds. */
static int64
tick_budget(FunctionCallInfo fcinfo)
{
	const Interval *budget;
	int64 span;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("arguments of leyser.tick() cannot be null"),
						errhint("Leave them out to get their defaults.")));
	budget = PG_GETARG_INTERVAL_P(0);
	span = budget->month != 0 || budget->day != 0 ? -1 : budget->time;
	if (span < 0 || span > MAX_BUDGET)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid time_budget"),
				 errdetail("It is 0 seconds to one hour."),
				 errhint("Leave it out to get 20 seconds.")));
	return span;
}

static void
tick_run(TimestampTz end, bool accept_clock)
{
	TickJob job = {.context = AllocSetContextCreate(PortalContext, "leyser tick",
													ALLOCSET_SMALL_SIZES)};

	tick_first(&job, accept_clock);
	while (job.name != NULL && GetCurrentTimestamp() < end)
	{
		CHECK_FOR_INTERRUPTS();
		job_run(&job, end);
		if (!job.more)
			tick_next(&job);
	}
	MemoryContextDelete(job.context);
}

/* pgBackRest, which a job asks, has no longer than the tick itself. */
static void
tick_run_until(TimestampTz end, bool accept_clock)
{
	leyser_pgbackrest_limit(end);
	PG_TRY();
	{
		tick_run(end, accept_clock);
	}
	PG_FINALLY();
	{
		leyser_pgbackrest_limit(0);
	}
	PG_END_TRY();
}

/* CALL tick(time_budget interval, accept_clock boolean) */
Datum
leyser_tick(PG_FUNCTION_ARGS)
{
	int64 budget;

	leyser_require_preloaded();
	budget = tick_budget(fcinfo);
	leyser_step_refuse_block(fcinfo, "tick");
	if (RecoveryInProgress())
	{
		ereport(NOTICE, (errmsg("this server is a standby: its jobs are the primary's")));
		PG_RETURN_VOID();
	}
	if (get_timeout_active(STATEMENT_TIMEOUT))
		disable_timeout(STATEMENT_TIMEOUT, false);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	/* the caller's transaction has a snapshot */
	SPI_commit();
	tick_run_until(GetCurrentTimestamp() + budget, PG_GETARG_BOOL(1));
	SPI_finish();
	PG_RETURN_VOID();
}
