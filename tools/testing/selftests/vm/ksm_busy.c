// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: address spaces that are large, or whose lock is
 * hardly ever free. run=2 forgets none of them, and they hold up no other.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "ksm_test.h"

#define LARGE 2048
#define VERY_LARGE 8192
#define PAGES 64
#define BALLAST 256
#define HAMMERS 8

KSM_FIXTURE(busy)

static int wait_for_merging(void)
{
	double end = ksm_now() + ksm_wait_seconds();

	while (ksm_get("pages_shared") <= 0) {
		if (ksm_now() > end)
			return -ETIME;
		usleep(500);
	}
	return 0;
}

/* ksmd has merged some pages, and is on its way to the others. */
KSM_TEST(busy, run_2_while_ksmd_merges_a_large_area)
{
	void *area = area_new(LARGE, LARGE / 2, self->seed);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_set("pages_to_scan", 1000000));
	for (int round = 0; round < 3; round++) {
		ASSERT_EQ(0, ksm_start());
		ASSERT_EQ(0, wait_for_merging());
		ASSERT_EQ(0, ksm_set("run", 2));
		EXPECT_EQ(0, area_ksm_pages(area, LARGE));
		EXPECT_EQ(LARGE, area_frames(area, LARGE));
		EXPECT_EQ(0, own_merging_pages());
		EXPECT_EQ(0, ksm_get("pages_shared"));
		/* And none comes later. */
		usleep(30000);
		EXPECT_EQ(0, area_ksm_pages(area, LARGE));
	}
	EXPECT_EQ(0, area_wrong(area, LARGE, LARGE / 2, self->seed));
}

static void *area, *ballast;
static pthread_t hammers[HAMMERS];
static volatile int hammering;

/*
 * Each call holds mmap_lock for write while it changes all the page tables.
 * There are so many threads that some are always queued for it: then nobody
 * gets it without waiting.
 */
static void *hammer(void *arg)
{
	/* The lock is what ksmd shall want for, not the CPU. */
	setpriority(PRIO_PROCESS, gettid(), 19);
	while (hammering) {
		mprotect(ballast, BALLAST * page_bytes(), PROT_READ);
		mprotect(ballast, BALLAST * page_bytes(), PROT_READ | PROT_WRITE);
	}
	return NULL;
}

/* Areas with different numbers of contents have none in common. */
static long child_fill(long distinct)
{
	area = area_new(PAGES, distinct, content_seed() + distinct);
	return area ? 0 : -ENOMEM;
}

static long child_hammer(long on)
{
	if (!ballast) {
		ballast = area_map(BALLAST);
		if (!ballast)
			return -ENOMEM;
		area_fill(ballast, BALLAST, BALLAST, 1);
		if (area_mergeable(ballast, BALLAST))
			return -EINVAL;
	}
	hammering = on;
	for (int i = 0; i < HAMMERS; i++) {
		if (on ? pthread_create(&hammers[i], NULL, hammer, NULL) :
			 pthread_join(hammers[i], NULL))
			return -EAGAIN;
	}
	return 0;
}

static long child_ksm_pages(long arg)
{
	return area_ksm_pages(area, PAGES);
}

static long child_wrong(long distinct)
{
	return area_wrong(area, PAGES, distinct, content_seed() + distinct);
}

/* Most of the time, ksmd is waiting for the lock when run=2 is written. */
KSM_TEST(busy, run_2_while_ksmd_waits_for_an_address_space)
{
	struct ksm_child child;

	ASSERT_EQ(0, ksm_child_start(&child));
	ASSERT_EQ(0, ksm_child_call(&child, child_fill, PAGES / 2));
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	for (int round = 0; round < 4; round++) {
		ASSERT_EQ(0, ksm_start());
		ASSERT_EQ(0, ksm_wait_value("pages_sharing", PAGES / 2));
		ASSERT_EQ(0, ksm_child_call(&child, child_hammer, 1));
		usleep(20000 + 7000 * round);
		ASSERT_EQ(0, ksm_set("run", 2));
		EXPECT_EQ(0, ksm_get("pages_shared"));
		ASSERT_EQ(0, ksm_child_call(&child, child_hammer, 0));
		EXPECT_EQ(0, ksm_child_call(&child, child_ksm_pages, 0));
		usleep(10000);
		EXPECT_EQ(0, ksm_child_call(&child, child_ksm_pages, 0));
	}
	EXPECT_EQ(0, ksm_child_call(&child, child_wrong, PAGES / 2));
	EXPECT_EQ(0, ksm_child_end(&child));
}

static volatile int protecting;
static double longest_wait;

/* mprotect() waits for mmap_lock. */
static void *protect(void *page)
{
	while (protecting) {
		double start = ksm_now(), wait;

		mprotect(page, page_bytes(), PROT_READ);
		mprotect(page, page_bytes(), PROT_READ | PROT_WRITE);
		wait = ksm_now() - start;
		if (wait > longest_wait)
			longest_wait = wait;
	}
	return NULL;
}

/* Nobody keeps the lock for as long as all of a large area takes. */
KSM_TEST(busy, others_go_on_while_their_memory_is_unmerged)
{
	void *large = area_new(VERY_LARGE, VERY_LARGE / 2, self->seed), *page = area_map(1);
	pthread_t other;
	double took;

	ASSERT_NE(NULL, large);
	ASSERT_NE(NULL, page);
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(VERY_LARGE / 2, area_frames(large, VERY_LARGE));
	protecting = 1;
	ASSERT_EQ(0, pthread_create(&other, NULL, protect, page));
	usleep(10000);
	took = ksm_now();
	ASSERT_EQ(0, ksm_set("run", 2));
	took = ksm_now() - took;
	protecting = 0;
	ASSERT_EQ(0, pthread_join(other, NULL));
	ksft_print_msg("unmerged in %.1f ms, the longest wait %.1f ms\n", took * 1000,
		       longest_wait * 1000);
	EXPECT_GT(took / 3, longest_wait);
	EXPECT_EQ(VERY_LARGE, area_frames(large, VERY_LARGE));
	EXPECT_EQ(0, area_wrong(large, VERY_LARGE, VERY_LARGE / 2, self->seed));
}

static long child_fill_some(long pages)
{
	area = area_new(pages, 1, content_seed());
	return area ? 0 : -ENOMEM;
}

static long child_frames(long pages)
{
	return area_frames(area, pages);
}

/* Its page is the first of equals, and nobody can have it. */
KSM_TEST(busy, equals_of_a_page_in_a_busy_address_space)
{
	struct ksm_child busy, other;

	ASSERT_NE(NULL, area_lookalikes(self->seed));
	ASSERT_EQ(0, ksm_child_start(&busy));
	ASSERT_EQ(0, ksm_child_call(&busy, child_fill_some, 1));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(0, ksm_child_call(&busy, child_hammer, 1));
	ASSERT_EQ(0, ksm_child_start(&other));
	ASSERT_EQ(0, ksm_child_call(&other, child_fill_some, 3));
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	for (int pass = 0; pass < 40 && ksm_child_call(&other, child_frames, 3) > 1; pass++)
		ASSERT_EQ(0, ksm_wait_passes(1));
	EXPECT_EQ(1, ksm_child_call(&other, child_frames, 3));
	ASSERT_EQ(0, ksm_stop());
	EXPECT_EQ(0, ksm_child_call(&busy, child_hammer, 0));
	EXPECT_EQ(0, ksm_child_end(&other));
	EXPECT_EQ(0, ksm_child_end(&busy));
}

/* The busy one was registered first, and has nothing to merge. */
KSM_TEST(busy, passes_end_and_others_are_merged)
{
	struct ksm_child busy, other;

	ASSERT_EQ(0, ksm_child_start(&busy));
	ASSERT_EQ(0, ksm_child_call(&busy, child_fill, PAGES));
	ASSERT_EQ(0, ksm_child_call(&busy, child_hammer, 1));
	ASSERT_EQ(0, ksm_child_start(&other));
	ASSERT_EQ(0, ksm_child_call(&other, child_fill, 1));
	ASSERT_EQ(0, ksm_start());
	EXPECT_EQ(0, ksm_wait_passes(3));
	EXPECT_EQ(PAGES - 1, ksm_get("pages_sharing"));
	ASSERT_EQ(0, ksm_stop());
	EXPECT_EQ(0, ksm_child_call(&other, child_wrong, 1));
	EXPECT_EQ(0, ksm_child_call(&busy, child_hammer, 0));
	EXPECT_EQ(0, ksm_child_call(&busy, child_wrong, PAGES));
	EXPECT_EQ(0, ksm_child_end(&other));
	EXPECT_EQ(0, ksm_child_end(&busy));
}

KSM_TEST_MAIN
