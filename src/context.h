/*
 * context.h
 *		Which tenant (and account) the current transaction works for.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_CONTEXT_H
#define LEYSER_CONTEXT_H

#include "leyser.h"

#include "token.h"

/*
 * What a verified token says, in one flat block: it is the "extra" of
 * leyser.token, which the GUC machinery frees with a single free().  Strings
 * lie behind the struct; an offset of 0 means none.
 */
typedef struct LeyserContext
{
	uint32 size;             /* of the whole block */
	LocalTransactionId lxid; /* the transaction in which it was set */
	TimestampTz expires_at;
	TimestampTz issued_at; /* of an issuer's token that says so, else DT_NOEND */
	int64 account_id;      /* 0: none, or not known yet */
	bool own;              /* of a token that an own key signed */
	bool has_session;
	pg_uuid_t session;
	uint32 tenant; /* offsets of C strings */
	uint32 account;
	uint32 key_id;
} LeyserContext;

#define leyser_context_string(context, member)                                           \
	((const char *) (context) + (context)->member)

#define LEYSER_CONTEXT_MAX                                                               \
	(sizeof(LeyserContext) + 2 * (LEYSER_NAME_MAX_BYTES + 1) + LEYSER_KEY_ID_MAX + 1)

/* Builds the block in a caller's buffer of LEYSER_CONTEXT_MAX bytes. */
extern void leyser_context_build(LeyserContext *context, const LeyserClaims *claims,
								 LocalTransactionId lxid);
extern bool leyser_context_same_identity(const LeyserContext *a, const LeyserContext *b);

/* Replaces a token by its claims; false only when out of memory. */
extern bool leyser_context_encode(char **newval, void **extra,
								  const LeyserContext *context);

/* Takes over the leader's context in a parallel worker that is starting. */
extern bool leyser_context_decode(const char *value, void **extra);

/* What the getters read: filled in by a check, good until the next statement. */
typedef struct LeyserContextValues
{
	bool checked; /* the rest is valid */
	uint64 check; /* the number of the check: another one each statement */
	TimestampTz checked_at;
	int64 account_id; /* 0 without an account */
	bool is_export;   /* of an export window, not of a token */
	bool has_int8;    /* the tenant id is the canonical text of a bigint */
	bool has_uuid;    /* … of a uuid */
	int64 as_int8;
	pg_uuid_t *as_uuid; /* these live until the transaction ends */
	text *tenant;
	text *account;
	pg_uuid_t *session;
} LeyserContextValues;

extern LeyserContextValues leyser_context_values;

/*
 * Whether the context's account is active, and still the one that the token was
 * made for, and its session not revoked; false and *error (LY005) where not.
 * *account_id is 0 without an account.
 */
extern bool leyser_context_check_account(const LeyserContext *context, int64 *account_id,
										 LeyserTokenError *error);

extern void leyser_context_init(void);

/* True where a token is set that counts in this transaction.  Never raises. */
extern bool leyser_context_is_set(void);

/*
 * Whether this transaction works for some tenant already, perhaps without a
 * context by now (leave()).
 */
extern bool leyser_context_is_bound(void);

/* A new statement begins: the getters look again at all they rely on. */
extern void leyser_context_new_statement(void);

/*
 * Checks the context.  Returns true and fills leyser_context_values, or false
 * and *error; sqlerrcode LY001 where there is none.
 */
extern bool leyser_context_check(LeyserTokenError *error);

/* The same, but raises.  With leyser.on_missing_context = hide, returns false. */
extern bool leyser_context_require(void);

/* Where a context is set, or was in this transaction: LY009. */
extern void leyser_context_refuse_second(void);

/* For context_check.c. */
extern void leyser_context_check_init(void);
extern void leyser_context_forget_check(void);

/* Whether a token of an earlier transaction is all there is. */
extern bool leyser_context_is_stale(void);

/* leyser.on_missing_context = hide */
extern bool leyser_context_hides_missing(void);

/*
 * From now on this transaction works for this identity; false where it works
 * for another one already.
 */
extern bool leyser_context_bind(const LeyserContext *context);

extern void leyser_context_error(LeyserTokenError *error, int sqlerrcode,
								 const char *message, const char *detail,
								 const char *hint);

/* The context in force, or NULL. */
extern const LeyserContext *leyser_context_current(void);

/* Sets leyser.token for the rest of the transaction. */
extern void leyser_context_set(const char *token, bool local);

extern void leyser_context_raise(const LeyserTokenError *error);

extern LeyserTokenLimits leyser_context_limits(void);

/* Raises what setting this token would raise, and sets nothing. */
extern void leyser_context_try(const char *token);

/*
 * A token for these claims, signed with the active key; it ends at ends_at, or
 * after leyser.max_token_lifetime.  Raises LY002 without a usable keyring.
 */
extern char *leyser_context_sign(LeyserClaims *claims, TimestampTz ends_at);

/* The same as an SQL value; the working copy is wiped. */
extern Datum leyser_context_sign_text(LeyserClaims *claims, TimestampTz ends_at);

#endif /* LEYSER_CONTEXT_H */
