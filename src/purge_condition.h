/*
 * purge_condition.h
 *		What an operator's purge_condition may be.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_PURGE_CONDITION_H
#define LEYSER_PURGE_CONDITION_H

#include "leyser.h"
#include "compat.h"

#include "nodes/pg_list.h"

typedef struct LeyserCondition
{
	Oid relation;    /* the table that the condition is for */
	Oid owner;       /* its owner, with whose rights the condition runs */
	bool seen;       /* the table itself was met: it comes first */
	bool asks;       /* for the tenant, $1 */
	List *relations; /* other relations, and the table where it comes again */
} LeyserCondition;

/*
 * Raises 22023 unless the condition is one expression in which every name stands
 * for what the table's owner or a superuser made.  Looks at the text alone:
 * analysis would already run what a name stands for.
 */
extern void leyser_check_condition_names(const LeyserCondition *condition,
										 const char *text);

/* The one expression that a text is, parsed and not analyzed; NULL for another text. */
extern Node *leyser_condition_expression(const char *text);

/* Whether a condition may use what a role made. */
extern bool leyser_condition_trusts(const LeyserCondition *condition, Oid role);

/* Raises 22023; the detail is a sentence. */
leyser_noreturn extern void leyser_refuse_condition(const LeyserCondition *condition,
													const char *detail);

#endif /* LEYSER_PURGE_CONDITION_H */
