/*
 * encoding.c
 *		Bytes as text and back: base64url (RFC 4648 section 5, without padding,
 *		as RFC 7515 wants it), lower-case hex, uuid.
 *
 * Decoding is strict: one sequence of bytes has one text.  A token that could
 * be written in two ways would be two tokens for whoever remembers, counts or
 * revokes them.  Nothing here raises or allocates.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "encoding.h"

static const char base64url_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* -1 for what is no digit; there is no room for padding or white space. */
static inline int
base64url_value(unsigned char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '-')
		return 62;
	if (c == '_')
		return 63;
	return -1;
}

/*
 * Decodes len characters into at most LEYSER_BASE64URL_DECODED_MAX(len)
 * bytes.  False where a character is not in the alphabet, the length is
 * impossible, or bits that mean nothing are not zero.
 */
bool
leyser_base64url_decode(const char *text, size_t len, unsigned char *bytes,
						size_t *bytes_len)
{
	uint32 bits = 0;
	int pending = 0;
	size_t out = 0;

	if (len % 4 == 1)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		int value = base64url_value((unsigned char) text[i]);

		if (value < 0)
			return false;
		bits = (bits << 6) | (uint32) value;
		pending += 6;
		if (pending >= 8)
		{
			pending -= 8;
			bytes[out++] = (unsigned char) (bits >> pending);
		}
	}
	*bytes_len = out;
	return (bits & ((1u << pending) - 1)) == 0;
}

/* Writes LEYSER_BASE64URL_LEN(len) characters, no terminator; returns how many. */
size_t
leyser_base64url_encode(const unsigned char *bytes, size_t len, char *text)
{
	uint32 bits = 0;
	int pending = 0;
	size_t out = 0;

	for (size_t i = 0; i < len; i++)
	{
		bits = (bits << 8) | bytes[i];
		pending += 8;
		while (pending >= 6)
		{
			pending -= 6;
			text[out++] = base64url_digits[(bits >> pending) & 63];
		}
	}
	if (pending > 0)
		text[out++] = base64url_digits[(bits << (6 - pending)) & 63];
	return out;
}

/* Writes 2 * len characters and a terminator. */
void
leyser_hex_encode(const unsigned char *bytes, size_t len, char *text)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++)
	{
		text[2 * i] = digits[bytes[i] >> 4];
		text[2 * i + 1] = digits[bytes[i] & 15];
	}
	text[2 * len] = '\0';
}

static inline int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* Reads 2 * len lower-case digits. */
bool
leyser_hex_decode(const char *text, size_t len, unsigned char *bytes)
{
	for (size_t i = 0; i < len; i++)
	{
		int high = hex_value(text[2 * i]);
		int low = high < 0 ? -1 : hex_value(text[2 * i + 1]);

		if (low < 0)
			return false;
		bytes[i] = (unsigned char) (high << 4 | low);
	}
	return true;
}

void
leyser_uuid_to_text(const pg_uuid_t *uuid, char text[LEYSER_UUID_TEXT_LEN + 1])
{
	char hex[2 * UUID_LEN + 1];

	leyser_hex_encode(uuid->data, UUID_LEN, hex);
	snprintf(text, LEYSER_UUID_TEXT_LEN + 1, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8,
			 hex + 12, hex + 16, hex + 20);
}

/* Only the canonical form: 36 characters, lower case. */
bool
leyser_uuid_from_text(const char *text, pg_uuid_t *uuid)
{
	static const int starts[] = {0, 9, 14, 19, 24};
	static const int lengths[] = {4, 2, 2, 2, 6};
	int done = 0;

	if (strlen(text) != LEYSER_UUID_TEXT_LEN)
		return false;
	for (int i = 0; i < (int) lengthof(starts); i++)
	{
		if (starts[i] > 0 && text[starts[i] - 1] != '-')
			return false;
		if (!leyser_hex_decode(text + starts[i], lengths[i], uuid->data + done))
			return false;
		done += lengths[i];
	}
	return true;
}
