// SPDX-License-Identifier: GPL-2.0
/*
 * The pass: mm by mm, window by window. Engine layer.
 *
 * A pass walks the page tables of every registered mm once. It goes on from one wake-up to the
 * next; each slot keeps the address reached, and those that are done stand last in the list.
 *
 * Locking: scan_sem for read, for a hold at a time; in it mmap_lock for read, for 512 PTEs or 32
 * page table steps at most, dropped earlier when others wait.
 * Lifetime: the slot in hand is owned for a hold, and never without scan_sem. Failure: an mm that
 * is gone is finished at once. Tests: tools/testing/selftests/vm/, ksm_torture.
 */
#include <linux/freezer.h>
#include <linux/ktime.h>
#include <linux/mutex.h>
#include <linux/pagewalk.h>
#include <linux/sched/cputime.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <trace/events/ksm.h>

#include "scan.h"

#define KSM_HOLD_STEP		16	/* what a page table step or a VMA counts, in PTEs */
#define KSM_IDLE_CHECKED	4096	/* idle stable nodes a pass, if few of them can go */

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
	scan->swept = jiffies;
	return scan;
}

static bool ksm_hold_ends(struct ksm_scan *scan, struct mm_struct *mm)
{
	return scan->hold <= 0 || !scan->budget || scan->nr_work >= KSM_HOLD_WORK ||
	       (scan->hold < KSM_HOLD_PAGES && ksm_mm_wanted(mm));
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

static unsigned long ksm_vma_delta(const struct vm_area_struct *vma)
{
	return vma->vm_pgoff - (vma->vm_start >> PAGE_SHIFT);
}

/* Forget what is known of a span's pages; it counts as not met any more. */
static int ksm_scan_tear(struct ksm_scan *scan, struct ksm_span *span)
{
	if (span->pass == scan->pass) {
		span->pass--;
		scan->slot->nr_met--;
	}
	return ksm_span_clear(span, U16_MAX, false);
}

/*
 * A span at the edge of a VMA may have pages outside of it. When these belong to no area that is
 * scanned, no walk will ever see that they are gone; and when they belong to an area with other
 * page offsets, they need a span of their own.
 */
static void ksm_scan_edge(struct ksm_scan *scan, unsigned long address)
{
	unsigned long block = address >> (PAGE_SHIFT + KSM_BLOCK_SHIFT);
	struct vm_area_struct *vma;
	struct ksm_span *span;
	bool torn = false;
	unsigned int pos;

	if (IS_ALIGNED(address, KSM_BLOCK_PAGES * PAGE_SIZE))
		return;
	for (span = xa_load(&scan->slot->spans, block); span; span = span->next) {
		for (pos = 0; pos < span->nr; pos++) {
			vma = vma_lookup(ksm_slot_mm(scan->slot), ksm_item_address(span, pos));
			if (!vma || !ksm_vma_scannable(vma))
				ksm_span_clear(span, BIT(span->first + pos), false);
			else if (span->merged && ksm_vma_delta(vma) != span->delta)
				torn |= !ksm_scan_tear(scan, span);
		}
	}
	/* For spans that don't reach across the edge */
	if (torn)
		ksm_block_prune(scan->slot, block);
}

/* Scan on in the mm in hand until the hold ends; returns whether the mm is done. mmap_lock held. */
static bool ksm_scan_vmas(struct ksm_scan *scan)
{
	struct ksm_slot *slot = scan->slot;
	struct mm_struct *mm = ksm_slot_mm(slot);
	struct vm_area_struct *vma;
	struct vma_iterator vmi;

	vma_iter_init(&vmi, mm, slot->cursor);
	for_each_vma(vmi, vma) {
		if (ksm_hold_ends(scan, mm))
			return false;
		scan->hold -= KSM_HOLD_STEP;
		if (ksm_vma_scannable(vma)) {
			if (slot->cursor <= vma->vm_start) {
				ksm_scan_edge(scan, vma->vm_start);
				ksm_scan_edge(scan, vma->vm_end);
			}
			if (walk_page_range_vma(vma, max(slot->cursor, vma->vm_start), vma->vm_end,
						&ksm_walk_ops, scan))
				return false;
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

/* Let the advisor learn from the pass that ends, as long as nobody switches it off. */
static void ksm_pass_advise(struct ksm_scan *scan)
{
	struct ksm_knobs *knobs = &scan->domain->knobs;
	u64 cpu = task_sched_runtime(current) - scan->cpu_began;
	s64 pass_ms = ktime_ms_delta(ktime_get(), scan->began);
	u64 cpu_ms = div_u64(cpu, NSEC_PER_MSEC);
	unsigned int pages;

	mutex_lock(&scan->domain->advisor_lock);
	if (knobs->advisor) {
		pages = ksm_advise(&knobs->advice, knobs->pages_to_scan, pass_ms, cpu_ms);
		WRITE_ONCE(knobs->pages_to_scan, pages);
		trace_ksm_advisor(div_s64(pass_ms, MSEC_PER_SEC), pages,
				  div64_u64(cpu_ms * 100, max(pass_ms, 1LL)));
	}
	mutex_unlock(&scan->domain->advisor_lock);
}

static void ksm_pass_begin(struct ksm_scan *scan)
{
	scan->passing = true;
	scan->began = ktime_get();
	scan->cpu_began = task_sched_runtime(current);
	trace_ksm_start_scan(scan->domain->full_scans, ksm_scan_tracked(scan));
}

static void ksm_pass_end(struct ksm_scan *scan)
{
	unsigned int prune = READ_ONCE(scan->domain->knobs.chains_prune_millisecs), freed;

	if (time_after_eq(jiffies, scan->swept + msecs_to_jiffies(prune))) {
		do {
			freed = ksm_stable_sweep(scan->domain, KSM_IDLE_CHECKED);
		} while (freed > KSM_IDLE_CHECKED / 2 &&
			 !rwsem_is_contended(&scan->domain->scan_sem));
		scan->swept = jiffies;
	}
	ksm_pass_advise(scan);
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
