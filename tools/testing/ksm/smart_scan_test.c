// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of mm/ksm/smart_scan.c: what a scanner does with the pages of one span is played through
 * for every phase of the pass number and every length of calm.
 */
#include "smart_scan.h"
#include "ksm_test.h"

#define BOUND		8	/* passes until a change is noticed and looked at again */
#define LONGEST		7	/* passes between two visits of a calm span */
#define PHASES		(2 * 4 * 7)
#define CALM_PASSES	64

/* The phases of the numbers near 0, and of those that wrap around. */
static u32 start_pass(unsigned int phase)
{
	return phase < PHASES ? phase : 0U - (phase - PHASES);
}

/* When a span is visited depends on its header alone, so it needs no items. */
static void start(struct ksm_span *span)
{
	memset(span, 0, sizeof(*span));
	ksm_span_init(span, NULL, 0, 0, 0);
}

/* One pass over a span whose pages are all calm, or all not. Return whether they were visited. */
static bool scan(struct ksm_span *span, u32 pass, bool calm)
{
	const u16 due = ksm_span_due(span, pass);

	EXPECT(!due || due == U16_MAX, "pass %u: 0x%x", pass, due);
	if (!due)
		return false;
	ksm_span_visited(span, calm ? due : 0, calm ? 0 : due);
	return true;
}

static void fresh_spans_are_due(void)
{
	unsigned int phase;

	for (phase = 0; phase < 2 * PHASES; phase++) {
		struct ksm_span span;

		start(&span);
		EXPECT(ksm_span_due(&span, start_pass(phase)), "pass %u", start_pass(phase));
	}
}

/* The page is written before pass number first + calm, after @calm passes without any write. */
static void check_write(u32 first, unsigned int calm)
{
	unsigned int i, noticed = BOUND;
	struct ksm_span span;

	start(&span);
	for (i = 0; i < calm; i++)
		scan(&span, first + i, true);
	for (i = 0; i < BOUND; i++) {
		if (noticed < i) {
			EXPECT(i == noticed + 1 && scan(&span, first + calm + i, true),
			       "first %u, %u calm: noticed, but not looked at again", first, calm);
			return;
		}
		if (scan(&span, first + calm + i, false))
			noticed = i;
	}
	EXPECT(false, "first %u, %u calm: not within %u passes", first, calm, BOUND);
}

static void writes_are_met_within_8_passes(void)
{
	unsigned int phase, calm;

	for (phase = 0; phase < 2 * PHASES; phase++)
		for (calm = 0; calm < CALM_PASSES; calm++)
			check_write(start_pass(phase), calm);
}

/* The same after random histories of calm and unrest, which end at any period. */
static void writes_are_met_after_any_history(void)
{
	unsigned int round, i;

	for (round = 0; round < 20000; round++) {
		const u32 first = ksm_random();
		const unsigned int length = ksm_random_below(60), unrest = ksm_random_below(8);
		bool noticed = false, again = false;
		struct ksm_span span;

		start(&span);
		for (i = 0; i < length; i++)
			scan(&span, first + i, ksm_random_below(16) >= unrest);
		for (i = 0; i < BOUND; i++) {
			again = noticed;
			noticed = scan(&span, first + length + i, false);
			if (again)
				break;
		}
		EXPECT(again && noticed, "first %u, %u passes", first, length);
	}
}

static void restless_spans_are_always_visited(void)
{
	unsigned int phase, calm, i;

	for (phase = 0; phase < 2 * PHASES; phase++) {
		for (calm = 0; calm < CALM_PASSES; calm++) {
			u32 pass = start_pass(phase);
			struct ksm_span span;

			start(&span);
			for (i = 0; i < calm; i++)
				scan(&span, pass++, true);
			while (!scan(&span, pass++, false))
				;
			for (i = 0; i < 20; i++)
				EXPECT(scan(&span, pass++, false), "pass %u", pass - 1);
		}
	}
}

static void calm_spans_are_left_alone(void)
{
	unsigned int phase, i;

	for (phase = 0; phase < 2 * PHASES; phase++) {
		unsigned int visits = 0, gap = 0;
		struct ksm_span span;

		start(&span);
		for (i = 1; i <= 300; i++) {
			gap++;
			if (scan(&span, start_pass(phase) + i - 1, true)) {
				visits++;
				gap = 0;
			}
			EXPECT(visits <= DIV_ROUND_UP(i, LONGEST) + 4, "%u visits in %u passes",
			       visits, i);
			EXPECT(gap < LONGEST, "%u passes without a visit", gap);
		}
	}
}

/* Mainline's skips of two equal pages could miss each other for ever. */
static void calm_spans_are_visited_together(void)
{
	unsigned int other, i;

	for (other = 1; other < PHASES; other++) {
		struct ksm_span a, b;

		start(&a);
		start(&b);
		for (i = 0; i < 300; i++) {
			const bool visited = scan(&a, i, true);

			if (i < other)
				continue;
			EXPECT(scan(&b, i, true) == visited || i < other + 3 * LONGEST,
			       "pass %u, other %u", i, other);
		}
	}
}

/* What happens to one page does not matter to its neighbours. */
static void pages_back_off_one_by_one(void)
{
	static const unsigned int period[] = { 1, 2, 4, 7 };
	unsigned int round, pass, pos, times[16];
	struct ksm_span span;
	u16 due, want, restless;

	for (round = 0; round < 200; round++) {
		const u32 first = start_pass(ksm_random_below(2 * PHASES));
		const unsigned int unrest = 1 + ksm_random_below(16);

		start(&span);
		memset(times, 0, sizeof(times));
		for (pass = 0; pass < 100; pass++) {
			due = ksm_span_due(&span, first + pass);
			want = 0;
			restless = 0;
			for (pos = 0; pos < 16; pos++) {
				want |= ((first + pass) % period[times[pos]] == 0) << pos;
				/* A merged page can bring news when it is not due. */
				restless |= (ksm_random_below(4 * unrest) == 0) << pos;
			}
			EXPECT_EQ(due, want);
			for (pos = 0; pos < 16; pos++) {
				if (restless >> pos & 1)
					times[pos] = 0;
				else if (due >> pos & 1)
					times[pos] = min(times[pos] + 1, 3U);
			}
			ksm_span_visited(&span, due & ~restless, restless);
		}
	}
}

static void retries_come_by_age(void)
{
	unsigned int age, pos, phase, i;

	for (age = 0; age <= 3; age++) {
		for (pos = 0; pos < 16; pos++) {
			struct ksm_span span;

			start(&span);
			ksm_item_set_age(&span, pos, age);
			for (phase = 0; phase < 2 * PHASES; phase++) {
				const u32 first = start_pass(phase);
				unsigned int due = 0, others = 0;

				for (i = 0; i < 1U << age; i++) {
					due += ksm_item_retry_due(&span, pos, first + i);
					others += ksm_item_retry_due(&span, pos ^ 1, first + i);
				}
				EXPECT(due == (age ? 1 : 0), "age %u: %u times", age, due);
				EXPECT_EQ(others, 0);
			}
		}
	}
}

static void hits_are_retried_until_they_age(void)
{
	unsigned int age, pos, i;

	for (pos = 0; pos < 16; pos++) {
		struct ksm_span span;

		start(&span);
		ksm_item_mark(&span, pos, KSM_MARK_HIT);
		for (i = 0; i < 16; i++) {
			EXPECT(ksm_item_retry_due(&span, pos, i), "pass %u", i);
			EXPECT(!ksm_item_retry_due(&span, pos ^ 1, i), "pass %u", i);
		}
		for (age = 1; age <= 3; age++) {
			ksm_item_set_age(&span, pos, age);
			for (i = 0; i < 16; i++)
				EXPECT_EQ(ksm_item_retry_due(&span, pos, i), !(i % (1U << age)));
		}
	}
}

static const struct ksm_test tests[] = {
	{ "a new span is due in any pass", fresh_spans_are_due },
	{ "a write is met and looked at again within 8 passes", writes_are_met_within_8_passes },
	{ "so it is after any history", writes_are_met_after_any_history },
	{ "a span that changes is visited in every pass", restless_spans_are_always_visited },
	{ "a calm span is visited in every 7th pass, and 4 times more", calm_spans_are_left_alone },
	{ "calm spans are visited in the same passes", calm_spans_are_visited_together },
	{ "pages back off one by one", pages_back_off_one_by_one },
	{ "ages 1, 2, 3 are retried once in 2, 4, 8 passes, age 0 never", retries_come_by_age },
	{ "a hit is retried each time, until it has an age", hits_are_retried_until_they_age },
};

int main(void)
{
	return ksm_test_main("smart_scan", tests, ARRAY_SIZE(tests));
}
