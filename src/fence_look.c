/*
 * fence_look.c
 *		Fences compared with the tables, and judged.
 *
 * A restore is found by what the fence holds and the tables do not: a purge that
 * had begun or was over, or an event.  Not by the timeline, which a failover changes
 * too.  The tables are always written, and flushed, before the fence is: so no
 * crash, restart or failover of a server that had replayed all makes a fence that
 * is ahead.  The rules:
 *
 *  - A fence that is ahead: its tenants are locked, on a standby too, without any
 *    row having to be written.  And the server was restored, so that what destroys
 *    is held, and own tokens are refused until that has been written down (which
 *    retires the keys themselves).
 *  - No fence where there was one, or one that cannot be read or believed: assume a
 *    restore.  Own tokens are refused and work is held as long as that is so.  But
 *    what was sound in this life of the server cannot have been restored: then work
 *    is held, no more.
 *  - A standby that is set up to follow a primary only locks the tenants that its
 *    fence knows more of, as it may just lag behind (its fence may be another
 *    node's, too).  What it is, is decided when it is promoted.  One that has
 *    followed in this life and is promoted is a failover: events that did not
 *    arrive are no sign then, nor is a fence that could not be written.
 *  - The newest event is marked with its digest, so that another one that got its
 *    number after the restore does not pass for it.
 *  - A mark of events counts for one incarnation, which is another one after each
 *    released restore: two servers that went apart do not accuse each other.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "fence_look.h"

#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "common/hashfn.h"

/* ---- comparing ---- */

/* Whether the tables know as much of a purge as the fence. */
static bool
look_knows(LeyserFenceLook *look, const LeyserFencePurge *purge)
{
	return leyser_fence_tenant_is_erased(&look->tables, purge->tenant_id) ||
		   (TIMESTAMP_IS_NOBEGIN(purge->erased_at) &&
			leyser_fence_purge_has_begun(&look->tables, purge->tenant_id));
}

static void
look_at_purges(LeyserFenceLook *look, const LeyserFence *fence, bool own)
{
	HASH_SEQ_STATUS scan;
	LeyserFencePurge *purge;

	hash_seq_init(&scan, fence->purges);
	while ((purge = hash_seq_search(&scan)) != NULL)
	{
		bool known = look_knows(look, purge);

		if (!known)
		{
			look->missing++;
			look->own_missing += own;
			look->missing_hash ^= hash_bytes((const unsigned char *) purge->tenant_id,
											 strlen(purge->tenant_id));
		}
		if (look->wants_entries)
		{
			LeyserFenceEntry *entry = palloc(sizeof(LeyserFenceEntry));

			entry->database = fence->database;
			entry->purge = *purge;
			entry->known = known;
			look->entries = lappend(look->entries, entry);
		}
	}
}

static void
look_at_own(LeyserFenceLook *look)
{
	LeyserFence *fence =
		leyser_fence_read(&look->tables.database, &look->state, &look->error);
	const LeyserFenceMark *mark;

	if (fence == NULL)
	{
		/* what never was there is not lost; but what is there and damaged is */
		look->verdict = look->tables.is_fenced || look->state == LEYSER_FENCE_DAMAGED
							? LEYSER_FENCE_LOST
							: LEYSER_FENCE_NONE;
		return;
	}
	look->restores = fence->restores;
	mark = look->tables.is_fenced ? leyser_fence_mark(fence, &look->tables.incarnation)
								  : NULL;
	look->moved_back = mark != NULL && mark->event_id != 0 &&
					   !leyser_fence_event_is_known(mark->event_id, mark->event_digest);
	look_at_purges(look, fence, true);
	look->verdict = LEYSER_FENCE_SOUND;
}

/* The fences of databases that rows were dumped from: these tenants may be theirs. */
static void
look_at_origins(LeyserFenceLook *look)
{
	ListCell *cell;

	foreach (cell, look->tables.origins)
	{
		LeyserFenceOrigin *origin = lfirst(cell);
		LeyserFenceState state = LEYSER_FENCE_UNREADABLE;
		LeyserKeyringError error;
		LeyserFence *fence = leyser_fence_read(&origin->database, &state, &error);

		if (fence != NULL)
			look_at_purges(look, fence, false);
		else if (!origin->is_accepted)
		{
			look->foreign_lost = true;
			look->error = error;
			strlcpy(look->error.message,
					"there is no fence of the database that this one was dumped from",
					sizeof(look->error.message));
		}
	}
}

void
leyser_fence_compare(LeyserFenceLook *look, bool wants_entries)
{
	memset(look, 0, sizeof(LeyserFenceLook));
	look->wants_entries = wants_entries;
	look->verdict = LEYSER_FENCE_NONE;
	leyser_fence_tables_open(&look->tables);
	look_at_own(look);
	look_at_origins(look);
	leyser_fence_tables_close(&look->tables);
}

/* ---- judging ---- */

/* A standby of a primary, whether or not that answers; no restore from an archive. */
static bool
follows_by_settings(void)
{
	struct stat st;

	return PrimaryConnInfo != NULL && PrimaryConnInfo[0] != '\0' &&
		   stat(STANDBY_SIGNAL_FILE, &st) == 0;
}

static void
view_tell(LeyserFenceView *view, const char *message, const char *remedy)
{
	strlcpy(view->message, message, sizeof(view->message));
	strlcpy(view->remedy, remedy, sizeof(view->remedy));
}

/* The fence holds more than the tables. */
static void
judge_ahead(LeyserFenceView *view, const LeyserFenceLook *look, bool own)
{
	view->verdict = LEYSER_FENCE_AHEAD;
	view->held = true;
	/* written down once: by this restore, not by an older one */
	view->keys_refused = own && look->tables.open_restore <= look->restores;
	if (look->missing > 0)
		snprintf(view->message, sizeof(view->message),
				 "this server was restored to a time before %d purges began or ended",
				 look->missing);
	else
		view_tell(view, "this server was restored to a time before its latest events",
				  "");
	strlcpy(view->remedy,
			"CALL leyser.replay_purges(); it erases again what was erased since.",
			sizeof(view->remedy));
}

/* There was a fence; in this life of the server, or before a restore? */
static void
judge_lost(LeyserFenceView *view, const LeyserFenceLook *look, bool own, bool was_sound)
{
	view->verdict = LEYSER_FENCE_LOST;
	view->held = true;
	view->keys_refused = own && !was_sound;
	view_tell(view, look->error.message, look->error.hint);
}

void
leyser_fence_judge(LeyserFenceView *view, const LeyserFenceLook *look, bool in_recovery,
				   bool was_sound)
{
	bool followed = leyser_fence_has_followed();
	bool moved_back = look->moved_back && !followed;

	memset(view, 0, sizeof(LeyserFenceView));
	view->since = GetCurrentTimestamp();
	view->verdict = look->verdict;
	view->is_recorded = look->tables.is_fenced;
	view->missing = look->missing;
	view->missing_hash = look->missing_hash;
	view->locks = look->missing > 0;
	if (in_recovery && follows_by_settings())
	{
		if (look->missing > 0)
			view->verdict = LEYSER_FENCE_AHEAD;
		if (look->missing > 0 || view->verdict == LEYSER_FENCE_LOST)
			view_tell(view,
					  look->missing > 0
						  ? "this standby's fence knows purges that have not "
							"been replayed here"
						  : look->error.message,
					  look->missing > 0 ? "Wait for its replay; if it stays, have these "
										  "tenants purged on the primary."
										: look->error.hint);
		return;
	}
	if (followed && !in_recovery && look->state == LEYSER_FENCE_ABSENT)
		view->verdict = LEYSER_FENCE_NONE; /* the standby could not write it */
	if (look->missing > 0 || moved_back)
		judge_ahead(view, look, look->own_missing > 0 || moved_back);
	else if (view->verdict == LEYSER_FENCE_LOST || look->foreign_lost)
		judge_lost(view, look, view->verdict == LEYSER_FENCE_LOST, was_sound);
	if (look->tables.open_restore > 0 && !view->held)
	{
		view->held = true;
		view_tell(view, "this server was restored, and the restore is not yet released",
				  "CALL leyser.replay_purges().");
	}
}
