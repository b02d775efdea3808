/*
 * cache_fence.h
 *		What a server knows of its databases' fences.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_CACHE_FENCE_H
#define LEYSER_CACHE_FENCE_H

#include "fence.h"

typedef enum LeyserFenceVerdict
{
	LEYSER_FENCE_UNKNOWN,
	LEYSER_FENCE_NONE,  /* this database never had a fence */
	LEYSER_FENCE_SOUND, /* the tables know all that the fence holds */
	LEYSER_FENCE_AHEAD, /* the fence holds what the tables do not know */
	LEYSER_FENCE_LOST   /* there was a fence, and it cannot be had */
} LeyserFenceVerdict;

/* How a database stands to its fence; lies in shared memory. */
typedef struct LeyserFenceView
{
	LeyserFenceVerdict verdict;
	bool is_recorded;    /* the tables say that there is a fence */
	bool held;           /* what destroys has to wait */
	bool keys_refused;   /* own tokens of before are not believed */
	bool locks;          /* tenants are locked: see leyser_fence_locks() */
	int missing;         /* how many purges the tables do not know */
	uint32 missing_hash; /* which */
	TimestampTz since;   /* when this was first seen, in this life of the server */
	char message[160];   /* what is wrong, without paths */
	char remedy[256];
} LeyserFenceView;

extern void leyser_cache_fence_init(void);

/* Whether a fence was seen to have changed since this was last called. */
extern bool leyser_fence_changed(void);

/* As it was last seen, by whomever; looks where nobody has. */
extern const LeyserFenceView *leyser_fence_view(void);

/*
 * Whether the fence says that a tenant's purge has begun, or was over, where the
 * tables do not know.
 */
extern bool leyser_fence_locks(const char *tenant_id);

/* Looks at files and tables now, and tells every backend. */
extern const LeyserFenceView *leyser_fence_look(void);

/*
 * The purges that fences hold, of this database and of those that its rows were
 * dumped from: LeyserFencePurge in the current context.  known: what the tables say.
 */
typedef struct LeyserFenceEntry
{
	pg_uuid_t database;
	LeyserFencePurge purge;
	bool known;
} LeyserFenceEntry;

extern List *leyser_fence_entries(void);

/* Whether this standby has received WAL from another server since it started. */
extern bool leyser_fence_follows_now(void);

/* Whether one was, in this life of the server. */
extern bool leyser_fence_has_followed(void);

/* This database's uuid; false where leyser is not installed. */
extern bool leyser_fence_database(pg_uuid_t *database);

#endif /* LEYSER_CACHE_FENCE_H */
