/*
 * follow.h
 *		Keeps the registry of table kinds in step with the tables themselves.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_FOLLOW_H
#define LEYSER_FOLLOW_H

#include "leyser.h"

/* After DDL: protects new children, forgets tables that are gone. */
extern void leyser_follow_tables(void);

#endif /* LEYSER_FOLLOW_H */
