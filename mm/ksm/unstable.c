// SPDX-License-Identifier: GPL-2.0
/*
 * The unstable tree. Index layer.
 *
 * It persists over passes: a key is fixed when an item is inserted, so the order can't break,
 * whatever happens to the page. Its items pin nothing and promise nothing; they are validated
 * when the scan visits them or another page hits them.
 *
 * Locking: bucket lock; functions with two underscores want it held. An item is inserted and
 * erased by the owner of its slot, and may be looked at by others while in the tree. Lifetime: a
 * span's items leave the tree before the span is freed, and a slot's spans before the slot.
 * Nothing allocates or fails.
 * Tests: tools/testing/ksm/forest_test.c, tools/testing/selftests/vm/ (merge), the validator.
 */
#include "unstable.h"
#include "slot.h"

static struct ksm_item *ksm_leaf_item(struct ksm_leaf *leaf)
{
	return container_of(leaf, struct ksm_item, leaf);
}

/**
 * __ksm_unstable_insert - put an item in the tree
 * @bucket: of @key
 * @span: its span
 * @pos: its position; SEEN
 * @key: its key, position bits 0
 *
 * Context: bucket lock held, owner of the slot.
 */
void __ksm_unstable_insert(struct ksm_bucket *bucket, struct ksm_span *span, unsigned int pos,
			   u64 key)
{
	lockdep_assert_held(&bucket->lock);
	ksm_item_set_key(span, pos, key);
	ksm_leaf_insert(&bucket->unstable, &span->items[pos].leaf);
	ksm_item_to(span, pos, KSM_ITEM_UNSTABLE);
}

/**
 * ksm_unstable_insert - put an item in the tree that may have equals there
 * @span: its span
 * @pos: its position; SEEN
 * @key: its key, position bits 0
 *
 * Context: owner of the slot; takes the bucket lock.
 */
void ksm_unstable_insert(struct ksm_span *span, unsigned int pos, u64 key)
{
	struct ksm_bucket *bucket = ksm_forest_bucket(&span->slot->domain->forest, key);

	spin_lock(&bucket->lock);
	__ksm_unstable_tell(bucket, key);
	__ksm_unstable_insert(bucket, span, pos, key);
	spin_unlock(&bucket->lock);
}

/**
 * ksm_unstable_erase - take an item out of the tree
 * @span: its span
 * @pos: its position; UNSTABLE
 * @to: its new state
 *
 * Context: owner of the slot; takes the bucket lock.
 */
void ksm_unstable_erase(struct ksm_span *span, unsigned int pos, enum ksm_item_state to)
{
	struct ksm_leaf *leaf = &span->items[pos].leaf;
	struct ksm_bucket *bucket = ksm_forest_bucket(&span->slot->domain->forest, leaf->key);

	spin_lock(&bucket->lock);
	rb_erase(&leaf->rb, &bucket->unstable);
	ksm_item_to(span, pos, to);
	spin_unlock(&bucket->lock);
}

/**
 * ksm_unstable_requeue - put an item that can't be merged behind its equals
 * @span: its span
 * @pos: its position; UNSTABLE
 *
 * Only the first few with a key are ever tried, so it must not stand before others for ever.
 *
 * Context: owner of the slot; takes the bucket lock.
 */
void ksm_unstable_requeue(struct ksm_span *span, unsigned int pos)
{
	struct ksm_leaf *leaf = &span->items[pos].leaf;
	struct ksm_bucket *bucket = ksm_forest_bucket(&span->slot->domain->forest, leaf->key);

	spin_lock(&bucket->lock);
	rb_erase(&leaf->rb, &bucket->unstable);
	ksm_leaf_insert(&bucket->unstable, leaf);
	spin_unlock(&bucket->lock);
}

static bool ksm_leaf_has_sample(const struct ksm_leaf *leaf, u32 sample)
{
	return leaf && ksm_key_sample(leaf->key) == sample;
}

/**
 * __ksm_sample_known - does any tree have a page with some sample
 * @bucket: of the sample
 * @sample: the sample
 *
 * Context: bucket lock held.
 * Return: whether one has.
 */
bool __ksm_sample_known(struct ksm_bucket *bucket, u32 sample)
{
	const u64 key = ksm_key(sample, 0);

	lockdep_assert_held(&bucket->lock);
	return ksm_leaf_has_sample(ksm_leaf_lower_bound(&bucket->unstable, key), sample) ||
	       ksm_leaf_has_sample(ksm_leaf_lower_bound(&bucket->stable, key), sample);
}

/**
 * __ksm_unstable_lone - find an item that thought it was alone with its sample
 * @bucket: of the sample
 * @sample: the sample
 *
 * The item is told that it is not.
 *
 * Context: bucket lock held.
 * Return: the item, once; or NULL.
 */
struct ksm_item *__ksm_unstable_lone(struct ksm_bucket *bucket, u32 sample)
{
	struct ksm_leaf *leaf = ksm_leaf_lower_bound(&bucket->unstable, ksm_key(sample, 0));
	struct ksm_item *item;

	lockdep_assert_held(&bucket->lock);
	if (!ksm_leaf_has_sample(leaf, sample) || ksm_key_full(leaf->key))
		return NULL;
	item = ksm_leaf_item(leaf);
	if (ksm_item_mark(ksm_item_span(item), ksm_item_pos(item), KSM_MARK_CROWDED))
		return NULL;
	return item;
}

/**
 * __ksm_unstable_tell - tell those who thought they were alone with a content that they are not
 * @bucket: of @key
 * @key: position bits 0; of an item or a stable node that comes to the bucket
 *
 * Who has no age and was not hit is the first of equals: it came when there was none.
 *
 * Context: bucket lock held.
 */
void __ksm_unstable_tell(struct ksm_bucket *bucket, u64 key)
{
	struct ksm_leaf *leaf = ksm_leaf_lower_bound(&bucket->unstable, key);
	struct ksm_item *item;

	lockdep_assert_held(&bucket->lock);
	__ksm_unstable_lone(bucket, ksm_key_sample(key));
	if (leaf && ksm_leaf_key(leaf) == key) {
		item = ksm_leaf_item(leaf);
		ksm_item_mark(ksm_item_span(item), ksm_item_pos(item), KSM_MARK_HIT);
	}
}

/**
 * __ksm_unstable_peer - find another item with the same key
 * @bucket: of @key
 * @key: position bits 0
 * @self: the item that asks, or NULL
 * @turn: which one of the first KSM_PEERS, counted round
 *
 * The item is told that it was hit.
 *
 * Context: bucket lock held.
 * Return: the item, or NULL.
 */
struct ksm_item *__ksm_unstable_peer(struct ksm_bucket *bucket, u64 key,
				     const struct ksm_item *self, unsigned int turn)
{
	struct ksm_leaf *leaf = ksm_leaf_lower_bound(&bucket->unstable, key), *peer[KSM_PEERS];
	struct ksm_item *item;
	unsigned int nr = 0;

	lockdep_assert_held(&bucket->lock);
	for (; leaf && ksm_leaf_key(leaf) == key && nr < KSM_PEERS; leaf = ksm_leaf_next(leaf)) {
		if (ksm_leaf_item(leaf) != self)
			peer[nr++] = leaf;
	}
	if (!nr)
		return NULL;
	item = ksm_leaf_item(peer[turn % nr]);
	ksm_item_mark(ksm_item_span(item), ksm_item_pos(item), KSM_MARK_HIT);
	return item;
}
