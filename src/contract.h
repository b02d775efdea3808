/*
 * contract.h
 *		Settings of contracts.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_CONTRACT_H
#define LEYSER_CONTRACT_H

#include "leyser.h"

extern void leyser_contract_init(void);

#endif /* LEYSER_CONTRACT_H */
