/*
 * fence_owner.c
 *		Whose fence it is: the file <database uuid>.owner beside it.
 *
 * A copy of a server that runs beside it, or a copy of a database that CREATE
 * DATABASE makes, has the same identity.  What a copy erases must not lock, hold or
 * erase anything in the original, so only one of them may write the fence: the
 * first, for as long as it runs (a server) or is there (a database).  The rules:
 *
 *  - The file names a data directory, its postmaster and a database.  Whoever keeps
 *    the fence claims it each time, at least every minute.
 *  - A server that has ended may be about to start again, so it loses the fence after
 *    an hour; at once where its data directory is gone or was made anew (a restore in
 *    its place), to a standby that followed in this life (a failover), and to another
 *    system (pg_upgrade).
 *  - A standby never claims, or its primary could not after a restart.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "fence.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"

#include "cache_fence.h"
#include "encoding.h"
#include "keyring_file.h"

#define OWNER_SUFFIX ".owner"
#define OWNER_NAME_MAX (LEYSER_UUID_TEXT_LEN + 32)
#define OWNER_PATIENCE 3600 /* seconds */
#define OWNER_FORMAT "owner %llu %llu %llu %d %u "
#define OWNER_COPY_HINT                                                                  \
	"Only one of them may erase tenants; a copy by pg_dump and pg_restore has an "       \
	"identity of its own."

typedef struct FenceOwner
{
	unsigned long long system;
	unsigned long long device; /* of the data directory */
	unsigned long long inode;
	int postmaster;
	Oid database;
	char path[MAXPGPATH]; /* of the data directory */
	time_t claimed_at;    /* the last time */
} FenceOwner;

static bool
owner_identify(const char *path, FenceOwner *owner)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return false;
	owner->device = st.st_dev;
	owner->inode = st.st_ino;
	return true;
}

static bool
owner_self(FenceOwner *owner)
{
	memset(owner, 0, sizeof(FenceOwner));
	owner->system = GetSystemIdentifier();
	owner->postmaster = PostmasterPid;
	owner->database = MyDatabaseId;
	strlcpy(owner->path, DataDir, sizeof(owner->path));
	return owner_identify(DataDir, owner);
}

/* What says nothing, or may be anybody's word, names no owner. */
static bool
owner_read(int dir, const char *name, FenceOwner *owner)
{
	char text[MAXPGPATH + 128];
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	ssize_t len = -1;
	int used = 0;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
		(st.st_uid == geteuid() || st.st_uid == 0))
	{
		owner->claimed_at = st.st_mtime;
		len = read(fd, text, sizeof(text) - 1);
	}

	if (fd >= 0)
		close(fd);
	if (len <= 0 || text[len - 1] != '\n')
		return false;
	text[len - 1] = '\0';
	if (sscanf(text, OWNER_FORMAT "%n", &owner->system, &owner->device, &owner->inode,
			   &owner->postmaster, &owner->database, &used) != 5 ||
		used == 0)
		return false;
	return strlcpy(owner->path, text + used, sizeof(owner->path)) < sizeof(owner->path);
}

static bool
owner_has_directory(const FenceOwner *owner, const FenceOwner *other)
{
	return owner->device == other->device && owner->inode == other->inode;
}

static bool
owner_runs(const FenceOwner *owner)
{
	char path[MAXPGPATH + 32];
	char pid[32] = "";
	int fd;

	snprintf(path, sizeof(path), "%s/postmaster.pid", owner->path);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return false;
	if (read(fd, pid, sizeof(pid) - 1) <= 0)
		pid[0] = '\0';
	close(fd);
	return owner->postmaster > 1 && atoi(pid) == owner->postmaster &&
		   (kill(owner->postmaster, 0) == 0 || errno == EPERM);
}

/* Whether it runs, or may be about to. */
static bool
owner_is_there(const FenceOwner *owner)
{
	FenceOwner present;

	if (!owner_identify(owner->path, &present) || !owner_has_directory(owner, &present))
		return false;
	return owner_runs(owner) ||
		   (owner->system == GetSystemIdentifier() && !leyser_fence_has_followed() &&
			time(NULL) - owner->claimed_at < OWNER_PATIENCE);
}

/* False and *error filled where it is another one that is there. */
static bool
owner_yields(const FenceOwner *owner, const FenceOwner *self, LeyserKeyringError *error)
{
	if (!owner_has_directory(owner, self))
		return !owner_is_there(owner) ||
			   leyser_keyring_fail(
				   error, LEYSER_KEYRING_FOREIGN,
				   "another server, of which this one is a copy, keeps the fence",
				   "Give this one a leyser.fence_directory of its own and CALL "
				   "leyser.accept_fence(); or, where that server is to be no more, stop "
				   "it and move its data directory away, or wait for an hour.",
				   "It is in \"%s\".", owner->path);
	if (owner->database == self->database || get_database_name(owner->database) == NULL)
		return true;
	return leyser_keyring_fail(
		error, LEYSER_KEYRING_FOREIGN,
		"another database, of which this one is a copy, keeps the fence", OWNER_COPY_HINT,
		"It is database \"%s\".", get_database_name(owner->database));
}

static bool
owner_write(int dir, const char *name, const FenceOwner *self, LeyserKeyringError *error)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, OWNER_FORMAT "%s\n", self->system, self->device, self->inode,
					 self->postmaster, self->database, self->path);
	return leyser_fence_store(dir, name, &text) ||
		   leyser_keyring_fail(
			   error, LEYSER_KEYRING_UNREADABLE, "could not write the fence's owner",
			   "Let the user that runs the server create files in "
			   "leyser.fence_directory (without it: leyser.keyring_directory).",
			   "\"%s\": %s", name, strerror(errno));
}

static bool
claim_locked(int dir, const char *name, const FenceOwner *self, LeyserKeyringError *error)
{
	FenceOwner owner;
	volatile bool claimed = false;
	int lock = leyser_fence_lock(dir);

	if (lock < 0)
		return leyser_keyring_fail(
			error, LEYSER_KEYRING_UNREADABLE, "could not lock the directory of fences",
			"Let the user that runs the server write in it; or try again: somebody else "
			"works in it.",
			"%s", strerror(errno));
	PG_TRY();
	{
		/* another one may have been faster */
		claimed = (!owner_read(dir, name, &owner) || owner_yields(&owner, self, error)) &&
				  owner_write(dir, name, self, error);
	}
	PG_FINALLY();
	{
		close(lock);
	}
	PG_END_TRY();
	return claimed;
}

static bool
claim_in(int dir, const pg_uuid_t *database, LeyserKeyringError *error)
{
	char name[OWNER_NAME_MAX];
	FenceOwner self;
	FenceOwner owner;
	bool known;

	leyser_uuid_to_text(database, name);
	strlcat(name, OWNER_SUFFIX, sizeof(name));
	if (!owner_self(&self))
		return true;
	known = owner_read(dir, name, &owner);
	if (known && owner_has_directory(&owner, &self) && owner.database == self.database &&
		owner.postmaster == self.postmaster)
		return utimensat(dir, name, NULL, 0) == 0 || errno != ENOENT;
	if (known && !owner_yields(&owner, &self, error))
		return false;
	if (RecoveryInProgress())
		return true;
	return claim_locked(dir, name, &self, error);
}

bool
leyser_fence_claim(const pg_uuid_t *database, LeyserKeyringError *error)
{
	int dir = leyser_fence_open_directory(error);
	bool claimed = false;

	if (dir < 0)
		return false;
	PG_TRY();
	{
		claimed = claim_in(dir, database, error);
	}
	PG_FINALLY();
	{
		close(dir);
	}
	PG_END_TRY();
	return claimed;
}
