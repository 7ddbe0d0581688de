/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Digests of page contents, and the tree keys made of them. Policy layer, pure.
 *
 * A key is 64 bits: the sample digest (32), the full digest (28), and 4 bits that the tree
 * ignores, in which an item keeps its own position. A key whose full part is 0 belongs to a page
 * that is alone with its sample. Stable nodes and what is to be attached to them carry 32 more
 * bits of the full digest, the check, so that two contents with one key stay apart. A digest only
 * ever proposes a merge; a compare of write-protected pages decides.
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
 * struct ksm_digest - how this boot digests pages; constant after ksm_digest_init(), but for tests
 * @seed: seed of both digests
 * @key_bits: the bits of the full digest that go into keys; fewer, to see contents collide
 * @line: byte offset in the page of each sampled line, one in every quarter, never the first line
 */
struct ksm_digest {
	u64 seed;
	u32 key_bits;
	u32 line[KSM_SAMPLE_LINES];
};

/**
 * struct ksm_content - what the digests say of a page's content
 * @key: both digests; its full part is 0 while that one is not known
 * @check: the rest of the full digest
 */
struct ksm_content {
	u64 key;
	u32 check;
};

void ksm_digest_init(struct ksm_digest *digest, u64 seed, u64 lines);
u32 ksm_digest_sample(const struct ksm_digest *digest, const void *page);
u32 ksm_digest_full(const struct ksm_digest *digest, const void *page, u32 *check);
struct ksm_content ksm_digest_content(const struct ksm_digest *digest, const void *page);

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

static inline bool ksm_content_equal(struct ksm_content a, struct ksm_content b)
{
	return a.key == b.key && a.check == b.check;
}

/* The content that an equal page has in another scope: see ksm_node_salt(). */
static inline struct ksm_content ksm_content_salt(struct ksm_content content, u32 salt)
{
	content.key ^= ksm_key(salt, 0);
	return content;
}

#endif /* _MM_KSM_DIGEST_H */
