// SPDX-License-Identifier: GPL-2.0
/*
 * Back-off by page, in step. Policy layer, pure: no locks of its own, cannot fail.
 *
 * A page that does not change is visited every 2nd, 4th, then 7th pass. Not every 8th: a change
 * is noticed at one visit and merged at the next pass, and both have to fit in 8 passes. Which
 * passes these are is a matter of the pass number alone, so pages that back off are visited
 * together and meet. The items of pages that are not due stay in the tree, so one that changes
 * meanwhile elsewhere still meets them.
 *
 * How often a page was calm, up to 3 times, is kept as two bits: span->calm[1], span->calm[0].
 * Tests: tools/testing/ksm/smart_scan_test.c.
 */
#include "smart_scan.h"

/**
 * ksm_span_due - which pages of a span should a pass visit
 * @span: the span
 * @pass: number of the pass
 *
 * Return: their positions.
 */
u16 ksm_span_due(const struct ksm_span *span, u32 pass)
{
	const u16 once = span->calm[0] & ~span->calm[1];
	const u16 twice = ~span->calm[0] & span->calm[1];
	const u16 often = span->calm[0] & span->calm[1];
	u16 due = ~(span->calm[0] | span->calm[1]);

	if (pass % 2 == 0)
		due |= once;
	if (pass % 4 == 0)
		due |= twice;
	if (pass % 7 == 0)
		due |= often;
	return due;
}

/**
 * ksm_span_visited - note the outcome of visits
 * @span: the span
 * @calm: positions of pages that were visited, and did neither change nor match nor wait
 * @restless: those of pages that did, visited or not
 */
void ksm_span_visited(struct ksm_span *span, u16 calm, u16 restless)
{
	const u16 low = span->calm[0], high = span->calm[1];

	span->calm[0] = ((low ^ calm) | (low & high)) & ~restless;
	span->calm[1] = (high | (low & calm)) & ~restless;
}

/**
 * ksm_item_retry_due - should an unresolved match be tried again
 * @span: the item's span
 * @pos: its position
 * @pass: number of the pass
 *
 * Return: true in each (1 << age)th pass while the item has an age; at each visit, if its page is
 * visited seldom, or if the item was hit and has no age yet.
 */
bool ksm_item_retry_due(const struct ksm_span *span, unsigned int pos, u32 pass)
{
	unsigned int age = ksm_item_age(span, pos);

	if (!age)
		return ksm_item_marked(span, pos, KSM_MARK_HIT);
	return ((span->calm[0] | span->calm[1]) >> pos & 1) || !(pass & ((1U << age) - 1));
}
