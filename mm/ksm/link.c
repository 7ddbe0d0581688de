// SPDX-License-Identifier: GPL-2.0
/*
 * Items on the lists of stable nodes, and orphans. Index layer.
 *
 * Locking: the items of a live node under the folio lock, those of a stale one under the bucket
 * lock; orphans under the folio lock. anon_vma references are dropped under none of the spinlocks.
 * Lifetime: an item on a list keeps its node, a node with items is never freed. A node that loses
 * its last item goes on the idle list, or when stale at once.
 * Failure: no memory for an orphan, or too many of them: reclaim can't find that mapping until the
 * next pass met it; or a swap-in makes a copy instead.
 * Tests: tools/testing/selftests/vm/ (unmerge, swap, exit), the validator.
 */
#include <linux/rmap.h>
#include <linux/slab.h>
#include <trace/events/ksm.h>

#include "stable.h"

#define KSM_ORPHANS_MAX		256	/* of a node */
#define KSM_ITEMS_COMPARED	256
#define KSM_VMAS_LOOKED_AT	64

static struct kmem_cache *ksm_orphan_cache;

/**
 * ksm_link_init - create the cache of this file
 *
 * Return: 0 or -ENOMEM.
 */
int __init ksm_link_init(void)
{
	ksm_orphan_cache = KMEM_CACHE(ksm_orphan, 0);
	return ksm_orphan_cache ? 0 : -ENOMEM;
}

static void ksm_stable_set_idle(struct ksm_stable *stable, bool idle)
{
	spin_lock(&stable->domain->idle_lock);
	if (idle)
		list_move_tail(&stable->idle, &stable->domain->idle);
	else
		list_del_init(&stable->idle);
	spin_unlock(&stable->domain->idle_lock);
}

static void ksm_orphan_free(struct ksm_stable *stable, struct ksm_orphan *orphan)
{
	hlist_del(&orphan->node);
	stable->nr_orphans--;
	put_anon_vma(orphan->anon_vma);
	ksm_stat_add(&stable->domain->stats, KSM_STAT_METADATA,
		     -(long)kmem_cache_size(ksm_orphan_cache));
	kmem_cache_free(ksm_orphan_cache, orphan);
}

/**
 * ksm_stable_free_orphans - forget a node's orphans
 * @stable: the node
 *
 * Context: folio lock held, or the node is stale and the caller's; no spinlock. May sleep.
 */
void ksm_stable_free_orphans(struct ksm_stable *stable)
{
	struct ksm_orphan *orphan;
	struct hlist_node *next;

	hlist_for_each_entry_safe(orphan, next, &stable->orphans, node)
		ksm_orphan_free(stable, orphan);
}

/* Have all who could map the page there gone? Who changes a VMA empties the tree for a moment. */
static bool ksm_orphan_done(struct ksm_orphan *orphan)
{
	bool done = false;

	if (anon_vma_trylock_read(orphan->anon_vma)) {
		done = RB_EMPTY_ROOT(&orphan->anon_vma->rb_root.rb_root);
		anon_vma_unlock_read(orphan->anon_vma);
	}
	return done;
}

static void ksm_stable_prune_orphans(struct ksm_stable *stable)
{
	struct ksm_orphan *orphan;
	struct hlist_node *next;

	hlist_for_each_entry_safe(orphan, next, &stable->orphans, node) {
		if (ksm_orphan_done(orphan))
			ksm_orphan_free(stable, orphan);
	}
}

static struct ksm_orphan *ksm_stable_find_orphan(struct ksm_stable *stable,
						 struct anon_vma *anon_vma, unsigned long pgoff)
{
	struct ksm_orphan *orphan;

	hlist_for_each_entry(orphan, &stable->orphans, node) {
		if (orphan->anon_vma == anon_vma && orphan->pgoff == pgoff)
			return orphan;
	}
	return NULL;
}

/*
 * Returns whether rmap finds the VMAs of @anon_vma at @pgoff; false for lack of memory, or when
 * there are so many orphans that walks would take long.
 */
static bool ksm_stable_add_orphan(struct ksm_stable *stable, struct anon_vma *anon_vma,
				  unsigned long pgoff)
{
	struct ksm_orphan *orphan;

	if (ksm_stable_find_orphan(stable, anon_vma, pgoff))
		return true;
	if (stable->nr_orphans >= KSM_ORPHANS_MAX)
		ksm_stable_prune_orphans(stable);
	if (stable->nr_orphans >= KSM_ORPHANS_MAX)
		return false;
	orphan = kmem_cache_alloc(ksm_orphan_cache, GFP_NOWAIT | __GFP_NOWARN);
	if (!orphan)
		return false;
	stable->nr_orphans++;
	get_anon_vma(anon_vma);
	orphan->anon_vma = anon_vma;
	orphan->pgoff = pgoff;
	hlist_add_head(&orphan->node, &stable->orphans);
	ksm_stat_add(&stable->domain->stats, KSM_STAT_METADATA, kmem_cache_size(ksm_orphan_cache));
	return true;
}

/*
 * An item does all that an orphan does for the same place. Its reference to the anon_vma is there
 * already, so the one that is dropped, maybe under a PTE lock, is never the last.
 */
static void ksm_stable_drop_orphan(struct ksm_stable *stable, struct anon_vma *anon_vma,
				   unsigned long pgoff)
{
	struct ksm_orphan *orphan = ksm_stable_find_orphan(stable, anon_vma, pgoff);

	if (orphan)
		ksm_orphan_free(stable, orphan);
}

/**
 * ksm_stable_expect - have rmap find a mapping that is about to come without an item
 * @stable: the node
 * @anon_vma: finds the mapping's VMA
 * @pgoff: where in it
 *
 * Context: folio lock held, no spinlock; allocates without waiting.
 * Return: whether rmap will find it; false for lack of memory or too many orphans.
 */
bool ksm_stable_expect(struct ksm_stable *stable, struct anon_vma *anon_vma, unsigned long pgoff)
{
	unsigned int left = KSM_ITEMS_COMPARED;
	struct ksm_link *link;
	struct ksm_item *item;

	hlist_for_each_entry(link, &stable->items, node) {
		item = container_of(link, struct ksm_item, link);
		if (link->anon_vma == anon_vma &&
		    ksm_item_pgoff(ksm_item_span(item), ksm_item_pos(item)) == pgoff)
			return true;
		if (!--left)
			break;
	}
	return ksm_stable_add_orphan(stable, anon_vma, pgoff);
}

/**
 * ksm_item_link - link an item to the node whose folio its page maps, or is about to map
 * @span: its span
 * @pos: its position; not UNSTABLE
 * @stable: the node
 * @anon_vma: finds the mapping's VMA; gets a reference
 * @pgoff: where in it
 *
 * Context: folio lock held (or the node is not yet known to anybody), owner of the slot; PTE lock
 * may be held. The span's other merged items have the same pgoff less page number.
 */
void ksm_item_link(struct ksm_span *span, unsigned int pos, struct ksm_stable *stable,
		   struct anon_vma *anon_vma, unsigned long pgoff)
{
	struct ksm_link *link = &span->items[pos].link;

	VM_WARN_ON_ONCE(span->merged && pgoff != ksm_item_pgoff(span, pos));
	if (!span->merged)
		span->delta = pgoff - ksm_item_vpn(span, pos);
	ksm_item_to(span, pos, KSM_ITEM_MERGED);
	get_anon_vma(anon_vma);
	link->anon_vma = anon_vma;
	link->stable = (unsigned long)stable | pos;
	hlist_add_head(&link->node, &stable->items);
	ksm_stable_drop_orphan(stable, anon_vma, pgoff);
	if (!stable->nr_items)
		ksm_stat_add(&stable->domain->stats, KSM_STAT_SHARED, 1);
	WRITE_ONCE(stable->nr_items, stable->nr_items + 1);
	if (!list_empty(&stable->idle))
		ksm_stable_set_idle(stable, false);
}

static struct anon_vma *__ksm_item_unlink(struct ksm_span *span, unsigned int pos,
					  struct ksm_stable *stable)
{
	struct ksm_link *link = &span->items[pos].link;
	struct anon_vma *anon_vma = link->anon_vma;

	hlist_del(&link->node);
	WRITE_ONCE(stable->nr_items, stable->nr_items - 1);
	if (!stable->nr_items)
		ksm_stat_add(&stable->domain->stats, KSM_STAT_SHARED, -1);
	ksm_item_to(span, pos, KSM_ITEM_NONE);
	ksm_item_set_key(span, pos, 0);
	trace_ksm_remove_rmap_item(stable->pfn, &span->items[pos], ksm_slot_mm(span->slot));
	return anon_vma;
}

/*
 * Has an anon_vma VMAs of other mms? They may map the page without an item. It is taken for granted
 * where the mm has so many itself that the search would be long.
 */
static bool ksm_anon_vma_forked(struct anon_vma *anon_vma, unsigned long pgoff,
				struct mm_struct *mm)
{
	unsigned int left = KSM_VMAS_LOOKED_AT;
	struct anon_vma_chain *avc;
	bool forked = false;

	anon_vma_lock_read(anon_vma);
	anon_vma_interval_tree_foreach(avc, &anon_vma->rb_root, pgoff, pgoff) {
		forked = avc->vma->vm_mm != mm || !--left;
		if (forked)
			break;
	}
	anon_vma_unlock_read(anon_vma);
	return forked;
}

/*
 * May the page be mapped at an item's place when that is gone? By a fork; or again by the mm
 * itself, when it comes from the swap cache.
 */
static bool ksm_item_leaves_orphan(struct folio *folio, struct anon_vma *anon_vma,
				   unsigned long pgoff, struct mm_struct *mm)
{
	return (folio_test_swapcache(folio) && !ksm_mm_gone(mm)) ||
	       ksm_anon_vma_forked(anon_vma, pgoff, mm);
}

static void ksm_item_unlink_live(struct ksm_span *span, unsigned int pos, struct ksm_stable *stable,
				 struct folio *folio)
{
	unsigned long pgoff = ksm_item_pgoff(span, pos);
	struct anon_vma *anon_vma;

	/* Idle before it counts as gone, or else a knob could change with neither to be seen. */
	if (stable->nr_items == 1)
		ksm_stable_set_idle(stable, true);
	anon_vma = __ksm_item_unlink(span, pos, stable);
	if (!folio_mapped(folio) && !folio_test_swapcache(folio))
		ksm_stable_free_orphans(stable);
	else if (ksm_item_leaves_orphan(folio, anon_vma, pgoff, ksm_slot_mm(span->slot)))
		ksm_stable_add_orphan(stable, anon_vma, pgoff);
	put_anon_vma(anon_vma);
}

static void ksm_item_unlink_stale(struct ksm_span *span, unsigned int pos,
				  struct ksm_stable *stable)
{
	struct ksm_bucket *bucket = ksm_forest_bucket(&stable->domain->forest, stable->leaf.key);
	struct anon_vma *anon_vma;
	bool last;

	spin_lock(&bucket->lock);
	__ksm_stable_retire(bucket, stable);
	anon_vma = __ksm_item_unlink(span, pos, stable);
	last = !stable->nr_items;
	spin_unlock(&bucket->lock);

	put_anon_vma(anon_vma);
	if (last) {
		ksm_stable_free_orphans(stable);
		ksm_stable_free(stable);
	}
}

/**
 * ksm_item_unlink - take an item off its node; it becomes NONE
 * @span: its span
 * @pos: its position; MERGED
 * @wait: wait for the folio lock
 *
 * Context: owner of the slot; no folio, PTE or bucket lock held. May sleep if @wait.
 * Return: 0; or -EAGAIN when @wait is false and the folio is locked, then the item stays.
 */
int ksm_item_unlink(struct ksm_span *span, unsigned int pos, bool wait)
{
	struct ksm_stable *stable = ksm_item_stable(span, pos);
	struct folio *folio;
	bool live;

	for (;;) {
		switch (ksm_stable_peek(stable, &folio)) {
		case KSM_KEYHOLE_STALE:
			ksm_item_unlink_stale(span, pos, stable);
			return 0;
		case KSM_KEYHOLE_BUSY:
			if (!wait)
				return -EAGAIN;
			schedule_timeout_uninterruptible(1);
			continue;
		case KSM_KEYHOLE_OK:
			break;
		}
		if (wait) {
			folio_lock(folio);
		} else if (!folio_trylock(folio)) {
			folio_put(folio);
			return -EAGAIN;
		}
		live = ksm_stable_owns(stable, folio);
		if (live)
			ksm_item_unlink_live(span, pos, stable, folio);
		folio_unlock(folio);
		folio_put(folio);
		if (live)
			return 0;
	}
}
