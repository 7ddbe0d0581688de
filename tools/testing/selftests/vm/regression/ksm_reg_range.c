// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging regressions: extents. An address space with next to
 * nothing in it, thousands of sharers, thousands of areas, moved areas: the
 * time for a pass, for unmerging and for reclaim stays bounded.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "ksm_disk.h"
#include "ksm_test.h"

#define TERABYTE (1ULL << 40)
#define CGROUP "ksm_range_test"

KSM_FIXTURE(range)

static void *sparse;

/* 32 TiB, with one page at each end. */
static long child_sparse(long seed)
{
	size_t bytes = (size_t)(32 * TERABYTE), last = bytes - page_bytes();

	if (sizeof(void *) < 8)
		return -ENOMEM;
	sparse = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (sparse == MAP_FAILED)
		return -errno;
	content_fill(sparse, seed, 1);
	content_fill((char *)sparse + last, seed, 1);
	return madvise(sparse, bytes, MADV_MERGEABLE) ? -errno : 0;
}

static long child_sparse_check(long seed)
{
	char *last = (char *)sparse + (size_t)(32 * TERABYTE - page_bytes());

	return content_wrong(sparse, seed, 1) + content_wrong(last, seed, 1) +
	       100000 * !pages_shared(sparse, last) +
	       1000000 * (area_ksm_pages(sparse, 1) + area_ksm_pages(last, 1));
}

static long run_2(long arg)
{
	return ksm_set("run", 2);
}

/*
 * The mapping is in a process of its own, and so is the writer: where the
 * kernel never comes to an end they can be killed.
 */
KSM_TEST(range, a_sparse_address_space)
{
	struct ksm_child owner, writer;
	double start;
	int passes;
	long ret;

	ASSERT_EQ(0, ksm_child_start(&owner));
	ret = ksm_child_call(&owner, child_sparse, self->seed);
	if (ret == -ENOMEM)
		SKIP(return, "no 32 TiB of address space");
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, ksm_start());
	passes = ksm_wait_passes(4);
	EXPECT_EQ(0, passes);
	if (passes) {
		ksm_child_kill(&owner);
		return;
	}
	EXPECT_EQ(2000000, ksm_child_call(&owner, child_sparse_check, self->seed));
	ASSERT_EQ(0, ksm_child_start(&writer));
	start = ksm_now();
	EXPECT_EQ(0, ksm_child_call(&writer, run_2, 0));
	EXPECT_GT(30.0, ksm_now() - start);
	EXPECT_EQ(100000, ksm_child_call(&owner, child_sparse_check, self->seed));
	EXPECT_EQ(0, ksm_child_end(&owner));
	EXPECT_EQ(0, ksm_child_end(&writer));
}

/* Each page an area of its own, by alternating protection. */
KSM_TEST(range, thousands_of_areas)
{
	size_t pages = 4000, page = page_bytes();
	void *area = area_new(pages, 100, self->seed);
	double start;

	ASSERT_NE(NULL, area);
	for (size_t i = 0; i < pages; i += 2)
		ASSERT_EQ(0, mprotect(area_page(area, i), page, PROT_READ));
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(100, area_frames(area, pages));
	EXPECT_EQ(pages, own_merging_pages());
	start = ksm_now();
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_GT(30.0, ksm_now() - start);
	EXPECT_EQ(pages, area_frames(area, pages));
	EXPECT_EQ(0, area_wrong(area, pages, 100, self->seed));
}

/*
 * Move an area, merge it, swap it: every mapping has to be found, or the page
 * can't go. MREMAP_DONTUNMAP keeps the old place as a second area.
 */
KSM_TEST(range, moved_merged_and_swapped)
{
	size_t pages = 120, bytes = pages * page_bytes();
	void *area = area_map(pages), *there = area_map(pages), *moved;
	const char *swap;
	double end;

	ASSERT_NE(NULL, area);
	ASSERT_NE(NULL, there);
	swap = ksm_cgroup_swap_on(CGROUP, KSM_SWAP_ZRAM);
	if (!swap)
		SKIP(return, "no memory cgroup or no zram");
	area_fill(area, pages, 6, self->seed);
	moved = mremap(area, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, there);
	EXPECT_EQ(there, moved);
	EXPECT_EQ(0, area_mergeable(moved, pages));
	EXPECT_EQ(0, ksm_passes(4));
	EXPECT_EQ(6, area_frames(moved, pages));
	end = ksm_now() + 30;
	while (area_count(moved, pages, PAGEMAP_SWAP) < pages && ksm_now() < end) {
		ksm_cgroup_set(CGROUP, "memory.reclaim", "4M");
		usleep(10000);
	}
	EXPECT_EQ(pages, area_count(moved, pages, PAGEMAP_SWAP));
	EXPECT_EQ(0, area_wrong(moved, pages, 6, self->seed));
	EXPECT_EQ(0, ksm_swap_off(swap));
	ksm_cgroup_leave(CGROUP);
	EXPECT_EQ(0, area_wrong(moved, pages, 6, self->seed));
}

/* Compaction moves pages, merged ones too, while they are unmerged. */
KSM_TEST(range, unmerging_while_pages_migrate)
{
	void *area = area_new(1000, 50, self->seed);

	ASSERT_NE(NULL, area);
	for (int round = 0; round < 3; round++) {
		ASSERT_EQ(0, ksm_passes(4));
		EXPECT_EQ(50, area_frames(area, 1000));
		ksm_file_write("/proc/sys/vm/compact_memory", "1");
		EXPECT_EQ(0, area_wrong(area, 1000, 50, self->seed));
		EXPECT_EQ(1000, own_merging_pages());
		ASSERT_EQ(0, ksm_set("run", 2));
		EXPECT_EQ(0, ksm_get("pages_shared"));
		EXPECT_EQ(0, area_smaps(area, "KSM"));
		EXPECT_EQ(1000, area_frames(area, 1000));
	}
	EXPECT_EQ(0, area_wrong(area, 1000, 50, self->seed));
}

KSM_TEST_MAIN
