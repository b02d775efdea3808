/*
 * protection.c
 *		What protects the governed tables, as the catalogues say it now.
 *
 * A state is compared with the state before the same statement, never with an
 * ideal: what was broken before must not block unrelated work, and a restore
 * must be able to put the pieces back in any order.  What counts:
 *
 *  - row security and FORCE of a table do not go from on to off;
 *  - a policy of ours ("leyser_…") neither changes nor goes away.  The whole
 *    catalogue row is digested as it is stored: renaming a column or a table
 *    leaves it alone, ALTER POLICY does not;
 *  - beside our permissive policy "leyser_rows" no other permissive policy
 *    appears: the two would be OR-ed, so that it would restrict nothing;
 *  - between two protected tables no foreign key appears that leaves out the
 *    tenant columns: through it one tenant refers to, and by ON DELETE and ON
 *    UPDATE actions changes, another tenant's rows;
 *  - the extension does not go away before the tables it protects.
 *
 * Only tables count that are in the registry both before and after: leyser's
 * own functions take a table out before they lift its protection, and put it
 * in after they have built it up.
 *
 * A state holds no lock, snapshot or reference, so it outlives statements that
 * commit in between (CREATE INDEX CONCURRENTLY).  Cost: a pass over pg_policy
 * and a syscache look-up per protected table; pg_constraint only on request.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "protection.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_index.h"
#include "catalog/pg_policy.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "cache.h"
#include "relation.h"

#define OUR_POLICY_PREFIX "leyser_"
#define OUR_PERMISSIVE_POLICY "leyser_rows"
#define NAMED_TABLES_MAX 5 /* in the detail of an error */

/* The first member of each is what its array is sorted and searched by. */
typedef struct ProtectedTable
{
	Oid relation;
	int16 tenant_attnum;
	bool row_security;
	bool forced;
	bool has_our_permissive;
} ProtectedTable;

typedef struct ProtectedPolicy
{
	Oid policy;
	Oid relation;
	bool ours;
	bool permissive;
	NameData name;
	uint64 digest;
} ProtectedPolicy;

typedef struct KeyGap
{
	Oid constraint;
	Oid referencing;
	Oid referenced;
} KeyGap;

struct LeyserProtection
{
	ProtectedTable *tables;
	int table_count;
	ProtectedPolicy *policies;
	int policy_count;
	int policy_space;
	KeyGap *gaps;
	int gap_count;
	int gap_space;
};

/* ---- reading ---- */

static ProtectedTable *
protection_find_table(const LeyserProtection *protection, Oid relation)
{
	return bsearch(&relation, protection->tables, protection->table_count,
				   sizeof(ProtectedTable), oid_cmp);
}

static const ProtectedPolicy *
protection_find_policy(const LeyserProtection *protection, Oid policy)
{
	return bsearch(&policy, protection->policies, protection->policy_count,
				   sizeof(ProtectedPolicy), oid_cmp);
}

static void
protection_read_tables(LeyserProtection *protection)
{
	int count;
	const LeyserGoverned *governed = leyser_cache_governed(&count);

	protection->tables = palloc(Max(count, 1) * sizeof(ProtectedTable));
	for (int i = 0; i < count; i++)
	{
		ProtectedTable *table;
		HeapTuple tuple;

		if (!governed[i].is_protected)
			continue;
		tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(governed[i].relation));
		if (!HeapTupleIsValid(tuple))
			continue;
		table = &protection->tables[protection->table_count++];
		table->relation = governed[i].relation;
		table->tenant_attnum = governed[i].tenant_attnum;
		table->row_security = ((Form_pg_class) GETSTRUCT(tuple))->relrowsecurity;
		table->forced = ((Form_pg_class) GETSTRUCT(tuple))->relforcerowsecurity;
		table->has_our_permissive = false;
		ReleaseSysCache(tuple);
	}
	qsort(protection->tables, protection->table_count, sizeof(ProtectedTable), oid_cmp);
}

/* Everything a row holds, nulls and compressed values as they are stored. */
static uint64
protection_digest(HeapTuple tuple)
{
	Size start = offsetof(HeapTupleHeaderData, t_bits);

	return hash_bytes_extended((const unsigned char *) tuple->t_data + start,
							   tuple->t_len - start, 0);
}

static void
protection_add_policy(LeyserProtection *protection, HeapTuple tuple)
{
	Form_pg_policy form = (Form_pg_policy) GETSTRUCT(tuple);
	ProtectedTable *table = protection_find_table(protection, form->polrelid);
	ProtectedPolicy *policy;

	if (!table)
		return;
	if (protection->policy_count == protection->policy_space)
	{
		protection->policy_space *= 2;
		protection->policies =
			repalloc(protection->policies,
					 mul_size(protection->policy_space, sizeof(ProtectedPolicy)));
	}
	policy = &protection->policies[protection->policy_count++];
	policy->policy = form->oid;
	policy->relation = form->polrelid;
	policy->ours = strncmp(NameStr(form->polname), OUR_POLICY_PREFIX,
						   strlen(OUR_POLICY_PREFIX)) == 0;
	policy->permissive = form->polpermissive;
	policy->name = form->polname;
	policy->digest = policy->ours ? protection_digest(tuple) : 0;
	if (policy->permissive && strcmp(NameStr(form->polname), OUR_PERMISSIVE_POLICY) == 0)
		table->has_our_permissive = true;
}

static void
protection_read_policies(LeyserProtection *protection)
{
	Relation rel = table_open(PolicyRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple tuple;

	protection->policy_space = 64;
	protection->policies = palloc(protection->policy_space * sizeof(ProtectedPolicy));
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		protection_add_policy(protection, tuple);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	qsort(protection->policies, protection->policy_count, sizeof(ProtectedPolicy),
		  oid_cmp);
}

/* Whether a foreign key pairs the tenant columns of its two tables. */
static bool
protection_key_has_tenant(HeapTuple tuple, const ProtectedTable *referencing,
						  const ProtectedTable *referenced)
{
	AttrNumber columns[INDEX_MAX_KEYS];
	AttrNumber referenced_columns[INDEX_MAX_KEYS];
	int count;

	DeconstructFkConstraintRow(tuple, &count, columns, referenced_columns, NULL, NULL,
							   NULL, NULL, NULL);
	for (int i = 0; i < count; i++)
	{
		if (columns[i] == referencing->tenant_attnum &&
			referenced_columns[i] == referenced->tenant_attnum)
			return true;
	}
	return false;
}

/*
 * Tables without row security are left out: a restore adds the foreign keys
 * before the policies, also those that were there before the tables were
 * protected.
 */
static void
protection_add_gap(LeyserProtection *protection, HeapTuple tuple)
{
	Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);
	const ProtectedTable *referencing = protection_find_table(protection, form->conrelid);
	const ProtectedTable *referenced = protection_find_table(protection, form->confrelid);

	if (!referencing || !referenced || !referencing->row_security ||
		!referenced->row_security ||
		protection_key_has_tenant(tuple, referencing, referenced))
		return;
	if (protection->gap_count == protection->gap_space)
	{
		protection->gap_space = Max(16, protection->gap_space * 2);
		protection->gaps = protection->gaps
							   ? repalloc(protection->gaps,
										  mul_size(protection->gap_space, sizeof(KeyGap)))
							   : palloc(protection->gap_space * sizeof(KeyGap));
	}
	protection->gaps[protection->gap_count++] =
		(KeyGap){form->oid, form->conrelid, form->confrelid};
}

static void
protection_read_gaps(LeyserProtection *protection)
{
	Relation rel = table_open(ConstraintRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		if (((Form_pg_constraint) GETSTRUCT(tuple))->contype == CONSTRAINT_FOREIGN)
			protection_add_gap(protection, tuple);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	qsort(protection->gaps, protection->gap_count, sizeof(KeyGap), oid_cmp);
}

LeyserProtection *
leyser_protection_capture(bool foreign_keys)
{
	LeyserProtection *protection = palloc0(sizeof(LeyserProtection));

	protection_read_tables(protection);
	if (protection->table_count == 0)
		return protection;
	protection_read_policies(protection);
	if (foreign_keys)
		protection_read_gaps(protection);
	return protection;
}

bool
leyser_protection_is_empty(const LeyserProtection *protection)
{
	return protection->table_count == 0;
}

/* ---- comparing ---- */

static const LeyserFinding *
protection_finding(const char *message, const char *detail, const char *hint)
{
	LeyserFinding *finding = palloc(sizeof(LeyserFinding));

	finding->message = message;
	finding->detail = detail;
	finding->hint = hint;
	return finding;
}

/* How to go on, as SQL. */
static char *
protection_hint(Oid relation)
{
	return psprintf("SELECT leyser.unprotect(%s) lifts the protection; for a restore, a "
					"superuser can SET leyser.guards = off.",
					quote_literal_cstr(leyser_relation_name(relation)));
}

static const LeyserFinding *
protection_compare_table(const ProtectedTable *before, const ProtectedTable *after)
{
	if (before->row_security && !after->row_security)
		return protection_finding(
			psprintf("row security of table \"%s\" cannot be disabled",
					 get_rel_name(after->relation)),
			"leyser protects this table; without row security every tenant sees every "
			"row.",
			protection_hint(after->relation));
	if (before->forced && !after->forced)
		return protection_finding(
			psprintf("row security of table \"%s\" must stay forced",
					 get_rel_name(after->relation)),
			"leyser protects this table; without FORCE its owner, and views and "
			"functions of the owner, see every tenant's rows.",
			protection_hint(after->relation));
	return NULL;
}

/* A policy of ours that was there must be there unchanged. */
static const LeyserFinding *
protection_check_kept(const LeyserProtection *after, const ProtectedPolicy *policy)
{
	const ProtectedPolicy *now = protection_find_policy(after, policy->policy);

	if (!policy->ours || !protection_find_table(after, policy->relation))
		return NULL;
	if (now && now->digest == policy->digest)
		return NULL;
	return protection_finding(
		psprintf("policy \"%s\" of table \"%s\" cannot be changed or dropped",
				 NameStr(policy->name), get_rel_name(policy->relation)),
		"It is a part of the protection by leyser.", protection_hint(policy->relation));
}

/* Beside our permissive policy a new one of somebody else would be void. */
static const LeyserFinding *
protection_check_new(const LeyserProtection *before, const LeyserProtection *after,
					 const ProtectedPolicy *policy)
{
	if (policy->ours || !policy->permissive ||
		protection_find_policy(before, policy->policy) ||
		!protection_find_table(before, policy->relation) ||
		!protection_find_table(after, policy->relation)->has_our_permissive)
		return NULL;
	return protection_finding(
		psprintf("permissive policy \"%s\" would restrict nothing on table \"%s\"",
				 NameStr(policy->name), get_rel_name(policy->relation)),
		psprintf("Permissive policies are OR-ed, and leyser's policy \"%s\" lets "
				 "every row of the tenant through.",
				 OUR_PERMISSIVE_POLICY),
		"Create it AS RESTRICTIVE; or unprotect the table, create it, and protect the "
		"table again.");
}

static const LeyserFinding *
protection_check_gap(const LeyserProtection *before, const LeyserProtection *after,
					 const KeyGap *gap)
{
	const char *column;
	const char *referenced_column;

	if (before->gaps &&
		bsearch(gap, before->gaps, before->gap_count, sizeof(KeyGap), oid_cmp))
		return NULL;
	column =
		get_attname(gap->referencing,
					protection_find_table(after, gap->referencing)->tenant_attnum, true);
	referenced_column =
		get_attname(gap->referenced,
					protection_find_table(after, gap->referenced)->tenant_attnum, true);
	return protection_finding(
		psprintf("foreign key \"%s\" must include the tenant columns",
				 get_constraint_name(gap->constraint)),
		psprintf("Without them rows of table \"%s\" can refer to another tenant's rows "
				 "of \"%s\", and change with them.",
				 get_rel_name(gap->referencing), get_rel_name(gap->referenced)),
		psprintf("FOREIGN KEY (%s, …) REFERENCES %s (%s, …), with a unique constraint "
				 "over these columns of \"%s\".",
				 quote_identifier(column ? column : "tenant_id"),
				 quote_identifier(get_rel_name(gap->referenced)),
				 quote_identifier(referenced_column ? referenced_column : "tenant_id"),
				 get_rel_name(gap->referenced)));
}

const LeyserFinding *
leyser_protection_compare(const LeyserProtection *before, const LeyserProtection *after)
{
	const LeyserFinding *finding = NULL;

	for (int i = 0; !finding && i < before->table_count; i++)
	{
		const ProtectedTable *table =
			protection_find_table(after, before->tables[i].relation);

		if (table)
			finding = protection_compare_table(&before->tables[i], table);
	}
	for (int i = 0; !finding && i < before->policy_count; i++)
		finding = protection_check_kept(after, &before->policies[i]);
	for (int i = 0; !finding && i < after->policy_count; i++)
		finding = protection_check_new(before, after, &after->policies[i]);
	for (int i = 0; !finding && i < after->gap_count; i++)
		finding = protection_check_gap(before, after, &after->gaps[i]);
	return finding;
}

const LeyserFinding *
leyser_protection_check_drop(const LeyserProtection *protection)
{
	StringInfoData names;
	int left = 0;

	initStringInfo(&names);
	for (int i = 0; i < protection->table_count; i++)
	{
		char *name = get_rel_name(protection->tables[i].relation);

		if (!name)
			continue;
		if (left < NAMED_TABLES_MAX)
			appendStringInfo(&names, "%s\"%s\"", left ? ", " : "", name);
		left++;
	}
	if (left == 0)
		return NULL;
	if (left > NAMED_TABLES_MAX)
		appendStringInfo(&names, " and %d more", left - NAMED_TABLES_MAX);
	return protection_finding(
		"extension \"leyser\" cannot be dropped while it protects tables",
		psprintf("Protected: %s.", names.data),
		"SELECT leyser.unprotect_all(); for a restore, a superuser can SET leyser.guards "
		"= off.");
}
