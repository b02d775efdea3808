/*
 * name.c
 *		Texts that can be tenant ids and names.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "name.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(leyser_tenant_id_problem);

const char *
leyser_name_problem(const char *name)
{
	int characters = pg_mbstrlen(name);

	if (characters == 0)
		return "It is empty.";
	if (characters > LEYSER_NAME_MAX_CHARS)
		return "It has more than 200 characters.";
	for (const unsigned char *c = (const unsigned char *) name; *c; c++)
	{
		/* C0, DEL, and C1 as UTF-8 */
		if (*c < 0x20 || *c == 0x7f || (*c == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f))
			return "It has control characters.";
	}
	return NULL;
}

/* Whether some version's bigint takes a text for a number, however it is written. */
static bool
reads_as_number(const char *id)
{
	const char *digits = "0123456789_";

	id += strspn(id, " ");
	id += (*id == '+' || *id == '-') ? 1 : 0;
	if (!isdigit((unsigned char) *id))
		return false;
	if (id[0] == '0' && id[1] != '\0' && strchr("xXoObB", id[1]) != NULL)
	{
		digits = strchr("xX", id[1])   ? "0123456789abcdefABCDEF_"
				 : strchr("oO", id[1]) ? "01234567_"
									   : "01_";
		id += 2;
		if (*id == '\0')
			return false;
	}
	id += strspn(id, digits);
	return id[strspn(id, " ")] == '\0';
}

static bool
canonical_number(const char *id)
{
	if (strcmp(id, "0") == 0)
		return true;
	id += *id == '-' ? 1 : 0;
	return *id != '0' && id[strspn(id, "0123456789")] == '\0';
}

/*
 * A text that bigint's or uuid's input function would take for another text is
 * no tenant id: two ids could then mean one set of rows.
 */
static const char *
canonical_problem(const char *id)
{
	int hex = 0;
	bool only_uuid = true;

	if (reads_as_number(id) && !canonical_number(id))
		return "It is a number, but not in canonical form.";
	for (const char *c = id; *c; c++)
	{
		if (isxdigit((unsigned char) *c))
			hex++;
		else if (strchr("{}-", *c) == NULL)
			only_uuid = false;
	}
	if (only_uuid && hex == 32)
	{
		bool canonical = strlen(id) == 36 && id[8] == '-' && id[13] == '-' &&
						 id[18] == '-' && id[23] == '-';

		for (const char *c = id; *c; c++)
		{
			if (*c >= 'A' && *c <= 'F')
				canonical = false;
		}
		if (!canonical)
			return "It is a uuid, but not in canonical form.";
	}
	return NULL;
}

/* tenant_id_problem(text) → text: why it cannot be a tenant id, or NULL. */
Datum
leyser_tenant_id_problem(PG_FUNCTION_ARGS)
{
	char *id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	const char *problem = leyser_name_problem(id);

	if (problem == NULL)
		problem = canonical_problem(id);
	if (problem == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(problem));
}
