/*
 * token_json.h
 *		The members of a token's header or payload.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_TOKEN_JSON_H
#define LEYSER_TOKEN_JSON_H

#include "postgres.h"

#include "nodes/pg_list.h"

#define LEYSER_JSON_MEMBERS_MAX 64 /* at the top level */
#define LEYSER_JSON_DEPTH_MAX 16

typedef enum LeyserJsonKind
{
	LEYSER_JSON_STRING,
	LEYSER_JSON_NUMBER,
	LEYSER_JSON_ARRAY,
	LEYSER_JSON_OTHER /* object, true, false, null */
} LeyserJsonKind;

typedef struct LeyserJsonMember
{
	char *name;
	LeyserJsonKind kind;
	char *text;        /* a string without its escapes, or a number as written */
	List *strings;     /* an array's strings */
	bool only_strings; /* an array holds nothing else */
} LeyserJsonMember;

typedef struct LeyserJsonObject
{
	int count;
	LeyserJsonMember members[LEYSER_JSON_MEMBERS_MAX];
} LeyserJsonObject;

/*
 * NULL where text holds one JSON object that we accept, else why not: a
 * static sentence that begins with "It".  Allocates in the current context.
 */
extern const char *leyser_json_parse(char *text, size_t len, LeyserJsonObject *object);

extern const LeyserJsonMember *leyser_json_find(const LeyserJsonObject *object,
												const char *name);

#endif /* LEYSER_TOKEN_JSON_H */
