/*
 * cache_relation.h
 *		What the caches share: our relations, and what is stale.  Only for
 *		cache.c and its kinds of entries.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_CACHE_RELATION_H
#define LEYSER_CACHE_RELATION_H

#include "leyser.h"

#include "access/genam.h"
#include "utils/relcache.h"

/* Accounts and what they may are invalidated by sixteenths of the tenants. */
#define LEYSER_ACCOUNT_BUCKETS 16

/* The relations we read, and the proxies that speak for them. */
typedef enum CacheRelation
{
	REL_IDENTITY,
	REL_SIGNING_KEY,
	REL_SIGNING_KEY_PKEY,
	REL_ISSUER_KEY,
	REL_ISSUER_KEY_PKEY,
	REL_TENANT,
	REL_TENANT_PKEY,
	REL_TABLE,
	REL_USAGE,
	REL_SCHEMA,
	REL_WINDOW,
	PROXY_KEYS,
	PROXY_TENANTS,
	PROXY_TABLES,
	REL_ACCOUNT,
	REL_ACCOUNT_PKEY,
	REL_ACCOUNT_NAME,
	REL_REVOKED_SESSION,
	REL_REVOKED_SESSION_PKEY,
	REL_PERMISSION,
	REL_PERMISSION_PKEY,
	REL_ROLE,
	REL_ROLE_PKEY,
	REL_ROLE_PERMISSION,
	REL_ROLE_PERMISSION_PKEY,
	REL_ROLE_MEMBER,
	REL_ROLE_MEMBER_PKEY,
	REL_GRANT,
	REL_GRANT_ACCOUNT,
	REL_SUPPORT,
	REL_SUPPORT_SESSION,
	REL_EXPORT,
	REL_EXPORT_PKEY,
	REL_DISCLOSURE,
	REL_DISCLOSURE_PKEY,
	PROXY_SESSIONS,
	PROXY_ACCOUNTS, /* the first of LEYSER_ACCOUNT_BUCKETS */
	CACHE_RELATIONS = PROXY_ACCOUNTS + LEYSER_ACCOUNT_BUCKETS
} CacheRelation;

/* Set by the callback, cleared (before reading) by the reader. */
typedef struct LeyserCacheStale
{
	bool relations;
	bool keys;
	bool tenants;
	bool tables;
	uint32 accounts; /* a bit for each bucket */
} LeyserCacheStale;

#define LEYSER_CACHE_ALL_ACCOUNTS ((1U << LEYSER_ACCOUNT_BUCKETS) - 1)

extern LeyserCacheStale leyser_cache_stale;

/* Valid after leyser_cache_find_relations() returned true; for indexes see below. */
extern Oid leyser_cache_relations[CACHE_RELATIONS];

/* False where the extension is not installed in this database. */
extern bool leyser_cache_find_relations(void);

/* An index of a table that is open: what was known before its lock may be gone. */
extern Oid leyser_cache_index(CacheRelation index);

/* This transaction changed one of our tables: its abort throws all away. */
extern void leyser_cache_changed_here(void);

/* Begins a scan for one text key, or of the whole table with key NULL. */
extern SysScanDesc leyser_cache_begin_scan(Relation rel, CacheRelation index,
										   const char *key);

/* A text column as a C string in the current context; NULL where it is NULL. */
extern char *leyser_cache_text(HeapTuple tuple, Relation rel, int column);

#endif /* LEYSER_CACHE_RELATION_H */
