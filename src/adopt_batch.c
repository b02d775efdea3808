/*
 * adopt_batch.c
 *		Fills a new tenant column, a batch at a time.
 *
 * A batch runs with the rights of the table's owner, in a restricted operation, and
 * without users' triggers: to them nothing has changed that they know of, and what
 * they would write down of millions of rows is nobody's change.  What keeps foreign
 * keys is done.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "leyser.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"

#include "owner.h"
#include "purge.h"
#include "relation.h"

PG_FUNCTION_INFO_V1(leyser_update_as_owner);

static void
batch_execute(const char *command)
{
	if (SPI_execute(command, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "command is not an update");
}

static void
batch_update(const char *command)
{
	leyser_purge_triggers_off(command, NIL);
	PG_TRY();
	{
		batch_execute(command);
	}
	PG_CATCH();
	{
		leyser_purge_triggers_on();
		PG_RE_THROW();
	}
	PG_END_TRY();
	leyser_purge_triggers_on();
}

/*
 * update_as_owner(relation regclass, command text) → bigint: how many rows an UPDATE
 * of the relation changed, with its owner's rights and without users' triggers.
 */
Datum
leyser_update_as_owner(PG_FUNCTION_ARGS)
{
	char *command = text_to_cstring(PG_GETARG_TEXT_PP(1));
	LeyserOwnerState state;
	int64 rows;

	leyser_owner_begin_as(&state, leyser_relation_owner(PG_GETARG_OID(0)));
	leyser_purge_constraints_immediate();
	batch_update(command);
	rows = (int64) SPI_processed;
	leyser_owner_end(&state);
	PG_RETURN_INT64(rows);
}
