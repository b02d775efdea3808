/*
 * keyring_file.h
 *		The files of a keyring, as its reader and its writer share them.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_KEYRING_FILE_H
#define LEYSER_KEYRING_FILE_H

#include "keyring.h"

#define LEYSER_KEYRING_IDENTITY "keyring" /* name of the identity file */
#define LEYSER_KEYRING_SUFFIX ".key"      /* key files: <key id>.key */
#define LEYSER_KEYRING_PEPPER "pepper"    /* name of the pepper's file, and its key id */
#define LEYSER_KEYRING_FILE_MAX 1024      /* bytes of any of them */

#define LEYSER_IDENTITY_HEADER "leyser keyring 1"
#define LEYSER_KEY_HEADER "leyser signing key 1"
#define LEYSER_PEPPER_HEADER "leyser pepper 1"

#define LEYSER_KEYRING_COPY_HINT                                                         \
	"Copy the keyring directory from the primary or from its backup; it is not part of " \
	"base backups."

/* The setting, for messages in the server log; NULL where it is not set. */
extern const char *leyser_keyring_directory(void);

/*
 * Opens a directory that lies outside the data directory and in which nobody else
 * may write; -1 and *error filled where it is not such a one.  what and setting are
 * its names in messages.
 */
extern int leyser_directory_open(const char *path, const char *what, const char *setting,
								 LeyserKeyringError *error);

/* The keyring's. */
extern int leyser_keyring_open(LeyserKeyringError *error);

/* Whether an id may be part of a file name. */
extern bool leyser_keyring_id_is_safe(const char *key_id);

/* The last line of every file: "check " and the SHA-256 of what precedes it. */
extern void leyser_keyring_append_check(char *text, size_t size);

/* Always false; detail's format may name paths. */
extern bool leyser_keyring_fail(LeyserKeyringError *error, LeyserKeyringState state,
								const char *message, const char *hint, const char *detail,
								...) pg_attribute_printf(5, 6);

#endif /* LEYSER_KEYRING_FILE_H */
