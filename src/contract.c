/*
 * contract.c
 *		Settings of contracts, and whether a tenant's contract lets it in.
 *
 * A contract's end is a moment in leyser.tenant_record; cache_tenant.c compares
 * it with the clock.  The rest is bookkeeping, in sql/contract.sql.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "contract.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "cache.h"

#define CONTRACT_MAX_PURGE_DELAY (10 * 366 * 24 * 60 * 60)

PG_FUNCTION_INFO_V1(leyser_tenant_is_active);

/* Read by sql/contract.sql. */
static int purge_delay = 0;
static bool second_person = false;

/* tenant_is_active(tenant_id text) → boolean: as contexts are judged, at this moment. */
Datum
leyser_tenant_is_active(PG_FUNCTION_ARGS)
{
	leyser_require_preloaded();
	leyser_cache_catch_up();
	PG_RETURN_BOOL(leyser_cache_tenant_is_active(text_to_cstring(PG_GETARG_TEXT_PP(0))));
}

void
leyser_contract_init(void)
{
	DefineCustomIntVariable(
		"leyser.purge_delay",
		"Time between the end of a contract and the first moment of its purge.",
		"The tenant is locked out from the end on; only its erasure waits.", &purge_delay,
		0, 0, CONTRACT_MAX_PURGE_DELAY, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomBoolVariable(
		"leyser.second_person",
		"Whether another role has to confirm the termination of a contract, and the "
		"window of an export.",
		"Until it does, nothing happens to the tenant, and nothing is exported.",
		&second_person, false, PGC_SIGHUP, 0, NULL, NULL, NULL);
}
