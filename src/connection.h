/*
 * connection.h
 *		A pooled connection is a shared room: what one tenant can leave behind
 *		for the next.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_CONNECTION_H
#define LEYSER_CONNECTION_H

#include "leyser.h"

#include "nodes/parsenodes.h"

/*
 * NULL where this connection carries nothing of an earlier client, else what
 * it carries, as the detail of an error (a sentence).  Only application and
 * gateway roles are looked at.
 */
extern const char *leyser_connection_residue(void);

/* What an EXPLAIN ANALYZE of a utility statement runs; else the statement itself. */
extern Node *leyser_connection_unwrap(Node *statement);

/*
 * Refuses (LY007) a utility statement by which an application or gateway role
 * would leave something behind, or that is none of its business.
 */
extern void leyser_connection_check_statement(Node *statement, bool context_is_set);

#endif /* LEYSER_CONNECTION_H */
