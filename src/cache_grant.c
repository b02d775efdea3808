/*
 * cache_grant.c
 *		Reads what accounts' grants say about a permission.  See cache.c for the
 *		rules, and cache_permission.c for what becomes of them.
 *
 * Whether a role has a permission, by itself or through roles that it includes,
 * is remembered in the bucket of its tenant.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "cache_account.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "cache_relation.h"
#include "compat.h"

#define GRANTS_FEW 16    /* in one scope, that are read whatever they name */
#define GRANTS_MAX 10000 /* that are read whole */

/* Columns, in the order of sql/account_tables.sql. */
enum
{
	GRANT_ACCOUNT = 2,
	GRANT_KIND = 3,
	GRANT_ROLE = 4,
	GRANT_PERMISSION = 5,
	GRANT_SCOPE = 6,
	GRANT_FROM = 7,
	GRANT_UNTIL = 8,
	ROLE_PERMISSION_ROLE = 1,
	ROLE_PERMISSION_PERMISSION = 2,
	ROLE_MEMBER_ROLE = 1,
	ROLE_MEMBER_INCLUDED = 2
};

typedef struct RoleKey
{
	int64 role_id; /* 0: the catalogue, which has all that exist */
	const char *permission;
	int length;
} RoleKey;

typedef struct CachedRole
{
	RoleKey key;
	bool has;
} CachedRole;

/* The catalogue snapshot of the first scan; NULL where there was none yet. */
static Snapshot reading = NULL;

void
leyser_grant_begin(void)
{
	reading = NULL; /* an error may have left one, which is released by now */
}

void
leyser_grant_end(void)
{
	if (reading)
		UnregisterSnapshot(reading);
	reading = NULL;
}

static Snapshot
grant_snapshot(Relation rel)
{
	if (reading == NULL)
		reading = RegisterSnapshot(GetCatalogSnapshot(RelationGetRelid(rel)));
	return reading;
}

static void
grant_int8_key(ScanKey key, AttrNumber column, int64 value)
{
	ScanKeyInit(key, column, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(value));
}

/* A key for a text column, or for IS NULL. */
static void
grant_text_key(ScanKey key, AttrNumber column, const char *value, int length)
{
	if (value == NULL)
		ScanKeyEntryInitialize(key, SK_ISNULL | SK_SEARCHNULL, column, InvalidStrategy,
							   InvalidOid, InvalidOid, InvalidOid, (Datum) 0);
	else
		ScanKeyInit(key, column, BTEqualStrategyNumber, F_TEXTEQ,
					PointerGetDatum(cstring_to_text_with_len(value, length)));
}

/* ---- what is remembered of roles ---- */

static uint32
role_hash(const void *key, Size keysize)
{
	const RoleKey *role = key;

	return hash_combine(
		hash_bytes((const unsigned char *) role->permission, role->length),
		hash_bytes_uint32((uint32) role->role_id));
}

static int
role_compare(const void *key1, const void *key2, Size keysize)
{
	const RoleKey *a = key1;
	const RoleKey *b = key2;

	return a->role_id != b->role_id || a->length != b->length ||
		   memcmp(a->permission, b->permission, a->length) != 0;
}

static const CachedRole *
role_find(LeyserAccountBucket *bucket, const RoleKey *key)
{
	return bucket->roles ? hash_search(bucket->roles, key, HASH_FIND, NULL) : NULL;
}

static void
role_remember(LeyserAccountBucket *bucket, const RoleKey *key, bool has)
{
	HASHCTL ctl = {.keysize = sizeof(RoleKey),
				   .entrysize = sizeof(CachedRole),
				   .hash = role_hash,
				   .match = role_compare,
				   .hcxt = bucket->memory};
	RoleKey copy = *key;
	char *permission;

	if (bucket->roles == NULL)
		bucket->roles =
			hash_create("leyser roles", 64, &ctl,
						HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	permission = MemoryContextAlloc(bucket->memory, Max(key->length, 1));
	memcpy(permission, key->permission, key->length);
	copy.permission = permission;
	((CachedRole *) hash_search(bucket->roles, &copy, HASH_ENTER, NULL))->has = has;
}

/* ---- the catalogue of permissions ---- */

static bool
permission_is_listed(const char *permission, int length)
{
	Relation rel = table_open(leyser_cache_relations[REL_PERMISSION], AccessShareLock);
	SysScanDesc scan =
		leyser_cache_begin_scan(rel, REL_PERMISSION_PKEY, pnstrdup(permission, length));
	bool listed = HeapTupleIsValid(systable_getnext(scan));

	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return listed;
}

bool
leyser_grant_permission_exists(LeyserAccountBucket *bucket, const char *permission,
							   int length)
{
	RoleKey key = {0, permission, length};

	if (role_find(bucket, &key))
		return true;
	if (!permission_is_listed(permission, length))
		return false;
	role_remember(bucket, &key, true);
	return true;
}

/* ---- roles ---- */

static bool
role_contains(const RoleKey *role)
{
	Relation rel =
		table_open(leyser_cache_relations[REL_ROLE_PERMISSION], AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	bool contains;

	grant_int8_key(&keys[0], ROLE_PERMISSION_ROLE, role->role_id);
	grant_text_key(&keys[1], ROLE_PERMISSION_PERMISSION, role->permission, role->length);
	scan = systable_beginscan(rel, leyser_cache_index(REL_ROLE_PERMISSION_PKEY), true,
							  grant_snapshot(rel), 2, keys);
	contains = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return contains;
}

static List *
role_add(List *roles, int64 role_id)
{
	ListCell *cell;
	int64 *copy;

	foreach (cell, roles)
	{
		if (*(int64 *) lfirst(cell) == role_id)
			return roles;
	}
	copy = palloc(sizeof(int64));
	*copy = role_id;
	return lappend(roles, copy);
}

/* Adds the roles that a role includes, those already there excepted. */
static List *
role_add_included(List *roles, int64 role_id)
{
	Relation rel = table_open(leyser_cache_relations[REL_ROLE_MEMBER], AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	bool isnull;

	grant_int8_key(&key, ROLE_MEMBER_ROLE, role_id);
	scan = systable_beginscan(rel, leyser_cache_index(REL_ROLE_MEMBER_PKEY), true,
							  grant_snapshot(rel), 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		roles =
			role_add(roles, DatumGetInt64(heap_getattr(tuple, ROLE_MEMBER_INCLUDED,
													   RelationGetDescr(rel), &isnull)));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return roles;
}

/* Whether a role, or one that it includes, has a permission.  Ends on cycles too. */
static bool
role_has_permission(LeyserAccountBucket *bucket, const RoleKey *role)
{
	const CachedRole *known = role_find(bucket, role);
	List *roles;
	bool has = false;

	if (known)
		return known->has;
	roles = role_add(NIL, role->role_id);
	for (int i = 0; i < list_length(roles) && !has; i++)
	{
		RoleKey one = *role;

		one.role_id = *(int64 *) list_nth(roles, i);
		has = role_contains(&one);
		if (!has)
			roles = role_add_included(roles, one.role_id);
	}
	role_remember(bucket, role, has);
	return has;
}

/* ---- grants ---- */

static bool
grant_names(const LeyserGrantQuestion *question, HeapTuple tuple, TupleDesc desc)
{
	bool isnull;
	Datum permission = heap_getattr(tuple, GRANT_PERMISSION, desc, &isnull);
	const char *name = DatumGetPointer(permission);

	return !isnull && (int) VARSIZE_ANY_EXHDR(name) == question->length &&
		   memcmp(VARDATA_ANY(name), question->permission, question->length) == 0;
}

/* Whether a grant says something about the permission, and what. */
static bool
grant_applies(const LeyserGrantQuestion *question, HeapTuple tuple, Relation rel,
			  bool *deny)
{
	char *kind = leyser_cache_text(tuple, rel, GRANT_KIND);
	RoleKey role = {0, question->permission, question->length};
	bool isnull;

	*deny = strcmp(kind, "deny") == 0;
	if (strcmp(kind, "administrator") == 0)
		return true;
	if (strcmp(kind, "role") != 0)
		return grant_names(question, tuple, RelationGetDescr(rel));
	role.role_id =
		DatumGetInt64(heap_getattr(tuple, GRANT_ROLE, RelationGetDescr(rel), &isnull));
	return role_has_permission(question->bucket, &role);
}

/* A rule in the bucket's memory; NULL where the grant says nothing. */
static LeyserRule *
grant_make_rule(const LeyserGrantQuestion *question, HeapTuple tuple, Relation rel)
{
	TupleDesc desc = RelationGetDescr(rel);
	LeyserRule *rule;
	bool deny;
	bool isnull;

	if (!grant_applies(question, tuple, rel, &deny))
		return NULL;
	rule = MemoryContextAlloc(question->bucket->memory, sizeof(LeyserRule));
	rule->next = NULL;
	rule->deny = deny;
	rule->valid_from =
		DatumGetTimestampTz(heap_getattr(tuple, GRANT_FROM, desc, &isnull));
	rule->valid_until =
		DatumGetTimestampTz(heap_getattr(tuple, GRANT_UNTIL, desc, &isnull));
	return rule;
}

/*
 * Adds the rules of the grants that the keys find; false where there are more
 * than a limit.
 *
 * An ordered scan uses the index even where the client asked the server to
 * ignore indexes (ignore_system_indexes): a plain scan cannot test for NULL, and
 * would not find the denies of everywhere.
 */
static bool
grant_read(const LeyserGrantQuestion *question, Relation rel, ScanKey keys, int key_count,
		   int limit, LeyserRule **rules)
{
	Relation index = index_open(leyser_cache_index(REL_GRANT_ACCOUNT), AccessShareLock);
	SysScanDesc scan =
		systable_beginscan_ordered(rel, index, grant_snapshot(rel), key_count, keys);
	HeapTuple tuple;
	int count = 0;

	while (count <= limit &&
		   HeapTupleIsValid(tuple = systable_getnext_ordered(scan, ForwardScanDirection)))
	{
		LeyserRule *rule = grant_make_rule(question, tuple, rel);

		count++;
		if (rule == NULL)
			continue;
		rule->next = *rules;
		*rules = rule;
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	return count <= limit;
}

LeyserRule *
leyser_grant_read_scope(const LeyserGrantQuestion *question, const char *scope,
						int length)
{
	Relation rel = table_open(leyser_cache_relations[REL_GRANT], AccessShareLock);
	ScanKeyData keys[3];
	LeyserRule *rules = NULL;

	grant_int8_key(&keys[0], GRANT_ACCOUNT, question->account_id);
	grant_text_key(&keys[1], GRANT_SCOPE, scope, length);
	if (!grant_read(question, rel, keys, 2, GRANTS_FEW, &rules))
	{
		rules = NULL;
		/* roles and administrators name no permission; a scan changes its keys */
		for (int named = 0; named <= 1; named++)
		{
			grant_int8_key(&keys[0], GRANT_ACCOUNT, question->account_id);
			grant_text_key(&keys[1], GRANT_SCOPE, scope, length);
			grant_text_key(&keys[2], GRANT_PERMISSION,
						   named ? question->permission : NULL, question->length);
			(void) grant_read(question, rel, keys, 3, PG_INT32_MAX - 1, &rules);
		}
	}
	table_close(rel, AccessShareLock);
	return rules;
}

bool
leyser_grant_read_all(const LeyserGrantQuestion *question, LeyserGrantTake take,
					  void *arg)
{
	Relation rel = table_open(leyser_cache_relations[REL_GRANT], AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	int count = 0;

	grant_int8_key(&key, GRANT_ACCOUNT, question->account_id);
	scan = systable_beginscan(rel, leyser_cache_index(REL_GRANT_ACCOUNT), true,
							  grant_snapshot(rel), 1, &key);
	while (count <= GRANTS_MAX && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		LeyserRule *rule = grant_make_rule(question, tuple, rel);
		bool isnull;
		const char *scope = DatumGetPointer(
			heap_getattr(tuple, GRANT_SCOPE, RelationGetDescr(rel), &isnull));

		count++;
		if (rule)
			take(arg, isnull ? NULL : VARDATA_ANY(scope),
				 isnull ? 0 : VARSIZE_ANY_EXHDR(scope), rule);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return count <= GRANTS_MAX;
}
