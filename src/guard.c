/*
 * guard.c
 *		Statements that would open a table or leave something behind in a
 *		pooled connection.
 *
 * Two hooks, saved and chained.  The utility hook sees every utility statement,
 * also those of functions and of DO; the object hook sees TRUNCATE whatever
 * statement brings it.  What is refused (LY007) with leyser.guards on:
 *
 *  - what connection.c refuses to application and gateway roles;
 *  - DDL after which a protected table is less protected than before
 *    (protection.c), or without the extension that protects it;
 *  - ALTER TABLE on a protected table while a context is set: a new column
 *    with DEFAULT leyser.tenant_id() would stamp every tenant's rows as this
 *    tenant's;
 *  - a protected table that becomes the child of one that is not;
 *  - a foreign key added or validated by a role that row security binds:
 *    inside a context it would be marked validated with dangling rows of other
 *    tenants, without one the check fails;
 *  - a materialized view created or refreshed in a context: it would keep one
 *    tenant's rows for all who read it;
 *  - TRUNCATE of a protected table, except by superusers: row security does
 *    not filter it, so it removes every tenant's rows;
 *  - what makes an application or gateway role unfit for its usage (duty.c);
 *  - DDL on leyser's own objects (guard_own.c);
 *  - what takes audit()'s triggers from a table (audit_follow.c).
 *
 * TRUNCATE, and DDL that runs expressions over rows, are privileged access, too, which
 * is recorded or refused whatever leyser.guards says (privileged.c).
 *
 * The guards bind superusers too, save where said, but they can turn them off:
 * a restore has to.  What is lowered then is told in the server log.  Turning
 * them off does not stop this: after any DDL, tables that became partitions or
 * children of a governed or audited table follow it, and tables that are gone leave the
 * registry (leyser.follow_tables()).
 *
 * Utility statements also run where no catalogue can be read: in aborted
 * transactions, or without a database.  Those pass, and so do transaction
 * statements and all that is neither DDL nor ruled by connection.c, without a
 * look-up.  Scripts of extensions are judged as a whole, at the end of CREATE
 * or ALTER EXTENSION; parts of a statement (indexes of CREATE TABLE) with it.
 *
 * The state before a DDL statement lies in a memory context of its own under
 * TopMemoryContext, because some statements commit in between; it goes with
 * the statement, in error too.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "guard.h"

#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "alter.h"
#include "audit_follow.h"
#include "cache.h"
#include "connection.h"
#include "context.h"
#include "duty.h"
#include "event_month.h"
#include "follow.h"
#include "guard_own.h"
#include "observe.h"
#include "privileged.h"
#include "protection.h"
#include "undeclared.h"

#define UTILITY_PARAMS                                                                   \
	PlannedStmt *pstmt, const char *query_string, bool read_only_tree,                   \
		ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *env,      \
		DestReceiver *dest, QueryCompletion *completion
#define UTILITY_ARGS                                                                     \
	pstmt, query_string, read_only_tree, context, params, env, dest, completion

static bool guards = true;

/*
 * leyser's own functions that change tables and registry together have this in
 * their SET clauses.  Between their statements the two disagree, and comparing
 * after each would cost protect() the square of the number of partitions.  It
 * counts for superusers only: what a table's owner attached to it runs with the
 * owner's rights meanwhile (owner.c), under the guards.
 */
static bool registry_work = false;

static ProcessUtility_hook_type previous_utility = NULL;
static object_access_hook_type previous_object_access = NULL;

/* ---- before a statement ---- */

/* Refuses what was found, or tells the server log where the guards are off. */
static void
guard_tell(const LeyserFinding *finding)
{
	if (finding == NULL)
		return;
	if (!guards)
	{
		ereport(LOG_SERVER_ONLY,
				(errmsg("not refused, for leyser.guards is off: %s", finding->message),
				 errdetail("%s", finding->detail)));
		return;
	}
	ereport(ERROR, (errcode(LEYSER_ERRCODE_GUARD_REFUSED), errmsg("%s", finding->message),
					errdetail("%s", finding->detail), errhint("%s", finding->hint)));
}

/* It would keep one tenant's rows for all who read it. */
static void
guard_check_materialized_view(Node *statement)
{
	if (!leyser_context_is_set() ||
		(!IsA(statement, RefreshMatViewStmt) &&
		 !(IsA(statement, CreateTableAsStmt) &&
		   ((CreateTableAsStmt *) statement)->objtype == OBJECT_MATVIEW)))
		return;
	ereport(ERROR,
			(errcode(LEYSER_ERRCODE_GUARD_REFUSED),
			 errmsg("materialized view cannot be filled while a context is set"),
			 errdetail("It would keep one tenant's rows for everybody who reads it."),
			 errhint("Use a view with security_invoker.")));
}

static void
guard_check_before(Node *statement, const LeyserProtection *before)
{
	leyser_guard_own_check(statement);
	if (IsA(statement, AlterTableStmt))
		leyser_alter_check((AlterTableStmt *) statement);
	else if (leyser_guard_own_is_dropped(statement))
		guard_tell(leyser_protection_check_drop(before));
}

/* ---- after a statement ---- */

static void
guard_check_after(const LeyserProtection *before, bool foreign_keys)
{
	if (!OidIsValid(leyser_cache_extension()))
	{
		guard_tell(leyser_protection_check_drop(before));
		return;
	}
	guard_tell(
		leyser_protection_compare(before, leyser_protection_capture(foreign_keys)));
}

/* ---- the hooks ---- */

static void
guard_chain_utility(UTILITY_PARAMS)
{
	if (previous_utility)
		previous_utility(UTILITY_ARGS);
	else
		standard_ProcessUtility(UTILITY_ARGS);
}

/* What a DDL statement can do to governed tables. */
typedef enum GuardReach
{
	REACH_NOTHING,
	REACH_REGISTRY,   /* bring a child of a governed table */
	REACH_PROTECTION, /* weaken a protected table, or drop one */
} GuardReach;

/* Comparing costs a look at every protected table; most DDL needs none. */
static GuardReach
guard_reach(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_AlterFunctionStmt:
		case T_AlterRoleSetStmt:
		case T_AlterRoleStmt:
		case T_AlterSeqStmt:
		case T_CommentStmt:
		case T_CreateFunctionStmt:
		case T_CreateRoleStmt:
		case T_CreateSeqStmt:
		case T_CreateTableAsStmt:
		case T_GrantRoleStmt:
		case T_GrantStmt:
		case T_IndexStmt:
		case T_RefreshMatViewStmt:
		case T_SecLabelStmt:
		case T_ViewStmt:
			return REACH_NOTHING;
		case T_CreateStmt:
			return ((CreateStmt *) statement)->relation->relpersistence ==
						   RELPERSISTENCE_TEMP
					   ? REACH_NOTHING
					   : REACH_REGISTRY;
		case T_CreateSchemaStmt:
			return REACH_REGISTRY;
		default:
			return REACH_PROTECTION;
	}
}

/* What a DDL statement is compared with afterwards. */
typedef struct GuardState
{
	MemoryContext memory;
	GuardReach reach;
	bool foreign_keys; /* it may add a foreign key */
	bool drops_roles;
	bool drops_leyser;
	bool duties;                    /* it may change what roles may do */
	const LeyserProtection *tables; /* NULL: nothing is protected */
	List *audited;                  /* tables that may get a child */
	List *droppable;                /* audited tables that may be dropped */
	Datum roles;
} GuardState;

static void
guard_prepare(GuardState *state, Node *statement)
{
	MemoryContext caller = MemoryContextSwitchTo(state->memory);

	state->foreign_keys = leyser_alter_adds_foreign_key(statement);
	state->duties = leyser_duty_is_touched(statement);
	leyser_undeclared_look(statement);
	leyser_privileged_check_ddl(statement);
	state->reach = guard_reach(statement);
	state->drops_roles = IsA(statement, DropRoleStmt);
	state->drops_leyser = leyser_guard_own_is_dropped(statement);
	if (guards)
		guard_check_materialized_view(statement);
	if (guards && !registry_work)
		leyser_event_month_check(statement);
	if (!registry_work)
	{
		guard_tell(leyser_audit_check(statement));
		state->audited = leyser_audit_parents(statement);
		state->droppable = leyser_audit_droppable(statement);
	}
	if (state->reach == REACH_PROTECTION)
	{
		LeyserProtection *tables = leyser_protection_capture(state->foreign_keys);

		state->tables = leyser_protection_is_empty(tables) ? NULL : tables;
		if (state->tables && guards)
			guard_check_before(statement, tables);
	}
	if (state->drops_leyser)
		leyser_guard_own_leave_cron();
	if (state->duties)
		state->roles = leyser_duty_capture();
	MemoryContextSwitchTo(caller);
}

static void
guard_finish(const GuardState *state)
{
	MemoryContext caller;

	if (!IsTransactionState() || (state->reach == REACH_NOTHING && !state->duties))
		return;
	caller = MemoryContextSwitchTo(state->memory);
	CommandCounterIncrement();
	leyser_cache_catch_up();
	if (state->tables)
		guard_check_after(state->tables, state->foreign_keys);
	if (state->duties && OidIsValid(leyser_cache_extension()))
		guard_tell(leyser_duty_compare(state->roles));
	if (state->drops_leyser && guards)
		leyser_guard_own_drop_schema();
	if (state->reach != REACH_NOTHING && !registry_work)
		leyser_follow_tables(state->drops_roles);
	if (OidIsValid(leyser_cache_extension()))
	{
		leyser_audit_follow(state->audited);
		leyser_audit_note_dropped(state->droppable);
	}
	MemoryContextSwitchTo(caller);
}

static void
guard_run_ddl(UTILITY_PARAMS)
{
	GuardState state = {.memory = AllocSetContextCreate(TopMemoryContext, "leyser guard",
														ALLOCSET_SMALL_SIZES)};
	bool alters = IsA(pstmt->utilityStmt, AlterTableStmt);

	leyser_privileged_alters(alters, 1);
	PG_TRY();
	{
		guard_prepare(&state, leyser_connection_unwrap(pstmt->utilityStmt));
		guard_chain_utility(UTILITY_ARGS);
		guard_finish(&state);
	}
	PG_FINALLY();
	{
		leyser_privileged_alters(alters, -1);
		MemoryContextDelete(state.memory);
	}
	PG_END_TRY();
}

static bool
guard_is_installed(void)
{
	leyser_cache_catch_up();
	return OidIsValid(leyser_cache_extension());
}

static void
guard_utility(UTILITY_PARAMS)
{
	Node *statement = pstmt->utilityStmt;

	leyser_context_new_statement();
	if (context == PROCESS_UTILITY_SUBCOMMAND || creating_extension || IsBinaryUpgrade ||
		!IsTransactionState() || !OidIsValid(MyDatabaseId) ||
		(registry_work && superuser()))
	{
		guard_chain_utility(UTILITY_ARGS);
		return;
	}
	if (guards)
		leyser_connection_check_statement(statement, leyser_context_is_set());
	leyser_observe_utility(pstmt);
	if (GetCommandLogLevel(statement) == LOGSTMT_DDL && guard_is_installed())
		guard_run_ddl(UTILITY_ARGS);
	else
		guard_chain_utility(UTILITY_ARGS);
}

static void
guard_refuse_truncate(Oid relation)
{
	leyser_observe_truncate(relation);
	if (!leyser_is_protected(relation))
		return;
	ereport(ERROR,
			(errcode(LEYSER_ERRCODE_GUARD_REFUSED),
			 errmsg("protected table \"%s\" cannot be truncated", get_rel_name(relation)),
			 errdetail("TRUNCATE is not subject to row security and would remove every "
					   "tenant's rows."),
			 errhint("DELETE in a tenant's context; only superusers can truncate.")));
}

static void
guard_object_access(ObjectAccessType access, Oid class, Oid object, int subobject,
					void *arg)
{
	if (previous_object_access)
		previous_object_access(access, class, object, subobject, arg);
	if (access != OAT_TRUNCATE)
		return;
	if (guards && !superuser())
		guard_refuse_truncate(object);
	leyser_privileged_check_truncate(object);
}

bool
leyser_guards_are_on(void)
{
	return guards;
}

void
leyser_guard_init(void)
{
	DefineCustomBoolVariable(
		"leyser.guards",
		"Refuses statements that would weaken the separation of tenants.",
		"Turn it off for a restore, in that session only.  Tables that become "
		"partitions or children of protected tables are protected even so.",
		&guards, true, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable(
		"leyser.registry_work",
		"Set by leyser's own functions while they change tables and their registry.",
		"Nobody else has a use for it.", &registry_work, false, PGC_SUSET,
		GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE, NULL, NULL, NULL);
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = guard_utility;
	previous_object_access = object_access_hook;
	object_access_hook = guard_object_access;
}
