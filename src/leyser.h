/*
 * leyser.h
 *		What every module shares: the SQLSTATEs, and whether we were preloaded.
 *
 * Dependencies run one way: keyring and token know no SQL; cache knows the
 * catalogues and our own tables; context uses token and cache; guard uses
 * cache and context.  Nothing calls back up.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_H
#define LEYSER_H

#include "postgres.h"

#include "utils/elog.h"

/* The SQLSTATEs of the interface; class LY is ours. */
#define LEYSER_ERRCODE_NO_CONTEXT MAKE_SQLSTATE('L', 'Y', '0', '0', '1')
#define LEYSER_ERRCODE_TOKEN_REFUSED MAKE_SQLSTATE('L', 'Y', '0', '0', '2')
#define LEYSER_ERRCODE_TOKEN_EXPIRED MAKE_SQLSTATE('L', 'Y', '0', '0', '3')
#define LEYSER_ERRCODE_TENANT_NOT_ACTIVE MAKE_SQLSTATE('L', 'Y', '0', '0', '4')
#define LEYSER_ERRCODE_SESSION_ENDED MAKE_SQLSTATE('L', 'Y', '0', '0', '5')
#define LEYSER_ERRCODE_GUARD_REFUSED MAKE_SQLSTATE('L', 'Y', '0', '0', '7')
#define LEYSER_ERRCODE_WRONG_STATE MAKE_SQLSTATE('L', 'Y', '0', '0', '8')
#define LEYSER_ERRCODE_CONTEXT_CONFLICT MAKE_SQLSTATE('L', 'Y', '0', '0', '9')

/* Longest tenant id and account name, in characters and (UTF-8) bytes. */
#define LEYSER_NAME_MAX_CHARS 200
#define LEYSER_NAME_MAX_BYTES (LEYSER_NAME_MAX_CHARS * 4)

/*
 * True once _PG_init ran from shared_preload_libraries.  Everything else
 * refuses to work without: a value set before the library is loaded would be
 * a placeholder, bound to whatever transaction happens to load it.
 */
extern bool leyser_preloaded;

extern void leyser_require_preloaded(void);

#endif /* LEYSER_H */
