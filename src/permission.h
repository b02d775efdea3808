/*
 * permission.h
 *		What the context's account may do.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_PERMISSION_H
#define LEYSER_PERMISSION_H

#include "leyser.h"

/* The permissions, each in its scope, that the account was found to have. */
typedef struct LeyserPermissionNotes LeyserPermissionNotes;

/* Where not NULL, what is found is noted here. */
extern LeyserPermissionNotes *leyser_permission_notes;

/* Empty; lives and grows in a memory context. */
extern LeyserPermissionNotes *leyser_permission_notes_make(MemoryContext memory);

/* Notes what the account was found to have; scope NULL: everywhere. */
extern void leyser_permission_note(text *permission, text *scope, bool from_policy);

/* Whether the account has all of them by the check that the context passed last. */
extern bool leyser_permission_still_held(const LeyserPermissionNotes *notes);

/* Asks for one permission, by that check and for nobody's notes. */
extern bool leyser_permission_ask(text *permission, text *scope, bool from_policy);

#endif /* LEYSER_PERMISSION_H */
