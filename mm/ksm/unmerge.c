// SPDX-License-Identifier: GPL-2.0
/*
 * Unmerging: give every sharer a page of its own again. Page table layer.
 *
 * The page tables are searched for KSM pages, also under migration entries, and for zero pages
 * that KSM placed; what is found is broken by an unshare fault, and searched again until nothing
 * is left. Then the items of what was searched go.
 *
 * Locking: mmap_lock, for read with the slot owned (for write for a moment, to lock faults out), or
 * for write. run=2 gives it up after each step. Lifetime: nothing is held between a search and its
 * faults, so the search is repeated. Failure: -ENOMEM, or -ERESTARTSYS
 * on a signal; what was broken till then stays so, and calling again goes on. A page that can't
 * be had any more (SIGBUS, an mm that the OOM reaper took) is as good as unmerged.
 * Tests: unmerge tests in tools/testing/selftests/vm/, ksm_torture.
 */
#include <linux/mmu_context.h>
#include <linux/oom.h>
#include <linux/pagewalk.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/swap.h>
#include <linux/swapops.h>

#include "../internal.h"
#include "slot.h"
#include "stable.h"
#include "unmerge.h"

/* One step: so many pages are broken, and so many page tables, or holes for one, are searched. */
#define KSM_BREAK_BATCH	64
#define KSM_BREAK_LOOKS	256

/**
 * struct ksm_break - pages found by one search
 * @looks: page tables and holes that it has seen
 * @end: end of the last one of these
 * @nr: pages found
 * @address: where they are
 */
struct ksm_break {
	unsigned int looks;
	unsigned long end;
	unsigned int nr;
	unsigned long address[KSM_BREAK_BATCH];
};

/* The KSM page, or zero page that KSM placed, behind a PTE. */
static struct page *ksm_pte_merged_page(struct vm_area_struct *vma, unsigned long address,
					pte_t pte)
{
	struct page *page = NULL;
	swp_entry_t entry;

	if (pte_present(pte)) {
		if (is_ksm_zero_pte(pte))
			return pte_page(pte);
		page = vm_normal_page(vma, address, pte);
	} else if (is_swap_pte(pte)) {
		entry = pte_to_swp_entry(pte);
		if (is_migration_entry(entry) || is_device_private_entry(entry))
			page = pfn_swap_entry_to_page(entry);
	}
	return page && folio_test_ksm(page_folio(page)) ? page : NULL;
}

static int ksm_break_looked(struct ksm_break *found, unsigned long end)
{
	found->end = end;
	return ++found->looks == KSM_BREAK_LOOKS;
}

static int ksm_break_search_hole(unsigned long addr, unsigned long end, int depth,
				 struct mm_walk *walk)
{
	return ksm_break_looked(walk->private, end);
}

static int ksm_break_search_pmd(pmd_t *pmd, unsigned long addr, unsigned long end,
				struct mm_walk *walk)
{
	struct ksm_break *found = walk->private;
	struct page *page;
	pte_t *first, *ptep;
	spinlock_t *ptl;	/* of the page table */

	cond_resched();
	first = pte_offset_map_lock(walk->mm, pmd, addr, &ptl);
	if (!first)	/* no table, or a huge page, which is never merged */
		return ksm_break_looked(found, end);
	for (ptep = first; addr < end && found->nr < KSM_BREAK_BATCH; ptep++, addr += PAGE_SIZE) {
		page = ksm_pte_merged_page(walk->vma, addr, ptep_get(ptep));
		if (!page)
			continue;
		found->address[found->nr++] = addr;
	}
	pte_unmap_unlock(first, ptl);
	return ksm_break_looked(found, end) || found->nr == KSM_BREAK_BATCH;
}

static const struct mm_walk_ops ksm_break_search_ops = {
	.pmd_entry = ksm_break_search_pmd,
	.pte_hole = ksm_break_search_hole,
	.walk_lock = PGWALK_RDLOCK,
};

static int ksm_break_signal(struct mm_struct *mm)
{
	/* mremap() and prctl() may be called in an exiting task, too; run=2 may meet a dying mm. */
	if (ksm_mm_gone(mm))
		return 0;
	return signal_pending(current) ? -ERESTARTSYS : 0;
}

/* Break COW on what one search finds. @next: where to begin the next one, unless the mm is gone. */
static int ksm_break_step(struct vm_area_struct *vma, unsigned long start, unsigned long end,
			  unsigned long *next)
{
	struct mm_struct *mm = vma->vm_mm;
	struct ksm_break found;
	vm_fault_t fault;
	unsigned int i;
	int err;

	mmap_assert_locked(mm);
	found.looks = 0;
	found.nr = 0;
	err = walk_page_range_vma(vma, start, end, &ksm_break_search_ops, &found);
	if (err < 0)
		return err;
	*next = err ? found.end : end;
	if (found.nr)
		*next = found.address[0];
	for (i = 0; i < found.nr; i++) {
		if (ksm_mm_gone(mm))
			return 0;
		err = ksm_break_signal(mm);
		if (err)
			return err;
		fault = handle_mm_fault(vma, found.address[i],
					FAULT_FLAG_UNSHARE | FAULT_FLAG_REMOTE, NULL);
		if (fault & VM_FAULT_OOM)
			return ksm_mm_gone(mm) ? 0 : -ENOMEM;
		if (fault & (VM_FAULT_SIGBUS | VM_FAULT_SIGSEGV | VM_FAULT_HWPOISON)) {
			/* Skip it when all before it are done, and it is found first. */
			if (!i)
				*next += PAGE_SIZE;
			break;
		}
	}
	return 0;
}

/**
 * ksm_break_range - break COW on all merged pages of a range
 * @vma: the VMA
 * @start: first address
 * @end: end address
 *
 * Context: mmap_lock held; sleeps, and may be interrupted.
 * Return: 0, -ENOMEM, or -ERESTARTSYS.
 */
int ksm_break_range(struct vm_area_struct *vma, unsigned long start, unsigned long end)
{
	int err;

	while (start < end && !ksm_mm_gone(vma->vm_mm)) {
		err = ksm_break_step(vma, start, end, &start);
		if (err)
			return err;
		cond_resched();
	}
	return 0;
}

static struct ksm_slot *ksm_mm_slot(struct mm_struct *mm)
{
	struct ksm_domain *domain = ksm_mm_domain(mm);
	struct mm_slot *mm_slot;

	spin_lock(&domain->slot_lock);
	mm_slot = mm_slot_lookup(domain->slot_hash, mm);
	spin_unlock(&domain->slot_lock);
	return mm_slot ? mm_slot_entry(mm_slot, struct ksm_slot, mm_slot) : NULL;
}

/**
 * ksm_unmerge_vma - unmerge part of a VMA and forget its pages
 * @vma: the VMA, VM_MERGEABLE
 * @start: first address
 * @end: end address
 *
 * Context: mmap_lock held for write, so nobody else looks at the mm's spans; sleeps, may be
 * interrupted.
 * Return: 0, -ENOMEM, or -ERESTARTSYS.
 */
int ksm_unmerge_vma(struct vm_area_struct *vma, unsigned long start, unsigned long end)
{
	struct ksm_slot *slot;
	int err;

	mmap_assert_write_locked(vma->vm_mm);
	if (!vma->anon_vma)
		return 0;
	/* Or else a swap-in under the VMA lock alone could map a KSM page behind the search. */
	vma_start_write(vma);
	err = ksm_break_range(vma, start, end);
	if (err)
		return err;
	/* The slot stays: it goes with the mm's last user, and the caller is or has one. */
	slot = ksm_mm_slot(vma->vm_mm);
	if (slot)
		ksm_slot_clear_range(slot, start, end, true);
	return 0;
}

/*
 * Lock an mm for read, when no fault is under way any more that began before. One of those could
 * have found that run is not 2, and map a KSM page from swap behind the search; or it is not even
 * kept out by mmap_lock, but by the VMA's lock.
 */
static int ksm_lock_out_faults(struct mm_struct *mm)
{
	struct vm_area_struct *vma;
	struct vma_iterator vmi;

	if (mmap_write_lock_killable(mm))
		return -ERESTARTSYS;
	if (!ksm_mm_gone(mm)) {
		vma_iter_init(&vmi, mm, 0);
		for_each_vma(vmi, vma) {
			if (vma->anon_vma)
				vma_start_write(vma);
		}
	}
	mmap_write_downgrade(mm);
	return 0;
}

/* The first VMA that ends behind an address and may have merged pages. */
static struct vm_area_struct *ksm_unmerge_next_vma(struct mm_struct *mm, unsigned long start)
{
	VMA_ITERATOR(vmi, mm, start);
	struct vm_area_struct *vma;

	for_each_vma(vmi, vma) {
		if (vma->anon_vma && !vma_is_temporary_stack(vma))
			return vma;
	}
	return NULL;
}

/*
 * Step by step, each under a hold of mmap_lock of its own: a search with its faults, and then some
 * of the items of what was searched, until they are gone. Nothing comes behind: while run is 2
 * nobody maps a KSM page anew, mremap() unmerges what it moves in mergeable areas, and a child of
 * fork() is an mm of its own in the list.
 */
static int ksm_unmerge_mm(struct ksm_slot *slot)
{
	struct mm_struct *mm = ksm_slot_mm(slot);
	unsigned long forgotten = 0, searched = 0;
	struct vm_area_struct *vma;
	int err = ksm_lock_out_faults(mm);

	while (!err) {
		if (!atomic_read(&mm->mm_users)) {
			/* Its exit waits for mmap_lock, which is not needed to forget it. */
			mmap_read_unlock(mm);
			ksm_slot_clear_range(slot, 0, ULONG_MAX, true);
			break;
		}
		if (forgotten == searched) {
			searched = ULONG_MAX;
			vma = ksm_mm_gone(mm) ? NULL : ksm_unmerge_next_vma(mm, forgotten);
			if (vma) {
				searched = max(forgotten, vma->vm_start);
				err = ksm_break_step(vma, searched, vma->vm_end, &searched);
			}
		}
		if (!err)
			forgotten = ksm_slot_clear_part(slot, forgotten, searched);
		mmap_read_unlock(mm);
		if (err || forgotten == ULONG_MAX)
			break;
		cond_resched();
		err = ksm_break_signal(mm);
		if (!err && mmap_read_lock_killable(mm))
			err = -ERESTARTSYS;
	}
	return err;
}

/**
 * ksm_unmerge_all - unmerge everything
 * @domain: where
 *
 * Context: scan_sem held for write; sleeps, may be interrupted.
 * Return: 0, -ENOMEM, or -ERESTARTSYS; then some may be unmerged and some not.
 */
int ksm_unmerge_all(struct ksm_domain *domain)
{
	u32 stamp = --domain->unmerge_stamp;
	struct ksm_slot *slot;
	int err = 0;

	lockdep_assert_held_write(&domain->scan_sem);
	while (!err && (slot = ksm_slot_next(domain, stamp, &stamp, true))) {
		err = ksm_unmerge_mm(slot);
		if (!err)
			ksm_slot_finish(slot, stamp);
		ksm_slot_release(slot);
	}
	ksm_stable_sweep(domain, UINT_MAX);
	return err;
}
