/*
 * cache_permission.c
 *		What accounts may.  See cache.c for the rules.
 *
 * The first question about a permission reads as much as it needs and no more:
 * for each scope that contains the asked one, the account's grants in exactly
 * this scope; where they are many, only those that name the permission, and the
 * roles.  So an account with ten thousand grants gets its first answer as soon as
 * one with ten.  Who goes on asking about other scopes (a scan with a scope
 * column) has the account's grants read whole, after PROBES_MAX probes.
 *
 * What was read are rules: in this scope, from then until then, allowed or
 * denied.  Their times are compared with the clock at each question, so a grant
 * that expires needs no message.  An answer follows from the rules of the asked
 * scope, of all that contain it, and of "everywhere" (scope NULL): one deny
 * forbids, else one grant allows.
 *
 * Rules lie in the bucket of the account's tenant (cache_account.c).
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "cache.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#include "cache_account.h"
#include "cache_relation.h"

#define PROBES_MAX 16

typedef struct ScopeKey
{
	const char *scope; /* NULL: everywhere */
	int length;
} ScopeKey;

/* All rules of exactly this scope. */
typedef struct ScopeRules
{
	ScopeKey key;
	uint32 hash;
	char status;
	LeyserRule *rules;
} ScopeRules;

static inline uint32
scope_hash(ScopeKey key)
{
	return key.scope ? hash_bytes((const unsigned char *) key.scope, key.length) : 0;
}

static inline bool
scope_equal(ScopeKey a, ScopeKey b)
{
	if (a.scope == NULL || b.scope == NULL)
		return a.scope == b.scope;
	return a.length == b.length && memcmp(a.scope, b.scope, a.length) == 0;
}

#define SH_PREFIX scopes
#define SH_ELEMENT_TYPE ScopeRules
#define SH_KEY_TYPE ScopeKey
#define SH_KEY key
#define SH_HASH_KEY(tb, key) scope_hash(key)
#define SH_EQUAL(tb, a, b) scope_equal(a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct PermissionKey
{
	int64 account_id;
	const char *permission;
	int length;
} PermissionKey;

typedef struct CachedPermission
{
	PermissionKey key;
	scopes_hash *scopes;
	int probes;
	bool complete; /* a scope that is not there has no rules */
} CachedPermission;

/* What was asked about last, most often asked again. */
static CachedPermission *latest = NULL;
static const LeyserAccountBucket *latest_bucket = NULL;
static uint64 latest_epoch = 0;

static uint32
permission_hash(const void *key, Size keysize)
{
	const PermissionKey *wanted = key;

	return hash_combine(
		hash_bytes((const unsigned char *) wanted->permission, wanted->length),
		hash_bytes_uint32((uint32) wanted->account_id));
}

static int
permission_compare(const void *key1, const void *key2, Size keysize)
{
	const PermissionKey *a = key1;
	const PermissionKey *b = key2;

	return a->account_id != b->account_id || a->length != b->length ||
		   memcmp(a->permission, b->permission, a->length) != 0;
}

static CachedPermission *
permission_enter(LeyserAccountBucket *bucket, const PermissionKey *key)
{
	HASHCTL ctl = {.keysize = sizeof(PermissionKey),
				   .entrysize = sizeof(CachedPermission),
				   .hash = permission_hash,
				   .match = permission_compare,
				   .hcxt = bucket->memory};
	scopes_hash *scopes = scopes_create(bucket->memory, 4, NULL);
	char *permission = MemoryContextAlloc(bucket->memory, Max(key->length, 1));
	PermissionKey copy = *key;
	CachedPermission *entry;

	if (bucket->permissions == NULL)
		bucket->permissions =
			hash_create("leyser permissions", 64, &ctl,
						HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	memcpy(permission, key->permission, key->length);
	copy.permission = permission;
	entry = hash_search(bucket->permissions, &copy, HASH_ENTER, NULL);
	entry->scopes = scopes;
	entry->probes = 0;
	entry->complete = false;
	return entry;
}

/* ---- rules ---- */

static ScopeKey
scope_copy(LeyserAccountBucket *bucket, ScopeKey key)
{
	char *copy;

	if (key.scope == NULL)
		return key;
	copy = MemoryContextAlloc(bucket->memory, Max(key.length, 1));
	memcpy(copy, key.scope, key.length);
	key.scope = copy;
	return key;
}

/* Where all rules of an account are to go. */
typedef struct RuleTaker
{
	LeyserAccountBucket *bucket;
	scopes_hash *scopes;
} RuleTaker;

static void
take_rule(void *arg, const char *scope, int length, LeyserRule *rule)
{
	RuleTaker *taker = arg;
	ScopeKey key = {scope, length};
	ScopeRules *entry = scopes_lookup(taker->scopes, key);
	bool found;

	if (entry == NULL)
	{
		entry = scopes_insert(taker->scopes, scope_copy(taker->bucket, key), &found);
		entry->rules = NULL;
	}
	rule->next = entry->rules;
	entry->rules = rule;
}

/*
 * Makes the rules complete.  The old ones count until all were read: an error
 * on the way must not leave a deny out.
 */
static void
permission_complete(const LeyserGrantQuestion *question, CachedPermission *entry)
{
	LeyserAccountBucket *bucket = question->bucket;
	RuleTaker taker = {bucket, scopes_create(bucket->memory, 64, NULL)};

	if (!leyser_grant_read_all(question, take_rule, &taker))
	{
		scopes_destroy(taker.scopes);
		entry->probes = PG_INT32_MIN; /* go on probing */
		return;
	}
	entry->scopes = taker.scopes;
	entry->complete = true;
}

/* The rules of exactly one scope. */
static LeyserRule *
permission_rules(LeyserAccountBucket *bucket, CachedPermission *entry, ScopeKey key)
{
	LeyserGrantQuestion question = {bucket, entry->key.account_id, entry->key.permission,
									entry->key.length};
	ScopeRules *known = scopes_lookup(entry->scopes, key);
	LeyserRule *rules;
	bool found;

	if (known == NULL && !entry->complete && entry->probes >= PROBES_MAX)
	{
		permission_complete(&question, entry);
		known = scopes_lookup(entry->scopes, key);
	}
	if (known)
		return known->rules;
	if (entry->complete)
		return NULL;
	entry->probes++;
	rules = leyser_grant_read_scope(&question, key.scope, key.length);
	known = scopes_insert(entry->scopes, scope_copy(bucket, key), &found);
	known->rules = rules;
	return rules;
}

/* ---- answers ---- */

/* Takes one scope's rules in; false where one forbids. */
static bool
answer_add(const LeyserRule *rules, TimestampTz at, bool *allowed)
{
	for (const LeyserRule *rule = rules; rule; rule = rule->next)
	{
		if (at < rule->valid_from || at >= rule->valid_until)
			continue;
		if (rule->deny)
			return false;
		*allowed = true;
	}
	return true;
}

/* Everywhere, then the asked scope's first label, first two, and so on. */
static bool
answer_find(LeyserAccountBucket *bucket, CachedPermission *entry,
			const LeyserPermissionQuestion *question)
{
	ScopeKey key = {NULL, 0};
	bool allowed = false;

	if (!answer_add(permission_rules(bucket, entry, key), question->at, &allowed))
		return false;
	if (question->scope == NULL)
		return allowed;
	key.scope = question->scope;
	for (int i = 1; i <= question->scope_length; i++)
	{
		if (i < question->scope_length && question->scope[i] != '.')
			continue;
		key.length = i;
		if (!answer_add(permission_rules(bucket, entry, key), question->at, &allowed))
			return false;
	}
	return allowed;
}

/* What is known of a permission of an account; NULL where there is none such. */
static CachedPermission *
answer_entry(LeyserAccountBucket *bucket, const LeyserPermissionQuestion *question)
{
	PermissionKey key = {question->account_id, question->permission,
						 question->permission_length};
	CachedPermission *entry = NULL;

	if (latest && latest_bucket == bucket && latest_epoch == bucket->epoch &&
		permission_compare(&latest->key, &key, sizeof(key)) == 0)
		return latest;
	if (bucket->permissions)
		entry = hash_search(bucket->permissions, &key, HASH_FIND, NULL);
	if (entry == NULL)
	{
		if (!leyser_grant_permission_exists(bucket, key.permission, key.length))
			return NULL;
		entry = permission_enter(bucket, &key);
	}
	latest = entry;
	latest_bucket = bucket;
	latest_epoch = bucket->epoch;
	return entry;
}

/* One attempt to answer: good where no message came in meanwhile. */
static LeyserPermissionAnswer
answer_once(const LeyserPermissionQuestion *question)
{
	LeyserAccountBucket *bucket = leyser_cache_account_bucket(question->tenant_id);
	LeyserPermissionAnswer answer = LEYSER_PERMISSION_UNKNOWN;
	CachedPermission *entry;

	leyser_grant_begin();
	entry = answer_entry(bucket, question);
	if (entry)
		answer = answer_find(bucket, entry, question) ? LEYSER_PERMISSION_HELD
													  : LEYSER_PERMISSION_MISSING;
	leyser_grant_end();
	return answer;
}

LeyserPermissionAnswer
leyser_cache_permission(const LeyserPermissionQuestion *question)
{
	for (;;)
	{
		LeyserPermissionAnswer answer;
		uint64 before = leyser_cache_generation();

		if (!leyser_cache_find_relations())
			return LEYSER_PERMISSION_MISSING;
		answer = answer_once(question);
		if (before == leyser_cache_generation())
			return answer; /* else something came in while we read */
	}
}
