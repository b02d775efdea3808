/*
 * program_stray.c
 *		Finds what a program left behind whose starter was killed.
 *
 * A number in a file could be another process's by now.  So each program, and what
 * it starts, has a mark in its environment that names the process that started it,
 * with the moment of its start.  A process with the mark of one that is gone is a
 * stray, whichever cluster's it was; nothing else is ever killed.  Only a process
 * of our own user shows us its environment.
 *
 * Where there is no /proc there is nothing to find.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "program.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"

#define MARK_NAME "LEYSER_PROGRAM="
#define MARK_FORMAT MARK_NAME "%d.%llu"
#define FIELDS_TO_START 20 /* from the state to the moment of the start: proc(5) */

/* The beginning of a file below /proc, ended by a zero; its length, or -1. */
static ssize_t
process_read(pid_t pid, const char *file, char *into, size_t size)
{
	char path[64];
	ssize_t length;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int) pid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	length = read(fd, into, size - 1);
	close(fd);
	if (length >= 0)
		into[length] = '\0';
	return length;
}

/* When a process was started, in ticks since the machine's start; 0: it is gone. */
static unsigned long long
process_started(pid_t pid)
{
	char stat[1024];
	char *field;

	if (process_read(pid, "stat", stat, sizeof(stat)) <= 0)
		return 0;
	/* its name may hold blanks and brackets */
	field = strrchr(stat, ')');
	for (int i = 0; field != NULL && i < FIELDS_TO_START; i++)
		field = strchr(field + 1, ' ');
	return field == NULL ? 0 : strtoull(field, NULL, 10);
}

void
leyser_program_mark(char *mark)
{
	snprintf(mark, LEYSER_PROGRAM_MARK_MAX, MARK_FORMAT, MyProcPid,
			 process_started(MyProcPid));
}

/* Our mark is among the first: the programs' environment is small. */
static bool
process_is_stray(pid_t pid)
{
	char environment[1024];
	ssize_t length = process_read(pid, "environ", environment, sizeof(environment));
	int starter;
	unsigned long long started;

	for (char *entry = environment; entry < environment + length;
		 entry += strlen(entry) + 1)
	{
		if (sscanf(entry, MARK_FORMAT, &starter, &started) == 2)
			return process_started((pid_t) starter) != started;
	}
	return false;
}

int
leyser_program_end_strays(void)
{
	DIR *processes = AllocateDir("/proc");
	struct dirent *entry;
	int killed = 0;

	while (processes != NULL &&
		   (entry = ReadDirExtended(processes, "/proc", LOG)) != NULL)
	{
		pid_t pid = (pid_t) atoi(entry->d_name);

		if (pid <= 0 || pid == MyProcPid || !process_is_stray(pid))
			continue;
		ereport(LOG, (errmsg("killing process %d, which a killed process of leyser left "
							 "behind",
							 (int) pid)));
		if (kill(pid, SIGKILL) == 0)
			killed++;
	}
	if (processes != NULL)
		FreeDir(processes);
	return killed;
}
