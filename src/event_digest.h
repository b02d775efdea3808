/*
 * event_digest.h
 *		What is hashed of an event, and how.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_EVENT_DIGEST_H
#define LEYSER_EVENT_DIGEST_H

#include "leyser.h"

#include "access/tupdesc.h"

#define LEYSER_DIGEST_LENGTH 32
#define LEYSER_SALT_LENGTH 32

/* The columns of leyser.event_record, from 0; sql/tables.sql. */
typedef enum LeyserEventColumn
{
	LEYSER_EVENT_ID,
	LEYSER_EVENT_AT,
	LEYSER_EVENT_NAME,
	LEYSER_EVENT_TENANT,
	LEYSER_EVENT_SESSION_ROLE,
	LEYSER_EVENT_CALLER_ROLE,
	LEYSER_EVENT_ADDRESS,
	LEYSER_EVENT_ACCOUNT,
	LEYSER_EVENT_OBJECT,
	LEYSER_EVENT_DETAIL,
	LEYSER_EVENT_SALT,
	LEYSER_EVENT_DIGEST,
	LEYSER_EVENT_IMAGES,
	LEYSER_EVENT_COLUMNS
} LeyserEventColumn;

/* SHA-256 of some bytes. */
extern void leyser_event_hash(const void *data, size_t length, uint8 *digest);

/* Over the salt and the content, which can be erased. */
extern void leyser_event_digest(const Datum *values, const bool *nulls, uint8 *digest);

/* Over what stays: time, event, tenant and the digest. */
extern void leyser_event_leaf(const Datum *values, const bool *nulls, uint8 *leaf);

#endif /* LEYSER_EVENT_DIGEST_H */
