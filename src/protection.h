/*
 * protection.h
 *		What protects the governed tables, as the catalogues say it now; to be
 *		compared before and after a statement.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_PROTECTION_H
#define LEYSER_PROTECTION_H

#include "leyser.h"

typedef struct LeyserProtection LeyserProtection;

/*
 * Reads the state, allocated in the current memory context.  With
 * foreign_keys also the foreign keys between protected tables that leave out
 * the tenant columns (a scan of pg_constraint).
 */
extern LeyserProtection *leyser_protection_capture(bool foreign_keys);

/* True where no protected table exists. */
extern bool leyser_protection_is_empty(const LeyserProtection *protection);

/* What is to be refused: the parts of an error. */
typedef struct LeyserFinding
{
	const char *message;
	const char *detail;
	const char *hint;
} LeyserFinding;

/* The first thing that made a table's protection weaker than before, or NULL. */
extern const LeyserFinding *leyser_protection_compare(const LeyserProtection *before,
													  const LeyserProtection *after);

/*
 * Whether the extension must not be removed; protection is what it was while
 * the extension existed.  NULL where no protected table is left.
 */
extern const LeyserFinding *
leyser_protection_check_drop(const LeyserProtection *protection);

#endif /* LEYSER_PROTECTION_H */
