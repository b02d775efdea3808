/*
 * token.c
 *		JSON Web Tokens (RFC 7519) in compact form (RFC 7515): verify and sign.
 *
 * Order is what makes this safe.  The header is read only to find the key; the
 * key decides the algorithm and the header must agree; the signature is
 * checked before one byte of the payload is parsed.  So who has no key learns
 * nothing but "wrong signature", and reaches no code behind it.
 *
 * A token that was verified before is not verified again (token_memory.c); its
 * key and its times are looked at all the same.
 *
 * Verification runs in a check hook: everything wrong with a token is told by
 * *error, nothing is raised.  What parsing allocates lives in a context of its
 * own that is reset at each call; only the claims go to the caller's context.
 * No message holds any part of a token.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "token.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/json.h"
#include "utils/memutils.h"

#include "encoding.h"
#include "token_claims.h"
#include "token_json.h"
#include "token_memory.h"
#include "token_signature.h"

static MemoryContext scratch;

/* A token cut at its dots. */
typedef struct TokenParts
{
	const char *token;
	size_t token_len;
	size_t header_len;
	const char *payload;
	size_t payload_len;
	size_t signed_len; /* header, dot, payload */
	unsigned char signature[LEYSER_SIGNATURE_MAX + 4];
	size_t signature_len;
} TokenParts;

void
leyser_token_init(void)
{
	scratch =
		AllocSetContextCreate(TopMemoryContext, "leyser token", ALLOCSET_DEFAULT_SIZES);
	leyser_signature_init();
}

static bool
token_malformed(LeyserTokenError *error, const char *detail)
{
	return leyser_token_refuse(error, "token is malformed", detail,
							   "Pass the whole token as its issuer gave it.");
}

static bool
token_split(const char *token, TokenParts *parts, LeyserTokenError *error)
{
	const char *dot;
	const char *second;
	size_t tail;

	parts->token = token;
	parts->token_len = strnlen(token, LEYSER_TOKEN_MAX + 1);
	if (parts->token_len > LEYSER_TOKEN_MAX)
		return leyser_token_refuse(error, "token is too long",
								   "It has more than 8192 bytes.",
								   "Let the issuer put fewer claims into it.");
	dot = strchr(token, '.');
	second = dot == NULL ? NULL : strchr(dot + 1, '.');
	if (second == NULL || strchr(second + 1, '.') != NULL)
		return token_malformed(error, "It does not have three parts.");

	parts->header_len = dot - token;
	parts->payload = dot + 1;
	parts->payload_len = second - dot - 1;
	parts->signed_len = second - token;
	tail = parts->token_len - parts->signed_len - 1;
	if (parts->header_len == 0 || parts->payload_len == 0 || tail == 0)
		return token_malformed(error, "One of its parts is empty.");
	if (tail > LEYSER_BASE64URL_LEN(LEYSER_SIGNATURE_MAX) ||
		!leyser_base64url_decode(second + 1, tail, parts->signature,
								 &parts->signature_len))
		return token_malformed(error, "Its signature is not base64url.");
	return true;
}

/* Decodes and parses one part; object's strings lie in the scratch context. */
static bool
token_parse_part(const char *part, size_t len, const char *not_base64url,
				 LeyserJsonObject *object, const char *prefix, LeyserTokenError *error)
{
	char *json = palloc(LEYSER_BASE64URL_DECODED_MAX(len) + 1);
	const char *problem;
	size_t json_len;

	if (!leyser_base64url_decode(part, len, (unsigned char *) json, &json_len))
		return token_malformed(error, not_base64url);
	json[json_len] = '\0';
	problem = leyser_json_parse(json, json_len, object);
	if (problem == NULL)
		return true;
	token_malformed(error, "");
	/* The reason's "It" becomes "Its header" or "Its payload". */
	snprintf(error->detail, sizeof(error->detail), "%s%s", prefix,
			 problem + strlen("It"));
	return false;
}

/*
 * Key ids as issuers use them, base64 among them.  What a file's name may hold
 * is narrower, and keyring.c's matter; but nothing here looks like a path up.
 */
static bool
token_key_id_is_plain(const char *key_id)
{
	static const char plain[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-+/=:";
	size_t len = strlen(key_id);

	return len > 0 && len <= LEYSER_KEY_ID_MAX && strspn(key_id, plain) == len &&
		   key_id[0] != '.' && strstr(key_id, "..") == NULL;
}

static bool
token_type_is_known(const LeyserJsonObject *header)
{
	const LeyserJsonMember *typ = leyser_json_find(header, "typ");
	const char *type;

	if (typ == NULL)
		return true;
	if (typ->kind != LEYSER_JSON_STRING)
		return false;
	type = typ->text;
	if (pg_strncasecmp(type, "application/", strlen("application/")) == 0)
		type += strlen("application/");
	return pg_strcasecmp(type, "JWT") == 0 || pg_strcasecmp(type, "at+jwt") == 0;
}

/* What the header says by itself, before any key is looked up. */
static bool
token_check_header(const LeyserJsonObject *header, const char **key_id,
				   const char **algorithm, LeyserTokenError *error)
{
	const LeyserJsonMember *kid = leyser_json_find(header, "kid");
	const LeyserJsonMember *alg = leyser_json_find(header, "alg");

	if (leyser_json_find(header, "crit") != NULL ||
		leyser_json_find(header, "b64") != NULL)
		return leyser_token_refuse(error, "token uses an extension that is not supported",
								   "Its header has \"crit\" or \"b64\".",
								   "Let the issuer make plain signed tokens.");
	if (!token_type_is_known(header))
		return leyser_token_refuse(error, "token is of a type that is not accepted",
								   "Its header's \"typ\" is neither JWT nor at+jwt.",
								   "Use an access token, not another kind of token.");
	if (alg == NULL || alg->kind != LEYSER_JSON_STRING)
		return token_malformed(error, "Its header names no algorithm.");
	if (kid == NULL || kid->kind != LEYSER_JSON_STRING ||
		!token_key_id_is_plain(kid->text))
		return leyser_token_refuse(error, "token names no usable key",
								   "Its header's \"kid\" is missing, too long, or has "
								   "characters that no key id has.",
								   "Let the issuer name the key as add_issuer_key() was "
								   "told.");
	*key_id = kid->text;
	*algorithm = alg->text;
	return true;
}

static bool
token_algorithm_agrees(const char *name, LeyserTokenAlgorithm algorithm)
{
	switch (algorithm)
	{
		case LEYSER_HS256:
			return strcmp(name, "HS256") == 0;
		case LEYSER_EDDSA:
			return strcmp(name, "EdDSA") == 0 || strcmp(name, "Ed25519") == 0;
		case LEYSER_ES256:
			return strcmp(name, "ES256") == 0;
		case LEYSER_RS256:
			return strcmp(name, "RS256") == 0;
	}
	return false;
}

/* The key that the header names, once the signature was found to be its own. */
static const LeyserTokenKey *
token_find_key(const TokenParts *parts, LeyserKeyLookup lookup, MemoryContext caller,
			   LeyserTokenError *error)
{
	LeyserJsonObject header;
	const LeyserTokenKey *key;
	const char *key_id = NULL;
	const char *algorithm = NULL;

	if (!token_parse_part(parts->token, parts->header_len, "Its header is not base64url.",
						  &header, "Its header", error) ||
		!token_check_header(&header, &key_id, &algorithm, error))
		return NULL;

	MemoryContextSwitchTo(caller);
	key = lookup(key_id, error);
	MemoryContextSwitchTo(scratch);
	if (key == NULL)
		return NULL;
	if (!token_algorithm_agrees(algorithm, key->algorithm))
	{
		leyser_token_refuse(
			error, "token's algorithm is not its key's", "The key decides the algorithm.",
			"Let the issuer sign with the algorithm of the key it names.");
		return NULL;
	}
	if (!leyser_signature_is_right(key, parts->token, parts->signed_len, parts->signature,
								   parts->signature_len))
	{
		leyser_token_refuse(error, "token's signature is wrong",
							"It was altered, cut off, or signed by somebody else.",
							"Get a new token from its issuer.");
		return NULL;
	}
	return key;
}

static bool
token_check(const char *token, LeyserKeyLookup lookup, const LeyserTokenLimits *limits,
			MemoryContext caller, LeyserClaims *claims, LeyserTokenError *error)
{
	TokenParts parts;
	LeyserJsonObject payload;
	const LeyserTokenKey *key;
	bool ok;

	if (!token_split(token, &parts, error))
		return false;
	key = token_find_key(&parts, lookup, caller, error);
	if (key == NULL || !token_parse_part(parts.payload, parts.payload_len,
										 "Its payload is not base64url.", &payload,
										 "Its payload", error))
		return false;
	ok = leyser_claims_read(key, &payload, limits, claims, error);
	/* of one that has expired the caller is told whose it was */
	if (!ok && error->sqlerrcode != LEYSER_ERRCODE_TOKEN_EXPIRED)
		return false;
	claims->tenant = MemoryContextStrdup(caller, claims->tenant);
	if (claims->account != NULL)
		claims->account = MemoryContextStrdup(caller, claims->account);
	if (ok)
		leyser_token_remember(token, key, claims);
	return ok;
}

/* The claims of a token that its key has verified before, times not judged. */
static bool
token_recall(const char *token, LeyserKeyLookup lookup, LeyserClaims *claims)
{
	char key_id[LEYSER_KEY_ID_MAX + 1];
	const LeyserTokenKey *verified_by;
	const LeyserTokenKey *key;
	const LeyserClaims *known = leyser_token_recall(token, &verified_by);
	LeyserTokenError ignored;

	if (known == NULL)
		return false;
	strlcpy(key_id, known->key_id, sizeof(key_id));
	key = lookup(key_id, &ignored); /* may find that all is to be forgotten */
	known = leyser_token_recall(token, &verified_by);
	if (key == NULL || known == NULL || key != verified_by)
		return false;
	*claims = *known;
	claims->tenant = pstrdup(known->tenant);
	if (known->account != NULL)
		claims->account = pstrdup(known->account);
	return true;
}

bool
leyser_token_verify(const char *token, LeyserKeyLookup lookup,
					const LeyserTokenLimits *limits, LeyserClaims *claims,
					LeyserTokenError *error)
{
	MemoryContext caller = CurrentMemoryContext;
	bool ok;

	/* The JSON parser would raise where it cannot convert an escape. */
	if (GetDatabaseEncoding() != PG_UTF8)
		return leyser_token_refuse(error, "tokens are not accepted in this database",
								   "Its encoding is not UTF8.",
								   "Use a database with encoding UTF8.");
	if (token_recall(token, lookup, claims))
		return leyser_claims_are_timely(claims, limits, error);
	MemoryContextReset(scratch); /* an error of lookup may have left something */
	MemoryContextSwitchTo(scratch);
	ok = token_check(token, lookup, limits, caller, claims, error);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(scratch);
	return ok;
}

static void
append_base64url(StringInfo out, const unsigned char *bytes, size_t len)
{
	enlargeStringInfo(out, LEYSER_BASE64URL_LEN(len) + 1);
	out->len += leyser_base64url_encode(bytes, len, out->data + out->len);
	out->data[out->len] = '\0';
}

/*
 * A NumericDate with its fraction (RFC 7519 section 2): rounded to seconds, a
 * token of one second could be dead when it is issued.
 */
static void
append_numeric_date(StringInfo json, const char *name, TimestampTz when)
{
	TimestampTz since_1970 = when + LEYSER_EPOCH_DIFFERENCE * USECS_PER_SEC;

	appendStringInfo(json, ",\"%s\":" INT64_FORMAT ".%06d", name,
					 since_1970 / USECS_PER_SEC, (int) (since_1970 % USECS_PER_SEC));
}

static void
append_payload(StringInfo json, const LeyserTokenKey *key, const LeyserClaims *claims,
			   TimestampTz now)
{
	appendStringInfoString(json, "{\"tenant\":");
	escape_json(json, claims->tenant);
	if (claims->account != NULL)
	{
		appendStringInfoString(json, ",\"sub\":");
		escape_json(json, claims->account);
		appendStringInfo(json, ",\"account_id\":" INT64_FORMAT, claims->account_id);
	}
	if (claims->has_session)
	{
		char session[LEYSER_UUID_TEXT_LEN + 1];

		leyser_uuid_to_text(&claims->session, session);
		appendStringInfo(json, ",\"sid\":\"%s\"", session);
	}
	append_numeric_date(json, "iat", now);
	append_numeric_date(json, "exp", claims->expires_at);
	appendStringInfoString(json, ",\"aud\":");
	escape_json(json, key->audience);
	appendStringInfoChar(json, '}');
}

char *
leyser_token_sign(const LeyserTokenKey *key, const LeyserClaims *claims, TimestampTz now)
{
	unsigned char mac[LEYSER_HS256_LEN];
	StringInfoData json;
	StringInfoData token;

	initStringInfo(&json);
	initStringInfo(&token);
	appendStringInfoString(&json, "{\"alg\":\"HS256\",\"kid\":");
	escape_json(&json, key->key_id);
	appendStringInfoString(&json, ",\"typ\":\"JWT\"}");
	append_base64url(&token, (unsigned char *) json.data, json.len);
	appendStringInfoChar(&token, '.');

	resetStringInfo(&json);
	append_payload(&json, key, claims, now);
	append_base64url(&token, (unsigned char *) json.data, json.len);

	if (!leyser_signature_hs256(key, token.data, token.len, mac))
		elog(ERROR, "could not compute an HMAC");
	appendStringInfoChar(&token, '.');
	append_base64url(&token, mac, sizeof(mac));
	pfree(json.data);
	return token.data;
}
