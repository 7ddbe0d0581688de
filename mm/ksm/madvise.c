// SPDX-License-Identifier: GPL-2.0
/*
 * What applications ask for: madvise, prctl, and the life of an mm. Front layer.
 *
 * Locking: the callers hold mmap_lock for write, except for ksm_process_*() and __ksm_exit().
 * Lifetime: an mm is registered by the first area that becomes mergeable and stays so to its exit.
 * Failure: -ENOMEM, or -ERESTARTSYS while unmerging; a switch that fails leaves all as it was,
 * except that some pages may be unmerged. Tests: abi and unmerge tests in
 * tools/testing/selftests/vm/.
 */
#include <linux/dax.h>
#include <linux/export.h>
#include <linux/mman.h>

#include "slot.h"
#include "unmerge.h"

atomic_long_t ksm_zero_pages = ATOMIC_LONG_INIT(0);

static bool ksm_vma_compatible(struct vm_area_struct *vma, vm_flags_t flags)
{
	if (flags & (VM_SHARED | VM_MAYSHARE | VM_SPECIAL | VM_HUGETLB | VM_DROPPABLE))
		return false;
#ifdef VM_SAO
	if (flags & VM_SAO)
		return false;
#endif
#ifdef VM_SPARC_ADI
	if (flags & VM_SPARC_ADI)
		return false;
#endif
	return !vma || !vma_is_dax(vma);
}

/**
 * __ksm_enter - register an mm with ksmd
 * @mm: the mm
 *
 * Context: may sleep.
 * Return: 0, also when it is registered already, or -ENOMEM.
 */
int __ksm_enter(struct mm_struct *mm)
{
	return ksm_slot_enter(ksm_mm_domain(mm), mm);
}

/**
 * __ksm_exit - unregister an mm that nobody uses any more
 * @mm: the mm
 *
 * Context: no lock held. Waits for a scanner that is inside this mm to leave it, but for no pass.
 */
void __ksm_exit(struct mm_struct *mm)
{
	ksm_slot_exit(ksm_mm_domain(mm), mm);
}

/**
 * ksm_madvise - let an area be merged, or unmerge it
 * @vma: the area
 * @start: first address of the range, in @vma
 * @end: end address
 * @advice: MADV_MERGEABLE or MADV_UNMERGEABLE
 * @vm_flags: the area's flags to be, of which only VM_MERGEABLE is changed
 *
 * Areas that can't be merged are left alone without an error.
 *
 * Context: mmap_lock held for write; sleeps.
 * Return: 0, -ENOMEM, or -ERESTARTSYS.
 */
int ksm_madvise(struct vm_area_struct *vma, unsigned long start, unsigned long end, int advice,
		unsigned long *vm_flags)
{
	int err;

	if (advice == MADV_MERGEABLE) {
		if (!ksm_vma_compatible(vma, vma->vm_flags))
			return 0;
		err = __ksm_enter(vma->vm_mm);
		if (!err)
			*vm_flags |= VM_MERGEABLE;
		return err;
	}
	if (advice != MADV_UNMERGEABLE || !(*vm_flags & VM_MERGEABLE))
		return 0;
	err = ksm_unmerge_vma(vma, start, end);
	if (!err)
		*vm_flags &= ~(unsigned long)VM_MERGEABLE;
	return err;
}
EXPORT_SYMBOL_GPL(ksm_madvise);

/**
 * ksm_vma_flags - the flags of an area about to be made
 * @mm: its mm
 * @vm_flags: its flags otherwise; the area has no file
 *
 * Context: mmap_lock held for write.
 * Return: @vm_flags, with VM_MERGEABLE if all areas of the mm that can be merged are to be.
 */
unsigned long ksm_vma_flags(struct mm_struct *mm, unsigned long vm_flags)
{
	if (test_bit(MMF_VM_MERGE_ANY, &mm->flags) && ksm_vma_compatible(NULL, vm_flags) &&
	    !__ksm_enter(mm))
		vm_flags |= VM_MERGEABLE;
	return vm_flags;
}

/**
 * ksm_add_vma - let a new area be merged, if all areas of its mm are to be
 * @vma: the area
 *
 * Context: mmap_lock held for write. May sleep.
 */
void ksm_add_vma(struct vm_area_struct *vma)
{
	struct mm_struct *mm = vma->vm_mm;

	if (test_bit(MMF_VM_MERGE_ANY, &mm->flags) && !(vma->vm_flags & VM_MERGEABLE) &&
	    ksm_vma_compatible(vma, vma->vm_flags) && !__ksm_enter(mm))
		vm_flags_set(vma, VM_MERGEABLE);
}

static void ksm_mark_vmas(struct mm_struct *mm)
{
	VMA_ITERATOR(vmi, mm, 0);
	struct vm_area_struct *vma;

	for_each_vma(vmi, vma) {
		if (!(vma->vm_flags & VM_MERGEABLE) && ksm_vma_compatible(vma, vma->vm_flags))
			vm_flags_set(vma, VM_MERGEABLE);
	}
}

/* Unmerge all areas, then clear their flags; so an error leaves the flags alone. */
static int ksm_unmerge_vmas(struct mm_struct *mm)
{
	VMA_ITERATOR(vmi, mm, 0);
	struct vm_area_struct *vma;
	int err;

	for_each_vma(vmi, vma) {
		if (!(vma->vm_flags & VM_MERGEABLE))
			continue;
		err = ksm_unmerge_vma(vma, vma->vm_start, vma->vm_end);
		if (err)
			return err;
	}
	vma_iter_set(&vmi, 0);
	for_each_vma(vmi, vma) {
		if (vma->vm_flags & VM_MERGEABLE)
			vm_flags_clear(vma, VM_MERGEABLE);
	}
	return 0;
}

/**
 * ksm_enable_merge_any - let all areas of an mm be merged, those to come too
 * @mm: the mm
 *
 * Context: mmap_lock held for write; sleeps.
 * Return: 0 or -ENOMEM.
 */
int ksm_enable_merge_any(struct mm_struct *mm)
{
	int err;

	mmap_assert_write_locked(mm);
	if (test_bit(MMF_VM_MERGE_ANY, &mm->flags))
		return 0;
	err = __ksm_enter(mm);
	if (err)
		return err;
	set_bit(MMF_VM_MERGE_ANY, &mm->flags);
	ksm_mark_vmas(mm);
	return 0;
}

/**
 * ksm_disable_merge_any - take ksm_enable_merge_any() back, and unmerge all areas
 * @mm: the mm
 *
 * Context: mmap_lock held for write; sleeps.
 * Return: 0, -ENOMEM, or -ERESTARTSYS; on error all areas stay mergeable.
 */
int ksm_disable_merge_any(struct mm_struct *mm)
{
	int err;

	mmap_assert_write_locked(mm);
	if (!test_bit(MMF_VM_MERGE_ANY, &mm->flags))
		return 0;
	err = ksm_unmerge_vmas(mm);
	if (!err)
		clear_bit(MMF_VM_MERGE_ANY, &mm->flags);
	return err;
}

/**
 * ksm_disable - unmerge an mm, however it came to be merged
 * @mm: the mm
 *
 * Context: mmap_lock held for write; sleeps.
 * Return: 0, -ENOMEM, or -ERESTARTSYS.
 */
int ksm_disable(struct mm_struct *mm)
{
	mmap_assert_write_locked(mm);
	if (!test_bit(MMF_VM_MERGEABLE, &mm->flags))
		return 0;
	if (test_bit(MMF_VM_MERGE_ANY, &mm->flags))
		return ksm_disable_merge_any(mm);
	return ksm_unmerge_vmas(mm);
}
EXPORT_SYMBOL_GPL(ksm_disable);

/**
 * ksm_process_mergeable - does an mm have areas that may be merged
 * @mm: the mm
 *
 * Context: mmap_lock held.
 * Return: whether it has.
 */
bool ksm_process_mergeable(struct mm_struct *mm)
{
	VMA_ITERATOR(vmi, mm, 0);
	struct vm_area_struct *vma;

	mmap_assert_locked(mm);
	for_each_vma(vmi, vma) {
		if (vma->vm_flags & VM_MERGEABLE)
			return true;
	}
	return false;
}

/**
 * ksm_process_profit - what merging saves an mm
 * @mm: the mm
 *
 * Return: bytes of the pages that it shares, less what is held to keep track of its pages.
 */
long ksm_process_profit(struct mm_struct *mm)
{
	return (long)(mm->ksm_merging_pages + mm_ksm_zero_pages(mm)) * PAGE_SIZE -
	       (long)ksm_slot_held(ksm_mm_domain(mm), mm);
}
