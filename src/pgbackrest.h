/*
 * pgbackrest.h
 *		What pgBackRest tells of its backups.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_PGBACKREST_H
#define LEYSER_PGBACKREST_H

#include "leyser.h"

#include "datatype/timestamp.h"

extern void leyser_pgbackrest_init(void);

/* Until then pgBackRest may take in this session, where that is less; 0: no limit. */
extern void leyser_pgbackrest_limit(TimestampTz until);

#endif /* LEYSER_PGBACKREST_H */
