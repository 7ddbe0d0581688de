// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: pages of zeroes, with use_zero_pages on (they
 * become the zero page, ksm_zero_pages counts them) and off (KSM pages).
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "ksm_test.h"

#define PAGES 32

KSM_FIXTURE(zero)

/* Written zeroes: pages of their own, not the zero page that reading gives. */
static void *zeroes(size_t pages)
{
	void *area = area_map(pages);

	if (!area)
		return NULL;
	memset(area, 1, pages * page_bytes());
	memset(area, 0, pages * page_bytes());
	return area_mergeable(area, pages) ? NULL : area;
}

static size_t not_zero(const char *area, size_t pages)
{
	size_t wrong = 0, i;

	for (i = 0; i < pages * page_bytes(); i++)
		wrong += area[i] != 0;
	return wrong;
}

static size_t zero_pages(void *area, size_t pages)
{
	size_t n = 0, i;

	for (i = 0; i < pages; i++)
		n += page_is_zero_page(area_page(area, i));
	return n;
}

/* An area of PAGES pages that are the zero page already. */
static void *placed(struct __test_metadata *_metadata)
{
	void *area = zeroes(PAGES);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(PAGES, zero_pages(area, PAGES));
	ASSERT_EQ(PAGES, ksm_get("ksm_zero_pages"));
	ASSERT_EQ(PAGES, own_stat("ksm_zero_pages"));
	return area;
}

KSM_TEST(zero, switched_off_they_are_merged_as_any_content)
{
	void *area = zeroes(PAGES);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(0, zero_pages(area, PAGES));
	EXPECT_EQ(1, area_frames(area, PAGES));
	EXPECT_EQ(0, ksm_get("ksm_zero_pages"));
	EXPECT_EQ(1, ksm_get("pages_shared"));
	EXPECT_EQ(PAGES - 1, ksm_get("pages_sharing"));
	EXPECT_EQ(0, not_zero(area, PAGES));
}

KSM_TEST(zero, switched_on_they_become_the_zero_page)
{
	void *area = placed(_metadata);
	int64_t rss = area_smaps(area, "Rss");

	EXPECT_EQ(0, rss);
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, ksm_get("pages_sharing"));
	EXPECT_EQ(0, own_merging_pages());
	EXPECT_LT(0, ksm_get("general_profit"));
	EXPECT_GE((int64_t)(PAGES * page_bytes()), ksm_get("general_profit"));
	EXPECT_EQ(0, not_zero(area, PAGES));
}

/* A single one has no peer and needs none. */
KSM_TEST(zero, a_single_page_is_enough)
{
	void *area = zeroes(1);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_TRUE(page_is_zero_page(area));
	EXPECT_EQ(1, ksm_get("ksm_zero_pages"));
}

KSM_TEST(zero, almost_zero_is_not_zero)
{
	uint64_t seed = self->seed;
	char *area = zeroes(PAGES);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	for (size_t i = 0; i < PAGES; i++) {
		seed = seed * 6364136223846793005ULL + 1;
		area[i * page_bytes() + (seed >> 33) % page_bytes()] = 1 + i;
	}
	ASSERT_EQ(0, ksm_passes(6));
	EXPECT_EQ(0, zero_pages(area, PAGES));
	EXPECT_EQ(0, ksm_get("ksm_zero_pages"));
	EXPECT_EQ(PAGES, not_zero(area, PAGES));
}

KSM_TEST(zero, the_count_falls_with_a_write)
{
	char *area = placed(_metadata);

	area[3 * page_bytes()] = 1;
	area[4 * page_bytes() - 1] = 1;
	area[7 * page_bytes() + 5] = 1;
	EXPECT_EQ(PAGES - 2, ksm_get("ksm_zero_pages"));
	EXPECT_EQ(PAGES - 2, own_stat("ksm_zero_pages"));
	EXPECT_EQ(3, not_zero(area, PAGES));
}

KSM_TEST(zero, the_count_falls_with_munmap_and_dontneed)
{
	char *area = placed(_metadata);

	ASSERT_EQ(0, munmap(area, 4 * page_bytes()));
	EXPECT_EQ(PAGES - 4, ksm_get("ksm_zero_pages"));
	area += 4 * page_bytes();
	ASSERT_EQ(0, madvise(area, 4 * page_bytes(), MADV_DONTNEED));
	EXPECT_EQ(PAGES - 8, ksm_get("ksm_zero_pages"));
	/* The zero page that a read fault maps is nobody's merit. */
	EXPECT_EQ(0, not_zero(area, 4));
	EXPECT_EQ(PAGES - 8, ksm_get("ksm_zero_pages"));
	EXPECT_EQ(PAGES - 8, own_stat("ksm_zero_pages"));
}

KSM_TEST(zero, the_count_falls_with_unmerging)
{
	char *area = placed(_metadata);

	ASSERT_EQ(0, madvise(area, 4 * page_bytes(), MADV_UNMERGEABLE));
	EXPECT_EQ(0, zero_pages(area, 4));
	EXPECT_EQ(PAGES - 4, ksm_get("ksm_zero_pages"));
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_EQ(0, ksm_get("ksm_zero_pages"));
	EXPECT_EQ(0, own_stat("ksm_zero_pages"));
	EXPECT_EQ(0, zero_pages(area, PAGES));
	EXPECT_EQ(0, not_zero(area, PAGES));
}

static char *child_area;

static long child_zero_pages(long arg)
{
	return own_stat("ksm_zero_pages");
}

static long child_write(long page)
{
	child_area[page * page_bytes()] = 1;
	return 0;
}

KSM_TEST(zero, the_count_follows_fork_and_exit)
{
	struct ksm_child child;

	child_area = placed(_metadata);
	ASSERT_EQ(0, ksm_child_start(&child));
	EXPECT_EQ(PAGES, ksm_child_call(&child, child_zero_pages, 0));
	EXPECT_EQ(2 * PAGES, ksm_get("ksm_zero_pages"));
	EXPECT_EQ(0, ksm_child_call(&child, child_write, 3));
	EXPECT_EQ(2 * PAGES - 1, ksm_get("ksm_zero_pages"));
	EXPECT_EQ(PAGES - 1, ksm_child_call(&child, child_zero_pages, 0));
	EXPECT_EQ(PAGES, own_stat("ksm_zero_pages"));
	EXPECT_EQ(0, ksm_child_end(&child));
	EXPECT_EQ(PAGES, ksm_get("ksm_zero_pages"));
	EXPECT_EQ(0, not_zero(child_area, PAGES));
}

KSM_TEST(zero, switching_affects_later_merges_only)
{
	void *area = placed(_metadata), *later;

	ASSERT_EQ(0, ksm_set("use_zero_pages", 0));
	later = zeroes(PAGES);
	ASSERT_NE(NULL, later);
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(PAGES, zero_pages(area, PAGES));
	EXPECT_EQ(0, zero_pages(later, PAGES));
	EXPECT_EQ(1, area_frames(later, PAGES));
}

static void switched_on_later(struct __test_metadata *_metadata, int smart_scan)
{
	void *area = zeroes(1);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_set("smart_scan", smart_scan));
	ASSERT_EQ(0, ksm_passes(12));
	EXPECT_FALSE(page_is_zero_page(area));
	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_TRUE(page_is_zero_page(area));
	EXPECT_EQ(1, ksm_get("ksm_zero_pages"));
}

KSM_TEST(zero, switched_on_when_the_page_is_known)
{
	switched_on_later(_metadata, 0);
}

/* Not one that is known for long and only looked at now and then. */
KSM_TEST(zero, switched_on_when_the_page_is_well_known)
{
	switched_on_later(_metadata, 1);
}

KSM_TEST_MAIN
