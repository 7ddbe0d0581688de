// SPDX-License-Identifier: GPL-2.0
/*
 * The validator: do trees, lists, counters and page tables agree? Debug kernels only. Front layer.
 *
 * Writing to debugfs ksm/validate checks everything at a moment when no scanner runs, and fails
 * with -EUCLEAN after a message for each disagreement. What a write, an unmap or an exit leaves
 * behind until the next pass (an item whose page has gone) is no disagreement.
 *
 * debugfs ksm/key_bits is a mask for the full digest in keys: the fewer bits, the more contents
 * collide. It can be changed while nothing is merged, else -EBUSY.
 *
 * Locking: scan_sem for write, so no scanner and no knob; slots are claimed one at a time, with
 * mmap_lock for read; folio locks by trylock, what is busy is not checked. Lifetime: nothing is
 * kept. Failure: -EUCLEAN.
 * Tests: all tests call it; the mutants show that it finds what it should.
 */
#include <linux/debugfs.h>
#include <linux/memory_hotplug.h>
#include <linux/pagewalk.h>
#include <linux/rmap.h>
#include <linux/swap.h>

#include "../internal.h"
#include "front.h"
#include "slot.h"
#include "stable.h"

/**
 * struct ksm_check - a run of the validator
 * @domain: what is checked
 * @errors: disagreements found
 * @items: items met, by state
 * @unstable: leaves met in unstable trees
 * @mm_merged: merged items of the mm in hand
 * @mm_items: all items of the mm in hand
 * @slot: the mm in hand
 */
struct ksm_check {
	struct ksm_domain *domain;
	unsigned long errors;
	unsigned long items[KSM_ITEM_MERGED + 1];
	unsigned long unstable;
	unsigned long mm_merged;
	unsigned long mm_items;
	struct ksm_slot *slot;
};

#define KSM_CHECKED_ITEMS	64	/* nodes with more are checked once, not for each item */

#define ksm_check(_check, _ok, _fmt, ...)						\
({											\
	bool __ok = (_ok);								\
	if (!__ok && (_check)->errors++ < 20)						\
		pr_err("ksm: validate: " _fmt "\n", ##__VA_ARGS__);			\
	__ok;										\
})

static void ksm_check_merged(struct ksm_check *check, struct ksm_span *span, unsigned int pos)
{
	struct ksm_stable *stable = ksm_item_stable(span, pos);
	struct ksm_link *link, *own = &span->items[pos].link;
	struct folio *folio;
	bool found = false;

	if (!ksm_check(check, stable && own->anon_vma, "merged item %lx names nothing",
		       ksm_item_address(span, pos)))
		return;
	ksm_check(check, stable->nr_items, "node of merged item %lx has no items",
		  ksm_item_address(span, pos));
	folio = stable->nr_items <= KSM_CHECKED_ITEMS ? ksm_stable_trylock(stable) : NULL;
	if (!folio)
		return;
	hlist_for_each_entry(link, &stable->items, node)
		found |= link == own;
	ksm_check(check, found, "merged item %lx is not on its node's list",
		  ksm_item_address(span, pos));
	folio_unlock(folio);
	folio_put(folio);
}

static void ksm_check_span(struct ksm_check *check, struct ksm_span *span, unsigned long block)
{
	unsigned int pos;

	ksm_check(check, span->slot == check->slot && span->block == block,
		  "span of block %lx is lost", block);
	ksm_check(check, !(span->seen & span->unstable) && !(span->seen & span->merged) &&
		  !(span->unstable & span->merged), "states of block %lx overlap", block);
	ksm_check(check, !span->next || span->next->first >= span->first + span->nr,
		  "spans of block %lx overlap", block);
	for (pos = 0; pos < span->nr; pos++) {
		enum ksm_item_state state = ksm_item_state(span, pos);

		check->items[state]++;
		check->mm_items += state != KSM_ITEM_NONE;
		check->mm_merged += state == KSM_ITEM_MERGED;
		ksm_check(check, state == KSM_ITEM_NONE || ksm_item_pos(&span->items[pos]) == pos,
			  "item %lx lost its position", ksm_item_address(span, pos));
		ksm_check(check,
			  state != KSM_ITEM_UNSTABLE || !ksm_key_full(ksm_item_key(span, pos)) ||
				  ksm_item_marked(span, pos, KSM_MARK_CROWDED),
			  "item %lx has a full digest but is not crowded",
			  ksm_item_address(span, pos));
		if (state == KSM_ITEM_MERGED)
			ksm_check_merged(check, span, pos);
	}
}

static void ksm_check_spans(struct ksm_check *check)
{
	struct mm_struct *mm = ksm_slot_mm(check->slot);
	struct ksm_span *head, *span;
	unsigned long block, nr = 0;

	check->mm_merged = 0;
	check->mm_items = 0;
	xa_for_each(&check->slot->spans, block, head) {
		for (span = head; span; span = span->next, nr++)
			ksm_check_span(check, span, block);
		cond_resched();
	}
	ksm_check(check, nr == check->slot->nr_spans, "slot has %lu spans, counts %lu", nr,
		  check->slot->nr_spans);
	ksm_check(check, check->mm_items == mm->ksm_rmap_items, "mm has %lu items, counts %lu",
		  check->mm_items, mm->ksm_rmap_items);
	ksm_check(check, check->mm_merged == mm->ksm_merging_pages,
		  "mm has %lu merged items, counts %lu", check->mm_merged, mm->ksm_merging_pages);
}

static bool ksm_anon_vma_has(struct anon_vma *anon_vma, unsigned long pgoff,
			     struct vm_area_struct *vma)
{
	struct anon_vma_chain *avc;

	if (anon_vma_trylock_read(anon_vma)) {
		anon_vma_interval_tree_foreach(avc, &anon_vma->rb_root, pgoff, pgoff) {
			if (avc->vma == vma) {
				anon_vma_unlock_read(anon_vma);
				return true;
			}
		}
		anon_vma_unlock_read(anon_vma);
		return false;
	}
	return true;	/* busy, not checked */
}

/* Does rmap find the mapping of a KSM page at @addr? */
static bool ksm_rmap_finds(struct ksm_stable *stable, struct vm_area_struct *vma,
			   unsigned long addr)
{
	unsigned long pgoff = linear_page_index(vma, addr);
	struct ksm_orphan *orphan;
	struct ksm_link *link;

	hlist_for_each_entry(link, &stable->items, node) {
		struct ksm_item *item = container_of(link, struct ksm_item, link);

		if (ksm_item_pgoff(ksm_item_span(item), ksm_item_pos(item)) == pgoff &&
		    ksm_anon_vma_has(link->anon_vma, pgoff, vma))
			return true;
	}
	hlist_for_each_entry(orphan, &stable->orphans, node) {
		if (orphan->pgoff == pgoff && ksm_anon_vma_has(orphan->anon_vma, pgoff, vma))
			return true;
	}
	return false;
}

static void ksm_check_pte(struct ksm_check *check, struct vm_area_struct *vma, unsigned long addr,
			  pte_t pte)
{
	struct page *page = pte_present(pte) ? vm_normal_page(vma, addr, pte) : NULL;
	struct ksm_stable *stable;
	struct ksm_span *span;
	struct folio *folio;
	unsigned int pos;

	if (!page || !folio_test_ksm(page_folio(page)))
		return;
	folio = page_folio(page);
	ksm_check(check, !pte_write(pte), "KSM page is writable at %lx", addr);
	ksm_check(check, !PageAnonExclusive(page), "KSM page is exclusive at %lx", addr);
	if (!folio_trylock(folio))
		return;
	stable = ksm_folio_stable(folio);
	if (stable) {
		ksm_check(check, stable->pfn == folio_pfn(folio),
			  "node of the page at %lx has another pfn", addr);
		span = ksm_span_lookup(check->slot, addr >> PAGE_SHIFT, &pos);
		if (span && ksm_item_state(span, pos) == KSM_ITEM_MERGED &&
		    ksm_item_stable(span, pos) == stable)
			ksm_check(check, ksm_rmap_finds(stable, vma, addr),
				  "rmap misses the KSM page at %lx", addr);
	}
	folio_unlock(folio);
}

static int ksm_check_pmd(pmd_t *pmd, unsigned long addr, unsigned long end, struct mm_walk *walk)
{
	pte_t *first, *ptep;
	spinlock_t *ptl;	/* of the page table */

	first = pte_offset_map_lock(walk->mm, pmd, addr, &ptl);
	if (!first)
		return 0;
	/* anon_vma locks are only tried, folio locks too: no order to break. */
	for (ptep = first; addr < end; ptep++, addr += PAGE_SIZE)
		ksm_check_pte(walk->private, walk->vma, addr, ptep_get(ptep));
	pte_unmap_unlock(first, ptl);
	cond_resched();
	return 0;
}

static const struct mm_walk_ops ksm_check_walk_ops = {
	.pmd_entry = ksm_check_pmd,
	.walk_lock = PGWALK_RDLOCK,
};

static void ksm_check_slot(struct ksm_check *check)
{
	struct mm_struct *mm = ksm_slot_mm(check->slot);
	struct vm_area_struct *vma;
	struct vma_iterator vmi;

	mmap_read_lock(mm);
	ksm_check_spans(check);
	if (!ksm_mm_gone(mm)) {
		vma_iter_init(&vmi, mm, 0);
		for_each_vma(vmi, vma) {
			if (vma->anon_vma && (vma->vm_flags & VM_MERGEABLE))
				walk_page_vma(vma, &ksm_check_walk_ops, check);
		}
	}
	mmap_read_unlock(mm);
}

static void ksm_check_node(struct ksm_check *check, struct ksm_bucket *bucket,
			   struct ksm_stable *stable, u64 key, unsigned int place)
{
	struct ksm_link *link;
	struct folio *folio;
	unsigned int nr = 0;

	ksm_check(check, stable->place == place && stable->leaf.key == key,
		  "node of key %llx is misplaced", key);
	if (!ksm_check(check, stable->pfn == KSM_PFN_NONE || pfn_to_online_page(stable->pfn),
		       "node of key %llx names pfn %lx, which is offline", key, stable->pfn))
		return;
	folio = ksm_stable_trylock(stable);
	if (!folio)
		return;
	ksm_check(check, !list_empty(&stable->idle) == !stable->nr_items,
		  "node with %u items is %sidle", stable->nr_items,
		  list_empty(&stable->idle) ? "not " : "");
	hlist_for_each_entry(link, &stable->items, node)
		nr++;
	ksm_check(check, nr == stable->nr_items, "node has %u items, counts %u", nr,
		  stable->nr_items);
	folio_unlock(folio);
	folio_put(folio);
}

/* Of two equals, each is tried again by itself: who merges with others doesn't look for it. */
static void ksm_check_equals(struct ksm_check *check, struct ksm_leaf *leaf)
{
	struct ksm_item *item = container_of(leaf, struct ksm_item, leaf);
	struct ksm_span *span = ksm_item_span(item);
	unsigned int pos = ksm_item_pos(item);

	ksm_check(check, ksm_item_age(span, pos) || ksm_item_marked(span, pos, KSM_MARK_HIT),
		  "item %lx has equals and is never tried again", ksm_item_address(span, pos));
}

static void ksm_check_tree(struct ksm_check *check, struct ksm_bucket *bucket, struct rb_root *root,
			   bool stable)
{
	struct ksm_leaf *leaf, *prev = NULL;
	struct ksm_stable *head, *dup;

	for (leaf = ksm_leaf_lower_bound(root, 0); leaf; prev = leaf, leaf = ksm_leaf_next(leaf)) {
		ksm_check(check, ksm_forest_bucket(&check->domain->forest, leaf->key) == bucket,
			  "key %llx is in the wrong bucket", leaf->key);
		ksm_check(check, !prev || ksm_leaf_key(prev) <= ksm_leaf_key(leaf),
			  "key %llx is out of order", leaf->key);
		if (!stable) {
			check->unstable++;
			if (prev && ksm_leaf_key(prev) == ksm_leaf_key(leaf)) {
				ksm_check_equals(check, prev);
				ksm_check_equals(check, leaf);
			}
			continue;
		}
		head = container_of(leaf, struct ksm_stable, leaf);
		ksm_check_node(check, bucket, head, leaf->key, KSM_STABLE_HEAD);
		list_for_each_entry(dup, &head->dups, dups)
			ksm_check_node(check, bucket, dup, leaf->key, KSM_STABLE_DUP);
	}
}

static void ksm_check_forest(struct ksm_check *check)
{
	unsigned long i;

	for (i = 0; i < 1UL << check->domain->forest.bits; i++) {
		struct ksm_bucket *bucket = &check->domain->forest.buckets[i];

		if (!(i & 255))
			cond_resched();
		/* Nobody inserts now, and most of them are empty. */
		if (!READ_ONCE(bucket->stable.rb_node) && !READ_ONCE(bucket->unstable.rb_node))
			continue;
		spin_lock(&bucket->lock);
		ksm_check_tree(check, bucket, &bucket->stable, true);
		ksm_check_tree(check, bucket, &bucket->unstable, false);
		spin_unlock(&bucket->lock);
	}
}

/*
 * Do the items met add up to the counters? Only if nobody, like an exiting task, changed these
 * meanwhile.
 */
static void ksm_check_counters(struct ksm_check *check, const long *before)
{
	const struct ksm_stats *stats = &check->domain->stats;
	unsigned int i;

	if (atomic_read(&check->domain->nr_exiting))
		return;
	for (i = 0; i < NR_KSM_STATS; i++) {
		if (before[i] != atomic_long_read(&stats->count[i]))
			return;
	}
	for (i = KSM_STAT_SEEN; i <= KSM_STAT_MERGED; i++)
		ksm_check(check, check->items[i] == before[i],
			  "%lu items are in state %u, counted are %ld", check->items[i], i,
			  before[i]);
	ksm_check(check, check->unstable == before[KSM_STAT_UNSTABLE],
		  "%lu items are in the trees, counted are %ld", check->unstable,
		  before[KSM_STAT_UNSTABLE]);
}

static int ksm_validate(struct ksm_domain *domain)
{
	struct ksm_check check = { .domain = domain };
	const bool exiting = atomic_read(&domain->nr_exiting);
	u32 stamp = --domain->unmerge_stamp;
	long before[NR_KSM_STATS];
	unsigned int i;

	for (i = 0; i < NR_KSM_STATS; i++)
		before[i] = atomic_long_read(&domain->stats.count[i]);
	while ((check.slot = ksm_slot_next(domain, stamp, &check, true))) {
		ksm_check_slot(&check);
		ksm_slot_finish(check.slot, stamp);
		ksm_slot_release(check.slot);
	}
	ksm_check_forest(&check);
	if (!exiting)
		ksm_check_counters(&check, before);
	return check.errors ? -EUCLEAN : 0;
}

static ssize_t ksm_validate_write(struct file *file, const char __user *buf, size_t count,
				  loff_t *ppos)
{
	struct ksm_domain *domain = &ksm_host;
	int err;

	down_write(&domain->scan_sem);
	err = ksm_validate(domain);
	up_write(&domain->scan_sem);
	return err ?: count;
}

static const struct file_operations ksm_validate_fops = {
	.owner = THIS_MODULE,
	.write = ksm_validate_write,
};

static int ksm_key_bits_get(void *data, u64 *bits)
{
	struct ksm_domain *domain = data;

	*bits = domain->digest.key_bits;
	return 0;
}

/* Fewer bits in the keys: contents collide, which real digests do too seldom for a test. */
static int ksm_key_bits_set(void *data, u64 bits)
{
	struct ksm_domain *domain = data;
	int err = 0;

	if (bits >> KSM_KEY_FULL_BITS)
		return -EINVAL;
	down_write(&domain->scan_sem);
	ksm_stable_sweep(domain, UINT_MAX);
	if (ksm_stat_read(&domain->stats, KSM_STAT_SHARED) || !list_empty(&domain->idle)) {
		err = -EBUSY;
	} else {
		domain->digest.key_bits = bits;
		domain->zero = ksm_digest_content(&domain->digest, page_address(ZERO_PAGE(0)));
	}
	up_write(&domain->scan_sem);
	return err;
}
DEFINE_DEBUGFS_ATTRIBUTE(ksm_key_bits_fops, ksm_key_bits_get, ksm_key_bits_set, "0x%llx\n");

static int __init ksm_validate_debugfs(void)
{
	struct dentry *dir = debugfs_create_dir("ksm", NULL);

	debugfs_create_file("validate", 0200, dir, NULL, &ksm_validate_fops);
	debugfs_create_file_unsafe("key_bits", 0600, dir, &ksm_host, &ksm_key_bits_fops);
	return 0;
}
late_initcall(ksm_validate_debugfs);
