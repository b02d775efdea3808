/*
 * cache_account.h
 *		Where accounts and their permissions are kept.  Only for
 *		cache_account.c, cache_grant.c and cache_permission.c.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_CACHE_ACCOUNT_H
#define LEYSER_CACHE_ACCOUNT_H

#include "leyser.h"

#include "utils/hsearch.h"
#include "utils/timestamp.h"

/* What is remembered of a sixteenth of the tenants; thrown away as a whole. */
typedef struct LeyserAccountBucket
{
	MemoryContext memory; /* of all that follows */
	uint64 epoch;         /* another one each time that all was thrown away */
	HTAB *accounts;
	HTAB *roles;       /* what roles have: cache_grant.c; NULL while there are none */
	HTAB *permissions; /* what accounts may: cache_permission.c; NULL likewise */
} LeyserAccountBucket;

/*
 * The bucket of a tenant, emptied first where it is stale or full; so what it
 * gave before is gone.  Call leyser_cache_find_relations() before.
 */
extern LeyserAccountBucket *leyser_cache_account_bucket(const char *tenant_id);

/* What a grant says about one permission in one scope. */
typedef struct LeyserRule
{
	struct LeyserRule *next;
	TimestampTz valid_from;
	TimestampTz valid_until;
	bool deny;
} LeyserRule;

/* Whose grants are read, and what about. */
typedef struct LeyserGrantQuestion
{
	LeyserAccountBucket *bucket; /* rules lie in its memory */
	int64 account_id;
	const char *permission; /* not terminated */
	int length;
} LeyserGrantQuestion;

/* All that is read between these two is read with one snapshot. */
extern void leyser_grant_begin(void);
extern void leyser_grant_end(void);

/* Whether a permission is in the catalogue. */
extern bool leyser_grant_permission_exists(LeyserAccountBucket *bucket,
										   const char *permission, int length);

/* The rules of exactly one scope (not terminated; NULL: everywhere). */
extern LeyserRule *leyser_grant_read_scope(const LeyserGrantQuestion *question,
										   const char *scope, int length);

/* Hands over the rules of all scopes; false where the account has too many grants. */
typedef void (*LeyserGrantTake)(void *arg, const char *scope, int length,
								LeyserRule *rule);
extern bool leyser_grant_read_all(const LeyserGrantQuestion *question,
								  LeyserGrantTake take, void *arg);

#endif /* LEYSER_CACHE_ACCOUNT_H */
