// SPDX-License-Identifier: GPL-2.0
/*
 * Stable nodes whose pages go: idle, migrated to another NUMA node, offline. Index layer.
 *
 * Locking: scan_sem, as said at each function; folio locks by trylock; bucket locks.
 * Lifetime: idle nodes are freed here, when stale or when nothing maps their folio any more.
 * Failure: a folio that is locked by others is looked at again after the next pass.
 * Tests: tools/testing/selftests/vm/ (counters, abi), the validator.
 */
#include <linux/rcupdate.h>
#include <linux/rmap.h>
#include <linux/swap.h>

#include "stable.h"
#include "unstable.h"

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
		__ksm_unstable_tell(bucket, ksm_leaf_key(&stable->leaf));
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
