// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging regressions: rmap walks. Reclaim and migration look for
 * all who map a page while those come and go, and however many there are.
 */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <sys/mman.h>

#include "ksm_disk.h"
#include "ksm_test.h"

#define CGROUP		"ksm_rmap_test"
#define PAGES		256
#define CONTENTS	16
#define ROUNDS		40
#define AREAS		1500
#define PROCESSES	6
#define SHARERS		(PROCESSES * PAGES)
#define MOVE_S		10

KSM_FIXTURE(reg_rmap)

static struct {
	atomic_bool now;
} *stop;	/* shared */

static long reclaim_until_told(long unused)
{
	while (!atomic_load(&stop->now))
		ksm_cgroup_set(CGROUP, "memory.reclaim", "1M");
	return 0;
}

/* 2021: a walk met an item that was taken off without the folio lock, and freed. */
KSM_TEST(reg_rmap, reclaim_while_items_go)
{
	void *area = area_map(PAGES);
	struct ksm_child child;
	const char *swap;

	stop = mmap(NULL, sizeof(*stop), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, stop);
	ASSERT_NE(NULL, area);
	swap = ksm_cgroup_swap_on(CGROUP, KSM_SWAP_ZRAM);
	if (!swap)
		SKIP(return, "no memory cgroup or no zram");
	area_fill(area, PAGES, CONTENTS, self->seed);
	EXPECT_EQ(0, ksm_child_start(&child));
	EXPECT_EQ(0, ksm_child_post(&child, reclaim_until_told, 0));
	EXPECT_EQ(0, ksm_set("sleep_millisecs", 0));
	EXPECT_EQ(0, ksm_start());
	for (size_t round = 0; round < ROUNDS; round++) {
		size_t from = round % 4 * (PAGES / 4);

		EXPECT_EQ(0, madvise(area, PAGES * page_bytes(), MADV_MERGEABLE));
		EXPECT_EQ(0, ksm_wait_passes(1));
		EXPECT_EQ(0, madvise(area_page(area, from), PAGES / 4 * page_bytes(),
				     MADV_UNMERGEABLE));
		EXPECT_EQ(0, area_ksm_pages(area_page(area, from), PAGES / 4));
	}
	atomic_store(&stop->now, true);
	EXPECT_EQ(0, ksm_child_result(&child));
	EXPECT_EQ(0, ksm_child_end(&child));
	EXPECT_EQ(0, area_wrong(area, PAGES, CONTENTS, self->seed));
	EXPECT_EQ(0, ksm_unmerge());
	EXPECT_EQ(0, ksm_swap_off(swap));
	ksm_cgroup_leave(CGROUP);
}

/* Every second page an area of its own; all of them hang on one anon_vma. */
KSM_TEST(reg_rmap, a_page_in_thousands_of_areas_of_one_anon_vma)
{
	void *area = area_new(2 * AREAS, 1, self->seed);
	double start;

	if (!two_nodes())
		SKIP(return, "one NUMA node only");
	ASSERT_NE(NULL, area);
	for (size_t i = 0; i < 2 * AREAS; i += 2)
		ASSERT_EQ(0, mprotect(area_page(area, i), page_bytes(), PROT_READ));
	ASSERT_EQ(0, ksm_set("max_page_sharing", AREAS));
	ASSERT_EQ(0, ksm_set("pages_to_scan", 100000));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(2, area_frames(area, 2 * AREAS));
	start = ksm_now();
	EXPECT_EQ(1, page_move(area, 1));
	EXPECT_EQ(0, page_move(area, 0));
	EXPECT_GT(MOVE_S, ksm_now() - start);
	ksft_print_msg("moved twice in %.2f s\n", ksm_now() - start);
	ASSERT_LE(0, ksm_validate());
	EXPECT_EQ(2, area_frames(area, 2 * AREAS));
	EXPECT_EQ(0, area_wrong(area, 2 * AREAS, 1, self->seed));
}

static void *child_area;

static long child_load(long seed)
{
	child_area = area_new(PAGES, 1, seed);
	return !child_area;
}

static long child_wrong(long seed)
{
	return area_wrong(child_area, PAGES, 1, seed);
}

/* One page that as many processes as that map as often. */
KSM_TEST(reg_rmap, thousands_of_sharers)
{
	static const long sharing[] = { 2, 256, SHARERS };
	struct ksm_child child[PROCESSES];
	void *area = area_new(1, 1, self->seed);
	double start;

	if (!two_nodes())
		SKIP(return, "one NUMA node only");
	ASSERT_NE(NULL, area);
	for (int i = 0; i < PROCESSES; i++) {
		ASSERT_EQ(0, ksm_child_start(&child[i]));
		ASSERT_EQ(0, ksm_child_call(&child[i], child_load, self->seed));
	}
	ASSERT_EQ(0, ksm_set("pages_to_scan", 100000));
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, ksm_set("run", 2));
		ASSERT_EQ(0, ksm_set("max_page_sharing", sharing[i]));
		ASSERT_EQ(0, ksm_passes(4));
		EXPECT_LT(SHARERS * 9 / 10,
			  ksm_get("pages_shared") + ksm_get("pages_sharing"));
		start = ksm_now();
		EXPECT_EQ(1, page_move(area, 1));
		EXPECT_EQ(0, page_move(area, 0));
		EXPECT_GT(MOVE_S, ksm_now() - start);
		ksft_print_msg("max_page_sharing %ld: moved twice in %.2f s\n", sharing[i],
			       ksm_now() - start);
		ASSERT_LE(0, ksm_validate());
	}
	for (int i = 0; i < PROCESSES; i++) {
		EXPECT_EQ(0, ksm_child_call(&child[i], child_wrong, self->seed));
		ksm_child_kill(&child[i]);
	}
	EXPECT_EQ(0, area_wrong(area, 1, 1, self->seed));
}

KSM_TEST_MAIN
