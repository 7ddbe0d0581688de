/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Digests of page contents, and the tree keys made of them. Policy layer, pure.
 *
 * A key is 64 bits: the sample digest (32), the full digest (28), and 4 bits that the tree
 * ignores, in which an item keeps its own position. A key whose full part is 0 belongs to a page
 * that is alone with its sample. A digest only ever proposes a merge; a compare of
 * write-protected pages decides.
 */
#ifndef _MM_KSM_DIGEST_H
#define _MM_KSM_DIGEST_H

#include "pure.h"

#define KSM_SAMPLE_LINES	4
#define KSM_SAMPLE_LINE_SIZE	64

#define KSM_KEY_POS_BITS	4
#define KSM_KEY_POS_MASK	((u64)(1 << KSM_KEY_POS_BITS) - 1)
#define KSM_KEY_FULL_BITS	28
#define KSM_KEY_SAMPLE_SHIFT	(KSM_KEY_POS_BITS + KSM_KEY_FULL_BITS)

/**
 * struct ksm_digest - how this boot digests pages; constant after ksm_digest_init()
 * @seed: seed of both digests
 * @line: byte offset in the page of each sampled line, one in every quarter, never the first line
 */
struct ksm_digest {
	u64 seed;
	u32 line[KSM_SAMPLE_LINES];
};

void ksm_digest_init(struct ksm_digest *digest, u64 seed, u64 lines);
u32 ksm_digest_sample(const struct ksm_digest *digest, const void *page);
u32 ksm_digest_full(const struct ksm_digest *digest, const void *page);

static inline u64 ksm_key(u32 sample, u32 full)
{
	return (u64)sample << KSM_KEY_SAMPLE_SHIFT | (u64)full << KSM_KEY_POS_BITS;
}

static inline u32 ksm_key_sample(u64 key)
{
	return key >> KSM_KEY_SAMPLE_SHIFT;
}

static inline u32 ksm_key_full(u64 key)
{
	return (u32)key >> KSM_KEY_POS_BITS;
}

#endif /* _MM_KSM_DIGEST_H */
