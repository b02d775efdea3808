/*
 * keyring.c
 *		Reading the signing keys in leyser.keyring_directory.
 *
 * The directory holds a file "keyring" with the keyring's id, a file "pepper"
 * and for each signing key a file "<key id>.key"; these name keyring and key
 * again.  Every file ends in a checksum, so damage is told from a wrong
 * signature, and a lost pepper from a wrong password.
 *
 * What is read here signs for every tenant.  So the rule of ssl_key_file holds
 * for each file, on the descriptor that is read: ours and closed to group and
 * others, or root's and at most readable by our group.  Links are followed,
 * mounted secrets are links.  The directory's own rules stand in
 * keyring_directory.c.
 *
 * Readers run in the check hook of leyser.token: they allocate nothing and
 * raise nothing.  A key id may come from a forged token; it is checked before
 * it becomes part of a name.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "keyring_file.h"

#include <fcntl.h>
#include <openssl/sha.h>
#include <sys/stat.h>
#include <unistd.h>

#include "encoding.h"

bool
leyser_keyring_fail(LeyserKeyringError *error, LeyserKeyringState state,
					const char *message, const char *hint, const char *detail, ...)
{
	va_list args;

	error->state = state;
	strlcpy(error->message, message, sizeof(error->message));
	strlcpy(error->hint, hint, sizeof(error->hint));
	va_start(args, detail);
	vsnprintf(error->detail, sizeof(error->detail), detail, args);
	va_end(args);
	return false;
}

void
leyser_keyring_raise(const LeyserKeyringError *error)
{
	ereport(ERROR, (errcode(LEYSER_ERRCODE_TOKEN_REFUSED), errmsg("%s", error->message),
					error->detail[0] ? errdetail_log("%s", error->detail) : 0,
					errhint("%s", error->hint)));
}

/* Letters, digits, ".", "_", "-"; not hidden, so neither "." nor "..". */
bool
leyser_keyring_id_is_safe(const char *key_id)
{
	static const char safe[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	size_t len = strnlen(key_id, LEYSER_KEY_ID_MAX + 1);

	return len > 0 && len <= LEYSER_KEY_ID_MAX && key_id[0] != '.' &&
		   strspn(key_id, safe) == len;
}

/* PostgreSQL's own rule for ssl_key_file. */
static bool
file_is_safe(int fd, const char *name, LeyserKeyringError *error)
{
	struct stat st;
	unsigned forbidden;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return leyser_keyring_fail(
			error, LEYSER_KEYRING_UNSAFE, "a keyring file is not a regular file",
			LEYSER_KEYRING_COPY_HINT, "\"%s/%s\"", leyser_keyring_directory(), name);
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return leyser_keyring_fail(
			error, LEYSER_KEYRING_UNSAFE, "a keyring file belongs to another user",
			"Give it to the user that runs the server, or to root.", "\"%s/%s\"",
			leyser_keyring_directory(), name);
	forbidden = st.st_uid == geteuid() ? S_IRWXG | S_IRWXO : S_IWGRP | S_IXGRP | S_IRWXO;
	if ((st.st_mode & forbidden) != 0)
		return leyser_keyring_fail(
			error, LEYSER_KEYRING_UNSAFE, "a keyring file is open to group or others",
			"Set its mode to 0600 if the server's user owns it, to at most 0640 if root "
			"does.",
			"\"%s/%s\" has mode %04o.", leyser_keyring_directory(), name,
			(unsigned) st.st_mode & 07777);
	return true;
}

/*
 * Reads a whole file as a string.  Where there is none, *error says absent
 * with the message and hint given.
 */
static bool
file_read(int dir, const char *name, char *text, LeyserKeyringState absent,
		  const char *message, const char *hint, LeyserKeyringError *error)
{
	size_t len = 0;
	ssize_t got = -1;
	int fd;

	/* O_NONBLOCK: a fifo in the file's place must not make us wait. */
	fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return leyser_keyring_fail(error, absent, message, hint, "\"%s/%s\": %s",
								   leyser_keyring_directory(), name, strerror(errno));
	if (fd >= 0 && !file_is_safe(fd, name, error))
	{
		close(fd);
		return false;
	}
	while (fd >= 0 && len < LEYSER_KEYRING_FILE_MAX)
	{
		got = read(fd, text + len, LEYSER_KEYRING_FILE_MAX - len);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		len += got;
	}
	if (got < 0)
		leyser_keyring_fail(error, LEYSER_KEYRING_UNREADABLE,
							"could not read a keyring file",
							"Let the user that runs the server read it.", "\"%s/%s\": %s",
							leyser_keyring_directory(), name, strerror(errno));
	if (fd >= 0)
		close(fd);
	/* What is too long is cut, what has a zero in it emptied: both fail the check. */
	if (memchr(text, '\0', len) != NULL)
		len = 0;
	text[Min(len, LEYSER_KEYRING_FILE_MAX - 1)] = '\0';
	return got >= 0;
}

void
leyser_keyring_append_check(char *text, size_t size)
{
	unsigned char digest[SHA256_DIGEST_LENGTH];
	char hex[2 * SHA256_DIGEST_LENGTH + 1];
	size_t len = strlen(text);

	SHA256((unsigned char *) text, len, digest);
	leyser_hex_encode(digest, sizeof(digest), hex);
	snprintf(text + len, size - len, "check %s\n", hex);
}

/*
 * Whether text is its header line, lines of known labels, and the right check
 * line; cuts it up and points values at what follows the labels.
 */
static bool
file_parse(char *text, const char *header, const char *const *labels, char **values,
		   int count)
{
	char copy[LEYSER_KEYRING_FILE_MAX + 128];
	char *check = strstr(text, "\ncheck ");
	char *line = text;
	bool ok = false;

	if (check != NULL)
	{
		strlcpy(copy, text, check + 2 - text);
		leyser_keyring_append_check(copy, sizeof(copy));
		ok = strcmp(copy, text) == 0;
		explicit_bzero(copy, sizeof(copy));
	}
	for (int i = -1; ok && i < count; i++)
	{
		const char *label = i < 0 ? header : labels[i];
		char *end = strchr(line, '\n');

		ok = end != NULL;
		if (!ok)
			break;
		*end = '\0';
		if (i < 0)
			ok = strcmp(line, label) == 0;
		else
			ok = strncmp(line, label, strlen(label)) == 0;
		if (ok && i >= 0)
			values[i] = line + strlen(label);
		line = end + 1;
	}
	return ok;
}

static bool
identity_read(int dir, pg_uuid_t *id, LeyserKeyringError *error)
{
	static const char *const labels[] = {"id "};
	char text[LEYSER_KEYRING_FILE_MAX];
	char *values[1];

	if (!file_read(dir, LEYSER_KEYRING_IDENTITY, text, LEYSER_KEYRING_LOST,
				   "there is no keyring in leyser.keyring_directory",
				   "If this database has one: " LEYSER_KEYRING_COPY_HINT
				   " If it never had one, call leyser.initialize_keyring().",
				   error))
		return false;
	if (file_parse(text, LEYSER_IDENTITY_HEADER, labels, values, 1) &&
		leyser_uuid_from_text(values[0], id))
		return true;
	return leyser_keyring_fail(error, LEYSER_KEYRING_DAMAGED, "keyring is damaged",
							   LEYSER_KEYRING_COPY_HINT, "\"%s/%s\" fails its check.",
							   leyser_keyring_directory(), LEYSER_KEYRING_IDENTITY);
}

bool
leyser_keyring_read_id(pg_uuid_t *id, LeyserKeyringError *error)
{
	int dir = leyser_keyring_open(error);
	bool ok;

	if (dir < 0)
		return false;
	ok = identity_read(dir, id, error);
	close(dir);
	return ok;
}

bool
leyser_keyring_compare(const pg_uuid_t *found, const pg_uuid_t *expected,
					   LeyserKeyringError *error)
{
	char text[LEYSER_UUID_TEXT_LEN + 1];

	if (memcmp(found->data, expected->data, UUID_LEN) == 0)
		return true;
	leyser_uuid_to_text(found, text);
	return leyser_keyring_fail(
		error, LEYSER_KEYRING_FOREIGN, "keyring is not the one that this database uses",
		"Put the keyring in its place that this database was "
		"initialized with. " LEYSER_KEYRING_COPY_HINT,
		"\"%s\" holds the keyring %s.", leyser_keyring_directory(), text);
}

/* What differs between the files that hold a secret. */
typedef struct SecretFile
{
	const char *header;
	const char *missing; /* messages */
	const char *damaged;
} SecretFile;

static const SecretFile key_file = {
	LEYSER_KEY_HEADER, "keyring is incomplete: the file of a signing key is missing",
	"keyring is damaged: the file of a signing key fails its check"};

static const SecretFile pepper_file = {
	LEYSER_PEPPER_HEADER, "keyring is incomplete: the file of the pepper is missing",
	"keyring is damaged: the file of the pepper fails its check"};

static bool
secret_read(int dir, const SecretFile *file, const char *name, const char *key_id,
			const pg_uuid_t *keyring_id, unsigned char *secret, LeyserKeyringError *error)
{
	static const char *const labels[] = {"keyring ", "key ", "created ", "secret "};
	char text[LEYSER_KEYRING_FILE_MAX];
	char *values[4];
	pg_uuid_t named;
	bool ok;

	if (!file_read(dir, name, text, LEYSER_KEYRING_INCOMPLETE, file->missing,
				   LEYSER_KEYRING_COPY_HINT, error))
	{
		explicit_bzero(text, sizeof(text));
		return false;
	}
	ok = file_parse(text, file->header, labels, values, 4) &&
		 leyser_uuid_from_text(values[0], &named) &&
		 memcmp(named.data, keyring_id->data, UUID_LEN) == 0 &&
		 strcmp(values[1], key_id) == 0 && strlen(values[3]) == 2 * LEYSER_SECRET_LEN &&
		 leyser_hex_decode(values[3], LEYSER_SECRET_LEN, secret);
	explicit_bzero(text, sizeof(text));
	if (ok)
		return true;
	return leyser_keyring_fail(error, LEYSER_KEYRING_DAMAGED, file->damaged,
							   LEYSER_KEYRING_COPY_HINT, "\"%s/%s\"",
							   leyser_keyring_directory(), name);
}

/* Reads a secret of this keyring and no other; wiped where it is not in order. */
static bool
keyring_read_secret(const SecretFile *file, const char *name, const char *key_id,
					const pg_uuid_t *keyring_id, unsigned char *secret,
					LeyserKeyringError *error)
{
	pg_uuid_t found;
	int dir = leyser_keyring_open(error);
	bool ok;

	if (dir < 0)
		return false;
	ok = identity_read(dir, &found, error) &&
		 leyser_keyring_compare(&found, keyring_id, error) &&
		 secret_read(dir, file, name, key_id, keyring_id, secret, error);
	close(dir);
	if (!ok)
		explicit_bzero(secret, LEYSER_SECRET_LEN);
	return ok;
}

bool
leyser_keyring_read_key(const char *key_id, const pg_uuid_t *keyring_id,
						unsigned char secret[LEYSER_SECRET_LEN],
						LeyserKeyringError *error)
{
	char name[LEYSER_KEY_ID_MAX + sizeof(LEYSER_KEYRING_SUFFIX)];

	if (!leyser_keyring_id_is_safe(key_id))
		return leyser_keyring_fail(
			error, LEYSER_KEYRING_INCOMPLETE, "key id cannot be that of a signing key",
			"leyser.keyring_status() lists the signing keys.", "%s", "");
	snprintf(name, sizeof(name), "%s%s", key_id, LEYSER_KEYRING_SUFFIX);
	return keyring_read_secret(&key_file, name, key_id, keyring_id, secret, error);
}

bool
leyser_keyring_read_pepper(const pg_uuid_t *keyring_id,
						   unsigned char secret[LEYSER_SECRET_LEN],
						   LeyserKeyringError *error)
{
	return keyring_read_secret(&pepper_file, LEYSER_KEYRING_PEPPER, LEYSER_KEYRING_PEPPER,
							   keyring_id, secret, error);
}
