// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: a merged page can be moved to another node with
 * all of its mappings, also with those that came by fork and that ksmd has not
 * met yet. A mapping that is missed keeps its page where it is.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/syscall.h>

#include "ksm_test.h"

#define PAGES 24
#define MAPPED (2 * PAGES)

#ifndef MPOL_MF_MOVE_ALL
#define MPOL_MF_MOVE_ALL (1 << 2)
#endif

KSM_FIXTURE(rmap)

static void *area;

/*
 * Move the pages of the area to a node, those of others too. Returns how many
 * pages are not there then. What LRU lists of other processors hold is moved
 * at a later try.
 */
static long move_to(long node)
{
	int nodes[MAPPED], status[MAPPED];
	double end = ksm_now() + 10;
	void *pages[MAPPED];
	long left;

	for (int i = 0; i < MAPPED; i++) {
		pages[i] = area_page(area, i);
		nodes[i] = node;
	}
	do {
		left = 0;
		if (syscall(SYS_move_pages, 0, MAPPED, pages, nodes, status,
			    MPOL_MF_MOVE_ALL) < 0)
			return -errno;
		if (syscall(SYS_move_pages, 0, MAPPED, pages, NULL, status, 0) < 0)
			return -errno;
		for (int i = 0; i < MAPPED; i++)
			left += status[i] != node;
	} while (left && ksm_now() < end);
	return left;
}

static long wrong(long seed)
{
	return area_wrong(area, MAPPED, PAGES, seed);
}

static long ksm_mapped(long arg)
{
	return area_ksm_pages(area, MAPPED);
}

static long frame_of_first(long arg)
{
	return page_pfn(area);
}

static long unmerge(long arg)
{
	return madvise(area, MAPPED * page_bytes(), MADV_UNMERGEABLE) ? -errno : 0;
}

/* PAGES merged pages, each mapped twice here. */
static int merged(uint64_t seed)
{
	area = area_new(MAPPED, PAGES, seed);
	if (!area || ksm_passes(4))
		return -ENOMEM;
	return area_frames(area, MAPPED) == PAGES ? 0 : -ENOENT;
}

static bool one_node(void)
{
	return access("/sys/devices/system/node/node1", F_OK);
}

KSM_TEST(rmap, moving_pages_that_a_fork_maps)
{
	struct ksm_child child;

	if (one_node())
		SKIP(return, "a single NUMA node");
	ASSERT_EQ(0, merged(self->seed));
	ASSERT_EQ(0, ksm_child_start(&child));
	for (int node = 1; node >= 0; node--) {
		EXPECT_EQ(0, move_to(node));
		EXPECT_EQ(frame_of_first(0), ksm_child_call(&child, frame_of_first, 0));
		EXPECT_EQ(MAPPED, ksm_child_call(&child, ksm_mapped, 0));
		EXPECT_EQ(0, ksm_child_call(&child, wrong, self->seed));
		EXPECT_EQ(0, wrong(self->seed));
	}
	EXPECT_EQ(0, ksm_child_end(&child));
}

/* The items of those who merged them are gone, and none of the child's is there. */
KSM_TEST(rmap, moving_pages_that_only_a_fork_maps)
{
	struct ksm_child child;

	if (one_node())
		SKIP(return, "a single NUMA node");
	ASSERT_EQ(0, merged(self->seed));
	ASSERT_EQ(0, ksm_child_start(&child));
	ASSERT_EQ(0, unmerge(0));
	ASSERT_EQ(0, ksm_mapped(0));
	ASSERT_EQ(MAPPED, ksm_child_call(&child, ksm_mapped, 0));
	for (int node = 1; node >= 0; node--) {
		EXPECT_EQ(0, ksm_child_call(&child, move_to, node));
		EXPECT_EQ(0, ksm_child_call(&child, wrong, self->seed));
	}
	EXPECT_EQ(0, wrong(self->seed));
	EXPECT_EQ(0, ksm_child_end(&child));
}

static struct ksm_child grandchild;

static long fork_again(long arg)
{
	return ksm_child_start(&grandchild);
}

static long grandchild_move_to(long node)
{
	return ksm_child_call(&grandchild, move_to, node);
}

static long grandchild_wrong(long seed)
{
	return ksm_child_call(&grandchild, wrong, seed);
}

/* The same, one generation later: neither of the other two maps them any more. */
KSM_TEST(rmap, moving_pages_that_only_a_fork_of_a_fork_maps)
{
	struct ksm_child child;

	if (one_node())
		SKIP(return, "a single NUMA node");
	ASSERT_EQ(0, merged(self->seed));
	ASSERT_EQ(0, ksm_child_start(&child));
	/* ksmd knows the child's mappings, not those of its own fork. */
	ASSERT_EQ(0, ksm_passes(3));
	ASSERT_EQ(0, ksm_child_call(&child, fork_again, 0));
	ASSERT_EQ(0, unmerge(0));
	ASSERT_EQ(0, ksm_child_call(&child, unmerge, 0));
	EXPECT_EQ(0, ksm_child_call(&child, grandchild_move_to, 1));
	EXPECT_EQ(0, ksm_child_call(&child, grandchild_wrong, self->seed));
	EXPECT_EQ(0, ksm_child_call(&child, wrong, self->seed));
	EXPECT_EQ(0, wrong(self->seed));
	EXPECT_EQ(0, ksm_child_end(&child));
}

KSM_TEST_MAIN
