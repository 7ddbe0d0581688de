/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the pure files of mm/ksm need from the kernel, for userspace: tools/include, and the little
 * that it lacks. mm/ksm/pure.h includes it when __KERNEL__ is not defined.
 */
#ifndef _TESTING_KSM_SHIM_H
#define _TESTING_KSM_SHIM_H

#include <asm-generic/atomic-gcc.h>
#include <linux/bitops.h>
#include <linux/build_bug.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/rbtree.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/types.h>
#include <linux/xxhash.h>

#ifndef PAGE_SHIFT
#define PAGE_SHIFT	12
#endif
#define PAGE_SIZE	BIT(PAGE_SHIFT)

/* The kernel's takes limits of another signedness, if they are constants. */
#undef clamp
#define clamp(val, lo, hi)	min_t(typeof(val), max_t(typeof(val), val, lo), hi)

#ifndef U32_MAX
#define U16_MAX		((u16)~0U)
#define U32_MAX		((u32)~0U)
#endif
#ifndef U64_MAX
#define U64_MAX		((u64)~0ULL)
#endif

static inline u64 div64_u64(u64 dividend, u64 divisor)
{
	return dividend / divisor;
}

static inline long atomic_long_read(const atomic_long_t *v)
{
	return __atomic_load_n(&v->counter, __ATOMIC_RELAXED);
}

static inline void atomic_long_add(long n, atomic_long_t *v)
{
	__atomic_fetch_add(&v->counter, n, __ATOMIC_RELAXED);
}

/* How often something warned; a test that expects it resets it, all others fail by it. */
extern unsigned int ksm_warnings;

#define VM_WARN_ON_ONCE(cond)	do { if (cond) ksm_warnings++; } while (0)

#endif /* _TESTING_KSM_SHIM_H */
