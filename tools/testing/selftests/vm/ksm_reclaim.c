// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: reclaim and the mappings of a merged page. It
 * finds those that came by fork or swap-in, drops nothing that somebody still
 * wants, and what comes back from swap is merged only where it may be.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "ksm_disk.h"
#include "ksm_test.h"

#define PAGES 48
#define CGROUP "ksm_reclaim_test"

FIXTURE(reclaim)
{
	uint64_t seed;
	char device[64];
};

FIXTURE_SETUP(reclaim)
{
	const char *device;

	if (!ksm_available())
		SKIP(return, "needs KSM and root");
	ASSERT_EQ(0, ksm_default_knobs());
	self->seed = content_seed();
	device = ksm_cgroup_swap_on(CGROUP, KSM_SWAP_ZRAM);
	if (!device)
		SKIP(return, "no memory cgroup, or no zram to swap to");
	snprintf(self->device, sizeof(self->device), "%s", device);
}

FIXTURE_TEARDOWN_PARENT(reclaim)
{
	EXPECT_EQ(0, ksm_stop());
	EXPECT_LE(0, ksm_validate());
	EXPECT_EQ(0, ksm_unmerge());
	EXPECT_EQ(0, ksm_swap_off(self->device));
	ksm_cgroup_leave(CGROUP);
}

static void *present_area;

static long present(long arg)
{
	return area_count(present_area, PAGES, PAGEMAP_PRESENT);
}

static long reclaim_own(long arg)
{
	return ksm_cgroup_reclaim(CGROUP, present_area, PAGES);
}

/* Of this process or of a child; how many pages of present_area are still mapped. */
static long reclaim_area(struct ksm_child *child)
{
	return child ? ksm_child_call(child, reclaim_own, 0) : reclaim_own(0);
}

/* The other areas' pages were never given to MADV_FREE. */
KSM_TEST(reclaim, what_one_owner_frees_is_kept_for_the_others)
{
	size_t bytes = PAGES * page_bytes();
	void *first = area_new(PAGES, PAGES, self->seed);
	void *second = area_new(PAGES, PAGES, self->seed);
	void *freed = area_map(PAGES), *third;

	ASSERT_NE(NULL, first);
	ASSERT_NE(NULL, second);
	ASSERT_NE(NULL, freed);
	area_fill(freed, PAGES, PAGES, self->seed + 1);
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(PAGES, ksm_get("pages_sharing"));
	ASSERT_EQ(0, madvise(second, bytes, MADV_DONTNEED));
	ASSERT_EQ(0, madvise(first, bytes, MADV_FREE));
	ASSERT_EQ(0, madvise(freed, bytes, MADV_FREE));
	third = area_new(PAGES, PAGES, self->seed);
	ASSERT_NE(NULL, third);
	ASSERT_EQ(0, ksm_passes(4));
	for (size_t i = 0; i < PAGES; i++)
		ASSERT_TRUE(pages_shared(area_page(first, i), area_page(third, i)));
	present_area = freed;
	ASSERT_EQ(0, reclaim_area(NULL));
	EXPECT_EQ(0, area_wrong(third, PAGES, PAGES, self->seed));
}

/*
 * The parent's pages, and in the child an equal page before or behind each of
 * them: whichever of two is promoted, half of the parent's are.
 */
static void *before, *middle, *behind;

static long child_fill(long seed)
{
	for (size_t i = 0; i < PAGES; i++)
		content_fill(area_page(i % 2 ? before : behind, i), seed, i);
	return area_wrong(middle, PAGES, PAGES, seed);
}

/*
 * The child reads what was swapped out, and ksmd promotes it there, with the
 * parent's swap entries still pointing to it. Then the parent maps it, too.
 */
KSM_TEST(reclaim, pages_promoted_while_another_process_had_them_in_swap)
{
	struct ksm_child child;

	before = area_map(3 * PAGES);
	ASSERT_NE(NULL, before);
	middle = area_page(before, PAGES);
	behind = area_page(before, 2 * PAGES);
	area_fill(middle, PAGES, PAGES, self->seed);
	ASSERT_EQ(0, area_mergeable(before, 3 * PAGES));
	ASSERT_EQ(0, ksm_child_start(&child));
	present_area = middle;
	ASSERT_EQ(0, reclaim_area(NULL));
	ASSERT_EQ(0, reclaim_area(&child));
	ASSERT_EQ(0, ksm_child_call(&child, child_fill, self->seed));
	ASSERT_EQ(0, present(0));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(PAGES, ksm_get("pages_sharing"));
	ASSERT_EQ(0, area_wrong(middle, PAGES, PAGES, self->seed));
	ASSERT_LE(PAGES / 4, area_ksm_pages(middle, PAGES));
	EXPECT_EQ(0, reclaim_area(NULL));
	EXPECT_EQ(0, ksm_child_call(&child, child_fill, self->seed));
	EXPECT_EQ(0, area_wrong(middle, PAGES, PAGES, self->seed));
	EXPECT_EQ(0, ksm_child_end(&child));
}

static long present_wrong(long seed)
{
	return area_wrong(present_area, PAGES, PAGES, seed);
}

/* ksmd has not met the child yet, and its parent's items go. */
KSM_TEST(reclaim, a_fork_of_pages_that_their_owner_unmerged)
{
	void *area = area_new(2 * PAGES, PAGES, self->seed);
	struct ksm_child child;

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(PAGES, ksm_get("pages_sharing"));
	present_area = area;
	ASSERT_EQ(0, ksm_child_start(&child));
	ASSERT_EQ(0, madvise(area, 2 * PAGES * page_bytes(), MADV_UNMERGEABLE));
	ASSERT_EQ(0, area_ksm_pages(area, 2 * PAGES));
	EXPECT_EQ(0, reclaim_area(&child));
	EXPECT_EQ(0, ksm_child_call(&child, present_wrong, self->seed));
	EXPECT_EQ(0, ksm_child_end(&child));
}

static struct ksm_child grandchild;
static int held[2];

static long owner_fill(long seed)
{
	present_area = area_new(PAGES, PAGES, seed);
	return present_area ? 0 : -ENOMEM;
}

static long owner_hold(long arg)
{
	return area_hold(present_area, PAGES, held);
}

static long ksm_mapped(long arg)
{
	return area_ksm_pages(present_area, PAGES);
}

static long owner_forks_and_unmerges(long arg)
{
	int ret = ksm_child_start(&grandchild);

	if (ret)
		return ret;
	if (madvise(present_area, PAGES * page_bytes(), MADV_UNMERGEABLE))
		return -errno;
	return area_let_go(PAGES, held);
}

static long grandchild_mapped(long arg)
{
	return ksm_child_call(&grandchild, ksm_mapped, 0);
}

static long grandchild_reclaim(long arg)
{
	return reclaim_area(&grandchild);
}

static long grandchild_wrong(long seed)
{
	return ksm_child_call(&grandchild, present_wrong, seed);
}

/*
 * The same, while other items of the page stand over swap entries: there are
 * as many items as mappings, but they don't lead to these.
 */
KSM_TEST(reclaim, a_fork_of_unmerged_pages_that_others_have_in_swap)
{
	struct ksm_child owner;

	ASSERT_EQ(0, ksm_child_start(&owner));
	ASSERT_EQ(0, ksm_child_call(&owner, owner_fill, self->seed));
	ASSERT_EQ(0, owner_fill(self->seed));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(PAGES, ksm_get("pages_sharing"));
	ASSERT_EQ(0, ksm_child_call(&owner, owner_hold, 0));
	ASSERT_EQ(0, reclaim_area(NULL));
	ASSERT_EQ(0, reclaim_area(&owner));
	/* Back in from the swap cache, as they were. */
	ASSERT_EQ(0, ksm_child_call(&owner, present_wrong, self->seed));
	ASSERT_EQ(PAGES, ksm_child_call(&owner, ksm_mapped, 0));
	ASSERT_EQ(0, present(0));
	ASSERT_EQ(0, ksm_child_call(&owner, owner_forks_and_unmerges, 0));
	ASSERT_EQ(0, ksm_child_call(&owner, ksm_mapped, 0));
	ASSERT_EQ(PAGES, ksm_child_call(&owner, grandchild_mapped, 0));
	EXPECT_EQ(0, ksm_child_call(&owner, grandchild_reclaim, 0));
	EXPECT_EQ(0, ksm_child_call(&owner, grandchild_wrong, self->seed));
	EXPECT_EQ(0, present_wrong(self->seed));
	EXPECT_EQ(0, ksm_child_end(&owner));
}

/* Nobody would ever unmerge it again. */
KSM_TEST(reclaim, what_was_in_swap_comes_back_private_to_an_unmergeable_area)
{
	void *area = area_new(2 * PAGES, PAGES, self->seed);
	int fds[2];

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(PAGES, ksm_get("pages_sharing"));
	ASSERT_EQ(0, area_hold(area, PAGES, fds));
	present_area = area;
	ASSERT_EQ(0, reclaim_area(NULL));
	present_area = area_page(area, PAGES);
	ASSERT_EQ(0, reclaim_area(NULL));
	ASSERT_EQ(0, madvise(area, 2 * PAGES * page_bytes(), MADV_UNMERGEABLE));
	EXPECT_EQ(0, area_wrong(area, 2 * PAGES, PAGES, self->seed));
	EXPECT_EQ(0, area_ksm_pages(area, 2 * PAGES));
	EXPECT_EQ(2 * PAGES, area_frames(area, 2 * PAGES));
	EXPECT_EQ(0, own_merging_pages());
	EXPECT_EQ(0, area_let_go(PAGES, fds));
	EXPECT_EQ(0, area_wrong(area, 2 * PAGES, PAGES, self->seed));
}

/* Their items went with the old place; ksmd is stopped, so nobody makes new ones. */
KSM_TEST(reclaim, pages_that_moved_while_they_were_out)
{
	size_t bytes = PAGES * page_bytes();
	void *area = area_new(2 * PAGES, PAGES, self->seed), *to = area_map(PAGES);
	int fds[2];

	ASSERT_NE(NULL, area);
	ASSERT_NE(NULL, to);
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(PAGES, ksm_get("pages_sharing"));
	ASSERT_EQ(0, area_hold(area, PAGES, fds));
	present_area = area_page(area, PAGES);
	ASSERT_EQ(0, reclaim_area(NULL));
	present_area = area;
	ASSERT_EQ(0, reclaim_area(NULL));
	ASSERT_EQ(to, mremap(area, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to));
	ASSERT_EQ(0, area_wrong(to, PAGES, PAGES, self->seed));
	ASSERT_EQ(PAGES, area_ksm_pages(to, PAGES));
	ASSERT_EQ(0, area_let_go(PAGES, fds));
	present_area = to;
	EXPECT_EQ(0, reclaim_area(NULL));
	EXPECT_EQ(0, area_wrong(to, PAGES, PAGES, self->seed));
	EXPECT_EQ(0, area_wrong(area_page(area, PAGES), PAGES, PAGES, self->seed));
}

/* Copies of merged pages go out before ksmd has noticed that they are copies. */
KSM_TEST(reclaim, copies_that_are_out_do_not_count_as_merged)
{
	char *area = area_new(2 * PAGES, PAGES, self->seed);
	int fds[2];

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(2 * PAGES, own_merging_pages());
	ASSERT_EQ(0, area_hold(area_page(area, PAGES), PAGES, fds));
	for (size_t i = 0; i < PAGES; i++)
		area[i * page_bytes() + 3000] ^= 1;
	present_area = area;
	ASSERT_EQ(0, reclaim_area(NULL));
	ASSERT_EQ(0, ksm_passes(2));
	EXPECT_EQ(PAGES, own_merging_pages());
	EXPECT_EQ(0, area_let_go(PAGES, fds));
	for (size_t i = 0; i < PAGES; i++)
		area[i * page_bytes() + 3000] ^= 1;
	EXPECT_EQ(0, area_wrong(area, 2 * PAGES, PAGES, self->seed));
}

/* What is remembered of a page does not grow by its going out and coming back. */
KSM_TEST(reclaim, going_out_and_coming_back_costs_no_memory)
{
	const size_t sharers = 240;
	void *area = area_new(sharers, 1, self->seed);
	int64_t before, after = 0;
	int fds[2];

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(1, area_frames(area, sharers));
	ASSERT_EQ(0, area_hold(area, 1, fds));
	before = ksm_get("general_profit");
	for (int round = 0; round < 12; round++) {
		for (size_t from = 0; from < sharers; from += PAGES) {
			present_area = area_page(area, from);
			ASSERT_EQ(0, reclaim_area(NULL));
		}
		EXPECT_EQ(0, area_wrong(area, sharers, 1, self->seed));
		EXPECT_EQ(1, area_frames(area, sharers));
		after = ksm_get("general_profit");
	}
	EXPECT_EQ(before, after);
	EXPECT_EQ(0, area_let_go(1, fds));
}

/*
 * The page has nothing to do with the other process but its place in swap, so nothing that is
 * remembered of the page leads there.
 */
KSM_TEST(reclaim, pages_promoted_while_a_stranger_had_them_in_swap)
{
	struct ksm_child other;

	ASSERT_EQ(0, ksm_child_start(&other));
	ASSERT_EQ(0, ksm_child_call(&other, owner_fill, self->seed));
	before = area_map(3 * PAGES);
	ASSERT_NE(NULL, before);
	middle = area_page(before, PAGES);
	behind = area_page(before, 2 * PAGES);
	area_fill(middle, PAGES, PAGES, self->seed);
	ASSERT_EQ(0, area_mergeable(before, 3 * PAGES));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(PAGES, ksm_get("pages_sharing"));
	present_area = middle;
	ASSERT_EQ(0, reclaim_area(NULL));
	ASSERT_EQ(0, reclaim_area(&other));
	ASSERT_EQ(0, child_fill(self->seed));
	ASSERT_EQ(0, ksm_child_call(&other, present, 0));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(0, ksm_child_call(&other, present_wrong, self->seed));
	ASSERT_LE(PAGES / 4, ksm_child_call(&other, ksm_mapped, 0));
	EXPECT_EQ(0, reclaim_area(&other));
	EXPECT_EQ(0, ksm_child_call(&other, present_wrong, self->seed));
	EXPECT_EQ(0, area_wrong(middle, PAGES, PAGES, self->seed));
	EXPECT_EQ(0, ksm_child_end(&other));
}

KSM_TEST_MAIN
