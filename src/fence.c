/*
 * fence.c
 *		A fence in memory: it is added to and merged, and only grows.
 *
 * What comes from a file and what comes from the tables meets here.  It all lies in
 * the memory context in which the fence was made.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "fence.h"

#include "common/hashfn.h"
#include "nodes/pg_list.h"

static uint32
fence_hash(const void *key, Size keysize)
{
	const char *id = *(const char *const *) key;

	return hash_bytes((const unsigned char *) id, strlen(id));
}

static int
fence_compare(const void *key1, const void *key2, Size keysize)
{
	return strcmp(*(const char *const *) key1, *(const char *const *) key2);
}

LeyserFence *
leyser_fence_new(const pg_uuid_t *database)
{
	LeyserFence *fence = palloc0(sizeof(LeyserFence));
	HASHCTL ctl = {.keysize = sizeof(char *),
				   .entrysize = sizeof(LeyserFencePurge),
				   .hash = fence_hash,
				   .match = fence_compare,
				   .hcxt = CurrentMemoryContext};

	fence->database = *database;
	fence->context = CurrentMemoryContext;
	fence->purges = hash_create("leyser fence", 64, &ctl,
								HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	return fence;
}

bool
leyser_fence_add(LeyserFence *fence, const LeyserFencePurge *purge)
{
	const char *tenant_id = purge->tenant_id;
	LeyserFencePurge *known = hash_search(fence->purges, &tenant_id, HASH_FIND, NULL);

	if (known == NULL)
	{
		tenant_id = MemoryContextStrdup(fence->context, tenant_id);
		known = hash_search(fence->purges, &tenant_id, HASH_ENTER, NULL);
		*known = *purge;
		known->tenant_id = tenant_id;
		return true;
	}
	if (TIMESTAMP_IS_NOBEGIN(purge->erased_at) || !TIMESTAMP_IS_NOBEGIN(known->erased_at))
		return false;
	tenant_id = known->tenant_id;
	*known = *purge;
	known->tenant_id = tenant_id;
	return true;
}

const LeyserFenceMark *
leyser_fence_mark(const LeyserFence *fence, const pg_uuid_t *incarnation)
{
	ListCell *cell;

	foreach (cell, fence->marks)
	{
		LeyserFenceMark *mark = lfirst(cell);

		if (memcmp(mark->incarnation.data, incarnation->data, UUID_LEN) == 0)
			return mark;
	}
	return NULL;
}

bool
leyser_fence_set_mark(LeyserFence *fence, const LeyserFenceMark *mark)
{
	LeyserFenceMark *known =
		unconstify(LeyserFenceMark *, leyser_fence_mark(fence, &mark->incarnation));
	MemoryContext caller;

	if (known != NULL)
	{
		bool changed = known->event_id != mark->event_id ||
					   known->event_digest != mark->event_digest;

		*known = *mark;
		return changed;
	}
	caller = MemoryContextSwitchTo(fence->context);
	known = palloc(sizeof(LeyserFenceMark));
	*known = *mark;
	fence->marks = lappend(fence->marks, known);
	MemoryContextSwitchTo(caller);
	return true;
}

bool
leyser_fence_merge(LeyserFence *into, const LeyserFence *from)
{
	bool changed = from->restores > into->restores;
	HASH_SEQ_STATUS scan;
	LeyserFencePurge *purge;
	ListCell *cell;

	into->restores = Max(into->restores, from->restores);
	foreach (cell, from->marks)
		changed |= leyser_fence_set_mark(into, lfirst(cell));
	hash_seq_init(&scan, from->purges);
	while ((purge = hash_seq_search(&scan)) != NULL)
		changed |= leyser_fence_add(into, purge);
	return changed;
}
