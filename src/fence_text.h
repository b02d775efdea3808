/*
 * fence_text.h
 *		A fence as text, and back.  Only for fence_file.c.
 *
 * Copyright (c) 2026, the leyser authors
 */
#ifndef LEYSER_FENCE_TEXT_H
#define LEYSER_FENCE_TEXT_H

#include "fence.h"

#include "lib/stringinfo.h"

/* False where text is not whole and right to the last byte; cuts it up. */
extern bool leyser_fence_parse(char *text, LeyserFence *fence);

extern void leyser_fence_render(const LeyserFence *fence, StringInfo text);

#endif /* LEYSER_FENCE_TEXT_H */
