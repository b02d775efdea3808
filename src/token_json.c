/*
 * token_json.c
 *		The members of a token's header or payload, by the server's JSON parser.
 *
 * pg_parse_json() tells what is wrong by a code, so nothing is raised inside a
 * check hook.  Two things it would let through are refused here: a member that
 * stands twice (parsers disagree which one counts, so one token would mean two
 * things), and deep nesting (its recursion ends in a raised error).
 *
 * Its semantic actions cannot stop it in 15, so they only note what they saw.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "token_json.h"

#include "compat.h"

typedef struct JsonState
{
	LeyserJsonObject *object;
	LeyserJsonMember *current; /* the top-level member we are in */
	int depth;
	bool is_object;
	const char *problem;
} JsonState;

static leyser_json_action
json_object_start(void *state)
{
	JsonState *json = (JsonState *) state;

	if (json->depth == 0)
		json->is_object = true;
	else if (json->current != NULL && json->depth == 2)
		json->current->only_strings = false;
	json->depth++;
	LEYSER_JSON_ACTION_DONE;
}

static leyser_json_action
json_array_start(void *state)
{
	JsonState *json = (JsonState *) state;

	if (json->current != NULL && json->depth == 1)
	{
		json->current->kind = LEYSER_JSON_ARRAY;
		json->current->only_strings = true;
	}
	else if (json->current != NULL && json->depth == 2)
		json->current->only_strings = false;
	json->depth++;
	LEYSER_JSON_ACTION_DONE;
}

static leyser_json_action
json_end(void *state)
{
	((JsonState *) state)->depth--;
	LEYSER_JSON_ACTION_DONE;
}

/* A member begins; names arrive without escapes, so "\u0061" is "a". */
static leyser_json_action
json_member_start(void *state, char *name, bool isnull)
{
	JsonState *json = (JsonState *) state;
	LeyserJsonObject *object = json->object;

	if (json->depth != 1)
		LEYSER_JSON_ACTION_DONE;
	json->current = NULL;
	if (leyser_json_find(object, name) != NULL)
		json->problem = "It has a member twice.";
	else if (object->count >= LEYSER_JSON_MEMBERS_MAX)
		json->problem = "It has too many members.";
	else
	{
		json->current = &object->members[object->count++];
		json->current->name = name;
		json->current->kind = LEYSER_JSON_OTHER;
		json->current->text = NULL;
		json->current->strings = NIL;
		json->current->only_strings = false;
	}
	LEYSER_JSON_ACTION_DONE;
}

static leyser_json_action
json_scalar(void *state, char *text, JsonTokenType type)
{
	JsonState *json = (JsonState *) state;
	LeyserJsonMember *member = json->current;

	if (member == NULL)
		LEYSER_JSON_ACTION_DONE;
	if (json->depth == 1)
	{
		if (type == JSON_TOKEN_STRING)
			member->kind = LEYSER_JSON_STRING;
		else if (type == JSON_TOKEN_NUMBER)
			member->kind = LEYSER_JSON_NUMBER;
		member->text = text;
	}
	else if (json->depth == 2 && member->kind == LEYSER_JSON_ARRAY)
	{
		if (type == JSON_TOKEN_STRING)
			member->strings = lappend(member->strings, text);
		else
			member->only_strings = false;
	}
	LEYSER_JSON_ACTION_DONE;
}

/* Counts brackets outside strings, before the recursive parser meets them. */
static bool
json_is_too_deep(const char *text, size_t len)
{
	int depth = 0;
	bool in_string = false;

	for (size_t i = 0; i < len; i++)
	{
		char c = text[i];

		if (in_string)
		{
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		}
		else if (c == '"')
			in_string = true;
		else if ((c == '{' || c == '[') && ++depth > LEYSER_JSON_DEPTH_MAX)
			return true;
		else if (c == '}' || c == ']')
			depth--;
	}
	return false;
}

const char *
leyser_json_parse(char *text, size_t len, LeyserJsonObject *object)
{
	JsonState state = {object, NULL, 0, false, NULL};
	JsonSemAction actions = {
		.semstate = &state,
		.object_start = json_object_start,
		.object_end = json_end,
		.array_start = json_array_start,
		.array_end = json_end,
		.object_field_start = json_member_start,
		.scalar = json_scalar,
	};

	object->count = 0;
	if (pg_encoding_verifymbstr(PG_UTF8, text, (int) len) != (int) len)
		return "It is not valid UTF-8.";
	if (json_is_too_deep(text, len))
		return "It is nested too deeply.";
	if (pg_parse_json(leyser_json_lex(text, (int) len), &actions) != JSON_SUCCESS ||
		!state.is_object)
		return "It is not a JSON object.";
	return state.problem;
}

const LeyserJsonMember *
leyser_json_find(const LeyserJsonObject *object, const char *name)
{
	for (int i = 0; i < object->count; i++)
	{
		if (strcmp(object->members[i].name, name) == 0)
			return &object->members[i];
	}
	return NULL;
}
