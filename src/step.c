/*
 * step.c
 *		Procedures that commit: a step, with the rights of the extension's owner.
 *
 * A SECURITY DEFINER procedure cannot commit, nor one with settings of its own.  So
 * such a procedure is in C; its steps act as the extension's owner and end with a
 * commit.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "step.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "nodes/parsenodes.h"
#include "utils/guc.h"

static const struct
{
	const char *name;
	const char *value;
} step_settings[] = {
	{"statement_timeout", "0"},
	{"transaction_timeout", "0"},
	{"lock_timeout", "3s"},
	{"TimeZone", "UTC"},
	{"DateStyle", "ISO, YMD"},
	{"IntervalStyle", "postgres"},
	{"standard_conforming_strings", "on"},
	{"session_replication_role", "origin"},
	{"row_security", "on"},
	{"temp_file_limit", "-1"},
	{"synchronous_commit", "local"},
};

/* No snapshot was taken yet in this transaction, so its ways can still be chosen. */
void
leyser_step_begin(LeyserOwnerState *owner)
{
	XactIsoLevel = XACT_READ_COMMITTED;
	XactReadOnly = false;
	XactDeferrable = false;
	leyser_owner_begin(owner);
	for (int i = 0; i < (int) lengthof(step_settings); i++)
	{
		if (GetConfigOption(step_settings[i].name, true, false) != NULL)
			(void) set_config_option(step_settings[i].name, step_settings[i].value,
									 PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
									 false);
	}
}

void
leyser_step_end(LeyserOwnerState *owner)
{
	leyser_owner_end(owner);
	SPI_commit();
}

void
leyser_step_refuse_block(FunctionCallInfo fcinfo, const char *procedure)
{
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("leyser.%s() cannot run inside a transaction block", procedure),
				 errdetail("It commits after each step."),
				 errhint("CALL it as a statement of its own.")));
}
