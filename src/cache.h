/*
 * cache.h
 *		What a backend knows of leyser's own tables, always as of now.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_CACHE_H
#define LEYSER_CACHE_H

#include "leyser.h"

#include "nodes/pg_list.h"
#include "token.h"

/* A row of the registry of table kinds, as the guard needs it. */
typedef struct LeyserGoverned
{
	Oid relation;
	int16 tenant_attnum; /* 0 where the kind has no tenant column */
	NameData tenant_column;
	bool children_follow; /* protected or shared: so are its children */
	bool is_protected;    /* kind own or own_and_global: has our policies */
} LeyserGoverned;

extern void leyser_cache_init(void);

/* Takes in pending invalidations; call before trusting what was looked up. */
extern void leyser_cache_catch_up(void);

/* Changes whenever anything that a context depends on may have changed. */
extern uint64 leyser_cache_generation(void);

/* InvalidOid where the extension is not installed in this database. */
extern Oid leyser_cache_extension(void);

extern bool leyser_cache_tenant_is_active(const char *tenant_id);
extern bool leyser_cache_key_is_valid(const char *key_id);
extern const LeyserTokenKey *leyser_cache_key(const char *key_id,
											  LeyserTokenError *error);
extern const LeyserTokenKey *leyser_cache_signing_key(LeyserTokenError *error);

/* An array that lives until the next call that catches up. */
extern const LeyserGoverned *leyser_cache_governed(int *count);

/* Whether any role has usage "application" or "gateway". */
extern bool leyser_cache_has_usages(void);

/*
 * Whether a role is, or is a member of, a role granted usage "application" or
 * "gateway"; never for superusers.
 */
extern bool leyser_cache_role_is_restricted(Oid role);

/* Whether a role was granted one of these, and row security does not bind it now. */
extern bool leyser_cache_role_is_unfit(Oid role);

#endif /* LEYSER_CACHE_H */
