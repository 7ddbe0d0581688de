// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of what several threads write, built with the thread sanitizer: that finds an access which
 * is not atomic whether or not it did harm this time, and makes the program fail.
 */
#include <pthread.h>
#include <stdlib.h>

#include "span.h"
#include "ksm_test.h"

#define NR_TURNS	1000

/* Someone else's part: marks item 0, as the holder of its bucket lock does, and looks for it. */
static void *mark_item_0(void *data)
{
	struct ksm_span *span = data;
	unsigned long i, lost = 0;

	for (i = 0; i < NR_TURNS; i++) {
		lost += ksm_item_mark(span, 0, KSM_MARK_CROWDED);
		lost += !test_and_clear_bit(0, &span->marks);
	}
	return (void *)lost;
}

static void owner_clears_marks_atomically(void)
{
	struct ksm_span *span = calloc(1, ksm_span_size(16));
	struct ksm_stats stats = {};
	pthread_t thread;
	unsigned int i;
	void *lost;

	EXPECT(span, "no memory");
	ksm_span_init(span, NULL, 9, 0, 16);
	EXPECT(!pthread_create(&thread, NULL, mark_item_0, span), "no thread");
	for (i = 0; i < NR_TURNS; i++)
		ksm_item_move(&stats, span, 1, KSM_ITEM_NONE);
	pthread_join(thread, &lost);
	EXPECT(!lost, "%lu marks", (unsigned long)lost);
	EXPECT_EQ(span->marks, 0);
	free(span);
}

/* Any thread counts, of any slot. */
static void *count_up(void *data)
{
	unsigned int i;

	for (i = 0; i < NR_TURNS; i++)
		ksm_stat_add(data, KSM_STAT_SCANNED, 1);
	return NULL;
}

static void counters_are_atomic(void)
{
	struct ksm_stats stats = {};
	pthread_t thread;

	EXPECT(!pthread_create(&thread, NULL, count_up, &stats), "no thread");
	count_up(&stats);
	pthread_join(thread, NULL);
	EXPECT_EQ(ksm_stat_read(&stats, KSM_STAT_SCANNED), 2 * NR_TURNS);
}

static const struct ksm_test tests[] = {
	{ "the owner of a span clears marks that others may set", owner_clears_marks_atomically },
	{ "counters may be changed by several threads", counters_are_atomic },
};

int main(void)
{
	return ksm_test_main("race", tests, ARRAY_SIZE(tests));
}
