/*
 * attack_client.c
 *		Trying to reach another tenant's rows as a role would: the worker.
 *
 * The worker is a client without a connection: each step is one message of the simple
 * protocol, so BEGIN, COMMIT and savepoints, utility statements and errors within a
 * transaction do what they do for a client, under the same hooks.  The rules:
 *
 *  - The session is the role's: its rights, its settings.  Only search_path and the
 *    timeouts are ours, as if the session had begun with them.
 *  - COPY reads from and writes to the standard streams, as it does in a server without
 *    a client; they lead to the step "input" and to nowhere.
 *  - The transaction that is open at the end is rolled back.  What a session leaves
 *    (temporary tables, cursors, settings) goes with the worker.  So a script commits
 *    nothing else.
 *  - An error is remembered by its SQLSTATE and the C function that raised it, never
 *    by its message, which may hold values of rows.  Nothing goes to the server log.
 *
 * Steps, each a word and what follows it:
 *
 *    prepare  must work, or the attempt cannot be made
 *    need     the same, and gives a count that is not 0
 *    try      may fail: that is remembered
 *    value    a hole where it gives a count that is not 0, or true
 *    rows     a hole where it reads or changes a row, or only a constraint stops it
 *    done     a hole where it works
 *    leak     as value; also where it fails for a value that it met
 *    input    what the next COPY reads
 *    startup  name=value, as a connection's start-up packet gives it
 *    keep     a statement that a driver prepares and executes; again: executes it again,
 *             which is a value
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "attack.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "parser/analyze.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "compat.h"
#include "errand.h"

#define LOCK_TIMEOUT "1s"
#define STEP_TIMEOUT 10000 /* milliseconds */

extern PGDLLEXPORT void leyser_attack_main(Datum arg);

/* What a step gave. */
typedef struct StepResult
{
	int sqlstate; /* 0: it worked */
	const char *routine;
	int64 rows;
	int64 value; /* first column of the first row */
} StepResult;

/* The rows of a query: counted, and of the first one a number or a boolean is kept. */
typedef struct CountReceiver
{
	DestReceiver pub;
	StepResult *result;
	int64 seen;
} CountReceiver;

static SPIPlanPtr kept_plan = NULL;

/* ---- running a statement ---- */

static bool
count_row(TupleTableSlot *slot, DestReceiver *self)
{
	CountReceiver *receiver = (CountReceiver *) self;
	Form_pg_attribute column;
	Datum value;
	bool isnull;

	if (receiver->seen++ > 0 || slot->tts_tupleDescriptor->natts == 0)
		return true;
	column = TupleDescAttr(slot->tts_tupleDescriptor, 0);
	value = slot_getattr(slot, 1, &isnull);
	if (!isnull && column->atttypid == INT8OID)
		receiver->result->value = DatumGetInt64(value);
	else if (!isnull && column->atttypid == BOOLOID)
		receiver->result->value = DatumGetBool(value);
	return true;
}

static void
count_startup(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
count_end(DestReceiver *self)
{
}

static List *
client_plan(RawStmt *raw, const char *sql)
{
	bool snapshot = analyze_requires_snapshot(raw);
	List *plans;

	if (snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	plans = pg_plan_queries(pg_analyze_and_rewrite_fixedparams(raw, sql, NULL, 0, NULL),
							sql, CURSOR_OPT_PARALLEL_OK, NULL);
	if (snapshot)
		PopActiveSnapshot();
	return plans;
}

/* What is let through in a transaction that has failed. */
static bool
client_ends_transaction(Node *statement)
{
	TransactionStmtKind kind;

	if (!IsA(statement, TransactionStmt))
		return false;
	kind = ((TransactionStmt *) statement)->kind;
	return kind == TRANS_STMT_COMMIT || kind == TRANS_STMT_ROLLBACK ||
		   kind == TRANS_STMT_ROLLBACK_TO;
}

static void
client_execute(RawStmt *raw, const char *sql, StepResult *result)
{
	CountReceiver receiver = {.pub = {.receiveSlot = count_row,
									  .rStartup = count_startup,
									  .rShutdown = count_end,
									  .rDestroy = count_end,
									  .mydest = DestNone},
							  .result = result};
	QueryCompletion completion;
	Portal portal;
	List *plans;

	if (IsAbortedTransactionBlockState() && !client_ends_transaction(raw->stmt))
		ereport(ERROR, (errcode(ERRCODE_IN_FAILED_SQL_TRANSACTION),
						errmsg("current transaction is aborted")));
	plans = client_plan(raw, sql);
	portal = CreatePortal("", true, true);
	portal->visible = false;
	PortalDefineQuery(portal, NULL, sql, CreateCommandTag(raw->stmt), plans, NULL);
	PortalStart(portal, NULL, 0, InvalidSnapshot);
	InitializeQueryCompletion(&completion);
	leyser_portal_run(portal, &receiver.pub, &completion);
	PortalDrop(portal, false);
	result->rows = completion.nprocessed;
}

/* What a driver prepares outlives its transaction, and is planned again where needed. */
static void
client_keep(const char *sql, StepResult *result)
{
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (sql != NULL)
	{
		kept_plan = SPI_prepare(sql, 0, NULL);
		SPI_keepplan(kept_plan);
	}
	if (kept_plan == NULL ||
		SPI_execute_plan(kept_plan, NULL, NULL, false, 0) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "a kept statement does not give one value");
	result->value =
		strtoll(SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1), NULL, 10);
	PopActiveSnapshot();
	SPI_finish();
}

static void
client_startup(char *setting)
{
	char *value = strchr(setting, '=');

	*value++ = '\0';
	(void) set_config_option(setting, value, PGC_USERSET, PGC_S_CLIENT, GUC_ACTION_SET,
							 true, ERROR, false);
}

static void
client_send(const char *word, char *sql, StepResult *result)
{
	List *statements;

	SetCurrentStatementStartTimestamp();
	if (strcmp(word, "startup") == 0)
	{
		client_startup(sql);
		return;
	}
	enable_timeout_after(STATEMENT_TIMEOUT, STEP_TIMEOUT);
	StartTransactionCommand();
	MemoryContextSwitchTo(MessageContext);
	if (strcmp(word, "keep") == 0 || strcmp(word, "again") == 0)
		client_keep(word[0] == 'k' ? sql : NULL, result);
	else
	{
		statements = pg_parse_query(sql);
		if (list_length(statements) != 1)
			elog(ERROR, "a step is not one statement");
		client_execute(linitial_node(RawStmt, statements), sql, result);
	}
	CommitTransactionCommand();
	disable_timeout(STATEMENT_TIMEOUT, false);
}

/* The standard input becomes a pipe that holds this line. */
static void
client_input(const char *line)
{
	int ends[2];

	if (pipe(ends) != 0 || write(ends[1], line, strlen(line)) != (ssize_t) strlen(line) ||
		write(ends[1], "\n", 1) != 1 || dup2(ends[0], fileno(stdin)) < 0)
		elog(ERROR, "could not make a pipe: %m");
	close(ends[0]);
	close(ends[1]);
	clearerr(stdin);
}

static void
client_step(const char *word, char *sql, StepResult *result)
{
	memset(result, 0, sizeof(StepResult));
	MemoryContextReset(MessageContext);
	MemoryContextSwitchTo(MessageContext);
	PG_TRY();
	{
		if (strcmp(word, "input") == 0)
			client_input(sql);
		else
			client_send(word, sql, result);
	}
	PG_CATCH();
	{
		ErrorData *error;

		HOLD_INTERRUPTS();
		disable_all_timeouts(false);
		QueryCancelPending = false;
		MemoryContextSwitchTo(MessageContext);
		error = CopyErrorData();
		AbortCurrentTransaction();
		PortalErrorCleanup();
		FlushErrorState();
		result->sqlstate = error->sqlerrcode;
		result->routine = error->funcname;
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(MessageContext);
}

/* ---- judging it ---- */

/* Whether row security had let a row through when a constraint stopped it. */
static bool
is_stopped_by_constraint(const StepResult *result)
{
	static const char *const routines[] = {
		"ExecConstraints", "_bt_check_unique", "ri_ReportViolation",
		"check_exclusion_or_unique_constraint", "ExecPartitionCheckEmitError"};

	if (ERRCODE_TO_CATEGORY(result->sqlstate) != ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION ||
		result->routine == NULL)
		return false;
	for (int i = 0; i < (int) lengthof(routines); i++)
	{
		if (strcmp(result->routine, routines[i]) == 0)
			return true;
	}
	return false;
}

static bool
step_is_hole(const char *word, const StepResult *result)
{
	bool ok = result->sqlstate == 0;

	if (strcmp(word, "done") == 0)
		return ok;
	if (strcmp(word, "rows") == 0)
		return ok ? result->rows > 0 : is_stopped_by_constraint(result);
	if (strcmp(word, "leak") == 0)
		return ok ? result->value > 0
				  : ERRCODE_TO_CATEGORY(result->sqlstate) == ERRCODE_DATA_EXCEPTION;
	if (strcmp(word, "value") == 0 || strcmp(word, "again") == 0)
		return ok && result->value > 0;
	return false;
}

static bool
step_is_missing(const char *word, const StepResult *result)
{
	if (strcmp(word, "need") == 0)
		return result->sqlstate != 0 || result->value == 0;
	return strcmp(word, "prepare") == 0 && result->sqlstate != 0;
}

/* The first error counts; those that follow from it do not. */
static void
attack_note_error(Attack *attack, int step, const StepResult *result)
{
	if (result->sqlstate == 0 || attack->sqlstate != 0)
		return;
	attack->step = step;
	attack->sqlstate = result->sqlstate;
	strlcpy(attack->routine, result->routine ? result->routine : "",
			sizeof(attack->routine));
}

static void
attack_run(Attack *attack)
{
	char *place = attack->text;

	for (int step = 1; step <= attack->count; step++)
	{
		char *copy = MemoryContextStrdup(TopMemoryContext, place);
		char *sql = strchr(copy, ' ');
		StepResult result;

		place += strlen(place) + 1;
		*sql++ = '\0';
		client_step(copy, sql, &result);
		attack_note_error(attack, step, &result);
		if (step_is_hole(copy, &result))
		{
			/* errors before it did not stop it */
			attack->sqlstate = 0;
			attack->routine[0] = '\0';
			attack_note_error(attack, step, &result);
			attack->step = step;
			attack->value = Max(result.value, result.rows);
			attack->outcome = ATTACK_HOLE;
			return;
		}
		if (step_is_missing(copy, &result))
		{
			attack->step = step;
			attack->outcome = ATTACK_UNREADY;
			return;
		}
	}
	attack->outcome = ATTACK_HELD;
}

/* ---- the worker ---- */

static void
client_open_streams(void)
{
	int nowhere = open("/dev/null", O_RDWR);

	if (nowhere < 0 || dup2(nowhere, fileno(stdin)) < 0 ||
		dup2(nowhere, fileno(stdout)) < 0)
		elog(ERROR, "could not open \"/dev/null\": %m");
	close(nowhere);
}

void
leyser_attack_main(Datum arg)
{
	Attack *attack = leyser_errand_attach(arg);

	if (attack == NULL)
		return; /* nobody waits any longer */
	SetConfigOption("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("statement_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("search_path", "pg_catalog", PGC_SUSET, PGC_S_OVERRIDE);
	BackgroundWorkerInitializeConnectionByOid(attack->database, attack->role, 0);
	MessageContext =
		AllocSetContextCreate(TopMemoryContext, "MessageContext", ALLOCSET_DEFAULT_SIZES);
	client_open_streams();
	pgstat_report_activity(STATE_RUNNING, "leyser: an attack on the tenants' separation");
	attack_run(attack);
	AbortOutOfAnyTransaction();
	pgstat_report_activity(STATE_IDLE, NULL);
}
