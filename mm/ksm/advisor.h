/* SPDX-License-Identifier: GPL-2.0 */
/* How many pages a wake-up should scan. Policy layer, pure. */
#ifndef _MM_KSM_ADVISOR_H
#define _MM_KSM_ADVISOR_H

#include "pure.h"

/**
 * struct ksm_advice - what the advisor is asked to keep to
 * @max_cpu: percent of a processor, 0 to 100
 * @min_pages: lower limit of pages_to_scan, if not above @max_pages
 * @max_pages: upper limit of pages_to_scan; not 0
 * @target_secs: how long a pass should take, in seconds; not 0
 */
struct ksm_advice {
	unsigned int max_cpu;
	unsigned int min_pages;
	unsigned int max_pages;
	unsigned int target_secs;
};

unsigned int ksm_advise(const struct ksm_advice *advice, unsigned int pages, u64 pass_ms,
			u64 cpu_ms);

#endif /* _MM_KSM_ADVISOR_H */
