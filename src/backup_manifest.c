/*
 * backup_manifest.c
 *		What the books note of a backup's manifest.
 *
 * The manifest of a large cluster is too long to be read as one JSON value.  Its
 * list of files comes first, the ranges of WAL after it, so they are found in the
 * file's end; SQL reads them as JSON.  The file is hashed a piece at a time.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "backup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "encoding.h"

#define RANGES_BEGIN "\"WAL-Ranges\":"
#define TAIL_MAX 65536 /* bytes; a range has about a hundred */
#define SHA256_BYTES 32

static void
manifest_hash(int fd, const char *path, char *checksum)
{
	EVP_MD_CTX *hash = EVP_MD_CTX_new();
	unsigned char digest[SHA256_BYTES];
	unsigned char piece[8192];
	ssize_t length = 0;
	bool ok = hash != NULL && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1;

	while (ok && (length = read(fd, piece, sizeof(piece))) > 0)
		ok = EVP_DigestUpdate(hash, piece, (size_t) length) == 1;
	ok = ok && length == 0 && EVP_DigestFinal_ex(hash, digest, NULL) == 1;
	EVP_MD_CTX_free(hash);
	if (!ok)
		ereport(ERROR, (errcode(ERRCODE_IO_ERROR),
						errmsg("could not read the manifest \"%s\"", path)));
	leyser_hex_encode(digest, sizeof(digest), checksum);
	checksum[2 * SHA256_BYTES] = '\0';
}

static char *
manifest_ranges(int fd)
{
	char *tail = palloc0(TAIL_MAX + 1);
	off_t end = lseek(fd, 0, SEEK_END);
	char *ranges;
	char *last;

	if (end < 0 || pread(fd, tail, TAIL_MAX, Max(end - TAIL_MAX, 0)) < 0)
		return NULL;
	ranges = strstr(tail, RANGES_BEGIN);
	if (ranges == NULL)
		return NULL;
	ranges += strlen(RANGES_BEGIN);
	last = strchr(ranges, ']');
	if (last == NULL)
		return NULL;
	last[1] = '\0';
	return ranges;
}

void
leyser_backup_manifest_read(const char *path, LeyserBackupManifest *manifest)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not open \"%s\": %m", path)));
	PG_TRY();
	{
		manifest_hash(fd, path, manifest->checksum);
		manifest->wal_ranges = manifest_ranges(fd);
	}
	PG_FINALLY();
	{
		close(fd);
	}
	PG_END_TRY();
	if (manifest->wal_ranges == NULL)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("\"%s\" is not the manifest of a backup", path)));
}
