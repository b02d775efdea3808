/*
 * password.h
 *		Hashing passwords.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_PASSWORD_H
#define LEYSER_PASSWORD_H

#include "leyser.h"

extern void leyser_password_init(void);

#endif /* LEYSER_PASSWORD_H */
