/*
 * lookup.h
 *		Look-ups before a context: an exact key in, a tenant's id out.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_LOOKUP_H
#define LEYSER_LOOKUP_H

#include "leyser.h"

/* Whether a look-up's table is gone, or one of its columns has another name. */
extern bool leyser_lookup_is_behind(void);

/* ---- how often they are asked (lookup_count.c) ---- */

extern void leyser_lookup_count_init(void);
extern void leyser_lookup_count(Oid function, bool found);

#endif /* LEYSER_LOOKUP_H */
