// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: the counters in sysfs agree with what is
 * mapped, after merging, writing, unmapping, forking and exiting.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "ksm_test.h"

KSM_FIXTURE(counters)

#define EXPECT_COUNTERS(shared, sharing, unshared) do {			\
	EXPECT_EQ(shared, ksm_get("pages_shared"));			\
	EXPECT_EQ(sharing, ksm_get("pages_sharing"));			\
	EXPECT_EQ(unshared, ksm_get("pages_unshared"));			\
} while (0)

KSM_TEST(counters, merged_and_unmerged_pages)
{
	void *area = area_new(60, 20, self->seed);
	void *alone = area_new(30, 30, self->seed + 1);

	ASSERT_NE(NULL, area);
	ASSERT_NE(NULL, alone);
	EXPECT_COUNTERS(0, 0, 0);
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_COUNTERS(20, 40, 30);
	EXPECT_EQ(0, ksm_get("pages_volatile"));
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_COUNTERS(0, 0, 0);
	EXPECT_EQ(0, ksm_get("pages_volatile"));
	EXPECT_EQ(0, ksm_get("full_scans"));
}

KSM_TEST(counters, writes_are_seen_by_the_next_passes)
{
	void *area = area_new(60, 20, self->seed);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_COUNTERS(20, 40, 0);
	/* Ten contents lose one copy, which is alone from then on. */
	for (size_t i = 0; i < 10; i++)
		content_fill(area_page(area, i), self->seed, 1000 + i);
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_COUNTERS(20, 30, 10);
}

/* The contents of the first 20 pages, each mapped three times, one by one. */
KSM_TEST(counters, the_last_mapping_takes_its_page_along)
{
	void *area = area_new(60, 20, self->seed);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(4));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, munmap(area_page(area, 20 * i), 20 * page_bytes()));
		ASSERT_EQ(0, ksm_passes(2));
		EXPECT_COUNTERS(20, 20 * (1 - i), 0);
	}
	ASSERT_EQ(0, munmap(area_page(area, 40), 20 * page_bytes()));
	EXPECT_EQ(0, ksm_wait_quiet());
	EXPECT_COUNTERS(0, 0, 0);
}

/* One pass between two writes: the pages never look the same at two visits. */
KSM_TEST(counters, changing_pages_are_volatile)
{
	void *area = area_new(16, 16, self->seed);
	void *still = area_new(16, 16, self->seed + 1);

	ASSERT_NE(NULL, area);
	ASSERT_NE(NULL, still);
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_COUNTERS(0, 0, 32);
	ASSERT_EQ(0, ksm_step(1));
	for (int round = 1; round <= 5; round++) {
		area_fill(area, 16, 16, self->seed + 10 + round);
		ASSERT_EQ(0, ksm_step(1));
		EXPECT_COUNTERS(0, 0, 16);
		EXPECT_EQ(16, ksm_get("pages_volatile"));
	}
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_COUNTERS(0, 0, 32);
	EXPECT_EQ(0, ksm_get("pages_volatile"));
}

/* Only pages that were really looked at count as scanned. */
KSM_TEST(counters, pages_scanned_grows_by_the_pages_there_are)
{
	int64_t before, scans, pages;

	ASSERT_NE(NULL, area_new(100, 100, self->seed));
	ASSERT_EQ(0, ksm_passes(2));
	before = ksm_get("pages_scanned");
	scans = ksm_get("full_scans");
	ASSERT_EQ(0, ksm_passes(4));
	scans = ksm_get("full_scans") - scans;
	pages = ksm_get("pages_scanned") - before;
	EXPECT_LE(100 * scans, pages);
	EXPECT_GE(100 * (scans + 1), pages);
}

KSM_TEST(counters, general_profit_is_savings_less_metadata)
{
	int64_t page = page_bytes(), saved = 200 * page - 10 * page;
	void *area = area_new(200, 10, self->seed), *alone;

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_GT(saved, ksm_get("general_profit"));
	EXPECT_LT(saved * 9 / 10, ksm_get("general_profit"));
	ASSERT_EQ(0, munmap(area, 200 * page_bytes()));
	alone = area_new(200, 200, self->seed + 1);
	ASSERT_NE(NULL, alone);
	ASSERT_EQ(0, ksm_passes(4));
	/* Nothing gained: only the cost is left, and that is moderate. */
	EXPECT_GT(0, ksm_get("general_profit"));
	EXPECT_LT(-200 * 128 - 65536, ksm_get("general_profit"));
}

static long child_write(long arg)
{
	void **area = (void **)arg;

	*(volatile char *)*area += 1;
	return 0;
}

static void *shared_area;

/* Inherited KSM pages are tracked, and counted, once ksmd has seen them. */
KSM_TEST(counters, fork_of_a_merged_process)
{
	struct ksm_child child;

	shared_area = area_new(40, 10, self->seed);
	ASSERT_NE(NULL, shared_area);
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_COUNTERS(10, 30, 0);
	ASSERT_EQ(0, ksm_child_start(&child));
	EXPECT_EQ(40, own_merging_pages());
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_COUNTERS(10, 70, 0);
	ASSERT_EQ(0, ksm_child_call(&child, child_write, (long)&shared_area));
	EXPECT_EQ(0, content_wrong(shared_area, self->seed, 0));
	EXPECT_EQ(0, ksm_child_end(&child));
	ASSERT_EQ(0, ksm_passes(2));
	EXPECT_COUNTERS(10, 30, 0);
	EXPECT_EQ(40, own_merging_pages());
	EXPECT_EQ(0, area_wrong(shared_area, 40, 10, self->seed));
}

static long child_load(long pages)
{
	return !area_new(pages, 1, content_seed());
}

KSM_TEST(counters, exit_takes_everything_along)
{
	struct ksm_child child[6];

	for (int i = 0; i < 6; i++) {
		ASSERT_EQ(0, ksm_child_start(&child[i]));
		ASSERT_EQ(0, ksm_child_call(&child[i], child_load, 20));
	}
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_COUNTERS(1, 119, 0);
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(0, ksm_child_end(&child[i]));
	for (int i = 3; i < 6; i++)
		ksm_child_kill(&child[i]);
	EXPECT_EQ(0, ksm_wait_quiet());
	EXPECT_COUNTERS(0, 0, 0);
}

/* Two areas with other page offsets come to lie side by side, where there was one before. */
KSM_TEST(counters, areas_side_by_side_that_were_moved_there)
{
	const size_t block = 16 * page_bytes(), half = block / 2;
	char *area = area_map(48), *equal = area_new(16, 16, self->seed), *other = area_map(24);

	ASSERT_NE(NULL, area);
	ASSERT_NE(NULL, equal);
	ASSERT_NE(NULL, other);
	area = (char *)(((uintptr_t)area + block - 1) / block * block);
	area_fill(area, 16, 16, self->seed);
	ASSERT_EQ(0, area_mergeable(area, 16));
	for (size_t i = 0; i < 8; i++)
		content_fill(other + 8 * page_bytes() + i * page_bytes(), self->seed, 8 + i);
	ASSERT_EQ(0, area_mergeable(other, 24));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(16 + 16 + 8, own_merging_pages());
	ASSERT_EQ(area + half, mremap(other + 8 * page_bytes(), half, half,
				      MREMAP_MAYMOVE | MREMAP_FIXED, area + half));
	ASSERT_EQ(0, ksm_passes(6));
	for (int pass = 0; pass < 6; pass++) {
		EXPECT_EQ(32, own_merging_pages());
		ASSERT_EQ(0, ksm_step(1));
	}
	EXPECT_EQ(16, area_frames(area, 16));
	EXPECT_EQ(0, area_wrong(area, 16, 16, self->seed));
	EXPECT_EQ(0, area_wrong(equal, 16, 16, self->seed));
}

KSM_TEST_MAIN
