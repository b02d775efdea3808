/*
 * program.c
 *		Runs a program, without a shell, and sees to it that it does not stay.
 *
 * A label or a stanza that a shell would read is an attack; arguments go to
 * execve() as they are.  The rules:
 *
 *  - The program has an environment of its own, "/" as its directory, the default
 *    action for each signal, and no files of ours but its pipes.
 *  - It leads a process group.  An error, a cancel, the end of our process or the
 *    time being up kill the whole group.  The leader is reaped last: until then
 *    its number, which is the group's, cannot be another's.
 *  - kill -9 of our process gives us no time for that.  The kernel then kills the
 *    program (not what it has started), and program_stray.c finds the rest by a
 *    mark in its environment.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "program.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#include "program_start.h"

#define OUTPUT_MAX (64 * 1024 * 1024) /* bytes; more is refused */
#define ERRORS_MAX 4096               /* bytes; more is left out */
#define LOOK_WAIT 100                 /* milliseconds between looks for its end */
#define READS_A_LOOK 64               /* so that interrupts are seen in between */

typedef struct Program
{
	LeyserStarted process;
	int pause;         /* milliseconds: the next look, where no pipe tells us */
	const char *input; /* what it has not read yet */
	int input_length;
	StringInfo output;
	StringInfo errors;
} Program;

/* ---- waiting for it ---- */

/* Whether the program has ended; it is not reaped yet. */
static bool
program_has_ended(const Program *program)
{
	siginfo_t info = {0};

	if (waitid(P_PID, (id_t) program->process.pid, &info, WEXITED | WNOHANG | WNOWAIT) !=
		0)
		return errno == ECHILD;
	return info.si_pid == program->process.pid;
}

/* Kills what is left of the group and reaps its leader; gives waitpid()'s status. */
static int
program_reap(Program *program)
{
	int status = 0;
	pid_t reaped;

	(void) kill(-program->process.pid, SIGKILL);
	do
	{
		reaped = waitpid(program->process.pid, &status, 0);
	} while (reaped < 0 && errno == EINTR);
	if (reaped < 0)
		elog(LOG, "could not wait for process %d: %m", (int) program->process.pid);
	program->process.pid = 0;
	return status;
}

/* However we leave. */
static void
program_cleanup(int code, Datum arg)
{
	Program *program = (Program *) DatumGetPointer(arg);

	if (program->process.pid > 0)
		(void) program_reap(program);
	leyser_program_close(&program->process.input_fd);
	leyser_program_close(&program->process.output_fd);
	leyser_program_close(&program->process.errors_fd);
}

static void
program_take(StringInfo into, int max, bool refuse, const char *bytes, int length)
{
	if (into == NULL)
		return;
	if (length > max - into->len && refuse)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("output of a program is too long"),
						errdetail("More than %d bytes came.", max)));
	length = Min(length, max - into->len);
	if (length > 0)
		appendBinaryStringInfo(into, bytes, length);
}

/* What is there by now; closes the pipe at its end. */
static void
program_read(int *fd, StringInfo into, int max, bool refuse)
{
	char bytes[8192];

	for (int i = 0; i < READS_A_LOOK && *fd >= 0; i++)
	{
		ssize_t length = read(*fd, bytes, sizeof(bytes));

		if (length > 0)
			program_take(into, max, refuse, bytes, (int) length);
		else if (length == 0)
			leyser_program_close(fd);
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			return;
		else if (errno != EINTR)
			leyser_program_close(fd);
	}
}

static void
program_read_both(Program *program)
{
	program_read(&program->process.output_fd, program->output, OUTPUT_MAX, true);
	program_read(&program->process.errors_fd, program->errors, ERRORS_MAX, false);
}

/* As much as it takes by now; closes the pipe after all of it, or where nobody reads. */
static void
program_write(Program *program)
{
	while (program->process.input_fd >= 0 && program->input_length > 0)
	{
		ssize_t length =
			write(program->process.input_fd, program->input, program->input_length);

		if (length > 0)
		{
			program->input += length;
			program->input_length -= (int) length;
		}
		else if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		else if (length == 0 || errno != EINTR)
			break;
	}
	leyser_program_close(&program->process.input_fd);
}

/*
 * Its end closes its pipes, so that wakes us, too: a moment before it can be waited
 * for.
 */
static void
program_wait(Program *program)
{
	int fd = program->process.output_fd >= 0 ? program->process.output_fd
											 : program->process.errors_fd;
	int events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;
	int wait = LOOK_WAIT;

	if (program->process.input_fd >= 0)
	{
		fd = program->process.input_fd;
		events |= WL_SOCKET_WRITEABLE;
	}
	else if (fd >= 0)
		events |= WL_SOCKET_READABLE;
	else
	{
		wait = program->pause;
		program->pause = Min(2 * wait, LOOK_WAIT);
	}
	(void) WaitLatchOrSocket(MyLatch, events, fd >= 0 ? fd : PGINVALID_SOCKET, wait,
							 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static int
program_watch(Program *program, const char *name, int timeout_ms)
{
	TimestampTz started = GetCurrentTimestamp();
	int status;

	while (!program_has_ended(program))
	{
		if (timeout_ms > 0 &&
			TimestampDifferenceExceeds(started, GetCurrentTimestamp(), timeout_ms))
			ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR),
							errmsg("program \"%s\" did not end in time", name),
							errdetail("It was killed after %d ms.", timeout_ms)));
		program_wait(program);
		program_write(program);
		program_read_both(program);
	}
	status = program_reap(program);
	program_read_both(program);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* What the database's encoding does not have, and what moves a terminal's cursor. */
static void
errors_make_fit(StringInfo errors)
{
	bool valid = pg_verifymbstr(errors->data, errors->len, true);

	for (int i = 0; i < errors->len; i++)
	{
		unsigned char byte = (unsigned char) errors->data[i];

		if ((byte < ' ' && byte != '\n') || byte == 0x7f || (!valid && byte > 0x7f))
			errors->data[i] = '?';
	}
	while (errors->len > 0 && errors->data[errors->len - 1] == '\n')
		errors->data[--errors->len] = '\0';
}

int
leyser_program_run(const char *const *argv, int timeout_ms, const char *input,
				   StringInfo output, StringInfo errors)
{
	Program *program = palloc(sizeof(Program));
	volatile int status = 0;

	*program = (Program){.process = {.input_fd = -1, .output_fd = -1, .errors_fd = -1},
						 .pause = 1,
						 .input = input,
						 .input_length = input == NULL ? 0 : (int) strlen(input),
						 .output = output,
						 .errors = errors};
	PG_ENSURE_ERROR_CLEANUP(program_cleanup, PointerGetDatum(program));
	{
		leyser_program_start(&program->process, argv, input != NULL);
		status = program_watch(program, argv[0], timeout_ms);
	}
	PG_END_ENSURE_ERROR_CLEANUP(program_cleanup, PointerGetDatum(program));
	program_cleanup(0, PointerGetDatum(program));
	pfree(program);
	if (errors != NULL)
		errors_make_fit(errors);
	return status;
}

char *
leyser_program_path(const char *name)
{
	char *path = pstrdup(my_exec_path);
	char *end = strrchr(path, '/');

	Assert(end != NULL);
	*end = '\0';
	return psprintf("%s/%s", path, name);
}
