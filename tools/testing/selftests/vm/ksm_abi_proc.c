// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: what /proc says of merged memory: ksm_stat,
 * ksm_merging_pages, smaps, kpageflags and vmstat.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "ksm_test.h"

#define COPIES 24
#define DISTINCT 4

KSM_FIXTURE(proc)

KSM_TEST(proc, files_are_for_the_owner_only)
{
	static const char * const paths[] = {
		"/proc/self/ksm_stat", "/proc/self/ksm_merging_pages",
		"/proc/thread-self/ksm_stat", "/proc/thread-self/ksm_merging_pages",
	};
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		ASSERT_EQ(0, stat(paths[i], &st)) TH_LOG("%s", paths[i]);
		EXPECT_EQ(0400, st.st_mode & 07777) TH_LOG("%s", paths[i]);
	}
}

KSM_TEST(proc, ksm_stat_has_the_known_lines_in_order)
{
	static const char * const lines[] = {
		"ksm_rmap_items ", "ksm_zero_pages ", "ksm_merging_pages ",
		"ksm_process_profit ",
	};
	char text[1024], *at = text;

	ASSERT_EQ(0, ksm_file_read("/proc/self/ksm_stat", text, sizeof(text)));
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		at = strstr(at, lines[i]);
		ASSERT_NE(NULL, at) TH_LOG("no %s", lines[i]);
		EXPECT_TRUE(at == text || at[-1] == '\n');
	}
}

static bool ksm_stat_says(const char *line)
{
	char text[1024];

	return !ksm_file_read("/proc/self/ksm_stat", text, sizeof(text)) && strstr(text, line);
}

KSM_TEST(proc, ksm_stat_says_whether_and_how_memory_is_offered)
{
	EXPECT_TRUE(ksm_stat_says("\nksm_merge_any: no\n"));
	EXPECT_TRUE(ksm_stat_says("\nksm_mergeable: no\n"));
	ASSERT_NE(NULL, area_new(8, 8, self->seed));
	EXPECT_TRUE(ksm_stat_says("\nksm_merge_any: no\n"));
	EXPECT_TRUE(ksm_stat_says("\nksm_mergeable: yes\n"));
	ASSERT_EQ(0, prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0));
	EXPECT_TRUE(ksm_stat_says("\nksm_merge_any: yes\n"));
	EXPECT_TRUE(ksm_stat_says("\nksm_mergeable: yes\n"));
	ASSERT_EQ(0, prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0));
	EXPECT_TRUE(ksm_stat_says("\nksm_merge_any: no\n"));
	EXPECT_TRUE(ksm_stat_says("\nksm_mergeable: no\n"));
}

KSM_TEST(proc, counters_follow_the_process)
{
	void *area = area_new(COPIES, DISTINCT, self->seed);
	void *alone = area_new(8, 8, self->seed + 1);

	ASSERT_NE(NULL, area);
	ASSERT_NE(NULL, alone);
	EXPECT_EQ(0, own_merging_pages());
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(COPIES, own_merging_pages());
	EXPECT_EQ(COPIES, own_stat("ksm_merging_pages"));
	EXPECT_LE(COPIES + 8, own_stat("ksm_rmap_items"));
	EXPECT_EQ(0, own_stat("ksm_zero_pages"));
	EXPECT_GE((int64_t)(COPIES * page_bytes()), own_stat("ksm_process_profit"));
	ASSERT_EQ(0, ksm_unmerge());
	EXPECT_EQ(0, own_merging_pages());
	EXPECT_EQ(0, own_stat("ksm_merging_pages"));
	EXPECT_EQ(0, own_stat("ksm_rmap_items"));
	EXPECT_EQ(0, own_stat("ksm_process_profit"));
}

/* A process that pays for tracking and gains nothing has a negative profit. */
KSM_TEST(proc, process_profit_counts_the_cost)
{
	ASSERT_NE(NULL, area_new(64, 64, self->seed));
	ASSERT_EQ(0, ksm_passes(3));
	EXPECT_GT(0, own_stat("ksm_process_profit"));
	EXPECT_LT(-64 * (int64_t)page_bytes(), own_stat("ksm_process_profit"));
}

KSM_TEST(proc, smaps_shows_merged_memory)
{
	void *area = area_new(COPIES, DISTINCT, self->seed);
	void *other = area_new(8, 8, self->seed + 1);
	int64_t page_kb = page_bytes() / 1024;

	ASSERT_NE(NULL, area);
	ASSERT_NE(NULL, other);
	/* Two areas next to each other may be one VMA: keep them apart. */
	ASSERT_EQ(0, mprotect(other, 8 * page_bytes(), PROT_READ));
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(COPIES * page_kb, area_smaps(area, "KSM"));
	EXPECT_EQ(0, area_smaps(other, "KSM"));
	EXPECT_EQ(COPIES * page_kb,
		  ksm_file_field("/proc/self/smaps_rollup", "KSM"));
	EXPECT_EQ(COPIES * page_kb, area_smaps(area, "Rss"));
	*(volatile char *)area += 1;
	EXPECT_EQ((COPIES - 1) * page_kb, area_smaps(area, "KSM"));
}

KSM_TEST(proc, kpageflags_marks_ksm_pages_and_no_others)
{
	void *merged = area_new(2, 1, self->seed);
	void *alone = area_new(1, 1, self->seed + 1), *plain = area_map(1);
	uint64_t flags;

	ASSERT_NE(NULL, merged);
	ASSERT_NE(NULL, alone);
	ASSERT_NE(NULL, plain);
	area_fill(plain, 1, 1, self->seed + 2);
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_TRUE(pages_shared(merged, area_page(merged, 1)));
	flags = page_flags(page_pfn(merged));
	EXPECT_TRUE(flags & (1ULL << KPF_KSM_BIT));
	EXPECT_TRUE(flags & (1ULL << KPF_ANON_BIT));
	EXPECT_FALSE(page_flags(page_pfn(alone)) & (1ULL << KPF_KSM_BIT));
	EXPECT_FALSE(page_flags(page_pfn(plain)) & (1ULL << KPF_KSM_BIT));
	EXPECT_TRUE(page_flags(page_pfn(plain)) & (1ULL << KPF_ANON_BIT));
}

KSM_TEST(proc, cow_ksm_counts_broken_pages)
{
	void *area = area_new(COPIES, DISTINCT, self->seed);
	int64_t before;

	if (vmstat_field("cow_ksm") == KSM_NOTHING)
		SKIP(return, "no cow_ksm in /proc/vmstat");
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(4));
	before = vmstat_field("cow_ksm");
	for (size_t i = 0; i < COPIES; i++)
		*(volatile char *)area_page(area, i) += 1;
	EXPECT_EQ(before + COPIES, vmstat_field("cow_ksm"));
}

KSM_TEST_MAIN
