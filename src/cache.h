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
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* A row of the registry of table kinds, as the guard needs it. */
typedef struct LeyserGoverned
{
	Oid relation;
	int16 tenant_attnum; /* 0 where the kind has no tenant column */
	NameData tenant_column;
	int16 scope_attnum; /* 0 where its permissions have no scope */
	NameData scope_column;
	bool children_follow; /* protected or shared: so are its children */
	bool is_protected;    /* kind own or own_and_global, enforced: has our policies */
	bool is_observed;     /* kind own or own_and_global, and nothing is refused */
} LeyserGoverned;

extern void leyser_cache_init(void);

/* Takes in pending invalidations; call before trusting what was looked up. */
extern void leyser_cache_catch_up(void);

/* Changes whenever anything that a context depends on may have changed. */
extern uint64 leyser_cache_generation(void);

/* InvalidOid where the extension is not installed in this database. */
extern Oid leyser_cache_extension(void);

/*
 * Until when a tenant is active: DT_NOEND where its contract has no end yet,
 * DT_NOBEGIN where it is unknown or locked out already.
 */
extern TimestampTz leyser_cache_tenant_end(const char *tenant_id);
extern bool leyser_cache_tenant_is_active(const char *tenant_id);

typedef struct LeyserAccount
{
	int64 account_id;     /* 0: there is none, or it is not active */
	TimestampTz named_at; /* when it got its name, to the second */
} LeyserAccount;

/* An active account, by the name as it is stored. */
extern LeyserAccount leyser_cache_account(const char *tenant_id,
										  const char *account_name);
extern bool leyser_cache_session_is_revoked(const pg_uuid_t *session);

/* The role that a support session was made for, InvalidOid for other sessions. */
extern Oid leyser_cache_support_role(const pg_uuid_t *session);

/* False in a new database, and in one that a dump was restored to, until it is told. */
extern bool leyser_cache_has_keyring(void);

extern bool leyser_cache_key_is_valid(const char *key_id);
extern const LeyserTokenKey *leyser_cache_key(const char *key_id,
											  LeyserTokenError *error);
extern const LeyserTokenKey *leyser_cache_signing_key(LeyserTokenError *error);

/* An array that lives until the next call that catches up. */
extern const LeyserGoverned *leyser_cache_governed(int *count);

/* Names of schemas that were declared governed: an array that lives as long. */
extern const NameData *leyser_cache_governed_schemas(int *count);

/* Whether any table is observed; and such a table's row, else NULL. */
extern bool leyser_cache_observes(void);
extern const LeyserGoverned *leyser_cache_observed(Oid relation);

/* Whether any role has usage "application" or "gateway". */
extern bool leyser_cache_has_usages(void);

/*
 * Whether a role is, or is a member of, a role granted usage "application" or
 * "gateway"; never for superusers.
 */
extern bool leyser_cache_role_is_restricted(Oid role);

/* Whether a role was granted one of these, and row security does not bind it now. */
extern bool leyser_cache_role_is_unfit(Oid role);

/* Longest permission and scope, in bytes, and labels of a scope. */
#define LEYSER_PERMISSION_MAX 100
#define LEYSER_SCOPE_LABEL_MAX 63
#define LEYSER_SCOPE_LABELS_MAX 16

/* May this account do this, at this time? */
typedef struct LeyserPermissionQuestion
{
	const char *tenant_id; /* of the account */
	int64 account_id;
	const char *permission; /* not terminated */
	int permission_length;
	const char *scope; /* a valid path, not terminated; NULL: everywhere */
	int scope_length;
	TimestampTz at;
} LeyserPermissionQuestion;

typedef enum LeyserPermissionAnswer
{
	LEYSER_PERMISSION_MISSING,
	LEYSER_PERMISSION_HELD,
	LEYSER_PERMISSION_UNKNOWN /* not in the catalogue of permissions */
} LeyserPermissionAnswer;

extern LeyserPermissionAnswer
leyser_cache_permission(const LeyserPermissionQuestion *question);

#endif /* LEYSER_CACHE_H */
