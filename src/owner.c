/*
 * owner.c
 *		Acting as the extension's owner for a moment.
 *
 * The user is switched as for a SECURITY DEFINER function: with
 * SECURITY_LOCAL_USERID_CHANGE, so that nothing that runs inside can SET ROLE,
 * and with a search_path in which nobody else's objects lie.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "owner.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"

#include "cache.h"

/* The role that owns the extension. */
static Oid
owner_role(void)
{
	Oid extension = leyser_cache_extension();
	Relation rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	Oid owner = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	if (!OidIsValid(owner))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("leyser is not installed in this database"),
						errhint("CREATE EXTENSION leyser;")));
	return owner;
}

void
leyser_owner_begin(LeyserOwnerState *state)
{
	Oid owner = owner_role();

	GetUserIdAndSecContext(&state->user, &state->security_context);
	SetUserIdAndSecContext(owner, state->security_context | SECURITY_LOCAL_USERID_CHANGE);
	state->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	SPI_connect();
}

void
leyser_owner_end(const LeyserOwnerState *state)
{
	SPI_finish();
	AtEOXact_GUC(false, state->guc_level);
	SetUserIdAndSecContext(state->user, state->security_context);
}
