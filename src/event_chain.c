/*
 * event_chain.c
 *		The chains of events, as they are verified seal by seal.
 *
 * Seals come in the order of their runs; in each, the service's first, which tells
 * the hash of the links of all others.  Where a chain's former seals were not read it
 * begins with what the checkpoint, or the seal before, tells.  sql/event_seal.sql says
 * what a link is made of.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "event_chain.h"

#include "catalog/pg_type.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"

#define SEALS_AT_ONCE 16

static const char seals_query[] =
	"SELECT s.chain, s.number, s.run, s.sealed_at, s.members, s.run_digest, s.link"
	" FROM leyser.event_seal s"
	" WHERE s.run OPERATOR(pg_catalog.>=) $1 AND s.run OPERATOR(pg_catalog.<=) $2"
	" AND ($3 IS NULL OR s.chain OPERATOR(pg_catalog.=) $3)"
	" ORDER BY s.run, s.chain";
static const char starts_query[] =
	"SELECT DISTINCT ON (b.chain) b.chain, b.number, b.link FROM ("
	" SELECT c.chain, c.number, c.link FROM leyser.event_checkpoint c"
	" UNION ALL SELECT s.chain, s.number, s.link FROM leyser.event_seal s"
	" WHERE s.run OPERATOR(pg_catalog.<) $1) b"
	" WHERE $2 IS NULL OR b.chain OPERATOR(pg_catalog.=) $2"
	" ORDER BY b.chain, b.number DESC";

typedef struct Seal
{
	LeyserChain *chain;
	int64 number;
	int64 run;
	TimestampTz sealed_at;
	bytea *members;
	bytea *run_digest; /* NULL: not the service's */
	bytea *link;
} Seal;

/* ---- chains ---- */

static void
copy_digest(uint8 *into, const bytea *from)
{
	memset(into, 0, LEYSER_DIGEST_LENGTH);
	memcpy(into, VARDATA_ANY(from), Min(VARSIZE_ANY_EXHDR(from), LEYSER_DIGEST_LENGTH));
}

static bool
same_digest(const uint8 *digest, const bytea *other)
{
	return VARSIZE_ANY_EXHDR(other) == LEYSER_DIGEST_LENGTH &&
		   memcmp(digest, VARDATA_ANY(other), LEYSER_DIGEST_LENGTH) == 0;
}

static LeyserChain *
chain_of(LeyserChainReader *reader, const char *name)
{
	bool found;
	LeyserChain *chain = hash_search(reader->chains, name, HASH_ENTER, &found);

	if (!found)
	{
		char *first = psprintf("leyser events:%s", name);

		chain->number = 0;
		leyser_event_hash(first, strlen(first), chain->link);
		pfree(first);
	}
	return chain;
}

/* ---- links ---- */

static void
append_int64(StringInfo into, int64 value)
{
	uint64 network = pg_hton64((uint64) value);

	appendBinaryStringInfo(into, (const char *) &network, sizeof(network));
}

static void
seal_compute_link(const Seal *seal, uint8 *link)
{
	uint8 members[LEYSER_DIGEST_LENGTH];
	StringInfoData hashed;

	leyser_event_hash(VARDATA_ANY(seal->members), VARSIZE_ANY_EXHDR(seal->members),
					  members);
	initStringInfo(&hashed);
	appendBinaryStringInfo(&hashed, (const char *) seal->chain->link,
						   LEYSER_DIGEST_LENGTH);
	append_int64(&hashed, seal->number);
	append_int64(&hashed, seal->sealed_at);
	appendBinaryStringInfo(&hashed, (const char *) members, LEYSER_DIGEST_LENGTH);
	if (seal->run_digest != NULL)
		appendBinaryStringInfo(&hashed, VARDATA_ANY(seal->run_digest),
							   VARSIZE_ANY_EXHDR(seal->run_digest));
	leyser_event_hash(hashed.data, hashed.len, link);
	pfree(hashed.data);
}

/* ---- runs ---- */

static void
run_finish(LeyserChainReader *reader)
{
	uint8 digest[LEYSER_DIGEST_LENGTH];

	if (reader->run == 0 || !reader->all_chains)
		return;
	leyser_event_hash(reader->run_links.data, reader->run_links.len, digest);
	if (memcmp(digest, reader->run_digest, LEYSER_DIGEST_LENGTH) != 0)
		reader->report(reader->argument, "run", chain_of(reader, ""), reader->run, 0,
					   reader->run_digest, digest);
}

static void
run_begin(LeyserChainReader *reader, const Seal *seal)
{
	run_finish(reader);
	reader->run = seal->run;
	resetStringInfo(&reader->run_links);
	memset(reader->run_digest, 0, sizeof(reader->run_digest));
}

static void
run_add(LeyserChainReader *reader, const Seal *seal)
{
	uint8 name[LEYSER_DIGEST_LENGTH];

	if (!reader->all_chains)
		return;
	if (reader->run != seal->run)
		run_begin(reader, seal);
	if (seal->run_digest != NULL)
	{
		copy_digest(reader->run_digest, seal->run_digest);
		return;
	}
	leyser_event_hash(seal->chain->name, strlen(seal->chain->name), name);
	appendBinaryStringInfo(&reader->run_links, (const char *) name, sizeof(name));
	append_int64(&reader->run_links, seal->number);
	appendBinaryStringInfo(&reader->run_links, VARDATA_ANY(seal->link),
						   VARSIZE_ANY_EXHDR(seal->link));
}

/* ---- seals ---- */

static void
seal_tell_members(LeyserChainReader *reader, const Seal *seal)
{
	const char *member = VARDATA_ANY(seal->members);
	size_t length = VARSIZE_ANY_EXHDR(seal->members);

	for (size_t i = 0; i + LEYSER_MEMBER_LENGTH <= length; i += LEYSER_MEMBER_LENGTH)
	{
		uint64 event_id;

		memcpy(&event_id, member + i, sizeof(event_id));
		reader->member(reader->argument, (int64) pg_ntoh64(event_id),
					   (const uint8 *) member + i + sizeof(event_id), seal->chain,
					   seal->number);
	}
}

/* What follows a seal that is wrong is judged by what it says. */
static void
seal_check(LeyserChainReader *reader, const Seal *seal)
{
	LeyserChain *chain = seal->chain;
	uint8 link[LEYSER_DIGEST_LENGTH];

	for (int64 missing = chain->number + 1; missing < seal->number; missing++)
	{
		reader->report(reader->argument, "seal missing", chain, missing, 0, NULL, NULL);
		/* one names them all */
		break;
	}
	if (seal->number <= chain->number)
		reader->report(reader->argument, "seal", chain, seal->number, 0, NULL, NULL);
	else if (seal->number == chain->number + 1)
	{
		seal_compute_link(seal, link);
		if (!same_digest(link, seal->link))
			reader->report(reader->argument, "seal", chain, seal->number, 0, link, NULL);
	}
	run_add(reader, seal);
	seal_tell_members(reader, seal);
	chain->number = seal->number;
	copy_digest(chain->link, seal->link);
}

static Datum
seal_column(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

static void
seal_read(LeyserChainReader *reader, uint64 row)
{
	bool isnull;
	Datum digest = seal_column(row, 6, &isnull);
	Seal seal = {.run_digest = isnull ? NULL : DatumGetByteaPP(digest)};

	seal.chain = chain_of(reader, TextDatumGetCString(seal_column(row, 1, &isnull)));
	seal.number = DatumGetInt64(seal_column(row, 2, &isnull));
	seal.run = DatumGetInt64(seal_column(row, 3, &isnull));
	seal.sealed_at = DatumGetTimestampTz(seal_column(row, 4, &isnull));
	seal.members = DatumGetByteaPP(seal_column(row, 5, &isnull));
	seal.link = DatumGetByteaPP(seal_column(row, 7, &isnull));
	seal_check(reader, &seal);
}

/* ---- reading ---- */

static void
chain_read_starts(LeyserChainReader *reader, const char *only, int64 first)
{
	Oid types[2] = {INT8OID, TEXTOID};
	Datum values[2] = {Int64GetDatum(first),
					   only ? CStringGetTextDatum(only) : (Datum) 0};
	char nulls[2] = {' ', only ? ' ' : 'n'};

	if (SPI_execute_with_args(starts_query, 2, types, values, nulls, true, 0) !=
		SPI_OK_SELECT)
		elog(ERROR, "could not read where chains of events begin");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;
		LeyserChain *chain =
			chain_of(reader, TextDatumGetCString(seal_column(i, 1, &isnull)));

		chain->number = DatumGetInt64(seal_column(i, 2, &isnull));
		copy_digest(chain->link, DatumGetByteaPP(seal_column(i, 3, &isnull)));
	}
	SPI_freetuptable(SPI_tuptable);
}

void
leyser_chain_begin(LeyserChainReader *reader, const char *chain, int64 first, int64 last)
{
	HASHCTL control = {.keysize = LEYSER_CHAIN_NAME_MAX,
					   .entrysize = sizeof(LeyserChain),
					   .hcxt = CurrentMemoryContext};
	Oid types[3] = {INT8OID, INT8OID, TEXTOID};
	Datum values[3] = {Int64GetDatum(first), Int64GetDatum(last),
					   chain ? CStringGetTextDatum(chain) : (Datum) 0};
	char nulls[3] = {' ', ' ', chain ? ' ' : 'n'};

	reader->chains = hash_create("leyser chains", 64, &control,
								 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	reader->all_chains = chain == NULL;
	reader->run = 0;
	initStringInfo(&reader->run_links);
	reader->memory = AllocSetContextCreate(CurrentMemoryContext, "leyser seals",
										   ALLOCSET_DEFAULT_SIZES);
	chain_read_starts(reader, chain, first);
	reader->seals =
		SPI_cursor_open_with_args(NULL, seals_query, 3, types, values, nulls, true, 0);
}

bool
leyser_chain_read(LeyserChainReader *reader)
{
	MemoryContext caller;
	uint64 count;

	SPI_cursor_fetch(reader->seals, true, SEALS_AT_ONCE);
	count = SPI_processed;
	MemoryContextReset(reader->memory);
	caller = MemoryContextSwitchTo(reader->memory);
	for (uint64 i = 0; i < count; i++)
		seal_read(reader, i);
	if (count == 0)
		run_finish(reader);
	MemoryContextSwitchTo(caller);
	SPI_freetuptable(SPI_tuptable);
	return count != 0;
}
