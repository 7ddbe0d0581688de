// SPDX-License-Identifier: GPL-2.0
/*
 * KSM pages in reclaim, migration, swap-in and memory failure. Page table layer.
 *
 * A KSM page has no anon_vma of its own: its mappings are found through the items of its stable
 * node, each of which names an anon_vma and a page offset, and so a handful of VMAs.
 *
 * Locking: the folio lock holds the node and its lists; anon_vma locks are taken one at a time.
 * Lifetime: the node lives as long as the locked folio points to it. Failure: a mapping not yet
 * known (fork, swap-in) is missed until the next pass; then the page can't be reclaimed or moved,
 * no more.
 * Tests: swap tests and ksm_torture in tools/testing/selftests/vm/; the poison tests.
 */
#include <linux/highmem.h>
#include <linux/memcontrol.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>
#include <linux/swap.h>
#include <linux/vmstat.h>

#include "../internal.h"
#include "slot.h"
#include "stable.h"

/**
 * struct ksm_rmap - where a mapping may be
 * @anon_vma: the VMAs
 * @pgoff: where in them
 * @mm: whose item says so; NULL for an orphan
 */
struct ksm_rmap {
	struct anon_vma *anon_vma;
	unsigned long pgoff;
	struct mm_struct *mm;
};

static struct ksm_rmap ksm_item_rmap(struct ksm_link *link)
{
	struct ksm_item *item = container_of(link, struct ksm_item, link);
	struct ksm_span *span = ksm_item_span(item);

	return (struct ksm_rmap) {
		.anon_vma = link->anon_vma,
		.pgoff = ksm_item_pgoff(span, ksm_item_pos(item)),
		.mm = ksm_slot_mm(span->slot),
	};
}

/*
 * Many items say the same where mremap() left several areas of an mm with the same page offsets;
 * they were linked one after another.
 */
static bool ksm_rmap_same(const struct ksm_rmap *a, const struct ksm_rmap *b)
{
	return a->anon_vma == b->anon_vma && a->pgoff == b->pgoff && a->mm == b->mm;
}

static bool ksm_rmap_lock(struct anon_vma *anon_vma, struct rmap_walk_control *rwc)
{
	if (anon_vma_trylock_read(anon_vma))
		return true;
	if (rwc->try_lock) {
		rwc->contended = true;
		return false;
	}
	anon_vma_lock_read(anon_vma);
	return true;
}

/* Visit the VMAs of one item that are (@own) or are not of its own mm; false ends the walk. */
static bool ksm_rmap_visit(struct folio *folio, struct rmap_walk_control *rwc,
			   const struct ksm_rmap *rmap, bool own)
{
	struct anon_vma_chain *avc;
	unsigned long address;
	bool more = true, theirs;

	if (!ksm_rmap_lock(rmap->anon_vma, rwc))
		return false;
	anon_vma_interval_tree_foreach(avc, &rmap->anon_vma->rb_root, rmap->pgoff, rmap->pgoff) {
		struct vm_area_struct *vma = avc->vma;

		cond_resched();
		address = vma_address(vma, rmap->pgoff, 1);
		theirs = vma->vm_mm == rmap->mm;
		if (theirs != own || address == -EFAULT)
			continue;
		if (rwc->invalid_vma && rwc->invalid_vma(vma, rwc->arg))
			continue;
		more = rwc->rmap_one(folio, vma, address, rwc->arg) &&
		       !(rwc->done && rwc->done(folio));
		if (!more)
			break;
	}
	anon_vma_unlock_read(rmap->anon_vma);
	return more;
}

static bool ksm_rmap_visit_items(struct folio *folio, struct rmap_walk_control *rwc,
				 struct ksm_stable *stable, bool own)
{
	struct ksm_rmap rmap, last = {};
	struct ksm_link *link;

	hlist_for_each_entry(link, &stable->items, node) {
		rmap = ksm_item_rmap(link);
		if (ksm_rmap_same(&rmap, &last))
			continue;
		if (!ksm_rmap_visit(folio, rwc, &rmap, own))
			return false;
		last = rmap;
	}
	return true;
}

/**
 * rmap_walk_ksm - visit all mappings of a KSM page
 * @folio: locked
 * @rwc: what to do, see struct rmap_walk_control
 *
 * Each item's own mm comes first, then what else its anon_vma knows: forks that have no item yet.
 *
 * Context: folio lock held; sleeps for anon_vma locks unless @rwc->try_lock. Allocates nothing.
 */
void rmap_walk_ksm(struct folio *folio, struct rmap_walk_control *rwc)
{
	struct ksm_stable *stable;
	struct ksm_orphan *orphan;
	struct ksm_rmap rmap;

	if (WARN_ON_ONCE(!folio_test_locked(folio)))
		return;
	stable = ksm_folio_stable(folio);
	if (!stable)
		return;
	if (!ksm_rmap_visit_items(folio, rwc, stable, true) ||
	    !ksm_rmap_visit_items(folio, rwc, stable, false))
		return;
	hlist_for_each_entry(orphan, &stable->orphans, node) {
		rmap = (struct ksm_rmap) { .anon_vma = orphan->anon_vma, .pgoff = orphan->pgoff };
		if (!ksm_rmap_visit(folio, rwc, &rmap, false))
			return;
	}
}

#ifdef CONFIG_MIGRATION
/**
 * folio_migrate_ksm - let a stable node follow its page
 * @newfolio: locked; has the old one's mapping already
 * @folio: locked, any folio
 *
 * Whoever looks from the node to its page without a lock, and misses the node at the old folio,
 * must see the new pfn, hence the barrier; see ksm_stable_peek().
 *
 * Context: both folio locks held.
 */
void folio_migrate_ksm(struct folio *newfolio, struct folio *folio)
{
	struct ksm_stable *stable;

	if (!folio_test_ksm(folio))
		return;
	VM_WARN_ON_ONCE_FOLIO(!folio_test_locked(newfolio) || newfolio->mapping != folio->mapping,
			      newfolio);
	stable = ksm_folio_stable(folio);
	if (!stable)
		return;
	VM_WARN_ON_ONCE_FOLIO(stable->pfn != folio_pfn(folio), folio);
	/* newfolio->mapping before pfn before folio->mapping: pairs with ksm_stable_peek() */
	smp_store_release(&stable->pfn, folio_pfn(newfolio));
	smp_wmb();	/* see above */
	WRITE_ONCE(folio->mapping, (void *)PAGE_MAPPING_KSM);
}
#endif

/* A KSM page is not mapped where nobody would ever unmerge it, nor where rmap would not find it. */
static bool ksm_folio_fits_merged(struct folio *folio, struct vm_area_struct *vma,
				  unsigned long pgoff)
{
	struct ksm_stable *stable = ksm_folio_stable(folio);

	return stable && (vma->vm_flags & VM_MERGEABLE) &&
	       READ_ONCE(stable->domain->knobs.run) != KSM_RUN_UNMERGE &&
	       ksm_stable_expect(stable, vma->anon_vma, pgoff);
}

/*
 * Does the anon_vma that an anonymous folio names lead to a VMA? It may be gone, since it belongs
 * to who mapped the folio last, if anybody does: so it is compared, and not looked into.
 */
static bool ksm_vma_has_anon_vma(struct vm_area_struct *vma, const struct anon_vma *anon_vma)
{
	struct anon_vma_chain *avc;

	list_for_each_entry(avc, &vma->anon_vma_chain, same_vma) {
		if (avc->anon_vma == anon_vma)
			return true;
	}
	return false;
}

/* May @folio, read from swap, be mapped at @addr as it is? */
static bool ksm_folio_fits(struct folio *folio, struct vm_area_struct *vma, unsigned long addr)
{
	const unsigned long pgoff = linear_page_index(vma, addr);
	struct anon_vma *anon_vma;

	if (folio_test_ksm(folio))
		return ksm_folio_fits_merged(folio, vma, pgoff);
	anon_vma = folio_anon_vma(folio);
	return !anon_vma || (folio->index == pgoff && ksm_vma_has_anon_vma(vma, anon_vma));
}

/**
 * ksm_might_need_to_copy - make a page from swap fit for where it was faulted in
 * @folio: locked, in the swap cache
 * @vma: the VMA, has an anon_vma
 * @addr: the address
 *
 * What was a KSM page when it was swapped out may be wanted by VMAs that can't share an anonymous
 * page. The first to come gets it, the others get copies, to be merged again later.
 *
 * Context: mmap_lock or VMA lock held for read, no PTE lock. Sleeps.
 * Return: @folio; or a new folio, locked, up to date and charged; or NULL for lack of memory; or
 * ERR_PTR(-EHWPOISON).
 */
struct folio *ksm_might_need_to_copy(struct folio *folio, struct vm_area_struct *vma,
				     unsigned long addr)
{
	struct page *page = folio_page(folio, 0);
	struct folio *copy;

	if (folio_test_large(folio) || ksm_folio_fits(folio, vma, addr))
		return folio;
	if (PageHWPoison(page))
		return ERR_PTR(-EHWPOISON);
	if (!folio_test_uptodate(folio))
		return folio;	/* the caller reports it */

	copy = vma_alloc_folio(GFP_HIGHUSER_MOVABLE, 0, vma, addr, false);
	if (!copy)
		return NULL;
	if (mem_cgroup_charge(copy, vma->vm_mm, GFP_KERNEL))
		goto put_copy;
	if (copy_mc_user_highpage(folio_page(copy, 0), page, addr, vma)) {
		folio_put(copy);
		return ERR_PTR(-EHWPOISON);
	}
	folio_mark_dirty(copy);
	__folio_mark_uptodate(copy);
	__folio_set_locked(copy);
#ifdef CONFIG_SWAP
	count_vm_event(KSM_SWPIN_COPY);
#endif
	return copy;

put_copy:
	folio_put(copy);
	return NULL;
}

#ifdef CONFIG_MEMORY_FAILURE
static void ksm_collect_task(struct task_struct *task, struct page *page, struct list_head *to_kill,
			     const struct ksm_rmap *rmap)
{
	struct anon_vma_chain *avc;
	unsigned long address;

	anon_vma_interval_tree_foreach(avc, &rmap->anon_vma->rb_root, rmap->pgoff, rmap->pgoff) {
		struct vm_area_struct *vma = avc->vma;
		struct page_vma_mapped_walk pvmw = {
			.pfn = page_to_pfn(page), .nr_pages = 1, .vma = vma, .flags = PVMW_SYNC,
		};

		address = vma_address(vma, rmap->pgoff, 1);
		if (vma->vm_mm != task->mm || address == -EFAULT)
			continue;
		pvmw.address = address;
		if (!page_vma_mapped_walk(&pvmw))
			continue;
		page_vma_mapped_walk_done(&pvmw);
		add_to_kill_ksm(task, page, vma, to_kill, address);
	}
}

static void ksm_collect_rmap(struct page *page, struct list_head *to_kill, int force_early,
			     const struct ksm_rmap *rmap)
{
	struct task_struct *task, *victim;

	anon_vma_lock_read(rmap->anon_vma);
	rcu_read_lock();
	for_each_process(task) {
		victim = task_early_kill(task, force_early);
		if (victim)
			ksm_collect_task(victim, page, to_kill, rmap);
	}
	rcu_read_unlock();
	anon_vma_unlock_read(rmap->anon_vma);
}

/**
 * collect_procs_ksm - find the processes that map a poisoned KSM page
 * @folio: locked
 * @page: its page
 * @to_kill: where to add them
 * @force_early: also those that did not ask for early signals
 *
 * Context: folio lock held; sleeps for anon_vma locks.
 */
void collect_procs_ksm(struct folio *folio, struct page *page, struct list_head *to_kill,
		       int force_early)
{
	struct ksm_stable *stable = ksm_folio_stable(folio);
	struct ksm_orphan *orphan;
	struct ksm_rmap rmap, last = {};
	struct ksm_link *link;

	if (!stable)
		return;
	hlist_for_each_entry(link, &stable->items, node) {
		rmap = ksm_item_rmap(link);
		if (!ksm_rmap_same(&rmap, &last))
			ksm_collect_rmap(page, to_kill, force_early, &rmap);
		last = rmap;
	}
	hlist_for_each_entry(orphan, &stable->orphans, node) {
		rmap = (struct ksm_rmap) { .anon_vma = orphan->anon_vma, .pgoff = orphan->pgoff };
		ksm_collect_rmap(page, to_kill, force_early, &rmap);
	}
}
#endif
