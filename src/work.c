/*
 * work.c
 *		Procedures of many steps that commit: the lock of who does one.
 *
 * The books are in sql/work.sql.  Whoever does a work holds a lock of the session
 * that nobody else can ask for.  It ends with the process, so a work that was
 * killed keeps nobody waiting.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "work.h"

#include "catalog/pg_extension.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lock.h"

#include "compat.h"

/* Beside launcher.c's and tick.c's; sql/work.sql looks for it. */
#define LOCK_NUMBER 27771

PG_FUNCTION_INFO_V1(leyser_lock_work);

static void
work_tag(LOCKTAG *tag, int64 work_id)
{
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, ExtensionRelationId, (uint32) work_id,
						 LOCK_NUMBER);
}

/* lock_work(work_id bigint) → boolean */
Datum
leyser_lock_work(PG_FUNCTION_ARGS)
{
	LOCKTAG tag;
	LockAcquireResult result;

	leyser_require_preloaded();
	work_tag(&tag, PG_GETARG_INT64(0));
	result = LockAcquire(&tag, ExclusiveLock, true, true);
	/* a procedure that calls itself within itself */
	if (result == LOCKACQUIRE_ALREADY_HELD)
		(void) LockRelease(&tag, ExclusiveLock, true);
	PG_RETURN_BOOL(result == LOCKACQUIRE_OK);
}

void
leyser_work_unlock(int64 work_id)
{
	LOCKTAG tag;

	work_tag(&tag, work_id);
	if (leyser_lock_held(&tag, ExclusiveLock))
		(void) LockRelease(&tag, ExclusiveLock, true);
}
