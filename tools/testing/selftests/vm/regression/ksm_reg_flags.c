// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging regressions: VMA flags and NUMA nodes.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "ksm_test.h"

KSM_FIXTURE(flags)

/* CVE-2025-40040: the flags above bit 31 went with MADV_UNMERGEABLE. */
KSM_TEST(flags, unmergeable_keeps_userfaultfd_minor_mode)
{
	struct uffdio_api api = {
		.api = UFFD_API, .features = UFFD_FEATURE_MINOR_SHMEM,
	};
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MINOR };
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	int fd = memfd_create("ksm", MFD_CLOEXEC);
	size_t bytes = 4 * page_bytes();
	void *area;

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		SKIP(return, "no userfaultfd minor mode");
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, bytes));
	area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	ASSERT_NE(MAP_FAILED, area);
	reg.range.start = (uintptr_t)area;
	reg.range.len = bytes;
	ASSERT_EQ(0, madvise(area, bytes, MADV_MERGEABLE));
	if (ioctl(uffd, UFFDIO_REGISTER, &reg))
		SKIP(return, "no userfaultfd minor mode for private mappings");
	ASSERT_TRUE(area_vmflag(area, "ui"));
	ASSERT_EQ(0, madvise(area, bytes, MADV_UNMERGEABLE));
	EXPECT_TRUE(area_vmflag(area, "ui"));
	EXPECT_FALSE(area_vmflag(area, "mg"));
}

/* 2017: two KSM pages of one content, one on each node, meet on one node. */
KSM_TEST(flags, equal_merged_pages_migrate_to_one_node)
{
	void *here, *there;

	if (!two_nodes())
		SKIP(return, "one NUMA node only");
	ASSERT_EQ(0, ksm_set("merge_across_nodes", 0));
	here = area_map(20);
	there = area_map(20);
	ASSERT_NE(NULL, here);
	ASSERT_NE(NULL, there);
	area_fill(here, 20, 2, self->seed);
	area_fill(there, 20, 2, self->seed);
	if (area_move(here, 20, 0) != 20 || area_move(there, 20, 1) != 20)
		SKIP(return, "pages can't be moved between nodes");
	ASSERT_EQ(0, area_mergeable(here, 20));
	ASSERT_EQ(0, area_mergeable(there, 20));
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
KSM_TEST(flags, a_merged_page_comes_to_the_node_of_an_equal_one)
{
	void *here, *there;

	if (!two_nodes())
		SKIP(return, "one NUMA node only");
	ASSERT_EQ(0, ksm_set("merge_across_nodes", 0));
	/* Alone with its sample at first, then not. */
	for (int round = 0; round < 2; round++) {
		here = area_map(4);
		there = area_map(1);
		ASSERT_NE(NULL, here);
		ASSERT_NE(NULL, there);
		area_fill(here, 4, 1, self->seed);
		area_fill(there, 1, 1, self->seed);
		if (area_move(here, 4, 0) != 4 || area_move(there, 1, 1) != 1)
			SKIP(return, "pages can't be moved between nodes");
		ASSERT_EQ(0, area_mergeable(here, 4));
		ASSERT_EQ(0, area_mergeable(there, 1));
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
KSM_TEST(flags, equal_pages_of_two_nodes_merge_by_default)
{
	void *here, *there;

	if (!two_nodes())
		SKIP(return, "one NUMA node only");
	here = area_map(4);
	there = area_map(4);
	ASSERT_NE(NULL, here);
	ASSERT_NE(NULL, there);
	area_fill(here, 4, 1, self->seed);
	area_fill(there, 4, 1, self->seed);
	if (area_move(here, 4, 0) != 4 || area_move(there, 4, 1) != 4)
		SKIP(return, "pages can't be moved between nodes");
	ASSERT_EQ(0, area_mergeable(here, 4));
	ASSERT_EQ(0, area_mergeable(there, 4));
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_TRUE(pages_shared(here, there));
	EXPECT_EQ(1, ksm_get("pages_shared"));
}

KSM_TEST_MAIN
