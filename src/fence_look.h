/*
 * fence_look.h
 *		One look at a database's fences.  Only for cache_fence.c.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_FENCE_LOOK_H
#define LEYSER_FENCE_LOOK_H

#include "cache_fence.h"
#include "fence_tables.h"

/* What a look gathers. */
typedef struct LeyserFenceLook
{
	LeyserFenceTables tables;
	LeyserFenceVerdict verdict; /* of this database's own fence */
	LeyserFenceState state;
	int64 restores;    /* of it */
	bool moved_back;   /* it knows events that the tables do not */
	bool foreign_lost; /* one that rows were dumped under */
	int missing;       /* purges that the tables do not know */
	int own_missing;
	uint32 missing_hash;
	LeyserKeyringError error; /* why a fence cannot be had */
	List *entries;            /* or NIL where nobody wants them */
	bool wants_entries;
} LeyserFenceLook;

/* Reads tables and fences. */
extern void leyser_fence_compare(LeyserFenceLook *look, bool wants_entries);

/* What follows from it.  was_sound: in this life of the server. */
extern void leyser_fence_judge(LeyserFenceView *view, const LeyserFenceLook *look,
							   bool in_recovery, bool was_sound);

#endif /* LEYSER_FENCE_LOOK_H */
