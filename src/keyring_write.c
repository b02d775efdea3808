/*
 * keyring_write.c
 *		Making a keyring, and keys in it.
 *
 * A file appears complete or not at all: it is written under a temporary name
 * in the same directory, synced, and linked to its name, which fails where
 * that name is taken; then the directory is synced.  What a crash leaves is a
 * temporary file that no one reads, or a key that no database has registered.
 * The identity is made before the pepper, and that before the first key: a
 * keyring with keys and no pepper has lost it, and gets no other.  Nothing is
 * ever overwritten.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "keyring_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "encoding.h"

#define KEY_ID_RANDOM 8 /* bytes */
#define TEMPORARY_SUFFIX ".tmp"

static void
random_bytes(unsigned char *bytes, size_t len)
{
	if (!pg_strong_random(bytes, len))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
						errmsg("could not generate random bytes")));
}

/* Raises for the errno at hand, after closing and removing what was begun. */
static void
file_write_failed(int dir, int fd, const char *temporary, const char *name)
{
	int errnum = errno;

	if (fd >= 0)
		close(fd);
	if (temporary != NULL)
		unlinkat(dir, temporary, 0);
	close(dir);
	errno = errnum;
	ereport(ERROR,
			(errcode(LEYSER_ERRCODE_TOKEN_REFUSED),
			 errmsg("could not write a keyring file: %m"),
			 errdetail_log("\"%s/%s\"", leyser_keyring_directory(), name),
			 errhint("Let the user that runs the server create files in the keyring "
					 "directory; a read-only mount is written where it comes from.")));
}

/* Consumes dir: closed in every case. */
static void
file_write(int dir, const char *name, const char *text)
{
	unsigned char random[KEY_ID_RANDOM];
	char hex[2 * KEY_ID_RANDOM + 1];
	char temporary[64];
	size_t len = strlen(text);
	int fd;

	if (!pg_strong_random(random, sizeof(random)))
	{
		errno = EIO;
		file_write_failed(dir, -1, NULL, name);
	}
	leyser_hex_encode(random, sizeof(random), hex);
	snprintf(temporary, sizeof(temporary), ".%s" TEMPORARY_SUFFIX, hex);

	fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		file_write_failed(dir, -1, NULL, name);
	errno = ENOSPC; /* what a short write means */
	if (write(fd, text, len) != (ssize_t) len || fsync(fd) != 0)
		file_write_failed(dir, fd, temporary, name);
	if (close(fd) != 0)
		file_write_failed(dir, -1, temporary, name);
	if (linkat(dir, temporary, dir, name, 0) != 0)
		file_write_failed(dir, -1, temporary, name);
	unlinkat(dir, temporary, 0);
	/* Some file systems cannot sync a directory; PostgreSQL tolerates that too. */
	if (fsync(dir) != 0 && errno != EBADF && errno != EINVAL)
		file_write_failed(dir, -1, NULL, name);
	close(dir);
}

/* The key id in a file's name, palloc'd; NULL where it is no key file's. */
static char *
key_id_of_name(const char *name)
{
	size_t suffix = strlen(LEYSER_KEYRING_SUFFIX);
	size_t len = strlen(name);
	char *key_id;

	if (len <= suffix || strcmp(name + len - suffix, LEYSER_KEYRING_SUFFIX) != 0)
		return NULL;
	key_id = pnstrdup(name, len - suffix);
	return leyser_keyring_id_is_safe(key_id) ? key_id : NULL;
}

/* A temporary file's name, palloc'd; NULL where it is another file's. */
static char *
unfinished_name(const char *name)
{
	size_t suffix = strlen(TEMPORARY_SUFFIX);
	size_t len = strlen(name);

	if (name[0] != '.' || len <= suffix + 1 ||
		strcmp(name + len - suffix, TEMPORARY_SUFFIX) != 0)
		return NULL;
	return leyser_keyring_id_is_safe(name + 1) ? pstrdup(name) : NULL;
}

static int
name_compare(const ListCell *a, const ListCell *b)
{
	return strcmp((char *) lfirst(a), (char *) lfirst(b));
}

/* Raises for the errno at hand, after closing what was opened. */
static void
directory_read_failed(int dir, DIR *stream)
{
	LeyserKeyringError error;
	int errnum = errno;

	if (stream != NULL)
		closedir(stream);
	close(dir);
	leyser_keyring_fail(&error, LEYSER_KEYRING_UNREADABLE,
						"could not read the keyring directory",
						"Check the file system it lies on.", "\"%s\": %s",
						leyser_keyring_directory(), strerror(errnum));
	leyser_keyring_raise(&error);
}

/*
 * What pick makes of the names in a directory, sorted: key ids begin with their
 * time, so the oldest comes first.  Where it cannot be read that is LY002, and
 * dir is closed: an empty list would mean that there are no keys.
 */
static List *
directory_list(int dir, char *(*pick)(const char *name))
{
	int copy = dup(dir);
	DIR *stream = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;
	List *names = NIL;

	if (stream == NULL)
	{
		int errnum = errno;

		if (copy >= 0)
			close(copy);
		errno = errnum;
		directory_read_failed(dir, NULL);
	}
	rewinddir(stream);
	while ((errno = 0, entry = readdir(stream)) != NULL)
	{
		char *name = pick(entry->d_name);

		if (name != NULL)
			names = lappend(names, name);
	}
	if (errno != 0)
		directory_read_failed(dir, stream);
	closedir(stream);
	list_sort(names, name_compare);
	return names;
}

static List *
keyring_list(char *(*pick)(const char *name))
{
	LeyserKeyringError error;
	int dir = leyser_keyring_open(&error);
	List *names;

	if (dir < 0)
		leyser_keyring_raise(&error);
	names = directory_list(dir, pick);
	close(dir);
	return names;
}

List *
leyser_keyring_list_keys(void)
{
	return keyring_list(key_id_of_name);
}

List *
leyser_keyring_list_unfinished(void)
{
	return keyring_list(unfinished_name);
}

/* Refuses a directory that is, or once was, a keyring's. */
static void
check_no_keyring(int dir)
{
	struct stat st;
	LeyserKeyringError error;

	if (fstatat(dir, LEYSER_KEYRING_IDENTITY, &st, AT_SYMLINK_NOFOLLOW) == 0)
	{
		close(dir);
		ereport(ERROR, (errcode(LEYSER_ERRCODE_WRONG_STATE),
						errmsg("there is a keyring in leyser.keyring_directory already"),
						errhint("Call leyser.initialize_keyring() to use it; if it "
								"cannot be read, leyser.keyring_status() says why.")));
	}
	if (directory_list(dir, key_id_of_name) == NIL)
		return;
	close(dir);
	leyser_keyring_fail(
		&error, LEYSER_KEYRING_LOST,
		"keyring directory holds keys, but the keyring's own file is lost",
		"Copy the file \"keyring\" from the primary or from a backup of "
		"the keyring directory, or move the key files away if they are to "
		"be given up.",
		"\"%s/%s\" does not exist.", leyser_keyring_directory(), LEYSER_KEYRING_IDENTITY);
	leyser_keyring_raise(&error);
}

/*
 * Makes a keyring with a new random id (version 4) in an empty directory, and
 * returns the id.  LY008 where one lies there, LY002 where it cannot be made.
 */
void
leyser_keyring_create(pg_uuid_t *id)
{
	char uuid[LEYSER_UUID_TEXT_LEN + 1];
	char text[LEYSER_KEYRING_FILE_MAX];
	LeyserKeyringError error;
	int dir;

	random_bytes(id->data, UUID_LEN);
	id->data[6] = (id->data[6] & 0x0f) | 0x40;
	id->data[8] = (id->data[8] & 0x3f) | 0x80;
	leyser_uuid_to_text(id, uuid);
	snprintf(text, sizeof(text), "%s\nid %s\n", LEYSER_IDENTITY_HEADER, uuid);
	leyser_keyring_append_check(text, sizeof(text));

	dir = leyser_keyring_open(&error);
	if (dir < 0)
		leyser_keyring_raise(&error);
	check_no_keyring(dir);
	file_write(dir, LEYSER_KEYRING_IDENTITY, text);
}

/* The text of a file with a new secret; the caller wipes it. */
static void
secret_render(const pg_uuid_t *keyring_id, const char *header, const char *key_id,
			  const char *created, char *text, size_t size)
{
	unsigned char secret[LEYSER_SECRET_LEN];
	char hex[2 * LEYSER_SECRET_LEN + 1];
	char uuid[LEYSER_UUID_TEXT_LEN + 1];

	random_bytes(secret, sizeof(secret));
	leyser_hex_encode(secret, sizeof(secret), hex);
	leyser_uuid_to_text(keyring_id, uuid);
	snprintf(text, size, "%s\nkeyring %s\nkey %s\ncreated %s\nsecret %s\n", header, uuid,
			 key_id, created, hex);
	leyser_keyring_append_check(text, size);
	explicit_bzero(secret, sizeof(secret));
	explicit_bzero(hex, sizeof(hex));
}

/* Writes a file with a new secret into this keyring and no other. */
static void
secret_write(const pg_uuid_t *keyring_id, const char *name, const char *header,
			 const char *key_id, const char *created)
{
	char text[LEYSER_KEYRING_FILE_MAX];
	LeyserKeyringError error;
	pg_uuid_t found;
	int dir;

	if (!leyser_keyring_read_id(&found, &error) ||
		!leyser_keyring_compare(&found, keyring_id, &error))
		leyser_keyring_raise(&error);
	dir = leyser_keyring_open(&error);
	if (dir < 0)
		leyser_keyring_raise(&error);
	secret_render(keyring_id, header, key_id, created, text, sizeof(text));
	PG_TRY();
	{
		file_write(dir, name, text);
	}
	PG_FINALLY();
	{
		explicit_bzero(text, sizeof(text));
	}
	PG_END_TRY();
}

/* Now, as files and key ids say it. */
static void
created_now(char *created, size_t size)
{
	time_t now = time(NULL);
	struct tm utc;

	strftime(created, size, "%Y%m%dT%H%M%SZ", gmtime_r(&now, &utc));
}

/* Adds a new key to this keyring and returns its id, palloc'd. */
char *
leyser_keyring_write_key(const pg_uuid_t *keyring_id)
{
	unsigned char random[KEY_ID_RANDOM];
	char hex[2 * KEY_ID_RANDOM + 1];
	char created[32];
	char *key_id;

	random_bytes(random, sizeof(random));
	leyser_hex_encode(random, sizeof(random), hex);
	created_now(created, sizeof(created));
	key_id = psprintf("%s-%s", created, hex);
	secret_write(keyring_id, psprintf("%s%s", key_id, LEYSER_KEYRING_SUFFIX),
				 LEYSER_KEY_HEADER, key_id, created);
	return key_id;
}

/*
 * Gives a keyring that was just begun its pepper; one that is there already
 * stays, should a first attempt have been broken off after it.  LY002 where it
 * can be neither read nor made.
 */
void
leyser_keyring_write_pepper(const pg_uuid_t *keyring_id)
{
	unsigned char secret[LEYSER_SECRET_LEN];
	LeyserKeyringError error;
	char created[32];
	bool found = leyser_keyring_read_pepper(keyring_id, secret, &error);

	explicit_bzero(secret, sizeof(secret));
	if (found)
		return;
	if (error.state != LEYSER_KEYRING_INCOMPLETE)
		leyser_keyring_raise(&error);
	created_now(created, sizeof(created));
	secret_write(keyring_id, LEYSER_KEYRING_PEPPER, LEYSER_PEPPER_HEADER,
				 LEYSER_KEYRING_PEPPER, created);
}
