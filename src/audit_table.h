/*
 * audit_table.h
 *		What is audited of a table.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_AUDIT_TABLE_H
#define LEYSER_AUDIT_TABLE_H

#include "audit_image.h"

#include "utils/rel.h"
#include "utils/reltrigger.h"

/* What the names of audit()'s triggers begin with. */
#define LEYSER_AUDIT_TRIGGER "leyser_audit_"

/* What is kept of an audited table. */
typedef struct LeyserAuditTable
{
	Oid relation; /* hash key */
	bool valid;
	MemoryContext memory;
	char *name;
	LeyserAuditShape shape;
	AttrNumber tenant; /* 0: rows are the service's, or the context's */
	Oid tenant_type;
	FmgrInfo tenant_output;
} LeyserAuditTable;

/* What is kept of a table, by one of its triggers; good until the next call. */
extern LeyserAuditTable *leyser_audit_table(Relation rel, const Trigger *trigger);

/* audit_memory.c */
extern void leyser_audit_memory_init(void);

#endif /* LEYSER_AUDIT_TABLE_H */
