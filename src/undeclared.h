/*
 * undeclared.h
 *		New tables of governed schemas that have no kind.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_UNDECLARED_H
#define LEYSER_UNDECLARED_H

#include "leyser.h"

#include "nodes/nodes.h"

/* Before DDL: a table that is moved or detached may be one. */
extern void leyser_undeclared_look(Node *statement);

extern void leyser_undeclared_init(void);

#endif /* LEYSER_UNDECLARED_H */
