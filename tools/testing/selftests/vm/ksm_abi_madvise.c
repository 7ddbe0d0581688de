// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: what madvise(MADV_MERGEABLE) and
 * madvise(MADV_UNMERGEABLE) promise about ranges, mappings and VMA flags.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "ksm_test.h"

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif

static int advise(void *addr, size_t bytes, int advice)
{
	return madvise(addr, bytes, advice) ? -errno : 0;
}

KSM_FIXTURE(madvise)

KSM_TEST(madvise, mergeable_sets_and_unmergeable_clears_the_flag)
{
	size_t page = page_bytes();
	void *area = area_map(4);

	ASSERT_NE(NULL, area);
	EXPECT_FALSE(area_vmflag(area, "mg"));
	EXPECT_EQ(0, advise(area, 4 * page, MADV_MERGEABLE));
	EXPECT_TRUE(area_vmflag(area, "mg"));
	EXPECT_EQ(0, advise(area, 4 * page, MADV_MERGEABLE));
	EXPECT_EQ(0, advise(area, 4 * page, MADV_UNMERGEABLE));
	EXPECT_FALSE(area_vmflag(area, "mg"));
	EXPECT_EQ(0, advise(area, 4 * page, MADV_UNMERGEABLE));
}

KSM_TEST(madvise, a_part_of_an_area_is_split_off)
{
	size_t page = page_bytes();
	void *area = area_map(3);

	ASSERT_NE(NULL, area);
	EXPECT_EQ(0, advise(area_page(area, 1), page, MADV_MERGEABLE));
	EXPECT_FALSE(area_vmflag(area, "mg"));
	EXPECT_TRUE(area_vmflag(area_page(area, 1), "mg"));
	EXPECT_FALSE(area_vmflag(area_page(area, 2), "mg"));
}

KSM_TEST(madvise, a_hole_gives_enomem_after_doing_the_rest)
{
	size_t page = page_bytes();
	void *area = area_map(3);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, munmap(area_page(area, 1), page));
	EXPECT_EQ(-ENOMEM, advise(area, 3 * page, MADV_MERGEABLE));
	EXPECT_TRUE(area_vmflag(area, "mg"));
	EXPECT_TRUE(area_vmflag(area_page(area, 2), "mg"));
	EXPECT_EQ(-ENOMEM, advise(area, 3 * page, MADV_UNMERGEABLE));
	EXPECT_FALSE(area_vmflag(area, "mg"));
	EXPECT_FALSE(area_vmflag(area_page(area, 2), "mg"));
}

KSM_TEST(madvise, odd_ranges)
{
	size_t page = page_bytes();
	char *area = area_map(4);

	ASSERT_NE(NULL, area);
	EXPECT_EQ(-EINVAL, advise(area + 1, page, MADV_MERGEABLE));
	EXPECT_EQ(-EINVAL, advise(area, (size_t)-1, MADV_MERGEABLE));
	EXPECT_EQ(-EINVAL, advise(area, -2 * page, MADV_MERGEABLE));
	EXPECT_EQ(-EINVAL, advise(area, (size_t)-1, MADV_UNMERGEABLE));
	EXPECT_EQ(-EINVAL, advise((void *)-page, 2 * page, MADV_MERGEABLE));
	EXPECT_FALSE(area_vmflag(area, "mg"));
	EXPECT_EQ(0, advise(area, 0, MADV_MERGEABLE));
	EXPECT_FALSE(area_vmflag(area, "mg"));
	/* A length is rounded up to whole pages. */
	EXPECT_EQ(0, advise(area, page + 1, MADV_MERGEABLE));
	EXPECT_TRUE(area_vmflag(area + page, "mg"));
	EXPECT_FALSE(area_vmflag(area + 2 * page, "mg"));
}

/* Success for a mapping that can't merge, and nothing happens. */
static void expect_ignored(struct __test_metadata *_metadata, void *addr,
			   size_t bytes, const char *what)
{
	EXPECT_EQ(0, advise(addr, bytes, MADV_MERGEABLE)) TH_LOG("%s", what);
	EXPECT_FALSE(area_vmflag(addr, "mg")) TH_LOG("%s", what);
	EXPECT_EQ(0, advise(addr, bytes, MADV_UNMERGEABLE)) TH_LOG("%s", what);
}

static void *find_mapping(const char *name)
{
	FILE *file = fopen("/proc/self/maps", "re");
	unsigned long from;
	void *found = NULL;
	char line[512];

	while (file && !found && fgets(line, sizeof(line), file)) {
		if (strstr(line, name) && sscanf(line, "%lx-", &from) == 1)
			found = (void *)from;
	}
	if (file)
		fclose(file);
	return found;
}

KSM_TEST(madvise, shared_memory_is_ignored)
{
	size_t bytes = 4 * page_bytes();
	int fd = memfd_create("ksm", MFD_CLOEXEC);
	void *area;

	area = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, area);
	expect_ignored(_metadata, area, bytes, "shared anonymous");

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, bytes));
	area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, area);
	expect_ignored(_metadata, area, bytes, "shared file");

	/* Read-only now, but opened for writing: it may be shared. */
	area = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, area);
	expect_ignored(_metadata, area, bytes, "shared file, read-only");
}

KSM_TEST(madvise, kernel_mappings_are_ignored)
{
	void *vvar = find_mapping("[vvar]"), *vdso = find_mapping("[vdso]");

	if (!vvar && !vdso)
		SKIP(return, "no vdso");
	if (vvar)
		expect_ignored(_metadata, vvar, page_bytes(), "vvar (PFNMAP, IO)");
	if (vdso)
		expect_ignored(_metadata, vdso, page_bytes(), "vdso (DONTEXPAND)");
}

KSM_TEST(madvise, hugetlb_is_ignored)
{
	size_t bytes = thp_bytes() ?: 2 << 20;
	void *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE,
			  -1, 0);

	if (area == MAP_FAILED)
		SKIP(return, "no hugetlb");
	expect_ignored(_metadata, area, bytes, "hugetlb");
}

KSM_TEST(madvise, droppable_memory_is_ignored)
{
	size_t bytes = 4 * page_bytes();
	void *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			  MAP_DROPPABLE | MAP_ANONYMOUS, -1, 0);

	if (area == MAP_FAILED)
		SKIP(return, "no MAP_DROPPABLE");
	expect_ignored(_metadata, area, bytes, "droppable");
}

KSM_TEST(madvise, copied_pages_of_a_private_file_mapping_merge)
{
	size_t page = page_bytes();
	int fd = memfd_create("ksm", MFD_CLOEXEC);
	char *area;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, 4 * page));
	area = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	ASSERT_NE(MAP_FAILED, area);
	ASSERT_EQ(0, advise(area, 4 * page, MADV_MERGEABLE));
	EXPECT_TRUE(area_vmflag(area, "mg"));
	content_fill(area, self->seed, 1);
	content_fill(area + page, self->seed, 1);
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_TRUE(pages_shared(area, area + page));
	EXPECT_EQ(0, content_wrong(area, self->seed, 1));
	EXPECT_EQ(0, content_wrong(area + page, self->seed, 1));
	EXPECT_EQ(0, area[2 * page] | area[3 * page]);
}

KSM_TEST(madvise, unmergeable_keeps_every_other_flag)
{
	static const char * const flags[] = { "wf", "dd", "lo", "rd", "nh" };
	size_t bytes = 8 * page_bytes(), nr = thp_bytes() ? 5 : 4, i;
	void *area = area_new(8, 4, self->seed);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, madvise(area, bytes, MADV_WIPEONFORK));
	ASSERT_EQ(0, madvise(area, bytes, MADV_DONTDUMP));
	ASSERT_EQ(0, mlock(area, bytes));
	ASSERT_EQ(0, ksm_passes(4));
	for (i = 0; i < nr; i++)
		EXPECT_TRUE(area_vmflag(area, flags[i])) TH_LOG("%s", flags[i]);
	EXPECT_EQ(0, advise(area, bytes, MADV_UNMERGEABLE));
	for (i = 0; i < nr; i++)
		EXPECT_TRUE(area_vmflag(area, flags[i])) TH_LOG("%s", flags[i]);
	EXPECT_FALSE(area_vmflag(area, "mg"));
	EXPECT_EQ(0, area_wrong(area, 8, 4, self->seed));
}

KSM_TEST(madvise, only_registered_memory_is_merged)
{
	void *open = area_new(4, 1, self->seed), *closed = area_map(4);

	ASSERT_NE(NULL, open);
	ASSERT_NE(NULL, closed);
	area_fill(closed, 4, 1, self->seed);
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(1, area_frames(open, 4));
	EXPECT_EQ(4, area_frames(closed, 4));
	EXPECT_FALSE(pages_shared(open, closed));
}

static void *forked_area;
static uint64_t forked_seed;

static long forked_has_flag(long arg)
{
	return area_vmflag(forked_area, "mg");
}

/* Its own copy of every page, with the same contents in another order. */
static long forked_rewrite(long pages)
{
	for (long i = 0; i < pages; i++)
		content_fill(area_page(forked_area, i), forked_seed, pages - 1 - i);
	return 0;
}

static long forked_merging(long arg)
{
	return own_merging_pages();
}

KSM_TEST(madvise, a_forked_process_is_registered_too)
{
	struct ksm_child child;

	forked_seed = self->seed;
	forked_area = area_new(8, 8, self->seed);
	ASSERT_NE(NULL, forked_area);
	ASSERT_EQ(0, ksm_child_start(&child));
	EXPECT_EQ(1, ksm_child_call(&child, forked_has_flag, 0));
	ASSERT_EQ(0, ksm_child_call(&child, forked_rewrite, 8));
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(8, ksm_get("pages_shared"));
	EXPECT_EQ(8, ksm_get("pages_sharing"));
	EXPECT_EQ(8, own_merging_pages());
	EXPECT_EQ(8, ksm_child_call(&child, forked_merging, 0));
	EXPECT_EQ(0, area_wrong(forked_area, 8, 8, self->seed));
	EXPECT_EQ(0, ksm_child_end(&child));
}

KSM_TEST_MAIN
