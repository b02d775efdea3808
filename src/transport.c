/*
 * transport.c
 *		What protects the client's connection on its way.
 *
 * Tokens, passwords and one-time secrets are refused on a connection over a network
 * that does not use TLS 1.2 or later, while leyser.require_tls is on.  By then they may
 * have been read, so the refusal says so; it keeps nobody from sending them once.
 *
 * Sockets need no TLS, nor does loopback: 127.0.0.0/8 and ::1, also mapped into IPv6.
 * Only the client's address counts.  That it is the server's own is no sign of
 * loopback: behind a translator of addresses a stranger may come with it.  Encryption
 * by GSSAPI is none of TLS.  Where a pooler stands in between, the connection is the
 * pooler's, and nobody here sees what its clients use.
 *
 * Background workers, parallel ones too, have no client.  A connection's encryption
 * does not change while it lives: it is looked at once.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "transport.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#ifdef ENABLE_GSS
#undef ENABLE_GSS /* its headers are not needed: struct Port is the same without */
#endif
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "context.h"

PG_FUNCTION_INFO_V1(leyser_transport_own);
PG_FUNCTION_INFO_V1(leyser_transport_require_sql);

typedef enum Transport
{
	TRANSPORT_UNKNOWN, /* not looked at yet */
	TRANSPORT_NONE,    /* no client */
	TRANSPORT_SOCKET,
	TRANSPORT_LOOPBACK,
	TRANSPORT_NETWORK
} Transport;

static const char *const transport_words[] = {"unknown", "none", "socket", "loopback",
											  "network"};

static bool require_tls = true;

/* Of this connection. */
static Transport transport = TRANSPORT_UNKNOWN;
static bool is_protected = false; /* by TLS 1.2 or later */

/* ---- the connection ---- */

static bool
transport_is_loopback(const struct sockaddr_storage *address)
{
	const struct in6_addr *six;

	if (address->ss_family == AF_INET)
		return (ntohl(((const struct sockaddr_in *) address)->sin_addr.s_addr) >> 24) ==
			   127;
	if (address->ss_family != AF_INET6)
		return false;
	six = &((const struct sockaddr_in6 *) address)->sin6_addr;
	return IN6_IS_ADDR_LOOPBACK(six) ||
		   (IN6_IS_ADDR_V4MAPPED(six) && six->s6_addr[12] == 127);
}

static Transport
transport_of(const Port *port)
{
	if (port == NULL)
		return TRANSPORT_NONE;
	if (port->raddr.addr.ss_family == AF_UNIX)
		return TRANSPORT_SOCKET;
	return transport_is_loopback(&port->raddr.addr) ? TRANSPORT_LOOPBACK
													: TRANSPORT_NETWORK;
}

/* As OpenSSL prints it; NULL without TLS. */
static const char *
transport_tls_version(Port *port)
{
#ifdef USE_SSL
	if (port && port->ssl_in_use)
		return be_tls_get_version(port);
#endif
	return NULL;
}

static const char *
transport_tls_cipher(Port *port)
{
#ifdef USE_SSL
	if (port && port->ssl_in_use)
		return be_tls_get_cipher(port);
#endif
	return NULL;
}

static bool
transport_version_is_good(const char *version)
{
	return version && strncmp(version, "TLSv1.", 6) == 0 && atoi(version + 6) >= 2;
}

static void
transport_look(void)
{
	if (transport != TRANSPORT_UNKNOWN)
		return;
	is_protected = transport_version_is_good(transport_tls_version(MyProcPort));
	transport = transport_of(MyProcPort);
}

/* ---- what it is good for ---- */

static bool
transport_is_accepted(void)
{
	if (!require_tls)
		return true;
	transport_look();
	return transport != TRANSPORT_NETWORK || is_protected;
}

bool
leyser_transport_check(LeyserTokenError *error)
{
	if (likely(transport_is_accepted()))
		return true;
	leyser_context_error(
		error, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
		"connection is not protected by TLS 1.2 or later",
		"It comes over a network, and leyser.require_tls is on: what was sent may have "
		"been read.",
		"Connect with sslmode=require or better, or through the server's socket; let who "
		"sent a password or secret get another one.");
	return false;
}

void
leyser_transport_require(void)
{
	LeyserTokenError error;

	if (!leyser_transport_check(&error))
		leyser_context_raise(&error);
}

/* require_transport() → void: internal; raises 28000. */
Datum
leyser_transport_require_sql(PG_FUNCTION_ARGS)
{
	leyser_require_preloaded();
	leyser_transport_require();
	PG_RETURN_VOID();
}

/* own_connection(OUT transport, OUT tls_version, OUT cipher, OUT accepted) */
Datum
leyser_transport_own(PG_FUNCTION_ARGS)
{
	const char *version = transport_tls_version(MyProcPort);
	const char *cipher = transport_tls_cipher(MyProcPort);
	Datum values[4];
	bool nulls[4] = {false, version == NULL, cipher == NULL, false};
	TupleDesc desc;

	leyser_require_preloaded();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	transport_look();
	values[0] = CStringGetTextDatum(transport_words[transport]);
	values[1] = version ? CStringGetTextDatum(version) : (Datum) 0;
	values[2] = cipher ? CStringGetTextDatum(cipher) : (Datum) 0;
	values[3] = BoolGetDatum(transport_is_accepted());
	PG_RETURN_DATUM(
		HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

void
leyser_transport_init(void)
{
	DefineCustomBoolVariable(
		"leyser.require_tls",
		"Whether tokens, passwords and secrets are refused on network connections below "
		"TLS 1.2.",
		"Sockets and loopback are excepted.", &require_tls, true, PGC_SIGHUP, 0, NULL,
		NULL, NULL);
}
