/*
 * event_verify.c
 *		Compares the events with the chains that were made of them.
 *
 * Seals and events are read side by side, events as they lie, so two tables hold what
 * one side has told and the other has not yet: little, where little was committed late.
 * What is left over at the end, or differs, is a candidate that sql/event_verify.sql
 * judges.  Both sides are read with the statement's snapshot.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "event_chain.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"

#define EVENTS_AT_ONCE 1000

PG_FUNCTION_INFO_V1(leyser_event_scan);
PG_FUNCTION_INFO_V1(leyser_event_leaf_sql);

/* What one side told: of a seal, or of the event. */
typedef struct Mention
{
	int64 event_id; /* hash key */
	char status;
	uint8 leaf[LEYSER_DIGEST_LENGTH];
	const LeyserChain *chain; /* NULL: of the event */
	int64 number;
} Mention;

#define SH_PREFIX mention
#define SH_ELEMENT_TYPE Mention
#define SH_KEY_TYPE int64
#define SH_KEY event_id
#define SH_HASH_KEY(tb, key)                                                             \
	murmurhash32((uint32) (key) ^ (uint32) ((uint64) (key) >> 32))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "common/hashfn.h"
#include "lib/simplehash.h"

typedef struct Verification
{
	ReturnSetInfo *result;
	const char *chain; /* NULL: all */
	TimestampTz since;
	TimestampTz until;
	mention_hash *sealed; /* told by seals, and not found yet */
	mention_hash *found;  /* events that no seal has told yet */
	HTAB *erased;         /* tenants */
	uint64 members;
	uint64 events;
	List *relations; /* to be read yet */
	Relation rel;
	TableScanDesc scan;
	TupleTableSlot *slot;
	MemoryContext memory; /* of some events */
} Verification;

/* ---- findings ---- */

static Datum
bytes_of(const uint8 *digest)
{
	bytea *bytes = palloc(VARHDRSZ + LEYSER_DIGEST_LENGTH);

	SET_VARSIZE(bytes, VARHDRSZ + LEYSER_DIGEST_LENGTH);
	memcpy(VARDATA(bytes), digest, LEYSER_DIGEST_LENGTH);
	return PointerGetDatum(bytes);
}

static void
report(void *argument, const char *problem, const LeyserChain *chain, int64 number,
	   int64 event_id, const uint8 *expected, const uint8 *found)
{
	ReturnSetInfo *result = ((Verification *) argument)->result;
	Datum values[6] = {CStringGetTextDatum(problem),
					   chain ? CStringGetTextDatum(chain->name) : (Datum) 0,
					   Int64GetDatum(number),
					   Int64GetDatum(event_id),
					   expected ? bytes_of(expected) : (Datum) 0,
					   found ? bytes_of(found) : (Datum) 0};
	bool nulls[6] = {false,         chain == NULL,    number == 0,
					 event_id == 0, expected == NULL, found == NULL};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* ---- the two sides ---- */

/* A seal tells of an event. */
static void
verify_member(void *argument, int64 event_id, const uint8 *leaf, const LeyserChain *chain,
			  int64 number)
{
	Verification *verification = argument;
	Mention *mention = mention_lookup(verification->found, event_id);
	bool found;

	verification->members++;
	if (mention != NULL)
	{
		if (memcmp(mention->leaf, leaf, LEYSER_DIGEST_LENGTH) != 0)
			report(verification, "changed", chain, number, event_id, leaf, mention->leaf);
		mention_delete_item(verification->found, mention);
		return;
	}
	mention = mention_insert(verification->sealed, event_id, &found);
	memcpy(mention->leaf, leaf, LEYSER_DIGEST_LENGTH);
	mention->chain = chain;
	mention->number = number;
}

/* The log has an event. */
static void
verify_leaf(Verification *verification, int64 event_id, const uint8 *leaf)
{
	Mention *mention = mention_lookup(verification->sealed, event_id);
	bool found;

	if (mention != NULL)
	{
		if (memcmp(mention->leaf, leaf, LEYSER_DIGEST_LENGTH) != 0)
			report(verification, "changed", mention->chain, mention->number, event_id,
				   mention->leaf, leaf);
		mention_delete_item(verification->sealed, mention);
		return;
	}
	mention = mention_insert(verification->found, event_id, &found);
	if (found)
		report(verification, "not sealed", NULL, 0, event_id, NULL, leaf);
	memcpy(mention->leaf, leaf, LEYSER_DIGEST_LENGTH);
	mention->chain = NULL;
}

static bool
tenant_is_erased(const Verification *verification, const Datum *values, const bool *nulls)
{
	bool found = false;

	if (!nulls[LEYSER_EVENT_TENANT])
		(void) hash_search(verification->erased,
						   TextDatumGetCString(values[LEYSER_EVENT_TENANT]), HASH_FIND,
						   &found);
	return found;
}

/* The content against the digest, as far as it is there. */
static void
verify_content(Verification *verification, int64 event_id, const Datum *values,
			   const bool *nulls)
{
	uint8 digest[LEYSER_DIGEST_LENGTH];
	bytea *told = DatumGetByteaPP(values[LEYSER_EVENT_DIGEST]);

	if (nulls[LEYSER_EVENT_SALT])
	{
		if (!tenant_is_erased(verification, values, nulls))
			report(verification, "erased", NULL, 0, event_id, NULL, NULL);
		return;
	}
	leyser_event_digest(values, nulls, digest);
	if (VARSIZE_ANY_EXHDR(told) != LEYSER_DIGEST_LENGTH ||
		memcmp(digest, VARDATA_ANY(told), LEYSER_DIGEST_LENGTH) != 0)
		report(verification, "content", NULL, 0, event_id, NULL, digest);
}

static bool
event_is_wanted(const Verification *verification, const Datum *values, const bool *nulls)
{
	TimestampTz at = DatumGetTimestampTz(values[LEYSER_EVENT_AT]);
	text *tenant;

	if (at < verification->since || at > verification->until)
		return false;
	if (verification->chain == NULL)
		return true;
	if (nulls[LEYSER_EVENT_TENANT])
		return verification->chain[0] == '\0';
	tenant = DatumGetTextPP(values[LEYSER_EVENT_TENANT]);
	return VARSIZE_ANY_EXHDR(tenant) == strlen(verification->chain) &&
		   memcmp(VARDATA_ANY(tenant), verification->chain, VARSIZE_ANY_EXHDR(tenant)) ==
			   0;
}

static void
verify_event(Verification *verification, TupleTableSlot *slot)
{
	const Datum *values = slot->tts_values;
	const bool *nulls = slot->tts_isnull;
	uint8 leaf[LEYSER_DIGEST_LENGTH];
	int64 event_id;

	slot_getallattrs(slot);
	if (!event_is_wanted(verification, values, nulls))
		return;
	event_id = DatumGetInt64(values[LEYSER_EVENT_ID]);
	leyser_event_leaf(values, nulls, leaf);
	verify_leaf(verification, event_id, leaf);
	verify_content(verification, event_id, values, nulls);
}

/* ---- reading the events ---- */

static bool
events_open(Verification *verification)
{
	Oid relation;

	if (verification->relations == NIL)
		return false;
	relation = linitial_oid(verification->relations);
	verification->relations = list_delete_first(verification->relations);
	verification->rel = table_open(relation, AccessShareLock);
	if (RelationGetNumberOfAttributes(verification->rel) != LEYSER_EVENT_COLUMNS)
		elog(ERROR, "\"%s\" has other columns than events",
			 RelationGetRelationName(verification->rel));
	verification->slot = table_slot_create(verification->rel, NULL);
	verification->scan = table_beginscan(verification->rel, GetActiveSnapshot(), 0, NULL);
	return true;
}

static void
events_close(Verification *verification)
{
	table_endscan(verification->scan);
	ExecDropSingleTupleTableSlot(verification->slot);
	table_close(verification->rel, NoLock);
	verification->rel = NULL;
}

/* Reads some events; false at the end. */
static bool
events_read(Verification *verification)
{
	MemoryContext caller;
	bool more = true;

	if (verification->rel == NULL && !events_open(verification))
		return false;
	CHECK_FOR_INTERRUPTS();
	caller = MemoryContextSwitchTo(verification->memory);
	for (int i = 0; i < EVENTS_AT_ONCE && more; i++)
	{
		more = table_scan_getnextslot(verification->scan, ForwardScanDirection,
									  verification->slot);
		if (more)
			verify_event(verification, verification->slot);
	}
	verification->events += EVENTS_AT_ONCE;
	MemoryContextSwitchTo(caller);
	MemoryContextReset(verification->memory);
	if (!more)
		events_close(verification);
	return true;
}

/* ---- the whole ---- */

static void
read_erased(Verification *verification)
{
	HASHCTL control = {.keysize = LEYSER_CHAIN_NAME_MAX,
					   .entrysize = LEYSER_CHAIN_NAME_MAX,
					   .hcxt = CurrentMemoryContext};

	verification->erased = hash_create("leyser erased tenants", 64, &control,
									   HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	if (SPI_execute("SELECT t.tenant_id FROM leyser.tenant_record t WHERE t.state "
					"OPERATOR(pg_catalog.=) 'erased'"
					" UNION SELECT p.tenant_id FROM leyser.purge_record p WHERE "
					"p.started_at IS NOT NULL",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read which tenants are erased");
	for (uint64 i = 0; i < SPI_processed; i++)
		(void) hash_search(verification->erased,
						   SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1),
						   HASH_ENTER, NULL);
	SPI_freetuptable(SPI_tuptable);
}

static void
report_left(Verification *verification)
{
	mention_iterator iterator;
	Mention *mention;

	mention_start_iterate(verification->sealed, &iterator);
	while ((mention = mention_iterate(verification->sealed, &iterator)) != NULL)
		report(verification, "missing", mention->chain, mention->number,
			   mention->event_id, mention->leaf, NULL);
	mention_start_iterate(verification->found, &iterator);
	while ((mention = mention_iterate(verification->found, &iterator)) != NULL)
		report(verification, "not sealed", NULL, 0, mention->event_id, NULL,
			   mention->leaf);
}

static void
verify(Verification *verification, LeyserChainReader *reader)
{
	bool more_seals = true;
	bool more_events = true;

	while (more_seals || more_events)
	{
		if (more_seals && (!more_events || verification->members <= verification->events))
			more_seals = leyser_chain_read(reader);
		else
			more_events = events_read(verification);
	}
	report_left(verification);
}

/*
 * scan_events(chain text, since timestamptz, until timestamptz, first_run bigint,
 * last_run bigint) → setof candidates
 */
Datum
leyser_event_scan(PG_FUNCTION_ARGS)
{
	Oid parent = get_relname_relid("event_record", get_namespace_oid("leyser", false));
	Verification verification = {0};
	LeyserChainReader reader = {
		.report = report, .member = verify_member, .argument = &verification};

	InitMaterializedSRF(fcinfo, 0);
	verification.result = (ReturnSetInfo *) fcinfo->resultinfo;
	verification.chain = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));
	verification.since = PG_ARGISNULL(1) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(1);
	verification.until = PG_ARGISNULL(2) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(2);
	verification.sealed = mention_create(CurrentMemoryContext, 1024, NULL);
	verification.found = mention_create(CurrentMemoryContext, 1024, NULL);
	verification.memory = AllocSetContextCreate(
		CurrentMemoryContext, "leyser events to verify", ALLOCSET_DEFAULT_SIZES);
	verification.relations = find_inheritance_children(parent, AccessShareLock);
	verification.relations = lcons_oid(parent, verification.relations);
	SPI_connect();
	read_erased(&verification);
	leyser_chain_begin(&reader, verification.chain, PG_GETARG_INT64(3),
					   PG_GETARG_INT64(4));
	verify(&verification, &reader);
	SPI_finish();
	return (Datum) 0;
}

/* event_leaf(at timestamptz, event text, tenant_id text, digest bytea) → bytea */
Datum
leyser_event_leaf_sql(PG_FUNCTION_ARGS)
{
	Datum values[LEYSER_EVENT_COLUMNS] = {0};
	bool nulls[LEYSER_EVENT_COLUMNS];
	static const LeyserEventColumn columns[] = {LEYSER_EVENT_AT, LEYSER_EVENT_NAME,
												LEYSER_EVENT_TENANT, LEYSER_EVENT_DIGEST};
	uint8 leaf[LEYSER_DIGEST_LENGTH];

	memset(nulls, true, sizeof(nulls));
	for (int i = 0; i < (int) lengthof(columns); i++)
	{
		nulls[columns[i]] = PG_ARGISNULL(i);
		values[columns[i]] = PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
	}
	leyser_event_leaf(values, nulls, leaf);
	PG_RETURN_DATUM(bytes_of(leaf));
}
