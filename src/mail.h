/*
 * mail.h
 *		Mail that leyser.mail_command delivers.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_MAIL_H
#define LEYSER_MAIL_H

#include "leyser.h"

#include "datatype/timestamp.h"

extern void leyser_mail_init(void);

/*
 * Sends the mails that are due, one after the other, and begins none after "until".
 * In a procedure that commits, with no snapshot taken: it commits around each mail.
 */
extern void leyser_mail_drain(TimestampTz until);

#endif /* LEYSER_MAIL_H */
