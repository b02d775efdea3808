/*
 * transport.h
 *		What protects the client's connection on its way.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_TRANSPORT_H
#define LEYSER_TRANSPORT_H

#include "leyser.h"

#include "token.h"

extern void leyser_transport_init(void);

/*
 * False, and *error (28000), where leyser.require_tls is on and tokens and passwords
 * come over a network without TLS 1.2 or later.
 */
extern bool leyser_transport_check(LeyserTokenError *error);

/* The same, but raises. */
extern void leyser_transport_require(void);

#endif /* LEYSER_TRANSPORT_H */
