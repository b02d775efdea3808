/*
 * fence_keep.h
 *		Keeps a database's fence as its tables say.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_FENCE_KEEP_H
#define LEYSER_FENCE_KEEP_H

#include "fence.h"

/*
 * In an SPI connection: what the tables have for the fence, in the given context.
 * with_mark: how far its events have come, too.
 */
extern LeyserFence *leyser_fence_from_tables(MemoryContext context, bool with_mark);

/*
 * In a worker, outside of transactions: looks, writes down a restore, makes the first
 * fence, and puts into it what the tables say; false and *error filled where the
 * fence does not hold that.
 */
extern bool leyser_fence_keep(LeyserKeyringError *error);

/* In a transaction: whether this is a copy that lives beside its original; *error tells. */
extern bool leyser_fence_is_of_original(LeyserKeyringError *error);

/* The same as a step of the worker, whose failure is in the server log. */
extern void leyser_fence_tend(void);

/* The same, at most every minute. */
extern void leyser_fence_tend_in_turn(void);

#endif /* LEYSER_FENCE_KEEP_H */
