/*
 * disclosure.h
 *		Contexts in which the law lets somebody look at one tenant.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_DISCLOSURE_H
#define LEYSER_DISCLOSURE_H

#include "leyser.h"

#include "context.h"

/*
 * Whether a context is one of leyser.enter_disclosure(), of the role in force, whose
 * time is not over: it counts whatever the tenant's contract says.
 */
extern bool leyser_disclosure_is_open(const LeyserContext *context);

/* The role that a disclosure's session was made for, InvalidOid for other sessions. */
extern Oid leyser_disclosure_role(const pg_uuid_t *session);

/* A statement begins: where the context is a disclosure's, it is written down before. */
extern void leyser_disclosure_note_statement(void);

#endif /* LEYSER_DISCLOSURE_H */
