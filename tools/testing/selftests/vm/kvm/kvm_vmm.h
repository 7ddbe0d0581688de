/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Same-page merging selftests: a VMM, which is a process with one VM. The VM's
 * pages all have contents of content_seed(), the same in all VMMs, but for
 * stamps, each of which is unique.
 *
 * Functions of type ksm_child_fn are also for VMMs in other processes. Those
 * that check return the number of wrong pages, all may return a negative errno.
 */
#ifndef KVM_VMM_H
#define KVM_VMM_H

#include "kvm_vm.h"

#define VMM_PAGES	512
#define VMM_CONTENTS	GUEST_REFS_NR

/* This process's own. */
struct vmm {
	struct vm vm;
	bool zeroes;		/* all pages are to be zero instead */
	bool guest_only;	/* vmm_writes() leaves all writes to the guest */
	long rounds;		/* of vmm_writes(), ... */
	long merged_rounds;	/* ... and those that met mostly merged pages */
	uint32_t id;
	uint32_t stamps;
	unsigned int random;
};

extern struct vmm vmm;

long vmm_boot(long id);
long vmm_boot_merge_any(long id);
long vmm_zero(long unused);
long vmm_wrong(long unused);
long vmm_merged(long unused);
long vmm_frame(long page);
long vmm_swapped(long unused);
long vmm_writes(long ms);
long vmm_merged_rounds(long unused);

struct vm_pages vmm_stamps(uint32_t first, uint32_t step, uint32_t at);
size_t vmm_pages_wrong(const struct vm_pages *stamped);
void vmm_host_stamp(const struct vm_pages *pages);
void vmm_host_unstamp(const struct vm_pages *pages);

#endif /* KVM_VMM_H */
