/*
 * disclosure.c
 *		Contexts in which the law lets somebody look at one tenant.
 *
 * They are made like those of support access: a session, which stands in
 * disclosure_window, and no account.  So they only read (support.c), and end with
 * their time or with the list of revoked sessions.  Three things differ.  They count
 * whatever the tenant's contract says, for a court may ask for what is held; not where
 * a fence says that the tenant was erased.  They count for one role only, also after
 * SET ROLE.  And each statement that begins in one is recorded before it runs, in
 * a row that stays: a loop within a function is a part of its statement, and several
 * statements of one message are one.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "disclosure.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "cache.h"
#include "cache_fence.h"
#include "cache_relation.h"
#include "owner.h"

/* Columns of leyser.disclosure_window, in the order of sql/disclosure_tables.sql. */
enum
{
	WINDOW_SESSION = 1,
	WINDOW_TO_ROLE = 2,
	WINDOW_ENDS_AT = 3
};

typedef struct DisclosureWindow
{
	Oid to_role; /* InvalidOid: the session is of no disclosure */
	TimestampTz ends_at;
} DisclosureWindow;

/* The message whose statement was recorded last. */
static TimestampTz noted_at = DT_NOBEGIN;

static DisclosureWindow
window_read(const pg_uuid_t *session)
{
	DisclosureWindow window = {InvalidOid, DT_NOBEGIN};
	Relation rel;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	if (!leyser_cache_find_relations())
		return window;
	rel = table_open(leyser_cache_relations[REL_DISCLOSURE], AccessShareLock);
	ScanKeyInit(&key, WINDOW_SESSION, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(session));
	scan = systable_beginscan(rel, leyser_cache_index(REL_DISCLOSURE_PKEY), true, NULL, 1,
							  &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool waits;
		bool isnull;
		Datum ends_at =
			heap_getattr(tuple, WINDOW_ENDS_AT, RelationGetDescr(rel), &waits);

		window.to_role = DatumGetObjectId(
			heap_getattr(tuple, WINDOW_TO_ROLE, RelationGetDescr(rel), &isnull));
		if (!waits)
			window.ends_at = DatumGetTimestampTz(ends_at);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return window;
}

/* Only we sign sessions without an account. */
static inline bool
disclosure_may_be(const LeyserContext *context)
{
	return context->has_session && context->own && context->account == 0;
}

bool
leyser_disclosure_is_open(const LeyserContext *context)
{
	DisclosureWindow window;

	if (!disclosure_may_be(context))
		return false;
	window = window_read(&context->session);
	return window.to_role == GetOuterUserId() && GetCurrentTimestamp() < window.ends_at &&
		   !leyser_fence_locks(leyser_context_string(context, tenant));
}

Oid
leyser_disclosure_role(const pg_uuid_t *session)
{
	return window_read(session).to_role;
}

static void
disclosure_note(const pg_uuid_t *session)
{
	Oid types[] = {UUIDOID};
	Datum values[] = {UUIDPGetDatum(session)};
	LeyserOwnerState owner;

	leyser_owner_begin(&owner);
	if (SPI_execute_with_args("SELECT leyser.note_disclosure($1)", 1, types, values, NULL,
							  false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not record a statement");
	leyser_owner_end(&owner);
}

void
leyser_disclosure_note_statement(void)
{
	const LeyserContext *context = leyser_context_current();
	TimestampTz before = noted_at;
	pg_uuid_t session;

	if (likely(context == NULL) || !disclosure_may_be(context) || IsParallelWorker() ||
		noted_at == GetCurrentStatementStartTimestamp())
		return;
	leyser_cache_catch_up();
	if (!leyser_disclosure_is_open(context))
		return; /* nothing is read, or by support access */
	session = context->session;
	noted_at = GetCurrentStatementStartTimestamp();
	PG_TRY();
	{
		disclosure_note(&session);
	}
	PG_CATCH();
	{
		noted_at = before;
		PG_RE_THROW();
	}
	PG_END_TRY();
}
