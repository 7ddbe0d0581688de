/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A merging domain and its scan context: everything that is not in a slot, span or stable node.
 *
 * There are no other variables: each function is handed the domain or the context it works on, so
 * that there can be more than one of either.
 *
 * Lock order, outer first (who guards what is said at the fields):
 *
 *	ksm_domain.scan_sem		read: never while blocking on an mmap_lock
 *	  ksm_domain.advisor_lock	a leaf
 *	  mm->mmap_lock			one at a time
 *	    mmu_notifier range
 *	      folio lock		trylock, except one when no other folio lock is held
 *	        anon_vma lock
 *	          PTE lock
 *	            ksm_bucket.lock	one at a time
 *	              ksm_domain.slot_lock, ksm_domain.idle_lock	leaves
 */
#ifndef _MM_KSM_DOMAIN_H
#define _MM_KSM_DOMAIN_H

#include <linux/hashtable.h>
#include <linux/highmem.h>
#include <linux/ksm.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/prefetch.h>
#include <linux/rwsem.h>
#include <linux/wait.h>

#include "advisor.h"
#include "forest.h"
#include "stats.h"

#define KSM_SLOT_HASH_BITS	10

#define KSM_PAGES_TO_SCAN	100U

#define KSM_RUN_STOP	0U
#define KSM_RUN_MERGE	1U
#define KSM_RUN_UNMERGE	2U

/**
 * struct ksm_knobs - what the operator sets; see Documentation/ABI/testing/sysfs-kernel-mm-ksm
 * @run: KSM_RUN_*; written under scan_sem, read anywhere
 * @pages_to_scan: pages a wake-up
 * @sleep_millisecs: between two wake-ups
 * @max_page_sharing: mappings of one KSM page, written under scan_sem when nothing is shared
 * @use_zero_pages: map the zero page where a page holds zeroes
 * @smart_scan: back off from pages that do not change
 * @chains_prune_millisecs: idle stable nodes are looked for not more often than this
 * @advisor: scan-time, the advisor sets @pages_to_scan after each pass
 * @advice: its limits
 * @merge_across_nodes: pages of different NUMA nodes may share; written as @max_page_sharing is
 */
struct ksm_knobs {
	unsigned int run;
	unsigned int pages_to_scan;
	unsigned int sleep_millisecs;
	unsigned int max_page_sharing;
	bool use_zero_pages;
	bool smart_scan;
	unsigned int chains_prune_millisecs;
	bool advisor;
	struct ksm_advice advice;
	bool merge_across_nodes;
};

/**
 * struct ksm_domain - those who may share with each other
 * @scan_sem: read by scanners for a chunk of work; written by what needs them out of the way:
 *	run=2, max_page_sharing, merge_across_nodes, memory offline, the validator
 * @digest: constant
 * @zero: content of a page of zeroes; changes with @digest
 * @salt: of the keys of each NUMA node's pages while merge_across_nodes is 0; constant
 * @forest: the trees
 * @stats: counters
 * @knobs: settings
 * @advisor_lock: written settings of the advisor and pages_to_scan
 * @full_scans: passes since boot or the last run=2
 * @unmerge_stamp: counts down with each walk over all slots (run=2, validator), so that it is no
 *	number of a pass; under scan_sem
 * @slot_lock: guards the next two, and in every slot: owner, exiting, stamp, linkage
 * @slot_hash: slots by mm
 * @slots: the same as a list, in the order of scanning
 * @nr_exiting: slots that have left both, and are not yet torn down
 * @idle_lock: guards @idle
 * @idle: stable nodes without items
 * @wait: ksmd sleeps here
 * @offline: memory is going offline: ksmd is parked meanwhile; written under scan_sem
 */
struct ksm_domain {
	struct rw_semaphore scan_sem;
	struct ksm_digest digest;
	struct ksm_content zero;
	u32 salt[MAX_NUMNODES];
	struct ksm_forest forest;
	struct ksm_stats stats;
	struct ksm_knobs knobs;
	struct mutex advisor_lock;	/* leaf */
	unsigned long full_scans;
	u32 unmerge_stamp;

	spinlock_t slot_lock;		/* leaf */
	DECLARE_HASHTABLE(slot_hash, KSM_SLOT_HASH_BITS);
	struct list_head slots;
	atomic_t nr_exiting;

	spinlock_t idle_lock;		/* leaf */
	struct list_head idle;

	wait_queue_head_t wait;
	bool offline;
};

extern struct ksm_domain ksm_host;

/*
 * The scope of a page, those it may share with, is a salt on the sample: other scopes have other
 * keys. What moves to another node so gets another key.
 */
static inline u32 ksm_node_salt(const struct ksm_domain *domain, int nid)
{
	return READ_ONCE(domain->knobs.merge_across_nodes) ? 0 : domain->salt[nid];
}

/* Until there are isolation domains, every mm is in the host's. */
static inline struct ksm_domain *ksm_mm_domain(struct mm_struct *mm)
{
	return &ksm_host;
}

#define KSM_PREFETCH_BYTES	SZ_4K	/* where pages are larger, the CPU has understood by then */

/**
 * ksm_prefetch_page - have the content of a page fetched, while another one is read
 * @page: the page; what it holds may change meanwhile
 *
 * Always inline: GCC drops calls of functions that do nothing but prefetch.
 */
static __always_inline void ksm_prefetch_page(struct page *page)
{
	const void *kaddr;
	unsigned int offset;

	if (PageHighMem(page))
		return;
	kaddr = page_address(page);
	for (offset = 0; offset < min(PAGE_SIZE, KSM_PREFETCH_BYTES); offset += L1_CACHE_BYTES)
		prefetch(kaddr + offset);
}

#endif /* _MM_KSM_DOMAIN_H */
