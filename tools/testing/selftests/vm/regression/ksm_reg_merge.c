// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging regressions: merges that fail half way, because memory is
 * short or somebody takes hold of a page in the middle.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "ksm_faults.h"
#include "ksm_gup.h"
#include "ksm_test.h"

KSM_FIXTURE(reg_merge)

/*
 * 2024: a page pointed to the node of a duplicate already when that node could
 * not be had, and kept pointing to freed memory.
 */
KSM_TEST(reg_merge, nodes_and_duplicates_that_cannot_be_allocated)
{
	const struct ksm_fault half = { .percent = 50, .interval = 1 };
	void *area = area_new(64, 4, self->seed);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_set("max_page_sharing", 2));
	if (ksm_faults_on(&half)) {
		ksm_faults_off();
		SKIP(return, "no fault injection");
	}
	ASSERT_EQ(0, ksm_passes(16));
	EXPECT_LT(0, ksm_faults_off());
	EXPECT_EQ(0, ksm_validate());
	EXPECT_EQ(0, area_wrong(area, 64, 4, self->seed));
	/* What failed comes again. */
	ASSERT_EQ(0, ksm_passes(16));
	EXPECT_EQ(32, area_frames(area, 64));
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_EQ(64, area_frames(area, 64));
	EXPECT_EQ(0, area_wrong(area, 64, 4, self->seed));
}

static void *volatile taken;
static volatile size_t taken_pages;
static volatile bool taking;
static volatile unsigned long takes;

/* Takes hold of one page after another, for a moment each. */
static void *take_pages(void *arg)
{
	char page[page_bytes()];
	struct iovec vec = { .iov_len = page_bytes() };
	unsigned int *seed = arg;
	int fds[2];

	if (pipe2(fds, O_NONBLOCK))
		return NULL;
	while (taking) {
		vec.iov_base = area_page(taken, rand_r(seed) % taken_pages);
		if (vmsplice(fds[1], &vec, 1, 0) != (ssize_t)page_bytes())
			continue;
		usleep(rand_r(seed) % 300);
		takes += read(fds[0], page, page_bytes()) > 0;
	}
	close(fds[0]);
	close(fds[1]);
	return NULL;
}

/*
 * 2017: the huge page was split, then write-protection failed because somebody
 * had taken hold of the page, and the error path took it for huge still.
 */
KSM_TEST(reg_merge, pages_of_a_huge_page_are_pinned_as_it_is_split)
{
	size_t pages = thp_bytes() / page_bytes();
	void *area = thp_map(1);
	unsigned int seed = self->seed;
	pthread_t thread;

	if (!area)
		SKIP(return, "no huge pages");
	ASSERT_EQ(0, area_mergeable(area, pages));
	taken = area;
	taken_pages = pages;
	taking = true;
	area_fill(area, pages, 8, self->seed);
	ASSERT_EQ(0, pthread_create(&thread, NULL, take_pages, &seed));
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	for (int round = 0; round < 12; round++) {
		ASSERT_EQ(0, ksm_wait_passes(3));
		EXPECT_EQ(0, area_wrong(area, pages, 8, self->seed + round));
		/* Huge again, when nobody holds a part. */
		madvise(area, thp_bytes(), MADV_COLLAPSE);
		area_fill(area, pages, 8, self->seed + round + 1);
	}
	taking = false;
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_LT(20, takes);
	EXPECT_EQ(0, ksm_wait_value("pages_sharing", pages - 8));
	EXPECT_EQ(8, area_frames(area, pages));
	EXPECT_EQ(0, area_wrong(area, pages, 8, self->seed + 12));
}

/* 2017: both candidates were parts of one huge page, and the first split freed the other. */
KSM_TEST(reg_merge, two_candidates_of_one_huge_page)
{
	size_t pages = thp_bytes() / page_bytes();
	void *area;

	for (size_t distance = 1; distance < pages; distance *= 2) {
		area = thp_map(1);
		if (!area)
			SKIP(return, "no huge pages");
		area_fill(area, pages, pages, self->seed);
		content_fill(area_page(area, distance), self->seed, 0);
		ASSERT_EQ(0, area_mergeable(area, pages));
		ASSERT_EQ(0, ksm_passes(4));
		EXPECT_TRUE(pages_shared(area, area_page(area, distance)));
		EXPECT_EQ(pages - 1, area_frames(area, pages));
		EXPECT_EQ(0, content_wrong(area_page(area, distance), self->seed, 0));
		content_fill(area_page(area, distance), self->seed, distance);
		EXPECT_EQ(0, area_wrong(area, pages, pages, self->seed));
		ASSERT_EQ(0, munmap(area, thp_bytes()));
	}
}

/* A pin without locks, while ksmd write-protects: device and owner go on seeing one page. */
KSM_TEST(reg_merge, pins_race_with_write_protection)
{
	size_t pages = 8, wrong = 0;
	void *area = area_new(pages, 1, self->seed), *seen = area_map(pages);
	int fd = open(GUP_TEST, O_RDWR | O_CLOEXEC);
	double end = ksm_now() + 15;
	unsigned int round;

	if (fd < 0)
		SKIP(return, "no " GUP_TEST);
	ASSERT_NE(NULL, area);
	ASSERT_NE(NULL, seen);
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	for (round = 0; round < 300 && ksm_now() < end; round++) {
		struct gup_pin pin = {
			.addr = (uintptr_t)area,
			.size = pages * page_bytes(),
			.flags = GUP_PIN_FAST | (round % 2 ? GUP_PIN_WRITE : 0),
		};
		uint64_t to = (uintptr_t)seen;

		/* Equal from now on, and merged or about to be. */
		area_fill(area, pages, 1, self->seed + round);
		usleep(round % 13 * 2000);
		ASSERT_EQ(0, ioctl(fd, GUP_PIN_START, &pin));
		area_fill(area, pages, pages, self->seed - round);
		ASSERT_EQ(0, ioctl(fd, GUP_PIN_READ, &to));
		wrong += area_wrong(seen, pages, pages, self->seed - round);
		ASSERT_EQ(0, ioctl(fd, GUP_PIN_STOP));
	}
	EXPECT_EQ(0, wrong);
	EXPECT_LT(10, round);
	area_fill(area, pages, 1, self->seed);
	EXPECT_EQ(0, ksm_wait_value("pages_sharing", pages - 1));
	close(fd);
}

KSM_TEST_MAIN
