/*
 * event_digest.c
 *		What is hashed of an event, and how.
 *
 * Each field is preceded by its length, so no two events are hashed alike.  Nothing
 * depends on the machine: numbers are in network order, jsonb is walked token by
 * token, so a dump that is restored elsewhere gives the same hashes.
 *
 * The digest is over the content and a salt; without the salt nobody can try out
 * what an erased content was.  The leaf is over the digest and what is never
 * erased.  Chains (sql/event_seal.sql) are made of leaves.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "event_digest.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/inet.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include <openssl/evp.h>
#include <sys/socket.h>

#include "compat.h"

/* Kept: to make them anew would cost more than most hashes. */
static EVP_MD_CTX *hash_context = NULL;
static StringInfoData hashed;

/* ---- the hash ---- */

void
leyser_event_hash(const void *data, size_t length, uint8 *digest)
{
	bool ok;

	if (hash_context == NULL)
	{
		EVP_MD_CTX *context = EVP_MD_CTX_new();

		if (context == NULL || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1)
			elog(ERROR, "could not begin a SHA-256 hash");
		hash_context = context;
	}
	/* the same algorithm again, without a look-up */
	ok = EVP_DigestInit_ex(hash_context, NULL, NULL) == 1 &&
		 EVP_DigestUpdate(hash_context, data, length) == 1 &&
		 EVP_DigestFinal_ex(hash_context, digest, NULL) == 1;
	if (!ok)
		elog(ERROR, "could not compute a SHA-256 hash");
}

static StringInfo
hash_begin(void)
{
	if (hashed.data == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

		initStringInfo(&hashed);
		MemoryContextSwitchTo(caller);
	}
	resetStringInfo(&hashed);
	return &hashed;
}

/* ---- fields ---- */

/* Most fields are short: without a call, where there is room. */
static inline void
add_raw(StringInfo into, const void *data, int length)
{
	if (unlikely(into->len + length >= into->maxlen))
		enlargeStringInfo(into, length);
	memcpy(into->data + into->len, data, length);
	into->len += length;
}

static inline void
add_byte(StringInfo into, char byte)
{
	add_raw(into, &byte, 1);
}

static void
add_int64(StringInfo into, int64 value)
{
	uint64 network = pg_hton64((uint64) value);

	add_raw(into, &network, sizeof(network));
}

static inline void
add_bytes(StringInfo into, const char *data, int length)
{
	uint32 network = pg_hton32((uint32) length);

	add_raw(into, &network, sizeof(network));
	add_raw(into, data, length);
}

/* NULL is another thing than an empty value. */
static inline bool
add_presence(StringInfo into, bool isnull)
{
	add_byte(into, isnull ? '\0' : '\1');
	return !isnull;
}

static void
add_varlena(StringInfo into, Datum value, bool isnull)
{
	struct varlena *data;

	if (!add_presence(into, isnull))
		return;
	data = PG_DETOAST_DATUM_PACKED(value);
	add_bytes(into, VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data));
	if (data != (struct varlena *) DatumGetPointer(value))
		pfree(data);
}

static void
add_output(StringInfo into, PGFunction output, Datum value)
{
	char *text = DatumGetCString(DirectFunctionCall1(output, value));

	add_bytes(into, text, strlen(text));
	pfree(text);
}

/* An address without what depends on the machine. */
static void
add_address(StringInfo into, Datum value)
{
	inet *address = DatumGetInetPP(value);
	bool is_ip4 = ip_family(address) == PGSQL_AF_INET;

	add_byte(into, is_ip4 ? 4 : 6);
	add_byte(into, (char) ip_bits(address));
	add_bytes(into, (const char *) ip_addr(address), ip_addrsize(address));
}

static void
add_scalar(StringInfo into, const JsonbValue *value)
{
	add_byte(into, (char) value->type);
	switch (value->type)
	{
		case jbvString:
			add_bytes(into, value->val.string.val, value->val.string.len);
			break;
		case jbvNumeric:
			add_output(into, numeric_out, NumericGetDatum(value->val.numeric));
			break;
		case jbvBool:
			add_byte(into, value->val.boolean ? '\1' : '\0');
			break;
		case jbvNull:
			break;
		default:
			elog(ERROR, "unexpected value in an event's detail");
	}
}

static void
add_jsonb(StringInfo into, Datum value, bool isnull)
{
	JsonbIteratorToken token;
	JsonbIterator *iterator;
	JsonbValue found;

	if (!add_presence(into, isnull))
		return;
	iterator = JsonbIteratorInit(&DatumGetJsonbP(value)->root);
	while ((token = JsonbIteratorNext(&iterator, &found, false)) != WJB_DONE)
	{
		add_byte(into, (char) token);
		if (token == WJB_KEY || token == WJB_VALUE || token == WJB_ELEM)
			add_scalar(into, &found);
	}
}

/* ---- an event ---- */

void
leyser_event_digest(const Datum *values, const bool *nulls, uint8 *digest)
{
	StringInfo into = hash_begin();

	add_varlena(into, values[LEYSER_EVENT_SALT], nulls[LEYSER_EVENT_SALT]);
	add_varlena(into, values[LEYSER_EVENT_SESSION_ROLE],
				nulls[LEYSER_EVENT_SESSION_ROLE]);
	add_varlena(into, values[LEYSER_EVENT_CALLER_ROLE], nulls[LEYSER_EVENT_CALLER_ROLE]);
	if (add_presence(into, nulls[LEYSER_EVENT_ADDRESS]))
		add_address(into, values[LEYSER_EVENT_ADDRESS]);
	if (add_presence(into, nulls[LEYSER_EVENT_ACCOUNT]))
		add_int64(into, DatumGetInt64(values[LEYSER_EVENT_ACCOUNT]));
	add_varlena(into, values[LEYSER_EVENT_OBJECT], nulls[LEYSER_EVENT_OBJECT]);
	add_jsonb(into, values[LEYSER_EVENT_DETAIL], nulls[LEYSER_EVENT_DETAIL]);
	add_varlena(into, values[LEYSER_EVENT_IMAGES], nulls[LEYSER_EVENT_IMAGES]);
	leyser_event_hash(into->data, into->len, digest);
}

void
leyser_event_leaf(const Datum *values, const bool *nulls, uint8 *leaf)
{
	StringInfo into = hash_begin();

	add_int64(into, DatumGetTimestampTz(values[LEYSER_EVENT_AT]));
	add_varlena(into, values[LEYSER_EVENT_NAME], nulls[LEYSER_EVENT_NAME]);
	add_varlena(into, values[LEYSER_EVENT_TENANT], nulls[LEYSER_EVENT_TENANT]);
	add_varlena(into, values[LEYSER_EVENT_DIGEST], nulls[LEYSER_EVENT_DIGEST]);
	leyser_event_hash(into->data, into->len, leaf);
}
