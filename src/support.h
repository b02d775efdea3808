/*
 * support.h
 *		Contexts in which a tenant lets the provider look.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_SUPPORT_H
#define LEYSER_SUPPORT_H

#include "leyser.h"

#include "context.h"
#include "token.h"

extern void leyser_support_init(void);

/*
 * Whether nothing can be written now: by the transaction, nor by a statement that is
 * being executed, here or further up.
 */
extern bool leyser_support_only_reads(void);

/*
 * False, and *error, where a context of leyser.enter_support() or of
 * leyser.enter_disclosure() could write.  To be asked at every check: what was read-only may be so no longer.
 */
extern bool leyser_support_check(const LeyserContext *context, LeyserTokenError *error);

/*
 * Whether the (checked) context is one that leyser.enter_support(), or
 * leyser.enter_disclosure(), made for the role that calls.
 */
extern bool leyser_support_is_open(void);

#endif /* LEYSER_SUPPORT_H */
