/*
 * owner.h
 *		Acting as the extension's owner for a moment.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_OWNER_H
#define LEYSER_OWNER_H

#include "leyser.h"

typedef struct LeyserOwnerState
{
	Oid user;
	int security_context;
	int guc_level;
} LeyserOwnerState;

/*
 * Between begin and end: the extension owner's rights, search_path =
 * pg_catalog, pg_temp, and an SPI connection.  An error in between needs no
 * end: the (sub)transaction's abort restores user, settings and SPI.
 */
extern void leyser_owner_begin(LeyserOwnerState *state);

/*
 * The same as the owner of a table: for queries that may run the owner's code
 * (index expressions, CHECKs, domains), which must not run with our rights.
 * FORCE does not bind it meanwhile.
 */
extern void leyser_owner_begin_as(LeyserOwnerState *state, Oid role);
extern void leyser_owner_end(const LeyserOwnerState *state);

/*
 * In PG_CATCH, before the abort: an error's SQLSTATE, which is that of RAISE where
 * code of a table's owner chose both SQLSTATE and message; these may be anything.
 */
extern int leyser_owner_error_code(const ErrorData *error);

#endif /* LEYSER_OWNER_H */
