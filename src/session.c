/*
 * session.c
 *		Tokens of sessions, for the functions in session.sql and support.sql.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "leyser.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "context.h"
#include "token.h"

PG_FUNCTION_INFO_V1(leyser_session_sign_token);

/*
 * sign_session_token(tenant_id text, account_id bigint, account_name text,
 * session_id uuid, ends_at timestamptz) → text: internal; a token of this session
 * that expires when the session ends, or after leyser.max_token_lifetime.  Those of
 * support access have no account.  LY002 without a usable keyring.
 */
Datum
leyser_session_sign_token(PG_FUNCTION_ARGS)
{
	LeyserClaims claims = {.tenant = text_to_cstring(PG_GETARG_TEXT_PP(0)),
						   .has_session = true,
						   .session = *PG_GETARG_UUID_P(3)};

	leyser_require_preloaded();
	if (!PG_ARGISNULL(1))
	{
		claims.account_id = PG_GETARG_INT64(1);
		claims.account = text_to_cstring(PG_GETARG_TEXT_PP(2));
	}
	return leyser_context_sign_text(&claims, PG_GETARG_TIMESTAMPTZ(4));
}
