/*
 * audit_follow.h
 *		Keeps audited tables audited.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_AUDIT_FOLLOW_H
#define LEYSER_AUDIT_FOLLOW_H

#include "leyser.h"

#include "nodes/nodes.h"
#include "nodes/pg_list.h"
#include "protection.h"

/* What a statement would take from audit()'s triggers, or NULL. */
extern const LeyserFinding *leyser_audit_check(Node *statement);

/* The audited tables (oids) that a statement may give a partition or child. */
extern List *leyser_audit_parents(Node *statement);

/*
 * The audited tables, by name, that a statement may drop; after it, those that are gone
 * are recorded as not audited any longer.
 */
extern List *leyser_audit_droppable(Node *statement);
extern void leyser_audit_note_dropped(const List *tables);

/* After the statement: whatever came below them is audited, too. */
extern void leyser_audit_follow(const List *parents);

#endif /* LEYSER_AUDIT_FOLLOW_H */
