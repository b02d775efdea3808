/*
 * event_chain.h
 *		The chains of events, as they are verified seal by seal.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_EVENT_CHAIN_H
#define LEYSER_EVENT_CHAIN_H

#include "event_digest.h"

#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/hsearch.h"

#define LEYSER_CHAIN_NAME_MAX 1024
#define LEYSER_MEMBER_LENGTH (sizeof(int64) + LEYSER_DIGEST_LENGTH)

/* A chain, and how far it was followed. */
typedef struct LeyserChain
{
	char name[LEYSER_CHAIN_NAME_MAX]; /* hash key; a tenant's id, or empty */
	int64 number;
	uint8 link[LEYSER_DIGEST_LENGTH];
} LeyserChain;

/* What is found wrong: with a seal where event_id is 0. */
typedef void (*LeyserChainReport)(void *argument, const char *problem,
								  const LeyserChain *chain, int64 number, int64 event_id,
								  const uint8 *expected, const uint8 *found);

/* What each member of each seal is told to. */
typedef void (*LeyserChainMember)(void *argument, int64 event_id, const uint8 *leaf,
								  const LeyserChain *chain, int64 number);

typedef struct LeyserChainReader
{
	Portal seals;
	HTAB *chains;
	bool all_chains; /* so the service's seals can be compared with the others */
	int64 run;       /* being read; 0: none */
	uint8 run_digest[LEYSER_DIGEST_LENGTH];
	StringInfoData run_links;
	MemoryContext memory; /* of one batch */
	LeyserChainReport report;
	LeyserChainMember member;
	void *argument;
} LeyserChainReader;

/*
 * Opens the seals of a chain, or of all where it is NULL, of runs from first to last.
 * An SPI connection is open until the end.
 */
extern void leyser_chain_begin(LeyserChainReader *reader, const char *chain, int64 first,
							   int64 last);

/* Reads some seals; false at the end. */
extern bool leyser_chain_read(LeyserChainReader *reader);

#endif /* LEYSER_EVENT_CHAIN_H */
