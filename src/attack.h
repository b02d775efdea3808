/*
 * attack.h
 *		What the caller of an attack (attack.c) and its worker (attack_client.c) share.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_ATTACK_H
#define LEYSER_ATTACK_H

#include "leyser.h"

/* What came of an attempt. */
typedef enum AttackOutcome
{
	ATTACK_NO_ANSWER, /* the worker could not connect, or died */
	ATTACK_UNREADY,   /* what the attempt needs could not be had */
	ATTACK_HELD,
	ATTACK_HOLE
} AttackOutcome;

/* Lies in dynamic shared memory.  The answer holds no value of any row. */
typedef struct Attack
{
	Oid database;
	Oid role;
	AttackOutcome outcome;
	int step;                         /* the one that decided, from 1; 0: none */
	int sqlstate;                     /* the first error, or 0 */
	char routine[64];                 /* the server's C function that raised it */
	int64 value;                      /* how much a hole let through */
	int count;                        /* of steps */
	char text[FLEXIBLE_ARRAY_MEMBER]; /* the steps, each with its zero */
} Attack;

#endif /* LEYSER_ATTACK_H */
