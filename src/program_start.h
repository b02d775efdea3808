/*
 * program_start.h
 *		Starting a program, for program.c.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_PROGRAM_START_H
#define LEYSER_PROGRAM_START_H

#include "leyser.h"

typedef struct LeyserStarted
{
	pid_t pid;    /* and its group; 0: none to be reaped */
	int input_fd; /* these three do not block; -1: closed */
	int output_fd;
	int errors_fd;
} LeyserStarted;

/*
 * Raises what leyser_program_run() does where the program cannot be run or no process
 * can be made; then, too, there may be something to reap and to close.
 */
extern void leyser_program_start(LeyserStarted *process, const char *const *argv,
								 bool with_input);

/* Closes a file that is open, and notes that it is closed. */
extern void leyser_program_close(int *fd);

#endif /* LEYSER_PROGRAM_START_H */
