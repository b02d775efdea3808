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

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#define OUTPUT_MAX (64 * 1024 * 1024) /* bytes; more is refused */
#define ERRORS_MAX 4096               /* bytes; more is left out */
#define LOOK_WAIT 100                 /* milliseconds between looks for its end */
#define READS_A_LOOK 64               /* so that interrupts are seen in between */
#define CANNOT_RUN 127                /* the child's exit status, which nobody sees */
#define STATUS_FD 3                   /* in the child: closed by execve() */

typedef struct Program
{
	pid_t pid;    /* and its group; 0: none to be reaped */
	int input_fd; /* -1: closed */
	int output_fd;
	int errors_fd;
	int pause;         /* milliseconds: the next look, where no pipe tells us */
	const char *input; /* what it has not read yet */
	int input_length;
	StringInfo output;
	StringInfo errors;
} Program;

/* The ends of the child's pipes while it is started: for reading and writing. */
typedef struct ProgramPipes
{
	int input[2]; /* only where it has input */
	int output[2];
	int errors[2];
	int status[2];
} ProgramPipes;

/* ---- in the child ---- */

static void
child_close_files(int first)
{
#ifdef __linux__
	if (close_range((unsigned) first, ~0U, 0) == 0)
		return;
#endif
	for (int fd = first; fd < (int) sysconf(_SC_OPEN_MAX); fd++)
		close(fd);
}

static bool
child_connect(const ProgramPipes *pipes)
{
	int input = pipes->input[0] >= 0 ? pipes->input[0] : open("/dev/null", O_RDONLY);

	if (input < 0 || dup2(input, STDIN_FILENO) < 0 ||
		dup2(pipes->output[1], STDOUT_FILENO) < 0 ||
		dup2(pipes->errors[1], STDERR_FILENO) < 0)
		return false;
	if (pipes->status[1] != STATUS_FD && dup2(pipes->status[1], STATUS_FD) < 0)
		return false;
	if (fcntl(STATUS_FD, F_SETFD, FD_CLOEXEC) != 0)
		return false;
	child_close_files(STATUS_FD + 1);
	return true;
}

/* Signals are blocked until all is set up: none of the server's handlers runs here. */
static void
child_reset_signals(void)
{
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		(void) signal(number, SIG_DFL);
	sigemptyset(&none);
	(void) sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Ends with our end, also if that has come already. */
static bool
child_bind(pid_t parent)
{
	if (setpgid(0, 0) != 0)
		return false;
#ifdef __linux__
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
		return false;
#endif
	return getppid() == parent;
}

static void
child_run(const char *const *argv, char *const *environment, const ProgramPipes *pipes,
		  pid_t parent)
{
	int error;

	if (child_bind(parent) && child_connect(pipes) && chdir("/") == 0)
	{
		(void) umask(S_IRWXG | S_IRWXO);
		child_reset_signals();
		(void) execve(argv[0], (char *const *) argv, environment);
	}
	error = errno;
	(void) !write(STATUS_FD, &error, sizeof(error));
	_exit(CANNOT_RUN);
}

/* ---- starting it ---- */

static void
pipe_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void
pipes_close(ProgramPipes *pipes)
{
	for (int i = 0; i < 2; i++)
	{
		pipe_close(&pipes->input[i]);
		pipe_close(&pipes->output[i]);
		pipe_close(&pipes->errors[i]);
		pipe_close(&pipes->status[i]);
	}
}

static void
pipes_open(ProgramPipes *pipes, bool with_input)
{
	memset(pipes, -1, sizeof(ProgramPipes));
	if ((!with_input || (pipe2(pipes->input, O_CLOEXEC) == 0 &&
						 fcntl(pipes->input[1], F_SETFL, O_NONBLOCK) == 0)) &&
		pipe2(pipes->output, O_CLOEXEC) == 0 && pipe2(pipes->errors, O_CLOEXEC) == 0 &&
		pipe2(pipes->status, O_CLOEXEC) == 0 &&
		fcntl(pipes->output[0], F_SETFL, O_NONBLOCK) == 0 &&
		fcntl(pipes->errors[0], F_SETFL, O_NONBLOCK) == 0)
		return;
	pipes_close(pipes);
	ereport(ERROR, (errcode_for_file_access(), errmsg("could not make a pipe: %m")));
}

/* What the child could not do, or 0 once the program runs. */
static int
status_read(int fd)
{
	int error = 0;
	ssize_t length;

	do
	{
		length = read(fd, &error, sizeof(error));
	} while (length < 0 && errno == EINTR);
	return length == (ssize_t) sizeof(error) ? error : 0;
}

static pid_t
program_fork(const char *const *argv, const ProgramPipes *pipes)
{
	static char path[] = "PATH=/usr/bin:/bin";
	static char locale[] = "LC_ALL=C";
	char mark[LEYSER_PROGRAM_MARK_MAX];
	char *environment[] = {path, locale, mark, NULL};
	pid_t parent = getpid();
	sigset_t all;
	sigset_t before;
	pid_t pid;

	leyser_program_mark(mark);
	sigfillset(&all);
	(void) sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		child_run(argv, environment, pipes, parent);
	(void) sigprocmask(SIG_SETMASK, &before, NULL);
	return pid;
}

static void
program_start(Program *program, const char *const *argv)
{
	ProgramPipes pipes;
	int error;

	if (!is_absolute_path(argv[0]))
		elog(ERROR, "program \"%s\" is no absolute path", argv[0]);
	pipes_open(&pipes, program->input != NULL);
	program->pid = program_fork(argv, &pipes);
	if (program->pid < 0)
	{
		program->pid = 0;
		pipes_close(&pipes);
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
						errmsg("could not make a process for \"%s\": %m", argv[0])));
	}
	/* the child does it, too: whoever comes first */
	(void) setpgid(program->pid, program->pid);
	program->input_fd = pipes.input[1];
	program->output_fd = pipes.output[0];
	program->errors_fd = pipes.errors[0];
	pipes.input[1] = pipes.output[0] = pipes.errors[0] = -1;
	pipe_close(&pipes.status[1]);
	error = status_read(pipes.status[0]);
	pipes_close(&pipes);
	if (error == 0)
		return;
	errno = error;
	ereport(ERROR,
			(errcode_for_file_access(), errmsg("could not run \"%s\": %m", argv[0]),
			 errhint("Install it, or let the user that runs the server run it.")));
}

/* ---- waiting for it ---- */

/* Whether the program has ended; it is not reaped yet. */
static bool
program_has_ended(const Program *program)
{
	siginfo_t info = {0};

	if (waitid(P_PID, (id_t) program->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0)
		return errno == ECHILD;
	return info.si_pid == program->pid;
}

/* Kills what is left of the group and reaps its leader; gives waitpid()'s status. */
static int
program_reap(Program *program)
{
	int status = 0;
	pid_t reaped;

	(void) kill(-program->pid, SIGKILL);
	do
	{
		reaped = waitpid(program->pid, &status, 0);
	} while (reaped < 0 && errno == EINTR);
	if (reaped < 0)
		elog(LOG, "could not wait for process %d: %m", (int) program->pid);
	program->pid = 0;
	return status;
}

/* However we leave. */
static void
program_cleanup(int code, Datum arg)
{
	Program *program = (Program *) DatumGetPointer(arg);

	if (program->pid > 0)
		(void) program_reap(program);
	pipe_close(&program->input_fd);
	pipe_close(&program->output_fd);
	pipe_close(&program->errors_fd);
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
			pipe_close(fd);
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			return;
		else if (errno != EINTR)
			pipe_close(fd);
	}
}

static void
program_read_both(Program *program)
{
	program_read(&program->output_fd, program->output, OUTPUT_MAX, true);
	program_read(&program->errors_fd, program->errors, ERRORS_MAX, false);
}

/* As much as it takes by now; closes the pipe after all of it, or where nobody reads. */
static void
program_write(Program *program)
{
	while (program->input_fd >= 0 && program->input_length > 0)
	{
		ssize_t length = write(program->input_fd, program->input, program->input_length);

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
	pipe_close(&program->input_fd);
}

/*
 * Its end closes its pipes, so that wakes us, too: a moment before it can be waited
 * for.
 */
static void
program_wait(Program *program)
{
	int fd = program->output_fd >= 0 ? program->output_fd : program->errors_fd;
	int events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;
	int wait = LOOK_WAIT;

	if (program->input_fd >= 0)
	{
		fd = program->input_fd;
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

	*program = (Program){.input_fd = -1,
						 .output_fd = -1,
						 .errors_fd = -1,
						 .pause = 1,
						 .input = input,
						 .input_length = input == NULL ? 0 : (int) strlen(input),
						 .output = output,
						 .errors = errors};
	PG_ENSURE_ERROR_CLEANUP(program_cleanup, PointerGetDatum(program));
	{
		program_start(program, argv);
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
