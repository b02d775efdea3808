/*
 * worker_settings.c
 *		The settings of a background worker: the server's, not the database's.
 *
 * The worker works for everybody as the server's first superuser.  Whoever owns
 * a database may set for it whatever any role may set for itself: another role,
 * a timeout, another meaning of "= NULL".  Such a setting must not reach the
 * worker; those that only a superuser can make may.
 *
 * A value that was set from a source of higher rank than the database's stays.
 * So, before the worker connects, each of those settings is given the value that
 * it has already.  A reload of the configuration passes them by, too, until the
 * next worker.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "worker.h"

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "miscadmin.h"

#include "compat.h"

#define LOCK_TIMEOUT "1s"

static void
worker_set(const char *name, const char *value)
{
	SetConfigOption(name, value, PGC_SUSET, PGC_S_OVERRIDE);
}

/* Not a session's own state, nor what follows the database's encoding. */
static bool
is_to_be_fixed(const struct config_generic *setting)
{
	return setting->context == PGC_USERSET && (setting->flags & GUC_NO_RESET_ALL) == 0 &&
		   strcmp(setting->name, "client_encoding") != 0;
}

/* Before the worker connects to its database. */
void
leyser_worker_fix_settings(void)
{
	int count;
	struct config_generic **settings;

	/* the settings of the language in which tasks are written */
	load_file("$libdir/plpgsql", false);
	settings = leyser_all_settings(&count);
	for (int i = 0; i < count; i++)
	{
		const char *value = is_to_be_fixed(settings[i])
								? GetConfigOption(settings[i]->name, true, false)
								: NULL;

		if (value != NULL)
			(void) set_config_option(settings[i]->name, value, PGC_SUSET, PGC_S_OVERRIDE,
									 GUC_ACTION_SET, true, DEBUG1, false);
	}
	worker_set("role", "none");
	worker_set("search_path", "pg_catalog, pg_temp");
	worker_set("lock_timeout", LOCK_TIMEOUT);
	worker_set("default_transaction_isolation", "read committed");
	worker_set("default_transaction_read_only", "off");
	/* what was answered for must be on disk */
	worker_set("synchronous_commit", "local");
}

/* Once it is connected: session_authorization may have been set all the same. */
void
leyser_worker_fix_role(void)
{
	SetSessionAuthorization(BOOTSTRAP_SUPERUSERID, true);
}
