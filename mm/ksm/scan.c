// SPDX-License-Identifier: GPL-2.0
/*
 * The pass: mm by mm, window by window. Engine layer.
 *
 * A pass walks the page tables of every registered mm once. It goes on from one wake-up to the
 * next; each slot keeps the address reached, and those that are done stand last in the list. A
 * window is up to 64 PTEs: one lock, no references, and while a page is digested the lines of
 * later ones are on their way.
 *
 * Locking: scan_sem for read, for a hold at a time; mmap_lock for read, for 512 PTEs or 32 page
 * table steps at most, dropped earlier when others wait; then the PTE lock, for a bounded cost of
 * digests.
 * Lifetime: the slot in hand is owned for a hold, and never without scan_sem. Failure: pages
 * without a span, for lack of memory, are not tracked in this pass. Tests:
 * tools/testing/selftests/vm/, ksm_torture.
 */
#include <linux/freezer.h>
#include <linux/hugetlb.h>
#include <linux/pagewalk.h>
#include <linux/prefetch.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/swapops.h>
#include <trace/events/ksm.h>

#include "../internal.h"
#include "scan.h"
#include "smart_scan.h"

#define KSM_HOLD_STEP		16	/* what a page table step or a VMA counts, in PTEs */
#define KSM_COST_LIMIT		64	/* of visits under one PTE lock, see ksm_visit() */
#define KSM_AHEAD_PAGE		8	/* how early a struct page is looked at before the visit */
#define KSM_OWNER_CHECKED	8	/* passes from one look at a merged page's folio to the next */
#define KSM_IDLE_CHECKED	4096	/* idle stable nodes a pass */

/**
 * ksm_scan_alloc - make a scanner
 * @domain: what it will scan
 *
 * Return: the scanner, or NULL for lack of memory.
 */
struct ksm_scan * __init ksm_scan_alloc(struct ksm_domain *domain)
{
	struct ksm_scan *scan = kvzalloc(sizeof(*scan), GFP_KERNEL);

	if (!scan)
		return NULL;
	scan->domain = domain;
	scan->pass = 1;
	return scan;
}

static unsigned long ksm_window_address(const struct ksm_window *w, unsigned int i)
{
	return w->start + i * PAGE_SIZE;
}

static unsigned int ksm_window_pos(const struct ksm_window *w, unsigned int i)
{
	return ((ksm_window_address(w, i) >> PAGE_SHIFT) & (KSM_BLOCK_PAGES - 1)) -
	       w->span[i]->first;
}

/* Pages [first, first + nr) of the window as bits. */
static u64 ksm_window_bits(unsigned int first, unsigned int nr)
{
	return GENMASK_ULL(first + nr - 1, first);
}

/* The part of a span that lies in the window: first page, and number of pages. */
static unsigned int ksm_window_part(const struct ksm_window *w, const struct ksm_span *span,
				    unsigned int *nr)
{
	unsigned long first = max(ksm_item_vpn(span, 0), w->start >> PAGE_SHIFT);
	unsigned long end = min(ksm_item_vpn(span, span->nr), (w->start >> PAGE_SHIFT) + w->nr);

	*nr = end > first ? end - first : 0;
	return first - (w->start >> PAGE_SHIFT);
}

static void ksm_window_enter_span(struct ksm_scan *scan, struct ksm_window *w,
				  struct ksm_span *span)
{
	unsigned int nr, i, first = ksm_window_part(w, span, &nr);

	if (!nr)
		return;
	for (i = first; i < first + nr; i++)
		w->span[i] = span;
	if (!READ_ONCE(scan->domain->knobs.smart_scan) || ksm_span_due(span, scan->pass))
		w->due |= ksm_window_bits(first, nr);
	if (span->pass != scan->pass) {
		span->pass = scan->pass;
		scan->slot->nr_met++;
	}
}

static void ksm_window_gather(struct ksm_scan *scan, struct ksm_window *w)
{
	unsigned long block = w->start >> (PAGE_SHIFT + KSM_BLOCK_SHIFT);
	unsigned long last = (ksm_window_address(w, w->nr) - 1) >> (PAGE_SHIFT + KSM_BLOCK_SHIFT);
	struct ksm_span *span;

	memset(w->span, 0, sizeof(w->span));
	for (; block <= last; block++) {
		for (span = xa_load(&scan->slot->spans, block); span; span = span->next)
			ksm_window_enter_span(scan, w, span);
	}
}

/* Pages of the window that have something mapped but no span. */
static u64 ksm_window_uncovered(struct ksm_window *w, pmd_t *pmd)
{
	pte_t *first, pte;
	struct page *page;
	pmd_t val = pmdp_get_lockless(pmd);
	u64 uncovered = 0;
	unsigned int i;

	for (i = 0; i < w->nr; i++) {
		if (!w->span[i])
			uncovered |= BIT_ULL(i);
	}
	if (pmd_trans_huge(val))
		return is_huge_zero_pmd(val) ? 0 : uncovered;
	if (!uncovered)
		return 0;
	first = pte_offset_map(pmd, w->start);
	if (!first)
		return 0;
	for (i = 0; i < w->nr; i++) {
		pte = ptep_get_lockless(first + i);
		page = pte_present(pte) ? vm_normal_page(w->vma, ksm_window_address(w, i), pte) :
					  NULL;
		if (!page || (w->vma->vm_file && !PageAnon(page)))
			uncovered &= ~BIT_ULL(i);
	}
	pte_unmap(first);
	return uncovered;
}

static void ksm_window_cover(struct ksm_scan *scan, struct ksm_window *w, pmd_t *pmd)
{
	const unsigned long vpn = w->start >> PAGE_SHIFT;
	u64 uncovered = ksm_window_uncovered(w, pmd);
	struct ksm_span *span;
	unsigned int i, lead;
	u16 wanted;

	while (uncovered) {
		i = __ffs64(uncovered);
		lead = (vpn + i) & (KSM_BLOCK_PAGES - 1);
		wanted = (uncovered >> i) << lead;
		span = ksm_span_add(scan->slot, w->vma, (vpn + i) >> KSM_BLOCK_SHIFT, wanted);
		if (!span)
			return;
		ksm_window_enter_span(scan, w, span);
		for (; i < w->nr && w->span[i] == span; i++)
			uncovered &= ~BIT_ULL(i);
	}
}

static void ksm_window_forget(struct ksm_window *w, unsigned int i)
{
	struct ksm_span *span = w->span[i];
	unsigned int pos = ksm_window_pos(w, i);

	switch (ksm_item_state(span, pos)) {
	case KSM_ITEM_SEEN:
		ksm_item_to(span, pos, KSM_ITEM_NONE);
		w->restless |= BIT_ULL(i);
		break;
	case KSM_ITEM_UNSTABLE:
		ksm_unstable_erase(span, pos, KSM_ITEM_NONE);
		w->restless |= BIT_ULL(i);
		break;
	default:
		break;
	}
}

static struct ksm_stable *ksm_window_stable(const struct ksm_window *w, unsigned int i)
{
	return ksm_item_stable(w->span[i], ksm_window_pos(w, i));
}

/*
 * A merged item is all right as long as its PTE maps the node's page. Over a swap or migration
 * entry it stays, since the page may come back to the same folio, until that is gone. A page that
 * was freed and came back to the same place is writable, as a rule; for the exceptions the folio
 * is asked now and then.
 */
static void ksm_window_check_merged(struct ksm_scan *scan, struct ksm_window *w, unsigned int i,
				    pte_t pte)
{
	struct ksm_stable *stable = ksm_window_stable(w, i);

	w->scanned |= BIT_ULL(i);
	if (pte_present(pte) && !pte_write(pte) && pte_pfn(pte) == READ_ONCE(stable->pfn) &&
	    (scan->pass % KSM_OWNER_CHECKED || ksm_stable_owns(stable, pfn_folio(pte_pfn(pte))))) {
		if (!READ_ONCE(scan->domain->knobs.merge_across_nodes) &&
		    pfn_to_nid(pte_pfn(pte)) != READ_ONCE(stable->nid))
			w->moved |= BIT_ULL(i);
		return;
	}
	if (pte_none(pte) || pte_present(pte) || ksm_stable_is_stale(stable))
		w->detach |= BIT_ULL(i);
}

/* First look at a PTE: have its struct page fetched. */
static void ksm_window_fetch(struct ksm_scan *scan, struct ksm_window *w, unsigned int i)
{
	bool merged;
	pte_t pte;

	w->page[i] = NULL;
	if (!w->span[i])
		return;
	merged = ksm_item_state(w->span[i], ksm_window_pos(w, i)) == KSM_ITEM_MERGED;
	if (!merged && !(w->due & BIT_ULL(i)))
		return;
	if (w->huge) {
		if (merged)
			w->detach |= BIT_ULL(i);
		else
			w->page[i] = w->huge + i;
		return;
	}
	pte = ptep_get(w->ptep + i);
	if (merged)
		return ksm_window_check_merged(scan, w, i, pte);
	if (pte_present(pte)) {
		w->page[i] = vm_normal_page(w->vma, ksm_window_address(w, i), pte);
		w->dirty |= (u64)!!pte_dirty(pte) << i;
	}
	if (w->page[i])
		prefetch(w->page[i]);
	else
		ksm_window_forget(w, i);
}

/* A KSM page that has no item here: fork or swap-in mapped it. */
static void ksm_window_adopt(struct ksm_window *w, unsigned int i, struct folio *folio)
{
	unsigned long address = ksm_window_address(w, i);
	unsigned long pgoff = linear_page_index(w->vma, address);
	struct ksm_span *span = w->span[i];
	unsigned int pos = ksm_window_pos(w, i);
	struct ksm_stable *stable;

	ksm_window_forget(w, i);
	w->scanned |= BIT_ULL(i);
	w->restless |= BIT_ULL(i);
	if (span->merged && ksm_item_pgoff(span, pos) != pgoff)
		return;
	if (!folio_trylock(folio))
		return;
	stable = folio_test_ksm(folio) ? ksm_folio_stable(folio) : NULL;
	if (stable)
		ksm_item_link(span, pos, stable, w->vma->anon_vma, pgoff);
	folio_unlock(folio);
}

/* Second look, at the struct page: have the sampled lines fetched. */
static void ksm_window_classify(struct ksm_scan *scan, struct ksm_window *w, unsigned int i)
{
	struct page *page = w->page[i];
	struct folio *folio;
	const void *kaddr;
	unsigned int line;

	if (!page)
		return;
	folio = page_folio(page);
	if (folio_test_ksm(folio)) {
		w->page[i] = NULL;
		ksm_window_adopt(w, i, folio);
	} else if (!ksm_page_mergeable(page, w->dirty & BIT_ULL(i))) {
		w->page[i] = NULL;
		ksm_window_forget(w, i);
	} else if (!PageHighMem(page)) {
		kaddr = page_address(page);
		for (line = 0; line < KSM_SAMPLE_LINES; line++)
			prefetch(kaddr + scan->domain->digest.line[line]);
	}
}

static void ksm_window_visit(struct ksm_scan *scan, struct ksm_window *w, unsigned int i)
{
	if (!w->page[i])
		return;
	w->scanned |= BIT_ULL(i);
	if (ksm_visit(scan, w->span[i], ksm_window_pos(w, i), w->page[i]) != KSM_VISIT_CALM)
		w->restless |= BIT_ULL(i);
}

/* Visit pages from @first on, until the cost is high; returns where to go on. PTE lock held. */
static unsigned int ksm_window_run(struct ksm_scan *scan, struct ksm_window *w, unsigned int first)
{
	unsigned int i;

	scan->cost = 0;
	for (i = first; i < w->nr; i++)
		ksm_window_fetch(scan, w, i);
	for (i = first; i < w->nr + KSM_AHEAD_PAGE; i++) {
		if (i < w->nr)
			ksm_window_classify(scan, w, i);
		if (i < first + KSM_AHEAD_PAGE)
			continue;
		ksm_window_visit(scan, w, i - KSM_AHEAD_PAGE);
		if (scan->cost >= KSM_COST_LIMIT)
			return i - KSM_AHEAD_PAGE + 1;
	}
	return w->nr;
}

static spinlock_t *ksm_window_lock(struct ksm_window *w, pmd_t *pmd)
{
	spinlock_t *ptl = pmd_trans_huge_lock(pmd, w->vma);
	pmd_t val;

	w->huge = NULL;
	w->ptep = NULL;
	if (ptl) {
		val = *pmd;
		if (pmd_present(val) && pmd_trans_huge(val) && !is_huge_zero_pmd(val)) {
			w->huge = pmd_page(val) + ((w->start & ~HPAGE_PMD_MASK) >> PAGE_SHIFT);
			return ptl;
		}
		spin_unlock(ptl);
		return NULL;
	}
	w->ptep = pte_offset_map_lock(w->vma->vm_mm, pmd, w->start, &ptl);
	return w->ptep ? ptl : NULL;
}

static void ksm_window_unlock(struct ksm_window *w, spinlock_t *ptl)
{
	if (w->ptep)
		pte_unmap_unlock(w->ptep, ptl);
	else
		spin_unlock(ptl);
}

/* Visit the window's pages from @first on; false if the page table changed its shape. */
static bool ksm_window_visit_all(struct ksm_scan *scan, struct ksm_window *w, pmd_t *pmd)
{
	unsigned int i = 0;
	spinlock_t *ptl;

	while (i < w->nr) {
		ptl = ksm_window_lock(w, pmd);
		if (!ptl)
			return false;
		i = ksm_window_run(scan, w, i);
		ksm_window_unlock(w, ptl);
	}
	return true;
}

/*
 * Take the items off that belong to pages which are gone; returns those that can be visited again.
 */
static u64 ksm_window_detach(struct ksm_window *w)
{
	u64 detach = w->detach, freed = 0;
	unsigned int i;

	w->detach = 0;
	for (; detach; detach &= detach - 1) {
		i = __ffs64(detach);
		w->restless |= BIT_ULL(i);
		if (ksm_item_unlink(w->span[i], ksm_window_pos(w, i), false))
			continue;
		freed |= BIT_ULL(i);
		/* Collapsed by khugepaged: don't split it again as soon as it comes. */
		if (w->huge)
			ksm_item_set_age(w->span[i], ksm_window_pos(w, i), 3);
	}
	return freed;
}

static void ksm_window_leave(struct ksm_scan *scan, struct ksm_window *w)
{
	unsigned int i, first, nr, scanned = hweight64(w->scanned);
	struct ksm_span *span = NULL;
	unsigned long skipped = 0;

	for (i = 0; i < w->nr; i++) {
		if (!w->span[i] || w->span[i] == span)
			continue;
		span = w->span[i];
		first = ksm_window_part(w, span, &nr);
		if (ksm_span_empty(span) && span->pass == scan->pass) {
			/* as if not met: to be swept */
			span->pass--;
			scan->slot->nr_met--;
			continue;
		}
		if (!(w->due & BIT_ULL(i)))
			skipped += hweight16((span->seen | span->unstable) &
					     (ksm_window_bits(0, nr) << ksm_window_pos(w, first)));
		else if (w->restless & ksm_window_bits(first, nr))
			ksm_span_visited(span, scan->pass, false);
		else if (nr == span->nr)
			ksm_span_visited(span, scan->pass, true);
	}
	scan->news |= !!w->restless;
	ksm_stat_add(&scan->domain->stats, KSM_STAT_SCANNED, scanned);
	if (skipped)
		ksm_stat_add(&scan->domain->stats, KSM_STAT_SKIPPED, skipped);
	scan->budget -= min(scan->budget, scanned);
	scan->hold -= w->nr;
}

static bool ksm_window_has_merged(const struct ksm_window *w)
{
	unsigned int i;

	for (i = 0; i < w->nr; i++) {
		if (w->span[i] && w->span[i]->merged)
			return true;
	}
	return false;
}

static void ksm_window_scan(struct ksm_scan *scan, struct vm_area_struct *vma, pmd_t *pmd,
			    unsigned long start, unsigned int nr)
{
	struct ksm_window *w = &scan->window;
	u64 due, again, moved;

	w->vma = vma;
	w->start = start;
	w->nr = nr;
	w->due = 0;
	w->dirty = 0;
	w->scanned = 0;
	w->restless = 0;
	w->detach = 0;
	w->moved = 0;
	ksm_window_gather(scan, w);
	ksm_window_cover(scan, w, pmd);
	if (w->due || ksm_window_has_merged(w)) {
		ksm_window_visit_all(scan, w, pmd);
		for (moved = w->moved; moved; moved &= moved - 1)
			ksm_stable_follow_node(ksm_window_stable(w, __ffs64(moved)));
		again = ksm_window_detach(w);
		if (again) {
			due = w->due;
			w->due &= again;
			ksm_window_visit_all(scan, w, pmd);
			w->due = due;
		}
	}
	ksm_window_leave(scan, w);
}

static bool ksm_hold_ends(struct ksm_scan *scan, struct mm_struct *mm)
{
	return scan->hold <= 0 || !scan->budget || scan->nr_work >= KSM_HOLD_WORK ||
	       (scan->hold < KSM_HOLD_PAGES && mmap_lock_is_contended(mm));
}

static int ksm_walk_pmd(pmd_t *pmd, unsigned long addr, unsigned long end, struct mm_walk *walk)
{
	struct ksm_scan *scan = walk->private;
	unsigned long window_end;
	unsigned int nr;

	scan->hold -= KSM_HOLD_STEP;
	while (addr < end) {
		window_end = min(ALIGN(addr + 1, KSM_WINDOW_PAGES * PAGE_SIZE), end);
		nr = min((unsigned int)((window_end - addr) >> PAGE_SHIFT), scan->budget);
		ksm_window_scan(scan, walk->vma, pmd, addr, nr);
		addr += nr * PAGE_SIZE;
		scan->slot->cursor = addr;
		if (ksm_hold_ends(scan, walk->mm))
			return 1;
		cond_resched();
	}
	return 0;
}

static int ksm_walk_hole(unsigned long addr, unsigned long end, int depth, struct mm_walk *walk)
{
	struct ksm_scan *scan = walk->private;

	scan->hold -= KSM_HOLD_STEP;
	scan->slot->cursor = end;
	return ksm_hold_ends(scan, walk->mm);
}

static const struct mm_walk_ops ksm_walk_ops = {
	.pmd_entry = ksm_walk_pmd,
	.pte_hole = ksm_walk_hole,
	.walk_lock = PGWALK_RDLOCK,
};

/*
 * A span at the edge of a VMA may have pages outside of it. When these belong to no area that is
 * scanned, no walk will ever see that they are gone.
 */
static void ksm_scan_edge(struct ksm_scan *scan, unsigned long address)
{
	unsigned long block = address >> (PAGE_SHIFT + KSM_BLOCK_SHIFT);
	struct vm_area_struct *vma;
	struct ksm_span *span;
	unsigned int pos;

	if (IS_ALIGNED(address, KSM_BLOCK_PAGES * PAGE_SIZE))
		return;
	for (span = xa_load(&scan->slot->spans, block); span; span = span->next) {
		for (pos = 0; pos < span->nr; pos++) {
			if (ksm_item_state(span, pos) == KSM_ITEM_NONE)
				continue;
			vma = vma_lookup(ksm_slot_mm(scan->slot), ksm_item_address(span, pos));
			if (!vma || !ksm_vma_scannable(vma))
				ksm_span_clear(span, BIT(span->first + pos), false);
		}
	}
}

/* Scan on in the mm in hand until the hold ends; returns whether the mm is done. mmap_lock held. */
static bool ksm_scan_vmas(struct ksm_scan *scan)
{
	struct ksm_slot *slot = scan->slot;
	struct mm_struct *mm = ksm_slot_mm(slot);
	struct vm_area_struct *vma;
	VMA_ITERATOR(vmi, mm, slot->cursor);

	for_each_vma(vmi, vma) {
		if (ksm_hold_ends(scan, mm))
			return false;
		scan->hold -= KSM_HOLD_STEP;
		if (ksm_vma_scannable(vma)) {
			if (walk_page_range_vma(vma, max(slot->cursor, vma->vm_start), vma->vm_end,
						&ksm_walk_ops, scan))
				return false;
			ksm_scan_edge(scan, vma->vm_start);
			ksm_scan_edge(scan, vma->vm_end);
		}
		slot->cursor = vma->vm_end;
	}
	return true;
}

static bool ksm_scan_stopped(struct ksm_scan *scan)
{
	return READ_ONCE(scan->domain->knobs.run) != KSM_RUN_MERGE ||
	       READ_ONCE(scan->domain->offline) || freezing(current);
}

static void ksm_scan_drop_slot(struct ksm_scan *scan)
{
	struct ksm_slot *slot = scan->slot;

	scan->slot = NULL;
	if (slot)
		ksm_slot_release(slot);
}

/*
 * Wait for mmap_lock with nothing else held or owned, as others may want to stop the scan
 * meanwhile. Returns whether it goes on, with mmap_lock held and the slot owned as before.
 */
static bool ksm_scan_wait(struct ksm_scan *scan)
{
	struct rw_semaphore *scan_sem = &scan->domain->scan_sem;
	struct ksm_slot *slot = scan->slot;
	struct mm_struct *mm = ksm_slot_mm(slot);
	bool parked;

	mmgrab(mm);
	ksm_slot_get(slot);
	ksm_scan_drop_slot(scan);
	up_read(scan_sem);
	mmap_read_lock(mm);
	parked = !down_read_trylock(scan_sem);
	if (!parked && !ksm_scan_stopped(scan) && ksm_slot_claim(slot, scan))
		scan->slot = slot;
	else
		mmap_read_unlock(mm);
	if (parked)
		down_read(scan_sem);
	ksm_slot_put(slot);
	mmdrop(mm);
	return scan->slot;
}

/* One hold of mmap_lock; returns whether the mm is done. */
static bool ksm_scan_hold(struct ksm_scan *scan)
{
	struct mm_struct *mm = ksm_slot_mm(scan->slot);
	unsigned int budget;
	bool done;

	if (!mmap_read_trylock(mm) && !ksm_scan_wait(scan))
		return false;
	scan->hold = KSM_HOLD_PAGES;
	budget = scan->budget;
	done = ksm_mm_gone(mm);
	if (!done) {
		done = ksm_scan_vmas(scan);
		if (done && scan->slot->nr_met != scan->slot->nr_spans)
			ksm_slot_sweep(scan->slot, scan->pass);
	}
	mmap_read_unlock(mm);
	/* Holes and skipped pages take time, too. */
	if (scan->budget && scan->budget == budget)
		scan->budget--;
	ksm_settle(scan);
	return done;
}

static unsigned int ksm_scan_tracked(struct ksm_scan *scan)
{
	const struct ksm_stats *stats = &scan->domain->stats;

	return ksm_stat_read(stats, KSM_STAT_SEEN) + ksm_stat_read(stats, KSM_STAT_UNSTABLE) +
	       ksm_stat_read(stats, KSM_STAT_MERGED);
}

static void ksm_pass_begin(struct ksm_scan *scan)
{
	scan->passing = true;
	trace_ksm_start_scan(scan->domain->full_scans, ksm_scan_tracked(scan));
}

static void ksm_pass_end(struct ksm_scan *scan)
{
	ksm_stable_sweep(scan->domain, KSM_IDLE_CHECKED);
	trace_ksm_stop_scan(scan->domain->full_scans, ksm_scan_tracked(scan));
	WRITE_ONCE(scan->domain->full_scans, scan->domain->full_scans + 1);
	scan->passing = false;
	scan->pass++;
}

/* A hold's worth of work; false when the pass is over. No slot is owned before or after. */
static bool ksm_scan_step(struct ksm_scan *scan)
{
	scan->slot = ksm_slot_next(scan->domain, scan->pass, scan, false);
	if (!scan->slot) {
		ksm_pass_end(scan);
		return false;
	}
	if (ksm_scan_hold(scan))
		ksm_slot_finish(scan->slot, scan->pass);
	ksm_scan_drop_slot(scan);
	return true;
}

/**
 * ksm_scan_wakeup - scan some pages, to the end of the pass at most
 * @scan: the scanner
 * @nr_pages: how many pages to visit
 *
 * Context: no locks held; sleeps.
 */
void ksm_scan_wakeup(struct ksm_scan *scan, unsigned int nr_pages)
{
	struct ksm_domain *domain = scan->domain;
	bool more = true;

	scan->budget = nr_pages;
	if (!scan->passing && scan->news) {
		/*
		 * Pages on their way to the LRU have a reference more and would seem to be pinned.
		 */
		lru_add_drain_all();
		scan->news = false;
	}
	while (more && scan->budget && !ksm_scan_stopped(scan)) {
		down_read(&domain->scan_sem);
		if (!ksm_scan_stopped(scan)) {
			if (!scan->passing)
				ksm_pass_begin(scan);
			more = ksm_scan_step(scan);
		}
		up_read(&domain->scan_sem);
		cond_resched();
	}
}
