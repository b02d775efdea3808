/*
 * cache_relation.h
 *		What the caches share: our relations, and what is stale.  Only for
 *		cache.c and its three kinds of entries.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_CACHE_RELATION_H
#define LEYSER_CACHE_RELATION_H

#include "leyser.h"

#include "access/genam.h"
#include "utils/relcache.h"

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
	PROXY_KEYS,
	PROXY_TENANTS,
	PROXY_TABLES,
	CACHE_RELATIONS
} CacheRelation;

/* Set by the callback, cleared (before reading) by the reader. */
typedef struct LeyserCacheStale
{
	bool relations;
	bool keys;
	bool tenants;
	bool tables;
} LeyserCacheStale;

extern LeyserCacheStale leyser_cache_stale;

/* Valid after leyser_cache_find_relations() returned true. */
extern Oid leyser_cache_relations[CACHE_RELATIONS];

/* False where the extension is not installed in this database. */
extern bool leyser_cache_find_relations(void);

/* Begins a scan for one text key, or of the whole table with key NULL. */
extern SysScanDesc leyser_cache_begin_scan(Relation rel, CacheRelation index,
										   const char *key);

/* A text column as a C string in the current context; NULL where it is NULL. */
extern char *leyser_cache_text(HeapTuple tuple, Relation rel, int column);

#endif /* LEYSER_CACHE_RELATION_H */
