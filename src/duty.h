/*
 * duty.h
 *		Roles that have a usage must stay fit for it.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_DUTY_H
#define LEYSER_DUTY_H

#include "leyser.h"

#include "nodes/nodes.h"
#include "protection.h"

/* Whether a statement can change what a role may do or can become. */
extern bool leyser_duty_is_touched(Node *statement);

/* What is wrong with roles now (text[]), in the current memory context. */
extern Datum leyser_duty_capture(void);

/* What came to it since then, or NULL. */
extern const LeyserFinding *leyser_duty_compare(Datum before);

#endif /* LEYSER_DUTY_H */
