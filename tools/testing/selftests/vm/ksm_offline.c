// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: memory goes offline while it holds merged pages.
 * They move elsewhere and stay merged, ksmd waits meanwhile, and nothing keeps
 * the number of a frame that is no more. Needs memory that can be taken
 * offline: plugged and brought online as movable, or by movablecore=.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "ksm_test.h"

#ifndef MPOL_PREFERRED
#define MPOL_PREFERRED	1
#endif

#define MEMORY		"/sys/devices/system/memory/"
#define CONTENTS	64
#define PAGES		(8 * CONTENTS)
#define TRIES		20
#define ATTEMPTS	300
#define ROUNDS		4
#define MANY_ROUNDS	50

/* Seen by the processes of all tests. */
static struct {
	uint64_t good_blocks;
	volatile bool load_over;
} *shared;

KSM_FIXTURE(offline)

static int block_file(uint64_t block, const char *file, char *text, size_t size)
{
	char path[128];

	snprintf(path, sizeof(path), MEMORY "memory%llu/%s", (unsigned long long)block, file);
	return ksm_file_read(path, text, size);
}

static bool block_is(uint64_t block, const char *file, const char *prefix)
{
	char text[KSM_TEXT_MAX];

	return !block_file(block, file, text, sizeof(text)) &&
	       !strncmp(text, prefix, strlen(prefix));
}

static int block_set(uint64_t block, const char *state)
{
	char path[128];

	snprintf(path, sizeof(path), MEMORY "memory%llu/state", (unsigned long long)block);
	return ksm_file_write(path, state);
}

/* The memory block of an entry of pagemap, 0 if there are none. */
static uint64_t block_of(uint64_t entry)
{
	static uint64_t bytes;
	char text[KSM_TEXT_MAX];

	if (!bytes && !ksm_file_read(MEMORY "block_size_bytes", text, sizeof(text)))
		bytes = strtoull(text, NULL, 16);
	if (!bytes || !(entry & PAGEMAP_PRESENT))
		return 0;
	return (entry & PAGEMAP_PFN) * page_bytes() / bytes;
}

/* Something may hold a page for a moment, as any user of the file has to expect. */
static int take_offline(uint64_t block)
{
	int ret = -EBUSY;

	for (int i = 0; i < TRIES && ret; i++) {
		ret = block_set(block, "offline");
		if (ret)
			usleep(20000);
	}
	return ret;
}

static size_t pages_in(const void *area, uint64_t block)
{
	uint64_t *map = area_pagemap(area, PAGES);
	size_t n = 0;

	for (size_t i = 0; map && i < PAGES; i++)
		n += block_of(map[i]) == block;
	free(map);
	return n;
}

/* Blocks that go offline when asked to: not those with memory from boot, or with a hole. */
static void find_good_blocks(void)
{
	uint64_t block;

	if (shared->good_blocks)
		return;
	for (block = 0; block < 64; block++) {
		if (!block_is(block, "valid_zones", "Movable") ||
		    !block_is(block, "state", "online"))
			continue;
		if (!block_set(block, "offline") && !block_set(block, "online_movable"))
			shared->good_blocks |= 1ULL << block;
	}
}

static bool is_good_block(uint64_t block)
{
	return block < 64 && shared->good_blocks >> block & 1;
}

static bool in_good_blocks(const void *area)
{
	uint64_t *map = area_pagemap(area, PAGES);
	bool good = map;

	for (size_t i = 0; good && i < PAGES; i++)
		good = is_good_block(block_of(map[i]));
	free(map);
	return good;
}

/*
 * Merged pages in blocks that can go offline, NULL if there are none. What is allocated on the way
 * to them stays where it is; the last node comes first, since the kernel itself fills the others.
 */
static void *merged(struct __test_metadata *_metadata, uint64_t seed)
{
	unsigned long nodes = 2;
	void *area = NULL;

	find_good_blocks();
	syscall(SYS_set_mempolicy, MPOL_PREFERRED, &nodes, 8);
	for (int i = 0; shared->good_blocks && i < ATTEMPTS; i++) {
		area = area_map(PAGES);
		if (!area || madvise(area, PAGES * page_bytes(), MADV_POPULATE_WRITE))
			return NULL;
		if (in_good_blocks(area))
			break;
		area = NULL;
	}
	if (!area)
		return NULL;
	area_fill(area, PAGES, CONTENTS, seed);
	ASSERT_EQ(0, area_mergeable(area, PAGES));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(CONTENTS, area_frames(area, PAGES));
	return area;
}

/* A block that has pages of the area and can go, or at least one that can go. */
static uint64_t block_to_go(void *area)
{
	for (size_t i = 0; i < PAGES; i++) {
		uint64_t block = block_of(page_pagemap(area_page(area, i)));

		if (is_good_block(block))
			return block;
	}
	return __builtin_ctzll(shared->good_blocks);
}

KSM_TEST(offline, merged_pages_move_and_stay_merged)
{
	void *area = merged(_metadata, self->seed);
	uint64_t block;
	void *more;

	if (!area)
		SKIP(return, "no memory block that can go offline");
	block = block_to_go(area);
	ASSERT_LT(0, pages_in(area, block));
	ASSERT_EQ(0, take_offline(block));
	EXPECT_TRUE(block_is(block, "state", "offline"));
	EXPECT_LE(0, ksm_validate());
	EXPECT_EQ(0, pages_in(area, block));
	EXPECT_EQ(CONTENTS, area_frames(area, PAGES));
	EXPECT_EQ(CONTENTS, ksm_get("pages_shared"));
	EXPECT_EQ(0, area_wrong(area, PAGES, CONTENTS, self->seed));

	/* ksmd goes on: who comes now shares with those that have moved. */
	more = area_new(CONTENTS, CONTENTS, self->seed);
	ASSERT_NE(NULL, more);
	EXPECT_EQ(0, ksm_passes(4));
	for (size_t i = 0; i < CONTENTS; i++)
		EXPECT_TRUE(pages_shared(area_page(more, i), area_page(area, i)));
	EXPECT_EQ(0, block_set(block, "online_movable"));
	EXPECT_EQ(0, area_wrong(area, PAGES, CONTENTS, self->seed));
}

/* The pages are freed while they are remembered, then their block goes. */
KSM_TEST(offline, nodes_of_freed_pages_are_forgotten)
{
	void *area = merged(_metadata, self->seed);
	uint64_t block;

	if (!area)
		SKIP(return, "no memory block that can go offline");
	block = block_to_go(area);
	ASSERT_EQ(0, munmap(area, PAGES * page_bytes()));
	ASSERT_EQ(0, take_offline(block));
	EXPECT_LE(0, ksm_validate());
	ASSERT_EQ(0, block_set(block, "online_movable"));
	EXPECT_EQ(0, ksm_passes(4));
	EXPECT_EQ(0, ksm_get("pages_shared"));
}

static void *load_area;
static uint64_t load_seed;

/* Writes and frees for as long as the parent wants. */
static long load(long arg)
{
	size_t wrong = 0;

	load_area = area_new(PAGES, CONTENTS, load_seed);
	if (!load_area)
		return -1;
	for (unsigned int round = 0; !shared->load_over; round++) {
		void *part = area_page(load_area, round * 7 % (PAGES / 2));

		if (round % 4 == 3) {
			madvise(part, 32 * page_bytes(), MADV_DONTNEED);
			area_fill(load_area, PAGES, CONTENTS, load_seed);
		}
		*(volatile char *)part ^= 1;
		usleep(5000);
		*(volatile char *)part ^= 1;
		wrong += area_wrong(load_area, PAGES, CONTENTS, load_seed);
	}
	return wrong;
}

KSM_TEST(offline, again_and_again_while_pages_merge_and_break)
{
	void *area = merged(_metadata, self->seed);
	struct ksm_child child;
	int emptied = 0;
	uint64_t block;

	if (!area)
		SKIP(return, "no memory block that can go offline");
	load_seed = self->seed;
	shared->load_over = false;
	ASSERT_EQ(0, ksm_child_start(&child));
	ASSERT_EQ(0, ksm_child_post(&child, load, 0));
	ASSERT_EQ(0, ksm_start());
	for (int round = 0; round < MANY_ROUNDS; round++) {
		block = block_to_go(area);
		emptied += !!pages_in(area, block);
		EXPECT_EQ(0, take_offline(block));
		EXPECT_EQ(0, pages_in(area, block));
		EXPECT_EQ(0, ksm_wait_passes(1));
		EXPECT_EQ(0, block_set(block, "online_movable"));
		EXPECT_EQ(0, area_wrong(area, PAGES, CONTENTS, self->seed));
	}
	ksft_print_msg("merged pages left a block %d times\n", emptied);
	EXPECT_LT(MANY_ROUNDS / 2, emptied);
	shared->load_over = true;
	EXPECT_EQ(0, ksm_child_result(&child));
	EXPECT_EQ(0, ksm_child_end(&child));
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(CONTENTS, area_frames(area, PAGES));
}

static long unmerge(long arg)
{
	return ksm_set("run", 2);
}

/* Either waits for the other, and both come to an end. */
KSM_TEST(offline, run_2_at_the_same_time)
{
	void *area = merged(_metadata, self->seed);
	struct ksm_child child;
	uint64_t block;

	if (!area)
		SKIP(return, "no memory block that can go offline");
	ASSERT_EQ(0, ksm_child_start(&child));
	for (int round = 0; round < ROUNDS; round++) {
		block = block_to_go(area);
		ASSERT_EQ(0, ksm_child_post(&child, unmerge, 0));
		EXPECT_EQ(0, take_offline(block));
		EXPECT_EQ(0, ksm_child_result(&child));
		EXPECT_EQ(0, area_ksm_pages(area, PAGES));
		EXPECT_EQ(0, ksm_get("pages_shared"));
		EXPECT_EQ(0, block_set(block, "online_movable"));
		ASSERT_EQ(0, ksm_passes(4));
		EXPECT_EQ(CONTENTS, area_frames(area, PAGES));
	}
	EXPECT_EQ(0, area_wrong(area, PAGES, CONTENTS, self->seed));
	EXPECT_EQ(0, ksm_child_end(&child));
}

int main(int argc, char **argv)
{
	shared = mmap(NULL, page_bytes(), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return shared == MAP_FAILED ? KSFT_FAIL : ksm_test_main(argc, argv);
}
