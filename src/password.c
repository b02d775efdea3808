/*
 * password.c
 *		Hashing passwords: the pepper, and bcrypt behind a gate.
 *
 * What is stored is bcrypt over base64url(HMAC-SHA-256(pepper, password)): 43
 * bytes whatever the password's length, for bcrypt reads 72 bytes and no more;
 * and worthless to whoever has a dump but not the keyring.  bcrypt itself is
 * pgcrypto's, called in its library.
 *
 * A hash costs 50 milliseconds of processor time, on purpose.  So the server
 * computes only so many at a time, half as many as the machine has processors, but
 * two at least; the rest wait at a gate.  Without that, wrong passwords by the
 * thousand would stop everybody's queries.  Who has waited for GATE_TIMEOUT is
 * refused: callers fail closed.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "password.h"

#include <unistd.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "encoding.h"
#include "keyring.h"
#include "token_signature.h"
#include "compat.h"

#define GATE_MAX 32        /* processes that hash at a time, at most */
#define GATE_TIMEOUT 10000 /* milliseconds until one that waits is refused */
#define LOOK_AGAIN 1000    /* milliseconds */

typedef struct Gate
{
	LWLock *lock;
	ConditionVariable left;
	int allowed;
	int inside[GATE_MAX]; /* process ids, 0: free */
} Gate;

static Gate *gate = NULL;

static int password_cost = 10;
static int password_min_length = 15;

static shmem_request_hook_type prev_shmem_request = NULL;
static shmem_startup_hook_type prev_shmem_startup = NULL;

PG_FUNCTION_INFO_V1(leyser_password_pepper);
PG_FUNCTION_INFO_V1(leyser_password_bcrypt);

/* ---- the gate ---- */

static void
gate_shmem_request(void)
{
	if (prev_shmem_request)
		prev_shmem_request();
	RequestAddinShmemSpace(MAXALIGN(sizeof(Gate)));
	RequestNamedLWLockTranche("leyser password", 1);
}

static void
gate_shmem_startup(void)
{
	bool found;

	if (prev_shmem_startup)
		prev_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	gate = ShmemInitStruct("leyser password", sizeof(Gate), &found);
	if (!found)
	{
		memset(gate, 0, sizeof(Gate));
		gate->lock = &GetNamedLWLockTranche("leyser password")->lock;
		gate->allowed = Max(2, Min(GATE_MAX, sysconf(_SC_NPROCESSORS_ONLN) / 2));
		ConditionVariableInit(&gate->left);
	}
	LWLockRelease(AddinShmemInitLock);
}

static bool
gate_try(void)
{
	bool entered = false;

	LWLockAcquire(gate->lock, LW_EXCLUSIVE);
	for (int i = 0; i < gate->allowed && !entered; i++)
	{
		entered = gate->inside[i] == 0;
		if (entered)
			gate->inside[i] = MyProcPid;
	}
	LWLockRelease(gate->lock);
	return entered;
}

static void
gate_enter(void)
{
	TimestampTz started = GetCurrentTimestamp();

	ConditionVariablePrepareToSleep(&gate->left);
	while (!gate_try())
	{
		if (TimestampDifferenceExceeds(started, GetCurrentTimestamp(), GATE_TIMEOUT))
			ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
							errmsg("too many passwords are being checked"),
							errdetail("The server checks %d at a time.", gate->allowed),
							errhint("Try again in a moment.")));
		(void) ConditionVariableTimedSleep(&gate->left, LOOK_AGAIN, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
}

/* Also when the process is interrupted or ends. */
static void
gate_leave(int code, Datum arg)
{
	LWLockAcquire(gate->lock, LW_EXCLUSIVE);
	for (int i = 0; i < gate->allowed; i++)
	{
		if (gate->inside[i] == MyProcPid)
			gate->inside[i] = 0;
	}
	LWLockRelease(gate->lock);
	ConditionVariableSignal(&gate->left);
}

/* ---- pgcrypto ---- */

/*
 * A function of pgcrypto's library, taken from the library itself: whoever owns
 * the extension (it is a trusted one) could make a function of their own a member
 * of it, which would then see passwords, and run as a superuser.
 */
static PGFunction
pgcrypto_function(const char *symbol)
{
	return (PGFunction) load_external_function("$libdir/pgcrypto", symbol, true, NULL);
}

static Datum
bcrypt_salt(void)
{
	return DirectFunctionCall2(pgcrypto_function("pg_gen_salt_rounds"),
							   CStringGetTextDatum("bf"), Int32GetDatum(password_cost));
}

/*
 * bcrypt(password text, salt text) → text.  The salt may be a hash, whose salt
 * and cost are used; null means a new salt and leyser.password_cost.  53000
 * where too many hash already.
 */
Datum
leyser_password_bcrypt(PG_FUNCTION_ARGS)
{
	PGFunction crypt = pgcrypto_function("pg_crypt");
	Datum salt;
	Datum hash;

	leyser_require_preloaded();
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	salt = PG_ARGISNULL(1) ? bcrypt_salt() : PG_GETARG_DATUM(1);
	PG_ENSURE_ERROR_CLEANUP(gate_leave, (Datum) 0);
	{
		gate_enter();
		hash = DirectFunctionCall2(crypt, PG_GETARG_DATUM(0), salt);
	}
	PG_END_ENSURE_ERROR_CLEANUP(gate_leave, (Datum) 0);
	gate_leave(0, (Datum) 0);
	PG_RETURN_DATUM(hash);
}

/* ---- the pepper ---- */

/*
 * pepper_password(password text, keyring_id uuid) → text: what is hashed in
 * place of the password, which the caller has normalized.  LY002 where the
 * pepper of this keyring cannot be read.
 */
Datum
leyser_password_pepper(PG_FUNCTION_ARGS)
{
	text *password = PG_GETARG_TEXT_PP(0);
	LeyserTokenKey key = {.own = true};
	LeyserKeyringError error;
	unsigned char mac[LEYSER_HS256_LEN];
	char peppered[LEYSER_BASE64URL_LEN(LEYSER_HS256_LEN) + 1];
	size_t len;
	bool ok;

	leyser_require_preloaded();
	if (!leyser_keyring_read_pepper(PG_GETARG_UUID_P(1), key.secret, &error))
		leyser_keyring_raise(&error);
	ok = leyser_signature_hs256(&key, VARDATA_ANY(password), VARSIZE_ANY_EXHDR(password),
								mac);
	explicit_bzero(&key, sizeof(key));
	if (!ok)
		elog(ERROR, "could not compute an HMAC");
	len = leyser_base64url_encode(mac, sizeof(mac), peppered);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(peppered, len));
}

void
leyser_password_init(void)
{
	DefineCustomIntVariable("leyser.password_cost",
							"Cost (base-2 logarithm) of the bcrypt hash of passwords.",
							"A password is hashed anew at the login after a change.",
							&password_cost, 10, 4, 20, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"leyser.password_min_length", "Characters that a new password must have.", NULL,
		&password_min_length, 15, 8, 1024, PGC_SUSET, 0, NULL, NULL, NULL);
	prev_shmem_request = shmem_request_hook;
	shmem_request_hook = gate_shmem_request;
	prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = gate_shmem_startup;
}
