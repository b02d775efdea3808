/*
 * privileged.h
 *		Access to protected tables by whom row security does not bind.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_PRIVILEGED_H
#define LEYSER_PRIVILEGED_H

#include "leyser.h"

#include "nodes/nodes.h"
#include "nodes/pg_list.h"

extern void leyser_privileged_init(void);

/* leyser.privileged_access is not off. */
extern bool leyser_privileged_is_watched(void);

/* Before a DDL statement runs: records it where it runs expressions over rows. */
extern void leyser_privileged_check_ddl(Node *statement);

/* An ALTER TABLE begins (1) or ends (-1), if the statement is one. */
extern void leyser_privileged_alters(bool is_alter, int more);

/* A table is being emptied. */
extern void leyser_privileged_check_truncate(Oid relation);

/* ---- among its files ---- */

typedef enum LeyserPrivilegedKind
{
	LEYSER_PRIVILEGED_ACCESS,
	LEYSER_PRIVILEGED_REFUSED,
	LEYSER_PRIVILEGED_DDL
} LeyserPrivilegedKind;

/*
 * One access, as it is counted: what is equal in all of these adds to one count.
 * Zeroed before it is filled in: it is compared byte by byte.
 */
typedef struct LeyserPrivilegedKey
{
	LeyserPrivilegedKind kind;
	Oid relation;
	Oid session_role;
	Oid caller_role; /* in force in the session */
	Oid role;        /* whose rights are used */
	int64 window;    /* 0: none */
	char command[32];
	char bypass[32]; /* why row security does not apply */
} LeyserPrivilegedKey;

/*
 * Counts it.  What is new in this session goes to the server log at once, and is
 * waited for until it is an event on disk: with must true an error where it cannot
 * be, else it stays counted.  Nothing on a standby.
 */
extern void leyser_privileged_count(const LeyserPrivilegedKey *key, int64 query_id,
									bool must);

extern void leyser_privileged_count_init(void);

/* What the server asks for before it checks a foreign key that is being added. */
extern void leyser_privileged_key_asked(const List *permissions);

/* Whether a query is that check. */
extern bool leyser_privileged_is_key_check(const char *query, const List *permissions);

/* The window that is open for the session's roles, or 0. */
extern int64 leyser_privileged_window(void);

/* Refuses or counts an access to a relation; query_id 0: unknown. */
extern void leyser_privileged_meet(LeyserPrivilegedKind kind, Oid relation, Oid role,
								   const char *command, const char *bypass,
								   int64 query_id);

/*
 * Why row security does not apply to a role on a protected table; NULL where it
 * does, or where the table is not protected.
 */
extern const char *leyser_privileged_bypass(Oid relation, Oid role);

/* Whether the server or leyser itself is at work now, not somebody's statement. */
extern bool leyser_privileged_is_own_work(void);

extern void leyser_privileged_own_init(void);
extern void leyser_privileged_connection_init(void);

#endif /* LEYSER_PRIVILEGED_H */
