/*
 * port.h
 *		The server's header of a client's connection, where GSSAPI's is not installed.
 *
 * Port has the same layout with and without GSSAPI, says libpq-be.h, so that
 * extensions need not care; but including it wants GSSAPI's own header.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_PORT_H
#define LEYSER_PORT_H

#include "leyser.h"

#undef ENABLE_GSS
#include "common/ip.h"
#include "libpq/auth.h"
#include "libpq/libpq-be.h"

#define LEYSER_ADDRESS_MAX 64

/* The other side's address, into LEYSER_ADDRESS_MAX bytes; empty for a socket. */
static inline void
leyser_port_address(const Port *port, char *address)
{
	address[0] = '\0';
	if (port == NULL || port->raddr.addr.ss_family == AF_UNIX)
		return;
	if (pg_getnameinfo_all(&port->raddr.addr, port->raddr.salen, address,
						   LEYSER_ADDRESS_MAX, NULL, 0,
						   NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		address[0] = '\0';
	/* the zone of a link-local address is of no use elsewhere */
	address[strcspn(address, "%")] = '\0';
}

#endif /* LEYSER_PORT_H */
