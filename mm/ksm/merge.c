// SPDX-License-Identifier: GPL-2.0
/*
 * Merging: promote and attach, in batches. Page table layer.
 *
 * A batch is up to 16 pages of one VMA under one page table. It goes through the steps below, in
 * the order of the functions called by ksm_batch_run(); a page that fails one of them leaves the
 * batch, with its outcome noted, and is put back as it was.
 *
 *	1 collect	under the PTE lock, take references to the pages
 *	2 resolve	find the KSM pages to attach to, allocate nodes to promote with
 *	3		start of the mmu_notifier range
 *	4 lock		folio locks, all by trylock: no order, no deadlock
 *	5 protect	under the PTE lock: clear all PTEs, one TLB flush, then write-protect
 *			those whose pages nobody else holds a reference to
 *	6 compare	both sides are immutable now, and this compare decides
 *	7 promote	a page without a target becomes a KSM page
 *	  replace	the PTE of one with a target maps that: a KSM page, or the zero page
 *	8 release	unlock, end of the range, drop references
 *
 * Locking: mmap_lock is held for read by the caller, and nothing below it. Lifetime: pages and
 * targets are referenced from step 1 and 2 to step 8. Failure: any page may fail at any step,
 * without harm to it or the others. Tests: merge, cow, pins, bits, thp tests in
 * tools/testing/selftests/vm/, ksm_torture.
 */
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/hugetlb.h>
#include <linux/memremap.h>
#include <linux/mmu_notifier.h>
#include <linux/pagewalk.h>
#include <linux/rmap.h>
#include <linux/swap.h>
#include <linux/swapops.h>
#include <asm/tlbflush.h>
#include <trace/events/ksm.h>

#include "../internal.h"
#include "scan.h"

/**
 * ksm_vma_scannable - may pages of a VMA be merged
 * @vma: the VMA
 *
 * Context: mmap_lock held.
 * Return: whether they may.
 */
bool ksm_vma_scannable(struct vm_area_struct *vma)
{
	return (vma->vm_flags & VM_MERGEABLE) && vma->anon_vma && !vma_is_temporary_stack(vma);
}

/**
 * ksm_page_mergeable - may a page become, or be replaced by, a KSM page
 * @page: mapped (PTE lock held) or referenced; may be part of a large folio
 * @dirty: its PTE is dirty
 *
 * Not swap-backed are the pages of MADV_FREE, which may be dropped any time unless written to
 * since.
 *
 * Return: whether it may.
 */
bool ksm_page_mergeable(struct page *page, bool dirty)
{
	struct folio *folio = page_folio(page);

	return folio_test_anon(folio) && !folio_test_ksm(folio) &&
	       (folio_test_swapbacked(folio) || dirty || folio_test_dirty(folio)) &&
	       !folio_test_hugetlb(folio) && !folio_is_zone_device(folio) && !PageHWPoison(page);
}

static struct folio *ksm_candidate_folio(const struct ksm_candidate *c)
{
	return page_folio(c->page);
}

static void ksm_candidate_fail(struct ksm_candidate *c, enum ksm_outcome outcome)
{
	c->work->outcome = outcome;
	c->live = false;
}

static bool ksm_target_is_zero(const struct ksm_candidate *c)
{
	return c->work->kind == KSM_WORK_ZERO;
}

/* As the base traces it: with a KSM page, which a promoted page itself becomes, or else alone. */
static void ksm_candidate_trace(struct ksm_batch *batch, struct ksm_candidate *c, int err)
{
	struct ksm_item *item = &c->span->items[c->pos];
	struct mm_struct *mm = batch->vma->vm_mm;

	if (ksm_target_is_zero(c))
		trace_ksm_merge_one_page(page_to_pfn(c->page), item, mm, err);
	else
		trace_ksm_merge_with_ksm_page(c->target, page_to_pfn(c->target ?: c->page), item,
					      mm, err);
}

/*
 * Does anybody but page tables, swap cache and the caller hold a reference? It may be a writer,
 * like O_DIRECT. A fork or zap in between would make the sum meaningless.
 */
static bool ksm_folio_referenced_elsewhere(struct folio *folio)
{
	int mapcount = folio_mapcount(folio), refs;

	smp_rmb();	/* the count before and after, */
	refs = folio_ref_count(folio);
	smp_rmb();	/* so that it was the same all the time */
	return refs != mapcount + 1 + folio_test_swapcache(folio) ||
	       mapcount != folio_mapcount(folio);
}

/**
 * ksm_page_pinned - does anybody else hold a reference to a page
 * @page: referenced once by the caller
 *
 * Return: whether it looks so; for sure only while it is write-protected. Never of a large folio.
 */
bool ksm_page_pinned(struct page *page)
{
	struct folio *folio = page_folio(page);

	return !folio_test_large(folio) && ksm_folio_referenced_elsewhere(folio);
}

static pte_t *ksm_batch_map(struct ksm_batch *batch, spinlock_t **ptl)
{
	struct mm_struct *mm = batch->vma->vm_mm;
	pmd_t *pmd = mm_find_pmd(mm, batch->start);

	return pmd ? pte_offset_map_lock(mm, pmd, batch->start, ptl) : NULL;
}

static pte_t *ksm_candidate_ptep(struct ksm_batch *batch, pte_t *first, struct ksm_candidate *c)
{
	return first + ((c->work->address - batch->start) >> PAGE_SHIFT);
}

static bool ksm_batch_live(struct ksm_batch *batch)
{
	struct ksm_candidate *c;

	for (c = batch->candidate; c < batch->candidate + batch->nr; c++) {
		if (c->live)
			return true;
	}
	return false;
}

static void ksm_candidate_collect(struct ksm_batch *batch, struct ksm_candidate *c, pte_t *ptep)
{
	c->pte = ptep_get(ptep);
	if (!pte_present(c->pte))
		return ksm_candidate_fail(c, KSM_OUTCOME_CHANGED);
	c->page = vm_normal_page(batch->vma, c->work->address, c->pte);
	if (!c->page || !ksm_page_mergeable(c->page, pte_dirty(c->pte)) ||
	    folio_test_large(page_folio(c->page))) {
		c->page = NULL;
		return ksm_candidate_fail(c, KSM_OUTCOME_CHANGED);
	}
	get_page(c->page);
	if (ksm_folio_referenced_elsewhere(ksm_candidate_folio(c)))
		ksm_candidate_fail(c, KSM_OUTCOME_PINNED);
}

/* Step 1 */
static void ksm_batch_collect(struct ksm_batch *batch)
{
	struct ksm_candidate *c;
	pte_t *first;
	spinlock_t *ptl;	/* of the page table */

	first = ksm_batch_map(batch, &ptl);
	for (c = batch->candidate; c < batch->candidate + batch->nr; c++) {
		if (first)
			ksm_candidate_collect(batch, c, ksm_candidate_ptep(batch, first, c));
		else
			ksm_candidate_fail(c, KSM_OUTCOME_CHANGED);
	}
	if (first)
		pte_unmap_unlock(first, ptl);
}

/*
 * Is the content known, and all its KSM pages are full, but others of this batch want one as well?
 */
static bool ksm_dup_wanted(struct ksm_batch *batch, struct ksm_candidate *c)
{
	struct ksm_candidate *other;

	for (other = batch->candidate; other < batch->candidate + batch->nr; other++) {
		if (other == c || !other->live ||
		    !ksm_content_equal(other->work->content, c->work->content))
			continue;
		if (other < c && other->stable && !other->target)
			return false;	/* it is that one's turn */
		if (other > c)
			return pages_identical(c->page, other->page);
	}
	return false;
}

static void ksm_candidate_resolve(struct ksm_domain *domain, struct ksm_batch *batch,
				  struct ksm_candidate *c)
{
	enum ksm_match match;
	struct folio *folio;

	if (ksm_target_is_zero(c)) {
		c->target = ZERO_PAGE(c->work->address);
		if (mm_forbids_zeropage(batch->vma->vm_mm))
			ksm_candidate_fail(c, KSM_OUTCOME_CHANGED);
		return;
	}
	match = ksm_stable_lookup(domain, c->work->content, &c->stable, &folio);
	if (match == KSM_MATCH_ROOM) {
		c->target = folio_page(folio, 0);
		return;
	}
	c->stable = NULL;
	if (match != KSM_MATCH_BUSY && (c->work->kind == KSM_WORK_PROMOTE ||
					(match == KSM_MATCH_FULL && ksm_dup_wanted(batch, c))))
		c->stable = ksm_stable_alloc(domain);
	if (!c->stable)
		ksm_candidate_fail(c, match == KSM_MATCH_FULL ? KSM_OUTCOME_FULL :
								KSM_OUTCOME_PENDING);
}

/* Step 2 */
static void ksm_batch_resolve(struct ksm_scan *scan, struct ksm_batch *batch)
{
	struct ksm_candidate *c;

	for (c = batch->candidate; c < batch->candidate + batch->nr; c++) {
		if (c->live)
			ksm_candidate_resolve(scan->domain, batch, c);
	}
}

static bool ksm_target_locked_before(struct ksm_batch *batch, struct ksm_candidate *c)
{
	struct ksm_candidate *other;

	for (other = batch->candidate; other < c; other++) {
		if (other->target == c->target && other->target_locked)
			return true;
	}
	return false;
}

static void ksm_candidate_lock(struct ksm_batch *batch, struct ksm_candidate *c)
{
	struct folio *target;

	c->locked = folio_trylock(ksm_candidate_folio(c));
	if (!c->locked)
		return ksm_candidate_fail(c, KSM_OUTCOME_PENDING);
	if (!ksm_page_mergeable(c->page, true) || folio_test_large(ksm_candidate_folio(c)))
		return ksm_candidate_fail(c, KSM_OUTCOME_CHANGED);
	if (!c->target || ksm_target_is_zero(c))
		return;

	target = page_folio(c->target);
	if (!ksm_target_locked_before(batch, c)) {
		c->target_locked = folio_trylock(target);
		if (!c->target_locked)
			return ksm_candidate_fail(c, KSM_OUTCOME_PENDING);
	}
	if (!ksm_stable_owns(c->stable, target) || PageHWPoison(c->target) ||
	    folio_is_zone_device(target))
		ksm_candidate_fail(c, KSM_OUTCOME_PENDING);
	else if (ksm_node_salt(c->stable->domain, folio_nid(ksm_candidate_folio(c))) !=
		 ksm_node_salt(c->stable->domain, folio_nid(target)))
		ksm_candidate_fail(c, KSM_OUTCOME_CHANGED);	/* one of them has moved */
}

/* Step 4 */
static void ksm_batch_lock(struct ksm_batch *batch)
{
	struct ksm_candidate *c;

	for (c = batch->candidate; c < batch->candidate + batch->nr; c++) {
		if (c->live)
			ksm_candidate_lock(batch, c);
	}
}

/* The accessed bit may be set by the CPU at any time. */
static bool ksm_pte_same(pte_t a, pte_t b)
{
	return pte_same(pte_mkold(a), pte_mkold(b));
}

/*
 * Clear the PTEs of all live candidates and flush them from the TLBs. Where one changed, it's left
 * alone.
 */
static void ksm_batch_clear(struct ksm_batch *batch, pte_t *first)
{
	struct vm_area_struct *vma = batch->vma;
	struct ksm_candidate *c;

	for (c = batch->candidate; c < batch->candidate + batch->nr; c++) {
		pte_t *ptep = ksm_candidate_ptep(batch, first, c);

		if (!c->live)
			continue;
		if (!ksm_pte_same(ptep_get(ptep), c->pte)) {
			ksm_candidate_fail(c, KSM_OUTCOME_CHANGED);
			continue;
		}
		flush_cache_page(vma, c->work->address, pte_pfn(c->pte));
		c->pte = ptep_get_and_clear(vma->vm_mm, c->work->address, ptep);
	}
	/*
	 * Always: NUMA hinting and userfaultfd change PTEs first and flush after they dropped the
	 * lock.
	 */
	flush_tlb_range(vma, batch->start, batch->end);
	/*
	 * The PTEs are gone before references are counted; pairs with GUP-fast, which does it in
	 * reverse.
	 */
	smp_mb();
}

static void ksm_candidate_protect(struct ksm_batch *batch, struct ksm_candidate *c, pte_t *ptep)
{
	struct folio *folio = ksm_candidate_folio(c);

	c->exclusive = PageAnonExclusive(c->page);
	if (ksm_folio_referenced_elsewhere(folio) ||
	    (c->exclusive && folio_try_share_anon_rmap_pte(folio, c->page)))
		ksm_candidate_fail(c, KSM_OUTCOME_PINNED);
	else
		c->pte = pte_wrprotect(c->pte);
	set_pte_at(batch->vma->vm_mm, c->work->address, ptep, c->pte);
	c->pte = ptep_get(ptep);	/* an architecture may have bits of its own to set */
}

/* Step 5 */
static void ksm_batch_protect(struct ksm_batch *batch)
{
	struct ksm_candidate *c;
	pte_t *first;
	spinlock_t *ptl;	/* of the page table */

	first = ksm_batch_map(batch, &ptl);
	if (first)
		ksm_batch_clear(batch, first);
	for (c = batch->candidate; c < batch->candidate + batch->nr; c++) {
		if (!c->live)
			continue;
		if (first)
			ksm_candidate_protect(batch, c, ksm_candidate_ptep(batch, first, c));
		else
			ksm_candidate_fail(c, KSM_OUTCOME_CHANGED);
	}
	if (first)
		pte_unmap_unlock(first, ptl);
}

/* Step 6 */
static void ksm_batch_compare(struct ksm_batch *batch)
{
	struct ksm_candidate *c, *next;

	for (c = batch->candidate; c < batch->candidate + batch->nr; c++) {
		if (!c->live || !c->target)
			continue;
		next = c + 1;
		if (next < batch->candidate + batch->nr && next->live && next->target) {
			ksm_prefetch_page(next->page);
			ksm_prefetch_page(next->target);
		}
		if (!pages_identical(c->page, c->target))
			ksm_candidate_fail(c, KSM_OUTCOME_DIFFERS);
	}
}

static bool ksm_mapping_consents(struct folio *folio, struct vm_area_struct *vma,
				 unsigned long address, void *arg)
{
	DEFINE_FOLIO_VMA_WALK(pvmw, folio, vma, address, 0);
	bool *refused = arg;

	if (READ_ONCE(vma->vm_flags) & VM_MERGEABLE)
		return true;
	if (page_vma_mapped_walk(&pvmw)) {
		page_vma_mapped_walk_done(&pvmw);
		*refused = true;
	}
	return !*refused;
}

/*
 * Was a folio offered by all who map it? One that fork shares may belong to a process as well that
 * never asked for merging, and that nothing would ever unmerge.
 */
static bool ksm_mappings_consent(struct ksm_candidate *c)
{
	bool refused = false;
	struct rmap_walk_control rwc = {
		.rmap_one = ksm_mapping_consents,
		.arg = &refused,
		.try_lock = true,
	};

	if (c->exclusive)
		return true;
	rmap_walk(ksm_candidate_folio(c), &rwc);
	return !refused && !rwc.contended;
}

/*
 * Step 7 for a page without a target. A folio that others map, or may swap in, keeps the anon_vma
 * under which rmap finds all its mappings. The content may have changed between visit and
 * write-protection, or the page have moved to another NUMA node: then the stable node would stand
 * at the wrong place in the tree.
 */
static void ksm_candidate_promote(struct ksm_scan *scan, struct ksm_batch *batch,
				  struct ksm_candidate *c)
{
	struct folio *folio = ksm_candidate_folio(c), *other;
	struct anon_vma *anon_vma = batch->vma->anon_vma;
	struct ksm_stable *stable = c->stable, *found;
	struct ksm_content content;
	const void *kaddr;

	kaddr = kmap_local_page(c->page);
	content = ksm_content_salt(ksm_digest_content(&scan->domain->digest, kaddr),
				   ksm_node_salt(scan->domain, folio_nid(folio)));
	kunmap_local(kaddr);
	if (!ksm_content_equal(content, c->work->content) || !folio_mapped(folio))
		return ksm_candidate_fail(c, KSM_OUTCOME_CHANGED);
	if (!folio_test_swapbacked(folio) || !ksm_mappings_consent(c))
		return ksm_candidate_fail(c, KSM_OUTCOME_PENDING);
	if (ksm_stable_lookup(scan->domain, content, &found, &other) == KSM_MATCH_ROOM) {
		folio_put(other);
		return ksm_candidate_fail(c, KSM_OUTCOME_FULL);
	}
	if (!c->exclusive)
		anon_vma = folio_anon_vma(folio);

	if (ksm_item_state(c->span, c->pos) == KSM_ITEM_UNSTABLE)
		ksm_unstable_erase(c->span, c->pos, KSM_ITEM_SEEN);
	ksm_item_link(c->span, c->pos, stable, anon_vma,
		      linear_page_index(batch->vma, c->work->address));
	ksm_stable_attach_folio(stable, folio, content);
	c->stable = NULL;
	c->live = false;
	c->work->outcome = KSM_OUTCOME_MERGED;
	ksm_note_promoted(scan, c->span, c->pos);
	ksm_candidate_trace(batch, c, 0);
}

static void ksm_batch_promote(struct ksm_scan *scan, struct ksm_batch *batch)
{
	struct ksm_candidate *c;

	for (c = batch->candidate; c < batch->candidate + batch->nr; c++) {
		if (c->live && !c->target)
			ksm_candidate_promote(scan, batch, c);
	}
}

/* The target's PTE: never writable, with the bits of others carried over. */
static pte_t ksm_target_pte(struct ksm_batch *batch, struct ksm_candidate *c)
{
	pgprot_t prot = batch->vma->vm_page_prot;
	pte_t pte;

	if (ksm_target_is_zero(c))
		pte = pte_mkdirty(pte_mkspecial(pfn_pte(page_to_pfn(c->target), prot)));
	else
		pte = mk_pte(c->target, prot);
	pte = pte_wrprotect(pte);
	pte = pte_young(c->pte) ? pte_mkyoung(pte) : pte_mkold(pte);
	pte = pte_soft_dirty(c->pte) ? pte_mksoft_dirty(pte) : pte_clear_soft_dirty(pte);
	if (pte_uffd_wp(c->pte))
		pte = pte_mkuffd_wp(pte);
	return pte;
}

/* The PTE is clear: make it map the target, and account for that. */
static void ksm_candidate_replace(struct ksm_batch *batch, struct ksm_candidate *c, pte_t *ptep)
{
	struct vm_area_struct *vma = batch->vma;
	struct mm_struct *mm = vma->vm_mm;
	unsigned long address = c->work->address;

	if (ksm_item_state(c->span, c->pos) == KSM_ITEM_UNSTABLE)
		ksm_unstable_erase(c->span, c->pos, KSM_ITEM_SEEN);
	if (ksm_target_is_zero(c)) {
		ksm_item_to(c->span, c->pos, KSM_ITEM_NONE);
		ksm_map_zero_page(mm);
		dec_mm_counter(mm, MM_ANONPAGES);
	} else {
		get_page(c->target);
		/*
		 * Or else MADV_FREE by those who had it till now would let reclaim drop it for
		 * all.
		 */
		folio_mark_dirty(page_folio(c->target));
		folio_add_anon_rmap_pte(page_folio(c->target), c->target, vma, address, RMAP_NONE);
		ksm_item_link(c->span, c->pos, c->stable, vma->anon_vma,
			      linear_page_index(vma, address));
	}
	set_pte_at(mm, address, ptep, ksm_target_pte(batch, c));
	folio_remove_rmap_pte(ksm_candidate_folio(c), c->page, vma);
	c->replaced = true;
	c->live = false;
	c->work->outcome = KSM_OUTCOME_MERGED;
	ksm_candidate_trace(batch, c, 0);
}

/* No more pages than the nodes have room for */
static void ksm_batch_limit(struct ksm_batch *batch)
{
	struct ksm_candidate *c, *other;
	unsigned int nr;

	for (c = batch->candidate; c < batch->candidate + batch->nr; c++) {
		if (!c->live || ksm_target_is_zero(c))
			continue;
		nr = 1;
		for (other = batch->candidate; other < c; other++)
			nr += other->live && other->stable == c->stable;
		if (!ksm_stable_has_room(c->stable, nr))
			ksm_candidate_fail(c, KSM_OUTCOME_FULL);
	}
}

/* Step 7 for pages with a target */
static void ksm_batch_replace(struct ksm_batch *batch)
{
	struct ksm_candidate *c;
	pte_t *first;
	spinlock_t *ptl;	/* of the page table */

	if (!ksm_batch_live(batch))
		return;
	first = ksm_batch_map(batch, &ptl);
	if (!first)
		return;
	ksm_batch_limit(batch);
	ksm_batch_clear(batch, first);
	for (c = batch->candidate; c < batch->candidate + batch->nr; c++) {
		if (c->live)
			ksm_candidate_replace(batch, c, ksm_candidate_ptep(batch, first, c));
	}
	pte_unmap_unlock(first, ptl);
}

static void ksm_candidate_unlock(struct ksm_candidate *c)
{
	struct folio *folio;

	if (c->locked) {
		folio = ksm_candidate_folio(c);
		if (c->replaced && !folio_mapped(folio))
			folio_free_swap(folio);
		folio_unlock(folio);
	}
	if (c->target_locked)
		folio_unlock(page_folio(c->target));
}

/* What tracing calls a failure */
static int ksm_outcome_errno(enum ksm_outcome outcome)
{
	switch (outcome) {
	case KSM_OUTCOME_MERGED:
		return 0;
	case KSM_OUTCOME_PINNED:
		return -EBUSY;
	case KSM_OUTCOME_DIFFERS:
		return -EFAULT;
	case KSM_OUTCOME_FULL:
		return -EMLINK;
	case KSM_OUTCOME_CHANGED:
	case KSM_OUTCOME_PENDING:
		break;
	}
	return -EAGAIN;
}

static void ksm_candidate_trace_failure(struct ksm_batch *batch, struct ksm_candidate *c)
{
	int err = ksm_outcome_errno(c->work->outcome);

	if (err && c->page)
		ksm_candidate_trace(batch, c, err);
}

static void ksm_candidate_put(struct ksm_candidate *c)
{
	if (c->replaced)
		put_page(c->page);
	if (c->page)
		put_page(c->page);
	if (c->target && !ksm_target_is_zero(c))
		put_page(c->target);
	else if (c->stable)
		ksm_stable_free(c->stable);
}

static void ksm_batch_merge(struct ksm_scan *scan, struct ksm_batch *batch)
{
	struct mmu_notifier_range range;
	struct ksm_candidate *c;

	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, batch->vma->vm_mm, batch->start,
				batch->end);
	mmu_notifier_invalidate_range_start(&range);
	ksm_batch_lock(batch);
	if (ksm_batch_live(batch)) {
		ksm_batch_protect(batch);
		ksm_batch_compare(batch);
		ksm_batch_promote(scan, batch);
		ksm_batch_replace(batch);
	}
	for (c = batch->candidate; c < batch->candidate + batch->nr; c++)
		ksm_candidate_unlock(c);
	mmu_notifier_invalidate_range_end(&range);
}

/**
 * ksm_batch_run - merge the pages of a batch
 * @scan: the scanner; owner of the slot
 * @batch: the pages; the outcome of each is noted in its work
 *
 * Context: mmap_lock held for read, nothing below it. May sleep.
 */
void ksm_batch_run(struct ksm_scan *scan, struct ksm_batch *batch)
{
	struct ksm_candidate *c;

	if (batch->vma->vm_flags & VM_LOCKED)
		mlock_drain_local();
	ksm_batch_collect(batch);
	ksm_batch_resolve(scan, batch);
	if (ksm_batch_live(batch))
		ksm_batch_merge(scan, batch);
	if (batch->vma->vm_flags & VM_LOCKED)
		mlock_drain_local();
	for (c = batch->candidate; c < batch->candidate + batch->nr; c++) {
		ksm_candidate_trace_failure(batch, c);
		ksm_candidate_put(c);
	}
}
