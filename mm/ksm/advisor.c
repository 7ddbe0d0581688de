// SPDX-License-Identifier: GPL-2.0
/*
 * The scan-time advisor. Policy layer, pure: no state, no locks, cannot fail.
 *
 * A pass takes as long as its wake-ups sleep, and that gets less in proportion as each scans more
 * pages. So the number that would have met the target follows from the last pass; half way there
 * is gone at once, which damps the swings of a changing load and leaves a thousandth of the error
 * after 10 passes. Processor time per page does not depend on the number of pages, so the number
 * at which a wake-up's share of the processor reaches the limit follows as well.
 * Tests: tools/testing/ksm/advisor_test.c.
 */
#include "advisor.h"

/*
 * With p pages a wake-up works p * c and sleeps s; its share u of the processor is
 * p * c / (p * c + s). Solved for the number of pages at share @max.
 */
static u64 ksm_pages_at_share(u64 pages, u64 pass_ms, u64 cpu_ms, unsigned int max)
{
	cpu_ms = min(cpu_ms, pass_ms);
	if (max >= 100 || !cpu_ms)
		return U64_MAX;
	return div64_u64(pages * max * (pass_ms - cpu_ms), (100 - max) * cpu_ms);
}

/**
 * ksm_advise - choose pages_to_scan for the next pass
 * @advice: the limits
 * @pages: pages_to_scan in the last pass
 * @pass_ms: how long that took, in milliseconds
 * @cpu_ms: processor time of it, in milliseconds
 *
 * Return: the number of pages, within the limits, and at least 1.
 */
unsigned int ksm_advise(const struct ksm_advice *advice, unsigned int pages, u64 pass_ms,
			u64 cpu_ms)
{
	/* Not 0: then no pass would ever end, and nothing be learned. */
	const unsigned int low = max(min(advice->min_pages, advice->max_pages), 1U);
	u64 wanted, limit;

	pages = clamp(pages, low, advice->max_pages);
	pass_ms = min_t(u64, pass_ms, U32_MAX);
	wanted = div64_u64(pages * pass_ms, (u64)advice->target_secs * 1000);
	wanted = (wanted + pages + (wanted > pages)) / 2;
	limit = ksm_pages_at_share(pages, pass_ms, cpu_ms, advice->max_cpu);
	return clamp(min(wanted, limit), (u64)low, (u64)advice->max_pages);
}
