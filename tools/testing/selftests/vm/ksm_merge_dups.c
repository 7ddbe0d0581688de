// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: max_page_sharing. Above it a content has
 * several KSM pages, and none of them more mappings than allowed.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "ksm_test.h"

KSM_FIXTURE(dups)

/* The most pages of an area that have one frame in common. */
static size_t most_sharing(void *area, size_t pages)
{
	size_t most = 0, n, i;

	for (i = 0; i < pages; i++) {
		n = area_sharing_with(area, pages, area_page(area, i));
		most = n > most ? n : most;
	}
	return most;
}

KSM_TEST(dups, max_page_sharing_2)
{
	void *area = area_new(64, 4, self->seed);

	ASSERT_EQ(0, ksm_set("max_page_sharing", 2));
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_EQ(2, most_sharing(area, 64));
	EXPECT_EQ(32, area_frames(area, 64));
	EXPECT_EQ(32, ksm_get("pages_shared"));
	EXPECT_EQ(32, ksm_get("pages_sharing"));
	if (ksm_has("stable_node_chains")) {
		EXPECT_EQ(4, ksm_get("stable_node_chains"));
		EXPECT_EQ(32, ksm_get("stable_node_dups"));
	}
	EXPECT_EQ(0, area_wrong(area, 64, 4, self->seed));
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_EQ(64, area_frames(area, 64));
	EXPECT_EQ(0, area_wrong(area, 64, 4, self->seed));
	if (ksm_has("stable_node_chains")) {
		EXPECT_EQ(0, ksm_get("stable_node_chains"));
		EXPECT_EQ(0, ksm_get("stable_node_dups"));
	}
}

KSM_TEST(dups, three_thousand_copies)
{
	void *area = area_new(3000, 1, self->seed);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(8));
	/* 3,000 = 11 * 256 + 184 */
	EXPECT_EQ(12, area_frames(area, 3000));
	EXPECT_EQ(12, ksm_get("pages_shared"));
	EXPECT_EQ(3000 - 12, ksm_get("pages_sharing"));
	EXPECT_EQ(3000, own_merging_pages());
	EXPECT_GE(256, area_sharing_with(area, 3000, area));
	EXPECT_EQ(0, area_wrong(area, 3000, 1, self->seed));
}

/* Writes empty some of the duplicates: what is left has to stay right. */
KSM_TEST(dups, duplicates_empty_and_fill_again)
{
	void *area = area_new(120, 2, self->seed);

	ASSERT_EQ(0, ksm_set("max_page_sharing", 8));
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_EQ(16, area_frames(area, 120));
	area_fill(area, 60, 2, self->seed + 1);
	EXPECT_EQ(0, area_wrong(area, 60, 2, self->seed + 1));
	ASSERT_EQ(0, ksm_passes(8));
	area_fill(area, 60, 2, self->seed);
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_GE(8, most_sharing(area, 120));
	EXPECT_EQ(120, own_merging_pages());
	EXPECT_GE(24, area_frames(area, 120));
	EXPECT_EQ(0, area_wrong(area, 120, 2, self->seed));
}

KSM_TEST(dups, fork_may_exceed_the_limit_and_nothing_breaks)
{
	void *area = area_new(32, 1, self->seed);
	struct ksm_child child[3];

	ASSERT_EQ(0, ksm_set("max_page_sharing", 2));
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(6));
	EXPECT_EQ(16, area_frames(area, 32));
	for (int i = 0; i < 3; i++)
		ASSERT_EQ(0, ksm_child_start(&child[i]));
	ASSERT_EQ(0, ksm_passes(6));
	EXPECT_EQ(0, area_wrong(area, 32, 1, self->seed));
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(0, ksm_child_end(&child[i]));
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(16, ksm_get("pages_shared"));
	EXPECT_EQ(16, ksm_get("pages_sharing"));
}

KSM_TEST_MAIN
