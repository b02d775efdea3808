/*
 * privileged.c
 *		Access to protected tables by whom row security does not bind.
 *
 * Superusers, roles with BYPASSRLS and owners without FORCE see every tenant's rows:
 * by themselves, by SET ROLE, by the views and SECURITY DEFINER functions that they
 * own.  Nothing in the database can stop a superuser who wants to harm it; but who
 * looks is recorded, or refused (leyser.privileged_access).  The rules:
 *
 *  - The hook for permissions is asked once when a statement begins to be executed,
 *    and by COPY, with the tables that the statement names and the role whose rights
 *    count for each.  It comes after the server's own look: what is denied is no access.
 *  - A statement counts once for each table and role.  Not counted: EXPLAIN without
 *    ANALYZE, which reads no row; a parallel worker's share, which its leader counts, but
 *    not what functions run there; the server's and leyser's own work
 *    (privileged_own.c).
 *  - Who reads a table's TOAST by its own name reads that table: no policy is there.
 *  - A cursor counts when it is opened, a prepared statement each time it is executed, a
 *    function's statements each by itself.
 *  - TRUNCATE and DDL that runs expressions over rows pass by that hook: they come from
 *    the guard (guard.c, privileged_ddl.c).
 *
 * Every other statement pays for a look into a small table of this backend: which
 * role is bound on which relation, or does not matter there.  It is emptied by
 * messages about the relation, about roles and their memberships.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "privileged.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "alter.h"
#include "cache.h"
#include "cache_relation.h"
#include "compat.h"

typedef enum PrivilegedAccess
{
	ACCESS_OFF,
	ACCESS_RECORD,
	ACCESS_REFUSE
} PrivilegedAccess;

static const struct config_enum_entry access_options[] = {
	{"off", ACCESS_OFF, false},
	{"record", ACCESS_RECORD, false},
	{"refuse", ACCESS_REFUSE, false},
	{NULL, 0, false}};

static int privileged_access = ACCESS_RECORD;

/* What the executor begins: the hook for permissions is not told. */
static struct
{
	const List *permissions;
	int eflags;
	CmdType command;
	int64 query_id;
	const char *text;
	bool is_leaders; /* a parallel worker's share of it */
} starting;

/* Roles that are bound on a relation, or relations that are not protected. */
#define BOUND_SIZE 256

typedef struct BoundEntry
{
	Oid relation;
	Oid role;
} BoundEntry;

static BoundEntry bound[BOUND_SIZE];
static uint64 bound_changes = 0; /* messages, which may come in while one looks */

static ExecutorStart_hook_type prev_executor_start = NULL;
static ExecutorCheckPerms_hook_type prev_check_perms = NULL;

bool
leyser_privileged_is_watched(void)
{
	return privileged_access != ACCESS_OFF;
}

/* ---- who is bound ---- */

static inline BoundEntry *
bound_place(Oid relation, Oid role)
{
	return &bound[(relation * 31 + role) % BOUND_SIZE];
}

static void
bound_forget(void)
{
	bound_changes++;
	memset(bound, 0, sizeof(bound));
}

static void
bound_relation_changed(Datum arg, Oid relation)
{
	if (!OidIsValid(relation) || relation == leyser_cache_relations[PROXY_TABLES])
	{
		bound_forget();
		return;
	}
	bound_changes++;
	for (int i = 0; i < BOUND_SIZE; i++)
	{
		if (bound[i].relation == relation)
			bound[i].relation = InvalidOid;
	}
}

static void
bound_role_changed(Datum arg, int cache, uint32 hash)
{
	bound_forget();
}

const char *
leyser_privileged_bypass(Oid relation, Oid role)
{
	if (!leyser_is_protected(relation))
		return NULL;
	if (superuser_arg(role))
		return "superuser";
	if (has_bypassrls_privilege(role))
		return "bypassrls";
	/* where row security is off altogether nobody is bound: that is another matter */
	return check_enable_rls(relation, role, true) == RLS_NONE_ENV ? "owner" : NULL;
}

/* The table whose long values a relation holds; InvalidOid where it holds none. */
static Oid
privileged_toasted(Oid relation)
{
	Relation depend;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;
	Oid table = InvalidOid;

	if (get_rel_relkind(relation) != RELKIND_TOASTVALUE)
		return InvalidOid;
	depend = table_open(DependRelationId, AccessShareLock);
	ScanKeyInit(&keys[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relation));
	scan = systable_beginscan(depend, DependDependerIndexId, true, NULL, 2, keys);
	while (!OidIsValid(table) && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		const FormData_pg_depend *found = (Form_pg_depend) GETSTRUCT(tuple);

		if (found->deptype == DEPENDENCY_INTERNAL &&
			found->refclassid == RelationRelationId)
			table = found->refobjid;
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return table;
}

/* No policy is on a TOAST table: whoever may read it sees every tenant's values. */
static const char *
privileged_bypass_toast(Oid *relation, Oid role)
{
	Oid table = privileged_toasted(*relation);
	const char *bypass;

	if (!OidIsValid(table) || !leyser_is_protected(table))
		return NULL;
	*relation = table;
	bypass = leyser_privileged_bypass(table, role);
	return bypass ? bypass : "toast";
}

/* The same for what a statement names, remembered where nothing is to be done. */
static const char *
privileged_look(Oid *named, Oid role)
{
	Oid relation = *named;
	BoundEntry *place = bound_place(relation, role);
	uint64 changes = bound_changes;
	const char *bypass;

	if (place->relation == relation && place->role == role && !InNoForceRLSOperation())
		return NULL;
	bypass = leyser_privileged_bypass(relation, role);
	if (bypass == NULL)
		bypass = privileged_bypass_toast(named, role);
	if (bypass == NULL && !InNoForceRLSOperation() && changes == bound_changes)
		*place = (BoundEntry){relation, role};
	return bypass;
}

/* ---- refusing and recording ---- */

static void
privileged_refuse(Oid relation, Oid role, const char *command, const char *bypass)
{
	ereport(ERROR,
			(errcode(LEYSER_ERRCODE_GUARD_REFUSED),
			 errmsg("privileged access to protected table \"%s\" is refused",
					get_rel_name(relation)),
			 errdetail("%s by role \"%s\", whom row security does not bind here: %s.",
					   command, GetUserNameFromId(role, false), bypass),
			 errhint("A superuser can open a window that is recorded: SELECT "
					 "leyser.open_privileged_access(%s, 'what for', '1 hour');",
					 quote_literal_cstr(GetUserNameFromId(GetOuterUserId(), false)))));
}

void
leyser_privileged_meet(LeyserPrivilegedKind kind, Oid relation, Oid role,
					   const char *command, const char *bypass, int64 query_id)
{
	bool refuses = privileged_access == ACCESS_REFUSE;
	LeyserPrivilegedKey key;

	memset(&key, 0, sizeof(key));
	key.window = leyser_privileged_window();
	key.kind = refuses && key.window == 0 ? LEYSER_PRIVILEGED_REFUSED : kind;
	key.relation = relation;
	key.session_role = GetSessionUserId();
	key.caller_role = GetOuterUserId();
	key.role = role;
	strlcpy(key.command, command, sizeof(key.command));
	strlcpy(key.bypass, bypass, sizeof(key.bypass));
	leyser_privileged_count(&key, query_id, refuses && key.window != 0);
	if (key.kind == LEYSER_PRIVILEGED_REFUSED)
		privileged_refuse(relation, role, command, bypass);
}

/* ---- the hook for permissions ---- */

/* What is done to a table, which a statement that writes another one only reads. */
static const char *
privileged_command(bool executor, const leyser_permission_info *info)
{
	if (!executor)
		return (info->requiredPerms & ACL_INSERT) != 0 ? "COPY FROM" : "COPY TO";
	if ((info->requiredPerms & (ACL_INSERT | ACL_UPDATE | ACL_DELETE)) == 0)
		return "SELECT";
	switch (starting.command)
	{
		case CMD_INSERT:
			return "INSERT";
		case CMD_UPDATE:
			return "UPDATE";
		case CMD_DELETE:
			return "DELETE";
		case CMD_MERGE:
			return "MERGE";
		default: /* of a WITH query, or FOR UPDATE */
			return "SELECT";
	}
}

/* Whether a statement was counted for this table and role already. */
static bool
privileged_is_met(const List *permissions, const leyser_permission_info *until, Oid role)
{
	ListCell *cell;

	foreach (cell, permissions)
	{
		const leyser_permission_info *info = lfirst(cell);

		if (info == until)
			return false;
		if (info->relid == until->relid && info->requiredPerms != 0 &&
			(OidIsValid(info->checkAsUser) ? info->checkAsUser : GetUserId()) == role)
			return true;
	}
	return false;
}

static void
privileged_check(const List *permissions, bool executor)
{
	int64 query_id = executor ? starting.query_id : 0;
	ListCell *cell;

	foreach (cell, permissions)
	{
		const leyser_permission_info *info = lfirst(cell);
		Oid relation = info->relid;
		const char *bypass;
		Oid role;

		if (info->requiredPerms == 0 || info->relid < FirstNormalObjectId)
			continue;
		role = OidIsValid(info->checkAsUser) ? info->checkAsUser : GetUserId();
		bypass = privileged_look(&relation, role);
		if (bypass != NULL && !leyser_privileged_is_own_work() &&
			!privileged_is_met(permissions, info, role))
			leyser_privileged_meet(LEYSER_PRIVILEGED_ACCESS, relation, role,
								   privileged_command(executor, info), bypass, query_id);
	}
}

/* A foreign key that is added asks without raising, and then runs a query. */
static bool
privileged_check_perms(LEYSER_CHECK_PERMS_PARAMS)
{
	const List *permissions = LEYSER_CHECK_PERMS_LIST;
	bool executor = permissions != NIL && starting.permissions == permissions;

	if (prev_check_perms && !prev_check_perms(LEYSER_CHECK_PERMS_ARGS))
		return false;
	if (privileged_access == ACCESS_OFF || permissions == NIL)
		return true;
	if (!raise)
	{
		leyser_privileged_key_asked(permissions);
		return true;
	}
	if (executor &&
		(starting.is_leaders || (starting.eflags & EXEC_FLAG_EXPLAIN_ONLY) != 0 ||
		 leyser_privileged_is_key_check(starting.text, permissions)))
		return true;
	privileged_check(permissions, executor);
	return true;
}

static void
privileged_executor_start(QueryDesc *query, int eflags)
{
	starting.permissions = leyser_plan_permissions(query->plannedstmt);
	starting.eflags = eflags;
	starting.command = query->operation;
	starting.query_id = (int64) query->plannedstmt->queryId;
	starting.text = query->sourceText;
	starting.is_leaders =
		IsParallelWorker() && query->dest && query->dest->mydest == DestTupleQueue;
	if (prev_executor_start)
		prev_executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
	starting.permissions = NIL;
}

/* What was to begin when an error came does not begin. */
static void
privileged_xact_ended(XactEvent event, void *arg)
{
	starting.permissions = NIL;
}

static void
privileged_subxact_ended(SubXactEvent event, SubTransactionId mine,
						 SubTransactionId parent, void *arg)
{
	starting.permissions = NIL;
}

void
leyser_privileged_check_truncate(Oid relation)
{
	const char *bypass;

	if (privileged_access == ACCESS_OFF || leyser_privileged_is_own_work())
		return;
	bypass = leyser_privileged_bypass(relation, GetUserId());
	if (bypass != NULL)
		leyser_privileged_meet(LEYSER_PRIVILEGED_ACCESS, relation, GetUserId(),
							   "TRUNCATE", bypass, 0);
}

void
leyser_privileged_init(void)
{
	DefineCustomEnumVariable(
		"leyser.privileged_access",
		"What becomes of access to protected tables to which row security does not "
		"apply.",
		"off: nothing; record: an event; refuse: an error, save in a window that a "
		"superuser opened.",
		&privileged_access, ACCESS_RECORD, access_options, PGC_SIGHUP, 0, NULL, NULL,
		NULL);
	leyser_privileged_count_init();
	leyser_privileged_own_init();
	leyser_privileged_connection_init();
	CacheRegisterRelcacheCallback(bound_relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, bound_role_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, bound_role_changed, (Datum) 0);
	RegisterXactCallback(privileged_xact_ended, NULL);
	RegisterSubXactCallback(privileged_subxact_ended, NULL);
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = privileged_executor_start;
	prev_check_perms = ExecutorCheckPerms_hook;
	ExecutorCheckPerms_hook = privileged_check_perms;
}
