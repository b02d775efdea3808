/*
 * guard.h
 *		Statements that would open a table or leave something behind in a
 *		pooled connection.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_GUARD_H
#define LEYSER_GUARD_H

#include "leyser.h"

extern void leyser_guard_init(void);

/* leyser.guards */
extern bool leyser_guards_are_on(void);

#endif /* LEYSER_GUARD_H */
