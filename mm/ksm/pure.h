/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The one header of the pure files (digest, span, forest, smart_scan, advisor).
 *
 * In the kernel it brings what they need from it; the unit tests of tools/testing/ksm/ put their
 * own substitute in front, so that the same source runs in userspace under sanitizers.
 */
#ifndef _MM_KSM_PURE_H
#define _MM_KSM_PURE_H

#ifdef __KERNEL__
#include <linux/atomic.h>
#include <linux/bitops.h>
#include <linux/build_bug.h>
#include <linux/list.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/mm_types.h>
#include <linux/mmdebug.h>
#include <linux/rbtree.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/types.h>
#include <linux/xxhash.h>
#include <asm/page.h>
#else
#include "ksm_shim.h"
#endif

#endif /* _MM_KSM_PURE_H */
