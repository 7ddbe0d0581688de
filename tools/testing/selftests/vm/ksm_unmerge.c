// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: each way to get one's own pages back: run=2,
 * MADV_UNMERGEABLE, munmap, mremap, exit. No byte changes, no flag stays.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "ksm_test.h"

#define PAGES 192	/* more than one search of an area finds */
#define DISTINCT 4

KSM_FIXTURE(unmerge)

static void *merged(struct __test_metadata *_metadata, uint64_t seed)
{
	void *area = area_new(PAGES, DISTINCT, seed);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(DISTINCT, area_frames(area, PAGES));
	return area;
}

static void expect_unmerged(struct __test_metadata *_metadata, void *area,
			    uint64_t seed)
{
	EXPECT_EQ(PAGES, area_frames(area, PAGES));
	EXPECT_EQ(0, area_smaps(area, "KSM"));
	EXPECT_EQ(0, area_wrong(area, PAGES, DISTINCT, seed));
}

KSM_TEST(unmerge, run_2_breaks_all_and_keeps_the_registration)
{
	void *area = merged(_metadata, self->seed);

	ASSERT_EQ(0, ksm_set("run", 2));
	expect_unmerged(_metadata, area, self->seed);
	EXPECT_EQ(0, own_merging_pages());
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_TRUE(area_vmflag(area, "mg"));
	/* And with run=1 it starts again. */
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(DISTINCT, area_frames(area, PAGES));
}

KSM_TEST(unmerge, run_2_with_read_only_and_inaccessible_memory)
{
	size_t bytes = PAGES * page_bytes();
	void *none = merged(_metadata, self->seed);
	void *read = merged(_metadata, self->seed);

	ASSERT_EQ(0, mprotect(none, bytes, PROT_NONE));
	ASSERT_EQ(0, mprotect(read, bytes, PROT_READ));
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, area_smaps(none, "KSM"));
	ASSERT_EQ(0, mprotect(none, bytes, PROT_READ));
	expect_unmerged(_metadata, none, self->seed);
	expect_unmerged(_metadata, read, self->seed);
}

KSM_TEST(unmerge, madvise_on_a_part)
{
	void *area = merged(_metadata, self->seed);
	size_t half = PAGES / 2;

	ASSERT_EQ(0, madvise(area, half * page_bytes(), MADV_UNMERGEABLE));
	EXPECT_EQ(half, area_frames(area, half));
	EXPECT_EQ(DISTINCT, area_frames(area_page(area, half), half));
	EXPECT_EQ(0, area_smaps(area, "KSM"));
	EXPECT_EQ(0, area_wrong(area, PAGES, DISTINCT, self->seed));
	/* What was taken out is not merged again. */
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(half, area_frames(area, half));
	EXPECT_EQ(half, own_merging_pages());
	EXPECT_EQ(DISTINCT, ksm_get("pages_shared"));
	EXPECT_EQ(half - DISTINCT, ksm_get("pages_sharing"));
}

/* Holes, pages never touched and pages given back are not in the way. */
KSM_TEST(unmerge, madvise_over_dontneed_and_holes)
{
	void *area = merged(_metadata, self->seed);
	size_t page = page_bytes();

	ASSERT_EQ(0, madvise(area_page(area, 8), 8 * page, MADV_DONTNEED));
	ASSERT_EQ(0, munmap(area_page(area, 24), 8 * page));
	EXPECT_EQ(-1, madvise(area, PAGES * page, MADV_UNMERGEABLE));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_FALSE(area_vmflag(area, "mg"));
	EXPECT_FALSE(area_vmflag(area_page(area, 63), "mg"));
	EXPECT_EQ(8, area_frames(area, 8));
	EXPECT_EQ(0, area_frames(area_page(area, 8), 8));
	EXPECT_EQ(8, area_frames(area_page(area, 16), 8));
	EXPECT_EQ(32, area_frames(area_page(area, 32), 32));
	EXPECT_EQ(0, area_wrong(area, 8, DISTINCT, self->seed));
	EXPECT_EQ(0, area_wrong(area_page(area, 32), 32, DISTINCT, self->seed));
}

KSM_TEST(unmerge, munmap_leaves_the_other_pages_alone)
{
	void *area = merged(_metadata, self->seed);

	ASSERT_EQ(0, munmap(area, PAGES / 2 * page_bytes()));
	EXPECT_EQ(0, area_wrong(area_page(area, PAGES / 2), PAGES / 2, DISTINCT,
				self->seed));
	EXPECT_EQ(PAGES / 2, area_smaps(area_page(area, PAGES / 2), "KSM") * 1024 /
		  page_bytes());
	ASSERT_EQ(0, ksm_passes(2));
	EXPECT_EQ(PAGES / 2, own_merging_pages());
}

/* mremap breaks merged pages, keeps their bytes, and they may merge again. */
KSM_TEST(unmerge, mremap_moves_every_byte)
{
	void *area = merged(_metadata, self->seed), *there, *moved;
	size_t bytes = PAGES * page_bytes();

	there = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, there);
	moved = mremap(area, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, there);
	ASSERT_EQ(there, moved);
	EXPECT_TRUE(area_vmflag(moved, "mg"));
	expect_unmerged(_metadata, moved, self->seed);
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(DISTINCT, area_frames(moved, PAGES));
	EXPECT_EQ(DISTINCT, ksm_get("pages_shared"));
	EXPECT_EQ(0, area_wrong(moved, PAGES, DISTINCT, self->seed));
	ASSERT_EQ(0, ksm_set("run", 2));
	expect_unmerged(_metadata, moved, self->seed);
}

static int uffd_wp_open(void)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Unmerging writes no byte, so that no write fault may be reported for it. */
KSM_TEST(unmerge, run_2_with_uffd_wp_memory)
{
	void *area = area_map(PAGES);
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)area, PAGES * page_bytes() },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	struct uffdio_register reg = {
		.range = wp.range,
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct uffd_msg msg;
	int fd = uffd_wp_open();

	if (fd < 0)
		SKIP(return, "no userfaultfd write protection");
	ASSERT_NE(NULL, area);
	area_fill(area, PAGES, DISTINCT, self->seed);
	ASSERT_EQ(0, ioctl(fd, UFFDIO_REGISTER, &reg));
	ASSERT_EQ(0, area_mergeable(area, PAGES));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(DISTINCT, area_frames(area, PAGES));
	ASSERT_EQ(0, ioctl(fd, UFFDIO_WRITEPROTECT, &wp));
	ASSERT_EQ(0, ksm_set("run", 2));
	expect_unmerged(_metadata, area, self->seed);
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_TRUE(page_pagemap(area_page(area, i)) & PAGEMAP_UFFD_WP);
	EXPECT_EQ(-1, read(fd, &msg, sizeof(msg)));
	EXPECT_EQ(EAGAIN, errno);
}

static void *child_area;
static uint64_t child_seed;

static long child_load(long pages)
{
	child_area = area_new(pages, 1, child_seed);
	return !child_area;
}

static long child_wrong(long pages)
{
	return area_wrong(child_area, pages, 1, child_seed);
}

static long child_unmerge(long pages)
{
	return madvise(child_area, pages * page_bytes(), MADV_UNMERGEABLE);
}

/* Killed or not in the middle of it, the others' bytes stay. */
KSM_TEST(unmerge, a_process_killed_while_it_unmerges)
{
	struct ksm_child child;
	void *area = NULL;

	child_seed = self->seed;
	for (int round = 0; round < 5; round++) {
		ASSERT_EQ(0, ksm_child_start(&child));
		ASSERT_EQ(0, ksm_child_call(&child, child_load, 230));
		if (!area)
			area = area_new(20, 1, self->seed);
		ASSERT_NE(NULL, area);
		ASSERT_EQ(0, ksm_passes(4));
		ASSERT_EQ(0, ksm_child_post(&child, child_unmerge, 230));
		usleep(300 * round);
		ksm_child_kill(&child);
		EXPECT_EQ(0, area_wrong(area, 20, 1, self->seed));
	}
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(1, ksm_get("pages_shared"));
	EXPECT_EQ(19, ksm_get("pages_sharing"));
}

static long write_run_2(long arg)
{
	return ksm_set("run", 2);
}

/* A writer of run=2 that is killed leaves 0 or 2, and no half-broken page. */
KSM_TEST(unmerge, a_killed_writer_of_run_2)
{
	struct ksm_child owner, writer;
	int64_t run;

	child_seed = self->seed;
	ASSERT_EQ(0, ksm_child_start(&owner));
	ASSERT_EQ(0, ksm_child_call(&owner, child_load, 1000));
	for (int round = 0; round < 4; round++) {
		ASSERT_EQ(0, ksm_passes(4));
		ASSERT_EQ(0, ksm_child_start(&writer));
		ASSERT_EQ(0, ksm_child_post(&writer, write_run_2, 0));
		usleep(500 * round);
		ksm_child_kill(&writer);
		run = ksm_get("run");
		EXPECT_TRUE(run == 0 || run == 2) TH_LOG("run is %ld", (long)run);
		EXPECT_EQ(0, ksm_child_call(&owner, child_wrong, 1000));
	}
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, ksm_child_call(&owner, child_wrong, 1000));
	EXPECT_EQ(0, ksm_child_end(&owner));
}

KSM_TEST_MAIN
