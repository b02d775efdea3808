/*
 * program.h
 *		Running a program of the operating system, without a shell.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_PROGRAM_H
#define LEYSER_PROGRAM_H

#include "leyser.h"

#include "lib/stringinfo.h"

/*
 * Runs argv[0], an absolute path, with the arguments up to the NULL, and waits for
 * its end: its exit status, or 128 and the number of the signal that ended it.
 * "input" is what it finds on its standard input (NULL: nothing); it need not read it.
 * Appends to "output" what it wrote to its standard output (bytes as they came:
 * pg_any_to_server() before they become text), to "errors" the beginning of what
 * it wrote to its standard error, fit to be shown; either may be NULL.
 *
 * timeout_ms 0 waits as long as it takes.  Raises 58P01 or 42501 where the program
 * cannot be run, 53000 where no process can be made, 54000 for too much output,
 * 58000 when the time is up, and what a cancel raises; then the program and all it
 * has started are gone.
 */
extern int leyser_program_run(const char *const *argv, int timeout_ms, const char *input,
							  StringInfo output, StringInfo errors);

/* The path (palloc'd) of a program that came with the server. */
extern char *leyser_program_path(const char *name);

/*
 * Kills what programs left behind whose starter was killed; returns how many
 * processes that were.
 */
extern int leyser_program_end_strays(void);

/* Into at least LEYSER_PROGRAM_MARK_MAX bytes: how to know our programs by. */
#define LEYSER_PROGRAM_MARK_MAX 96
extern void leyser_program_mark(char *mark);

#endif /* LEYSER_PROGRAM_H */
