// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: equal pages become one, others do not, within
 * a process and across processes, with and without smart_scan.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "ksm_test.h"

FIXTURE(merge)
{
	uint64_t seed;
};

FIXTURE_VARIANT(merge)
{
	int smart_scan;
};

FIXTURE_VARIANT_ADD(merge, plain) { .smart_scan = 0 };
FIXTURE_VARIANT_ADD(merge, smart_scan) { .smart_scan = 1 };

KSM_FIXTURE_STEPS(merge)

static void choose(int smart_scan)
{
	if (ksm_has("smart_scan"))
		ksm_set("smart_scan", smart_scan);
}

/* @copies equal pages each of @distinct contents: all merged, and no more. */
static void expect_merged(struct __test_metadata *_metadata, uint64_t seed,
			  size_t copies, size_t distinct)
{
	size_t pages = copies * distinct;
	void *area = area_new(pages, distinct, seed);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(distinct, area_frames(area, pages));
	EXPECT_EQ(distinct, ksm_get("pages_shared"));
	EXPECT_EQ(pages - distinct, ksm_get("pages_sharing"));
	EXPECT_EQ(pages, own_merging_pages());
	EXPECT_EQ(0, area_wrong(area, pages, distinct, seed));
}

KSM_TEST(merge, two_copies)
{
	choose(variant->smart_scan);
	expect_merged(_metadata, self->seed, 2, 200);
}

KSM_TEST(merge, sixteen_copies)
{
	choose(variant->smart_scan);
	expect_merged(_metadata, self->seed, 16, 64);
}

KSM_TEST(merge, one_content_in_a_row)
{
	choose(variant->smart_scan);
	expect_merged(_metadata, self->seed, 200, 1);
}

KSM_TEST(merge, pages_without_an_equal_stay_as_they_are)
{
	void *area = area_new(500, 500, self->seed);
	uint64_t first = page_pfn(area);

	choose(variant->smart_scan);
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(500, area_frames(area, 500));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, ksm_get("pages_sharing"));
	EXPECT_EQ(500, ksm_get("pages_unshared"));
	EXPECT_EQ(0, own_merging_pages());
	EXPECT_EQ(first, page_pfn(area));
	EXPECT_EQ(0, area_wrong(area, 500, 500, self->seed));
}

static void *child_area;
static uint64_t child_seed;

static long child_load(long pages)
{
	child_area = area_new(pages, pages, child_seed);
	return !child_area;
}

static long child_wrong(long pages)
{
	return area_wrong(child_area, pages, pages, child_seed);
}

static long child_merging(long arg)
{
	return own_merging_pages();
}

static long child_frame(long page)
{
	return page_pfn(area_page(child_area, page));
}

/* Processes that have nothing but their contents in common. */
KSM_TEST(merge, across_processes)
{
	struct ksm_child child[4];
	long frame;

	choose(variant->smart_scan);
	child_seed = self->seed;
	for (int i = 0; i < 4; i++) {
		ASSERT_EQ(0, ksm_child_start(&child[i]));
		ASSERT_EQ(0, ksm_child_call(&child[i], child_load, 100));
	}
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(100, ksm_get("pages_shared"));
	EXPECT_EQ(300, ksm_get("pages_sharing"));
	frame = ksm_child_call(&child[0], child_frame, 7);
	EXPECT_NE(0, frame);
	for (int i = 0; i < 4; i++) {
		EXPECT_EQ(frame, ksm_child_call(&child[i], child_frame, 7));
		EXPECT_EQ(100, ksm_child_call(&child[i], child_merging, 0));
		EXPECT_EQ(0, ksm_child_call(&child[i], child_wrong, 100));
	}
	/* The others keep theirs when one of them goes. */
	ASSERT_EQ(0, ksm_child_end(&child[0]));
	ASSERT_EQ(0, ksm_passes(2));
	EXPECT_EQ(100, ksm_get("pages_shared"));
	EXPECT_EQ(200, ksm_get("pages_sharing"));
	for (int i = 1; i < 4; i++)
		EXPECT_EQ(0, ksm_child_call(&child[i], child_wrong, 100));
	for (int i = 1; i < 4; i++)
		EXPECT_EQ(0, ksm_child_end(&child[i]));
}

KSM_TEST(merge, within_and_across_processes_at_once)
{
	struct ksm_child child;
	void *area;

	choose(variant->smart_scan);
	child_seed = self->seed;
	ASSERT_EQ(0, ksm_child_start(&child));
	area = area_new(120, 30, self->seed);
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_child_call(&child, child_load, 60));
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(30, area_frames(area, 120));
	EXPECT_EQ(30, ksm_child_call(&child, child_merging, 0));
	EXPECT_EQ(30, ksm_get("pages_shared"));
	EXPECT_EQ(120, ksm_get("pages_sharing"));
	EXPECT_EQ(0, ksm_child_call(&child, child_wrong, 60));
	EXPECT_EQ(0, area_wrong(area, 120, 30, self->seed));
	EXPECT_EQ(0, ksm_child_end(&child));
}

/* A page that changes all the time is left alone, its still neighbours not. */
KSM_TEST(merge, volatile_pages_next_to_still_ones)
{
	void *area = area_new(64, 8, self->seed);
	double end = ksm_now() + ksm_wait_seconds();
	int64_t goal, round = 0;

	choose(variant->smart_scan);
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 50));
	ASSERT_EQ(0, ksm_start());
	goal = ksm_get("full_scans") + 6;
	while (ksm_get("full_scans") < goal && ksm_now() < end) {
		/* All odd pages get new contents, equal ones, over and over. */
		for (size_t i = 1; i < 64; i += 2)
			content_fill(area_page(area, i), self->seed, 1000 + round);
		round++;
	}
	ASSERT_EQ(0, ksm_stop());
	EXPECT_LE(goal, ksm_get("full_scans"));
	for (size_t i = 0; i < 64; i += 2) {
		EXPECT_EQ(0, content_wrong(area_page(area, i), self->seed, i % 8));
		EXPECT_TRUE(pages_shared(area_page(area, i),
					 area_page(area, (i + 8) % 64)));
	}
	for (size_t i = 1; i < 64; i += 2)
		EXPECT_EQ(0, content_wrong(area_page(area, i), self->seed,
					   1000 + round - 1));
}

/* Whatever became equal later is found later. */
KSM_TEST(merge, contents_that_become_equal_are_merged)
{
	void *area = area_new(100, 100, self->seed);

	choose(variant->smart_scan);
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(5));
	ASSERT_EQ(0, ksm_get("pages_sharing"));
	area_fill(area, 100, 10, self->seed + 1);
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_EQ(10, area_frames(area, 100));
	EXPECT_EQ(0, area_wrong(area, 100, 10, self->seed + 1));
}

/* Merged, written apart, and equal again. */
KSM_TEST(merge, broken_pages_merge_again)
{
	void *area = area_new(40, 10, self->seed);

	choose(variant->smart_scan);
	ASSERT_NE(NULL, area);
	for (int round = 1; round <= 3; round++) {
		ASSERT_EQ(0, ksm_passes(8));
		EXPECT_EQ(10, area_frames(area, 40));
		area_fill(area, 40, 40, self->seed + round);
		EXPECT_EQ(40, area_frames(area, 40));
		area_fill(area, 40, 10, self->seed + round);
	}
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_EQ(10, area_frames(area, 40));
	EXPECT_EQ(0, area_wrong(area, 40, 10, self->seed + 3));
}

KSM_TEST(merge, read_only_memory_is_merged_too)
{
	void *area = area_new(20, 5, self->seed);

	choose(variant->smart_scan);
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, mprotect(area, 20 * page_bytes(), PROT_READ));
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(5, area_frames(area, 20));
	EXPECT_EQ(0, area_wrong(area, 20, 5, self->seed));
}

static void *offered;
static char *equal_to_it;

static long offer_inherited(long unused)
{
	return area_mergeable(offered, 20);
}

static long make_equals(long seed)
{
	equal_to_it = area_new(20, 20, seed);
	return !equal_to_it;
}

static long offered_sharing(long arg)
{
	size_t n = 0;

	for (size_t i = 0; i < 20; i++)
		n += pages_shared(area_page(offered, i), area_page(equal_to_it, i));
	return n;
}

/* A parent that offers nothing has no KSM page, whatever its child does, and whoever is first. */
static void inherited_and_equals(struct __test_metadata *_metadata, uint64_t seed,
				 ksm_child_fn first, ksm_child_fn second)
{
	struct ksm_child child;

	offered = area_map(20);
	ASSERT_NE(NULL, offered);
	area_fill(offered, 20, 20, seed);
	ASSERT_EQ(0, ksm_child_start(&child));
	ASSERT_EQ(0, ksm_child_call(&child, first, seed));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(0, ksm_child_call(&child, second, seed));
	ASSERT_EQ(0, ksm_passes(16));
	EXPECT_EQ(0, area_ksm_pages(offered, 20));
	EXPECT_EQ(20, ksm_child_call(&child, offered_sharing, 0));
	EXPECT_EQ(20, ksm_get("pages_sharing"));
	EXPECT_EQ(0, area_wrong(offered, 20, 20, seed));
	EXPECT_EQ(0, ksm_child_end(&child));
}

KSM_TEST(merge, pages_that_fork_shares_with_who_offers_nothing)
{
	inherited_and_equals(_metadata, self->seed, offer_inherited, make_equals);
}

KSM_TEST(merge, equals_of_pages_that_fork_shares_with_who_offers_nothing)
{
	inherited_and_equals(_metadata, self->seed, make_equals, offer_inherited);
}

KSM_TEST_MAIN
