/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Same-page merging selftests: virtual machines, as small as they come.
 *
 * A VM has one processor and runs the program of kvm_guest.S. Its memory is
 * the caller's; page i of it is to have the content (seed, i % distinct) of
 * content_fill(). Program, mailbox and reference pages have slots of their own
 * and are shared memory, which is never merged.
 *
 * All of this is for one process: a VM is of no use to a child. No two threads
 * may use a VM at once. Functions return 0 or more, or a negative errno.
 */
#ifndef KVM_VM_H
#define KVM_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvm_guest.h"

struct kvm_run;

struct vm {
	int fd;
	int cpu;
	struct kvm_run *run;
	size_t run_bytes;
	char *own;		/* program, mailbox, reference pages */
	struct guest_box *box;
	char *refs;		/* GUEST_REFS_NR reference pages */
	char *ram;
	size_t pages;
	size_t distinct;
};

/* Some pages of a VM, and a stamp: the 32-bit word at @at, which is @value + page. */
struct vm_pages {
	uint32_t first;
	uint32_t count;
	uint32_t step;
	uint32_t at;
	uint32_t value;
};

bool kvm_available(void);
void *vm_ram_map(size_t pages);
int vm_new(struct vm *vm, void *ram, size_t pages, size_t distinct, uint64_t seed);
void vm_free(struct vm *vm);

struct vm_pages vm_every(const struct vm *vm, uint32_t first, uint32_t step);
bool vm_pages_have(const struct vm_pages *pages, size_t page);

/*
 * What the guest does; the checks return the number of wrong pages. A guest
 * that leaves its program gives -EIO, one that doesn't come back -ETIME, and
 * where it was is printed.
 */
long vm_call(struct vm *vm, uint32_t op, const struct vm_pages *pages);
long vm_fill(struct vm *vm);
long vm_wrong(struct vm *vm);

int vm_log_dirty(struct vm *vm, bool on);
int vm_get_dirty(struct vm *vm, uint64_t *bitmap);

#endif /* KVM_VM_H */
