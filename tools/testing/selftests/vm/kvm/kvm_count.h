/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Same-page merging selftests: what the VMs of this machine have been troubled
 * with so far. Only differences mean something, while no VM comes or goes.
 * Functions return 0, or a negative errno.
 */
#ifndef KVM_COUNT_H
#define KVM_COUNT_H

#include <stdint.h>

struct kvm_counts {
	int64_t ranges;		/* mmu_notifier ranges that KVM was told of */
	int64_t flushes;	/* of a VM's TLB entries, asked of all its processors */
	int64_t exits;		/* from a guest to KVM */
	int64_t faults;		/* those of them that nested page tables caused */
};

int kvm_count_begin(void);
int kvm_count_end(void);
int kvm_count(struct kvm_counts *counts);
int kvm_count_since(struct kvm_counts *counts);

#endif /* KVM_COUNT_H */
