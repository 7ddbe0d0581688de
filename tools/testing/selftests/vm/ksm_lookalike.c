// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: pages that look like a KSM page wherever a
 * sample reads them, and differ elsewhere. Only a compare tells them apart.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "ksm_test.h"

#define LINE 64

KSM_FIXTURE(lookalike)

static size_t lines(void)
{
	return page_bytes() / LINE;
}

/*
 * For each cache line of a page, one that has the content @seed, 0 but for a
 * word in that line: few of these are in a line that is sampled.
 */
static void almost(char *area, uint64_t seed)
{
	size_t i;

	for (i = 0; i < lines(); i++) {
		content_fill(area_page(area, i), seed, 0);
		area[i * page_bytes() + i * LINE + 16] ^= 0x11;
	}
}

/* Bytes that are wrong in such an area: other pages' differences or none. */
static size_t almost_wrong(const char *area, uint64_t seed)
{
	char page[page_bytes()];
	size_t wrong = 0, i, j;

	for (i = 0; i < lines(); i++) {
		content_fill(page, seed, 0);
		page[i * LINE + 16] ^= 0x11;
		for (j = 0; j < page_bytes(); j++)
			wrong += area[i * page_bytes() + j] != page[j];
	}
	return wrong;
}

/* Two pages that are merged, which all others will look like. */
static void *model(struct __test_metadata *_metadata, uint64_t seed)
{
	void *pair = area_new(2, 1, seed);

	ASSERT_NE(NULL, pair);
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(1, ksm_get("pages_sharing"));
	return pair;
}

KSM_TEST(lookalike, newcomers_are_not_taken_for_a_merged_page)
{
	void *pair = model(_metadata, self->seed), *area = area_map(lines());

	ASSERT_NE(NULL, area);
	almost(area, self->seed);
	ASSERT_EQ(0, area_mergeable(area, lines()));
	ASSERT_EQ(0, ksm_passes(20));
	EXPECT_EQ(0, almost_wrong(area, self->seed));
	EXPECT_EQ(0, area_wrong(pair, 2, 1, self->seed));
	EXPECT_EQ(lines(), area_frames(area, lines()));
	EXPECT_EQ(1, ksm_get("pages_shared"));
	EXPECT_EQ(1, ksm_get("pages_sharing"));
	EXPECT_EQ(lines(), ksm_get("pages_unshared"));
}

/* A crowd without a merged page: it is told apart for good, not at every other visit. */
KSM_TEST(lookalike, pages_that_do_not_change_are_known)
{
	void *area = area_map(lines());

	ASSERT_NE(NULL, area);
	almost(area, self->seed);
	ASSERT_EQ(0, area_mergeable(area, lines()));
	ASSERT_EQ(0, ksm_passes(8));
	for (int pass = 0; pass < 6; pass++) {
		ASSERT_EQ(0, ksm_step(1));
		EXPECT_EQ(lines(), ksm_get("pages_unshared"));
		EXPECT_EQ(0, ksm_get("pages_volatile"));
	}
}

KSM_TEST(lookalike, newcomers_meet_their_equals)
{
	void *pair = model(_metadata, self->seed);
	void *area = area_map(2 * lines()), *rest;

	ASSERT_NE(NULL, area);
	rest = area_page(area, lines());
	almost(area, self->seed);
	almost(rest, self->seed);
	ASSERT_EQ(0, area_mergeable(area, 2 * lines()));
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_EQ(lines(), area_frames(area, 2 * lines()));
	EXPECT_EQ(1 + lines(), ksm_get("pages_shared"));
	EXPECT_EQ(1 + lines(), ksm_get("pages_sharing"));
	EXPECT_EQ(0, almost_wrong(area, self->seed));
	EXPECT_EQ(0, almost_wrong(rest, self->seed));
	EXPECT_EQ(0, area_wrong(pair, 2, 1, self->seed));
}

/* What looked like it becomes equal to it by writes that no sample may see. */
KSM_TEST(lookalike, they_merge_once_they_are_equal)
{
	void *pair = model(_metadata, self->seed), *area = area_map(lines());

	ASSERT_NE(NULL, area);
	almost(area, self->seed);
	ASSERT_EQ(0, area_mergeable(area, lines()));
	ASSERT_EQ(0, ksm_passes(8));
	ASSERT_EQ(1, ksm_get("pages_sharing"));
	area_fill(area, lines(), 1, self->seed);
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_EQ(lines(), area_sharing_with(area, lines(), pair));
	EXPECT_EQ(1 + lines(), ksm_get("pages_sharing"));
	EXPECT_EQ(0, area_wrong(area, lines(), 1, self->seed));
}

KSM_TEST_MAIN
