// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: what others keep in the page tables and in the
 * accounts survives merging and unmerging: soft-dirty, uffd-wp, protection keys,
 * mlock, MADV_FREE.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "ksm_test.h"

#define PAGES 32

/* Since Linux 6.7, which may be newer than the headers. */
#ifndef PAGEMAP_SCAN
struct page_region {
	uint64_t start;
	uint64_t end;
	uint64_t categories;
};

struct pm_scan_arg {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end;
	uint64_t vec;
	uint64_t vec_len;
	uint64_t max_pages;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};

#define PAGEMAP_SCAN		_IOWR('f', 16, struct pm_scan_arg)
#define PAGE_IS_WRITTEN		(1 << 1)
#define PM_SCAN_WP_MATCHING	(1 << 0)
#define PM_SCAN_CHECK_WPASYNC	(1 << 1)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC	(1 << 15)
#endif

KSM_FIXTURE(bits)

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

/* Clears the soft-dirty bits of the process; false if there are none, as with 32 bits. */
static bool soft_dirty_begins(void *area)
{
	volatile char *other = area_map(1);

	if (!other || ksm_file_write("/proc/self/clear_refs", "4"))
		return false;
	*other = 1;
	return page_pagemap((void *)other) & PAGEMAP_SOFT_DIRTY &&
	       !bit_of_pages(area, PAGEMAP_SOFT_DIRTY);
}

KSM_TEST(bits, soft_dirty_survives_merging_and_unmerging)
{
	uint32_t written = 0x00ff0f35;
	char *area = area_new(PAGES, 4, self->seed);

	ASSERT_NE(NULL, area);
	if (!soft_dirty_begins(area))
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
	if (!soft_dirty_begins(area))
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
	if (!soft_dirty_begins(area))
		SKIP(return, "no soft-dirty bits");
	rewrite(area, written);
	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(PAGES, ksm_get("ksm_zero_pages"));
	EXPECT_EQ(written, bit_of_pages(area, PAGEMAP_SOFT_DIRTY));
}

KSM_TEST(bits, uffd_wp_survives_merging_and_unmerging)
{
	void *area = area_new(PAGES, 4, self->seed);
	int fd = area_uffd_wp(area, PAGES);

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

/* Have writes to the area noted without a fault handler. */
static int note_writes(void *area)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC };
	struct uffdio_register reg = {
		.range = { (uintptr_t)area, PAGES * page_bytes() },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && (ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* One bit for each page written since the last call; -1 if that can't be told. */
static int64_t written_pages(char *area)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	struct page_region region[PAGES];
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = (uintptr_t)area,
		.end = (uintptr_t)area + PAGES * page_bytes(),
		.vec = (uintptr_t)region,
		.vec_len = PAGES,
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};
	int64_t pages = 0;
	int nr = ioctl(fd, PAGEMAP_SCAN, &arg);

	close(fd);
	if (nr < 0)
		return -1;
	while (nr--)
		for (uint64_t at = region[nr].start; at < region[nr].end; at += page_bytes())
			pages |= 1LL << (at - (uintptr_t)area) / page_bytes();
	return pages;
}

KSM_TEST(bits, a_scan_for_written_pages_sees_writes_only)
{
	char *area = area_new(PAGES, 4, self->seed);
	int fd;

	ASSERT_NE(NULL, area);
	fd = note_writes(area);
	if (fd < 0)
		SKIP(return, "no asynchronous userfaultfd-wp");
	ASSERT_EQ(0xffffffff, written_pages(area));
	ASSERT_EQ(0, written_pages(area));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(4, area_frames(area, PAGES));
	EXPECT_EQ(0, written_pages(area));
	rewrite(area, 0x80000101);
	EXPECT_EQ(0x80000101, written_pages(area));
	EXPECT_EQ(0, written_pages(area));
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(4, area_frames(area, PAGES));
	rewrite(area, 0x00000006);
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(4, area_frames(area, PAGES));
	EXPECT_EQ(0x00000006, written_pages(area));
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_EQ(PAGES, area_frames(area, PAGES));
	EXPECT_EQ(0, written_pages(area));
	rewrite(area, 0x10000000);
	EXPECT_EQ(0x10000000, written_pages(area));
	EXPECT_EQ(0, area_wrong(area, PAGES, 4, self->seed));
	close(fd);
}

static void exit_with_code(int signal, siginfo_t *info, void *context)
{
	_exit(info->si_code);
}

/* What reading a page gives whose key has all rights withdrawn: an si_code, or 0. */
static int code_of_reading(const char *page, int key)
{
	struct sigaction action = { .sa_sigaction = exit_with_code, .sa_flags = SA_SIGINFO };
	pid_t pid = fork();
	int status = 0;

	if (!pid) {
		sigaction(SIGSEGV, &action, NULL);
		pkey_set(key, PKEY_DISABLE_ACCESS);
		(void)*(volatile const char *)page;
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

KSM_TEST(bits, protection_keys_survive_merging_and_unmerging)
{
	char *area = area_new(PAGES, 4, self->seed);
	int key = pkey_alloc(0, 0);

	ASSERT_NE(NULL, area);
	if (key < 0)
		SKIP(return, "no protection keys");
	ASSERT_EQ(0, pkey_mprotect(area, PAGES / 2 * page_bytes(), PROT_READ | PROT_WRITE,
				   key));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(4, area_frames(area, PAGES));
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_EQ(i < PAGES / 2 ? SEGV_PKUERR : 0,
			  code_of_reading(area_page(area, i), key));
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_EQ(PAGES, area_frames(area, PAGES));
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_EQ(i < PAGES / 2 ? SEGV_PKUERR : 0,
			  code_of_reading(area_page(area, i), key));
	EXPECT_EQ(0, area_wrong(area, PAGES, 4, self->seed));
}

KSM_TEST_MAIN
