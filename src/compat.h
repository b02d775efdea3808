/*
 * compat.h
 *		What differs between PostgreSQL 15 and 18.  The only file that looks at
 *		PG_VERSION_NUM.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_COMPAT_H
#define LEYSER_COMPAT_H

#include "postgres.h"

#include "commands/defrem.h"
#include "common/jsonapi.h"
#include "executor/executor.h"
#include "mb/pg_wchar.h"
#include "nodes/plannodes.h"
#include "nodes/primnodes.h"
#include "parser/parse_relation.h"
#include "storage/bufmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/smgr.h"
#include "tcop/pquery.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#if PG_VERSION_NUM < 150000
#error "leyser needs PostgreSQL 15 or later"
#endif

/* EnableQueryId() moved in 16. */
#if PG_VERSION_NUM >= 160000
#include "nodes/queryjumble.h"
#else
#include "utils/queryjumble.h"
#endif

/* The macros of variable-length values have a header of their own since 16. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* The attribute of a function that never returns stands before it since 18. */
#if PG_VERSION_NUM >= 180000
#define leyser_noreturn pg_noreturn
#else
#define leyser_noreturn pg_attribute_noreturn()
#endif

/* A backend's local transaction id moved into a struct in 17. */
#if PG_VERSION_NUM >= 170000
#define leyser_proc_lxid(proc) ((proc)->vxid.lxid)
#else
#define leyser_proc_lxid(proc) ((proc)->lxid)
#endif

/* GUC strings and their "extra" come from malloc in 15, guc_malloc later. */
#if PG_VERSION_NUM >= 160000
#define leyser_guc_malloc(size) guc_malloc(LOG, (size))
#define leyser_guc_free(ptr) guc_free(ptr)
#else
#define leyser_guc_malloc(size) malloc(size)
#define leyser_guc_free(ptr) free(ptr)
#endif

/* JSON semantic actions return a code since 16. */
#if PG_VERSION_NUM >= 160000
typedef JsonParseErrorType leyser_json_action;
#define LEYSER_JSON_ACTION_DONE return JSON_SUCCESS
#else
typedef void leyser_json_action;
#define LEYSER_JSON_ACTION_DONE return
#endif

/* The lexer fills in a caller's struct since 17. */
static inline JsonLexContext *
leyser_json_lex(char *json, int len)
{
#if PG_VERSION_NUM >= 170000
	return makeJsonLexContextCstringLen(NULL, json, len, PG_UTF8, true);
#else
	return makeJsonLexContextCstringLen(json, len, PG_UTF8, true);
#endif
}

/* ExecutorRun lost its execute_once argument in 18. */
#if PG_VERSION_NUM >= 180000
#define LEYSER_EXECUTOR_RUN_PARAMS                                                       \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count
#define LEYSER_EXECUTOR_RUN_ARGS queryDesc, direction, count
#else
#define LEYSER_EXECUTOR_RUN_PARAMS                                                       \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count, bool execute_once
#define LEYSER_EXECUTOR_RUN_ARGS queryDesc, direction, count, execute_once
#endif

/* What names a relation's files: another name since 16. */
#if PG_VERSION_NUM >= 160000
typedef RelFileLocator leyser_file;
#define leyser_drop_buffers DropRelationsAllBuffers
#else
typedef RelFileNode leyser_file;
#define leyser_drop_buffers DropRelFileNodesAllBuffers
#endif
#if PG_VERSION_NUM >= 170000
#define leyser_file_open(file) smgropen((file), INVALID_PROC_NUMBER)
#else
#define leyser_file_open(file) smgropen((file), InvalidBackendId)
#endif

/* The path of a fork's first segment, into MAXPGPATH bytes; a struct since 18. */
static inline void
leyser_file_path(leyser_file file, ForkNumber fork, char *path)
{
#if PG_VERSION_NUM >= 180000
	strlcpy(path, relpathperm(file, fork).str, MAXPGPATH);
#else
	char *allocated = relpathperm(file, fork);

	strlcpy(path, allocated, MAXPGPATH);
	pfree(allocated);
#endif
}

/* The scan of an index can be told to count its searches since 18. */
#if PG_VERSION_NUM >= 180000
#define leyser_index_beginscan(rel, index, snapshot, keys)                               \
	index_beginscan((rel), (index), (snapshot), NULL, (keys), 0)
#else
#define leyser_index_beginscan(rel, index, snapshot, keys)                               \
	index_beginscan((rel), (index), (snapshot), (keys), 0)
#endif

/* Runs a portal to its end; lost its run_once argument in 18. */
static inline void
leyser_portal_run(Portal portal, DestReceiver *dest, QueryCompletion *completion)
{
#if PG_VERSION_NUM >= 180000
	PortalRun(portal, FETCH_ALL, true, dest, dest, completion);
#else
	PortalRun(portal, FETCH_ALL, true, true, dest, dest, completion);
#endif
}

/* Whether this session has a lock; another argument since 17. */
static inline bool
leyser_lock_held(const LOCKTAG *tag, LOCKMODE mode)
{
#if PG_VERSION_NUM >= 170000
	return LockHeldByMe(tag, mode, false);
#else
	return LockHeldByMe(tag, mode);
#endif
}

/* Makes an index without a look at the caller's rights; an argument more since 16. */
static inline void
leyser_define_index(Oid relation, IndexStmt *statement)
{
#if PG_VERSION_NUM >= 160000
	(void) DefineIndex(relation, statement, InvalidOid, InvalidOid, InvalidOid, -1, false,
					   false, false, false, true);
#else
	(void) DefineIndex(relation, statement, InvalidOid, InvalidOid, InvalidOid, false,
					   false, false, false, true);
#endif
}

/* All settings: an array in 15, copied from a hash table since 16. */
static inline struct config_generic **
leyser_all_settings(int *count)
{
#if PG_VERSION_NUM >= 160000
	return get_guc_variables(count);
#else
	*count = GetNumConfigOptions();
	return get_guc_variables();
#endif
}

/* A built-in setting's record, or NULL; the look-up is exported since 16. */
static inline struct config_generic *
leyser_find_setting(const char *name)
{
#if PG_VERSION_NUM >= 160000
	return find_option(name, false, true, LOG);
#else
	struct config_generic **records = get_guc_variables();

	for (int i = 0; i < GetNumConfigOptions(); i++)
	{
		if (strcmp(records[i]->name, name) == 0)
			return records[i];
	}
	return NULL;
#endif
}

/* Foreign keys over periods of time exist since 18. */
#if PG_VERSION_NUM >= 180000
#define leyser_constraint_has_period(form) ((form)->conperiod)
#else
#define leyser_constraint_has_period(form) false
#endif

/* The role that a view reads a table as, or InvalidOid; apart from the table since 16. */
static inline Oid
leyser_query_check_as(const Query *query, RangeTblEntry *rte)
{
#if PG_VERSION_NUM >= 160000
	return rte->perminfoindex
			   ? getRTEPermissionInfo(query->rteperminfos, rte)->checkAsUser
			   : InvalidOid;
#else
	return rte->checkAsUser;
#endif
}

/* Whether a plan's table is one that the statement names, no child that came with it. */
static inline bool
leyser_plan_names(const PlannedStmt *plan, const RangeTblEntry *rte, Oid *check_as)
{
#if PG_VERSION_NUM >= 160000
	if (rte->perminfoindex == 0)
		return false;
	*check_as = list_nth_node(RTEPermissionInfo, plan->permInfos, rte->perminfoindex - 1)
					->checkAsUser;
	return true;
#else
	*check_as = rte->checkAsUser;
	return rte->requiredPerms != 0;
#endif
}

/* A generated column's expression can be changed since 17. */
#if PG_VERSION_NUM >= 170000
#define leyser_alter_sets_expression(part) ((part)->subtype == AT_SetExpression)
#else
#define leyser_alter_sets_expression(part) false
#endif

/* What the permission hook is given: permissions have a list of their own since 16. */
#if PG_VERSION_NUM >= 160000
typedef RTEPermissionInfo leyser_permission_info;
#define LEYSER_CHECK_PERMS_PARAMS List *range_table, List *infos, bool raise
#define LEYSER_CHECK_PERMS_ARGS range_table, infos, raise
#define LEYSER_CHECK_PERMS_LIST infos
#define leyser_plan_permissions(plan) ((plan)->permInfos)
#else
typedef RangeTblEntry leyser_permission_info;
#define LEYSER_CHECK_PERMS_PARAMS List *range_table, bool raise
#define LEYSER_CHECK_PERMS_ARGS range_table, raise
#define LEYSER_CHECK_PERMS_LIST range_table
#define leyser_plan_permissions(plan) ((plan)->rtable)
#endif

/* Which outer joins can make a column NULL: columns carry it since 16. */
static inline void
leyser_var_set_nulling(Var *column, Bitmapset *nulling)
{
#if PG_VERSION_NUM >= 160000
	column->varnullingrels = bms_copy(nulling);
#endif
}

/* Index entries of a new row; which indexes only sum up is told since 16. */
static inline List *
leyser_insert_index_tuples(ResultRelInfo *target, TupleTableSlot *slot, EState *estate)
{
#if PG_VERSION_NUM >= 160000
	return ExecInsertIndexTuples(target, slot, estate, false, false, NULL, NIL, false);
#else
	return ExecInsertIndexTuples(target, slot, estate, false, false, NULL, NIL);
#endif
}

/* A table's primary key, or InvalidOid; whether it may be deferrable is asked since 18. */
static inline Oid
leyser_primary_key(Relation rel)
{
#if PG_VERSION_NUM >= 180000
	return RelationGetPrimaryKeyIndex(rel, false);
#else
	return RelationGetPrimaryKeyIndex(rel);
#endif
}

/* A range table of one relation; rights are apart since 16, what is kept of it since 18. */
static inline void
leyser_range_table_of(EState *estate, Relation rel)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(rel);
	rte->relkind = rel->rd_rel->relkind;
	rte->rellockmode = RowExclusiveLock;
#if PG_VERSION_NUM >= 180000
	ExecInitRangeTable(estate, list_make1(rte), NIL, bms_make_singleton(1));
#elif PG_VERSION_NUM >= 160000
	ExecInitRangeTable(estate, list_make1(rte), NIL);
#else
	ExecInitRangeTable(estate, list_make1(rte));
#endif
}

#endif /* LEYSER_COMPAT_H */
