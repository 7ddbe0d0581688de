/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Same-page merging (KSM): what the rest of the kernel calls.
 *
 * ksmd finds equal pages in the areas that applications offer by madvise(MADV_MERGEABLE) or
 * prctl(PR_SET_MEMORY_MERGE), and lets them share one write-protected page. The implementation is
 * in mm/ksm/, its design in Documentation/mm/ksm-design.rst.
 */
#ifndef _LINUX_KSM_H
#define _LINUX_KSM_H

#include <linux/atomic.h>
#include <linux/sched/coredump.h>
#include <linux/sched.h>
#include <linux/rmap.h>
#include <linux/pagemap.h>
#include <linux/pgtable.h>
#include <linux/mm.h>
#include <linux/bitops.h>

#ifdef CONFIG_KSM
/* Registration of areas and processes: mm/ksm/madvise.c */
int ksm_madvise(struct vm_area_struct *vma, unsigned long start, unsigned long end, int advice,
		unsigned long *vm_flags);
int ksm_enable_merge_any(struct mm_struct *mm);
int ksm_disable_merge_any(struct mm_struct *mm);
int ksm_disable(struct mm_struct *mm);
void ksm_add_vma(struct vm_area_struct *vma);
unsigned long ksm_vma_flags(struct mm_struct *mm, unsigned long vm_flags);
bool ksm_process_mergeable(struct mm_struct *mm);
long ksm_process_profit(struct mm_struct *mm);

/* Life of an mm: mm/ksm/madvise.c */
int __ksm_enter(struct mm_struct *mm);
void __ksm_exit(struct mm_struct *mm);

/* Merged pages in reclaim, migration, swap-in and memory failure: mm/ksm/rmap.c */
void rmap_walk_ksm(struct folio *folio, struct rmap_walk_control *rwc);
void folio_migrate_ksm(struct folio *newfolio, struct folio *folio);
struct folio *ksm_might_need_to_copy(struct folio *folio, struct vm_area_struct *vma,
				     unsigned long addr);
#ifdef CONFIG_MEMORY_FAILURE
void collect_procs_ksm(struct folio *folio, struct page *page, struct list_head *to_kill,
		       int force_early);
#endif

extern atomic_long_t ksm_zero_pages;

/*
 * A PTE by which ksmd replaced a page of zeroes: it maps the zero page and is marked by the dirty
 * bit, which nothing else sets there, as such a PTE is never writable.
 */
static inline bool is_ksm_zero_pte(pte_t pte)
{
	return pte_dirty(pte) && !pte_write(pte) && is_zero_pfn(pte_pfn(pte));
}

/* The next three count marked PTEs, of all processes and of @mm. PTE lock held. */
static inline void ksm_map_zero_page(struct mm_struct *mm)
{
	atomic_long_inc(&mm->ksm_zero_pages);
	atomic_long_inc(&ksm_zero_pages);
}

static inline void ksm_copied_zero_page(struct mm_struct *dst_mm, pte_t pte)
{
	if (unlikely(is_ksm_zero_pte(pte)))
		ksm_map_zero_page(dst_mm);
}

static inline void ksm_might_unmap_zero_page(struct mm_struct *mm, pte_t pte)
{
	if (unlikely(is_ksm_zero_pte(pte))) {
		atomic_long_dec(&mm->ksm_zero_pages);
		atomic_long_dec(&ksm_zero_pages);
	}
}

static inline long mm_ksm_zero_pages(struct mm_struct *mm)
{
	return atomic_long_read(&mm->ksm_zero_pages);
}

/* A new mm, also one that fork is about to fill, has nothing merged yet. */
static inline void ksm_init_mm(struct mm_struct *mm)
{
	mm->ksm_merging_pages = 0;
	mm->ksm_rmap_items = 0;
	atomic_long_set(&mm->ksm_zero_pages, 0);
}

/* Best effort: a child that can't be registered is just not scanned. */
static inline void ksm_fork(struct mm_struct *mm, struct mm_struct *oldmm)
{
	if (test_bit(MMF_VM_MERGEABLE, &oldmm->flags))
		__ksm_enter(mm);
}

static inline int ksm_execve(struct mm_struct *mm)
{
	return test_bit(MMF_VM_MERGE_ANY, &mm->flags) ? __ksm_enter(mm) : 0;
}

static inline void ksm_exit(struct mm_struct *mm)
{
	if (test_bit(MMF_VM_MERGEABLE, &mm->flags))
		__ksm_exit(mm);
}

#else /* !CONFIG_KSM */

static inline int ksm_madvise(struct vm_area_struct *vma, unsigned long start, unsigned long end,
			      int advice, unsigned long *vm_flags)
{
	return 0;
}

static inline int ksm_disable(struct mm_struct *mm)
{
	return 0;
}

static inline void ksm_add_vma(struct vm_area_struct *vma)
{
}

static inline unsigned long ksm_vma_flags(struct mm_struct *mm, unsigned long vm_flags)
{
	return vm_flags;
}

static inline void rmap_walk_ksm(struct folio *folio, struct rmap_walk_control *rwc)
{
}

static inline void folio_migrate_ksm(struct folio *newfolio, struct folio *folio)
{
}

static inline struct folio *ksm_might_need_to_copy(struct folio *folio, struct vm_area_struct *vma,
						   unsigned long addr)
{
	return folio;
}

static inline void ksm_copied_zero_page(struct mm_struct *dst_mm, pte_t pte)
{
}

static inline void ksm_might_unmap_zero_page(struct mm_struct *mm, pte_t pte)
{
}

static inline void ksm_init_mm(struct mm_struct *mm)
{
}

static inline void ksm_fork(struct mm_struct *mm, struct mm_struct *oldmm)
{
}

static inline int ksm_execve(struct mm_struct *mm)
{
	return 0;
}

static inline void ksm_exit(struct mm_struct *mm)
{
}
#endif /* CONFIG_KSM */

#if !defined(CONFIG_KSM) || !defined(CONFIG_MEMORY_FAILURE)
static inline void collect_procs_ksm(struct folio *folio, struct page *page,
				     struct list_head *to_kill, int force_early)
{
}
#endif

#endif /* _LINUX_KSM_H */
