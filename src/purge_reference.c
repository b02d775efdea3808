/*
 * purge_reference.c
 *		Checks foreign keys for all rows that a batch deletes at once.
 *
 * The server asks for each deleted row whether another one refers to it: a look into
 * an index, or through the whole table where nobody made one.  A batch returns the
 * keys of its rows instead, and one join with the referencing table asks for all of
 * them, in the same transaction.  That is as safe.  The statement has locked its
 * rows before the join takes its snapshot: who had begun to refer to one of them is
 * waited for and then seen, who begins later waits for us and finds no row.  A
 * reference that was about to go is still seen, which repeats the batch.  What a key
 * would do in answer (CASCADE, SET NULL, SET DEFAULT) must find nothing, as said in
 * purge_trigger.c: so the check is the same for all.
 *
 * Only what the join surely compares as the key does is checked so; the rest keeps
 * the server's triggers: keys with periods, with operators over other types or
 * collations than the columns', and circles, which are checked when all is deleted.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "purge_reference.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_index.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/queryenvironment.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "owner.h"
#include "relation.h"

#define DELETED_NAME "deleted"

typedef struct Reference
{
	Oid constraint;
	Oid child; /* the referencing relation */
	Oid parent;
	bool has_period;
	int count;
	AttrNumber child_columns[INDEX_MAX_KEYS];
	AttrNumber parent_columns[INDEX_MAX_KEYS];
	Oid operators[INDEX_MAX_KEYS]; /* parent = child */
} Reference;

static Reference *
reference_read(Oid constraint)
{
	Reference *reference = palloc0(sizeof(Reference));
	HeapTuple tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for constraint %u", constraint);
	reference->constraint = constraint;
	reference->child = ((Form_pg_constraint) GETSTRUCT(tuple))->conrelid;
	reference->parent = ((Form_pg_constraint) GETSTRUCT(tuple))->confrelid;
	reference->has_period =
		leyser_constraint_has_period((Form_pg_constraint) GETSTRUCT(tuple));
	DeconstructFkConstraintRow(tuple, &reference->count, reference->child_columns,
							   reference->parent_columns, reference->operators, NULL,
							   NULL, NULL, NULL);
	ReleaseSysCache(tuple);
	return reference;
}

/* ---- which ones ---- */

/* The operator is found by its name and the types that it is for. */
static bool
is_comparable(const Reference *reference, int i)
{
	Oid child_type;
	Oid parent_type;
	Oid child_collation;
	Oid parent_collation;
	Oid left;
	Oid right;
	int32 typmod;

	get_atttypetypmodcoll(reference->child, reference->child_columns[i], &child_type,
						  &typmod, &child_collation);
	get_atttypetypmodcoll(reference->parent, reference->parent_columns[i], &parent_type,
						  &typmod, &parent_collation);
	op_input_types(reference->operators[i], &left, &right);
	return child_collation == parent_collation && get_typtype(left) == TYPTYPE_BASE &&
		   get_typtype(right) == TYPTYPE_BASE && IsBinaryCoercible(parent_type, left) &&
		   IsBinaryCoercible(child_type, right);
}

static bool
is_checkable(const Reference *reference)
{
	if (reference->has_period)
		return false;
	for (int i = 0; i < reference->count; i++)
		if (!is_comparable(reference, i))
			return false;
	return true;
}

List *
leyser_references_to(Relation rel)
{
	List *references = NIL;
	TriggerDesc *triggers = rel->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		/* anybody may make a constraint trigger with the function of a key's */
		if (trigger->tgisinternal && OidIsValid(trigger->tgconstraint) &&
			TRIGGER_FOR_DELETE(trigger->tgtype) &&
			RI_FKey_trigger_type(trigger->tgfoid) == RI_TRIGGER_PK &&
			is_checkable(reference_read(trigger->tgconstraint)))
			references = list_append_unique_oid(references, trigger->tgconstraint);
	}
	return references;
}

char *
leyser_reference_keys(Relation rel, List *references)
{
	Bitmapset *columns = NULL;
	StringInfoData keys;
	ListCell *cell;
	int column = -1;

	foreach (cell, references)
	{
		Reference *reference = reference_read(lfirst_oid(cell));

		for (int i = 0; i < reference->count; i++)
			columns = bms_add_member(columns, reference->parent_columns[i]);
	}
	initStringInfo(&keys);
	while ((column = bms_next_member(columns, column)) >= 0)
		appendStringInfo(
			&keys, "%s%s", keys.len > 0 ? ", " : "",
			quote_identifier(get_attname(RelationGetRelid(rel), column, false)));
	return keys.data;
}

/* ---- the join ---- */

/* As it is without a length: "character" and "bit" would be cut to one. */
static char *
type_name(Oid type)
{
	return format_type_extended(type, -1,
								FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
}

static void
append_comparison(StringInfo query, const Reference *reference, int i)
{
	HeapTuple tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(reference->operators[i]));
	Form_pg_operator operator;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", reference->operators[i]);
	operator=(Form_pg_operator) GETSTRUCT(tuple);
	appendStringInfo(query, "%s d.%s::%s OPERATOR(%s.%s) c.%s::%s",
					 i == 0 ? " ON" : " AND",
					 quote_identifier(get_attname(reference->parent,
												  reference->parent_columns[i], false)),
					 type_name(operator->oprleft),
					 quote_identifier(get_namespace_name(operator->oprnamespace)),
					 NameStr(operator->oprname),
					 quote_identifier(get_attname(reference->child,
												  reference->child_columns[i], false)),
					 type_name(operator->oprright));
	ReleaseSysCache(tuple);
}

static char *
join_query(const Reference *reference)
{
	bool whole = get_rel_relkind(reference->child) == RELKIND_PARTITIONED_TABLE;
	StringInfoData query;

	initStringInfo(&query);
	appendStringInfo(&query, "SELECT FROM " DELETED_NAME " d JOIN %s%s c",
					 whole ? "" : "ONLY ", leyser_relation_name(reference->child));
	for (int i = 0; i < reference->count; i++)
		append_comparison(&query, reference, i);
	return query.data;
}

/* Whether a column of the index is sought by the key's own comparison. */
static bool
column_serves(Relation index, int column, const Reference *reference)
{
	AttrNumber sought = index->rd_index->indkey.values[column];
	Oid type;
	Oid collation;
	int32 typmod;

	for (int i = 0; i < reference->count; i++)
	{
		if (sought != reference->child_columns[i])
			continue;
		get_atttypetypmodcoll(reference->child, sought, &type, &typmod, &collation);
		return collation == index->rd_indcollation[column] &&
			   op_in_opfamily(reference->operators[i], index->rd_opfamily[column]);
	}
	return false;
}

/* Whether an index leads with all columns of the key. */
static bool
index_serves(Oid index, const Reference *reference)
{
	Relation rel = index_open(index, AccessShareLock);
	const FormData_pg_index *form = rel->rd_index;
	bool serves = rel->rd_rel->relam == BTREE_AM_OID && form->indisvalid &&
				  form->indnkeyatts >= reference->count &&
				  RelationGetIndexPredicate(rel) == NIL;

	for (int k = 0; k < reference->count && serves; k++)
		serves = column_serves(rel, k, reference);
	index_close(rel, AccessShareLock);
	return serves;
}

static bool
child_is_indexed(Relation child, const Reference *reference)
{
	ListCell *cell;

	foreach (cell, RelationGetIndexList(child))
		if (index_serves(lfirst_oid(cell), reference))
			return true;
	return false;
}

/*
 * Statistics still tell of the rows that were deleted there just now, and it is
 * their entries that a scan of the index passes over.
 */
static void
join_by_index(void)
{
	static const char *const others[] = {"enable_seqscan", "enable_bitmapscan",
										 "enable_hashjoin", "enable_mergejoin"};

	for (size_t i = 0; i < lengthof(others); i++)
		(void) set_config_option(others[i], "off", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
}

static void
refuse_reference(const Reference *reference, Relation child)
{
	ereport(
		ERROR,
		(errcode(LEYSER_ERRCODE_WRONG_STATE),
		 errmsg("rows of \"%s\" refer to rows that go", RelationGetRelationName(child)),
		 errdetail("The foreign key is \"%s\".",
				   get_constraint_name(reference->constraint)),
		 errhint("leyser.purge_plan() tells how many there are."),
		 errtableconstraint(child, get_constraint_name(reference->constraint))));
}

/* With the rights of the referencing table's owner, as the server does. */
static void
reference_check(const Reference *reference, EphemeralNamedRelation deleted)
{
	Relation child = table_open(reference->child, AccessShareLock);
	LeyserOwnerState owner;
	SPIPlanPtr plan;

	leyser_owner_begin_as(&owner, child->rd_rel->relowner);
	if (child_is_indexed(child, reference))
		join_by_index();
	if (SPI_register_relation(deleted) != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not name deleted rows");
	plan = SPI_prepare(join_query(reference), 0, NULL);
	if (plan == NULL || SPI_execute_plan(plan, NULL, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look for references of \"%s\"",
			 RelationGetRelationName(child));
	if (SPI_processed > 0)
		refuse_reference(reference, child);
	leyser_owner_end(&owner);
	table_close(child, NoLock);
}

void
leyser_references_check(List *references, SPITupleTable *deleted, uint64 rows)
{
	EphemeralNamedRelationData relation = {.md = {.name = DELETED_NAME,
												  .tupdesc = deleted->tupdesc,
												  .enrtype = ENR_NAMED_TUPLESTORE,
												  .enrtuples = (double) rows}};
	Tuplestorestate *store;
	ListCell *cell;

	if (rows == 0)
		return;
	store = tuplestore_begin_heap(false, false, work_mem);
	for (uint64 i = 0; i < rows; i++)
		tuplestore_puttuple(store, deleted->vals[i]);
	relation.reldata = store;
	foreach (cell, references)
		reference_check(reference_read(lfirst_oid(cell)), &relation);
	tuplestore_end(store);
}
