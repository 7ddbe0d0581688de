// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging regressions: unmerging without the memory for it.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/wait.h>

#include "ksm_disk.h"
#include "ksm_test.h"

#define CGROUP "ksm_memory_test"
#define LIMIT_MIB 8
#define PAGES 6000

KSM_FIXTURE(memory)

static uint64_t child_seed;
static void *child_area;

/* In steps, so that ksmd can make room: far more than the cgroup may hold. */
static long child_load_slowly(long arg)
{
	if (ksm_cgroup_enter(CGROUP))
		return -1;
	child_area = area_map(PAGES);
	if (!child_area || area_mergeable(child_area, PAGES))
		return -2;
	for (size_t i = 0; i < PAGES; i++) {
		double end = ksm_now() + ksm_wait_seconds();

		content_fill(area_page(child_area, i), child_seed, i % 3);
		/* Never more than a quarter of the limit ahead of ksmd. */
		while (i % 256 == 255 && own_merging_pages() + 256 < (int64_t)i) {
			if (ksm_now() > end)
				return -3;
			usleep(2000);
		}
	}
	return 0;
}

static long run_2(long arg)
{
	return ksm_set("run", 2);
}

/* It may be killed for it, or the write may fail: nobody waits for ever. */
KSM_TEST(memory, run_2_in_a_cgroup_that_is_too_small)
{
	struct ksm_child owner, writer;
	void *area = area_new(30, 3, self->seed);
	char limit[32];
	long ret;

	ASSERT_NE(NULL, area);
	if (ksm_cgroup_enter(CGROUP))
		SKIP(return, "no memory cgroup");
	ksm_cgroup_leave(CGROUP);
	ASSERT_EQ(0, ksm_cgroup_enter(CGROUP));
	snprintf(limit, sizeof(limit), "%d", LIMIT_MIB << 20);
	ASSERT_EQ(0, ksm_cgroup_set(CGROUP, "memory.max", limit));
	ksm_cgroup_set(CGROUP, "memory.swap.max", "0");
	ASSERT_EQ(0, ksm_file_write("/sys/fs/cgroup/cgroup.procs", "0"));

	child_seed = self->seed;
	ASSERT_EQ(0, ksm_child_start(&owner));
	ASSERT_EQ(0, ksm_child_start(&writer));
	ASSERT_EQ(0, ksm_start());
	ASSERT_EQ(0, ksm_child_call(&owner, child_load_slowly, 0));
	ASSERT_EQ(0, ksm_wait_passes(4));
	ASSERT_LT(PAGES * 9 / 10, ksm_get("pages_sharing"));

	ret = ksm_child_call(&writer, run_2, 0);
	EXPECT_NE(KSM_CHILD_LOST, ret);
	EXPECT_TRUE(!ret || ret == -ENOMEM || ret == -EINTR)
		TH_LOG("run=2 gave %ld", ret);
	ksm_child_kill(&owner);
	ksm_child_kill(&writer);
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, area_wrong(area, 30, 3, self->seed));
	ksm_cgroup_leave(CGROUP);
}

KSM_TEST_MAIN
