// SPDX-License-Identifier: GPL-2.0
/*
 * Back-off by span. Policy layer, pure: no locks of its own, cannot fail.
 *
 * A span in which nothing changed is visited every 2nd, 4th, then 7th pass. Not every 8th: a change
 * is noticed at one visit and merged at the next pass, and both have to fit in 8 passes. The
 * items of a span that is not due stay in the tree, so a page that changes meanwhile elsewhere
 * still meets them.
 * Tests: tools/testing/ksm/smart_scan_test.c.
 */
#include "smart_scan.h"

#define KSM_PERIOD_MAX	7

/**
 * ksm_span_due - should this pass visit a span
 * @span: the span
 * @pass: number of the pass
 *
 * Return: whether it should.
 */
bool ksm_span_due(const struct ksm_span *span, u32 pass)
{
	return pass % span->period == 0;
}

/**
 * ksm_span_visited - note the outcome of a visit
 * @span: the span
 * @pass: number of the pass
 * @calm: no item changed, matched or waits
 */
void ksm_span_visited(struct ksm_span *span, u32 pass, bool calm)
{
	span->pass = pass;
	span->period = calm ? min(span->period * 2, KSM_PERIOD_MAX) : 1;
}

/**
 * ksm_item_retry_due - should an unresolved match be tried again
 * @span: the item's span
 * @pos: its position
 * @pass: number of the pass
 *
 * Return: true in each (1 << age)th pass while the item has an age; at each visit, if the span has
 * backed off, or if the item was hit and has no age yet.
 */
bool ksm_item_retry_due(const struct ksm_span *span, unsigned int pos, u32 pass)
{
	unsigned int age = ksm_item_age(span, pos);

	if (!age)
		return ksm_item_marked(span, pos, KSM_MARK_HIT);
	return span->period > 1 || !(pass & ((1U << age) - 1));
}
