/*
 * leyser.c
 *		The module's entry: one init call for each part, in order.
 *
 * The library does its work only when it is in shared_preload_libraries.  A
 * library that is loaded later finds a placeholder in place of leyser.token,
 * which was never verified, and sessions that already ran statements without
 * the guards; so in that case nothing is installed and every function raises.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "leyser.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "audit_table.h"
#include "backup.h"
#include "cache.h"
#include "cache_fence.h"
#include "context.h"
#include "context_gap.h"
#include "contract.h"
#include "guard.h"
#include "support.h"
#include "keyring.h"
#include "launcher.h"
#include "lookup.h"
#include "mail.h"
#include "observe.h"
#include "password.h"
#include "pgbackrest.h"
#include "portal.h"
#include "privileged.h"
#include "purge.h"
#include "refusal.h"
#include "task.h"
#include "token.h"
#include "transport.h"
#include "undeclared.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

bool leyser_preloaded = false;

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	leyser_preloaded = true;

	leyser_keyring_init();
	leyser_token_init();
	leyser_cache_init();
	leyser_cache_fence_init();
	leyser_context_init();
	leyser_transport_init();
	leyser_portal_init();
	leyser_contract_init();
	leyser_context_gap_init();
	leyser_observe_init();
	leyser_privileged_init();
	leyser_guard_init();
	leyser_lookup_count_init();
	leyser_undeclared_init();
	leyser_support_init();
	leyser_audit_memory_init();
	leyser_refusal_init();
	leyser_task_init();
	leyser_launcher_init();
	leyser_backup_init();
	leyser_purge_trigger_init();
	leyser_password_init();
	leyser_password_log_init();
	leyser_pgbackrest_init();
	leyser_mail_init();
	MarkGUCPrefixReserved("leyser");
}

void
leyser_require_preloaded(void)
{
	if (!leyser_preloaded)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("leyser is not preloaded"),
						errdetail("Tokens and guards only work when the server "
								  "loads leyser at its start."),
						errhint("Add leyser to shared_preload_libraries and restart "
								"the server.")));
}
