/*
 * encoding.h
 *		Bytes as text and back, strictly: base64url, hex, uuid.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_ENCODING_H
#define LEYSER_ENCODING_H

#include "postgres.h"

#include "utils/uuid.h"

#define LEYSER_UUID_TEXT_LEN 36

#define LEYSER_BASE64URL_LEN(bytes) (((bytes) *4 + 2) / 3)
#define LEYSER_BASE64URL_DECODED_MAX(chars) ((chars) / 4 * 3 + 2)

extern bool leyser_base64url_decode(const char *text, size_t len, unsigned char *bytes,
									size_t *bytes_len);
extern size_t leyser_base64url_encode(const unsigned char *bytes, size_t len, char *text);

extern void leyser_hex_encode(const unsigned char *bytes, size_t len, char *text);
extern bool leyser_hex_decode(const char *text, size_t len, unsigned char *bytes);

extern void leyser_uuid_to_text(const pg_uuid_t *uuid,
								char text[LEYSER_UUID_TEXT_LEN + 1]);
extern bool leyser_uuid_from_text(const char *text, pg_uuid_t *uuid);

#endif /* LEYSER_ENCODING_H */
