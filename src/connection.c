/*
 * connection.c
 *		A pooled connection is a shared room: what one tenant can leave behind
 *		for the next.
 *
 * A pooler hands one server connection to many clients in turn, all of them
 * under one role.  Whatever a client leaves in the session works on the next
 * client's statements, in the next tenant's context.  The rules here hold for
 * roles with usage "application" or "gateway", never for superusers.
 *
 * Refused always:
 *  - lasting temporary objects.  CREATE TEMP TABLE invoice by one tenant, and
 *    the next client's INSERT INTO invoice lands where the first one reads it,
 *    for the temporary schema is searched first.  ON COMMIT DROP is allowed.
 *  - PREPARE in SQL.  Names are shared with the protocol's own prepared
 *    statements: DEALLOCATE "x"; PREPARE "x" AS DELETE … makes another
 *    client's next Bind of "x" delete rows in its own context.
 *  - DECLARE … WITH HOLD: the next client FETCHes the former one's rows.
 *  - LISTEN: notices of one tenant's channel reach the next client.
 *  - EXPLAIN: statistics are of all tenants' rows, so estimates answer whether
 *    a value exists, character by character, and ANALYZE counts what it filters.
 *  - every DDL statement except on the session's own temporary tables: ALTER
 *    ROLE self SET … or PASSWORD reaches everybody, functions in pg_temp are
 *    called by the next client, GRANT and COMMENT are none of its business.
 *
 * Refused while a context is set: SET for the session.  SET LOCAL, RESET and
 * SET … TO DEFAULT (back to what the session began with), SET TRANSACTION and
 * leyser.token itself are allowed; RESET ALL, DISCARD and DEALLOCATE are too,
 * for poolers and drivers need them.
 *
 * set_config(…, false) and a SET before the token are not statements that can
 * be judged.  So each token looks at what it finds: a temporary schema that is
 * not empty, or settings that differ from the value with which the session
 * began and decide which rows a statement means:
 *  - search_path, role and row_security;
 *  - standard_conforming_strings, backslash_quote, transform_null_equals and
 *    array_nulls, which change how the text of a statement is read.
 * A setting counts when it differed before this transaction and still does: a
 * SET LOCAL of the same transaction is the same client's own (PostgREST begins
 * with SET LOCAL ROLE), and a RESET makes the connection clean at once.
 *
 * Left alone, because poolers and drivers set them for each client as they
 * take it over: client_encoding, DateStyle, IntervalStyle, TimeZone,
 * extra_float_digits, bytea_output, application_name, the defaults of
 * isolation and read-only transactions, timeouts.  Planner settings,
 * check_function_bodies, xmloption and custom settings do not decide whose
 * rows are met.  session_replication_role and leyser's own are for superusers.
 * session_authorization needs no look: only who logged in as a superuser can
 * change it.
 *
 * Out of reach: advisory locks of the session, lastval(), setseed(), and what
 * procedural languages keep between calls (plperl's %_SHARED).  They are told
 * among the caveats; application roles need no USAGE on such a language.
 *
 * Cost: a token pays for a comparison of seven settings, and for one index
 * probe of pg_depend where this backend ever had a temporary table.  Nothing
 * is kept from call to call but pointers to built-in settings, which live as
 * long as the server.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "connection.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/guc_tables.h"
#include "utils/lsyscache.h"

#include "cache.h"
#include "compat.h"
#include "relation.h"

typedef struct WatchedSetting
{
	const char *name;
	const char *sentence;
	struct config_generic *record; /* looked up once */
} WatchedSetting;

#define WATCHED(name)                                                                    \
	{                                                                                    \
		name, "The setting \"" name "\" is not what it was when the session began.",     \
			NULL                                                                         \
	}

static WatchedSetting watched[] = {
	WATCHED("search_path"),           WATCHED("row_security"),
	WATCHED("backslash_quote"),       WATCHED("standard_conforming_strings"),
	WATCHED("transform_null_equals"), WATCHED("array_nulls"),
};

/* Apart from the others: a superuser may SET ROLE to try things out. */
static WatchedSetting watched_role = WATCHED("role");

/* ---- what is left behind ---- */

static bool
connection_string_differs(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a != b : strcmp(a, b) != 0;
}

/* Whether one value of a setting, now or on its stack, is not its reset value. */
static bool
connection_value_differs(struct config_generic *record, const GucStack *saved)
{
	if (record->vartype == PGC_BOOL)
	{
		struct config_bool *conf = (struct config_bool *) record;

		return (saved ? saved->prior.val.boolval : *conf->variable) != conf->reset_val;
	}
	if (record->vartype == PGC_ENUM)
	{
		struct config_enum *conf = (struct config_enum *) record;

		return (saved ? saved->prior.val.enumval : *conf->variable) != conf->reset_val;
	}
	if (record->vartype == PGC_STRING)
	{
		struct config_string *conf = (struct config_string *) record;

		return connection_string_differs(
			saved ? saved->prior.val.stringval : *conf->variable, conf->reset_val);
	}
	return false;
}

/*
 * Whether a setting is not what the session began with, and was not so before
 * this transaction either.
 */
static bool
connection_setting_differs(WatchedSetting *setting)
{
	GucStack *oldest;

	if (!setting->record)
		setting->record = leyser_find_setting(setting->name);
	if (!setting->record || !connection_value_differs(setting->record, NULL))
		return false;
	for (oldest = setting->record->stack; oldest && oldest->prev; oldest = oldest->prev)
		;
	return connection_value_differs(setting->record, oldest);
}

/* Whether this backend's temporary schema holds anything at all. */
static bool
connection_has_temporary_objects(void)
{
	Oid namespace;
	Oid toast_namespace;

	GetTempNamespaceState(&namespace, &toast_namespace);
	return OidIsValid(namespace) && !leyser_relation_schema_is_empty(namespace);
}

const char *
leyser_connection_residue(void)
{
	bool session_restricted;

	if (!IsTransactionState())
		return NULL;
	session_restricted = leyser_cache_role_is_restricted(GetSessionUserId());
	if (!session_restricted && !leyser_cache_role_is_restricted(GetUserId()))
		return NULL;
	for (int i = 0; i < (int) lengthof(watched); i++)
	{
		if (connection_setting_differs(&watched[i]))
			return watched[i].sentence;
	}
	if (session_restricted && connection_setting_differs(&watched_role))
		return watched_role.sentence;
	if (connection_has_temporary_objects())
		return "The connection holds temporary objects.";
	return NULL;
}

/* ---- what may not be left behind ---- */

static void
connection_refuse(Node *statement, const char *detail, const char *hint)
{
	Oid role =
		leyser_cache_role_is_restricted(GetUserId()) ? GetUserId() : GetSessionUserId();

	ereport(ERROR, (errcode(LEYSER_ERRCODE_GUARD_REFUSED),
					errmsg("%s is refused for role \"%s\"", CreateCommandName(statement),
						   GetUserNameFromId(role, false)),
					errdetail("%s", detail), errhint("%s", hint)));
}

/* EXPLAIN ANALYZE CREATE TABLE … does create the table. */
Node *
leyser_connection_unwrap(Node *statement)
{
	Query *query;

	if (!IsA(statement, ExplainStmt))
		return statement;
	query = castNode(Query, ((ExplainStmt *) statement)->query);
	if (query->commandType != CMD_UTILITY)
		return statement;
	return query->utilityStmt;
}

static bool
connection_is_named_temporary(const RangeVar *name)
{
	return name->relpersistence == RELPERSISTENCE_TEMP ||
		   (name->schemaname && strncmp(name->schemaname, "pg_temp", 7) == 0);
}

/* A temporary object that would outlive the transaction. */
static bool
connection_lasts(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_CreateStmt:
			return connection_is_named_temporary(((CreateStmt *) statement)->relation) &&
				   ((CreateStmt *) statement)->oncommit != ONCOMMIT_DROP;
		case T_CreateTableAsStmt:
		{
			IntoClause *into = ((CreateTableAsStmt *) statement)->into;

			return connection_is_named_temporary(into->rel) &&
				   into->onCommit != ONCOMMIT_DROP;
		}
		case T_ViewStmt:
			return connection_is_named_temporary(((ViewStmt *) statement)->view);
		case T_CreateSeqStmt:
			return connection_is_named_temporary(((CreateSeqStmt *) statement)->sequence);
		default:
			return false;
	}
}

/*
 * Whether a name means a temporary table of this session.  Where it means
 * nothing at all the statement does nothing, or fails with its own error.
 */
static bool
connection_is_own_temporary(const RangeVar *name)
{
	Oid relation;

	if (!name)
		return false;
	relation = RangeVarGetRelid(name, NoLock, true);
	return !OidIsValid(relation) || isTempNamespace(get_rel_namespace(relation));
}

static bool
connection_drops_own_temporary(const DropStmt *statement)
{
	ListCell *cell;

	if (statement->removeType != OBJECT_TABLE && statement->removeType != OBJECT_INDEX)
		return false;
	foreach (cell, statement->objects)
	{
		if (!connection_is_own_temporary(makeRangeVarFromNameList(lfirst(cell))))
			return false;
	}
	return true;
}

/* DDL that touches nothing but the transaction's own temporary tables. */
static bool
connection_is_temporary_work(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_CreateStmt:
			return ((CreateStmt *) statement)->oncommit == ONCOMMIT_DROP;
		case T_CreateTableAsStmt:
			return ((CreateTableAsStmt *) statement)->into->onCommit == ONCOMMIT_DROP;
		case T_IndexStmt:
			return connection_is_own_temporary(((IndexStmt *) statement)->relation);
		case T_AlterTableStmt:
			return connection_is_own_temporary(((AlterTableStmt *) statement)->relation);
		case T_RenameStmt:
			return connection_is_own_temporary(((RenameStmt *) statement)->relation);
		case T_DropStmt:
			return connection_drops_own_temporary((DropStmt *) statement);
		default:
			return false;
	}
}

/* A SET that outlives the transaction and is not a way back. */
static bool
connection_is_session_set(const VariableSetStmt *statement)
{
	static const char *const allowed[] = {"leyser.token", "transaction_isolation",
										  "transaction_read_only",
										  "transaction_deferrable"};

	if (statement->is_local)
		return false;
	if (statement->kind == VAR_SET_MULTI)
		return strcmp(statement->name, "SESSION CHARACTERISTICS") == 0;
	if (statement->kind != VAR_SET_VALUE && statement->kind != VAR_SET_CURRENT)
		return false;
	for (int i = 0; i < (int) lengthof(allowed); i++)
	{
		if (pg_strcasecmp(statement->name, allowed[i]) == 0)
			return false;
	}
	return true;
}

static bool
connection_is_two_phase(const TransactionStmt *statement)
{
	return statement->kind == TRANS_STMT_PREPARE ||
		   statement->kind == TRANS_STMT_COMMIT_PREPARED ||
		   statement->kind == TRANS_STMT_ROLLBACK_PREPARED;
}

/* What needs a look at the role; everything else passes without a look-up. */
static bool
connection_is_ruled(Node *statement, bool is_ddl, bool context_is_set)
{
	switch (nodeTag(statement))
	{
		case T_ExplainStmt:
		case T_PrepareStmt:
		case T_ListenStmt:
			return true;
		case T_DeclareCursorStmt:
			return ((DeclareCursorStmt *) statement)->options & CURSOR_OPT_HOLD;
		case T_TransactionStmt:
			return connection_is_two_phase((TransactionStmt *) statement);
		case T_VariableSetStmt:
			return context_is_set &&
				   connection_is_session_set((VariableSetStmt *) statement);
		case T_ExecuteStmt:
			return false; /* what it executes comes by itself */
		default:
			return is_ddl;
	}
}

static void
connection_refuse_residue(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_ExplainStmt:
			connection_refuse(statement,
							  "Its estimates and counts tell other tenants' values.",
							  "Run it as the owner of the tables, in a context.");
			break;
		case T_PrepareStmt:
			connection_refuse(statement,
							  "Names of prepared statements are shared by all clients of "
							  "a connection.",
							  "Let the driver prepare it, or send it with parameters.");
			break;
		case T_ListenStmt:
			connection_refuse(statement,
							  "Notifications would reach the next client of the "
							  "connection.",
							  "Listen with a role and a connection of its own.");
			break;
		case T_DeclareCursorStmt:
			connection_refuse(statement,
							  "The next client of the connection could read a cursor "
							  "that outlives the transaction.",
							  "Declare it without WITH HOLD.");
			break;
		case T_TransactionStmt:
			connection_refuse(statement,
							  "It would keep its locks after its client is gone, also "
							  "against those who end the client's session; and all "
							  "clients of the role could end it.",
							  "Commit or roll back in the connection that did the work.");
			break;
		case T_VariableSetStmt:
			connection_refuse(statement,
							  "A setting of the session would hold for the next client "
							  "of the connection.",
							  "Use SET LOCAL.");
			break;
		default:
			if (connection_lasts(statement))
				connection_refuse(statement,
								  "A temporary object that outlives the transaction "
								  "would be used by the next client of the connection.",
								  "Use CREATE TEMPORARY TABLE … ON COMMIT DROP.");
	}
}

void
leyser_connection_check_statement(Node *statement, bool context_is_set)
{
	bool is_ddl = GetCommandLogLevel(statement) == LOGSTMT_DDL;
	bool current_restricted;

	if (is_ddl)
		statement = leyser_connection_unwrap(statement);
	if (!connection_is_ruled(statement, is_ddl, context_is_set))
		return;
	leyser_cache_catch_up();
	current_restricted = leyser_cache_role_is_restricted(GetUserId());
	if (!current_restricted && !leyser_cache_role_is_restricted(GetSessionUserId()))
		return;
	connection_refuse_residue(statement);
	/* also after SET ROLE to a role that owns something; not in definer functions */
	if (is_ddl && (current_restricted || !InLocalUserIdChange()) &&
		!connection_is_temporary_work(statement))
		connection_refuse(statement,
						  "Roles with usage \"application\" or \"gateway\" change no "
						  "objects except temporary tables that are dropped on commit.",
						  "Run it as the role that owns the objects.");
}
