/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The forest: red-black trees of keys behind small locks. Index layer, pure.
 *
 * A bucket, chosen by a key's high bits, holds the roots of a stable and an unstable tree and the
 * lock of both. Buckets are as many as memory warrants, so that a descent passes few nodes; and
 * it touches nodes only, never a page.
 */
#ifndef _MM_KSM_FOREST_H
#define _MM_KSM_FOREST_H

#include "digest.h"

/**
 * struct ksm_leaf - a node of one of the trees
 * @rb: link in the tree; guarded by the bucket's lock
 * @key: what the tree is sorted by, less its lowest KSM_KEY_POS_BITS bits; constant while linked
 */
struct ksm_leaf {
	struct rb_node rb;
	u64 key;
};

/**
 * struct ksm_bucket - the trees of one range of keys
 * @lock: guards both trees, their leaves' linkage, and the chains of stable nodes
 * @stable: contents of KSM pages
 * @unstable: contents of pages that are not merged, as hints
 */
struct ksm_bucket {
	spinlock_t lock;	/* of both trees */
	struct rb_root stable;
	struct rb_root unstable;
};

/**
 * struct ksm_forest - all buckets; constant after ksm_forest_init()
 * @buckets: the array
 * @bits: log2 of its length, at least 1
 */
struct ksm_forest {
	struct ksm_bucket *buckets;
	unsigned int bits;
};

void ksm_forest_init(struct ksm_forest *forest, struct ksm_bucket *buckets, unsigned int bits);
unsigned int ksm_forest_bits(unsigned long pages);
void ksm_leaf_insert(struct rb_root *root, struct ksm_leaf *leaf);
struct ksm_leaf *ksm_leaf_lower_bound(const struct rb_root *root, u64 key);
struct ksm_leaf *ksm_leaf_next(const struct ksm_leaf *leaf);

/* All keys with the same sample share a bucket: its number comes from the sample's high bits. */
static inline struct ksm_bucket *ksm_forest_bucket(const struct ksm_forest *forest, u64 key)
{
	return &forest->buckets[key >> (64 - forest->bits)];
}

static inline u64 ksm_leaf_key(const struct ksm_leaf *leaf)
{
	return leaf->key & ~KSM_KEY_POS_MASK;
}

#endif /* _MM_KSM_FOREST_H */
