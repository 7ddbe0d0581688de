// SPDX-License-Identifier: GPL-2.0
/*
 * From a list of pages to batches. Page table layer.
 *
 * The list is cut where batches end: at VMAs, page tables, gaps, 16 pages. Large folios are split
 * on the way, when one of their pages has proved to be equal. Pages that find all KSM pages of
 * their content full are tried again after others have become KSM pages.
 *
 * Locking: mmap_lock is held for read by the caller, and nothing below it. Lifetime: see merge.c.
 * Failure: what was not tried, because others wait for the mm, comes again with the next pass.
 * Tests: merge, dups and thp tests in tools/testing/selftests/vm/, ksm_torture.
 */
#include <linux/mm.h>
#include <linux/pagewalk.h>
#include <linux/swap.h>

#include "scan.h"

/* KVM drops all of a range, so pages farther apart than this get ranges of their own. */
#define KSM_BATCH_GAP	(8 * PAGE_SIZE)

static bool ksm_split_wanted(struct ksm_scan *scan, struct ksm_work *work, struct page *page)
{
	struct ksm_stable *stable;
	struct folio *target;
	bool wanted;

	if (work->kind == KSM_WORK_PROMOTE)	/* has been compared already */
		return true;
	if (work->kind == KSM_WORK_ZERO)
		return pages_identical(page, ZERO_PAGE(work->address));
	if (ksm_stable_lookup(scan->domain, work->content, &stable, &target) != KSM_MATCH_ROOM)
		return false;
	wanted = pages_identical(page, folio_page(target, 0));
	folio_put(target);
	return wanted;
}

static bool ksm_split_folio(struct folio *folio)
{
	bool split;

	if (!folio_trylock(folio))
		return false;
	split = !folio_test_large(folio) || !split_folio(folio);
	folio_unlock(folio);
	return split;
}

/*
 * Only small folios become KSM pages. A large one is split when one of its pages proved to be
 * equal.
 */
static void ksm_split(struct ksm_scan *scan, struct vm_area_struct *vma, struct ksm_work *work)
{
	struct folio_walk fw;
	struct folio *folio;
	struct page *page;

	folio = folio_walk_start(&fw, vma, work->address, 0);
	if (!folio)
		return;
	page = fw.page;
	folio_get(folio);
	folio_walk_end(&fw, vma);

	if (folio_test_large(folio) && ksm_page_mergeable(page, true)) {
		if (!ksm_split_wanted(scan, work, page))
			work->outcome = KSM_OUTCOME_DIFFERS;
		else if (!ksm_split_folio(folio))
			work->outcome = KSM_OUTCOME_PINNED;
	}
	folio_put(folio);
}

static void ksm_batch_add(struct ksm_scan *scan, struct ksm_slot *slot, struct ksm_batch *batch,
			  struct ksm_work *work)
{
	struct ksm_candidate *c = &batch->candidate[batch->nr];

	*c = (struct ksm_candidate) { .work = work, .live = true };
	c->span = ksm_span_lookup(slot, work->address >> PAGE_SHIFT, &c->pos);
	if (work->large)
		ksm_split(scan, batch->vma, work);
	if (!c->span || ksm_item_state(c->span, c->pos) == KSM_ITEM_MERGED ||
	    (c->span->merged &&
	     linear_page_index(batch->vma, work->address) != ksm_item_pgoff(c->span, c->pos)))
		work->outcome = KSM_OUTCOME_CHANGED;
	if (work->outcome != KSM_OUTCOME_PENDING)
		return;
	if (!batch->nr++)
		batch->start = work->address;
	batch->end = work->address + PAGE_SIZE;
}

/*
 * Fill the batch with the work's first pages that are near enough; returns how much of it was used
 * up.
 */
static unsigned int ksm_batch_fill(struct ksm_scan *scan, struct ksm_slot *slot,
				   struct vm_area_struct *vma, struct ksm_work *work,
				   unsigned int nr)
{
	const unsigned long limit = min(vma->vm_end, ALIGN(work->address + 1, PMD_SIZE));
	struct ksm_batch *batch = &scan->batch;
	unsigned int i;

	batch->vma = vma;
	batch->nr = 0;
	for (i = 0; i < nr && batch->nr < KSM_BATCH_PAGES && work[i].address < limit; i++) {
		VM_WARN_ON_ONCE(i && work[i].address < work[i - 1].address);
		if (work[i].outcome != KSM_OUTCOME_PENDING)
			continue;
		if (batch->nr && work[i].address > batch->end + KSM_BATCH_GAP)
			break;
		if (batch->nr && work[i].address < batch->end)
			work[i].outcome = KSM_OUTCOME_CHANGED;
		else
			ksm_batch_add(scan, slot, batch, &work[i]);
	}
	return i;
}

/* Returns how many were tried: not all when others wait for the mm, or it is gone. */
static unsigned int ksm_merge_round(struct ksm_scan *scan, struct ksm_slot *slot,
				    struct ksm_work *work, unsigned int nr)
{
	struct vm_area_struct *vma;
	unsigned int i = 0;

	while (i < nr) {
		vma = vma_lookup(ksm_slot_mm(slot), work[i].address);
		if (!vma || !ksm_vma_scannable(vma)) {
			work[i++].outcome = KSM_OUTCOME_CHANGED;
			continue;
		}
		i += ksm_batch_fill(scan, slot, vma, &work[i], nr - i);
		if (scan->batch.nr)
			ksm_batch_run(scan, &scan->batch);
		if (ksm_mm_wanted(vma->vm_mm))
			break;
		cond_resched();
	}
	return i;
}

/* What was not tried comes again with the next pass. */
static void ksm_merge_give_up(struct ksm_work *work, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		if (work[i].outcome == KSM_OUTCOME_PENDING)
			work[i].outcome = KSM_OUTCOME_CHANGED;
	}
}

/* Pages that found their KSM pages full may try again, as long as others of them got on. */
static bool ksm_merge_again(struct ksm_work *work, unsigned int nr, unsigned int *merged)
{
	unsigned int i, full = 0, before = *merged;

	*merged = 0;
	for (i = 0; i < nr; i++) {
		*merged += work[i].outcome == KSM_OUTCOME_MERGED;
		full += work[i].outcome == KSM_OUTCOME_FULL;
	}
	if (!full || *merged == before)
		return false;
	for (i = 0; i < nr; i++) {
		if (work[i].outcome == KSM_OUTCOME_FULL)
			work[i].outcome = KSM_OUTCOME_PENDING;
	}
	return true;
}

/**
 * ksm_merge - promote or attach pages of one mm
 * @scan: the scanner
 * @slot: the mm; owned
 * @work: what to do, by address; the outcome of each is noted there
 * @nr: length of @work
 *
 * Context: mmap_lock held for read, nothing below it. May sleep.
 */
void ksm_merge(struct ksm_scan *scan, struct ksm_slot *slot, struct ksm_work *work, unsigned int nr)
{
	struct mm_struct *mm = ksm_slot_mm(slot);
	unsigned int merged = 0, tried;

	mmap_assert_locked(mm);
	tried = ksm_merge_round(scan, slot, work, nr);
	ksm_merge_give_up(work + tried, nr - tried);
	while (tried == nr && !ksm_mm_wanted(mm) && ksm_merge_again(work, nr, &merged))
		tried = ksm_merge_round(scan, slot, work, nr);
}
