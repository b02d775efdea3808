/*
 * keyring.h
 *		The signing keys in leyser.keyring_directory.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_KEYRING_H
#define LEYSER_KEYRING_H

#include "leyser.h"

#include "nodes/pg_list.h"
#include "utils/uuid.h"

#define LEYSER_KEY_ID_MAX 63 /* bytes of a key id, without the zero */
#define LEYSER_SECRET_LEN 32 /* bytes of an HS256 key */

typedef enum LeyserKeyringState
{
	LEYSER_KEYRING_OK,
	LEYSER_KEYRING_NOT_CONFIGURED,
	LEYSER_KEYRING_MISSING,    /* no such directory */
	LEYSER_KEYRING_UNREADABLE, /* by the server, for now */
	LEYSER_KEYRING_UNSAFE,     /* owner, mode, or inside the data directory */
	LEYSER_KEYRING_LOST,       /* no keyring in the directory */
	LEYSER_KEYRING_DAMAGED,
	LEYSER_KEYRING_FOREIGN,   /* another one than this database uses */
	LEYSER_KEYRING_INCOMPLETE /* the key's file is not in it */
} LeyserKeyringState;

/* Why a keyring cannot be used; told in words, never with key material. */
typedef struct LeyserKeyringError
{
	LeyserKeyringState state;
	char message[160];            /* primary message, lower case */
	char detail[MAXPGPATH + 256]; /* server log only: it names paths */
	char hint[MAXPGPATH + 256];   /* the next step, without the server's paths */
} LeyserKeyringError;

extern void leyser_keyring_init(void);

/*
 * Readers.  They return false and fill *error instead of raising, so that the
 * check hook of leyser.token may call them.
 */
extern bool leyser_keyring_read_id(pg_uuid_t *id, LeyserKeyringError *error);
extern bool leyser_keyring_read_key(const char *key_id, const pg_uuid_t *keyring_id,
									unsigned char secret[LEYSER_SECRET_LEN],
									LeyserKeyringError *error);

/*
 * The pepper: mixed into every password before it is hashed, so that hashes
 * from a stolen dump cannot be tried.  One for each keyring, for good.
 */
extern bool leyser_keyring_read_pepper(const pg_uuid_t *keyring_id,
									   unsigned char secret[LEYSER_SECRET_LEN],
									   LeyserKeyringError *error);

/* False and *error filled where found is not the expected keyring. */
extern bool leyser_keyring_compare(const pg_uuid_t *found, const pg_uuid_t *expected,
								   LeyserKeyringError *error);

/* Writers raise (LY002, or LY008 where a keyring lies there already). */
extern void leyser_keyring_create(pg_uuid_t *id);
extern char *leyser_keyring_write_key(const pg_uuid_t *keyring_id);
extern void leyser_keyring_write_pepper(const pg_uuid_t *keyring_id);

/*
 * Ids of the key files that lie there, oldest first, and names of files that were
 * never finished, as palloc'd C strings.  Raise LY002.
 */
extern List *leyser_keyring_list_keys(void);
extern List *leyser_keyring_list_unfinished(void);

/* Raises what a reader told: LY002, with the detail for the server log only. */
extern void leyser_keyring_raise(const LeyserKeyringError *error)
	__attribute__((noreturn));

#endif /* LEYSER_KEYRING_H */
