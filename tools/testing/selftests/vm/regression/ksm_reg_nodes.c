// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging regressions: NUMA nodes. merge_across_nodes came in 2013, and with it five
 * ways for merged pages, or what is remembered of them, to outlast the unmerging that has to come
 * before it is switched: a case for each is in here, and for equal pages that meet on one node.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/mman.h>
#include <sys/swap.h>

#include "ksm_disk.h"
#include "ksm_test.h"

#define PAGES 48
#define CONTENTS 12
#define ROUNDS 4
#define FORKS 8
#define FORKED_PAGES 960
#define CGROUP "ksm_nodes_test"

FIXTURE(reg_nodes)
{
	uint64_t seed;
	char device[64];	/* what there is swapped to, if a test does that */
};

FIXTURE_SETUP(reg_nodes)
{
	if (!ksm_available())
		SKIP(return, "needs KSM and root");
	if (!two_nodes())
		SKIP(return, "one NUMA node only");
	ASSERT_EQ(0, ksm_default_knobs());
	self->seed = content_seed();
}

FIXTURE_TEARDOWN_PARENT(reg_nodes)
{
	EXPECT_EQ(0, ksm_stop());
	EXPECT_LE(0, ksm_validate());
	EXPECT_EQ(0, ksm_unmerge());
	if (self->device[0]) {
		EXPECT_EQ(0, ksm_swap_off(self->device));
		ksm_cgroup_leave(CGROUP);
	}
}

static void *here, *there;

/* Equal pages, some on node 0 and some on node 1. */
static void equal_pages(struct __test_metadata *_metadata, uint64_t seed, size_t nr_here,
			size_t nr_there, size_t distinct)
{
	here = area_map(nr_here);
	there = area_map(nr_there);
	ASSERT_NE(NULL, here);
	ASSERT_NE(NULL, there);
	area_fill(here, nr_here, distinct, seed);
	area_fill(there, nr_there, distinct, seed);
	ASSERT_EQ(nr_here, area_move(here, nr_here, 0));
	ASSERT_EQ(nr_there, area_move(there, nr_there, 1));
	ASSERT_EQ(0, area_mergeable(here, nr_here));
	ASSERT_EQ(0, area_mergeable(there, nr_there));
}

/* Equal pages, as many on node 0 as on node 1, merged across nodes. */
#define MERGED_ACROSS()								\
	do {									\
		equal_pages(_metadata, self->seed, PAGES, PAGES, CONTENTS);	\
		ASSERT_EQ(0, ksm_passes(4));					\
		ASSERT_TRUE(pages_shared(here, there));				\
		ASSERT_EQ(CONTENTS, ksm_get("pages_shared"));			\
	} while (0)

/* Unmerged now: then they merge again, each on its node. What has been out may be anywhere. */
#define EXPECT_MERGE_APART()							\
	do {									\
		EXPECT_EQ(0, ksm_get("pages_shared"));				\
		ASSERT_EQ(0, ksm_set("merge_across_nodes", 0));			\
		EXPECT_EQ(0, area_wrong(here, PAGES, CONTENTS, self->seed));	\
		EXPECT_EQ(0, area_wrong(there, PAGES, CONTENTS, self->seed));	\
		ASSERT_EQ(PAGES, area_move(here, PAGES, 0));			\
		ASSERT_EQ(PAGES, area_move(there, PAGES, 1));			\
		ASSERT_EQ(0, ksm_passes(8));					\
		EXPECT_EQ(PAGES, area_on_node(here, PAGES, 0));			\
		EXPECT_EQ(PAGES, area_on_node(there, PAGES, 1));		\
		EXPECT_EQ(CONTENTS, area_frames(here, PAGES));			\
		EXPECT_EQ(CONTENTS, area_frames(there, PAGES));			\
		EXPECT_EQ(2 * CONTENTS, ksm_get("pages_shared"));		\
		EXPECT_EQ(0, area_wrong(here, PAGES, CONTENTS, self->seed));	\
		EXPECT_EQ(0, area_wrong(there, PAGES, CONTENTS, self->seed));	\
	} while (0)

/* 2013: stale nodes in the tree of before. Somebody holds their pages, so that they stay. */
KSM_TEST(reg_nodes, pages_that_outlast_their_unmerging)
{
	int fds[2];

	MERGED_ACROSS();
	for (int round = 0; round < ROUNDS; round++) {
		ASSERT_EQ(0, area_hold(here, PAGES, fds));
		ASSERT_EQ(0, ksm_set("run", 2));
		EXPECT_MERGE_APART();
		ASSERT_EQ(0, area_let_go(PAGES, fds));
		ASSERT_EQ(0, area_hold(there, PAGES, fds));
		ASSERT_EQ(0, ksm_set("run", 2));
		ASSERT_EQ(0, ksm_set("merge_across_nodes", 1));
		ASSERT_EQ(0, ksm_passes(8));
		EXPECT_EQ(CONTENTS, ksm_get("pages_shared"));
		ASSERT_EQ(0, area_let_go(PAGES, fds));
	}
}

/* The same with nodes that nobody has cleared away, as nothing was unmerged. */
KSM_TEST(reg_nodes, pages_that_went_with_their_areas)
{
	void *old_here, *old_there;

	MERGED_ACROSS();
	old_here = here;
	old_there = there;
	here = area_map(PAGES);
	there = area_map(PAGES);
	ASSERT_NE(NULL, here);
	ASSERT_NE(NULL, there);
	area_fill(here, PAGES, CONTENTS, self->seed);
	area_fill(there, PAGES, CONTENTS, self->seed);
	ASSERT_EQ(0, munmap(old_here, PAGES * page_bytes()));
	ASSERT_EQ(0, munmap(old_there, PAGES * page_bytes()));
	ASSERT_EQ(0, ksm_passes(2));
	ASSERT_EQ(0, area_mergeable(here, PAGES));
	ASSERT_EQ(0, area_mergeable(there, PAGES));
	EXPECT_MERGE_APART();
}

static void *forked_area;
static struct ksm_child forked[FORKS];

static long forks(long nr)
{
	for (long i = 0; i < nr; i++) {
		if (ksm_child_start(&forked[i]))
			return -1;
	}
	return 0;
}

static long merged_pages(long nr)
{
	return area_ksm_pages(forked_area, FORKED_PAGES);
}

static long merged_pages_of_forks(long nr)
{
	long merged = 0;

	for (long i = 0; i < nr; i++)
		merged += ksm_child_call(&forked[i], merged_pages, 0);
	return merged;
}

static long forks_end(long nr)
{
	for (long i = 0; i < nr; i++)
		ksm_child_kill(&forked[i]);
	return 0;
}

/* 2013: processes forked by one that is unmerged already. */
KSM_TEST(reg_nodes, forks_while_everything_is_unmerged)
{
	struct ksm_child parent;

	MERGED_ACROSS();
	forked_area = area_new(FORKED_PAGES, CONTENTS, self->seed);
	ASSERT_NE(NULL, forked_area);
	ASSERT_EQ(0, ksm_child_start(&parent));
	/* It takes longer to unmerge than this process, which comes first. */
	ASSERT_EQ(0, munmap(forked_area, FORKED_PAGES * page_bytes()));
	for (int round = 0; round < ROUNDS; round++) {
		ASSERT_EQ(0, ksm_passes(4));
		ASSERT_EQ(FORKED_PAGES, ksm_child_call(&parent, merged_pages, 0));
		ASSERT_EQ(0, ksm_child_post(&parent, forks, FORKS));
		ASSERT_EQ(0, ksm_set("run", 2));
		EXPECT_EQ(0, ksm_get("pages_shared"));
		EXPECT_EQ(0, ksm_child_result(&parent));
		EXPECT_EQ(0, ksm_child_call(&parent, merged_pages, 0));
		EXPECT_EQ(0, ksm_child_call(&parent, merged_pages_of_forks, FORKS));
		EXPECT_EQ(0, ksm_child_call(&parent, forks_end, FORKS));
	}
	ksm_child_kill(&parent);
	EXPECT_MERGE_APART();
}

/* 2013: a merged page is still in the swap cache, and comes back when unmerging is over. */
KSM_TEST(reg_nodes, swap_in_just_after_unmerging)
{
	const char *device = ksm_cgroup_swap_on(CGROUP, KSM_SWAP_ZRAM);
	int fds[2];

	if (!device)
		SKIP(return, "no memory cgroup, or no zram to swap to");
	snprintf(self->device, sizeof(self->device), "%s", device);
	for (int round = 0; round < ROUNDS; round++) {
		ASSERT_EQ(0, ksm_set("merge_across_nodes", 1));
		MERGED_ACROSS();
		ASSERT_EQ(0, area_hold(here, PAGES, fds));
		EXPECT_EQ(0, ksm_cgroup_reclaim(CGROUP, here, PAGES));
		EXPECT_EQ(0, ksm_cgroup_reclaim(CGROUP, there, PAGES));
		ASSERT_EQ(0, ksm_set("run", 2));
		EXPECT_MERGE_APART();
		ASSERT_EQ(0, area_let_go(PAGES, fds));
		ASSERT_EQ(0, munmap(here, PAGES * page_bytes()));
		ASSERT_EQ(0, munmap(there, PAGES * page_bytes()));
		ASSERT_EQ(0, ksm_set("run", 2));
	}
}

static long move(long times)
{
	for (long i = 0; i < times; i++) {
		area_move(here, PAGES, i % 2);
		area_move(there, PAGES, !(i % 2));
	}
	return 0;
}

/* 2013: a page that migrates is mapped nowhere for a moment. */
KSM_TEST(reg_nodes, pages_migrate_while_everything_is_unmerged)
{
	struct ksm_child child;

	for (int round = 0; round < ROUNDS; round++) {
		ASSERT_EQ(0, ksm_set("merge_across_nodes", 1));
		MERGED_ACROSS();
		ASSERT_EQ(0, ksm_child_start(&child));
		ASSERT_EQ(0, ksm_child_post(&child, move, 6));
		usleep(round * 1000);
		ASSERT_EQ(0, ksm_set("run", 2));
		EXPECT_EQ(0, area_ksm_pages(here, PAGES));
		EXPECT_EQ(0, area_ksm_pages(there, PAGES));
		EXPECT_EQ(0, ksm_child_result(&child));
		EXPECT_EQ(0, ksm_child_end(&child));
		EXPECT_MERGE_APART();
		ASSERT_EQ(0, munmap(here, PAGES * page_bytes()));
		ASSERT_EQ(0, munmap(there, PAGES * page_bytes()));
		ASSERT_EQ(0, ksm_set("run", 2));
	}
}

static long switch_off(long device)
{
	return swapoff((const char *)device) ? -errno : 0;
}

/* 2013: swapoff brings in what unmerging has passed by. */
KSM_TEST(reg_nodes, swapoff_while_everything_is_unmerged)
{
	const char *device = ksm_cgroup_swap_on(CGROUP, KSM_SWAP_ZRAM);
	struct ksm_child child;

	if (!device)
		SKIP(return, "no memory cgroup, or no zram to swap to");
	snprintf(self->device, sizeof(self->device), "%s", device);
	ASSERT_EQ(0, ksm_child_start(&child));
	for (int round = 0; round < ROUNDS; round++) {
		ASSERT_EQ(0, ksm_set("merge_across_nodes", 1));
		MERGED_ACROSS();
		EXPECT_EQ(0, ksm_cgroup_reclaim(CGROUP, here, PAGES));
		EXPECT_EQ(0, ksm_cgroup_reclaim(CGROUP, there, PAGES));
		ASSERT_EQ(0, ksm_child_post(&child, switch_off, (long)self->device));
		usleep(round * 1000);
		ASSERT_EQ(0, ksm_set("run", 2));
		EXPECT_EQ(0, ksm_child_result(&child));
		EXPECT_EQ(0, area_count(here, PAGES, PAGEMAP_SWAP));
		EXPECT_EQ(0, area_count(there, PAGES, PAGEMAP_SWAP));
		EXPECT_EQ(0, area_ksm_pages(here, PAGES));
		EXPECT_EQ(0, area_ksm_pages(there, PAGES));
		EXPECT_MERGE_APART();
		ASSERT_EQ(0, munmap(here, PAGES * page_bytes()));
		ASSERT_EQ(0, munmap(there, PAGES * page_bytes()));
		ASSERT_EQ(0, ksm_set("run", 2));
		ASSERT_EQ(0, swapon(self->device, 0));
	}
	EXPECT_EQ(0, ksm_child_end(&child));
}

/* 2017: two KSM pages of one content, one on each node, meet on one node. */
KSM_TEST(reg_nodes, equal_merged_pages_migrate_to_one_node)
{
	ASSERT_EQ(0, ksm_set("merge_across_nodes", 0));
	equal_pages(_metadata, self->seed, 20, 20, 2);
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(2, area_frames(here, 20));
	EXPECT_EQ(2, area_frames(there, 20));
	EXPECT_FALSE(pages_shared(here, there));
	EXPECT_EQ(0, page_node(here));
	EXPECT_EQ(1, page_node(there));
	area_move(there, 20, 0);
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_EQ(0, area_wrong(here, 20, 2, self->seed));
	EXPECT_EQ(0, area_wrong(there, 20, 2, self->seed));
	area_fill(there, 20, 20, self->seed + 1);
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(0, area_wrong(here, 20, 2, self->seed));
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, area_wrong(there, 20, 20, self->seed + 1));
}

/* Nobody told the page that waited there. */
KSM_TEST(reg_nodes, a_merged_page_comes_to_the_node_of_an_equal_one)
{
	ASSERT_EQ(0, ksm_set("merge_across_nodes", 0));
	/* Alone with its sample at first, then not. */
	for (int round = 0; round < 2; round++) {
		equal_pages(_metadata, self->seed, 4, 1, 1);
		ASSERT_EQ(0, ksm_passes(4));
		ASSERT_EQ(1, area_frames(here, 4));
		ASSERT_FALSE(pages_shared(here, there));
		ASSERT_EQ(4, area_move(here, 4, 1));
		ASSERT_EQ(0, ksm_passes(8));
		EXPECT_TRUE(pages_shared(here, there));
		EXPECT_EQ(0, area_wrong(here, 4, 1, self->seed));
		EXPECT_EQ(0, area_wrong(there, 1, 1, self->seed));
		ASSERT_EQ(0, munmap(here, 4 * page_bytes()));
		ASSERT_EQ(0, munmap(there, page_bytes()));
		ASSERT_NE(NULL, area_lookalikes(self->seed));
	}
}

/* Merging across nodes is the default, and takes the nearest page it finds. */
KSM_TEST(reg_nodes, equal_pages_of_two_nodes_merge_by_default)
{
	equal_pages(_metadata, self->seed, 4, 4, 1);
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_TRUE(pages_shared(here, there));
	EXPECT_EQ(1, ksm_get("pages_shared"));
}

KSM_TEST_MAIN
