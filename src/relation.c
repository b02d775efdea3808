/*
 * relation.c
 *		What a relation is called in SQL, and whose it is.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "relation.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

char *
leyser_relation_name(Oid relation)
{
	char *name = get_rel_name(relation);

	return name != NULL ? quote_qualified_identifier(
							  get_namespace_name(get_rel_namespace(relation)), name)
						: NULL;
}

Oid
leyser_relation_owner(Oid relation)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation does not exist"),
				 errhint("It was dropped meanwhile.")));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}
