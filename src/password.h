/*
 * password.h
 *		Hashing passwords, and keeping them out of the server log.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_PASSWORD_H
#define LEYSER_PASSWORD_H

#include "leyser.h"

extern void leyser_password_init(void);
extern void leyser_password_log_init(void);

#endif /* LEYSER_PASSWORD_H */
