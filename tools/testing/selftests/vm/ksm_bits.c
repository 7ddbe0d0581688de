// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: what others keep in the page tables and in the
 * accounts survives merging and unmerging: soft-dirty, uffd-wp, mlock, MADV_FREE.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "ksm_test.h"

#define PAGES 32

KSM_FIXTURE(bits)

static int clear_soft_dirty(void)
{
	return ksm_file_write("/proc/self/clear_refs", "4");
}

/* One bit a page. */
static uint32_t bit_of_pages(void *area, uint64_t bit)
{
	uint32_t pages = 0;

	for (size_t i = 0; i < PAGES; i++) {
		if (page_pagemap(area_page(area, i)) & bit)
			pages |= 1u << i;
	}
	return pages;
}

/* The pages in @which are written after the mark, with what they held. */
static void rewrite(char *area, uint32_t which)
{
	for (size_t i = 0; i < PAGES; i++) {
		volatile char *at = area_page(area, i);

		if (which & 1u << i)
			*at = *at;
	}
}

KSM_TEST(bits, soft_dirty_survives_merging_and_unmerging)
{
	uint32_t written = 0x00ff0f35;
	char *area = area_new(PAGES, 4, self->seed);

	ASSERT_NE(NULL, area);
	if (clear_soft_dirty() || bit_of_pages(area, PAGEMAP_SOFT_DIRTY))
		SKIP(return, "no soft-dirty bits");
	rewrite(area, written);
	ASSERT_EQ(written, bit_of_pages(area, PAGEMAP_SOFT_DIRTY));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(4, area_frames(area, PAGES));
	EXPECT_EQ(written, bit_of_pages(area, PAGEMAP_SOFT_DIRTY));
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_EQ(PAGES, area_frames(area, PAGES));
	EXPECT_EQ(written, bit_of_pages(area, PAGEMAP_SOFT_DIRTY));
}

KSM_TEST(bits, soft_dirty_sees_a_write_to_a_merged_page)
{
	char *area = area_new(PAGES, 4, self->seed);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(4, area_frames(area, PAGES));
	if (clear_soft_dirty() || bit_of_pages(area, PAGEMAP_SOFT_DIRTY))
		SKIP(return, "no soft-dirty bits");
	ASSERT_EQ(0, ksm_passes(2));
	EXPECT_EQ(0, bit_of_pages(area, PAGEMAP_SOFT_DIRTY));
	rewrite(area, 0x80000001);
	EXPECT_EQ(0x80000001, bit_of_pages(area, PAGEMAP_SOFT_DIRTY));
}

static void zero_area(void *area)
{
	memset(area, 0, PAGES * page_bytes());
}

KSM_TEST(bits, soft_dirty_survives_zero_page_merging)
{
	uint32_t written = 0x0000ffff;
	char *area = area_map(PAGES);

	ASSERT_NE(NULL, area);
	rewrite(area, ~0u);
	zero_area(area);
	ASSERT_EQ(0, area_mergeable(area, PAGES));
	if (clear_soft_dirty() || bit_of_pages(area, PAGEMAP_SOFT_DIRTY))
		SKIP(return, "no soft-dirty bits");
	rewrite(area, written);
	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(PAGES, ksm_get("ksm_zero_pages"));
	EXPECT_EQ(written, bit_of_pages(area, PAGEMAP_SOFT_DIRTY));
}

static int uffd_wp_area(void *area)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	};
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)area, PAGES * page_bytes() },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	struct uffdio_register reg = {
		.range = wp.range,
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	if (ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg) ||
	    ioctl(fd, UFFDIO_WRITEPROTECT, &wp)) {
		close(fd);
		return -ENOTSUP;
	}
	return fd;
}

KSM_TEST(bits, uffd_wp_survives_merging_and_unmerging)
{
	void *area = area_new(PAGES, 4, self->seed);
	int fd = uffd_wp_area(area);

	ASSERT_NE(NULL, area);
	if (fd < 0)
		SKIP(return, "no userfaultfd write protection");
	ASSERT_EQ(~0u, bit_of_pages(area, PAGEMAP_UFFD_WP));
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(~0u, bit_of_pages(area, PAGEMAP_UFFD_WP));
	EXPECT_EQ(0, area_wrong(area, PAGES, 4, self->seed));
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_EQ(~0u, bit_of_pages(area, PAGEMAP_UFFD_WP));
	EXPECT_EQ(0, area_wrong(area, PAGES, 4, self->seed));
	close(fd);
}

static void *locked_area;

static long hold(long arg)
{
	return area_smaps(locked_area, "KSM");
}

KSM_TEST(bits, mlock_accounts_come_back)
{
	int64_t locked = meminfo_kib("Mlocked"), unevictable = meminfo_kib("Unevictable");
	struct ksm_child child;

	locked_area = area_new(PAGES, 4, self->seed);
	ASSERT_NE(NULL, locked_area);
	ASSERT_EQ(0, mlock(locked_area, PAGES * page_bytes()));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(4, area_frames(locked_area, PAGES));
	EXPECT_LT(locked, settled("Mlocked", locked + 4 * page_bytes() / 1024));
	ASSERT_EQ(0, ksm_child_start(&child));
	EXPECT_LT(0, ksm_child_call(&child, hold, 0));
	for (size_t i = 0; i < 8; i++)
		content_fill(area_page(locked_area, i), self->seed, 100 + i);
	ASSERT_EQ(0, ksm_passes(3));
	EXPECT_EQ(0, ksm_child_end(&child));
	ASSERT_EQ(0, munlock(locked_area, PAGES * page_bytes()));
	EXPECT_EQ(locked, settled("Mlocked", locked));
	ASSERT_EQ(0, munmap(locked_area, PAGES * page_bytes()));
	EXPECT_EQ(locked, settled("Mlocked", locked));
	EXPECT_EQ(unevictable, settled("Unevictable", unevictable));
}

KSM_TEST(bits, mlocked_memory_is_merged_and_unmerged_locked)
{
	int64_t locked = meminfo_kib("Mlocked"), all = PAGES * page_bytes() / 1024;
	void *area = area_new(PAGES, 4, self->seed);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, mlock(area, PAGES * page_bytes()));
	EXPECT_EQ(locked + all, settled("Mlocked", locked + all));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(4, area_frames(area, PAGES));
	EXPECT_GE(locked + all, settled("Mlocked", locked + all * 4 / PAGES));
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_EQ(locked + all, settled("Mlocked", locked + all));
	ASSERT_EQ(0, munlock(area, PAGES * page_bytes()));
	EXPECT_EQ(locked, settled("Mlocked", locked));
	EXPECT_EQ(0, area_wrong(area, PAGES, 4, self->seed));
}

/* Pages given up lazily: kept or zero, and what is written to them counts. */
KSM_TEST(bits, madv_free_pages_are_not_lost)
{
	char *area = area_new(PAGES, 1, self->seed), *peer;
	size_t page = page_bytes();

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, madvise(area, PAGES * page, MADV_FREE));
	peer = area_new(PAGES, 1, self->seed);
	ASSERT_NE(NULL, peer);
	ASSERT_EQ(0, ksm_passes(4));
	/* No memory pressure: they are all still there. */
	EXPECT_EQ(0, area_wrong(area, PAGES, 1, self->seed));
	for (size_t i = 0; i < PAGES; i++) {
		char first = area[i * page];

		*(volatile char *)&area[i * page] = first;
	}
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(0, area_wrong(area, PAGES, 1, self->seed));
	EXPECT_EQ(0, area_wrong(peer, PAGES, 1, self->seed));
	EXPECT_TRUE(pages_shared(area, peer));
}

/* MADV_FREE of merged pages frees nobody else's. */
KSM_TEST(bits, madv_free_of_merged_pages)
{
	void *area = area_new(PAGES, 1, self->seed);
	void *peer = area_new(PAGES, 1, self->seed);

	ASSERT_NE(NULL, area);
	ASSERT_NE(NULL, peer);
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_TRUE(pages_shared(area, peer));
	ASSERT_EQ(0, madvise(area, PAGES * page_bytes(), MADV_FREE));
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(0, area_wrong(peer, PAGES, 1, self->seed));
}

KSM_TEST_MAIN
