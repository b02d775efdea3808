/*
 * portal.h
 *		Cursors: what their later rows depend on still has to hold.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_PORTAL_H
#define LEYSER_PORTAL_H

extern void leyser_portal_init(void);

#endif /* LEYSER_PORTAL_H */
