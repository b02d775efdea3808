/*
 * cache.c
 *		What a backend knows of leyser's own tables, always as of now.
 *
 * A tenant's suspension, a key's retirement and an issuer's removal count at
 * the next statement of every backend, on standbys and under REPEATABLE READ
 * too.  The rules that make this true:
 *
 *  - Rows are read by systable scans with a catalogue snapshot, which is new
 *    for every scan whatever the transaction's isolation level; a scan under
 *    the transaction's snapshot would read old rows and keep them for longer
 *    than the transaction lives.
 *  - A trigger on each table we read invalidates one of a few empty proxy
 *    relations.  That message travels in the commit record, so standbys get it.
 *  - Our callback only marks.  Entries are thrown away by the next look-up,
 *    outside of the callback.  InvalidOid means that messages were lost: all
 *    goes.
 *  - A look-up reads until no message came in while it was reading.
 *  - What a transaction that aborts has seen of its own changes is thrown away.
 *  - leyser_cache_catch_up() must come first: a backend that holds its locks
 *    already would not look at its message queue for the whole transaction.
 *
 * Only what is there and valid is kept: an unknown tenant or key is looked up
 * anew each time, so new rows need no message.  Each kind of entry is bounded;
 * a full cache starts again from nothing.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "cache.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "cache_fence.h"
#include "cache_relation.h"

static const char *const relation_names[CACHE_RELATIONS] = {
	"identity",
	"signing_key",
	"signing_key_pkey",
	"issuer_key",
	"issuer_key_pkey",
	"tenant_record",
	"tenant_record_pkey",
	"table_record",
	"usage_record",
	"schema_record",
	"privileged_window_record",
	"proxy_keys",
	"proxy_tenants",
	"proxy_tables",
	"account_record",
	"account_record_pkey",
	"account_record_name",
	"revoked_session",
	"revoked_session_pkey",
	"permission_record",
	"permission_record_pkey",
	"role_record",
	"role_record_pkey",
	"role_permission",
	"role_permission_pkey",
	"role_member",
	"role_member_pkey",
	"grant_record",
	"grant_record_account",
	"support_record",
	"support_record_session_id_key",
	"export_record",
	"export_record_pkey",
	"disclosure_window",
	"disclosure_window_pkey",
	"proxy_sessions",
	"proxy_accounts_0",
	"proxy_accounts_1",
	"proxy_accounts_2",
	"proxy_accounts_3",
	"proxy_accounts_4",
	"proxy_accounts_5",
	"proxy_accounts_6",
	"proxy_accounts_7",
	"proxy_accounts_8",
	"proxy_accounts_9",
	"proxy_accounts_10",
	"proxy_accounts_11",
	"proxy_accounts_12",
	"proxy_accounts_13",
	"proxy_accounts_14",
	"proxy_accounts_15"};

#define EVERYTHING_STALE                                                                 \
	{                                                                                    \
		true, true, true, true, LEYSER_CACHE_ALL_ACCOUNTS                                \
	}

LeyserCacheStale leyser_cache_stale = EVERYTHING_STALE;
Oid leyser_cache_relations[CACHE_RELATIONS];

static uint64 generation = 1;

/* This transaction changed one of our tables: its abort must flush. */
static bool changed_here = false;

static Oid extension_oid = InvalidOid;

PG_FUNCTION_INFO_V1(leyser_cache_invalidate);

/* ---- invalidation ---- */

static void
cache_mark_all(void)
{
	leyser_cache_stale = (LeyserCacheStale) EVERYTHING_STALE;
	generation++;
}

/* Callback for relations: marks, does nothing else. */
static void
cache_relation_changed(Datum arg, Oid relid)
{
	if (relid == InvalidOid)
	{
		cache_mark_all();
		return;
	}
	/* also while they are being looked up: those of before are still there */
	for (int i = 0; i < CACHE_RELATIONS; i++)
	{
		if (leyser_cache_relations[i] != relid)
			continue;
		/* DDL on a proxy looks like a message of it */
		leyser_cache_stale.relations = true;
		if (i == PROXY_KEYS)
			leyser_cache_stale.keys = true;
		else if (i == PROXY_TENANTS)
			leyser_cache_stale.tenants = true;
		else if (i == PROXY_TABLES)
			leyser_cache_stale.tables = true;
		else if (i >= PROXY_ACCOUNTS)
			leyser_cache_stale.accounts |= 1U << (i - PROXY_ACCOUNTS);
		else if (i != PROXY_SESSIONS) /* those are not kept */
		{
			/* DDL on our own tables: they may be gone, or others by now */
			cache_mark_all();
			return;
		}
		generation++;
		return;
	}
}

/* A schema was made or dropped: the extension may be here now. */
static void
cache_namespace_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	leyser_cache_stale.relations = true;
}

static void
cache_xact_ended(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
			if (changed_here)
				cache_mark_all();
			changed_here = false;
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			changed_here = false;
			break;
		default:
			break;
	}
}

static void
cache_subxact_ended(SubXactEvent event, SubTransactionId mySubid,
					SubTransactionId parentSubid, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && changed_here)
		cache_mark_all();
}

void
leyser_cache_changed_here(void)
{
	changed_here = true;
}

/*
 * Trigger on the tables we read: invalidates the proxy relation named by its
 * argument in every backend once this transaction commits.
 */
Datum
leyser_cache_invalidate(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Oid proxy;

	if (!CALLED_AS_TRIGGER(fcinfo) || trigdata->tg_trigger->tgnargs != 1)
		elog(ERROR, "leyser.cache_invalidate is a trigger with one argument");
	proxy = get_relname_relid(trigdata->tg_trigger->tgargs[0],
							  RelationGetNamespace(trigdata->tg_relation));
	if (!OidIsValid(proxy))
		elog(ERROR, "could not find the proxy relation \"%s\"",
			 trigdata->tg_trigger->tgargs[0]);
	leyser_cache_changed_here();
	CacheInvalidateRelcacheByRelid(proxy);
	return PointerGetDatum(NULL);
}

/* ---- the relations ---- */

/* The extension's oid and, filled in, those of our relations; or InvalidOid. */
static Oid
cache_look_up_relations(void)
{
	Oid namespace = get_namespace_oid("leyser", true);
	Oid extension;

	if (!OidIsValid(namespace))
		return InvalidOid;
	extension = get_extension_oid("leyser", true);
	for (int i = 0; i < CACHE_RELATIONS && OidIsValid(extension); i++)
	{
		leyser_cache_relations[i] = get_relname_relid(relation_names[i], namespace);
		if (!OidIsValid(leyser_cache_relations[i]))
			extension = InvalidOid;
	}
	/* a schema of that name, or an install script at work: look again */
	if (!OidIsValid(extension))
		leyser_cache_stale.relations = true;
	return extension;
}

/*
 * Looks our relations up; false where the extension is not installed.  A look-up
 * that fails leaves them stale: nobody must take that for "not installed".
 */
bool
leyser_cache_find_relations(void)
{
	if (!leyser_cache_stale.relations)
		return OidIsValid(extension_oid);
	leyser_cache_stale.relations = false;
	PG_TRY();
	{
		extension_oid = cache_look_up_relations();
	}
	PG_CATCH();
	{
		leyser_cache_stale.relations = true;
		PG_RE_THROW();
	}
	PG_END_TRY();
	return OidIsValid(extension_oid);
}

Oid
leyser_cache_extension(void)
{
	return leyser_cache_find_relations() ? extension_oid : InvalidOid;
}

void
leyser_cache_catch_up(void)
{
	AcceptInvalidationMessages();
	if (!leyser_fence_changed())
		return;
	/* which tenants and keys are locked is no message of a table */
	leyser_cache_stale.tenants = true;
	leyser_cache_stale.keys = true;
	generation++;
}

uint64
leyser_cache_generation(void)
{
	return generation;
}

/*
 * The index of a table that the caller has opened.  REINDEX CONCURRENTLY puts another
 * index in its place and drops the old one, which waits for whoever locks the table:
 * what is known of it counts from that lock on, not from before.
 */
Oid
leyser_cache_index(CacheRelation index)
{
	if (!leyser_cache_find_relations())
		elog(ERROR, "leyser is not installed in this database");
	return leyser_cache_relations[index];
}

SysScanDesc
leyser_cache_begin_scan(Relation rel, CacheRelation index, const char *key)
{
	ScanKeyData scankey;

	if (key == NULL)
		return systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	ScanKeyInit(&scankey, 1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(key));
	return systable_beginscan(rel, leyser_cache_index(index), true, NULL, 1, &scankey);
}

char *
leyser_cache_text(HeapTuple tuple, Relation rel, int column)
{
	bool isnull;
	Datum datum = heap_getattr(tuple, column, RelationGetDescr(rel), &isnull);

	return isnull ? NULL : TextDatumGetCString(datum);
}

void
leyser_cache_init(void)
{
	CacheRegisterRelcacheCallback(cache_relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, cache_namespace_changed, (Datum) 0);
	RegisterXactCallback(cache_xact_ended, NULL);
	RegisterSubXactCallback(cache_subxact_ended, NULL);
}
