/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Spans: what is remembered of up to 16 consecutive virtual pages of one mm. State layer, pure.
 *
 * A block is an aligned run of KSM_BLOCK_PAGES pages. Its spans form a short list, ascending and
 * without overlap; each covers as much of the block as was worth covering when it was made (4, 8
 * or 16 pages, clipped to a VMA), so that a lone page does not pay for fifteen others.
 *
 *	           first visit             equal twice
 *	  NONE ------------------> SEEN ----------------> UNSTABLE
 *	   ^ |                      | ^                    |    |
 *	   | |      page gone       | |      changed       |    |
 *	   | |<---------------------+ +--------------------+    |
 *	   | |                      |                           |
 *	   | | adopt (fork,         |  attach, promote          |
 *	   | |  swap-in)            v                           |
 *	   | +-----------------> MERGED <-----------------------+
 *	   |   COW, unmap, unmerge  |
 *	   +------------------------+
 */
#ifndef _MM_KSM_SPAN_H
#define _MM_KSM_SPAN_H

#include "forest.h"
#include "stats.h"

#define KSM_BLOCK_SHIFT		4
#define KSM_BLOCK_PAGES		16U
#define KSM_AGE_MAX		3U

struct anon_vma;
struct ksm_slot;
struct ksm_stable;

enum ksm_item_state {
	KSM_ITEM_NONE,
	KSM_ITEM_SEEN,
	KSM_ITEM_UNSTABLE,
	KSM_ITEM_MERGED,
};

/**
 * struct ksm_link - an item on its stable node's list
 * @node: link in ksm_stable.items
 * @anon_vma: a reference; finds, with the item's pgoff, every VMA that may map the page
 * @stable: the stable node, with the item's position in the lowest bits
 */
struct ksm_link {
	struct hlist_node node;
	struct anon_vma *anon_vma;
	u64 stable;
};

/**
 * struct ksm_item - the state of one virtual page
 * @leaf: while SEEN (the key only) or UNSTABLE
 * @link: while MERGED
 *
 * The last word's lowest KSM_KEY_POS_BITS bits are the item's position in its span, whatever the
 * state.
 */
struct ksm_item {
	union {
		struct ksm_leaf leaf;
		struct ksm_link link;
	};
};

/**
 * enum ksm_mark - what others tell the owner of an item
 * @KSM_MARK_CROWDED: others have the same sample, so verify by the full digest
 * @KSM_MARK_HIT: UNSTABLE, and another was equal; if they didn't get merged, it has to look itself
 */
enum ksm_mark {
	KSM_MARK_CROWDED,
	KSM_MARK_HIT,
};

/**
 * struct ksm_span - items and what they have in common
 * @slot: the mm's registration; constant
 * @next: the next span of the same block
 * @block: page number of the first page >> KSM_BLOCK_SHIFT; constant
 * @delta: pgoff less page number of all merged items; constant while @merged is not 0
 * @marks: 2 bits an item, see enum ksm_mark. Set by the owner or, while the item is UNSTABLE, by
 *	whoever holds the bucket lock of its key, so atomic; cleared by the owner
 * @ages: 2 bits an item: an unresolved match is tried again each 1 << age passes
 * @pass: the pass that met the span last
 * @seen: items SEEN
 * @unstable: items UNSTABLE
 * @merged: items MERGED
 * @first: number in the block of the first page; constant
 * @nr: number of items; constant
 * @calm: how often in a row each page was calm, see smart_scan.c
 * @items: the items
 *
 * All that is neither constant nor said otherwise belongs to the owner of the slot, see slot.h.
 */
struct ksm_span {
	struct ksm_slot *slot;
	struct ksm_span *next;
	unsigned long block;
	unsigned long delta;
	unsigned long marks;
	u32 ages;
	u32 pass;
	u16 seen;
	u16 unstable;
	u16 merged;
	u8 first;
	u8 nr;
	u16 calm[2];
	struct ksm_item items[] __aligned(16);
};

static inline enum ksm_item_state ksm_item_state(const struct ksm_span *span, unsigned int pos)
{
	if (span->merged >> pos & 1)
		return KSM_ITEM_MERGED;
	if (span->unstable >> pos & 1)
		return KSM_ITEM_UNSTABLE;
	return span->seen >> pos & 1 ? KSM_ITEM_SEEN : KSM_ITEM_NONE;
}

static inline unsigned int ksm_mark_bit(unsigned int pos, enum ksm_mark mark)
{
	return mark * KSM_BLOCK_PAGES + pos;
}

static inline bool ksm_item_marked(const struct ksm_span *span, unsigned int pos,
				   enum ksm_mark mark)
{
	return test_bit(ksm_mark_bit(pos, mark), &span->marks);
}

/* Returns whether it was marked before. */
static inline bool ksm_item_mark(struct ksm_span *span, unsigned int pos, enum ksm_mark mark)
{
	return test_and_set_bit(ksm_mark_bit(pos, mark), &span->marks);
}

static inline void ksm_item_unmark(struct ksm_span *span, unsigned int pos, enum ksm_mark mark)
{
	clear_bit(ksm_mark_bit(pos, mark), &span->marks);
}

static inline bool ksm_span_empty(const struct ksm_span *span)
{
	return !(span->seen | span->unstable | span->merged);
}

static inline u64 ksm_item_key(const struct ksm_span *span, unsigned int pos)
{
	return ksm_leaf_key(&span->items[pos].leaf);
}

static inline struct ksm_stable *ksm_item_stable(const struct ksm_span *span, unsigned int pos)
{
	return (struct ksm_stable *)(unsigned long)(span->items[pos].link.stable &
						    ~KSM_KEY_POS_MASK);
}

static inline unsigned int ksm_item_pos(const struct ksm_item *item)
{
	return item->leaf.key & KSM_KEY_POS_MASK;
}

static inline struct ksm_span *ksm_item_span(struct ksm_item *item)
{
	return container_of(item - ksm_item_pos(item), struct ksm_span, items[0]);
}

/* The page number (address >> PAGE_SHIFT) of an item. */
static inline unsigned long ksm_item_vpn(const struct ksm_span *span, unsigned int pos)
{
	return (span->block << KSM_BLOCK_SHIFT) + span->first + pos;
}

static inline unsigned long ksm_item_address(const struct ksm_span *span, unsigned int pos)
{
	return ksm_item_vpn(span, pos) << PAGE_SHIFT;
}

static inline unsigned long ksm_item_pgoff(const struct ksm_span *span, unsigned int pos)
{
	return ksm_item_vpn(span, pos) + span->delta;
}

static inline unsigned int ksm_item_age(const struct ksm_span *span, unsigned int pos)
{
	return span->ages >> (2 * pos) & 3;
}

size_t ksm_span_size(unsigned int nr);
void ksm_span_init(struct ksm_span *span, struct ksm_slot *slot, unsigned long block,
		   unsigned int first, unsigned int nr);
bool ksm_span_fit(u16 wanted, unsigned int low, unsigned int high, unsigned int *first,
		  unsigned int *nr);
u16 ksm_span_cover(const struct ksm_span *span);
void ksm_item_move(struct ksm_stats *stats, struct ksm_span *span, unsigned int pos,
		   enum ksm_item_state to);
void ksm_item_set_key(struct ksm_span *span, unsigned int pos, u64 key);
void ksm_item_set_age(struct ksm_span *span, unsigned int pos, unsigned int age);

#endif /* _MM_KSM_SPAN_H */
