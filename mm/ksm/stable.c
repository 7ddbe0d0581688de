// SPDX-License-Identifier: GPL-2.0
/*
 * Stable nodes, their trees, and the items linked to them. Index layer.
 *
 * Locking: trees, chains and places under the bucket lock; the items of a live node, its pfn and
 * the folio's pointer to it under the folio lock; the items of a stale node under the bucket
 * lock. anon_vma references are dropped under none of the spinlocks.
 * Lifetime: see struct ksm_stable. The pfn of a node that was found stale is set to KSM_PFN_NONE,
 * so that nobody looks at a struct page which may have gone with its memory block.
 * Failure: no memory for an orphan record: reclaim can't find that mapping until the next pass
 * met it.
 * Tests: tools/testing/selftests/vm/ (merge, unmerge, swap, exit), the validator.
 */
#include <linux/memremap.h>
#include <linux/rcupdate.h>
#include <linux/rmap.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <trace/events/ksm.h>

#include "stable.h"

#define KSM_PFN_NONE		ULONG_MAX
#define KSM_DUPS_TRIED		16

static struct kmem_cache *ksm_stable_cache;
static struct kmem_cache *ksm_orphan_cache;

/**
 * ksm_stable_init - create the caches of this file
 *
 * Return: 0 or -ENOMEM.
 */
int __init ksm_stable_init(void)
{
	ksm_stable_cache = KMEM_CACHE(ksm_stable, 0);
	ksm_orphan_cache = KMEM_CACHE(ksm_orphan, 0);
	return ksm_stable_cache && ksm_orphan_cache ? 0 : -ENOMEM;
}

/**
 * ksm_stable_alloc - make a node that stands for nothing yet
 * @domain: whose
 *
 * Context: may sleep, holds no lock below mmap_lock.
 * Return: the node, or NULL.
 */
struct ksm_stable *ksm_stable_alloc(struct ksm_domain *domain)
{
	struct ksm_stable *stable;

	stable = kmem_cache_zalloc(ksm_stable_cache, GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN);
	if (!stable)
		return NULL;
	stable->domain = domain;
	stable->pfn = KSM_PFN_NONE;
	INIT_LIST_HEAD(&stable->dups);
	INIT_LIST_HEAD(&stable->idle);
	ksm_stat_add(&domain->stats, KSM_STAT_METADATA, kmem_cache_size(ksm_stable_cache));
	return stable;
}

/**
 * ksm_stable_free - free a node
 * @stable: in no tree, not idle, without items and orphans
 */
void ksm_stable_free(struct ksm_stable *stable)
{
	VM_WARN_ON_ONCE(stable->nr_items || stable->place != KSM_STABLE_LOOSE);
	VM_WARN_ON_ONCE(!hlist_empty(&stable->orphans) || !list_empty(&stable->idle));
	ksm_stat_add(&stable->domain->stats, KSM_STAT_METADATA,
		     -(long)kmem_cache_size(ksm_stable_cache));
	kmem_cache_free(ksm_stable_cache, stable);
}

/**
 * ksm_stable_owns - does a folio's mapping point to a node
 * @stable: the node; may be stale
 * @folio: any folio
 *
 * Return: whether it does; lasting under the folio lock only.
 */
bool ksm_stable_owns(const struct ksm_stable *stable, const struct folio *folio)
{
	return (unsigned long)READ_ONCE(folio->mapping) ==
	       ((unsigned long)stable | PAGE_MAPPING_KSM);
}

/**
 * ksm_folio_stable - the node of a KSM folio
 * @folio: locked
 *
 * Return: the node, or NULL if the folio lost it.
 */
struct ksm_stable *ksm_folio_stable(const struct folio *folio)
{
	VM_WARN_ON_ONCE_FOLIO(!folio_test_locked(folio) || !folio_test_ksm(folio), folio);
	return (struct ksm_stable *)((unsigned long)folio->mapping & ~PAGE_MAPPING_FLAGS);
}

static enum ksm_keyhole __ksm_stable_peek(struct ksm_stable *stable, struct folio **foliop)
{
	unsigned long pfn = READ_ONCE(stable->pfn), seen;
	struct folio *folio;

	do {
		seen = pfn;
		if (pfn == KSM_PFN_NONE)
			return KSM_KEYHOLE_STALE;
		folio = pfn_folio(pfn);
		if (ksm_stable_owns(stable, folio)) {
			if (folio_try_get(folio)) {
				if (ksm_stable_owns(stable, folio)) {
					*foliop = folio;
					return KSM_KEYHOLE_OK;
				}
				folio_put(folio);
			} else if (folio_test_swapcache(folio)) {
				return KSM_KEYHOLE_BUSY; /* frozen; otherwise it is being freed */
			}
		}
		smp_rmb();	/* pairs with folio_migrate_ksm() */
		pfn = READ_ONCE(stable->pfn);
	} while (pfn != seen);
	return KSM_KEYHOLE_STALE;
}

/*
 * Look from a node to its folio, without a lock. Migration writes the new pfn before it takes the
 * node away from the old folio, see folio_migrate_ksm(); so whoever misses the node there sees
 * the new pfn. Hot-remove waits for readers before the struct pages vanish, see
 * ksm_stable_drop_range().
 */
static enum ksm_keyhole ksm_stable_peek(struct ksm_stable *stable, struct folio **folio)
{
	enum ksm_keyhole keyhole;

	rcu_read_lock();
	keyhole = __ksm_stable_peek(stable, folio);
	rcu_read_unlock();
	return keyhole;
}

/**
 * ksm_stable_is_stale - has a node lost its folio
 * @stable: the node; an item of the caller's is linked to it
 *
 * Return: true when it has, for ever; false when it has not yet, or nothing is known.
 */
bool ksm_stable_is_stale(struct ksm_stable *stable)
{
	struct folio *folio;
	enum ksm_keyhole keyhole = ksm_stable_peek(stable, &folio);

	if (keyhole == KSM_KEYHOLE_OK)
		folio_put(folio);
	return keyhole == KSM_KEYHOLE_STALE;
}

/**
 * ksm_stable_is_lone - is a KSM page mapped just once
 * @stable: the node; an item of the caller's is linked to it
 *
 * Return: whether it is, as far as can be told without locks.
 */
bool ksm_stable_is_lone(struct ksm_stable *stable)
{
	struct folio *folio;
	bool lone;

	if (READ_ONCE(stable->nr_items) > 1 || ksm_stable_peek(stable, &folio) != KSM_KEYHOLE_OK)
		return false;
	lone = folio_mapcount(folio) == 1;
	folio_put(folio);
	return lone;
}

static void ksm_stable_count_chain(struct ksm_stable *stable, long chains, long dups)
{
	ksm_stat_add(&stable->domain->stats, KSM_STAT_CHAINS, chains);
	ksm_stat_add(&stable->domain->stats, KSM_STAT_DUPS, dups);
}

static struct ksm_stable *ksm_stable_find_head(struct ksm_bucket *bucket, u64 key)
{
	struct ksm_leaf *leaf = ksm_leaf_lower_bound(&bucket->stable, key);

	lockdep_assert_held(&bucket->lock);
	return leaf && ksm_leaf_key(leaf) == key ? container_of(leaf, struct ksm_stable, leaf) :
						   NULL;
}

static void __ksm_stable_insert(struct ksm_bucket *bucket, struct ksm_stable *stable)
{
	struct ksm_stable *head = ksm_stable_find_head(bucket, stable->leaf.key);

	if (!head) {
		stable->place = KSM_STABLE_HEAD;
		ksm_leaf_insert(&bucket->stable, &stable->leaf);
		return;
	}
	if (list_empty(&head->dups))
		ksm_stable_count_chain(stable, 1, 2);
	else
		ksm_stable_count_chain(stable, 0, 1);
	stable->place = KSM_STABLE_DUP;
	list_add(&stable->dups, &head->dups);
}

static void __ksm_stable_erase_head(struct ksm_bucket *bucket, struct ksm_stable *stable)
{
	struct ksm_stable *heir = list_first_entry_or_null(&stable->dups, struct ksm_stable, dups);

	if (!heir) {
		rb_erase(&stable->leaf.rb, &bucket->stable);
		return;
	}
	rb_replace_node(&stable->leaf.rb, &heir->leaf.rb, &bucket->stable);
	list_del_init(&heir->dups);
	if (list_empty(&stable->dups)) {
		ksm_stable_count_chain(stable, -1, -2);
	} else {
		list_replace_init(&stable->dups, &heir->dups);
		ksm_stable_count_chain(stable, 0, -1);
	}
	heir->place = KSM_STABLE_HEAD;
}

static void __ksm_stable_erase(struct ksm_bucket *bucket, struct ksm_stable *stable)
{
	lockdep_assert_held(&bucket->lock);
	switch (stable->place) {
	case KSM_STABLE_HEAD:
		__ksm_stable_erase_head(bucket, stable);
		break;
	case KSM_STABLE_DUP:
		if (stable->dups.next == stable->dups.prev)
			ksm_stable_count_chain(stable, -1, -2);
		else
			ksm_stable_count_chain(stable, 0, -1);
		list_del_init(&stable->dups);
		break;
	}
	stable->place = KSM_STABLE_LOOSE;
}

/* A stale node leaves the tree at once, and memory when its last item has left. */
static void __ksm_stable_retire(struct ksm_bucket *bucket, struct ksm_stable *stable)
{
	if (stable->pfn != KSM_PFN_NONE)
		trace_ksm_remove_ksm_page(stable->pfn);
	__ksm_stable_erase(bucket, stable);
	WRITE_ONCE(stable->pfn, KSM_PFN_NONE);
}

/**
 * ksm_stable_attach_folio - make a folio a KSM page
 * @stable: new, with one item linked
 * @folio: locked, anonymous, small, all its mappings write-protected
 * @key: its content's
 *
 * From here on rmap finds the folio's mappings through the node.
 *
 * Context: folio lock held.
 */
void ksm_stable_attach_folio(struct ksm_stable *stable, struct folio *folio, u64 key)
{
	struct ksm_bucket *bucket = ksm_forest_bucket(&stable->domain->forest, key);

	VM_WARN_ON_ONCE_FOLIO(!folio_test_locked(folio) || folio_test_large(folio), folio);
	stable->leaf.key = key;
	stable->nid = folio_nid(folio);
	WRITE_ONCE(stable->pfn, folio_pfn(folio));
	WRITE_ONCE(folio->mapping, (void *)((unsigned long)stable | PAGE_MAPPING_KSM));
	folio_mark_dirty(folio);

	spin_lock(&bucket->lock);
	__ksm_stable_insert(bucket, stable);
	spin_unlock(&bucket->lock);
}

/**
 * ksm_stable_has_room - may a node get more mappings
 * @stable: the node
 * @nr: how many more
 *
 * Return: whether it may; lasting under the folio lock only.
 */
bool ksm_stable_has_room(const struct ksm_stable *stable, unsigned int nr)
{
	return READ_ONCE(stable->nr_items) + nr <=
	       READ_ONCE(stable->domain->knobs.max_page_sharing);
}

/* Has the folio the scope that the node's key says? Else it has migrated. */
static bool ksm_stable_at_home(const struct ksm_stable *stable, const struct folio *folio)
{
	return ksm_node_salt(stable->domain, folio_nid(folio)) ==
	       ksm_node_salt(stable->domain, stable->nid);
}

static enum ksm_match ksm_stable_try(struct ksm_bucket *bucket, struct ksm_stable *stable,
				     struct folio **folio)
{
	if (!ksm_stable_has_room(stable, 1))
		return KSM_MATCH_FULL;
	switch (ksm_stable_peek(stable, folio)) {
	case KSM_KEYHOLE_OK:
		if (!PageHWPoison(folio_page(*folio, 0)) && !folio_is_zone_device(*folio) &&
		    ksm_stable_at_home(stable, *folio))
			return KSM_MATCH_ROOM;
		folio_put(*folio);	/* not to be shared: have a duplicate made */
		return KSM_MATCH_FULL;
	case KSM_KEYHOLE_BUSY:
		return KSM_MATCH_BUSY;
	case KSM_KEYHOLE_STALE:
		break;
	}
	__ksm_stable_retire(bucket, stable);
	return KSM_MATCH_NONE;
}

/* Try the dups of a head, full ones going to the end of the list. */
static enum ksm_match ksm_stable_try_dups(struct ksm_bucket *bucket, struct ksm_stable *head,
					  struct ksm_stable **stablep, struct folio **folio)
{
	enum ksm_match match = KSM_MATCH_FULL;
	struct ksm_stable *dup, *next;
	unsigned int tries = KSM_DUPS_TRIED;

	list_for_each_entry_safe(dup, next, &head->dups, dups) {
		if (!tries--)
			break;
		match = ksm_stable_try(bucket, dup, folio);
		*stablep = dup;
		if (match == KSM_MATCH_ROOM)
			break;
		if (match == KSM_MATCH_FULL)
			list_move_tail(&dup->dups, &head->dups);
	}
	return match == KSM_MATCH_ROOM ? match : KSM_MATCH_FULL;
}

/**
 * __ksm_stable_lookup - find a KSM page of some content
 * @bucket: of @key
 * @key: the content's, position bits 0
 * @stable: where to store the node found
 * @folio: where to store its folio, referenced
 *
 * Context: bucket lock held. Nodes found stale leave the tree.
 * Return: what was found; @stable and @folio are valid for KSM_MATCH_ROOM only.
 */
enum ksm_match __ksm_stable_lookup(struct ksm_bucket *bucket, u64 key, struct ksm_stable **stable,
				   struct folio **folio)
{
	struct ksm_stable *head;
	enum ksm_match match;

	while ((head = ksm_stable_find_head(bucket, key))) {
		*stable = head;
		match = ksm_stable_try(bucket, head, folio);
		if (match == KSM_MATCH_FULL)
			return ksm_stable_try_dups(bucket, head, stable, folio);
		if (match != KSM_MATCH_NONE)
			return match;
	}
	return KSM_MATCH_NONE;
}

/**
 * __ksm_stable_sole - find the KSM page of some sample, if there is just one content
 * @bucket: of the sample
 * @sample: the sample
 * @folio: where to store its folio, referenced
 *
 * Context: bucket lock held.
 * Return: the key of the content; or 0 when there are none or several, or the page can't be had.
 */
u64 __ksm_stable_sole(struct ksm_bucket *bucket, u32 sample, struct folio **folio)
{
	struct ksm_leaf *leaf = ksm_leaf_lower_bound(&bucket->stable, ksm_key(sample, 0)), *next;
	struct ksm_stable *stable;
	u64 key;

	lockdep_assert_held(&bucket->lock);
	if (!leaf || ksm_key_sample(leaf->key) != sample)
		return 0;
	next = ksm_leaf_next(leaf);
	if (next && ksm_key_sample(next->key) == sample)
		return 0;
	key = ksm_leaf_key(leaf);
	return __ksm_stable_lookup(bucket, key, &stable, folio) == KSM_MATCH_ROOM ? key : 0;
}

/**
 * ksm_stable_lookup - find a KSM page of some content
 * @domain: where
 * @key: the content's, position bits 0
 * @stable: where to store the node found
 * @folio: where to store its folio, referenced
 *
 * Context: takes the bucket lock.
 * Return: as __ksm_stable_lookup().
 */
enum ksm_match ksm_stable_lookup(struct ksm_domain *domain, u64 key, struct ksm_stable **stable,
				 struct folio **folio)
{
	struct ksm_bucket *bucket = ksm_forest_bucket(&domain->forest, key);
	enum ksm_match match;

	spin_lock(&bucket->lock);
	match = __ksm_stable_lookup(bucket, key, stable, folio);
	spin_unlock(&bucket->lock);
	return match;
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

static void ksm_stable_free_orphans(struct ksm_stable *stable)
{
	struct ksm_orphan *orphan;
	struct hlist_node *next;

	hlist_for_each_entry_safe(orphan, next, &stable->orphans, node) {
		hlist_del(&orphan->node);
		put_anon_vma(orphan->anon_vma);
		ksm_stat_add(&stable->domain->stats, KSM_STAT_METADATA,
			     -(long)kmem_cache_size(ksm_orphan_cache));
		kmem_cache_free(ksm_orphan_cache, orphan);
	}
}

static void ksm_stable_add_orphan(struct ksm_stable *stable, struct anon_vma *anon_vma,
				  unsigned long pgoff)
{
	struct ksm_orphan *orphan;

	hlist_for_each_entry(orphan, &stable->orphans, node) {
		if (orphan->anon_vma == anon_vma && orphan->pgoff == pgoff)
			return;
	}
	orphan = kmem_cache_alloc(ksm_orphan_cache, GFP_NOWAIT | __GFP_NOWARN);
	if (!orphan)
		return;
	get_anon_vma(anon_vma);
	orphan->anon_vma = anon_vma;
	orphan->pgoff = pgoff;
	hlist_add_head(&orphan->node, &stable->orphans);
	ksm_stat_add(&stable->domain->stats, KSM_STAT_METADATA, kmem_cache_size(ksm_orphan_cache));
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

/* Has an anon_vma VMAs of other mms? They may map the page without an item. */
static bool ksm_anon_vma_forked(struct anon_vma *anon_vma, unsigned long pgoff,
				struct mm_struct *mm)
{
	struct anon_vma_chain *avc;
	bool forked = false;

	anon_vma_lock_read(anon_vma);
	anon_vma_interval_tree_foreach(avc, &anon_vma->rb_root, pgoff, pgoff) {
		forked = avc->vma->vm_mm != mm;
		if (forked)
			break;
	}
	anon_vma_unlock_read(anon_vma);
	return forked;
}

static void ksm_item_unlink_live(struct ksm_span *span, unsigned int pos, struct ksm_stable *stable,
				 struct folio *folio)
{
	unsigned long pgoff = ksm_item_pgoff(span, pos);
	struct anon_vma *anon_vma = __ksm_item_unlink(span, pos, stable);

	if (!folio_mapped(folio))
		ksm_stable_free_orphans(stable);
	else if (ksm_anon_vma_forked(anon_vma, pgoff, ksm_slot_mm(span->slot)))
		ksm_stable_add_orphan(stable, anon_vma, pgoff);
	if (!stable->nr_items)
		ksm_stable_set_idle(stable, true);
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
 * ksm_stable_trylock - lock a node's folio, if it can be had at once
 * @stable: a node that is not freed meanwhile
 *
 * Return: the folio, locked and referenced, whose mapping points to the node; or NULL.
 */
struct folio *ksm_stable_trylock(struct ksm_stable *stable)
{
	struct folio *folio;

	if (ksm_stable_peek(stable, &folio) != KSM_KEYHOLE_OK)
		return NULL;
	if (folio_trylock(folio)) {
		if (ksm_stable_owns(stable, folio))
			return folio;
		folio_unlock(folio);
	}
	folio_put(folio);
	return NULL;
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
			cond_resched();
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

static void ksm_stable_retire(struct ksm_stable *stable)
{
	struct ksm_bucket *bucket = ksm_forest_bucket(&stable->domain->forest, stable->leaf.key);

	spin_lock(&bucket->lock);
	__ksm_stable_retire(bucket, stable);
	spin_unlock(&bucket->lock);
}

/* The folio is still there: free the node if nothing maps it any more. */
static bool ksm_stable_sweep_live(struct ksm_stable *stable, struct folio *folio)
{
	bool gone;

	if (!folio_trylock(folio))
		return false;
	gone = ksm_stable_owns(stable, folio) && !folio_mapped(folio) && !stable->nr_items;
	if (gone) {
		ksm_stable_retire(stable);
		WRITE_ONCE(folio->mapping, (void *)PAGE_MAPPING_KSM);
	}
	folio_unlock(folio);
	return gone;
}

static bool ksm_stable_sweep_one(struct ksm_stable *stable)
{
	struct folio *folio;
	bool gone;

	switch (ksm_stable_peek(stable, &folio)) {
	case KSM_KEYHOLE_OK:
		gone = ksm_stable_sweep_live(stable, folio);
		folio_put(folio);
		return gone;
	case KSM_KEYHOLE_STALE:
		ksm_stable_retire(stable);
		return true;
	case KSM_KEYHOLE_BUSY:
		break;
	}
	return false;
}

/**
 * ksm_stable_follow_node - move a node whose folio has migrated to the tree of its new scope
 * @stable: the node; an item of the caller's is linked to it
 *
 * Context: scan_sem held; takes the folio lock by trylock.
 */
void ksm_stable_follow_node(struct ksm_stable *stable)
{
	struct ksm_domain *domain = stable->domain;
	struct folio *folio = ksm_stable_trylock(stable);
	struct ksm_bucket *bucket;
	u32 salt;

	if (!folio)
		return;
	if (!ksm_stable_at_home(stable, folio)) {
		bucket = ksm_forest_bucket(&domain->forest, stable->leaf.key);
		spin_lock(&bucket->lock);
		__ksm_stable_erase(bucket, stable);
		spin_unlock(&bucket->lock);

		salt = ksm_node_salt(domain, stable->nid) ^ ksm_node_salt(domain, folio_nid(folio));
		stable->leaf.key ^= ksm_key(salt, 0);
		stable->nid = folio_nid(folio);
		bucket = ksm_forest_bucket(&domain->forest, stable->leaf.key);
		spin_lock(&bucket->lock);
		__ksm_stable_insert(bucket, stable);
		spin_unlock(&bucket->lock);
	}
	folio_unlock(folio);
	folio_put(folio);
}

/**
 * ksm_stable_sweep - free idle nodes that have gone stale or whose folio nobody maps
 * @domain: the domain
 * @nr: how many to look at
 *
 * Context: scan_sem held, by one sweeper at a time; takes folio locks by trylock. May sleep.
 * Return: how many were freed.
 */
unsigned int ksm_stable_sweep(struct ksm_domain *domain, unsigned int nr)
{
	unsigned int freed = 0;
	LIST_HEAD(kept);

	lockdep_assert_held(&domain->scan_sem);
	spin_lock(&domain->idle_lock);
	while (nr-- && !list_empty(&domain->idle)) {
		struct ksm_stable *stable =
			list_first_entry(&domain->idle, struct ksm_stable, idle);

		list_del_init(&stable->idle);
		spin_unlock(&domain->idle_lock);
		if (ksm_stable_sweep_one(stable)) {
			ksm_stable_free_orphans(stable);
			ksm_stable_free(stable);
			freed++;
			stable = NULL;
		}
		cond_resched();
		spin_lock(&domain->idle_lock);
		if (stable)
			list_add_tail(&stable->idle, &kept);
	}
	list_splice_tail(&kept, &domain->idle);
	spin_unlock(&domain->idle_lock);
	return freed;
}

static void ksm_bucket_drop_range(struct ksm_bucket *bucket, unsigned long start_pfn,
				  unsigned long end_pfn)
{
	struct ksm_stable *head, *dup, *next;
	struct ksm_leaf *leaf, *following;

	for (leaf = ksm_leaf_lower_bound(&bucket->stable, 0); leaf; leaf = following) {
		following = ksm_leaf_next(leaf);
		head = container_of(leaf, struct ksm_stable, leaf);
		list_for_each_entry_safe(dup, next, &head->dups, dups) {
			if (dup->pfn >= start_pfn && dup->pfn < end_pfn)
				__ksm_stable_retire(bucket, dup);
		}
		if (head->pfn >= start_pfn && head->pfn < end_pfn)
			__ksm_stable_retire(bucket, head);
	}
}

/**
 * ksm_stable_drop_range - forget the nodes of memory that went offline
 * @domain: the domain
 * @start_pfn: first page
 * @end_pfn: page behind the last
 *
 * Their folios are free, so the nodes are stale; but their struct pages are about to vanish, so
 * this looks at the nodes only. Their items leave when they are visited.
 *
 * Context: scan_sem held for write. May sleep.
 */
void ksm_stable_drop_range(struct ksm_domain *domain, unsigned long start_pfn,
			   unsigned long end_pfn)
{
	unsigned long i;

	lockdep_assert_held_write(&domain->scan_sem);
	for (i = 0; i < 1UL << domain->forest.bits; i++) {
		struct ksm_bucket *bucket = &domain->forest.buckets[i];

		spin_lock(&bucket->lock);
		ksm_bucket_drop_range(bucket, start_pfn, end_pfn);
		spin_unlock(&bucket->lock);
		if (!(i & 1023))
			cond_resched();
	}
	synchronize_rcu();	/* pairs with ksm_stable_peek() */
	ksm_stable_sweep(domain, UINT_MAX);
}
