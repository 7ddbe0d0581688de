// SPDX-License-Identifier: GPL-2.0
/*
 * Work off what the visits of a chunk found. Engine layer.
 *
 * First the revisits, mm by mm: an item that is not alone any more gets its full digest, and one
 * that was hit is compared with the page that hit it and, if equal, promoted; if not, another one
 * with that key is looked at. Then, when no page is held any more, all pages for which there
 * should now be a KSM page are attached, mm by mm. At last, a page that was promoted but found
 * nobody to share it is broken again.
 *
 * Locking: called without locks below scan_sem; takes mmap_lock for read by some tries, one at a
 * time.
 * Lifetime: see candidate.c; all references are dropped here. Failure: an mm that is busy is left
 * to the next pass; a page that can't be merged goes in the tree with an age, so that others find
 * it, and is tried again every 2nd, 4th, 8th pass. Tests: merge, pin and yield tests in
 * tools/testing/selftests/vm/.
 */
#include <linux/delay.h>
#include <linux/pagewalk.h>
#include <linux/sched/mm.h>
#include <linux/sort.h>
#include <linux/swap.h>
#include <linux/userfaultfd_k.h>

#include "scan.h"
#include "unmerge.h"

#define KSM_MMAP_TRIES	8

static void ksm_age(struct ksm_span *span, unsigned int pos)
{
	ksm_item_set_age(span, pos, ksm_item_age(span, pos) + 1);
}

/*
 * An item is not what the page that hit it looks for: keys may collide, or it maps that very page.
 * Put it behind its equals, and have the next of those looked at.
 */
static void ksm_revisit_next(struct ksm_scan *scan, struct ksm_revisit *revisit,
			     struct ksm_span *span, unsigned int pos)
{
	const u64 key = revisit->content.key;
	const struct ksm_item *first = revisit->first ?: &span->items[pos];
	struct ksm_bucket *bucket = ksm_forest_bucket(&scan->domain->forest, key);
	struct ksm_revisit *next = NULL;
	struct ksm_item *item;

	ksm_unstable_requeue(span, pos);
	if (revisit->tries == KSM_PEERS)
		return;
	spin_lock(&bucket->lock);
	item = __ksm_unstable_peer(bucket, key, NULL, 0);
	if (item && item != first)
		next = ksm_want_revisit(scan, ksm_item_span(item), ksm_item_pos(item),
					revisit->content, revisit->peer);
	spin_unlock(&bucket->lock);
	if (next) {
		next->tries = revisit->tries + 1;
		next->first = first;
	}
}

/*
 * Compare the page of an item in the tree with the one that hit it, and if equal have it promoted.
 */
static void ksm_revisit_match(struct ksm_scan *scan, struct ksm_revisit *revisit,
			      struct ksm_span *span, unsigned int pos, struct page *page)
{
	const bool same = page == revisit->peer;

	if (!same && (ksm_page_pinned(revisit->peer) || PageHWPoison(revisit->peer)))
		return;	/* nothing is wrong with this one; the other tries again */
	if (same || !pages_identical(page, revisit->peer)) {
		if (!same)
			ksm_age(span, pos);
		ksm_revisit_next(scan, revisit, span, pos);
		return;
	}
	scan->promote[scan->nr_promotes++] = (struct ksm_work) {
		.slot = revisit->slot,
		.address = revisit->address,
		.content = revisit->content,
		.kind = KSM_WORK_PROMOTE,
		.large = folio_test_large(page_folio(page)),
	};
}

static void ksm_revisit_one(struct ksm_scan *scan, struct ksm_revisit *revisit)
{
	struct vm_area_struct *vma = vma_lookup(ksm_slot_mm(revisit->slot), revisit->address);
	struct page *page = NULL;
	struct folio_walk fw;
	struct ksm_span *span;
	struct folio *folio;
	unsigned int pos;

	span = ksm_span_lookup(revisit->slot, revisit->address >> PAGE_SHIFT, &pos);
	if (!span || !vma || !ksm_vma_scannable(vma))
		return;
	if (ksm_item_state(span, pos) != KSM_ITEM_UNSTABLE &&
	    (revisit->peer || ksm_item_state(span, pos) != KSM_ITEM_SEEN))
		return;
	folio = folio_walk_start(&fw, vma, revisit->address, 0);
	if (!folio)
		return;
	if (ksm_page_mergeable(fw.page, fw.level == FW_LEVEL_PTE && pte_dirty(fw.pte))) {
		if (!revisit->peer) {
			ksm_visit(scan, span, pos, fw.page);
		} else if (ksm_item_key(span, pos) == revisit->content.key) {
			page = fw.page;
			folio_get(folio);
		}
	}
	folio_walk_end(&fw, vma);
	if (page) {
		ksm_revisit_match(scan, revisit, span, pos, page);
		folio_put(folio);
	}
}

/*
 * Where it failed, keep the page findable, and have it tried again. One whose sample alone spoke
 * for the match is looked at once more, by its full digest.
 */
static void ksm_note_outcome(struct ksm_scan *scan, struct ksm_slot *slot,
			     const struct ksm_work *work)
{
	struct ksm_span *span;
	unsigned int pos;

	if (work->outcome == KSM_OUTCOME_MERGED || work->outcome == KSM_OUTCOME_CHANGED)
		return;
	span = ksm_span_lookup(slot, work->address >> PAGE_SHIFT, &pos);
	if (!span)
		return;
	if (ksm_item_state(span, pos) == KSM_ITEM_SEEN) {
		if (ksm_key_full(ksm_item_key(span, pos))) {
			ksm_unstable_insert(span, pos, ksm_item_key(span, pos));
		} else if (work->outcome == KSM_OUTCOME_DIFFERS &&
			   !ksm_item_mark(span, pos, KSM_MARK_CROWDED)) {
			ksm_want_lone_revisit(scan, span, pos);
			return;
		}
		ksm_age(span, pos);
	} else if (ksm_item_state(span, pos) == KSM_ITEM_UNSTABLE) {
		/* Whose fault it was goes behind. If all did, the order would be as before. */
		if (work->kind == KSM_WORK_PROMOTE || work->outcome == KSM_OUTCOME_PINNED)
			ksm_unstable_requeue(span, pos);
		if (work->kind != KSM_WORK_ATTACH)	/* that has aged with its visit */
			ksm_age(span, pos);
	}
}

static void ksm_note_outcomes(struct ksm_scan *scan, struct ksm_slot *slot,
			      const struct ksm_work *work, unsigned int nr)
{
	unsigned int i;

	mmap_assert_locked(ksm_slot_mm(slot));
	for (i = 0; i < nr; i++)
		ksm_note_outcome(scan, slot, &work[i]);
}

static void ksm_merge_and_note(struct ksm_scan *scan, struct ksm_slot *slot, struct ksm_work *work,
			       unsigned int nr)
{
	ksm_merge(scan, slot, work, nr);
	ksm_note_outcomes(scan, slot, work, nr);
}

/* A process that maps and unmaps all the time leaves gaps: don't miss them all. */
static bool ksm_mmap_try(struct mm_struct *mm)
{
	unsigned int tries;

	for (tries = 0; tries < KSM_MMAP_TRIES; tries++) {
		if (mmap_read_trylock(mm))
			return true;
		usleep_range(20, 50);
	}
	return false;
}

/* Own a slot and lock its mm, without waiting long for either. */
static bool ksm_settle_begin(struct ksm_scan *scan, struct ksm_slot *slot)
{
	if (slot != scan->slot && !ksm_slot_claim(slot, scan))
		return false;
	if (ksm_mmap_try(ksm_slot_mm(slot))) {
		if (!ksm_mm_gone(ksm_slot_mm(slot)))
			return true;
		mmap_read_unlock(ksm_slot_mm(slot));
	}
	if (slot != scan->slot)
		ksm_slot_release(slot);
	return false;
}

static void ksm_settle_end(struct ksm_scan *scan, struct ksm_slot *slot)
{
	mmap_read_unlock(ksm_slot_mm(slot));
	if (slot != scan->slot)
		ksm_slot_release(slot);
}

static int ksm_place_cmp(unsigned long slot, unsigned long address, unsigned long other_slot,
			 unsigned long other_address)
{
	if (slot != other_slot)
		return slot < other_slot ? -1 : 1;
	return address < other_address ? -1 : address > other_address;
}

static int ksm_revisit_cmp(const void *a, const void *b)
{
	const struct ksm_revisit *x = a, *y = b;

	return ksm_place_cmp((unsigned long)x->slot, x->address, (unsigned long)y->slot,
			     y->address);
}

static int ksm_work_cmp(const void *a, const void *b)
{
	const struct ksm_work *x = a, *y = b;

	return ksm_place_cmp((unsigned long)x->slot, x->address, (unsigned long)y->slot,
			     y->address);
}

static void ksm_revisit_put(struct ksm_revisit *revisit)
{
	if (revisit->peer)
		put_page(revisit->peer);
	revisit->peer = NULL;
}

/* The revisits from @first on that are of one mm; returns the number behind the last of them. */
static unsigned int ksm_settle_revisits(struct ksm_scan *scan, unsigned int first)
{
	struct ksm_slot *slot = scan->revisit[first].slot;
	bool begun = ksm_settle_begin(scan, slot);
	unsigned int i;

	for (i = first; i < scan->nr_revisits && scan->revisit[i].slot == slot; i++) {
		if (begun && (i == first || !ksm_mm_wanted(ksm_slot_mm(slot))))
			ksm_revisit_one(scan, &scan->revisit[i]);
		ksm_revisit_put(&scan->revisit[i]);
	}
	if (begun) {
		/* Revisits that came while others were handled stand behind these. */
		sort(scan->promote, scan->nr_promotes, sizeof(scan->promote[0]), ksm_work_cmp,
		     NULL);
		ksm_merge_and_note(scan, slot, scan->promote, scan->nr_promotes);
		scan->nr_promotes = 0;
		ksm_settle_end(scan, slot);
	}
	while (first < i)
		ksm_slot_put(scan->revisit[first++].slot);
	return i;
}

static unsigned int ksm_settle_work(struct ksm_scan *scan, unsigned int first)
{
	struct ksm_slot *slot = scan->work[first].slot;
	unsigned int i = first;

	while (i < scan->nr_work && scan->work[i].slot == slot)
		i++;
	if (ksm_settle_begin(scan, slot)) {
		ksm_merge_and_note(scan, slot, &scan->work[first], i - first);
		ksm_settle_end(scan, slot);
	}
	while (first < i)
		ksm_slot_put(scan->work[first++].slot);
	return i;
}

static void ksm_settle_all_revisits(struct ksm_scan *scan)
{
	unsigned int i;

	sort(scan->revisit, scan->nr_revisits, sizeof(scan->revisit[0]), ksm_revisit_cmp, NULL);
	for (i = 0; i < scan->nr_revisits; )
		i = ksm_settle_revisits(scan, i);
	scan->nr_revisits = 0;
}

static void ksm_settle_all_work(struct ksm_scan *scan)
{
	unsigned int i;

	sort(scan->work, scan->nr_work, sizeof(scan->work[0]), ksm_work_cmp, NULL);
	for (i = 0; i < scan->nr_work; )
		i = ksm_settle_work(scan, i);
	scan->nr_work = 0;
}

/**
 * ksm_note_promoted - remember a page that became a KSM page
 * @scan: the scanner
 * @span: its span
 * @pos: its position
 */
void ksm_note_promoted(struct ksm_scan *scan, struct ksm_span *span, unsigned int pos)
{
	if (scan->nr_promoted == ARRAY_SIZE(scan->promoted))
		return;
	ksm_slot_get(span->slot);
	scan->promoted[scan->nr_promoted++] = (struct ksm_work) {
		.slot = span->slot,
		.address = ksm_item_address(span, pos),
	};
}

/* A KSM page that nobody came to share is just a burden to its owner's next write. */
static void ksm_break_lone(struct ksm_slot *slot, unsigned long address)
{
	struct vm_area_struct *vma = vma_lookup(ksm_slot_mm(slot), address);
	unsigned int pos;
	struct ksm_span *span = ksm_span_lookup(slot, address >> PAGE_SHIFT, &pos);
	unsigned int noreclaim;

	if (!vma || !vma_is_anonymous(vma) || userfaultfd_armed(vma) || !span ||
	    ksm_item_state(span, pos) != KSM_ITEM_MERGED ||
	    !ksm_stable_is_lone(ksm_item_stable(span, pos)))
		return;
	/* No reclaim, no OOM kill for this; the old page comes free at once. */
	noreclaim = memalloc_noreclaim_save();
	if (!ksm_break_range(vma, address, address + PAGE_SIZE))
		ksm_item_unlink(span, pos, false);
	memalloc_noreclaim_restore(noreclaim);
}

static void ksm_settle_promoted(struct ksm_scan *scan)
{
	struct ksm_work *work;

	for (work = scan->promoted; work < scan->promoted + scan->nr_promoted; work++) {
		if (ksm_settle_begin(scan, work->slot)) {
			ksm_break_lone(work->slot, work->address);
			ksm_settle_end(scan, work->slot);
		}
		ksm_slot_put(work->slot);
	}
	scan->nr_promoted = 0;
}

/**
 * ksm_settle - work off all revisits, then all work
 * @scan: the scanner
 *
 * Context: scan_sem held for read, nothing below it; owner of @scan->slot. May sleep.
 */
void ksm_settle(struct ksm_scan *scan)
{
	if (!scan->nr_revisits && !scan->nr_work)
		return;
	do {
		ksm_settle_all_revisits(scan);
		ksm_settle_all_work(scan);
	} while (scan->nr_revisits);
	ksm_settle_promoted(scan);
}
