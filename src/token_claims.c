/*
 * token_claims.c
 *		What a token claims, judged once its signature is known to be right.
 *
 * A key speaks for an issuer, an audience and perhaps one tenant; a token that
 * claims more is refused however well it is signed.  Claims that are absent
 * are missing, claims of another type are wrong: nothing is converted.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "token_claims.h"

#include "encoding.h"

#define NUMERIC_DATE_MAX INT64CONST(253402300799) /* the end of year 9999 */
#define NUMERIC_DATE_CHARS 32
#define ACCOUNT_ID_DIGITS 18

bool
leyser_token_refuse(LeyserTokenError *error, const char *message, const char *detail,
					const char *hint)
{
	error->sqlerrcode = LEYSER_ERRCODE_TOKEN_REFUSED;
	strlcpy(error->message, message, sizeof(error->message));
	strlcpy(error->detail, detail, sizeof(error->detail));
	error->log_detail[0] = '\0';
	strlcpy(error->hint, hint, sizeof(error->hint));
	return false;
}

static bool
claims_wrong(LeyserTokenError *error, const char *detail)
{
	return leyser_token_refuse(
		error, "token's claims are not acceptable", detail,
		"The issuer must make tokens as leyser's reference describes.");
}

/*
 * A NumericDate: seconds since 1970, perhaps with a fraction (rounded down to
 * microseconds).  False where it is missing, no number, or out of range.
 */
static bool
claims_read_time(const LeyserJsonMember *member, TimestampTz *when)
{
	double seconds;
	char *end;

	if (member == NULL || member->kind != LEYSER_JSON_NUMBER ||
		strlen(member->text) > NUMERIC_DATE_CHARS)
		return false;
	if (strspn(member->text, "0123456789") == strlen(member->text))
	{
		int64 whole = strtoll(member->text, NULL, 10);

		if (whole > NUMERIC_DATE_MAX)
			return false;
		*when = (whole - LEYSER_EPOCH_DIFFERENCE) * USECS_PER_SEC;
		return true;
	}
	seconds = strtod(member->text, &end);
	if (*end != '\0' || !(seconds >= 0 && seconds <= NUMERIC_DATE_MAX))
		return false;
	*when = (int64) (seconds * USECS_PER_SEC) - LEYSER_EPOCH_DIFFERENCE * USECS_PER_SEC;
	return true;
}

static bool
claims_too_early(LeyserTokenError *error)
{
	return leyser_token_refuse(error, "token is not valid yet",
							   "It begins to count, or was issued, in the future.",
							   "Compare the clocks of its issuer and of this server; "
							   "leyser.clock_leeway tells what is tolerated.");
}

static bool
claims_too_long_lived(LeyserTokenError *error)
{
	return leyser_token_refuse(error, "token lives too long",
							   "Its lifetime exceeds leyser.max_token_lifetime.",
							   "Let the issuer make tokens that expire sooner.");
}

static bool
claims_read_times(const LeyserJsonObject *payload, LeyserClaims *claims,
				  LeyserTokenError *error)
{
	const LeyserJsonMember *nbf = leyser_json_find(payload, "nbf");
	const LeyserJsonMember *iat = leyser_json_find(payload, "iat");

	claims->not_before = claims->issued_at = DT_NOBEGIN;
	if (!claims_read_time(leyser_json_find(payload, "exp"), &claims->expires_at))
		return claims_wrong(error, "\"exp\" is missing or not a time.");
	if (nbf != NULL && !claims_read_time(nbf, &claims->not_before))
		return claims_wrong(error, "\"nbf\" is not a time.");
	if (iat != NULL && !claims_read_time(iat, &claims->issued_at))
		return claims_wrong(error, "\"iat\" is not a time.");
	return true;
}

bool
leyser_claims_are_timely(const LeyserClaims *claims, const LeyserTokenLimits *limits,
						 LeyserTokenError *error)
{
	TimestampTz latest_begin = limits->now + limits->leeway_us;
	TimestampTz exp = claims->expires_at;

	if (leyser_token_end(claims->own, exp, limits) <= limits->now)
	{
		leyser_token_refuse(error, "token has expired", "Its \"exp\" lies in the past.",
							"Get a new token from its issuer.");
		error->sqlerrcode = LEYSER_ERRCODE_TOKEN_EXPIRED;
		return false;
	}
	if (exp > latest_begin + limits->max_lifetime_us)
		return claims_too_long_lived(error);
	if (claims->not_before > latest_begin || claims->issued_at > latest_begin)
		return claims_too_early(error);
	if (!TIMESTAMP_IS_NOBEGIN(claims->issued_at) &&
		exp - claims->issued_at > limits->max_lifetime_us)
		return claims_too_long_lived(error);
	return true;
}

static bool
claims_has_audience(const LeyserJsonMember *aud, const char *audience)
{
	ListCell *cell;

	if (aud == NULL)
		return false;
	if (aud->kind == LEYSER_JSON_STRING)
		return strcmp(aud->text, audience) == 0;
	if (aud->kind != LEYSER_JSON_ARRAY || !aud->only_strings)
		return false;
	foreach (cell, aud->strings)
	{
		if (strcmp((char *) lfirst(cell), audience) == 0)
			return true;
	}
	return false;
}

/* Does the key's holder speak for itself, to us? */
static bool
claims_check_parties(const LeyserTokenKey *key, const LeyserJsonObject *payload,
					 LeyserTokenError *error)
{
	const LeyserJsonMember *iss = leyser_json_find(payload, "iss");

	if (iss != NULL && iss->kind != LEYSER_JSON_STRING)
		return claims_wrong(error, "\"iss\" is not a string.");
	if (key->issuer != NULL && (iss == NULL || strcmp(iss->text, key->issuer) != 0))
		return leyser_token_refuse(
			error, "token is from another issuer",
			"Its \"iss\" is not the issuer that its key was added for.",
			"Compare it with what add_issuer_key() was told.");
	if (!claims_has_audience(leyser_json_find(payload, "aud"), key->audience))
		return leyser_token_refuse(
			error, "token is for another audience",
			"Its \"aud\" does not name what its key was added for: a "
			"token of another service, or of another database.",
			"Ask its issuer for a token for this database.");
	return true;
}

/* 1 to 200 characters, none of them a control character (C0, DEL, C1). */
static bool
claims_name_is_fine(const char *name)
{
	int chars = 0;

	for (const unsigned char *c = (const unsigned char *) name; *c != '\0'; c++)
	{
		if (*c < 0x20 || *c == 0x7f || (c[0] == 0xc2 && c[1] < 0xa0))
			return false;
		if ((*c & 0xc0) != 0x80 && ++chars > LEYSER_NAME_MAX_CHARS)
			return false;
	}
	return chars > 0;
}

/* Which tenant the token names, and whether its key may speak for it. */
static bool
claims_read_tenant(const LeyserTokenKey *key, const LeyserJsonObject *payload,
				   char **tenant, LeyserTokenError *error)
{
	const LeyserJsonMember *member = leyser_json_find(
		payload, key->tenant_claim != NULL ? key->tenant_claim : "tenant");

	if (member == NULL && key->tenant_id != NULL)
	{
		*tenant = unconstify(char *, key->tenant_id);
		return true;
	}
	if (member == NULL)
		return claims_wrong(error, "The claim that names the tenant is missing.");
	if (member->kind != LEYSER_JSON_STRING || !claims_name_is_fine(member->text))
		return claims_wrong(error, "The claim that names the tenant is not a string "
								   "of 1 to 200 printable characters.");
	if (key->tenant_id != NULL && strcmp(member->text, key->tenant_id) != 0)
		return leyser_token_refuse(
			error, "token's key does not speak for this tenant",
			"The key was added for one tenant, the token names another.",
			"Use the key of the tenant's own issuer.");
	*tenant = member->text;
	return true;
}

/*
 * The id of the account that an own token names, so that nobody who takes the name
 * later is meant by it.  An issuer knows no ids, and what it calls so is its own.
 */
static bool
claims_read_account_id(const LeyserJsonObject *payload, LeyserClaims *claims,
					   LeyserTokenError *error)
{
	const LeyserJsonMember *id = leyser_json_find(payload, "account_id");

	if (id == NULL || id->kind != LEYSER_JSON_NUMBER ||
		strspn(id->text, "0123456789") != strlen(id->text) ||
		strlen(id->text) > ACCOUNT_ID_DIGITS)
		return claims_wrong(error, "\"account_id\" is missing or no number.");
	claims->account_id = strtoll(id->text, NULL, 10);
	return claims->account_id > 0 || claims_wrong(error, "\"account_id\" is 0.");
}

static bool
claims_read_account(const LeyserTokenKey *key, const LeyserJsonObject *payload,
					LeyserClaims *claims, LeyserTokenError *error)
{
	const LeyserJsonMember *sub = leyser_json_find(payload, "sub");
	const LeyserJsonMember *sid = leyser_json_find(payload, "sid");

	if (sub != NULL &&
		(sub->kind != LEYSER_JSON_STRING || !claims_name_is_fine(sub->text)))
		return claims_wrong(error, "\"sub\" is not a string of 1 to 200 printable "
								   "characters.");
	claims->account = sub != NULL ? sub->text : NULL;
	claims->account_id = 0;
	if (key->own && sub != NULL && !claims_read_account_id(payload, claims, error))
		return false;

	/* An issuer's session ids are its own affair: they name none of ours. */
	claims->has_session = key->own && sid != NULL;
	if (claims->has_session && (sid->kind != LEYSER_JSON_STRING ||
								!leyser_uuid_from_text(sid->text, &claims->session)))
		return claims_wrong(error, "\"sid\" is not a uuid.");
	return true;
}

bool
leyser_claims_read(const LeyserTokenKey *key, const LeyserJsonObject *payload,
				   const LeyserTokenLimits *limits, LeyserClaims *claims,
				   LeyserTokenError *error)
{
	claims->own = key->own;
	if (!claims_check_parties(key, payload, error) ||
		!claims_read_tenant(key, payload, &claims->tenant, error) ||
		!claims_read_account(key, payload, claims, error) ||
		!claims_read_times(payload, claims, error) ||
		!leyser_claims_are_timely(claims, limits, error))
		return false;
	strlcpy(claims->key_id, key->key_id, sizeof(claims->key_id));
	return true;
}
