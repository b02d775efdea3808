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

#include "common/jsonapi.h"
#include "mb/pg_wchar.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"

#if PG_VERSION_NUM < 150000
#error "leyser needs PostgreSQL 15 or later"
#endif

/* The macros of variable-length values have a header of their own since 16. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
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

#endif /* LEYSER_COMPAT_H */
