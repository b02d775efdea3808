/*
 * fence_text.c
 *		A fence as text, and back.
 *
 * One line each, words between single blanks:
 *
 *		leyser fence 1
 *		database <uuid>
 *		restores <number>
 *		mark <incarnation> <event id> <its digest's first bytes>
 *		purge <purge id> <system identifier> <LSN> <begun> <erased> <tenant id>
 *		check <SHA-256 of all lines above>
 *
 * A time that is not known, or not yet, is "-".  Parsing is strict: anything that
 * rendering would not write makes the file damaged.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "fence_text.h"

#include <openssl/sha.h>

#include "datatype/timestamp.h"
#include "mb/pg_wchar.h"
#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#include "encoding.h"

#define FENCE_HEADER "leyser fence 1"
#define FENCE_CHECK "check "
#define FENCE_NO_TIME "-"

/* ---- rendering ---- */

static void
render_time(StringInfo text, TimestampTz when)
{
	struct pg_tm tm;
	fsec_t fsec;

	if (TIMESTAMP_NOT_FINITE(when) ||
		timestamp2tm(when, NULL, &tm, &fsec, NULL, NULL) != 0)
		appendStringInfoString(text, FENCE_NO_TIME);
	else
		appendStringInfo(text, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", tm.tm_year,
						 tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
						 (int) fsec);
}

static void
render_id(StringInfo text, const char *id)
{
	for (; *id != '\0'; id++)
	{
		unsigned char c = (unsigned char) *id;

		if (c <= 0x20 || c >= 0x7f || c == '%')
			appendStringInfo(text, "%%%02X", c);
		else
			appendStringInfoChar(text, (char) c);
	}
}

static void
render_purge(StringInfo text, const LeyserFencePurge *purge)
{
	appendStringInfo(text, "purge " INT64_FORMAT " " UINT64_FORMAT " %X/%X ",
					 purge->purge_id, purge->system_identifier,
					 LSN_FORMAT_ARGS(purge->started_lsn));
	render_time(text, purge->started_at);
	appendStringInfoChar(text, ' ');
	render_time(text, purge->erased_at);
	appendStringInfoChar(text, ' ');
	render_id(text, purge->tenant_id);
	appendStringInfoChar(text, '\n');
}

static int
purge_compare(const void *a, const void *b)
{
	return strcmp((*(LeyserFencePurge *const *) a)->tenant_id,
				  (*(LeyserFencePurge *const *) b)->tenant_id);
}

static void
render_purges(const LeyserFence *fence, StringInfo text)
{
	long count = hash_get_num_entries(fence->purges);
	LeyserFencePurge **sorted = palloc(mul_size(sizeof(LeyserFencePurge *), count + 1));
	HASH_SEQ_STATUS scan;
	LeyserFencePurge *purge;
	long next = 0;

	hash_seq_init(&scan, fence->purges);
	while ((purge = hash_seq_search(&scan)) != NULL)
		sorted[next++] = purge;
	qsort(sorted, count, sizeof(LeyserFencePurge *), purge_compare);
	for (long i = 0; i < count; i++)
		render_purge(text, sorted[i]);
	pfree(sorted);
}

static void
digest_text(const char *text, size_t len, char hex[2 * SHA256_DIGEST_LENGTH + 1])
{
	unsigned char digest[SHA256_DIGEST_LENGTH];

	SHA256((const unsigned char *) text, len, digest);
	leyser_hex_encode(digest, sizeof(digest), hex);
}

void
leyser_fence_render(const LeyserFence *fence, StringInfo text)
{
	char uuid[LEYSER_UUID_TEXT_LEN + 1];
	char hex[2 * SHA256_DIGEST_LENGTH + 1];
	ListCell *cell;

	leyser_uuid_to_text(&fence->database, uuid);
	appendStringInfo(text, FENCE_HEADER "\ndatabase %s\nrestores " INT64_FORMAT "\n",
					 uuid, fence->restores);
	foreach (cell, fence->marks)
	{
		LeyserFenceMark *mark = lfirst(cell);

		leyser_uuid_to_text(&mark->incarnation, uuid);
		appendStringInfo(text, "mark %s " INT64_FORMAT " " UINT64_FORMAT "\n", uuid,
						 mark->event_id, mark->event_digest);
	}
	render_purges(fence, text);
	digest_text(text->data, text->len, hex);
	appendStringInfo(text, FENCE_CHECK "%s\n", hex);
}

/* ---- parsing ---- */

/* What follows a label, or NULL. */
static char *
line_after(char *line, const char *label)
{
	size_t len = strlen(label);

	return strncmp(line, label, len) == 0 ? line + len : NULL;
}

/* Cuts off the first of two words; the rest, or NULL where there is none. */
static char *
cut_word(char *words)
{
	char *blank = words ? strchr(words, ' ') : NULL;

	if (blank == NULL)
		return NULL;
	*blank = '\0';
	return blank + 1;
}

/* As the server prints it, so no sign, blank or leading zero passes. */
static bool
parse_number(const char *word, uint64 *number)
{
	char printed[32];
	char *end;

	errno = 0;
	*number = strtou64(word, &end, 10);
	if (errno != 0 || *end != '\0')
		return false;
	snprintf(printed, sizeof(printed), UINT64_FORMAT, *number);
	return strcmp(printed, word) == 0;
}

static bool
parse_lsn(const char *word, XLogRecPtr *lsn)
{
	uint32 high;
	uint32 low;
	char printed[32];

	if (sscanf(word, "%8X/%8X", &high, &low) != 2)
		return false;
	*lsn = ((uint64) high << 32) | low;
	snprintf(printed, sizeof(printed), "%X/%X", LSN_FORMAT_ARGS(*lsn));
	return strcmp(printed, word) == 0;
}

static bool
parse_time(const char *word, TimestampTz *when)
{
	struct pg_tm tm = {0};
	int microseconds;
	int length = 0;

	*when = DT_NOBEGIN;
	if (strcmp(word, FENCE_NO_TIME) == 0)
		return true;
	return sscanf(word, "%4d-%2d-%2dT%2d:%2d:%2d.%6dZ%n", &tm.tm_year, &tm.tm_mon,
				  &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &microseconds,
				  &length) == 7 &&
		   word[length] == '\0' && length > 0 &&
		   tm2timestamp(&tm, microseconds, NULL, when) == 0;
}

/* In place. */
static bool
parse_id(char *word)
{
	char *to = word;
	unsigned char byte;

	for (char *from = word; *from != '\0'; from++)
	{
		if (*from != '%')
		{
			*to++ = *from;
			continue;
		}
		if (from[1] == '\0' || from[2] == '\0')
			return false;
		byte = 0;
		if (sscanf((char[]){from[1], from[2], '\0'}, "%2hhX", &byte) != 1 || byte == 0)
			return false;
		*to++ = (char) byte;
		from += 2;
	}
	*to = '\0';
	return to > word && to - word <= LEYSER_NAME_MAX_BYTES &&
		   pg_verify_mbstr(PG_UTF8, word, to - word, true);
}

static bool
parse_purge(char *words, LeyserFence *fence)
{
	LeyserFencePurge purge = {0};
	char *system = cut_word(words);
	char *lsn = cut_word(system);
	char *started = cut_word(lsn);
	char *erased = cut_word(started);
	char *tenant = cut_word(erased);
	uint64 number;

	if (tenant == NULL || !parse_number(words, &number) ||
		!parse_number(system, &purge.system_identifier) ||
		!parse_lsn(lsn, &purge.started_lsn) || !parse_time(started, &purge.started_at) ||
		!parse_time(erased, &purge.erased_at) || !parse_id(tenant))
		return false;
	purge.purge_id = (int64) number;
	purge.tenant_id = tenant;
	return leyser_fence_add(fence, &purge);
}

static bool
parse_mark(char *words, LeyserFence *fence)
{
	LeyserFenceMark mark;
	char *event = cut_word(words);
	char *digest = cut_word(event);
	uint64 number;

	if (digest == NULL || !leyser_uuid_from_text(words, &mark.incarnation) ||
		!parse_number(event, &number) || !parse_number(digest, &mark.event_digest))
		return false;
	mark.event_id = (int64) number;
	return leyser_fence_set_mark(fence, &mark);
}

static bool
parse_line(char *line, int number, LeyserFence *fence)
{
	pg_uuid_t database;
	uint64 restores;
	char *words;

	if (number == 0)
		return strcmp(line, FENCE_HEADER) == 0;
	if (number == 1)
		return (words = line_after(line, "database ")) != NULL &&
			   leyser_uuid_from_text(words, &database) &&
			   memcmp(database.data, fence->database.data, UUID_LEN) == 0;
	if (number == 2)
	{
		if ((words = line_after(line, "restores ")) == NULL ||
			!parse_number(words, &restores))
			return false;
		fence->restores = (int64) restores;
		return true;
	}
	if ((words = line_after(line, "mark ")) != NULL)
		return parse_mark(words, fence);
	if ((words = line_after(line, "purge ")) != NULL)
		return parse_purge(words, fence);
	return false;
}

/* Where the check line begins, if it is right; NULL otherwise. */
static char *
find_check(char *text)
{
	size_t len = strlen(text);
	size_t tail = strlen(FENCE_CHECK) + 2 * SHA256_DIGEST_LENGTH + 1;
	char hex[2 * SHA256_DIGEST_LENGTH + 1];
	char *check = text + len - tail;

	if (len <= tail || check[-1] != '\n' || text[len - 1] != '\n' ||
		line_after(check, FENCE_CHECK) == NULL)
		return NULL;
	digest_text(text, len - tail, hex);
	return strncmp(check + strlen(FENCE_CHECK), hex, 2 * SHA256_DIGEST_LENGTH) == 0
			   ? check
			   : NULL;
}

bool
leyser_fence_parse(char *text, LeyserFence *fence)
{
	char *end = find_check(text);
	int number = 0;

	if (end == NULL)
		return false;
	for (char *line = text; line < end; number++)
	{
		char *newline = strchr(line, '\n');

		*newline = '\0';
		if (!parse_line(line, number, fence))
			return false;
		line = newline + 1;
	}
	return number >= 3;
}
