// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: contents whose tree keys collide. The digests of
 * real pages do too seldom for a test, so the debug kernel is asked for keys
 * that have a sample and nothing else (debugfs ksm/key_bits).
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "ksm_test.h"

#define KEY_BITS	"/sys/kernel/debug/ksm/key_bits"
#define CONTENTS	3
#define COPIES		4
#define PAGES		(CONTENTS * COPIES)

static char usual_bits[KSM_TEXT_MAX];

KSM_FIXTURE(collide)

/*
 * Content n is the content @seed (zeroes if 0) but for one word, n words behind
 * @offset: no sample sees it unless it has that line.
 */
static void collide_page(char *page, uint64_t seed, size_t offset, size_t n)
{
	if (seed)
		content_fill(page, seed, 0);
	else
		memset(page, 0, page_bytes());
	page[offset + 8 * n] ^= 0x11;
}

static void collide_fill(char *area, uint64_t seed, size_t offset)
{
	for (size_t i = 0; i < PAGES; i++)
		collide_page(area_page(area, i), seed, offset, i % CONTENTS);
}

static size_t collide_wrong(char *area, uint64_t seed, size_t offset)
{
	char page[page_bytes()];
	size_t wrong = 0;

	for (size_t i = 0; i < PAGES; i++) {
		collide_page(page, seed, offset, i % CONTENTS);
		wrong += !!memcmp(area_page(area, i), page, page_bytes());
	}
	return wrong;
}

/* From now on, keys are samples: 0, or -errno. */
static int weaken_keys(void)
{
	return ksm_file_write(KEY_BITS, "0");
}

/* The contents differ in the first line of the page, which no sample has. */
KSM_TEST(collide, every_content_finds_its_own_merged_page)
{
	void *area = area_map(PAGES);

	if (!usual_bits[0])
		SKIP(return, "needs CONFIG_KSM_DEBUG");
	ASSERT_EQ(0, weaken_keys());
	ASSERT_NE(NULL, area);
	collide_fill(area, self->seed, 0);
	ASSERT_EQ(0, area_mergeable(area, PAGES));
	ASSERT_EQ(0, ksm_passes(30));
	EXPECT_EQ(CONTENTS, ksm_get("pages_shared"));
	EXPECT_EQ(PAGES - CONTENTS, ksm_get("pages_sharing"));
	EXPECT_EQ(CONTENTS, area_frames(area, PAGES));
	EXPECT_EQ(0, collide_wrong(area, self->seed, 0));
}

/* One content is merged already when the others come, as it is with a host's files. */
KSM_TEST(collide, newcomers_are_not_hidden_by_a_merged_page)
{
	char *pair = area_map(2), *area = area_map(PAGES);

	if (!usual_bits[0])
		SKIP(return, "needs CONFIG_KSM_DEBUG");
	ASSERT_EQ(0, weaken_keys());
	ASSERT_NE(NULL, pair);
	ASSERT_NE(NULL, area);
	collide_page(pair, self->seed, 0, CONTENTS);
	collide_page(area_page(pair, 1), self->seed, 0, CONTENTS);
	ASSERT_EQ(0, area_mergeable(pair, 2));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(1, ksm_get("pages_sharing"));
	collide_fill(area, self->seed, 0);
	ASSERT_EQ(0, area_mergeable(area, PAGES));
	ASSERT_EQ(0, ksm_passes(30));
	EXPECT_EQ(1 + CONTENTS, ksm_get("pages_shared"));
	EXPECT_EQ(CONTENTS, area_frames(area, PAGES));
	EXPECT_EQ(0, collide_wrong(area, self->seed, 0));
}

/* They stand first among those with their key, and differ from each other and all that come. */
KSM_TEST(collide, pages_without_an_equal_hide_nobody)
{
	char *lone = area_map(2), *area = area_map(PAGES);

	if (!usual_bits[0])
		SKIP(return, "needs CONFIG_KSM_DEBUG");
	ASSERT_EQ(0, weaken_keys());
	ASSERT_NE(NULL, lone);
	ASSERT_NE(NULL, area);
	collide_page(lone, self->seed, 0, CONTENTS);
	collide_page(area_page(lone, 1), self->seed, 0, CONTENTS + 1);
	ASSERT_EQ(0, area_mergeable(lone, 2));
	ASSERT_EQ(0, ksm_passes(4));
	collide_fill(area, self->seed, 0);
	ASSERT_EQ(0, area_mergeable(area, PAGES));
	ASSERT_EQ(0, ksm_passes(40));
	EXPECT_EQ(CONTENTS, ksm_get("pages_shared"));
	EXPECT_EQ(CONTENTS, area_frames(area, PAGES));
	EXPECT_EQ(0, collide_wrong(area, self->seed, 0));
}

/* Two that are equal, each behind one that has no equal, come at once, in any pass. */
KSM_TEST(collide, equals_among_others_meet_in_every_phase)
{
	char *area = area_map(4);

	if (!usual_bits[0])
		SKIP(return, "needs CONFIG_KSM_DEBUG");
	ASSERT_EQ(0, weaken_keys());
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, area_mergeable(area, 4));
	for (int phase = 0; phase < 8; phase++) {
		for (size_t i = 0; i < 4; i++)
			collide_page(area_page(area, i), self->seed, 0, i == 3 ? 1 : i);
		ASSERT_EQ(0, ksm_passes(60));
		EXPECT_EQ(1, ksm_get("pages_sharing"));
		EXPECT_TRUE(pages_shared(area_page(area, 1), area_page(area, 3)));
		ASSERT_EQ(0, madvise(area, 4 * page_bytes(), MADV_DONTNEED));
		ASSERT_EQ(0, ksm_passes(5));
	}
}

/* As soon as they would without the others, in whatever order they come. */
KSM_TEST(collide, equals_among_others_meet_at_once)
{
	static const char *const order[] = { "0011", "0101", "0110", "012012", "012210", "001122" };
	char *area = area_map(6);

	if (!usual_bits[0])
		SKIP(return, "needs CONFIG_KSM_DEBUG");
	ASSERT_EQ(0, weaken_keys());
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, area_mergeable(area, 6));
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		size_t pages = strlen(order[i]);

		for (size_t k = 0; k < pages; k++)
			collide_page(area_page(area, k), self->seed, 0, order[i][k] - '0');
		ASSERT_EQ(0, ksm_step(2));
		EXPECT_EQ(pages / 2, ksm_get("pages_sharing")) TH_LOG("%s", order[i]);
		EXPECT_EQ(pages / 2, area_frames(area, pages));
		ASSERT_EQ(0, madvise(area, 6 * page_bytes(), MADV_DONTNEED));
		ASSERT_EQ(0, ksm_step(1));
	}
}

/* Each chain of KSM pages has one content. */
KSM_TEST(collide, chains_stay_apart)
{
	void *area = area_map(PAGES);

	if (!usual_bits[0])
		SKIP(return, "needs CONFIG_KSM_DEBUG");
	ASSERT_EQ(0, weaken_keys());
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_set("max_page_sharing", 2));
	collide_fill(area, self->seed, 0);
	ASSERT_EQ(0, area_mergeable(area, PAGES));
	ASSERT_EQ(0, ksm_passes(40));
	EXPECT_EQ(PAGES / 2, ksm_get("pages_shared"));
	EXPECT_EQ(PAGES / 2, ksm_get("pages_sharing"));
	EXPECT_EQ(CONTENTS, ksm_get("stable_node_chains"));
	EXPECT_EQ(PAGES / 2, ksm_get("stable_node_dups"));
	EXPECT_EQ(0, collide_wrong(area, self->seed, 0));
}

KSM_TEST(collide, nearly_zero_is_not_zero)
{
	void *area = area_map(PAGES), *zeroes = area_map(4);

	if (!usual_bits[0])
		SKIP(return, "needs CONFIG_KSM_DEBUG");
	ASSERT_EQ(0, weaken_keys());
	ASSERT_NE(NULL, area);
	ASSERT_NE(NULL, zeroes);
	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	collide_fill(area, 0, 0);
	memset(zeroes, 0, 4 * page_bytes());
	ASSERT_EQ(0, area_mergeable(area, PAGES));
	ASSERT_EQ(0, area_mergeable(zeroes, 4));
	ASSERT_EQ(0, ksm_passes(30));
	EXPECT_EQ(4, ksm_get("ksm_zero_pages"));
	EXPECT_EQ(CONTENTS, ksm_get("pages_shared"));
	EXPECT_EQ(PAGES - CONTENTS, ksm_get("pages_sharing"));
	EXPECT_EQ(0, collide_wrong(area, 0, 0));
}

KSM_TEST(collide, keys_do_not_change_while_pages_are_merged)
{
	if (!usual_bits[0])
		SKIP(return, "needs CONFIG_KSM_DEBUG");
	ASSERT_NE(NULL, area_new(2, 1, self->seed));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(1, ksm_get("pages_sharing"));
	EXPECT_EQ(-EBUSY, ksm_file_write(KEY_BITS, "0"));
	EXPECT_EQ(-EINVAL, ksm_file_write(KEY_BITS, "0x10000000"));
}

static void restore_bits(void)
{
	if (getpid() == ksm_test_main_pid && usual_bits[0] &&
	    ksm_file_write(KEY_BITS, usual_bits))
		ksft_print_msg("key_bits could not be restored\n");
}

int main(int argc, char **argv)
{
	(void)ksm_validate();	/* mounts debugfs */
	if (ksm_file_read(KEY_BITS, usual_bits, sizeof(usual_bits)))
		usual_bits[0] = '\0';
	/* Runs after the handler of ksm_test_main(), which unmerges everything. */
	atexit(restore_bits);
	return ksm_test_main(argc, argv);
}
