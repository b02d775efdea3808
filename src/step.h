/*
 * step.h
 *		Procedures that commit: a step, with the rights of the extension's owner.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_STEP_H
#define LEYSER_STEP_H

#include "leyser.h"

#include "fmgr.h"

#include "owner.h"

/*
 * Between begin and end: as leyser_owner_begin(), in a read-write transaction at
 * READ COMMITTED, with none of the session's settings that could change what a step
 * does.  No snapshot may have been taken in the transaction; end commits it.
 */
extern void leyser_step_begin(LeyserOwnerState *owner);
extern void leyser_step_end(LeyserOwnerState *owner);

/* 25001 where a procedure that commits is a part of somebody's transaction. */
extern void leyser_step_refuse_block(FunctionCallInfo fcinfo, const char *procedure);

#endif /* LEYSER_STEP_H */
