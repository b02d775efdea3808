/*
 * permission_notes.c
 *		What a cursor's rows depended on, to be asked again.
 *
 * Some 100 bytes and a look-up in the cache of grants for each scope, up to
 * NOTES_MAX.  A cursor whose rows depended on more of them goes on only while
 * nothing at all has changed that anybody's context depends on.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "permission.h"

#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "cache.h"
#include "compat.h"

#define NOTES_MAX 10000

/* A hash key; the texts are compared by what they say. */
typedef struct Note
{
	text *permission;
	text *scope; /* NULL: everywhere */
	bool from_policy;
} Note;

struct LeyserPermissionNotes
{
	MemoryContext memory;
	HTAB *held;
	uint64 generation; /* of the first one */
	bool overflowed;
};

LeyserPermissionNotes *leyser_permission_notes = NULL;

static uint32
note_hash_text(const text *value)
{
	return hash_bytes((const unsigned char *) VARDATA_ANY(value),
					  VARSIZE_ANY_EXHDR(value));
}

static uint32
note_hash(const void *key, Size keysize)
{
	const Note *note = key;
	uint32 hash = note_hash_text(note->permission);

	return note->scope ? hash_combine(hash, note_hash_text(note->scope)) : hash;
}

static bool
note_text_differs(const text *a, const text *b)
{
	return VARSIZE_ANY_EXHDR(a) != VARSIZE_ANY_EXHDR(b) ||
		   memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) != 0;
}

static int
note_compare(const void *key1, const void *key2, Size keysize)
{
	const Note *a = key1;
	const Note *b = key2;

	if (a->from_policy != b->from_policy || (a->scope == NULL) != (b->scope == NULL) ||
		note_text_differs(a->permission, b->permission))
		return 1;
	return a->scope && note_text_differs(a->scope, b->scope) ? 1 : 0;
}

LeyserPermissionNotes *
leyser_permission_notes_make(MemoryContext memory)
{
	LeyserPermissionNotes *notes =
		MemoryContextAllocZero(memory, sizeof(LeyserPermissionNotes));

	notes->memory = memory;
	return notes;
}

static void
notes_begin(LeyserPermissionNotes *notes)
{
	HASHCTL ctl = {.keysize = sizeof(Note),
				   .entrysize = sizeof(Note),
				   .hash = note_hash,
				   .match = note_compare,
				   .hcxt = notes->memory};

	notes->held = hash_create("leyser permissions of a cursor", 64, &ctl,
							  HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	notes->generation = leyser_cache_generation();
}

static text *
note_copy(LeyserPermissionNotes *notes, const text *value)
{
	MemoryContext old = MemoryContextSwitchTo(notes->memory);
	text *copy = cstring_to_text_with_len(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));

	MemoryContextSwitchTo(old);
	return copy;
}

void
leyser_permission_note(text *permission, text *scope, bool from_policy)
{
	LeyserPermissionNotes *notes = leyser_permission_notes;
	Note key;

	/* also its padding is part of the entry */
	memset(&key, 0, sizeof(key));
	key.permission = permission;
	key.scope = scope;
	key.from_policy = from_policy;
	if (notes->held == NULL)
		notes_begin(notes);
	if (notes->overflowed || hash_search(notes->held, &key, HASH_FIND, NULL))
		return;
	if (hash_get_num_entries(notes->held) >= NOTES_MAX)
	{
		notes->overflowed = true;
		return;
	}
	key.permission = note_copy(notes, permission);
	key.scope = scope ? note_copy(notes, scope) : NULL;
	hash_search(notes->held, &key, HASH_ENTER, NULL);
}

bool
leyser_permission_still_held(const LeyserPermissionNotes *notes)
{
	HASH_SEQ_STATUS status;
	Note *note;

	if (notes->held == NULL)
		return true;
	if (notes->overflowed && notes->generation != leyser_cache_generation())
		return false;
	hash_seq_init(&status, notes->held);
	while ((note = hash_seq_search(&status)) != NULL)
	{
		if (!leyser_permission_ask(note->permission, note->scope, note->from_policy))
		{
			hash_seq_term(&status);
			return false;
		}
	}
	return true;
}
