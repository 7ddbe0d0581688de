// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: memory failure. A frame that is given up with
 * its content is replaced for all its sharers; one whose content is lost is
 * taken from all of them, and from nobody else.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "ksm_disk.h"
#include "ksm_test.h"

#define PAGES 16
#define CGROUP "ksm_poison_test"
#define HWPOISON "/sys/kernel/debug/hwpoison/"

KSM_FIXTURE(poison)

static int hwpoison(const char *file, uint64_t pfn)
{
	char path[64], text[32];

	snprintf(path, sizeof(path), HWPOISON "%s", file);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)pfn);
	return ksm_file_write(path, text);
}

/* Back in use, as far as the kernel can; nothing depends on it. */
static void put_back(uint64_t pfn)
{
	if (hwpoison("unpoison-pfn", pfn))
		ksft_print_msg("one frame stays out of use\n");
}

static void *area;
static uint64_t area_seed;

static long child_new(long seed)
{
	area_seed = seed;
	area = area_new(PAGES, 2, seed);
	return area ? 0 : -ENOMEM;
}

static long child_pfn(long i)
{
	return page_pfn(area_page(area, i));
}

static long child_wrong(long seed)
{
	return area_wrong(area, PAGES, 2, seed);
}

/*
 * How many of every other page are lost, or -EINVAL if one that is not lost is wrong. As the kernel
 * reads them: lost pages give no signal then.
 */
static long child_lost(long first)
{
	char page[page_bytes()];
	long lost = 0;
	int fds[2];

	if (pipe(fds))
		return -errno;
	for (size_t i = first; i < PAGES; i += 2) {
		if (write(fds[1], area_page(area, i), page_bytes()) < 0)
			lost += errno == EFAULT;
		else if (read(fds[0], page, page_bytes()) != (ssize_t)page_bytes())
			return -EIO;
		else if (content_wrong(page, area_seed, i % 2))
			return -EINVAL;
	}
	close(fds[0]);
	close(fds[1]);
	return lost;
}

static long child_unmerge(long arg)
{
	if (madvise(area, PAGES * page_bytes(), MADV_UNMERGEABLE))
		return -errno;
	return area_ksm_pages(area, PAGES);
}

KSM_TEST(poison, a_merged_page_taken_out_of_use_moves_for_all)
{
	uint64_t before, after;
	struct ksm_child child;
	void *late;
	int ret;

	ASSERT_EQ(0, ksm_child_start(&child));
	ASSERT_EQ(0, ksm_child_call(&child, child_new, self->seed));
	ASSERT_EQ(0, child_new(self->seed));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(2, ksm_get("pages_shared"));
	before = page_pfn(area);
	for (int tries = 0; tries < 20; tries++) {
		ret = madvise(area_page(area, 2), page_bytes(), MADV_SOFT_OFFLINE);
		if (!ret || errno != EBUSY)
			break;
		usleep(10000);
	}
	if (ret && errno == EINVAL)
		SKIP(return, "no memory failure in this kernel");
	ASSERT_EQ(0, ret);
	after = page_pfn(area);
	EXPECT_NE(before, after);
	EXPECT_EQ(PAGES / 2, area_sharing_with(area, PAGES, area));
	EXPECT_EQ(after, ksm_child_call(&child, child_pfn, 4));
	EXPECT_EQ(PAGES, area_ksm_pages(area, PAGES));
	EXPECT_EQ(0, child_wrong(self->seed));
	EXPECT_EQ(0, ksm_child_call(&child, child_wrong, self->seed));
	/* It's where it is looked for. */
	late = area_new(1, 1, self->seed);
	ASSERT_NE(NULL, late);
	ASSERT_EQ(0, ksm_passes(9));
	EXPECT_EQ(after, page_pfn(late));
	EXPECT_EQ(2, ksm_get("pages_shared"));
	EXPECT_EQ(2 * PAGES - 1, ksm_get("pages_sharing"));
	EXPECT_EQ(0, ksm_child_end(&child));
	put_back(before);
}

KSM_TEST(poison, a_lost_page_is_lost_to_its_sharers_only)
{
	struct ksm_child child;
	uint64_t lost;

	ASSERT_EQ(0, ksm_child_start(&child));
	ASSERT_EQ(0, ksm_child_call(&child, child_new, self->seed));
	ASSERT_EQ(0, child_new(self->seed));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(2, ksm_get("pages_shared"));
	lost = page_pfn(area);
	if (access(HWPOISON "corrupt-pfn", W_OK))
		SKIP(return, "needs hwpoison_inject");
	ASSERT_EQ(0, hwpoison("corrupt-pfn", lost));
	EXPECT_EQ(PAGES / 2, child_lost(0));
	EXPECT_EQ(PAGES / 2, ksm_child_call(&child, child_lost, 0));
	EXPECT_EQ(0, child_lost(1));
	EXPECT_EQ(0, ksm_child_call(&child, child_lost, 1));
	/* The content is known, but its page is no good. */
	ASSERT_EQ(0, madvise(area, PAGES * page_bytes(), MADV_DONTNEED));
	area_fill(area, PAGES, 2, self->seed);
	ASSERT_EQ(0, ksm_passes(9));
	EXPECT_EQ(2, area_frames(area, PAGES));
	EXPECT_NE(lost, page_pfn(area));
	EXPECT_EQ(0, child_wrong(self->seed));
	/* Those that are lost don't keep the others merged. */
	EXPECT_EQ(0, ksm_child_call(&child, child_unmerge, 0));
	EXPECT_EQ(PAGES / 2, ksm_child_call(&child, child_lost, 0));
	EXPECT_EQ(0, ksm_child_call(&child, child_lost, 1));
	EXPECT_EQ(0, ksm_child_end(&child));
	put_back(lost);
}

static long child_out(long unused)
{
	return area_count(area, PAGES, PAGEMAP_SWAP);
}

/*
 * Lost when one has it back from swap. What is in the swap cache may be read again, so nobody needs
 * to lose anything; but nobody gets a copy of the lost page.
 */
KSM_TEST(poison, no_copy_of_a_page_lost_in_the_swap_cache)
{
	const char *swap = ksm_cgroup_swap_on(CGROUP, KSM_SWAP_ZRAM);
	double end = ksm_now() + 20;
	struct ksm_child child;
	uint64_t lost;
	long own, others;

	if (!swap)
		SKIP(return, "no memory cgroup, or no zram to swap to");
	if (access(HWPOISON "corrupt-pfn", W_OK))
		SKIP(goto out, "needs hwpoison_inject");
	ASSERT_EQ(0, ksm_child_start(&child));
	ASSERT_EQ(0, ksm_child_call(&child, child_new, self->seed));
	ASSERT_EQ(0, child_new(self->seed));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(2, ksm_get("pages_shared"));
	while (child_out(0) < PAGES && ksm_now() < end) {
		ksm_cgroup_set(CGROUP, "memory.reclaim", "4M");
		usleep(10000);
	}
	ASSERT_EQ(PAGES, child_out(0));
	ASSERT_EQ(PAGES, ksm_child_call(&child, child_out, 0));
	EXPECT_EQ(0, content_wrong(area, self->seed, 0));
	lost = page_pfn(area);
	ASSERT_NE(0, lost);
	ASSERT_EQ(0, hwpoison("corrupt-pfn", lost));
	own = child_lost(0);
	others = ksm_child_call(&child, child_lost, 0);
	ksft_print_msg("lost: %ld of its reader, %ld of others\n", own, others);
	EXPECT_LE(0, own);
	EXPECT_LE(0, others);
	EXPECT_EQ(0, child_lost(1));
	EXPECT_EQ(0, ksm_child_call(&child, child_lost, 1));
	EXPECT_NE(lost, page_pfn(area));
	EXPECT_NE(lost, ksm_child_call(&child, child_pfn, 0));
	EXPECT_EQ(0, ksm_child_end(&child));
	ASSERT_EQ(0, munmap(area, PAGES * page_bytes()));
	put_back(lost);
out:
	EXPECT_EQ(0, ksm_swap_off(swap));
	ksm_cgroup_leave(CGROUP);
}

static volatile long told, told_wrong;

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	size_t i = ((char *)info->si_addr - (char *)area) / page_bytes();

	told++;
	told_wrong += info->si_code != BUS_MCEERR_AO || i >= PAGES || i % 2;
}

static long child_wants_to_know(long arg)
{
	struct sigaction action = {
		.sa_sigaction = on_sigbus,
		.sa_flags = SA_SIGINFO | SA_RESTART,
	};

	if (sigaction(SIGBUS, &action, NULL) ||
	    prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0))
		return -errno;
	return 0;
}

/* How often it was told; below 0 if of anything else than a page with the first content. */
static long child_told(long arg)
{
	return told_wrong ? -told_wrong : told;
}

/* Who asked for it gets a signal before it touches what is lost; nobody else does. */
KSM_TEST(poison, those_who_map_a_lost_page_are_told)
{
	struct ksm_child child[3];
	uint64_t lost;

	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, ksm_child_start(&child[i]));
		ASSERT_EQ(0, ksm_child_call(&child[i], child_wants_to_know, 0));
		/* The last one has contents of its own. */
		ASSERT_EQ(0, ksm_child_call(&child[i], child_new, self->seed + i / 2));
	}
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(4, ksm_get("pages_shared"));
	lost = ksm_child_call(&child[0], child_pfn, 0);
	ASSERT_EQ(lost, ksm_child_call(&child[1], child_pfn, 0));
	if (access(HWPOISON "corrupt-pfn", W_OK))
		SKIP(return, "needs hwpoison_inject");
	ASSERT_EQ(0, hwpoison("corrupt-pfn", lost));
	EXPECT_LT(0, ksm_child_call(&child[0], child_told, 0));
	EXPECT_LT(0, ksm_child_call(&child[1], child_told, 0));
	EXPECT_EQ(0, ksm_child_call(&child[2], child_told, 0));
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(i < 2 ? PAGES / 2 : 0, ksm_child_call(&child[i], child_lost, 0));
		EXPECT_EQ(0, ksm_child_call(&child[i], child_lost, 1));
	}
	EXPECT_EQ(0, ksm_child_call(&child[2], child_wrong, self->seed + 1));
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(0, ksm_child_end(&child[i]));
	put_back(lost);
}

KSM_TEST_MAIN
