/*
 * export.h
 *		Windows in which a role reads one tenant's rows, to hand them over.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_EXPORT_H
#define LEYSER_EXPORT_H

#include "leyser.h"

#include "context.h"

/*
 * The context of a role whose export window is open, while no token is set; NULL
 * without one, and *error where it has ended or the transaction can write.  Where
 * the role has no window at all, error->sqlerrcode is 0.
 */
extern const LeyserContext *leyser_export_context(LeyserTokenError *error);

/* Writes down that the role looks, once a session and window. */
extern void leyser_export_note_look(void);

#endif /* LEYSER_EXPORT_H */
