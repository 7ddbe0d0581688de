// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: merged pages are in the way of somebody who
 * needs contiguous memory. They move out of it, and stay merged. The second
 * half needs a contiguous memory area (boot with cma=64M) and its debugfs.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "ksm_test.h"

#ifndef MPOL_PREFERRED
#define MPOL_DEFAULT	0
#define MPOL_PREFERRED	1
#endif

#define CMA		"/sys/kernel/debug/cma"
/* More than the lists of free pages hold that each processor has for itself. */
#define CONTENTS	1024
#define PAGES		(2 * CONTENTS)
#define FILLERS		16
#define FILLER_THPS	32
#define SMALL_AREAS	32
#define TRIES		10
#define PLACES		5

KSM_FIXTURE(contig)

/* Neighbours are equal: once they are merged, there is a hole behind each. */
static void pairs_fill(void *area, uint64_t seed)
{
	for (size_t i = 0; i < PAGES; i++)
		content_fill(area_page(area, i), seed, i / 2);
}

static size_t pairs_wrong(void *area, uint64_t seed)
{
	size_t wrong = 0;

	for (size_t i = 0; i < PAGES; i++)
		wrong += content_wrong(area_page(area, i), seed, i / 2);
	return wrong;
}

static void *pairs_new(uint64_t seed)
{
	void *area = area_map(PAGES);

	if (!area)
		return NULL;
	pairs_fill(area, seed);
	return area_mergeable(area, PAGES) ? NULL : area;
}

static void expect_merged(struct __test_metadata *_metadata, void *area, uint64_t seed)
{
	EXPECT_EQ(CONTENTS, ksm_get("pages_shared"));
	EXPECT_EQ(CONTENTS, area_frames(area, PAGES));
	EXPECT_EQ(PAGES, area_ksm_pages(area, PAGES));
	EXPECT_EQ(0, pairs_wrong(area, seed));
	EXPECT_LE(0, ksm_validate());
}

static void note_frames(void *area, uint64_t *pfn)
{
	for (size_t i = 0; i < PAGES; i++)
		pfn[i] = page_pfn(area_page(area, i));
}

static size_t moved_since(void *area, const uint64_t *pfn)
{
	size_t n = 0;

	for (size_t i = 0; i < PAGES; i++)
		n += page_pfn(area_page(area, i)) != pfn[i];
	return n;
}

static int compact(void)
{
	return ksm_file_write("/proc/sys/vm/compact_memory", "1");
}

/* Which pages are in its way is up to the kernel: other places are tried if none was. */
KSM_TEST(contig, compaction_moves_merged_pages)
{
	static uint64_t pfn[PAGES];
	size_t moved = 0;
	void *area;

	if (access("/proc/sys/vm/compact_memory", W_OK))
		SKIP(return, "no compaction");
	for (int i = 0; i < PLACES && !moved; i++) {
		area = pairs_new(self->seed);
		ASSERT_NE(NULL, area);
		ASSERT_EQ(0, ksm_passes(4));
		ASSERT_EQ(CONTENTS, area_frames(area, PAGES));
		note_frames(area, pfn);
		ASSERT_EQ(0, compact());
		moved = moved_since(area, pfn);
		ksft_print_msg("%zu of %u pages moved\n", moved, PAGES);
		expect_merged(_metadata, area, self->seed);
		ASSERT_EQ(0, munmap(area, PAGES * page_bytes()));
		area = area_map(PAGES / 4);
		ASSERT_NE(NULL, area);
		ASSERT_EQ(0, madvise(area, PAGES / 4 * page_bytes(), MADV_POPULATE_WRITE));
	}
	if (!moved)
		SKIP(return, "compaction moved none of them");
}

KSM_TEST(contig, compaction_while_pages_merge_and_break)
{
	void *area = pairs_new(self->seed);
	double end = ksm_now() + 5;
	size_t wrong = 0;

	ASSERT_NE(NULL, area);
	if (access("/proc/sys/vm/compact_memory", W_OK))
		SKIP(return, "no compaction");
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	for (unsigned int round = 0; ksm_now() < end; round++) {
		void *page = area_page(area, round * 7 % PAGES);

		*(volatile char *)page ^= 1;
		EXPECT_EQ(0, compact());
		*(volatile char *)page ^= 1;
		wrong += pairs_wrong(area, self->seed);
	}
	EXPECT_EQ(0, wrong);
	EXPECT_EQ(0, ksm_wait_passes(4));
	ASSERT_EQ(0, ksm_stop());
	expect_merged(_metadata, area, self->seed);
}

/* The contiguous memory area that is there from boot on */
static struct {
	char dir[300];
	int64_t first, pages;
} cma;

static int64_t cma_number(const char *file)
{
	char path[350], text[KSM_TEXT_MAX];

	snprintf(path, sizeof(path), "%s/%s", cma.dir, file);
	return ksm_file_read(path, text, sizeof(text)) ? -1 : strtoll(text, NULL, 0);
}

static int cma_set(const char *file, uint64_t pages)
{
	char path[350], text[KSM_TEXT_MAX];

	snprintf(path, sizeof(path), "%s/%s", cma.dir, file);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)pages);
	return ksm_file_write(path, text);
}

static bool cma_find(void)
{
	DIR *dir = opendir(CMA);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(cma.dir, sizeof(cma.dir), CMA "/%s", entry->d_name);
		cma.first = cma_number("base_pfn");
		cma.pages = cma_number("count");
	}
	if (dir)
		closedir(dir);
	return cma.first > 0 && cma.pages > 0;
}

static size_t pages_in_cma(void *area, size_t pages)
{
	size_t n = 0;

	for (size_t i = 0; i < pages; i++)
		n += page_pfn(area_page(area, i)) - cma.first < (uint64_t)cma.pages;
	return n;
}

/* Unmap those of an area's huge pages that lie in the contiguous one; true if there are no more. */
static bool give_back_cma(void *area)
{
	bool found = !area;

	for (size_t i = 0; area && i < FILLER_THPS; i++) {
		if (pages_in_cma(area + i * thp_bytes(), 1)) {
			munmap(area + i * thp_bytes(), thp_bytes());
			found = true;
		}
	}
	return found;
}

/*
 * An area in the contiguous one, which is at the end of memory, and made use of when all the rest
 * of its zone is full: of huge pages, as that is done quickly. NULL if there is none.
 */
static void *area_in_cma(void)
{
	unsigned long node = 2;
	void *area;

	syscall(SYS_set_mempolicy, MPOL_PREFERRED, &node, 8);
	for (int i = 0; i < FILLERS && !give_back_cma(thp_map(FILLER_THPS)); i++)
		;
	for (int i = 0; i < SMALL_AREAS; i++) {
		area = area_map(PAGES);
		if (!area || madvise(area, PAGES * page_bytes(), MADV_POPULATE_WRITE))
			break;
		if (pages_in_cma(area, PAGES) > PAGES / 2)
			return area;
	}
	return NULL;
}

KSM_TEST(contig, merged_pages_leave_a_contiguous_area)
{
	int ret = -EBUSY;
	size_t inside;
	void *area;

	if (!cma_find())
		SKIP(return, "no contiguous memory area, or no debugfs of it");
	area = area_in_cma();
	if (!area)
		SKIP(return, "no page of the contiguous memory area to be had");
	pairs_fill(area, self->seed);
	ASSERT_EQ(0, area_mergeable(area, PAGES));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(CONTENTS, area_frames(area, PAGES));
	inside = pages_in_cma(area, PAGES);
	ksft_print_msg("%zu of %u merged pages are in the way\n", inside, PAGES);
	ASSERT_LT(0, inside);

	/* They have to go somewhere. */
	syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0);
	for (int i = 0; i < TRIES && ret; i++)
		ret = cma_set("alloc", cma.pages);
	ASSERT_EQ(0, ret);
	EXPECT_EQ(0, pages_in_cma(area, PAGES));
	expect_merged(_metadata, area, self->seed);
	EXPECT_EQ(0, cma_set("free", cma.pages));
}

KSM_TEST_MAIN
