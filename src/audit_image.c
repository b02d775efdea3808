/*
 * audit_image.c
 *		Images of audited rows: what an event keeps of the rows of a statement.
 *
 * They name their columns and keep values as text, so they can be read whatever
 * becomes of the table.  A version, the number of columns and their names; then, for
 * each row, a byte that says whether there is an old and a new one, and their values: a
 * byte that tells the length of the text that follows, or that its length follows in
 * four more, or why there is none.  Numbers are in network order.  Of a row that was updated only what changed is written, and its primary key.
 *
 * Redacted columns show that there was a value, or another one, and no more.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "audit_image.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "compat.h"

#define IMAGES_VERSION 1

#define ROW_HAS_OLD 1
#define ROW_HAS_NEW 2

/* Of a row's text, in bytes, that is shown: jsonb holds 256 MB. */
#define ROW_SHOWN_MAX (32 * 1024 * 1024)

#define VALUE_LENGTH_MAX 250
#define VALUE_LONG 251
#define VALUE_NULL 252
#define VALUE_REDACTED 253
#define VALUE_UNCHANGED 254

PG_FUNCTION_INFO_V1(leyser_audit_images);

/* ---- writing ---- */

void
leyser_audit_column(LeyserAuditColumn *column, TupleDesc descriptor, AttrNumber number,
					bool redacted)
{
	Form_pg_attribute attribute = TupleDescAttr(descriptor, number - 1);
	Oid output;
	bool is_varlena;

	column->number = number;
	column->name = pstrdup(NameStr(attribute->attname));
	column->redacted = redacted;
	column->type = getBaseType(attribute->atttypid);
	getTypeOutputInfo(attribute->atttypid, &output, &is_varlena);
	fmgr_info(output, &column->output);
}

static inline void
put_text(StringInfo images, const char *text, int length)
{
	enlargeStringInfo(images, length + 1 + (int) sizeof(uint32));
	if (length <= VALUE_LENGTH_MAX)
		images->data[images->len++] = (char) length;
	else
	{
		images->data[images->len++] = (char) VALUE_LONG;
		pq_writeint32(images, (uint32) length);
	}
	memcpy(images->data + images->len, text, length);
	images->len += length;
}

/* The most common types without a function call. */
static void
put_value(StringInfo images, LeyserAuditColumn *column, Datum value)
{
	char number[MAXINT8LEN + 1];

	switch (column->type)
	{
		case INT4OID:
			put_text(images, number, pg_ltoa(DatumGetInt32(value), number));
			break;
		case INT8OID:
			put_text(images, number, pg_lltoa(DatumGetInt64(value), number));
			break;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		{
			text *data = DatumGetTextPP(value);

			put_text(images, VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data));
			break;
		}
		default:
		{
			char *data = OutputFunctionCall(&column->output, value);

			put_text(images, data, (int) strlen(data));
			pfree(data);
		}
	}
}

static void
put_column(StringInfo images, LeyserAuditColumn *column, TupleTableSlot *slot)
{
	int i = column->number - 1;

	if (slot->tts_isnull[i])
		appendStringInfoCharMacro(images, (char) VALUE_NULL);
	else if (column->redacted)
		appendStringInfoCharMacro(images, (char) VALUE_REDACTED);
	else
		put_value(images, column, slot->tts_values[i]);
}

/* As they are stored: what was written anew alike may count as changed. */
static bool
column_is_same(const LeyserAuditColumn *column, TupleTableSlot *old, TupleTableSlot *new)
{
	int i = column->number - 1;
	Form_pg_attribute attribute = TupleDescAttr(old->tts_tupleDescriptor, i);

	if (old->tts_isnull[i] || new->tts_isnull[i])
		return old->tts_isnull[i] && new->tts_isnull[i];
	return datumIsEqual(old->tts_values[i], new->tts_values[i], attribute->attbyval,
						attribute->attlen);
}

void
leyser_audit_begin(StringInfo images, const LeyserAuditShape *shape)
{
	resetStringInfo(images);
	appendStringInfoCharMacro(images, IMAGES_VERSION);
	pq_sendint16(images, (uint16) shape->count);
	for (int i = 0; i < shape->count; i++)
	{
		const char *name = shape->columns[i].name;

		put_text(images, name, (int) strlen(name));
	}
}

static void
put_row(StringInfo images, const LeyserAuditShape *shape, TupleTableSlot *slot)
{
	slot_getallattrs(slot);
	for (int i = 0; i < shape->count; i++)
		put_column(images, &shape->columns[i], slot);
}

/* What changed, and of the old row the key, which tells which one it was. */
static void
put_change(StringInfo images, const LeyserAuditShape *shape, TupleTableSlot *old,
		   TupleTableSlot *new)
{
	bool same[MaxTupleAttributeNumber];

	slot_getallattrs(old);
	slot_getallattrs(new);
	for (int i = 0; i < shape->count; i++)
	{
		LeyserAuditColumn *column = &shape->columns[i];

		same[i] = column_is_same(column, old, new);
		if (same[i] && shape->has_key && !column->is_key)
			appendStringInfoCharMacro(images, (char) VALUE_UNCHANGED);
		else
			put_column(images, column, old);
	}
	for (int i = 0; i < shape->count; i++)
	{
		if (same[i])
			appendStringInfoCharMacro(images, (char) VALUE_UNCHANGED);
		else
			put_column(images, &shape->columns[i], new);
	}
}

void
leyser_audit_row(StringInfo images, const LeyserAuditShape *shape, TupleTableSlot *old,
				 TupleTableSlot *new)
{
	appendStringInfoCharMacro(images,
							  (char) ((old ? ROW_HAS_OLD : 0) | (new ? ROW_HAS_NEW : 0)));
	if (old != NULL && new != NULL)
		put_change(images, shape, old, new);
	else
		put_row(images, shape, old ? old : new);
}

/* ---- reading ---- */

/* tag: what comes before the text. */
static const char *
read_text(StringInfo images, int tag, int *length)
{
	if (tag > VALUE_LONG)
		elog(ERROR, "unknown value in images of audited rows");
	*length = tag == VALUE_LONG ? (int) pq_getmsgint(images, 4) : tag;
	return pq_getmsgbytes(images, *length);
}

/* What has no room tells its length: one long value is not to hide all other events. */
static void
append_json_string(StringInfo into, const char *text, int length, int *room)
{
	char *copy;

	if (length > *room)
	{
		appendStringInfo(into, "{\"bytes\": %d}", length);
		return;
	}
	*room -= length;
	copy = pnstrdup(text, length);
	escape_json(into, copy);
	pfree(copy);
}

/* A value as JSON; false where it is the old one's. */
static bool
read_value(StringInfo images, StringInfo json, const char *name, int *room)
{
	int tag = pq_getmsgbyte(images);

	if (tag == VALUE_UNCHANGED)
		return false;
	if (json->len > 1)
		appendStringInfoString(json, ", ");
	escape_json(json, name);
	appendStringInfoString(json, ": ");
	switch (tag)
	{
		case VALUE_NULL:
			appendStringInfoString(json, "null");
			break;
		case VALUE_REDACTED:
			appendStringInfoString(json, "{\"redacted\": true}");
			break;
		default:
		{
			int length;
			const char *text = read_text(images, tag, &length);

			append_json_string(json, text, length, room);
		}
	}
	return true;
}

static Datum
read_row(StringInfo images, char **names, int count)
{
	StringInfoData json;
	int room = ROW_SHOWN_MAX;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	for (int i = 0; i < count; i++)
		(void) read_value(images, &json, names[i], &room);
	appendStringInfoChar(&json, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

static char **
read_names(StringInfo images, int *count)
{
	char **names;

	if (pq_getmsgbyte(images) != IMAGES_VERSION)
		elog(ERROR, "unknown images of audited rows");
	*count = (int) pq_getmsgint(images, 2);
	names = palloc0(sizeof(char *) * (*count + 1));
	for (int i = 0; i < *count; i++)
	{
		int length;
		const char *name = read_text(images, pq_getmsgbyte(images), &length);

		names[i] = pnstrdup(name, length);
	}
	return names;
}

/* audit_images(images bytea) → setof (row_number integer, old jsonb, new jsonb) */
Datum
leyser_audit_images(PG_FUNCTION_ARGS)
{
	bytea *data = PG_GETARG_BYTEA_PP(0);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	StringInfoData images;
	char **names;
	int count;

	InitMaterializedSRF(fcinfo, 0);
	initStringInfo(&images);
	appendBinaryStringInfo(&images, VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data));
	names = read_names(&images, &count);
	for (int32 number = 1; images.cursor < images.len; number++)
	{
		int parts = pq_getmsgbyte(&images);
		Datum values[3] = {Int32GetDatum(number)};
		bool nulls[3] = {false, (parts & ROW_HAS_OLD) == 0, (parts & ROW_HAS_NEW) == 0};

		if (!nulls[1])
			values[1] = read_row(&images, names, count);
		if (!nulls[2])
			values[2] = read_row(&images, names, count);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
