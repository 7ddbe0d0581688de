/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Same-page merging selftests: what a VM (kvm_vm.c) and the program in it
 * (kvm_guest.S) have agreed on: where things lie in guest physical memory, and
 * the calls in the mailbox. Both include this, so it is for assembler, too.
 */
#ifndef KVM_GUEST_H
#define KVM_GUEST_H

#define GUEST_CODE	0x1000
#define GUEST_BOX	0x2000
#define GUEST_REFS	0x10000		/* reference pages, in the order of their contents */
#define GUEST_REFS_NR	16
#define GUEST_RAM	0x200000	/* aligned, so that huge pages can be mapped as such */
#define GUEST_PORT	0x42		/* written to when a call is done */

/* Calls: for each of the pages that the mailbox names, ... */
#define GUEST_FILL	1		/* ... copy its reference page to it */
#define GUEST_CHECK	2		/* ... count it if it differs from that one */
#define GUEST_STAMP	3		/* ... write value + page at a place in it */
#define GUEST_CHECK_STAMP 4		/* ... count it if it has something else there */
#define GUEST_UNSTAMP	5		/* ... write what the reference page has there */

#define BOX_OP		0
#define BOX_FIRST	4
#define BOX_COUNT	8
#define BOX_STEP	12
#define BOX_DISTINCT	16
#define BOX_AT		20
#define BOX_VALUE	24
#define BOX_RESULT	28

#ifndef __ASSEMBLER__
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

struct guest_box {
	uint32_t op;
	uint32_t first;		/* pages of GUEST_RAM: first, first + step, ... */
	uint32_t count;
	uint32_t step;
	uint32_t distinct;	/* reference of page i: i % distinct */
	uint32_t at;		/* offset of the stamp in each page */
	uint32_t value;
	uint32_t result;	/* what the guest counted */
};

static_assert(offsetof(struct guest_box, distinct) == BOX_DISTINCT, "layout");
static_assert(offsetof(struct guest_box, result) == BOX_RESULT, "layout");

extern const char guest_code[], guest_code_end[];
#endif

#endif /* KVM_GUEST_H */
