/*
 * password_log.c
 *		Keeping passwords out of the server log.
 *
 * The server log holds the text of statements that fail, and of others where it
 * was told to, with a password in it or among the parameters.  So whatever calls a
 * function that takes a password is left out there: statements and those that they
 * run in turn (the context of an error, auto_explain's plans), a prepared one
 * behind its EXECUTE, and those of other processes (one that was killed, a
 * deadlock).
 *
 * Calls are found by the function's name in the text.  The hook runs while errors
 * are handled, so it may look up nothing in the catalogues.
 *
 * The client gets an error as it was raised, with one exception: there is no other
 * message for the log, so what it quotes of a statement is lost in both.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "password.h"

#include <ctype.h>

#include "commands/prepare.h"
#include "mb/pg_wchar.h"
#include "tcop/tcopprot.h"
#include "utils/elog.h"

#define BLANKS " \t\r\n\f"

static emit_log_hook_type prev_emit_log = NULL;

/* ---- what has a password ---- */

/* Whether a name in a text, perhaps quoted, is followed by arguments. */
static bool
text_calls(const char *text, const char *function)
{
	const char *found = text;

	while ((found = strcasestr(found, function)) != NULL)
	{
		found += strlen(function);
		if (found[strspn(found, "\"" BLANKS)] == '(')
			return true;
	}
	return false;
}

static bool
text_has_password(const char *text)
{
	return text != NULL &&
		   (text_calls(text, "login") || text_calls(text, "accept_invitation") ||
			text_calls(text, "change_password") || text_calls(text, "import_account"));
}

/*
 * Reads the name that follows at a place in a statement, as the server's scanner
 * would, into NAMEDATALEN bytes.  Returns what comes after it.
 */
static const char *
read_name(const char *at, char *name)
{
	bool quoted;
	int len = 0;

	at += strspn(at, BLANKS);
	quoted = *at == '"';
	for (at += quoted; *at != '\0'; at++)
	{
		if (quoted && *at == '"' && *++at != '"')
			break;
		if (!quoted && !isalnum((unsigned char) *at) && !IS_HIGHBIT_SET(*at) &&
			strchr("_$", *at) == NULL)
			break;
		if (len < NAMEDATALEN - 1)
			name[len++] = quoted ? *at : pg_tolower((unsigned char) *at);
	}
	name[pg_mbcliplen(name, len, NAMEDATALEN - 1)] = '\0';
	return at + strspn(at, BLANKS);
}

/*
 * Whether a statement executes a prepared one that has a password.  One that is
 * not there (on another connection of a pool, say) may have had one.
 */
static bool
statement_executes_password(const char *statement)
{
	const char *begin = statement + strspn(statement, BLANKS);
	const char *found = statement;

	while ((found = strcasestr(found, "execute")) != NULL)
	{
		char name[NAMEDATALEN];
		const char *rest = read_name(found + strlen("execute"), name);
		PreparedStatement *prepared = FetchPreparedStatement(name, false);

		if (prepared ? text_has_password(prepared->plansource->query_string)
					 : found == begin && *rest == '(')
			return true;
		found += strlen("execute");
	}
	return false;
}

static bool
statement_has_password(const char *statement)
{
	return statement != NULL &&
		   (text_has_password(statement) || statement_executes_password(statement));
}

/* ---- what is left out ---- */

static bool
is_log_line(const ErrorData *edata)
{
	return edata->elevel <= LOG_SERVER_ONLY;
}

/* Messages of these kinds quote what was sent. */
static bool
quotes_input(const ErrorData *edata)
{
	return edata->elevel >= ERROR && strchr(edata->message, '"') != NULL &&
		   (edata->sqlerrcode == ERRCODE_SYNTAX_ERROR ||
			ERRCODE_TO_CATEGORY(edata->sqlerrcode) == ERRCODE_DATA_EXCEPTION);
}

/* Lines about statements end where these begin; a plan is on lines of its own. */
static void
hide_text_of_log_line(ErrorData *edata)
{
	char *text = debug_query_string ? strstr(edata->message, debug_query_string) : NULL;

	if (text == NULL)
		text = edata->message + strcspn(edata->message, "\n");
	*text = '\0';
}

static void
hide_detail(ErrorData *edata)
{
	if (edata->detail_log != NULL)
		pfree(edata->detail_log);
	edata->detail_log = NULL;
	if (edata->detail == NULL)
		return;
	if (is_log_line(edata))
	{
		pfree(edata->detail);
		edata->detail = NULL;
	}
	else
		edata->detail_log = pstrdup("(left out: it may tell a password)");
}

static void
hide_quotes(ErrorData *edata)
{
	edata->message =
		psprintf("%.*s\"...\"", (int) strcspn(edata->message, "\""), edata->message);
}

static void
hide_statement(ErrorData *edata)
{
	edata->hide_stmt = true;
	edata->hide_ctx = true;
	edata->internalquery = NULL;
	edata->internalpos = 0;
	if (is_log_line(edata))
		hide_text_of_log_line(edata);
	if (is_log_line(edata) || quotes_input(edata))
		hide_detail(edata);
	if (quotes_input(edata))
		hide_quotes(edata);
}

static void
password_emit_log(ErrorData *edata)
{
	if (edata->output_to_server && edata->message != NULL)
	{
		if (statement_has_password(debug_query_string) ||
			text_has_password(edata->context) || text_has_password(edata->internalquery))
			hide_statement(edata);
		if (text_has_password(edata->detail) || text_has_password(edata->detail_log))
			hide_detail(edata);
	}
	if (prev_emit_log)
		prev_emit_log(edata);
}

void
leyser_password_log_init(void)
{
	prev_emit_log = emit_log_hook;
	emit_log_hook = password_emit_log;
}
