/* SPDX-License-Identifier: GPL-2.0 */
/* Unmerging: give every sharer a page of its own again. Page table layer. */
#ifndef _MM_KSM_UNMERGE_H
#define _MM_KSM_UNMERGE_H

#include "domain.h"

int ksm_break_range(struct vm_area_struct *vma, unsigned long start, unsigned long end);
int ksm_unmerge_vma(struct vm_area_struct *vma, unsigned long start, unsigned long end);
int ksm_unmerge_all(struct ksm_domain *domain);

#endif /* _MM_KSM_UNMERGE_H */
