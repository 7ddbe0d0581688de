// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: a page that can't be merged for as long as the
 * test runs does not stand between others that are equal to it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>

#include "ksm_test.h"

#define PAGES 5

/* Who met the held page first tries again 2, 4 and 8 passes later. */
#define PASSES 16

KSM_FIXTURE(peers)

static void let_go(int fds[2])
{
	close(fds[0]);
	close(fds[1]);
}

static void one_is_held(struct __test_metadata *_metadata, uint64_t seed, size_t which)
{
	int fds[2];
	void *area;

	area = area_new(PAGES, 1, seed);
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, area_hold(area_page(area, which), 1, fds));
	ASSERT_EQ(0, ksm_passes(PASSES));
	EXPECT_EQ(2, area_frames(area, PAGES));
	EXPECT_EQ(1, area_sharing_with(area, PAGES, area_page(area, which)));
	EXPECT_EQ(PAGES - 2, ksm_get("pages_sharing"));
	let_go(fds);
	ASSERT_EQ(0, ksm_passes(PASSES));
	EXPECT_EQ(1, area_frames(area, PAGES));
	EXPECT_EQ(0, area_wrong(area, PAGES, 1, seed));
	ASSERT_EQ(0, munmap(area, PAGES * page_bytes()));
}

/* Who tries again in which pass depends on the number of the pass, too. */
static void one_is_held_in_every_phase(struct __test_metadata *_metadata, uint64_t seed,
				       size_t which)
{
	ASSERT_NE(NULL, area_lookalikes(seed));
	ASSERT_EQ(0, ksm_passes(4));
	for (int phase = 0; phase < 8; phase++) {
		one_is_held(_metadata, seed, which);
		ASSERT_EQ(0, ksm_passes(1));
	}
}

KSM_TEST(peers, the_first_of_equal_pages_is_held)
{
	one_is_held_in_every_phase(_metadata, self->seed, 0);
}

KSM_TEST(peers, the_second_of_equal_pages_is_held)
{
	one_is_held_in_every_phase(_metadata, self->seed, 1);
}

/*
 * Which of its equals a page tries depends on the pass as well, in 32 phases: HELD + 8 is odd, so
 * they are all met.
 */
#define HELD 5

KSM_TEST(peers, all_are_held)
{
	int fds[2];

	for (int phase = 0; phase < 32; phase++) {
		void *area = area_new(PAGES, 1, self->seed);

		ASSERT_NE(NULL, area);
		ASSERT_EQ(0, area_hold(area, PAGES, fds));
		ASSERT_EQ(0, ksm_passes(HELD));
		EXPECT_EQ(PAGES, area_frames(area, PAGES));
		let_go(fds);
		ASSERT_EQ(0, ksm_passes(8));
		EXPECT_EQ(1, area_frames(area, PAGES)) {
			TH_LOG("phase %d", phase);
		}
		EXPECT_EQ(0, area_wrong(area, PAGES, 1, self->seed));
		ASSERT_EQ(0, munmap(area, PAGES * page_bytes()));
	}
}

/*
 * They meet it, it looks in vain while they are not in the tree yet, and they
 * turn out to be held.
 */
KSM_TEST(peers, newcomers_below_one_that_is_known)
{
	void *area, *known;
	int fds[2];

	ASSERT_NE(NULL, area_lookalikes(self->seed));
	for (int phase = 0; phase < 16; phase++) {
		area = area_map(PAGES);
		ASSERT_NE(NULL, area);
		ASSERT_EQ(0, area_mergeable(area, PAGES));
		known = area_page(area, PAGES - 1);
		content_fill(known, self->seed, 0);
		ASSERT_EQ(0, ksm_passes(2));
		area_fill(area, 2, 1, self->seed);
		ASSERT_EQ(0, area_hold(area, 2, fds));
		ASSERT_EQ(0, ksm_passes(2));
		let_go(fds);
		ASSERT_EQ(0, ksm_passes(8));
		EXPECT_TRUE(pages_shared(area, area_page(area, 1)));
		EXPECT_TRUE(pages_shared(area, known)) {
			TH_LOG("phase %d", phase);
		}
		EXPECT_EQ(0, area_wrong(area, 2, 1, self->seed));
		ASSERT_EQ(0, munmap(area, PAGES * page_bytes()));
	}
}

/* The held page has been there for long; all of the others come at once. */
KSM_TEST(peers, newcomers_equal_to_a_page_that_is_held)
{
	void *known = area_new(1, 1, self->seed), *area;
	int fds[2];

	ASSERT_NE(NULL, known);
	ASSERT_NE(NULL, area_lookalikes(self->seed));
	ASSERT_EQ(0, area_hold(known, 1, fds));
	ASSERT_EQ(0, ksm_passes(4));
	area = area_new(PAGES, 1, self->seed);
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(PASSES));
	EXPECT_EQ(1, area_frames(area, PAGES));
	EXPECT_EQ(0, area_sharing_with(area, PAGES, known));
	EXPECT_EQ(0, area_wrong(area, PAGES, 1, self->seed));
	let_go(fds);
}

/* Held pages may be many, and have been there for long. */
static void newcomers_behind_many(struct __test_metadata *_metadata, uint64_t seed, void *known,
				  void *area)
{
	int fds[2];

	ASSERT_NE(NULL, known);
	ASSERT_NE(NULL, area);
	ASSERT_NE(NULL, area_lookalikes(seed));
	area_fill(known, 2 * PAGES, 1, seed);
	ASSERT_EQ(0, area_mergeable(known, 2 * PAGES));
	ASSERT_EQ(0, area_hold(known, 2 * PAGES, fds));
	ASSERT_EQ(0, ksm_passes(PASSES));
	ASSERT_EQ(2 * PAGES, area_frames(known, 2 * PAGES));
	area_fill(area, PAGES, 1, seed);
	ASSERT_EQ(0, area_mergeable(area, PAGES));
	ASSERT_EQ(0, ksm_passes(3 * PASSES));
	EXPECT_EQ(1, area_frames(area, PAGES));
	EXPECT_EQ(0, area_wrong(area, PAGES, 1, seed));
	EXPECT_EQ(0, area_wrong(known, 2 * PAGES, 1, seed));
	let_go(fds);
}

/* Pages are met in the order of addresses, and mmap() goes downwards. */
KSM_TEST(peers, newcomers_above_many_that_are_held)
{
	void *area = area_map(PAGES), *known = area_map(2 * PAGES);

	newcomers_behind_many(_metadata, self->seed, known, area);
}

KSM_TEST(peers, newcomers_below_many_that_are_held)
{
	void *known = area_map(2 * PAGES), *area = area_map(PAGES);

	newcomers_behind_many(_metadata, self->seed, known, area);
}

KSM_TEST_MAIN
