// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: what went wrong when merged pages came back
 * from swap. The first one who touches a page has it back, the others get
 * copies of it.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/mman.h>

#include "ksm_disk.h"
#include "ksm_test.h"

#define PAGES 240
#define DISTINCT 12
#define CGROUP "ksm_swapin_test"
#define HWPOISON "/sys/kernel/debug/hwpoison/"
/* Stacks and the like come and go. */
#define NEAR 16

FIXTURE(reg_swapin)
{
	uint64_t seed;
	char device[64];
};

FIXTURE_SETUP(reg_swapin)
{
	const char *device;

	if (!ksm_available())
		SKIP(return, "needs KSM and root");
	ASSERT_EQ(0, ksm_default_knobs());
	self->seed = content_seed();
	device = ksm_cgroup_swap_on(CGROUP, KSM_SWAP_ZRAM);
	if (!device)
		SKIP(return, "no memory cgroup, or no zram to swap to");
	snprintf(self->device, sizeof(self->device), "%s", device);
}

FIXTURE_TEARDOWN_PARENT(reg_swapin)
{
	EXPECT_EQ(0, ksm_stop());
	EXPECT_LE(0, ksm_validate());
	EXPECT_EQ(0, ksm_unmerge());
	EXPECT_EQ(0, ksm_swap_off(self->device));
	ksm_cgroup_leave(CGROUP);
}

/* An area of merged pages that are all in swap. */
static void *merged_and_out(struct __test_metadata *_metadata, uint64_t seed)
{
	double end = ksm_now() + 20;
	void *area = area_new(PAGES, DISTINCT, seed);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(DISTINCT, area_frames(area, PAGES));
	while (area_count(area, PAGES, PAGEMAP_SWAP) < PAGES && ksm_now() < end) {
		/* EAGAIN if less was reclaimed: that is judged by the result. */
		ksm_cgroup_set(CGROUP, "memory.reclaim", "4M");
		usleep(10000);
	}
	ASSERT_EQ(PAGES, area_count(area, PAGES, PAGEMAP_SWAP));
	return area;
}

/* Pages that the cgroup is charged with, once that is near what is wanted: it lags by seconds. */
static int64_t charged(int64_t want)
{
	double end = ksm_now() + 10;
	int64_t pages;

	do {
		pages = ksm_file_field("/sys/fs/cgroup/" CGROUP "/memory.stat", "anon") /
			(int64_t)page_bytes();
		if (llabs(pages - want) <= NEAR)
			break;
		usleep(100000);
	} while (ksm_now() < end);
	return pages;
}

KSM_TEST(reg_swapin, copies_are_charged)
{
	int64_t before = charged(0);
	void *area = merged_and_out(_metadata, self->seed);
	int64_t frames;

	EXPECT_GE(NEAR, charged(before) - before);
	EXPECT_EQ(0, area_wrong(area, PAGES, DISTINCT, self->seed));
	frames = area_frames(area, PAGES);
	EXPECT_LT(PAGES / 2, frames);
	EXPECT_GE(NEAR, llabs(charged(before + frames) - before - frames));
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_EQ(DISTINCT, area_frames(area, PAGES));
	EXPECT_GE(NEAR, llabs(charged(before + DISTINCT) - before - DISTINCT));
}

/* As the kernel reads it: 0, or -EFAULT if the page is lost, or -EINVAL if it is wrong. */
static int page_state(const void *at, uint64_t seed, uint64_t id)
{
	char page[page_bytes()];
	int fds[2], ret = 0;

	if (pipe(fds))
		return -errno;
	if (write(fds[1], at, sizeof(page)) < 0)
		ret = -errno;
	else if (read(fds[0], page, sizeof(page)) != sizeof(page) || content_wrong(page, seed, id))
		ret = -EINVAL;
	close(fds[0]);
	close(fds[1]);
	return ret;
}

/* The page that is to be copied is found poisoned. */
KSM_TEST(reg_swapin, poison_is_not_copied)
{
	char *area = merged_and_out(_metadata, self->seed);
	char file[] = HWPOISON "corrupt-pfn", text[32];
	unsigned int gone = 0;
	uint64_t lost;
	int state;

	if (access(file, W_OK))
		SKIP(return, "needs hwpoison_inject");
	EXPECT_EQ(0, content_wrong(area, self->seed, 0));
	lost = page_pfn(area);
	ASSERT_NE(0, lost);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)lost);
	ASSERT_EQ(0, ksm_file_write(file, text));
	for (size_t i = 1; i < PAGES; i++) {
		state = page_state(area_page(area, i), self->seed, i % DISTINCT);
		if (state == -EFAULT && i % DISTINCT == 0)
			gone++;
		else
			EXPECT_EQ(0, state);
		EXPECT_NE(lost, page_pfn(area_page(area, i)));
	}
	ksft_print_msg("%u pages are gone\n", gone);
	ASSERT_EQ(0, munmap(area, PAGES * page_bytes()));
	if (ksm_file_write(HWPOISON "unpoison-pfn", text))
		ksft_print_msg("one frame stays out of use\n");
}

KSM_TEST(reg_swapin, swapoff_with_merged_pages_out)
{
	void *area = merged_and_out(_metadata, self->seed);

	EXPECT_EQ(0, ksm_swap_off(self->device));
	EXPECT_EQ(0, area_count(area, PAGES, PAGEMAP_SWAP));
	EXPECT_EQ(0, area_wrong(area, PAGES, DISTINCT, self->seed));
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_EQ(DISTINCT, area_frames(area, PAGES));
	EXPECT_EQ(0, area_wrong(area, PAGES, DISTINCT, self->seed));
	/* The teardown switches it off again. */
	ASSERT_NE(NULL, ksm_swap_on(KSM_SWAP_ZRAM));
}

KSM_TEST_MAIN
