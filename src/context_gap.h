/*
 * context_gap.h
 *		What would be refused if the observed tables were enforced: counts in
 *		shared memory.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_CONTEXT_GAP_H
#define LEYSER_CONTEXT_GAP_H

#include "leyser.h"

typedef enum LeyserGapKind
{
	LEYSER_GAP_MISSING, /* without a context that counts */
	LEYSER_GAP_FOREIGN, /* rows of another tenant than the context's */
	LEYSER_GAP_REFUSED  /* a statement that protected tables do not take */
} LeyserGapKind;

/* sqlerrcode: what enforcing would raise; 0 where it hides rows instead. */
extern void leyser_context_gap_note(Oid relation, LeyserGapKind kind, int sqlerrcode,
									int64 query_id);

extern void leyser_context_gap_init(void);

#endif /* LEYSER_CONTEXT_GAP_H */
