// SPDX-License-Identifier: GPL-2.0
/*
 * The forest's trees: insertion and ordered lookup. Index layer, pure.
 *
 * Locking: every function on a tree runs under the lock of the tree's bucket. Lifetime: the
 * forest owns no leaf; whoever frees one erases it first. Nothing allocates, nothing fails. Equal
 * keys are allowed: a later one goes behind. Tests: tools/testing/ksm/forest_test.c.
 */
#include "forest.h"

#define KSM_FOREST_MIN_BITS	4
#define KSM_FOREST_MAX_BITS	24
#define KSM_PAGES_PER_BUCKET	16

/**
 * ksm_forest_bits - how many buckets suit a machine
 * @pages: pages of memory
 *
 * Return: log2 of the number of buckets.
 */
unsigned int ksm_forest_bits(unsigned long pages)
{
	unsigned int bits = fls_long(pages / KSM_PAGES_PER_BUCKET);

	return clamp(bits, KSM_FOREST_MIN_BITS, KSM_FOREST_MAX_BITS);
}

/**
 * ksm_forest_init - make an empty forest
 * @forest: to be filled
 * @buckets: room for 1 << @bits buckets, owned by the caller
 * @bits: from ksm_forest_bits()
 */
void ksm_forest_init(struct ksm_forest *forest, struct ksm_bucket *buckets, unsigned int bits)
{
	unsigned long i;

	forest->buckets = buckets;
	forest->bits = bits;
	for (i = 0; i < 1UL << bits; i++) {
		spin_lock_init(&buckets[i].lock);
		buckets[i].stable = RB_ROOT;
		buckets[i].unstable = RB_ROOT;
	}
}

static bool ksm_leaf_less(struct rb_node *a, const struct rb_node *b)
{
	return ksm_leaf_key(rb_entry(a, struct ksm_leaf, rb)) <
	       ksm_leaf_key(rb_entry(b, struct ksm_leaf, rb));
}

/**
 * ksm_leaf_insert - link a leaf behind those with the same key
 * @root: the tree
 * @leaf: its key is set
 *
 * Context: bucket lock held.
 */
void ksm_leaf_insert(struct rb_root *root, struct ksm_leaf *leaf)
{
	rb_add(&leaf->rb, root, ksm_leaf_less);
}

/**
 * ksm_leaf_lower_bound - find the first leaf at or behind a key
 * @root: the tree
 * @key: position bits are ignored
 *
 * Context: bucket lock held.
 * Return: the leaf, or NULL when all keys are smaller.
 */
struct ksm_leaf *ksm_leaf_lower_bound(const struct rb_root *root, u64 key)
{
	struct rb_node *node = root->rb_node;
	struct ksm_leaf *found = NULL;

	key &= ~KSM_KEY_POS_MASK;
	while (node) {
		struct ksm_leaf *leaf = rb_entry(node, struct ksm_leaf, rb);

		if (ksm_leaf_key(leaf) < key) {
			node = node->rb_right;
		} else {
			found = leaf;
			node = node->rb_left;
		}
	}
	return found;
}

/**
 * ksm_leaf_next - the leaf behind another one
 * @leaf: linked
 *
 * Context: bucket lock held.
 * Return: the next leaf in key order, or NULL.
 */
struct ksm_leaf *ksm_leaf_next(const struct ksm_leaf *leaf)
{
	struct rb_node *node = rb_next(&leaf->rb);

	return node ? rb_entry(node, struct ksm_leaf, rb) : NULL;
}
