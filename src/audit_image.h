/*
 * audit_image.h
 *		Images of audited rows.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_AUDIT_IMAGE_H
#define LEYSER_AUDIT_IMAGE_H

#include "leyser.h"

#include "executor/tuptable.h"
#include "fmgr.h"
#include "lib/stringinfo.h"

/* How a column's value is written. */
typedef struct LeyserAuditColumn
{
	AttrNumber number;
	const char *name;
	bool redacted;
	bool is_key; /* of the primary key */
	Oid type;
	FmgrInfo output;
} LeyserAuditColumn;

/* The columns of a table that are audited. */
typedef struct LeyserAuditShape
{
	int count;
	bool has_key;             /* the whole primary key is audited */
	bool depends_on_settings; /* some type's text does */
	LeyserAuditColumn *columns;
} LeyserAuditShape;

/* Fills in a column, in the current memory context. */
extern void leyser_audit_column(LeyserAuditColumn *column, TupleDesc descriptor,
								AttrNumber number, bool redacted);

/* The beginning of images: version and names. */
extern void leyser_audit_begin(StringInfo images, const LeyserAuditShape *shape);

/* A row; old or new may be NULL.  Of both, what changed, and the old one's key. */
extern void leyser_audit_row(StringInfo images, const LeyserAuditShape *shape,
							 TupleTableSlot *old, TupleTableSlot *new);

#endif /* LEYSER_AUDIT_IMAGE_H */
