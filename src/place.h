/*
 * place.h
 *		Where a directory of leyser's must not lie.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_PLACE_H
#define LEYSER_PLACE_H

#include "leyser.h"

/*
 * Whether a path that realpath() resolved is the data directory, pg_wal or a
 * tablespace, or lies inside one: what lies there travels with every backup.
 */
extern bool leyser_place_is_in_cluster(const char *resolved);

#endif /* LEYSER_PLACE_H */
