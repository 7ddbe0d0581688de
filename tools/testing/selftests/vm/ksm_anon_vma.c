// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: what the kernel allocated to find an area's
 * pages goes with the area, merged or not, however its pages were let go.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "ksm_test.h"

#define AREAS 400
#define DISTINCT 40
#define SLAB "/sys/kernel/slab/anon_vma/"

KSM_FIXTURE(anon_vma)

/* Objects in use; without what waits in lists of processors, where that is told. */
static int64_t anon_vmas(void)
{
	ksm_file_write(SLAB "shrink", "1");
	return ksm_file_field("/proc/slabinfo", "anon_vma");
}

/* They are freed in the background: until there are at most @most, or for long enough. */
static int64_t anon_vmas_settled(int64_t most)
{
	double end = ksm_now() + ksm_wait_seconds();

	while (anon_vmas() > most && ksm_now() < end)
		usleep(20000);
	return anon_vmas();
}

static char *area;
static uint64_t area_seed;

/* Page 2 * i is an area of its own, as there is a hole behind it. */
static long map_areas(long arg)
{
	area = area_map(2 * AREAS);
	if (!area)
		return -ENOMEM;
	for (size_t i = 0; i < AREAS; i++) {
		void *page = area_page(area, 2 * i);

		if (munmap(area_page(area, 2 * i + 1), page_bytes()) ||
		    area_mergeable(page, 1))
			return -errno;
		content_fill(page, area_seed, i % DISTINCT);
	}
	return 0;
}

static long wrong(long arg)
{
	size_t n = 0;

	for (size_t i = 0; i < AREAS; i++)
		n += content_wrong(area_page(area, 2 * i), area_seed, i % DISTINCT);
	return n;
}

static long unmap_areas(long arg)
{
	return munmap(area, 2 * AREAS * page_bytes()) ? -errno : 0;
}

static long unmerge_areas(long arg)
{
	for (size_t i = 0; i < AREAS; i++) {
		if (madvise(area_page(area, 2 * i), page_bytes(), MADV_UNMERGEABLE))
			return -errno;
	}
	return 0;
}

enum way { EXIT, UNMAP, UNMERGE, UNMERGE_ALL };

/*
 * Pages of this process keep the KSM pages alive while the child's areas, each
 * of them with an anon_vma, leave these.
 */
static void leave(struct __test_metadata *_metadata, uint64_t seed, enum way way)
{
	int64_t before = anon_vmas();
	struct ksm_child child;
	void *kept;

	if (before == KSM_NOTHING)
		SKIP(return, "no /proc/slabinfo");
	area_seed = seed;
	ASSERT_EQ(0, ksm_child_start(&child));
	kept = area_new(DISTINCT, DISTINCT, seed);
	ASSERT_NE(NULL, kept);
	ASSERT_EQ(0, ksm_child_call(&child, map_areas, 0));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(AREAS, ksm_get("pages_sharing"));
	ASSERT_LE(before + AREAS * 9 / 10, anon_vmas());
	if (way == UNMERGE)
		ASSERT_EQ(0, ksm_child_call(&child, unmerge_areas, 0));
	if (way == UNMERGE_ALL)
		ASSERT_EQ(0, ksm_unmerge());
	ASSERT_EQ(0, ksm_child_call(&child, wrong, 0));
	if (way != EXIT)
		ASSERT_EQ(0, ksm_child_call(&child, unmap_areas, 0));
	if (way == UNMAP)
		ASSERT_EQ(0, ksm_passes(2));
	if (way == EXIT)
		ASSERT_EQ(0, ksm_child_end(&child));
	EXPECT_GT(before + AREAS / 2, anon_vmas_settled(before + AREAS / 2 - 1));
	if (way != UNMERGE_ALL)
		EXPECT_EQ(DISTINCT, area_ksm_pages(kept, DISTINCT));
	EXPECT_EQ(0, area_wrong(kept, DISTINCT, DISTINCT, seed));
	if (way != EXIT)
		EXPECT_EQ(0, ksm_child_end(&child));
}

KSM_TEST(anon_vma, goes_with_a_process_that_exits)
{
	leave(_metadata, self->seed, EXIT);
}

KSM_TEST(anon_vma, goes_with_areas_that_are_unmapped)
{
	leave(_metadata, self->seed, UNMAP);
}

KSM_TEST(anon_vma, goes_with_areas_that_were_made_unmergeable)
{
	leave(_metadata, self->seed, UNMERGE);
}

KSM_TEST(anon_vma, goes_with_areas_after_everything_was_unmerged)
{
	leave(_metadata, self->seed, UNMERGE_ALL);
}

KSM_TEST_MAIN
