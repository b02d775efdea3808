/*
 * refusal.h
 *		Counts of what was refused, by tenant, in shared memory.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_REFUSAL_H
#define LEYSER_REFUSAL_H

#include "leyser.h"

/*
 * Counts an error of contexts and tokens by its SQLSTATE; others are not counted.
 * tenant_id: NULL where it is not known, or not proved by a signature.  Never raises.
 */
extern void leyser_refusal_count(int sqlerrcode, const char *tenant_id);

extern void leyser_refusal_init(void);

#endif /* LEYSER_REFUSAL_H */
