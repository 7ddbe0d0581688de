// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging regressions: counters that went wrong or below zero, and
 * memory that was left merged because nobody may write to it.
 */
#define _GNU_SOURCE
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/mman.h>

#include "ksm_test.h"

#define PAGES 48
#define DISTINCT 6

KSM_FIXTURE(reg_account)

static const char * const counters[] = {
	"pages_shared", "pages_sharing", "pages_unshared", "pages_volatile", "ksm_zero_pages",
	"stable_node_chains", "stable_node_dups",
};

/* All tests of this file together register fewer pages at a time. */
#define COUNT_MAX 10000

static volatile bool reading;
static volatile unsigned long reads;

static void *read_counters(void *arg)
{
	unsigned long *bad = arg;

	while (reading) {
		for (size_t i = 0; i < ARRAY_SIZE(counters); i++) {
			int64_t value = ksm_get(counters[i]);

			if (value < 0 || value > COUNT_MAX) {
				ksft_print_msg("%s was %lld\n", counters[i], (long long)value);
				++*bad;
			}
		}
		if (own_stat("ksm_zero_pages") < 0 || own_merging_pages() < 0)
			++*bad;
		reads++;
	}
	return NULL;
}

static void *merged, *zeroes;

/* What fork copied goes in the child, as it goes in the parent. */
static long child_let_go(long pages)
{
	content_fill(area_page(merged, 1), content_seed(), 99);
	memset(zeroes, 1, page_bytes());
	if (munmap(area_page(merged, pages / 2), pages / 2 * page_bytes()))
		return -errno;
	return madvise(zeroes, pages * page_bytes(), MADV_DONTNEED) ? -errno : 0;
}

/* Counts missed a fork, or a zap that raced with the scan; that of zero pages began at -1. */
KSM_TEST(reg_account, counters_while_merged_processes_fork_and_zap)
{
	double end = ksm_now() + 15;
	unsigned long bad = 0, rounds;
	struct ksm_child child;
	pthread_t thread;

	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_set("pages_to_scan", 7));
	reading = true;
	ASSERT_EQ(0, pthread_create(&thread, NULL, read_counters, &bad));
	ASSERT_EQ(0, ksm_start());
	for (rounds = 0; rounds < 40 && ksm_now() < end; rounds++) {
		merged = area_new(PAGES, DISTINCT, self->seed);
		zeroes = area_map(PAGES);
		ASSERT_NE(NULL, merged);
		ASSERT_NE(NULL, zeroes);
		memset(zeroes, 0, PAGES * page_bytes());
		ASSERT_EQ(0, area_mergeable(zeroes, PAGES));
		usleep(rounds % 5 * 20000);
		ASSERT_EQ(0, ksm_child_start(&child));
		ASSERT_EQ(0, ksm_child_post(&child, child_let_go, PAGES));
		EXPECT_EQ(0, area_wrong(merged, PAGES, DISTINCT, self->seed));
		ASSERT_EQ(0, munmap(zeroes, PAGES * page_bytes()));
		ASSERT_EQ(0, munmap(merged, PAGES * page_bytes()));
		EXPECT_EQ(0, ksm_child_result(&child));
		EXPECT_EQ(0, ksm_child_end(&child));
	}
	reading = false;
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, bad);
	EXPECT_LT(3, rounds);
	EXPECT_LT(10, reads);
	for (size_t i = 0; i < ARRAY_SIZE(counters); i++)
		EXPECT_EQ(0, ksm_wait_value(counters[i], 0));
	EXPECT_EQ(0, own_merging_pages());
	EXPECT_EQ(0, own_stat("ksm_zero_pages"));
}

static int run_2(void *area)
{
	return ksm_set("run", 2);
}

static int unmergeable(void *area)
{
	return madvise(area, PAGES * page_bytes(), MADV_UNMERGEABLE) ? -errno : 0;
}

/*
 * Unmerging asked for a write fault, which does nothing in memory that is not
 * writable, or never ended in memory that userfaultfd protects from writing.
 */
KSM_TEST(reg_account, unsharing_of_what_must_not_be_written)
{
	int (*const ways[])(void *area) = { run_2, unmergeable };
	const size_t third = PAGES / 3;
	void *area, *protected, *none, *dropped;
	struct uffd_msg msg;
	int fd;

	for (size_t way = 0; way < ARRAY_SIZE(ways); way++) {
		area = area_new(PAGES, DISTINCT, self->seed);
		ASSERT_NE(NULL, area);
		protected = area;
		none = area_page(area, third);
		dropped = area_page(area, 2 * third);
		ASSERT_EQ(0, ksm_passes(4));
		ASSERT_EQ(DISTINCT, area_frames(area, PAGES));
		fd = area_uffd_wp(protected, third);
		if (fd < 0)
			SKIP(return, "no userfaultfd write protection");
		ASSERT_EQ(0, mprotect(none, third * page_bytes(), PROT_NONE));
		ASSERT_EQ(0, madvise(dropped, third / 2 * page_bytes(), MADV_DONTNEED));

		EXPECT_EQ(0, ways[way](area));
		EXPECT_EQ(0, ksm_get("pages_shared"));
		EXPECT_EQ(0, own_merging_pages());
		EXPECT_EQ(-1, read(fd, &msg, sizeof(msg)));
		EXPECT_EQ(EAGAIN, errno);
		EXPECT_EQ(third, area_count(protected, third, PAGEMAP_UFFD_WP));
		EXPECT_EQ(0, area_count(dropped, third / 2, PAGEMAP_PRESENT));

		ASSERT_EQ(0, mprotect(none, third * page_bytes(), PROT_READ));
		EXPECT_EQ(0, area_ksm_pages(area, PAGES));
		for (size_t i = 0; i < PAGES; i++) {
			bool gone = i >= 2 * third && i < 2 * third + third / 2;

			if (!gone)
				EXPECT_EQ(0, content_wrong(area_page(area, i), self->seed,
							   i % DISTINCT));
		}
		EXPECT_EQ(PAGES - third / 2, area_frames(area, PAGES));
		close(fd);
		ASSERT_EQ(0, munmap(area, PAGES * page_bytes()));
	}
}

static long child_hold(long pages)
{
	return mlock(merged, pages * page_bytes()) ? -errno : 0;
}

/* A KSM page was locked once for each mapping and unlocked for the last one only. */
KSM_TEST(reg_account, mlocked_and_unevictable_return)
{
	int64_t locked = meminfo_kib("Mlocked"), unevictable = meminfo_kib("Unevictable");
	size_t bytes = PAGES * page_bytes();
	struct ksm_child child;

	for (int round = 0; round < 4; round++) {
		merged = area_new(PAGES, DISTINCT, self->seed);
		ASSERT_NE(NULL, merged);
		if (round % 2)
			ASSERT_EQ(0, mlock(merged, bytes));
		ASSERT_EQ(0, ksm_passes(4));
		if (!(round % 2))
			ASSERT_EQ(0, mlock(merged, bytes));
		/* The child inherits no lock, and takes its own. */
		ASSERT_EQ(0, ksm_child_start(&child));
		ASSERT_EQ(0, ksm_child_call(&child, child_hold, PAGES));
		ASSERT_EQ(0, munlock(merged, bytes / 2));
		ASSERT_EQ(0, ksm_set("run", round < 2 ? 2 : 1));
		EXPECT_EQ(0, ksm_child_end(&child));
		EXPECT_EQ(0, area_wrong(merged, PAGES, DISTINCT, self->seed));
		ASSERT_EQ(0, munmap(merged, bytes));
		EXPECT_EQ(locked, settled("Mlocked", locked));
		EXPECT_EQ(unevictable, settled("Unevictable", unevictable));
	}
}

KSM_TEST_MAIN
