/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Counters of a domain. Policy layer, pure.
 *
 * The first ones count items by state, so they have the numbers of enum ksm_item_state; the rest
 * stand for themselves. What sysfs shows is computed from them in sysfs.c.
 */
#ifndef _MM_KSM_STATS_H
#define _MM_KSM_STATS_H

#include "pure.h"

enum ksm_stat {
	KSM_STAT_UNTRACKED,	/* always 0: items of which nothing is known are not counted */
	KSM_STAT_SEEN,		/* items that wait for a second equal visit, or for a retry */
	KSM_STAT_UNSTABLE,	/* items in the unstable tree */
	KSM_STAT_MERGED,	/* items linked to a stable node */
	KSM_STAT_SHARED,	/* stable nodes that have items */
	KSM_STAT_CHAINS,	/* contents that have more than one stable node */
	KSM_STAT_DUPS,		/* stable nodes of those contents */
	KSM_STAT_SCANNED,	/* pages visited since boot */
	KSM_STAT_SKIPPED,	/* pages not visited because they were not due */
	KSM_STAT_METADATA,	/* bytes held in spans, stable nodes, orphans and slots */
	NR_KSM_STATS
};

struct ksm_stats {
	atomic_long_t count[NR_KSM_STATS];
};

static inline void ksm_stat_add(struct ksm_stats *stats, enum ksm_stat stat, long n)
{
	atomic_long_add(n, &stats->count[stat]);
}

static inline unsigned long ksm_stat_read(const struct ksm_stats *stats, enum ksm_stat stat)
{
	return max(atomic_long_read(&stats->count[stat]), 0L);
}

#endif /* _MM_KSM_STATS_H */
