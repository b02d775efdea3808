/*
 * pgbackrest.h
 *		What pgBackRest tells of its backups.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_PGBACKREST_H
#define LEYSER_PGBACKREST_H

#include "leyser.h"

extern void leyser_pgbackrest_init(void);

#endif /* LEYSER_PGBACKREST_H */
