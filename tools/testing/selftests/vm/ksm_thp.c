// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: huge pages are split for a match, and only
 * then; subpages of one huge page merge with each other.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "ksm_test.h"

#define THP_SYSFS	"/sys/kernel/mm/transparent_hugepage/"
#define KHUGEPAGED	THP_SYSFS "khugepaged/"

KSM_FIXTURE(thp)

/* Registered huge pages; page i has the content i % distinct. */
static void *huge_area(struct __test_metadata *_metadata, size_t huge_pages,
		       size_t distinct, uint64_t seed)
{
	void *area = thp_map(huge_pages);
	size_t pages = huge_pages * thp_bytes() / page_bytes();

	if (!area)
		return NULL;
	area_fill(area, pages, distinct, seed);
	ASSERT_EQ(0, area_mergeable(area, pages));
	ASSERT_EQ(huge_pages * thp_bytes() / 1024,
		  (size_t)area_smaps(area, "AnonHugePages"));
	return area;
}

KSM_TEST(thp, equal_subpages_of_one_huge_page)
{
	size_t pages = thp_bytes() / page_bytes(), distinct = pages / 128;
	void *area = huge_area(_metadata, 1, distinct, self->seed);

	if (!area)
		SKIP(return, "no huge pages");
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_EQ(distinct, area_frames(area, pages));
	EXPECT_EQ(distinct, ksm_get("pages_shared"));
	EXPECT_EQ(pages - distinct, ksm_get("pages_sharing"));
	EXPECT_EQ(0, area_smaps(area, "AnonHugePages"));
	EXPECT_EQ(0, area_wrong(area, pages, distinct, self->seed));
}

KSM_TEST(thp, two_huge_pages_with_some_equal_subpages)
{
	size_t pages = 2 * thp_bytes() / page_bytes(), half = pages / 2;
	void *area = huge_area(_metadata, 2, pages, self->seed);

	if (!area)
		SKIP(return, "no huge pages");
	for (size_t i = 0; i < 10; i++)
		content_fill(area_page(area, half + 7 * i), self->seed, 3 * i);
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_EQ(pages - 10, area_frames(area, pages));
	EXPECT_EQ(10, ksm_get("pages_shared"));
	EXPECT_EQ(10, ksm_get("pages_sharing"));
	EXPECT_EQ(20, own_merging_pages());
	for (size_t i = 0; i < 10; i++)
		EXPECT_TRUE(pages_shared(area_page(area, 3 * i),
					 area_page(area, half + 7 * i)));
	EXPECT_EQ(0, area_wrong(area, half, pages, self->seed));
}

KSM_TEST(thp, nothing_equal_nothing_split)
{
	size_t pages = 2 * thp_bytes() / page_bytes();
	int64_t huge_kb = 2 * thp_bytes() / 1024;
	void *area = huge_area(_metadata, 2, pages, self->seed);

	if (!area)
		SKIP(return, "no huge pages");
	ASSERT_EQ(0, ksm_passes(6));
	EXPECT_EQ(huge_kb, area_smaps(area, "AnonHugePages"));
	EXPECT_EQ(0, ksm_get("pages_sharing"));
	EXPECT_EQ(pages, ksm_get("pages_unshared"));
	EXPECT_EQ(0, area_wrong(area, pages, pages, self->seed));
}

/* Almost equal is not equal: a sample or a digest is no reason to split. */
KSM_TEST(thp, pages_one_word_apart_split_nothing)
{
	size_t pages = thp_bytes() / page_bytes();
	uint64_t *area = huge_area(_metadata, 1, 1, self->seed);

	if (!area)
		SKIP(return, "no huge pages");
	for (size_t i = 0; i < pages; i++)
		area[i * page_bytes() / 8 + (i * 37) % 512] = i;
	ASSERT_EQ(0, ksm_passes(6));
	EXPECT_EQ((int64_t)(thp_bytes() / 1024), area_smaps(area, "AnonHugePages"));
	EXPECT_EQ(0, ksm_get("pages_sharing"));
	for (size_t i = 0; i < pages; i++)
		EXPECT_EQ(i, area[i * page_bytes() / 8 + (i * 37) % 512]);
}

KSM_TEST(thp, a_huge_page_and_a_small_page)
{
	size_t pages = thp_bytes() / page_bytes();
	void *small = area_new(4, 4, self->seed + 1), *area;

	ASSERT_NE(NULL, small);
	area = huge_area(_metadata, 1, pages, self->seed);
	if (!area)
		SKIP(return, "no huge pages");
	content_fill(area_page(area, 100), self->seed + 1, 2);
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_TRUE(pages_shared(area_page(area, 100), area_page(small, 2)));
	EXPECT_EQ(1, ksm_get("pages_shared"));
	EXPECT_EQ(0, area_wrong(small, 4, 4, self->seed + 1));
	EXPECT_EQ(0, area_wrong(area, 100, pages, self->seed));
}

KSM_TEST(thp, collapse_of_merged_pages_keeps_every_byte)
{
	size_t pages = thp_bytes() / page_bytes(), distinct = pages / 4;
	void *area = huge_area(_metadata, 1, distinct, self->seed);

	if (!area)
		SKIP(return, "no huge pages");
	ASSERT_EQ(0, ksm_passes(8));
	ASSERT_EQ(distinct, area_frames(area, pages));
	if (madvise(area, thp_bytes(), MADV_COLLAPSE)) {
		/* Refused: then everything is as it was. */
		EXPECT_EQ(distinct, area_frames(area, pages));
	} else {
		EXPECT_EQ(pages, area_frames(area, pages));
		EXPECT_EQ(0, area_smaps(area, "KSM"));
		EXPECT_LT(0, area_smaps(area, "AnonHugePages"));
	}
	EXPECT_EQ(0, area_wrong(area, pages, distinct, self->seed));
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_EQ(0, area_wrong(area, pages, distinct, self->seed));
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, area_wrong(area, pages, distinct, self->seed));
}

/* One page in a pipe holds the whole of it together. */
KSM_TEST(thp, a_pinned_huge_page_stays_in_one_piece)
{
	size_t pages = thp_bytes() / page_bytes();
	void *area = huge_area(_metadata, 1, 4, self->seed);
	char buffer[page_bytes()];
	struct iovec vec;
	int fds[2];

	if (!area)
		SKIP(return, "no huge pages");
	vec.iov_base = area_page(area, 33);
	vec.iov_len = page_bytes();
	ASSERT_EQ(0, pipe(fds));
	ASSERT_EQ(page_bytes(), vmsplice(fds[1], &vec, 1, 0));
	ASSERT_EQ(0, ksm_passes(6));
	EXPECT_EQ((int64_t)(thp_bytes() / 1024), area_smaps(area, "AnonHugePages"));
	EXPECT_EQ(0, ksm_get("pages_sharing"));
	EXPECT_EQ(0, area_wrong(area, pages, 4, self->seed));
	/* The pipe and the owner see one page. */
	content_fill(area_page(area, 33), self->seed, 99);
	ASSERT_EQ(page_bytes(), read(fds[0], buffer, page_bytes()));
	EXPECT_EQ(0, content_wrong(buffer, self->seed, 99));
	ASSERT_EQ(0, ksm_passes(10));
	EXPECT_EQ(pages - 1, own_merging_pages());
	EXPECT_EQ(0, area_wrong(area, 33, 4, self->seed));
}

#define HUGE_PAGES 4

/*
 * A merged page, and pages that differ from it in one word only: nearly always
 * none of the sampled ones. They find each other all the same.
 */
KSM_TEST(thp, equal_subpages_that_resemble_a_merged_page)
{
	size_t each = thp_bytes() / page_bytes();
	void *merged = area_new(2, 1, self->seed), *area, *one, *two;
	uint64_t rnd = self->seed;

	ASSERT_NE(NULL, merged);
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_TRUE(pages_shared(merged, area_page(merged, 1)));
	area = thp_map(HUGE_PAGES);
	if (!area)
		SKIP(return, "no huge pages");
	area_fill(area, HUGE_PAGES * each, HUGE_PAGES * each, self->seed + 1);
	for (size_t i = 0; i < HUGE_PAGES; i++) {
		rnd = rnd * 6364136223846793005ULL + 1442695040888963407ULL;
		one = area_page(area, i * each + 3);
		two = area_page(area, i * each + 77);
		content_fill(one, self->seed, 0);
		((uint64_t *)one)[(rnd >> 33) % (page_bytes() / 8)] ^= i + 1;
		memcpy(two, one, page_bytes());
	}
	ASSERT_EQ(0, area_mergeable(area, HUGE_PAGES * each));
	ASSERT_EQ(0, ksm_passes(10));
	for (size_t i = 0; i < HUGE_PAGES; i++)
		EXPECT_TRUE(pages_shared(area_page(area, i * each + 3),
					 area_page(area, i * each + 77)));
	EXPECT_EQ(HUGE_PAGES + 1, ksm_get("pages_sharing"));
}

/*
 * Small pages with partners in a huge page that can't be split: none of them
 * is a KSM page for nothing.
 */
KSM_TEST(thp, no_partner_from_a_pinned_huge_page)
{
	size_t pages = thp_bytes() / page_bytes();
	void *small = area_new(16, 16, self->seed), *area;
	char buffer[page_bytes()];
	struct iovec vec;
	int fds[2];

	ASSERT_NE(NULL, small);
	ASSERT_EQ(0, ksm_passes(3));
	area = huge_area(_metadata, 1, pages, self->seed);
	if (!area)
		SKIP(return, "no huge pages");
	vec.iov_base = area_page(area, 33);
	vec.iov_len = page_bytes();
	ASSERT_EQ(0, pipe(fds));
	ASSERT_EQ(page_bytes(), vmsplice(fds[1], &vec, 1, 0));
	for (int round = 0; round < 12; round++) {
		ASSERT_EQ(0, ksm_step(1));
		EXPECT_EQ(0, ksm_get("pages_shared"));
		EXPECT_EQ(0, area_ksm_pages(small, 16));
		EXPECT_EQ(0, own_merging_pages());
	}
	EXPECT_EQ((int64_t)(thp_bytes() / 1024), area_smaps(area, "AnonHugePages"));
	ASSERT_EQ(page_bytes(), read(fds[0], buffer, page_bytes()));
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_EQ(16, ksm_get("pages_sharing"));
	EXPECT_EQ(0, area_wrong(small, 16, 16, self->seed));
	EXPECT_EQ(0, area_wrong(area, pages, pages, self->seed));
}

/* Merged pages go, and a read brings the huge zero page to their place. */
KSM_TEST(thp, the_huge_zero_page_where_merged_pages_were)
{
	const size_t pages = thp_bytes() / page_bytes();
	char *area = thp_map(1);
	char flag[KSM_TEXT_MAX];

	if (ksm_file_read(THP_SYSFS "use_zero_page", flag, sizeof(flag)) || flag[0] != '1')
		SKIP(return, "no huge zero page");
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, madvise(area, thp_bytes(), MADV_NOHUGEPAGE));
	area_fill(area, pages, 8, self->seed);
	ASSERT_EQ(0, area_mergeable(area, pages));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ((int64_t)pages, own_merging_pages());
	ASSERT_EQ(0, munmap(area, thp_bytes()));
	ASSERT_EQ(area, mmap(area, thp_bytes(), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	ASSERT_EQ(0, madvise(area, thp_bytes(), MADV_HUGEPAGE));
	ASSERT_EQ(0, area_mergeable(area, pages));
	*(volatile char *)area;
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(0, own_merging_pages());
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, own_stat("ksm_rmap_items"));
	for (size_t i = 0; i < thp_bytes(); i += 511)
		ASSERT_EQ(0, area[i]);
}

#define MTHP_PAGES 256
#define MTHP_ENABLED(kib) THP_SYSFS "hugepages-" kib "kB/enabled"

/* Folios that are smaller than what one page table maps. */
static const struct {
	size_t bytes;
	const char *enabled;
} mthp[] = {
	{ 16 << 10, MTHP_ENABLED("16") },
	{ 64 << 10, MTHP_ENABLED("64") },
	{ 256 << 10, MTHP_ENABLED("256") },
};

static size_t in_large_folios(const void *area, size_t pages)
{
	size_t n = 0;

	for (size_t i = 0; i < pages; i++)
		n += !!(page_flags(page_pfn(area_page((void *)area, i))) &
			(1ULL << KPF_COMPOUND_HEAD_BIT | 1ULL << KPF_COMPOUND_TAIL_BIT));
	return n;
}

/* An area of folios of one size, each page with a content of its own; NULL without such folios. */
static void *mthp_area(size_t size, uint64_t seed)
{
	uintptr_t bytes = mthp[size].bytes;
	void *area;

	if (ksm_file_write(mthp[size].enabled, "always"))
		return NULL;
	area = mmap(NULL, MTHP_PAGES * page_bytes() + bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		return NULL;
	area = (void *)(((uintptr_t)area + bytes - 1) / bytes * bytes);
	area_fill(area, MTHP_PAGES, MTHP_PAGES, seed);
	return in_large_folios(area, MTHP_PAGES) == MTHP_PAGES ? area : NULL;
}

KSM_TEST(thp, folios_of_any_size_are_split_for_a_match_only)
{
	size_t found = 0;

	for (size_t size = 0; size < ARRAY_SIZE(mthp); size++) {
		size_t folio = mthp[size].bytes / page_bytes();
		void *area = mthp_area(size, self->seed), *one, *two;
		int fds[2];

		if (!area)
			continue;
		found++;
		/* Two of one folio, and one of another that is held for a while. */
		one = area_page(area, folio + 1);
		two = area_page(area, 3 * folio + 2);
		content_fill(area_page(area, folio + 3), self->seed, folio + 1);
		content_fill(two, self->seed, folio + 1);
		ASSERT_EQ(0, area_hold(area_page(area, 3 * folio), 1, fds));
		ASSERT_EQ(0, area_mergeable(area, MTHP_PAGES));
		ASSERT_EQ(0, ksm_passes(8));
		EXPECT_TRUE(pages_shared(one, area_page(area, folio + 3)));
		EXPECT_FALSE(pages_shared(one, two));
		EXPECT_EQ(1, ksm_get("pages_sharing"));
		EXPECT_EQ(MTHP_PAGES - folio, in_large_folios(area, MTHP_PAGES));
		ASSERT_EQ(0, area_let_go(1, fds));
		ASSERT_EQ(0, ksm_passes(16));
		EXPECT_TRUE(pages_shared(one, two));
		EXPECT_EQ(2, ksm_get("pages_sharing"));
		EXPECT_EQ(MTHP_PAGES - 2 * folio, in_large_folios(area, MTHP_PAGES));
		for (size_t i = 0; i < MTHP_PAGES; i++) {
			void *page = area_page(area, i);
			size_t id = i == folio + 3 || page == two ? folio + 1 : i;

			EXPECT_EQ(0, content_wrong(page, self->seed, id));
		}
		ASSERT_EQ(0, munmap(area, MTHP_PAGES * page_bytes()));
		ASSERT_EQ(0, ksm_file_write(mthp[size].enabled, "never"));
	}
	if (!found)
		SKIP(return, "no folios of several sizes");
}

/* khugepaged has its own idea of these pages, and gets them now and then. */
KSM_TEST(thp, khugepaged_at_the_same_time)
{
	static const char *const setting[][2] = {
		{ KHUGEPAGED "scan_sleep_millisecs", "10" },
		{ KHUGEPAGED "alloc_sleep_millisecs", "10" },
		{ KHUGEPAGED "pages_to_scan", "4096" },
		/* Merged pages are no reason to leave them alone. */
		{ KHUGEPAGED "max_ptes_shared", "511" },
	};
	size_t pages = 2 * thp_bytes() / page_bytes(), i;
	int64_t collapsed;
	size_t wrong = 0;
	double end;
	void *area;

	area = huge_area(_metadata, 2, pages / 4, self->seed);
	if (!area)
		SKIP(return, "no huge pages");
	for (i = 0; i < ARRAY_SIZE(setting); i++)
		ASSERT_EQ(0, ksm_file_write(setting[i][0], setting[i][1]));
	collapsed = vmstat_field("thp_collapse_alloc");
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	end = ksm_now() + 15;
	for (i = 0; ksm_now() < end; i = (i + 1) % pages) {
		/* Now and then all of it is written, and may become huge again. */
		if (i % 64 == 0)
			area_fill(area, pages, pages / 4, self->seed);
		content_fill(area_page(area, i), self->seed + 1, i);
		wrong += content_wrong(area_page(area, i), self->seed + 1, i);
		content_fill(area_page(area, i), self->seed, i % (pages / 4));
		if (i % 64 == 63)
			wrong += area_wrong(area, pages, pages / 4, self->seed);
	}
	collapsed = vmstat_field("thp_collapse_alloc") - collapsed;
	ksft_print_msg("collapsed %ld times\n", (long)collapsed);
	EXPECT_LT(0, collapsed);
	EXPECT_EQ(0, wrong);
	ASSERT_EQ(0, madvise(area, 2 * thp_bytes(), MADV_NOHUGEPAGE));
	EXPECT_EQ(0, ksm_wait_passes(20));
	ASSERT_EQ(0, ksm_stop());
	EXPECT_EQ(pages / 4, area_frames(area, pages));
	EXPECT_EQ(0, area_wrong(area, pages, pages / 4, self->seed));
}

KSM_TEST_MAIN_KEEPING(KHUGEPAGED "scan_sleep_millisecs",
		      KHUGEPAGED "alloc_sleep_millisecs", KHUGEPAGED "pages_to_scan",
		      KHUGEPAGED "max_ptes_shared", MTHP_ENABLED("16"), MTHP_ENABLED("64"),
		      MTHP_ENABLED("256"))
