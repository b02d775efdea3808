/*
 * session.c
 *		Sessions: their tokens and their end, for session.sql and support.sql.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "leyser.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "context.h"
#include "token.h"

PG_FUNCTION_INFO_V1(leyser_session_sign_token);
PG_FUNCTION_INFO_V1(leyser_session_end_all);

/*
 * sign_session_token(tenant_id text, account_id bigint, account_name text,
 * session_id uuid, ends_at timestamptz) → text: internal; a token of this session
 * that expires when the session ends, or after leyser.max_token_lifetime.  Those of
 * support access have no account.  LY002 without a usable keyring.
 */
Datum
leyser_session_sign_token(PG_FUNCTION_ARGS)
{
	LeyserClaims claims = {.has_session = true};

	leyser_require_preloaded();
	if (PG_ARGISNULL(0) || PG_ARGISNULL(3) || PG_ARGISNULL(4) ||
		PG_ARGISNULL(1) != PG_ARGISNULL(2))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("a session has a tenant, an id and an end, and an "
							   "account's id comes with its name")));
	claims.tenant = text_to_cstring(PG_GETARG_TEXT_PP(0));
	claims.session = *PG_GETARG_UUID_P(3);
	if (!PG_ARGISNULL(1))
	{
		claims.account_id = PG_GETARG_INT64(1);
		claims.account = text_to_cstring(PG_GETARG_TEXT_PP(2));
	}
	return leyser_context_sign_text(&claims, PG_GETARG_TIMESTAMPTZ(4));
}

/*
 * end_sessions(account_id bigint, but uuid) → integer: internal; ends an account's
 * sessions, but for one (null: all of them), and returns how many.
 *
 * A session that began after the transaction's snapshot must end, too, so it
 * reads what is committed now.  It only adds rows, locks none, and waits for
 * nobody: a session must not be able to hold up its own end.
 */
Datum
leyser_session_end_all(PG_FUNCTION_ARGS)
{
	/* an hour: the longest leyser.clock_leeway */
	static const char *const command =
		"INSERT INTO leyser.revoked_session (session_id, expires_at) "
		"SELECT s.session_id, s.expires_at FROM leyser.session_record s "
		"WHERE s.account_id = $1 AND s.session_id IS DISTINCT FROM $2 "
		"AND s.expires_at > clock_timestamp() - interval '1 hour' AND NOT EXISTS "
		"(SELECT FROM leyser.revoked_session r WHERE r.session_id = s.session_id)";
	Oid types[2] = {INT8OID, UUIDOID};
	Datum values[2] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
	const char *nulls = PG_ARGISNULL(1) ? " n" : "  ";
	SPIPlanPtr plan;
	int ended;

	if (PG_ARGISNULL(0))
		PG_RETURN_INT32(0);
	SPI_connect();
	plan = SPI_prepare(command, 2, types);
	if (plan == NULL || SPI_execute_snapshot(plan, values, nulls, GetLatestSnapshot(),
											 InvalidSnapshot, false, true, 0) < 0)
		elog(ERROR, "could not end sessions");
	ended = SPI_processed;
	SPI_finish();
	PG_RETURN_INT32(ended);
}
