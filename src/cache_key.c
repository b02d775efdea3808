/*
 * cache_key.c
 *		The keys that verify tokens, and the one that signs.  See cache.c for the
 *		rules.
 *
 * Secrets lie in pages of their own that are left out of core dumps, and are
 * wiped when their entry goes and when the backend exits.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "cache.h"

#include <sys/mman.h>
#include <unistd.h>

#include "access/htup_details.h"
#include "access/table.h"
#include "fmgr.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "cache_fence.h"
#include "cache_relation.h"

#define CACHE_MAX_KEYS 256

/* Columns, in the order of sql/tables.sql. */
enum
{
	IDENTITY_DATABASE_ID = 2,
	IDENTITY_KEYRING_ID = 3,
	SIGNING_KEY_ID = 1,
	SIGNING_KEY_STATE = 2,
	ISSUER_KEY_PEM = 2,
	ISSUER_KEY_ISSUER = 4,
	ISSUER_KEY_AUDIENCE = 5,
	ISSUER_KEY_TENANT = 6,
	ISSUER_KEY_CLAIM = 7
};

typedef struct CachedKey
{
	char key_id[LEYSER_KEY_ID_MAX + 1]; /* hash key */
	LeyserTokenKey *key;                /* own: secret page; issuer: keys_context */
	Size mapped;                        /* bytes of the secret page, or 0 */
} CachedKey;

static MemoryContext keys_context = NULL;
static HTAB *keys = NULL;
static bool identity_known = false;
static bool identity_has_keyring = false;
static pg_uuid_t identity_keyring;
static char identity_database[UUID_LEN * 2 + 5];

static void
cache_free_key(CachedKey *entry)
{
	if (entry->key == NULL)
		return;
	if (entry->key->public_key)
		EVP_PKEY_free(entry->key->public_key);
	explicit_bzero(entry->key->secret, sizeof(entry->key->secret));
	if (entry->mapped > 0)
		munmap(entry->key, entry->mapped);
	entry->key = NULL;
}

static void
cache_forget_keys(void)
{
	identity_known = false;
	leyser_token_forget();
	if (keys)
	{
		HASH_SEQ_STATUS scan;
		CachedKey *entry;

		hash_seq_init(&scan, keys);
		while ((entry = hash_seq_search(&scan)) != NULL)
			cache_free_key(entry);
	}
	keys = NULL;
	if (keys_context)
		MemoryContextReset(keys_context);
}

static void
cache_wipe_at_exit(int code, Datum arg)
{
	cache_forget_keys();
}

/* Makes sure that the key cache exists and holds nothing that was marked. */
static void
cache_refresh_keys(void)
{
	HASHCTL ctl = {.keysize = LEYSER_KEY_ID_MAX + 1, .entrysize = sizeof(CachedKey)};
	static bool registered = false;

	if (leyser_cache_stale.keys || (keys && hash_get_num_entries(keys) >= CACHE_MAX_KEYS))
	{
		leyser_cache_stale.keys = false;
		cache_forget_keys();
	}
	if (keys)
		return;
	if (!registered)
		before_shmem_exit(cache_wipe_at_exit, (Datum) 0);
	registered = true;
	if (!keys_context)
		keys_context =
			AllocSetContextCreate(TopMemoryContext, "leyser keys", ALLOCSET_SMALL_SIZES);
	ctl.hcxt = keys_context;
	keys = hash_create("leyser keys", 16, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

static void
cache_key_error(LeyserTokenError *error, const char *message, const char *detail,
				const char *hint)
{
	error->sqlerrcode = LEYSER_ERRCODE_TOKEN_REFUSED;
	strlcpy(error->message, message, sizeof(error->message));
	strlcpy(error->detail, detail, sizeof(error->detail));
	strlcpy(error->hint, hint, sizeof(error->hint));
	error->log_detail[0] = '\0';
}

/* Reads the database's uuid and the id of the keyring that it is bound to. */
static void
cache_read_identity(void)
{
	Relation rel = table_open(leyser_cache_relations[REL_IDENTITY], AccessShareLock);
	SysScanDesc scan = leyser_cache_begin_scan(rel, 0, NULL);
	HeapTuple tuple = systable_getnext(scan);
	Datum datum;
	bool isnull;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "leyser.identity has no row");
	datum = heap_getattr(tuple, IDENTITY_DATABASE_ID, RelationGetDescr(rel), &isnull);
	if (isnull)
		elog(ERROR, "leyser.identity has no database_id");
	strlcpy(identity_database, DatumGetCString(DirectFunctionCall1(uuid_out, datum)),
			sizeof(identity_database));
	datum = heap_getattr(tuple, IDENTITY_KEYRING_ID, RelationGetDescr(rel), &isnull);
	identity_has_keyring = !isnull;
	if (!isnull)
		identity_keyring = *DatumGetUUIDP(datum);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	identity_known = true;
}

bool
leyser_cache_has_keyring(void)
{
	if (!leyser_cache_find_relations())
		return false;
	leyser_cache_catch_up();
	if (!identity_known)
		cache_read_identity();
	return identity_has_keyring;
}

/* State of an own key, or NULL where the id is none of ours. */
static char *
cache_read_signing_state(const char *key_id)
{
	Relation rel = table_open(leyser_cache_relations[REL_SIGNING_KEY], AccessShareLock);
	SysScanDesc scan = leyser_cache_begin_scan(rel, REL_SIGNING_KEY_PKEY, key_id);
	HeapTuple tuple = systable_getnext(scan);
	char *state = NULL;

	if (HeapTupleIsValid(tuple))
		state = leyser_cache_text(tuple, rel, SIGNING_KEY_STATE);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return state;
}

/* A page of its own for one secret, left out of core dumps. */
static LeyserTokenKey *
cache_map_secret_page(Size *mapped)
{
	Size size = TYPEALIGN(sysconf(_SC_PAGESIZE), sizeof(LeyserTokenKey));
	void *page =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	(void) madvise(page, size, MADV_DONTDUMP);
	*mapped = size;
	return page;
}

/* What is wrong with the keyring itself is told before: the fence may lie there. */
static bool
cache_key_is_refused(LeyserTokenError *error)
{
	if (!leyser_fence_view()->keys_refused)
		return false;
	cache_key_error(error, "tokens of this keyring are refused for now",
					"This server seems to have been restored from a backup, which "
					"brings back sessions and accounts that have ended since.",
					"An operator sees in leyser.guard_alerts() what is to be done.");
	return true;
}

/* Fills in an own key from its file. */
static bool
cache_load_own_key(CachedKey *entry, LeyserTokenError *error)
{
	LeyserKeyringError why;
	LeyserTokenKey *key;

	if (!identity_has_keyring)
	{
		cache_key_error(error, "this database has no keyring",
						"No keyring was made or adopted for this database.",
						"A key custodian calls leyser.initialize_keyring().");
		return false;
	}
	key = cache_map_secret_page(&entry->mapped);
	if (!leyser_keyring_read_key(entry->key_id, &identity_keyring, key->secret, &why))
	{
		cache_key_error(error, why.message, "", why.hint);
		strlcpy(error->log_detail, why.detail, sizeof(error->log_detail));
		munmap(key, entry->mapped);
		return false;
	}
	if (cache_key_is_refused(error))
	{
		explicit_bzero(key->secret, sizeof(key->secret));
		munmap(key, entry->mapped);
		return false;
	}
	strlcpy(key->key_id, entry->key_id, sizeof(key->key_id));
	key->algorithm = LEYSER_HS256;
	key->own = true;
	key->audience = MemoryContextStrdup(keys_context, identity_database);
	key->tenant_claim = "tenant";
	entry->key = key;
	return true;
}

/* Fills in an issuer's key from its row; false where there is none. */
static bool
cache_load_issuer_key(CachedKey *entry)
{
	Relation rel = table_open(leyser_cache_relations[REL_ISSUER_KEY], AccessShareLock);
	SysScanDesc scan = leyser_cache_begin_scan(rel, REL_ISSUER_KEY_PKEY, entry->key_id);
	HeapTuple tuple = systable_getnext(scan);

	if (HeapTupleIsValid(tuple))
	{
		MemoryContext old = MemoryContextSwitchTo(keys_context);
		LeyserTokenKey *key = palloc0(sizeof(LeyserTokenKey));
		char *pem = leyser_cache_text(tuple, rel, ISSUER_KEY_PEM);
		const char *reason;

		strlcpy(key->key_id, entry->key_id, sizeof(key->key_id));
		key->public_key = leyser_token_read_public_key(pem, &key->algorithm, &reason);
		key->issuer = leyser_cache_text(tuple, rel, ISSUER_KEY_ISSUER);
		key->audience = leyser_cache_text(tuple, rel, ISSUER_KEY_AUDIENCE);
		key->tenant_id = leyser_cache_text(tuple, rel, ISSUER_KEY_TENANT);
		key->tenant_claim = leyser_cache_text(tuple, rel, ISSUER_KEY_CLAIM);
		MemoryContextSwitchTo(old);
		pfree(pem);
		if (key->public_key)
			entry->key = key;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return entry->key != NULL;
}

/* Whether a signing key in this state may verify. */
static bool
cache_state_verifies(const char *state)
{
	return strcmp(state, "active") == 0 || strcmp(state, "verifying") == 0;
}

/* Reads a key that is not in the cache. */
static bool
cache_load_key(CachedKey *entry, LeyserTokenError *error)
{
	char *state;

	if (!identity_known)
		cache_read_identity();
	state = cache_read_signing_state(entry->key_id);
	if (state && cache_state_verifies(state))
		return cache_load_own_key(entry, error);
	if (state == NULL && cache_load_issuer_key(entry))
		return true;
	cache_key_error(error, "token refused",
					"The token names a key that this database does not accept.",
					"Use a token that was signed with a key which "
					"leyser.keyring_status() lists as active or verifying.");
	return false;
}

const LeyserTokenKey *
leyser_cache_key(const char *key_id, LeyserTokenError *error)
{
	for (;;)
	{
		CachedKey entry = {.key = NULL};
		CachedKey *cached;
		uint64 before;

		if (!leyser_cache_find_relations())
		{
			cache_key_error(error, "token refused",
							"The extension leyser is not installed in this database.",
							"CREATE EXTENSION leyser CASCADE;");
			return NULL;
		}
		cache_refresh_keys();
		cached = hash_search(keys, key_id, HASH_FIND, NULL);
		if (cached)
			return cached->key;
		before = leyser_cache_generation();
		strlcpy(entry.key_id, key_id, sizeof(entry.key_id));
		if (!cache_load_key(&entry, error))
		{
			if (before != leyser_cache_generation())
				continue;
			return NULL;
		}
		if (before != leyser_cache_generation())
		{
			cache_free_key(&entry);
			continue;
		}
		cached = hash_search(keys, key_id, HASH_ENTER, NULL);
		cached->key = entry.key;
		cached->mapped = entry.mapped;
		return cached->key;
	}
}

bool
leyser_cache_key_is_valid(const char *key_id)
{
	LeyserTokenError ignored;

	return leyser_cache_key(key_id, &ignored) != NULL;
}

const LeyserTokenKey *
leyser_cache_signing_key(LeyserTokenError *error)
{
	char key_id[LEYSER_KEY_ID_MAX + 1] = "";
	Relation rel;
	SysScanDesc scan;
	HeapTuple tuple;

	if (!leyser_cache_find_relations())
		return leyser_cache_key("", error);
	rel = table_open(leyser_cache_relations[REL_SIGNING_KEY], AccessShareLock);
	scan = leyser_cache_begin_scan(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		char *state = leyser_cache_text(tuple, rel, SIGNING_KEY_STATE);

		if (strcmp(state, "active") == 0)
			strlcpy(key_id, leyser_cache_text(tuple, rel, SIGNING_KEY_ID),
					sizeof(key_id));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	if (key_id[0] == '\0')
	{
		cache_read_identity();
		cache_key_error(
			error, "this database has no active signing key",
			identity_has_keyring ? "Its keys were retired, as they are after a restore."
								 : "No keyring was made or adopted for this database.",
			identity_has_keyring ? "A key custodian calls leyser.activate_signing_key("
								   "leyser.stage_signing_key())."
								 : "A key custodian calls leyser.initialize_keyring().");
		return NULL;
	}
	return leyser_cache_key(key_id, error);
}
