/*
 * custodian.c
 *		The key custodian's work on files, for the functions in keyring.sql.
 *
 * These are internal: they are granted to nobody and called only by SQL
 * functions that hold the lock of leyser.signing_key and keep the rows.  A
 * secret is never among their results.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "leyser.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "keyring_file.h"
#include "token.h"

PG_FUNCTION_INFO_V1(leyser_custodian_begin);
PG_FUNCTION_INFO_V1(leyser_custodian_create);
PG_FUNCTION_INFO_V1(leyser_custodian_read_id);
PG_FUNCTION_INFO_V1(leyser_custodian_write_key);
PG_FUNCTION_INFO_V1(leyser_custodian_write_pepper);
PG_FUNCTION_INFO_V1(leyser_custodian_check_key);
PG_FUNCTION_INFO_V1(leyser_custodian_list_keys);
PG_FUNCTION_INFO_V1(leyser_custodian_list_unfinished);
PG_FUNCTION_INFO_V1(leyser_custodian_diagnose);
PG_FUNCTION_INFO_V1(leyser_custodian_public_key_algorithm);

/*
 * keyring_begin(command text): what every changing call needs before it writes
 * a file, since a file cannot be rolled back.  25006 on a standby and in a
 * read-only transaction.
 */
Datum
leyser_custodian_begin(PG_FUNCTION_ARGS)
{
	char *command = text_to_cstring(PG_GETARG_TEXT_PP(0));

	leyser_require_preloaded();
	PreventCommandDuringRecovery(command);
	PreventCommandIfReadOnly(command);
	PG_RETURN_VOID();
}

/* keyring_create() → uuid: LY008 where a keyring lies there, LY002. */
Datum
leyser_custodian_create(PG_FUNCTION_ARGS)
{
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

	leyser_require_preloaded();
	leyser_keyring_create(id);
	PG_RETURN_UUID_P(id);
}

/* keyring_read_id() → uuid: LY002 where there is none that can be read. */
Datum
leyser_custodian_read_id(PG_FUNCTION_ARGS)
{
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));
	LeyserKeyringError error;

	leyser_require_preloaded();
	if (!leyser_keyring_read_id(id, &error))
		leyser_keyring_raise(&error);
	PG_RETURN_UUID_P(id);
}

/* keyring_write_key(keyring_id uuid) → text: the new key's id; LY002. */
Datum
leyser_custodian_write_key(PG_FUNCTION_ARGS)
{
	leyser_require_preloaded();
	PG_RETURN_TEXT_P(cstring_to_text(leyser_keyring_write_key(PG_GETARG_UUID_P(0))));
}

/* keyring_write_pepper(keyring_id uuid): unless it has one; LY002. */
Datum
leyser_custodian_write_pepper(PG_FUNCTION_ARGS)
{
	leyser_require_preloaded();
	leyser_keyring_write_pepper(PG_GETARG_UUID_P(0));
	PG_RETURN_VOID();
}

/* Key ids begin with their time, so none of them is the pepper's. */
static bool
check_key(const char *key_id, const pg_uuid_t *keyring_id, LeyserKeyringError *error)
{
	unsigned char secret[LEYSER_SECRET_LEN];
	bool ok = strcmp(key_id, LEYSER_KEYRING_PEPPER) == 0
				  ? leyser_keyring_read_pepper(keyring_id, secret, error)
				  : leyser_keyring_read_key(key_id, keyring_id, secret, error);

	explicit_bzero(secret, sizeof(secret));
	return ok;
}

/* keyring_check_key(key_id text, keyring_id uuid): LY002 unless it can sign. */
Datum
leyser_custodian_check_key(PG_FUNCTION_ARGS)
{
	LeyserKeyringError error;

	leyser_require_preloaded();
	if (!check_key(text_to_cstring(PG_GETARG_TEXT_PP(0)), PG_GETARG_UUID_P(1), &error))
		leyser_keyring_raise(&error);
	PG_RETURN_VOID();
}

static Datum
text_array(List *strings)
{
	ArrayBuildState *texts = initArrayResult(TEXTOID, CurrentMemoryContext, false);
	ListCell *cell;

	foreach (cell, strings)
		texts = accumArrayResult(texts, CStringGetTextDatum((char *) lfirst(cell)), false,
								 TEXTOID, CurrentMemoryContext);
	return makeArrayResult(texts, CurrentMemoryContext);
}

/* keyring_list_keys() → text[]: ids of the key files, oldest first; LY002. */
Datum
leyser_custodian_list_keys(PG_FUNCTION_ARGS)
{
	leyser_require_preloaded();
	PG_RETURN_DATUM(text_array(leyser_keyring_list_keys()));
}

/* keyring_list_unfinished() → text[]: names of temporary files; LY002. */
Datum
leyser_custodian_list_unfinished(PG_FUNCTION_ARGS)
{
	leyser_require_preloaded();
	PG_RETURN_DATUM(text_array(leyser_keyring_list_unfinished()));
}

static const char *
state_name(LeyserKeyringState state)
{
	switch (state)
	{
		case LEYSER_KEYRING_OK:
			return "ok";
		case LEYSER_KEYRING_NOT_CONFIGURED:
			return "not configured";
		case LEYSER_KEYRING_MISSING:
			return "missing";
		case LEYSER_KEYRING_UNREADABLE:
			return "unreadable";
		case LEYSER_KEYRING_UNSAFE:
			return "unsafe";
		case LEYSER_KEYRING_LOST:
			return "lost";
		case LEYSER_KEYRING_DAMAGED:
			return "damaged";
		case LEYSER_KEYRING_FOREIGN:
			return "foreign";
		case LEYSER_KEYRING_INCOMPLETE:
			return "incomplete";
	}
	return "unreadable";
}

/*
 * keyring_diagnose(key_id text, keyring_id uuid, OUT state, OUT detail, OUT
 * remedy, OUT found uuid): how the keyring (key_id null) or one of its keys
 * is, without raising.  A null keyring_id means any keyring.
 */
Datum
leyser_custodian_diagnose(PG_FUNCTION_ARGS)
{
	LeyserKeyringError error = {.state = LEYSER_KEYRING_OK};
	Datum values[4] = {0};
	bool nulls[4] = {false, true, true, true};
	pg_uuid_t found;
	TupleDesc row;

	leyser_require_preloaded();
	if (get_call_result_type(fcinfo, NULL, &row) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (leyser_keyring_read_id(&found, &error))
	{
		values[3] = UUIDPGetDatum(&found);
		nulls[3] = false;
		if (!PG_ARGISNULL(0))
			check_key(text_to_cstring(PG_GETARG_TEXT_PP(0)),
					  PG_ARGISNULL(1) ? &found : PG_GETARG_UUID_P(1), &error);
		else if (!PG_ARGISNULL(1))
			leyser_keyring_compare(&found, PG_GETARG_UUID_P(1), &error);
	}
	values[0] = CStringGetTextDatum(state_name(error.state));
	if (error.state != LEYSER_KEYRING_OK)
	{
		values[1] = CStringGetTextDatum(error.message);
		values[2] = CStringGetTextDatum(error.hint);
		nulls[1] = nulls[2] = false;
	}
	PG_RETURN_DATUM(
		HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row), values, nulls)));
}

static const char *
algorithm_name(LeyserTokenAlgorithm algorithm)
{
	switch (algorithm)
	{
		case LEYSER_HS256:
			return "HS256";
		case LEYSER_EDDSA:
			return "EdDSA";
		case LEYSER_ES256:
			return "ES256";
		case LEYSER_RS256:
			return "RS256";
	}
	return NULL;
}

/* public_key_algorithm(pem text) → text: 22023 with the reason. */
Datum
leyser_custodian_public_key_algorithm(PG_FUNCTION_ARGS)
{
	char *pem = text_to_cstring(PG_GETARG_TEXT_PP(0));
	LeyserTokenAlgorithm algorithm;
	const char *reason;
	EVP_PKEY *public_key;

	leyser_require_preloaded();
	public_key = leyser_token_read_public_key(pem, &algorithm, &reason);
	if (public_key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("public key is not acceptable"), errdetail("%s", reason),
				 errhint("Give an Ed25519, P-256 or RSA (2048 to 8192 bits) public key, "
						 "as \"openssl pkey -pubout\" prints it.")));
	EVP_PKEY_free(public_key);
	PG_RETURN_TEXT_P(cstring_to_text(algorithm_name(algorithm)));
}
