// SPDX-License-Identifier: GPL-2.0
/*
 * A window: up to 64 consecutive pages of a VMA, seen under one PTE lock. Engine layer.
 *
 * Spans are looked up, and made where something is mapped without one. Then, PTE by PTE: a merged
 * item is checked, what has gone is forgotten, an anonymous page is visited (candidate.c). While a
 * page is digested, the struct pages and sampled lines of later ones are on their way.
 *
 * Locking: mmap_lock for read is held; the PTE lock is taken, for a bounded cost of digests. The
 * slot is owned. Lifetime: pages are looked at under the PTE lock only, without references.
 * Failure: pages without a span, for lack of memory, are not tracked in this pass; items whose
 * folio is locked by others are taken off in a later one.
 * Tests: merge, counters and thp tests in tools/testing/selftests/vm/, ksm_torture.
 */
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/prefetch.h>
#include <linux/rmap.h>
#include <linux/swap.h>
#include <linux/swapops.h>

#include "../internal.h"
#include "scan.h"
#include "smart_scan.h"

#define KSM_COST_LIMIT		64	/* of visits under one PTE lock, see ksm_visit() */
#define KSM_AHEAD_PAGES		8U	/* looked at before as many others are visited */
#define KSM_OWNER_CHECKED	8	/* passes between two looks at a merged folio */

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
	u64 due = U16_MAX;

	if (!nr)
		return;
	for (i = first; i < first + nr; i++)
		w->span[i] = span;
	w->covered |= ksm_window_bits(first, nr);
	w->merged |= span->merged;
	if (READ_ONCE(scan->domain->knobs.smart_scan))
		due = ksm_span_due(span, scan->pass);
	w->due |= due >> ksm_window_pos(w, first) << first & ksm_window_bits(first, nr);
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
	u64 uncovered = ksm_window_bits(0, w->nr) & ~w->covered;
	unsigned int i;

	if (!uncovered)
		return 0;
	if (pmd_trans_huge(val))
		return is_huge_zero_pmd(val) ? 0 : uncovered;
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
		uncovered &= ~w->covered;
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

/* Can the page of a node never come back from an entry? */
static bool ksm_entry_is_not(struct ksm_stable *stable, swp_entry_t entry)
{
	if (!non_swap_entry(entry))
		return !ksm_stable_swapped_to(stable, entry);
	return is_hwpoison_entry(entry) || is_pte_marker_entry(entry) ||
	       ksm_stable_is_stale(stable);
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
	if (pte_none(pte) || pte_present(pte) ||
	    ksm_entry_is_not(stable, pte_to_swp_entry(pte)))
		w->detach |= BIT_ULL(i);
}

static void ksm_window_will_visit(struct ksm_window *w, unsigned int i, struct page *page)
{
	w->page[i] = page;
	w->visit |= BIT_ULL(i);
	prefetch(page);
}

/* First look at a PTE: have its struct page fetched. */
static void ksm_window_fetch(struct ksm_scan *scan, struct ksm_window *w, unsigned int i)
{
	struct page *page = NULL;
	bool merged;
	pte_t pte;

	if (!(w->covered & BIT_ULL(i)))
		return;
	merged = ksm_item_state(w->span[i], ksm_window_pos(w, i)) == KSM_ITEM_MERGED;
	if (!merged && !(w->due & BIT_ULL(i)))
		return;
	if (!w->ptep) {
		if (merged)
			w->detach |= BIT_ULL(i);
		else if (w->huge)
			ksm_window_will_visit(w, i, w->huge + i);
		else
			ksm_window_forget(w, i);
		return;
	}
	pte = ptep_get(w->ptep + i);
	if (merged)
		return ksm_window_check_merged(scan, w, i, pte);
	if (pte_present(pte)) {
		page = vm_normal_page(w->vma, ksm_window_address(w, i), pte);
		w->dirty |= (u64)!!pte_dirty(pte) << i;
	}
	if (page)
		ksm_window_will_visit(w, i, page);
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

/*
 * Second look, at the struct page: have the sampled lines fetched, and the trees that a page goes
 * to if it is the same again.
 */
static void ksm_window_classify(struct ksm_scan *scan, struct ksm_window *w, unsigned int i)
{
	struct page *page = w->page[i];
	const struct ksm_domain *domain = scan->domain;
	struct folio *folio;
	const void *kaddr;
	unsigned int line, pos;

	if (!(w->visit & BIT_ULL(i)))
		return;
	folio = page_folio(page);
	if (folio_test_ksm(folio)) {
		w->visit &= ~BIT_ULL(i);
		ksm_window_adopt(w, i, folio);
	} else if (!ksm_page_mergeable(page, w->dirty & BIT_ULL(i))) {
		w->visit &= ~BIT_ULL(i);
		ksm_window_forget(w, i);
	} else if (!PageHighMem(page)) {
		kaddr = page_address(page);
		for (line = 0; line < KSM_SAMPLE_LINES; line++)
			prefetch(kaddr + domain->digest.line[line]);
		pos = ksm_window_pos(w, i);
		if (ksm_item_state(w->span[i], pos) == KSM_ITEM_SEEN)
			prefetch(ksm_forest_bucket(&domain->forest,
						   ksm_item_key(w->span[i], pos)));
	}
}

/* The next page to be visited after @i, if it will be read as a whole; or NULL. */
static struct page *ksm_window_next_crowded(const struct ksm_window *w, unsigned int i)
{
	const u64 later = w->visit & ~ksm_window_bits(0, i + 1);
	unsigned int next;

	if (!later)
		return NULL;
	next = __ffs64(later);
	return ksm_item_marked(w->span[next], ksm_window_pos(w, next), KSM_MARK_CROWDED) ?
		w->page[next] : NULL;
}

static void ksm_window_visit(struct ksm_scan *scan, struct ksm_window *w, unsigned int i)
{
	struct page *next;

	if (!(w->visit & BIT_ULL(i)))
		return;
	next = ksm_window_next_crowded(w, i);
	if (next)
		ksm_prefetch_page(next);
	w->scanned |= BIT_ULL(i);
	if (ksm_visit(scan, w->span[i], ksm_window_pos(w, i), w->page[i]) != KSM_VISIT_CALM)
		w->restless |= BIT_ULL(i);
}

/* Several in a row, so that the CPU can walk the page tables for all of them at a time. */
static void ksm_window_classify_some(struct ksm_scan *scan, struct ksm_window *w,
				     unsigned int first)
{
	unsigned int i;

	for (i = first; i < min(first + KSM_AHEAD_PAGES, w->nr); i++)
		ksm_window_classify(scan, w, i);
}

/* Visit pages from @first on, until the cost is high; returns where to go on. PTE lock held. */
static unsigned int ksm_window_run(struct ksm_scan *scan, struct ksm_window *w, unsigned int first)
{
	unsigned int i;

	scan->cost = 0;
	w->visit = 0;
	for (i = first; i < w->nr; i++)
		ksm_window_fetch(scan, w, i);
	if (!w->visit)
		return w->nr;
	ksm_window_classify_some(scan, w, first);
	for (i = first; i < w->nr; i++) {
		if ((i - first) % KSM_AHEAD_PAGES == 0)
			ksm_window_classify_some(scan, w, i + KSM_AHEAD_PAGES);
		ksm_window_visit(scan, w, i);
		if (scan->cost >= KSM_COST_LIMIT)
			return i + 1;
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
		if (pmd_present(val) && pmd_trans_huge(val)) {
			if (!is_huge_zero_pmd(val))
				w->huge = pmd_page(val) +
					  ((w->start & ~HPAGE_PMD_MASK) >> PAGE_SHIFT);
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
	spinlock_t *ptl;	/* of the page table */

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
			ksm_item_set_age(w->span[i], ksm_window_pos(w, i), KSM_AGE_MAX);
	}
	return freed;
}

/* What the bits of pages [first, first + nr) of the window are as positions in their span. */
static u16 ksm_window_positions(const struct ksm_window *w, u64 bits, unsigned int first,
				unsigned int nr)
{
	return (bits & ksm_window_bits(first, nr)) >> first << ksm_window_pos(w, first);
}

/* Note what became of the visits to a span; returns how many pages were passed over. */
static unsigned int ksm_window_leave_span(struct ksm_scan *scan, struct ksm_window *w,
					  struct ksm_span *span, unsigned int first,
					  unsigned int nr)
{
	const u16 part = ksm_window_positions(w, U64_MAX, first, nr);
	const u16 due = ksm_window_positions(w, w->due, first, nr);
	const u16 restless = ksm_window_positions(w, w->restless, first, nr);

	if (READ_ONCE(scan->domain->knobs.smart_scan))
		ksm_span_visited(span, due & ~restless, restless);
	else
		ksm_span_visited(span, 0, part);
	return hweight16((span->seen | span->unstable) & part & ~due);
}

static void ksm_window_leave(struct ksm_scan *scan, struct ksm_window *w)
{
	unsigned int first, nr, scanned = hweight64(w->scanned);
	unsigned long skipped = 0;
	struct ksm_span *span;
	u64 left;

	for (left = w->covered; left; left &= ~ksm_window_bits(first, nr)) {
		span = w->span[__ffs64(left)];
		first = ksm_window_part(w, span, &nr);
		if (ksm_span_empty(span) && span->pass == scan->pass) {
			/* as if not met: to be swept */
			span->pass--;
			scan->slot->nr_met--;
			continue;
		}
		skipped += ksm_window_leave_span(scan, w, span, first, nr);
	}
	scan->news |= !!w->restless;
	ksm_stat_add(&scan->domain->stats, KSM_STAT_SCANNED, scanned);
	if (skipped)
		ksm_stat_add(&scan->domain->stats, KSM_STAT_SKIPPED, skipped);
	scan->budget -= min(scan->budget, scanned);
	scan->hold -= w->nr;
}

/**
 * ksm_window_scan - visit the pages of a window
 * @scan: the scanner; owns the slot in hand
 * @vma: the VMA, of the slot's mm
 * @pmd: its page table, or huge page
 * @start: first address
 * @nr: number of pages, at most KSM_WINDOW_PAGES; all in one aligned window
 *
 * Context: mmap_lock held for read, no PTE lock; allocates, may sleep.
 */
void ksm_window_scan(struct ksm_scan *scan, struct vm_area_struct *vma, pmd_t *pmd,
		     unsigned long start, unsigned int nr)
{
	struct ksm_window *w = &scan->window;
	u64 due, again, moved;

	w->vma = vma;
	w->start = start;
	w->nr = nr;
	w->merged = false;
	w->covered = 0;
	w->due = 0;
	w->dirty = 0;
	w->scanned = 0;
	w->restless = 0;
	w->detach = 0;
	w->moved = 0;
	ksm_window_gather(scan, w);
	ksm_window_cover(scan, w, pmd);
	if (w->due || w->merged) {
		if (!ksm_window_visit_all(scan, w, pmd))
			w->restless |= w->due & ~w->scanned;
		for (moved = w->moved; moved; moved &= moved - 1)
			ksm_stable_follow_node(ksm_window_stable(w, __ffs64(moved)));
		again = ksm_window_detach(w) & w->due;
		if (again) {
			due = w->due;
			w->due = again;
			ksm_window_visit_all(scan, w, pmd);
			w->due = due;
		}
	}
	ksm_window_leave(scan, w);
}
