/*
 * mail.c
 *		Delivers mail through leyser.mail_command.
 *
 * The program is sendmail or like it (msmtp, nullmailer, a script): its arguments
 * are -i -f SENDER -- RECIPIENT, the message comes on its standard input, and its
 * exit status says what became of it (sysexits.h).  The rules:
 *
 *  - No shell reads anything, and the program is the one that the server's
 *    configuration names.
 *  - A mail is claimed and that is committed; then the program runs, in a transaction
 *    without a snapshot, and what became of the mail is committed at once.  Whoever
 *    kills us in between leaves a claim that ends by itself.  Before such a mail is
 *    sent again, what is left of the program is ended.
 *  - A program that cannot be run, hangs or does not know what it is configured for
 *    ends the run, and so do some mails in a row that were put off: the server is
 *    away, and a thousand more tries would tell nothing else.
 *  - One mail at a time is in memory.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "mail.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "program.h"
#include "step.h"

#define TIMEOUT_DEFAULT 30000 /* milliseconds */
#define TIMEOUT_MAX 600000
#define DEFERRED_MAX 10 /* in a row, before the run ends */

typedef struct Mail
{
	char *claim; /* NULL: there is none */
	char *sender;
	char *recipient;
	char *message;
	bool is_doubtful; /* who tried it before was killed, maybe */
} Mail;

static char *mail_command = NULL;
static int mail_timeout = TIMEOUT_DEFAULT;

/* ---- the settings ---- */

static bool
command_check(char **value, void **extra, GucSource source)
{
	if (**value == '\0' || is_absolute_path(*value))
		return true;
	GUC_check_errdetail("It must be an absolute path.");
	return false;
}

void
leyser_mail_init(void)
{
	DefineCustomStringVariable(
		"leyser.mail_command", "The program that delivers mail, as sendmail does.",
		"It is called with -i -f SENDER -- RECIPIENT. A script may "
		"add arguments. Empty: an outside worker claims mails.",
		&mail_command, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, command_check, NULL, NULL);
	DefineCustomIntVariable(
		"leyser.mail_timeout", "How long leyser.mail_command may take for a mail.",
		"Then it is killed, and the mail is tried again later.", &mail_timeout,
		TIMEOUT_DEFAULT, 100, TIMEOUT_MAX, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

/* ---- steps ---- */

static char *
value_copy(MemoryContext context, int column)
{
	char *value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);

	return value == NULL ? NULL : MemoryContextStrdup(context, value);
}

static bool
value_is_true(int column)
{
	bool is_null;
	Datum value =
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &is_null);

	return !is_null && DatumGetBool(value);
}

/* Claims the mail that is due longest. */
static void
mail_claim(Mail *mail, MemoryContext context)
{
	LeyserOwnerState owner;

	leyser_step_begin(&owner);
	if (SPI_execute("SELECT * FROM leyser.claim_for_command()", false, 1) !=
			SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not claim a mail");
	mail->claim = value_copy(context, 1);
	mail->sender = value_copy(context, 2);
	mail->recipient = value_copy(context, 3);
	mail->message = value_copy(context, 4);
	mail->is_doubtful = value_is_true(5);
	leyser_step_end(&owner);
}

/* Whether the next mail is worth a try, too; counts those in a row that were put off. */
static bool
mail_record(const Mail *mail, int status, const char *errors, int *deferred)
{
	Oid types[] = {TEXTOID, INT4OID, TEXTOID};
	Datum values[] = {CStringGetTextDatum(mail->claim), Int32GetDatum(status),
					  CStringGetTextDatum(errors)};
	char *verdict;

	if (SPI_execute_with_args("SELECT leyser.record_command($1, $2, $3)", 3, types,
							  values, NULL, false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not record what became of a mail");
	verdict = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	*deferred = strcmp(verdict, "deferred") == 0 ? *deferred + 1 : 0;
	return strcmp(verdict, "stop") != 0 && *deferred < DEFERRED_MAX;
}

/* ---- a mail ---- */

/* The program's exit status; -1: it could not be run, or did not end in time. */
static int
command_run(const Mail *mail, StringInfo errors)
{
	const char *argv[] = {mail_command,    "-i", "-f", mail->sender, "--",
						  mail->recipient, NULL};
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile int status = -1;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		status = leyser_program_run(argv, mail_timeout, mail->message, NULL, errors);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		resetStringInfo(errors);
		appendStringInfo(errors, "%s%s%s", error->message, error->detail ? ". " : "",
						 error->detail ? error->detail : "");
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return status;
}

static bool
mail_send(const Mail *mail, int *deferred)
{
	LeyserOwnerState owner;
	StringInfoData errors;
	int status;
	bool go_on;

	leyser_step_begin(&owner);
	/* looking up the owner took one: it would keep VACUUM from its work meanwhile */
	InvalidateCatalogSnapshot();
	initStringInfo(&errors);
	if (mail->is_doubtful)
		(void) leyser_program_end_strays();
	status = command_run(mail, &errors);
	go_on = mail_record(mail, status, errors.data, deferred);
	leyser_step_end(&owner);
	return go_on;
}

void
leyser_mail_drain(TimestampTz until)
{
	MemoryContext context =
		AllocSetContextCreate(PortalContext, "leyser mail", ALLOCSET_DEFAULT_SIZES);
	Mail mail;
	int deferred = 0;

	/* a reload may have taken it away since the job was found to be due */
	while (mail_command[0] != '\0' && GetCurrentTimestamp() < until)
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(context);
		mail_claim(&mail, context);
		if (mail.claim == NULL || !mail_send(&mail, &deferred))
			break;
	}
	MemoryContextDelete(context);
}
