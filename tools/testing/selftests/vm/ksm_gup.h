/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Same-page merging selftests: pins that only the kernel can take, by the
 * interface of mm/gup_test.h, which is for the kernel's own tests.
 */
#ifndef KSM_GUP_H
#define KSM_GUP_H

#include <stdint.h>
#include <sys/ioctl.h>

struct gup_pin {
	uint64_t addr;
	uint64_t size;
	uint32_t flags;
};

#define GUP_TEST	"/sys/kernel/debug/gup_test"
#define GUP_PIN_START	_IOW('g', 7, struct gup_pin)
#define GUP_PIN_STOP	_IO('g', 8)
#define GUP_PIN_READ	_IOW('g', 9, uint64_t)
#define GUP_PIN_WRITE	1
#define GUP_PIN_FAST	2

#endif /* KSM_GUP_H */
