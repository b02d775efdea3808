/*
 * relation.h
 *		What a relation is called in SQL, and whose it is.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_RELATION_H
#define LEYSER_RELATION_H

#include "leyser.h"

/* Schema and name, quoted for SQL; NULL where the relation is gone. */
extern char *leyser_relation_name(Oid relation);

/* Whether nothing lies in a schema. */
extern bool leyser_relation_schema_is_empty(Oid schema);

/* The role that owns it; 42P01 where it is gone. */
extern Oid leyser_relation_owner(Oid relation);

#endif /* LEYSER_RELATION_H */
