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
extern void leyser_follow_tables(bool force);

/* Raises (40001) where the registry lags behind all the same. */
extern void leyser_follow_check(void);

#endif /* LEYSER_FOLLOW_H */
