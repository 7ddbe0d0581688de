// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: what is found is complete, also on inputs
 * that are made against sampling and against skipping.
 *
 * The bound is 8 passes everywhere: what became equal, whenever and however,
 * is merged by then.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "ksm_test.h"

#define PASSES 8

KSM_FIXTURE(yield)

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return *state >> 33;
}

/* The same base content in each page, but for one word somewhere. */
static void one_word_apart(void *area, size_t pages, size_t distinct,
			   uint64_t seed)
{
	uint64_t *page, state;
	size_t i;

	for (i = 0; i < pages; i++) {
		page = area_page(area, i);
		content_fill(page, seed, 0);
		state = seed + i % distinct;
		next_random(&state);
		page[next_random(&state) % 512] = i % distinct;
	}
}

/* How many pages of @area differ from the same pages of @copy. */
static size_t pages_differ(void *area, void *copy, size_t pages)
{
	size_t n = 0, i;

	for (i = 0; i < pages; i++)
		n += !!memcmp(area_page(area, i), area_page(copy, i), page_bytes());
	return n;
}

KSM_TEST(yield, pages_one_word_apart_are_never_mixed_up)
{
	void *area = area_map(400), *copy = area_map(400);

	ASSERT_NE(NULL, area);
	ASSERT_NE(NULL, copy);
	one_word_apart(area, 400, 400, self->seed);
	one_word_apart(copy, 400, 400, self->seed);
	ASSERT_EQ(0, area_mergeable(area, 400));
	ASSERT_EQ(0, ksm_passes(PASSES));
	EXPECT_EQ(400, area_frames(area, 400));
	EXPECT_EQ(0, ksm_get("pages_sharing"));
	EXPECT_EQ(0, pages_differ(area, copy, 400));
}

KSM_TEST(yield, pages_one_word_apart_meet_their_equals)
{
	void *area = area_map(400), *copy = area_map(400);

	ASSERT_NE(NULL, area);
	ASSERT_NE(NULL, copy);
	one_word_apart(area, 400, 200, self->seed);
	one_word_apart(copy, 400, 200, self->seed);
	ASSERT_EQ(0, area_mergeable(area, 400));
	ASSERT_EQ(0, ksm_passes(PASSES));
	EXPECT_EQ(200, area_frames(area, 400));
	EXPECT_EQ(200, ksm_get("pages_shared"));
	EXPECT_EQ(200, ksm_get("pages_sharing"));
	EXPECT_EQ(0, pages_differ(area, copy, 400));
}

KSM_TEST(yield, mostly_zero_pages)
{
	char *area = area_map(256);
	size_t at, i;

	ASSERT_NE(NULL, area);
	/* 128 contents of one byte each, twice. */
	for (i = 0; i < 256; i++) {
		at = (i % 128) * (page_bytes() / 128) + (i % 128) % 32;
		area[i * page_bytes() + at] = 1 + i % 128;
	}
	ASSERT_EQ(0, area_mergeable(area, 256));
	ASSERT_EQ(0, ksm_passes(PASSES));
	EXPECT_EQ(128, area_frames(area, 256));
	for (i = 0; i < 256; i++) {
		at = (i % 128) * (page_bytes() / 128) + (i % 128) % 32;
		EXPECT_EQ(1 + i % 128, (unsigned char)area[i * page_bytes() + at]);
	}
}

/*
 * For each cache line of a page there is a pair that differs only there, until
 * a write to that line makes it equal: whatever a sample reads, most of these
 * writes are outside of it.
 */
static void write_makes_pairs_equal(struct __test_metadata *_metadata,
				    uint64_t seed, int smart_scan)
{
	size_t pairs = page_bytes() / 64, i;
	char *area = area_map(2 * pairs);

	if (ksm_has("smart_scan"))
		ASSERT_EQ(0, ksm_set("smart_scan", smart_scan));
	ASSERT_NE(NULL, area);
	area_fill(area, 2 * pairs, pairs, seed);
	for (i = 0; i < pairs; i++)
		area[i * page_bytes() + i * 64 + 8] ^= 0x55;
	ASSERT_EQ(0, area_mergeable(area, 2 * pairs));
	ASSERT_EQ(0, ksm_passes(PASSES));
	ASSERT_EQ(0, ksm_get("pages_sharing"));
	for (i = 0; i < pairs; i++)
		area[i * page_bytes() + i * 64 + 8] ^= 0x55;
	ASSERT_EQ(0, ksm_passes(PASSES));
	EXPECT_EQ(pairs, area_frames(area, 2 * pairs));
	EXPECT_EQ(0, area_wrong(area, 2 * pairs, pairs, seed));
}

KSM_TEST(yield, equal_by_a_write_outside_of_any_sample)
{
	write_makes_pairs_equal(_metadata, self->seed, 0);
}

KSM_TEST(yield, equal_by_a_write_outside_of_any_sample_smart_scan)
{
	write_makes_pairs_equal(_metadata, self->seed, 1);
}

/* One long crowd of a single sample: every pair of it has to be found. */
KSM_TEST(yield, a_crowd_that_becomes_equal)
{
	void *area = area_map(300);

	ASSERT_NE(NULL, area);
	one_word_apart(area, 300, 300, self->seed);
	ASSERT_EQ(0, area_mergeable(area, 300));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(0, ksm_get("pages_sharing"));
	one_word_apart(area, 300, 150, self->seed + 1);
	ASSERT_EQ(0, ksm_passes(PASSES));
	EXPECT_EQ(150, area_frames(area, 300));
}

static void *child_area;
static uint64_t child_seed;

static long child_load(long pages)
{
	child_area = area_new(pages, pages, child_seed);
	return !child_area;
}

static long child_merging(long arg)
{
	return own_merging_pages();
}

static long child_wrong(long pages)
{
	return area_wrong(child_area, pages, pages, child_seed);
}

/* Old pages are visited rarely by now: a newcomer must meet them all the same. */
KSM_TEST(yield, a_process_started_while_ksmd_runs)
{
	struct ksm_child old, young;

	if (ksm_has("smart_scan"))
		ASSERT_EQ(0, ksm_set("smart_scan", 1));
	child_seed = self->seed;
	ASSERT_EQ(0, ksm_child_start(&old));
	ASSERT_EQ(0, ksm_child_start(&young));
	ASSERT_EQ(0, ksm_child_call(&old, child_load, 1000));
	ASSERT_EQ(0, ksm_start());
	ASSERT_EQ(0, ksm_wait_passes(13));
	ASSERT_EQ(0, ksm_get("pages_sharing"));
	ASSERT_EQ(0, ksm_child_call(&young, child_load, 1000));
	ASSERT_EQ(0, ksm_wait_passes(PASSES));
	ASSERT_EQ(0, ksm_stop());
	EXPECT_EQ(1000, ksm_child_call(&young, child_merging, 0));
	EXPECT_EQ(1000, ksm_child_call(&old, child_merging, 0));
	EXPECT_EQ(1000, ksm_get("pages_shared"));
	EXPECT_EQ(0, ksm_child_call(&old, child_wrong, 1000));
	EXPECT_EQ(0, ksm_child_call(&young, child_wrong, 1000));
	EXPECT_EQ(0, ksm_child_end(&old));
	EXPECT_EQ(0, ksm_child_end(&young));
}

/* The same within one process: 2,000 equal pages while others are old. */
KSM_TEST(yield, two_thousand_equal_pages_of_a_newcomer)
{
	struct ksm_child old;
	void *area;

	if (ksm_has("smart_scan"))
		ASSERT_EQ(0, ksm_set("smart_scan", 1));
	child_seed = self->seed + 1;
	ASSERT_EQ(0, ksm_child_start(&old));
	ASSERT_EQ(0, ksm_child_call(&old, child_load, 500));
	ASSERT_EQ(0, ksm_start());
	ASSERT_EQ(0, ksm_wait_passes(9));
	area = area_new(2000, 500, self->seed);
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_wait_passes(PASSES));
	ASSERT_EQ(0, ksm_stop());
	EXPECT_EQ(2000, own_merging_pages());
	EXPECT_EQ(500, area_frames(area, 2000));
	EXPECT_EQ(0, area_wrong(area, 2000, 500, self->seed));
	EXPECT_EQ(0, ksm_child_end(&old));
}

/*
 * Sixteen pages that have been still for long are cut in two halves. The one at @first is looked at
 * again as soon as anything.
 */
static void cut_in_two(struct __test_metadata *_metadata, uint64_t seed, int (*cut)(void *, size_t),
		       size_t first)
{
	const size_t pages = 16, half = pages / 2, bytes = pages * page_bytes();
	char *area = area_map(2 * pages);

	ASSERT_NE(NULL, area);
	area += -(uintptr_t)area % bytes;
	area_fill(area, pages, pages, seed);
	ASSERT_EQ(0, ksm_set("smart_scan", 1));
	ASSERT_EQ(0, area_mergeable(area, pages));
	ASSERT_EQ(0, ksm_passes(20));
	ASSERT_EQ(0, cut(area_page(area, half), bytes / 2));
	for (size_t round = 0; round < 5; round++) {
		char *one = area_page(area, first + round);
		char *last = area_page(area, first + half - 1);

		/* Begin at another pass each time. */
		ASSERT_EQ(0, ksm_passes(round + 8));
		content_fill(one, seed, 100 + round);
		content_fill(last, seed, 100 + round);
		ASSERT_EQ(0, ksm_passes(PASSES));
		EXPECT_TRUE(pages_shared(one, last)) TH_LOG("round %zu", round);
	}
}

KSM_TEST(yield, the_rest_of_an_area_that_lost_its_tail)
{
	cut_in_two(_metadata, self->seed, munmap, 0);
}

static int make_other_area(void *start, size_t bytes)
{
	return madvise(start, bytes, MADV_DONTFORK);
}

KSM_TEST(yield, the_second_of_two_areas_that_were_one)
{
	cut_in_two(_metadata, self->seed, make_other_area, 8);
}

KSM_TEST_MAIN
