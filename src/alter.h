/*
 * alter.h
 *		What ALTER TABLE may not do to a protected table, told from the statement.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_ALTER_H
#define LEYSER_ALTER_H

#include "leyser.h"

#include "nodes/parsenodes.h"

/* Whether the registry has a relation as own or own_and_global. */
extern bool leyser_is_protected(Oid relation);

extern bool leyser_alter_adds_foreign_key(Node *statement);

/* Refuses (LY007). */
extern void leyser_alter_check(const AlterTableStmt *statement);

#endif /* LEYSER_ALTER_H */
