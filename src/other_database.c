/*
 * other_database.c
 *		A query in another database of the cluster.
 *
 * A backend is in one database for good, and pg_cron's tables are in one of the
 * cluster.  So a background worker that is connected there, as superuser, runs the
 * query, and commits it; what becomes of the caller's transaction is not its
 * business.  The rules:
 *
 *  - Query, argument and answer lie in a segment of dynamic shared memory that both
 *    hold; the worker ends once it has answered (errand.c).
 *  - The SQL is ours, never somebody's; what is given goes as an argument.
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
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/snapmgr.h"

#include "errand.h"
#include "worker.h"

#define ANSWER_MAX 8192 /* bytes of a result or message, with the zero */

PG_FUNCTION_INFO_V1(leyser_run_in_database);

extern PGDLLEXPORT void leyser_other_database_main(Datum arg);

typedef enum AskState
{
	ASK_NO_ANSWER,
	ASK_ANSWERED,
	ASK_FAILED
} AskState;

typedef struct Ask
{
	NameData database;
	AskState state;
	int sqlstate;                     /* of ASK_FAILED */
	bool isnull;                      /* the result */
	char answer[ANSWER_MAX];          /* the result or the message */
	Size argument;                    /* where it begins in text */
	char text[FLEXIBLE_ARRAY_MEMBER]; /* the query, the argument */
} Ask;

/* ---- the worker ---- */

static void
ask_run(Ask *ask)
{
	Oid type = JSONBOID;
	Datum value =
		DirectFunctionCall1(jsonb_in, CStringGetDatum(ask->text + ask->argument));
	char *result;

	if (SPI_execute_with_args(ask->text, 1, &type, &value, NULL, false, 1) !=
			SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "a query does not give one value");
	result = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (result != NULL && strlen(result) >= ANSWER_MAX)
		elog(ERROR, "an answer is too long");
	ask->isnull = result == NULL;
	strlcpy(ask->answer, result ? result : "", ANSWER_MAX);
}

static void
ask_answer(Ask *ask)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		StartTransactionCommand();
		SPI_connect();
		PushActiveSnapshot(GetTransactionSnapshot());
		ask_run(ask);
		SPI_finish();
		PopActiveSnapshot();
		CommitTransactionCommand();
		ask->state = ASK_ANSWERED;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		ask->sqlstate = error->sqlerrcode;
		strlcpy(ask->answer, error->message, ANSWER_MAX);
		ask->state = ASK_FAILED;
	}
	PG_END_TRY();
}

void
leyser_other_database_main(Datum arg)
{
	Ask *ask = leyser_errand_attach(arg);

	if (ask == NULL)
		return; /* nobody waits any longer */
	leyser_worker_fix_settings();
	BackgroundWorkerInitializeConnection(NameStr(ask->database), NULL, 0);
	leyser_worker_fix_role();
	pgstat_report_activity(STATE_RUNNING, "leyser: a query for another database");
	ask_answer(ask);
}

/* ---- the caller ---- */

static dsm_segment *
ask_make(Name database, const char *query, const char *argument)
{
	Size query_size = strlen(query) + 1;
	Size argument_size = strlen(argument) + 1;
	dsm_segment *segment =
		dsm_create(add_size(offsetof(Ask, text), add_size(query_size, argument_size)), 0);
	Ask *ask = dsm_segment_address(segment);

	memset(ask, 0, offsetof(Ask, text));
	ask->database = *database;
	ask->argument = query_size;
	memcpy(ask->text, query, query_size);
	memcpy(ask->text + query_size, argument, argument_size);
	return segment;
}

static void
ask_check(const Ask *ask)
{
	if (ask->state == ASK_NO_ANSWER)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_EXCEPTION),
				 errmsg("could not work in database \"%s\"", NameStr(ask->database)),
				 errdetail("The worker that was started ended without an answer."),
				 errhint("The server log says why.")));
	if (ask->state == ASK_FAILED)
		ereport(ERROR,
				(errcode(ask->sqlstate), errmsg("%s", ask->answer),
				 errdetail("This was in database \"%s\".", NameStr(ask->database))));
}

/* run_in_database(database name, query text, arguments jsonb) → text */
Datum
leyser_run_in_database(PG_FUNCTION_ARGS)
{
	char *argument = JsonbToCString(NULL, &PG_GETARG_JSONB_P(2)->root, 0);
	dsm_segment *segment;
	Ask *ask;
	text *answer;

	leyser_require_preloaded();
	PreventCommandDuringRecovery("work in another database");
	segment =
		ask_make(PG_GETARG_NAME(0), text_to_cstring(PG_GETARG_TEXT_PP(1)), argument);
	ask = dsm_segment_address(segment);
	leyser_errand_run("leyser_other_database_main", "leyser worker in another database",
					  segment);
	ask_check(ask);
	answer = ask->isnull ? NULL : cstring_to_text(ask->answer);
	dsm_detach(segment);
	if (answer == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(answer);
}
