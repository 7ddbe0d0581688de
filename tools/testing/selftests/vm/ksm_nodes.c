// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: pages that are freed while something still
 * remembers them. What is counted is what is mapped, soon afterwards.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <sys/mman.h>

#include "ksm_test.h"

#define PAGES 32

KSM_FIXTURE(nodes)

/* Freed pages wait in a list of their CPU, and the last one is taken first. */
static int stay_on_this_cpu(void)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(sched_getcpu(), &cpus);
	return sched_setaffinity(0, sizeof(cpus), &cpus) ? -errno : 0;
}

/*
 * Free pages that have their KSM pages for themselves, and fill them again, in
 * such an order that they get the very frames that they had; two by two with
 * the same content. Returns how many frames came back.
 */
static size_t free_and_fill(void *area, uint64_t seed)
{
	uint64_t pfn[PAGES];
	size_t same = 0, i;

	for (i = 0; i < PAGES; i++)
		pfn[i] = page_pfn(area_page(area, i));
	if (madvise(area, PAGES * page_bytes(), MADV_DONTNEED))
		return 0;
	for (i = PAGES; i-- > 0; )
		*(volatile char *)area_page(area, i) = 1;
	for (i = 0; i < PAGES; i++)
		same += page_pfn(area_page(area, i)) == pfn[i];
	area_fill(area, PAGES, PAGES / 2, seed + 1);
	return same;
}

static void frames_come_back(struct __test_metadata *_metadata, uint64_t seed,
			     int prot)
{
	void *area = area_new(2 * PAGES, PAGES, seed);
	unsigned int tries = 10;
	size_t same;

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, stay_on_this_cpu());
	do {
		area_fill(area, 2 * PAGES, PAGES, seed);
		ASSERT_EQ(0, ksm_passes(4));
		ASSERT_EQ(PAGES, area_frames(area, 2 * PAGES));
		ASSERT_EQ(0, madvise(area_page(area, PAGES), PAGES * page_bytes(),
				     MADV_DONTNEED));
		ASSERT_EQ(0, ksm_passes(2));
		ASSERT_EQ(PAGES, own_merging_pages());
		same = free_and_fill(area, seed);
	} while (!same && --tries);
	if (!same)
		SKIP(return, "no page got its frame back");
	ASSERT_EQ(0, mprotect(area, 2 * PAGES * page_bytes(), prot));
	ASSERT_EQ(0, ksm_passes(9));
	EXPECT_EQ(area_ksm_pages(area, PAGES), own_merging_pages());
	/* Two more to see them twice, one to merge. */
	ASSERT_EQ(0, ksm_passes(3));
	EXPECT_EQ(PAGES / 2, area_frames(area, PAGES));
	EXPECT_EQ(PAGES, own_merging_pages());
	EXPECT_EQ(PAGES / 2, ksm_get("pages_shared"));
	EXPECT_EQ(PAGES / 2, ksm_get("pages_sharing"));
	EXPECT_EQ(0, area_wrong(area, PAGES, PAGES / 2, seed + 1));
}

KSM_TEST(nodes, a_new_page_in_the_frame_of_the_merged_one)
{
	frames_come_back(_metadata, self->seed, PROT_READ | PROT_WRITE);
}

KSM_TEST(nodes, a_new_read_only_page_in_the_frame_of_the_merged_one)
{
	frames_come_back(_metadata, self->seed, PROT_READ);
}

/* The number of KSM pages in an area. */
static int64_t ksm_frames(void *area, size_t pages)
{
	int64_t n = 0;

	for (size_t i = 0; i < pages; i++) {
		void *page = area_page(area, i);

		/* Count it where it is mapped first. */
		n += area_ksm_pages(page, 1) && !area_sharing_with(area, i, page);
	}
	return n;
}

static int drop_sharers(void *area, size_t pages, void *page)
{
	uint64_t pfn = page_pfn(page);

	for (size_t i = 0; i < pages; i++) {
		if (page_pfn(area_page(area, i)) == pfn &&
		    madvise(area_page(area, i), page_bytes(), MADV_DONTNEED))
			return -errno;
	}
	return 0;
}

#define ROUNDS 12
#define SHARERS 9

/*
 * With three sharers for each, a content has several KSM pages. One that has
 * lost a sharer, and so has room, is freed; the lookup of a page that is new,
 * and comes before, is the first to notice.
 */
KSM_TEST(nodes, chains_and_duplicates_are_what_is_mapped)
{
	const size_t nr = ROUNDS + SHARERS, total = nr + SHARERS;
	void *area = area_map(total), *old, *other, *victim;
	int64_t one, two;

	ASSERT_NE(NULL, area);
	old = area_page(area, ROUNDS);
	other = area_page(area, nr);
	ASSERT_EQ(0, ksm_set("max_page_sharing", 3));
	ASSERT_EQ(0, area_mergeable(area, total));
	area_fill(old, SHARERS, 1, self->seed);
	area_fill(other, SHARERS, 1, self->seed + 1);
	ASSERT_EQ(0, ksm_passes(6));
	ASSERT_EQ(SHARERS / 3, ksm_frames(area, nr));
	EXPECT_EQ(2, ksm_get("stable_node_chains"));
	EXPECT_EQ(2 * SHARERS / 3, ksm_get("stable_node_dups"));
	ASSERT_EQ(0, ksm_step(1));
	for (size_t i = 0; i < ROUNDS; i++) {
		victim = area_page(old, i % (SHARERS - 1));
		ASSERT_EQ(0, madvise(area_page(victim, 1), page_bytes(), MADV_DONTNEED));
		/* New now, looked up at the next pass. */
		content_fill(area_page(area, i), self->seed, 0);
		ASSERT_EQ(0, ksm_step(1));
		ASSERT_EQ(0, drop_sharers(area, nr, victim));
		ASSERT_EQ(0, ksm_step(4));
		one = ksm_frames(area, nr);
		two = ksm_frames(other, SHARERS);
		EXPECT_EQ((one > 1) + (two > 1), ksm_get("stable_node_chains"));
		EXPECT_EQ((one > 1 ? one : 0) + (two > 1 ? two : 0),
			  ksm_get("stable_node_dups"));
		ASSERT_EQ(0, madvise(area_page(area, i), page_bytes(), MADV_DONTNEED));
		area_fill(old, SHARERS, 1, self->seed);
		ASSERT_EQ(0, ksm_step(8));
		ASSERT_EQ(SHARERS / 3, ksm_frames(area, nr));
	}
	ASSERT_EQ(0, munmap(area, total * page_bytes()));
	ASSERT_EQ(0, ksm_passes(2));
	EXPECT_EQ(0, ksm_get("stable_node_chains"));
	EXPECT_EQ(0, ksm_get("stable_node_dups"));
}

KSM_TEST_MAIN
