/*
 * name.h
 *		Texts that can be tenant ids and names.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_NAME_H
#define LEYSER_NAME_H

#include "leyser.h"

/* NULL where a text may be a tenant id or an account's name, else why not. */
extern const char *leyser_name_problem(const char *name);

#endif /* LEYSER_NAME_H */
