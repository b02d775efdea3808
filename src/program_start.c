/*
 * program_start.c
 *		Starts a program, without a shell: see program.c for the rules.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "program_start.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "program.h"

#define CANNOT_RUN 127 /* the child's exit status, which nobody sees */
#define STATUS_FD 3    /* in the child: closed by execve() */

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

/* ---- in the server ---- */

void
leyser_program_close(int *fd)
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
		leyser_program_close(&pipes->input[i]);
		leyser_program_close(&pipes->output[i]);
		leyser_program_close(&pipes->errors[i]);
		leyser_program_close(&pipes->status[i]);
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

void
leyser_program_start(LeyserStarted *process, const char *const *argv, bool with_input)
{
	ProgramPipes pipes;
	int error;

	if (!is_absolute_path(argv[0]))
		elog(ERROR, "program \"%s\" is no absolute path", argv[0]);
	pipes_open(&pipes, with_input);
	process->pid = program_fork(argv, &pipes);
	if (process->pid < 0)
	{
		process->pid = 0;
		pipes_close(&pipes);
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
						errmsg("could not make a process for \"%s\": %m", argv[0])));
	}
	/* the child does it, too: whoever comes first */
	(void) setpgid(process->pid, process->pid);
	process->input_fd = pipes.input[1];
	process->output_fd = pipes.output[0];
	process->errors_fd = pipes.errors[0];
	pipes.input[1] = pipes.output[0] = pipes.errors[0] = -1;
	leyser_program_close(&pipes.status[1]);
	error = status_read(pipes.status[0]);
	pipes_close(&pipes);
	if (error == 0)
		return;
	errno = error;
	ereport(ERROR,
			(errcode_for_file_access(), errmsg("could not run \"%s\": %m", argv[0]),
			 errhint("Install it, or let the user that runs the server run it.")));
}
