// SPDX-License-Identifier: GPL-2.0
/*
 * Spans: layout and the state of their items. State layer, pure.
 *
 * Locking: the owner of the slot changes its spans; see span.h for the one exception. Lifetime:
 * slot.c allocates and frees; a span is freed when none of its items is in a tree or on a list.
 * Nothing here allocates or fails. Tests: tools/testing/ksm/span_test.c.
 */
#include "span.h"

static_assert(KSM_BLOCK_PAGES == 1 << KSM_BLOCK_SHIFT);
static_assert(offsetof(struct ksm_leaf, key) == offsetof(struct ksm_link, stable));
static_assert(sizeof(void *) < 8 || sizeof(struct ksm_item) == 32);
static_assert(sizeof(void *) < 8 || offsetof(struct ksm_span, items) == 64);

/**
 * ksm_span_size - bytes that a span takes
 * @nr: number of its items
 *
 * Return: the size.
 */
size_t ksm_span_size(unsigned int nr)
{
	return offsetof(struct ksm_span, items) + nr * sizeof(struct ksm_item);
}

/**
 * ksm_span_init - make a span whose items are all NONE
 * @span: ksm_span_size(@nr) zeroed bytes
 * @slot: the owner
 * @block: number of the block
 * @first: first page in the block
 * @nr: number of pages
 */
void ksm_span_init(struct ksm_span *span, struct ksm_slot *slot, unsigned long block,
		   unsigned int first, unsigned int nr)
{
	unsigned int pos;

	span->slot = slot;
	span->block = block;
	span->first = first;
	span->nr = nr;
	for (pos = 0; pos < nr; pos++)
		span->items[pos].leaf.key = pos;
}

/**
 * ksm_span_cover - the pages of its block that a span covers
 * @span: the span
 *
 * Return: a bit for each page.
 */
u16 ksm_span_cover(const struct ksm_span *span)
{
	return ((1U << span->nr) - 1) << span->first;
}

/**
 * ksm_span_fit - choose the extent of a new span
 * @wanted: pages of the block that have no span and want one
 * @low: first page of the block that the span may cover
 * @high: first page behind those that it may cover
 * @first: where to store the first page
 * @nr: where to store the number of pages
 *
 * The extent is the smallest aligned run of 4, 8 or 16 pages with all the wanted ones that lie in
 * [@low, @high), clipped to these limits.
 *
 * Return: whether anything is wanted.
 */
bool ksm_span_fit(u16 wanted, unsigned int low, unsigned int high, unsigned int *first,
		  unsigned int *nr)
{
	unsigned int begin, end, size;

	wanted &= ((1U << high) - 1) & ~((1U << low) - 1);
	if (!wanted)
		return false;
	begin = __ffs(wanted);
	end = __fls(wanted);
	for (size = 4; begin / size != end / size; size *= 2)
		;
	*first = max(begin / size * size, low);
	*nr = min(begin / size * size + size, high) - *first;
	return true;
}

/**
 * ksm_item_move - give an item another state
 * @stats: the domain's counters
 * @span: its span
 * @pos: its position
 * @to: the new state; the caller has linked or unlinked what goes with it
 *
 * Context: the owner of the slot; to and from UNSTABLE also under the bucket lock.
 */
void ksm_item_move(struct ksm_stats *stats, struct ksm_span *span, unsigned int pos,
		   enum ksm_item_state to)
{
	const enum ksm_item_state from = ksm_item_state(span, pos);
	const u16 bit = 1U << pos;

	if (from != KSM_ITEM_NONE)
		ksm_stat_add(stats, (enum ksm_stat)from, -1);
	span->seen &= ~bit;
	span->unstable &= ~bit;
	span->merged &= ~bit;
	if (from == KSM_ITEM_UNSTABLE)
		ksm_item_unmark(span, pos, KSM_MARK_HIT);
	switch (to) {
	case KSM_ITEM_SEEN:
		span->seen |= bit;
		break;
	case KSM_ITEM_UNSTABLE:
		span->unstable |= bit;
		break;
	case KSM_ITEM_MERGED:
		span->merged |= bit;
		break;
	case KSM_ITEM_NONE:
		ksm_item_unmark(span, pos, KSM_MARK_CROWDED);
		ksm_item_set_age(span, pos, 0);
		/* What comes there next is not known to be calm. */
		span->calm[0] &= ~bit;
		span->calm[1] &= ~bit;
		break;
	}
	if (to != KSM_ITEM_NONE)
		ksm_stat_add(stats, (enum ksm_stat)to, 1);
}

/**
 * ksm_item_set_key - remember a digest
 * @span: its span
 * @pos: its position
 * @key: position bits 0
 *
 * Context: the item is neither UNSTABLE nor MERGED.
 */
void ksm_item_set_key(struct ksm_span *span, unsigned int pos, u64 key)
{
	VM_WARN_ON_ONCE(key & KSM_KEY_POS_MASK);
	span->items[pos].leaf.key = key | pos;
}

/**
 * ksm_item_set_age - say how soon an unresolved match is tried again
 * @span: its span
 * @pos: its position
 * @age: 0 for nothing unresolved, else each 1 << @age passes; at most 3
 */
void ksm_item_set_age(struct ksm_span *span, unsigned int pos, unsigned int age)
{
	span->ages &= ~(3U << (2 * pos));
	span->ages |= min(age, KSM_AGE_MAX) << (2 * pos);
}
