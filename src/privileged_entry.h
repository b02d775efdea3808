/*
 * privileged_entry.h
 *		What is counted of privileged accesses, as it lies in shared memory: between who
 *		counts (privileged_count.c) and who tells and writes (privileged_write.c).
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_PRIVILEGED_ENTRY_H
#define LEYSER_PRIVILEGED_ENTRY_H

#include "privileged.h"

#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"

#include "port.h"

#define LEYSER_PRIVILEGED_ENTRIES 1024
#define LEYSER_RELATION_NAME_MAX (4 * NAMEDATALEN + 8) /* both names quoted */

typedef struct LeyserPrivilegedEntry
{
	bool used;
	bool ended;  /* its session is gone */
	bool others; /* a database's last entry: without a session */
	Oid database;
	int pid;
	LeyserPrivilegedKey key;
	int64 query_id; /* of the first access */
	TimestampTz first_at;
	TimestampTz last_at;
	TimestampTz written_at;
	pg_atomic_uint64 count;
	pg_atomic_uint64 written; /* of them: events that are committed */
	uint64 told;              /* of them: have a line of the server log */
	char relation[LEYSER_RELATION_NAME_MAX];
	char session_role[NAMEDATALEN];
	char caller_role[NAMEDATALEN];
	char role[NAMEDATALEN];
	char application[NAMEDATALEN];
	char address[LEYSER_ADDRESS_MAX];
} LeyserPrivilegedEntry;

typedef struct LeyserPrivilegedShared
{
	LWLock *lock;
	ConditionVariable written;
	LeyserPrivilegedEntry entries[LEYSER_PRIVILEGED_ENTRIES];
} LeyserPrivilegedShared;

extern LeyserPrivilegedShared *leyser_privileged_shared;

static inline uint64
leyser_privileged_waiting(LeyserPrivilegedEntry *entry)
{
	return pg_atomic_read_u64(&entry->count) - pg_atomic_read_u64(&entry->written);
}

/* A line of the server log. */
extern void leyser_privileged_tell(LeyserPrivilegedEntry *entry, uint64 statements);

/* In the worker itself nobody else would write it. */
extern bool leyser_privileged_is_writer(void);

#endif
