// SPDX-License-Identifier: GPL-2.0
/*
 * Stable nodes and their trees. Index layer.
 *
 * Locking: trees, chains and places under the bucket lock; a live node's pfn, and the folio's
 * pointer to it, under the folio lock. The keyhole, ksm_stable_peek(), needs no lock.
 * Lifetime: see struct ksm_stable. The pfn of a node that was found stale is set to KSM_PFN_NONE,
 * so that nobody looks at a struct page which may have gone with its memory block.
 * Failure: no memory for a node: the page is not promoted in this pass.
 * Tests: tools/testing/selftests/vm/ (merge, dups, swap), the validator.
 */
#include <linux/memremap.h>
#include <linux/rcupdate.h>
#include <linux/rmap.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <trace/events/ksm.h>

#include "stable.h"

#define KSM_DUPS_TRIED		16

static struct kmem_cache *ksm_stable_cache;

/**
 * ksm_stable_init - create the caches of this file
 *
 * Return: 0 or -ENOMEM.
 */
int __init ksm_stable_init(void)
{
	ksm_stable_cache = KMEM_CACHE(ksm_stable, 0);
	return ksm_stable_cache ? 0 : -ENOMEM;
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
			} else if (folio_ref_count(folio)) {
				smp_rmb();	/* it may have left the swap cache just now */
				if (ksm_stable_owns(stable, folio))
					return KSM_KEYHOLE_BUSY;
			}
		}
		smp_rmb();	/* pairs with folio_migrate_ksm() */
		pfn = READ_ONCE(stable->pfn);
	} while (pfn != seen);
	return KSM_KEYHOLE_STALE;
}

/**
 * ksm_stable_peek - look from a node to its folio, without a lock
 * @stable: a node that is not freed meanwhile
 * @folio: where to store the folio, referenced
 *
 * Migration writes the new pfn before it takes the node away from the old folio, see
 * folio_migrate_ksm(); so whoever misses the node there sees the new pfn. Hot-remove waits for
 * readers before the struct pages vanish, see ksm_stable_drop_range().
 *
 * Return: see enum ksm_keyhole; @folio is valid for KSM_KEYHOLE_OK only.
 */
enum ksm_keyhole ksm_stable_peek(struct ksm_stable *stable, struct folio **folio)
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
 * ksm_stable_swapped_to - is a swap entry that of a node's folio
 * @stable: the node; an item of the caller's is linked to it
 * @entry: a real swap entry
 *
 * Return: false when it stands for another page; true when it is the folio's, or nothing is known.
 */
bool ksm_stable_swapped_to(struct ksm_stable *stable, swp_entry_t entry)
{
	struct folio *folio;
	bool same;

	switch (ksm_stable_peek(stable, &folio)) {
	case KSM_KEYHOLE_BUSY:
		return true;
	case KSM_KEYHOLE_STALE:
		return false;
	case KSM_KEYHOLE_OK:
		break;
	}
	same = folio_test_swapcache(folio) && folio->swap.val == entry.val;
	folio_put(folio);
	return same;
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

static void ksm_stable_count_chain(struct ksm_stable *stable, long chains, long dups)
{
	ksm_stat_add(&stable->domain->stats, KSM_STAT_CHAINS, chains);
	ksm_stat_add(&stable->domain->stats, KSM_STAT_DUPS, dups);
}

static struct ksm_content ksm_stable_content(const struct ksm_stable *stable)
{
	return (struct ksm_content) { .key = ksm_leaf_key(&stable->leaf), .check = stable->check };
}

static struct ksm_stable *ksm_stable_find_head(struct ksm_bucket *bucket,
					       struct ksm_content content)
{
	struct ksm_leaf *leaf = ksm_leaf_lower_bound(&bucket->stable, content.key);
	struct ksm_stable *stable;

	lockdep_assert_held(&bucket->lock);
	for (; leaf && ksm_leaf_key(leaf) == content.key; leaf = ksm_leaf_next(leaf)) {
		stable = container_of(leaf, struct ksm_stable, leaf);
		if (stable->check == content.check)
			return stable;
	}
	return NULL;
}

/**
 * __ksm_stable_insert - put a node in the tree, or behind the one that has its content
 * @bucket: of its key
 * @stable: the node; loose
 *
 * Context: bucket lock held.
 */
void __ksm_stable_insert(struct ksm_bucket *bucket, struct ksm_stable *stable)
{
	struct ksm_stable *head = ksm_stable_find_head(bucket, ksm_stable_content(stable));

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

/**
 * __ksm_stable_erase - take a node out of tree and chain
 * @bucket: of its key
 * @stable: the node
 *
 * Context: bucket lock held.
 */
void __ksm_stable_erase(struct ksm_bucket *bucket, struct ksm_stable *stable)
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

/**
 * __ksm_stable_retire - take a stale node out of the tree
 * @bucket: of its key
 * @stable: the node
 *
 * It leaves memory when its last item has left.
 *
 * Context: bucket lock held.
 */
void __ksm_stable_retire(struct ksm_bucket *bucket, struct ksm_stable *stable)
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
 * @content: its content
 *
 * From here on rmap finds the folio's mappings through the node.
 *
 * Context: folio lock held.
 */
void ksm_stable_attach_folio(struct ksm_stable *stable, struct folio *folio,
			     struct ksm_content content)
{
	struct ksm_bucket *bucket = ksm_forest_bucket(&stable->domain->forest, content.key);

	VM_WARN_ON_ONCE_FOLIO(!folio_test_locked(folio) || folio_test_large(folio), folio);
	stable->leaf.key = content.key;
	stable->check = content.check;
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

/**
 * ksm_stable_at_home - has a folio the scope that its node's key says
 * @stable: the node
 * @folio: its folio
 *
 * Return: false when it has migrated to another scope.
 */
bool ksm_stable_at_home(const struct ksm_stable *stable, const struct folio *folio)
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
 * @bucket: of its key
 * @content: the content
 * @stable: where to store the node found
 * @folio: where to store its folio, referenced
 *
 * Context: bucket lock held. Nodes found stale leave the tree.
 * Return: what was found; @stable and @folio are valid for KSM_MATCH_ROOM only.
 */
enum ksm_match __ksm_stable_lookup(struct ksm_bucket *bucket, struct ksm_content content,
				   struct ksm_stable **stable, struct folio **folio)
{
	struct ksm_stable *head;
	enum ksm_match match;

	while ((head = ksm_stable_find_head(bucket, content))) {
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
 * Return: the content; with key 0 when there are none or several, or the page can't be had.
 */
struct ksm_content __ksm_stable_sole(struct ksm_bucket *bucket, u32 sample, struct folio **folio)
{
	struct ksm_leaf *leaf = ksm_leaf_lower_bound(&bucket->stable, ksm_key(sample, 0)), *next;
	struct ksm_content sole = {};
	struct ksm_stable *stable;

	lockdep_assert_held(&bucket->lock);
	if (!leaf || ksm_key_sample(leaf->key) != sample)
		return sole;
	next = ksm_leaf_next(leaf);
	if (next && ksm_key_sample(next->key) == sample)
		return sole;
	sole = ksm_stable_content(container_of(leaf, struct ksm_stable, leaf));
	if (__ksm_stable_lookup(bucket, sole, &stable, folio) != KSM_MATCH_ROOM)
		sole.key = 0;
	return sole;
}

/**
 * ksm_stable_lookup - find a KSM page of some content
 * @domain: where
 * @content: the content
 * @stable: where to store the node found
 * @folio: where to store its folio, referenced
 *
 * Context: takes the bucket lock.
 * Return: as __ksm_stable_lookup().
 */
enum ksm_match ksm_stable_lookup(struct ksm_domain *domain, struct ksm_content content,
				 struct ksm_stable **stable, struct folio **folio)
{
	struct ksm_bucket *bucket = ksm_forest_bucket(&domain->forest, content.key);
	enum ksm_match match;

	spin_lock(&bucket->lock);
	match = __ksm_stable_lookup(bucket, content, stable, folio);
	spin_unlock(&bucket->lock);
	return match;
}
