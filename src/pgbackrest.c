/*
 * pgbackrest.c
 *		Asks the installed pgBackRest for its catalogue.
 *
 * A catalogue can be long, and a repository far away.  So a worker of its own runs
 * the program, not the one that serves everybody, and sends through a queue what it
 * printed, or its error: the caller, who waits, raises that as it came.  What is
 * done with the catalogue is done in the caller's transaction.  The rules:
 *
 *  - The program is the one that the server's configuration names, never a caller's.
 *  - A caller that goes away ends the worker, which ends the program (program.c).
 *  - What the program writes to its standard error can hold secrets of a repository:
 *    it goes to the server log only.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "pgbackrest.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "libpq/pqformat.h"
#include "libpq/pqmq.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/proc.h"
#include "storage/shm_mq.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "program.h"
#include "worker.h"

#define QUEUE_BYTES 65536
#define PROGRAM_TIMEOUT 60000 /* milliseconds, at most */
#define PROGRAM_MINIMUM 1000  /* it has to start, too */
#define STANZA_MAX 64         /* bytes with the zero; backup_sync.sql checks it */
#define MESSAGE_CATALOGUE 'd' /* beside those of the protocol for errors */

/* What the worker is told, in its description. */
typedef struct PgbackrestRequest
{
	Oid database;
	int timeout;             /* milliseconds */
	char stanza[STANZA_MAX]; /* empty: all */
} PgbackrestRequest;

StaticAssertDecl(sizeof(PgbackrestRequest) <= BGW_EXTRALEN, "a request is too long");

static char *pgbackrest_command = NULL;
static TimestampTz pgbackrest_until = 0;

extern PGDLLEXPORT void leyser_pgbackrest_main(Datum arg);

PG_FUNCTION_INFO_V1(leyser_pgbackrest_info);

/* ---- the setting ---- */

static bool
command_check(char **value, void **extra, GucSource source)
{
	if (is_absolute_path(*value))
		return true;
	GUC_check_errdetail("It must be an absolute path.");
	return false;
}

void
leyser_pgbackrest_init(void)
{
	DefineCustomStringVariable("leyser.pgbackrest_command",
							   "The program that leyser.sync_pgbackrest() asks.",
							   "A script may name another configuration and pass its "
							   "arguments on.",
							   &pgbackrest_command, "/usr/bin/pgbackrest", PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY, command_check, NULL, NULL);
}

void
leyser_pgbackrest_limit(TimestampTz until)
{
	pgbackrest_until = until;
}

/* Milliseconds that the program may take from now on. */
static int
program_timeout(void)
{
	long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), pgbackrest_until);

	if (pgbackrest_until == 0)
		return PROGRAM_TIMEOUT;
	return (int) Max(PROGRAM_MINIMUM, Min(left, PROGRAM_TIMEOUT));
}

/* ---- the worker ---- */

static void
catalogue_print(const PgbackrestRequest *request, StringInfo output)
{
	const char *argv[] = {
		pgbackrest_command,
		"info",
		"--output=json",
		"--log-level-console=off",
		"--log-level-stderr=error",
		request->stanza[0] == '\0' ? NULL : psprintf("--stanza=%s", request->stanza),
		NULL};
	StringInfoData errors;
	int status;

	initStringInfo(&errors);
	status = leyser_program_run(argv, request->timeout, NULL, output, &errors);
	if (status != 0)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR), errmsg("pgBackRest failed"),
				 errdetail("It ended with status %d.", status),
				 errdetail_log("It ended with status %d: %s", status, errors.data),
				 errhint("The server log has its message; the user that runs the server "
						 "must be able to run \"pgbackrest info\".")));
}

/* From here on an error goes to the caller; false where there is none any longer. */
static bool
queue_join(dsm_handle handle)
{
	dsm_segment *segment = dsm_attach(handle);
	shm_mq *queue;

	if (segment == NULL)
		return false;
	queue = dsm_segment_address(segment);
	shm_mq_set_sender(queue, MyProc);
	pq_redirect_to_shm_mq(segment, shm_mq_attach(queue, segment, NULL));
	return true;
}

void
leyser_pgbackrest_main(Datum arg)
{
	PgbackrestRequest request;
	StringInfoData output;
	StringInfoData message;

	memcpy(&request, MyBgworkerEntry->bgw_extra, sizeof(request));
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	if (!queue_join(DatumGetUInt32(arg)))
		return;
	leyser_worker_fix_settings();
	BackgroundWorkerInitializeConnectionByOid(request.database, InvalidOid, 0);
	leyser_worker_fix_role();
	MemoryContextSwitchTo(TopMemoryContext);
	initStringInfo(&output);
	catalogue_print(&request, &output);
	pq_beginmessage(&message, MESSAGE_CATALOGUE);
	pq_sendbytes(&message, output.data, output.len);
	pq_endmessage(&message);
}

/* ---- the caller ---- */

static BackgroundWorkerHandle *
worker_start(const PgbackrestRequest *request, dsm_handle queue)
{
	BackgroundWorkerHandle *handle;
	BackgroundWorker worker = {.bgw_flags = BGWORKER_SHMEM_ACCESS |
											BGWORKER_BACKEND_DATABASE_CONNECTION,
							   .bgw_start_time = BgWorkerStart_RecoveryFinished,
							   .bgw_restart_time = BGW_NEVER_RESTART,
							   .bgw_main_arg = UInt32GetDatum(queue),
							   .bgw_notify_pid = MyProcPid};

	strlcpy(worker.bgw_library_name, "leyser", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "leyser_pgbackrest_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "leyser pgbackrest worker", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "leyser pgbackrest worker", BGW_MAXLEN);
	memcpy(worker.bgw_extra, request, sizeof(*request));
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
						errmsg("could not start a worker that runs pgBackRest"),
						errdetail("All background worker slots are in use."),
						errhint("Raise max_worker_processes.")));
	return handle;
}

/* What ends the worker is no reason to end this session. */
leyser_noreturn static void
error_throw(StringInfo message)
{
	ErrorData error;

	pq_parse_errornotice(message, &error);
	error.elevel = ERROR;
	ThrowErrorData(&error);
	pg_unreachable();
}

static text *
catalogue_receive(shm_mq_handle *queue)
{
	for (;;)
	{
		Size length;
		void *data;
		StringInfoData message;

		if (shm_mq_receive(queue, &length, &data, false) != SHM_MQ_SUCCESS)
			ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR),
							errmsg("the worker that runs pgBackRest ended"),
							errhint("See the server log.")));
		initStringInfo(&message);
		appendBinaryStringInfo(&message, data, (int) length);
		switch (pq_getmsgbyte(&message))
		{
			case 'E':
				error_throw(&message);
				break;
			case MESSAGE_CATALOGUE:
				return cstring_to_text(
					pg_any_to_server(message.data + 1, message.len - 1, PG_UTF8));
			default: /* a notice */
				break;
		}
		pfree(message.data);
	}
}

static text *
catalogue_ask(const PgbackrestRequest *request)
{
	dsm_segment *segment = dsm_create(QUEUE_BYTES, 0);
	shm_mq *mq = shm_mq_create(dsm_segment_address(segment), QUEUE_BYTES);
	BackgroundWorkerHandle *worker;
	shm_mq_handle *queue;
	text *catalogue;

	shm_mq_set_receiver(mq, MyProc);
	worker = worker_start(request, dsm_segment_handle(segment));
	queue = shm_mq_attach(mq, segment, worker);
	PG_TRY();
	{
		catalogue = catalogue_receive(queue);
	}
	PG_CATCH();
	{
		TerminateBackgroundWorker(worker);
		PG_RE_THROW();
	}
	PG_END_TRY();
	dsm_detach(segment);
	return catalogue;
}

/* pgbackrest_info(stanza text) → text */
Datum
leyser_pgbackrest_info(PG_FUNCTION_ARGS)
{
	PgbackrestRequest request = {.database = MyDatabaseId, .timeout = program_timeout()};
	char *stanza = PG_ARGISNULL(0) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(0));

	leyser_require_preloaded();
	PreventCommandDuringRecovery("leyser.sync_pgbackrest()");
	if (strlen(stanza) >= STANZA_MAX)
		elog(ERROR, "the name of a stanza is too long");
	strlcpy(request.stanza, stanza, STANZA_MAX);
	PG_RETURN_TEXT_P(catalogue_ask(&request));
}
