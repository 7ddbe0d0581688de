// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: merged pages move between NUMA nodes by every
 * way there is. They take all who share them along, and stay merged.
 */
#define _GNU_SOURCE
#include <linux/mempolicy.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "ksm_disk.h"
#include "ksm_test.h"

#define CONTENTS	8
#define PAGES		(8 * CONTENTS)
#define CGROUP		"ksm_migrate_test"
#define SYSCTL_BALANCING "/proc/sys/kernel/numa_balancing"
#define BALANCING	"/sys/kernel/debug/sched/numa_balancing/"
#define BALANCE_S	8

FIXTURE(migrate)
{
	uint64_t seed;
	void *area;
	struct ksm_child sharer;
};

static void *sharer_area;

static long sharer_load(long seed)
{
	sharer_area = area_new(PAGES, CONTENTS, seed);
	return !sharer_area;
}

static long sharer_wrong(long seed)
{
	return area_wrong(sharer_area, PAGES, CONTENTS, seed);
}

static long sharer_merged(long unused)
{
	return area_ksm_pages(sharer_area, PAGES);
}

FIXTURE_SETUP(migrate)
{
	if (!ksm_available())
		SKIP(return, "needs KSM and root");
	if (!two_nodes())
		SKIP(return, "one NUMA node only");
	ASSERT_EQ(0, ksm_default_knobs());
	self->seed = content_seed();
	self->area = area_new(PAGES, CONTENTS, self->seed);
	ASSERT_NE(NULL, self->area);
	ASSERT_EQ(0, ksm_child_start(&self->sharer));
	ASSERT_EQ(0, ksm_child_call(&self->sharer, sharer_load, self->seed));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(CONTENTS, ksm_get("pages_shared"));
}

FIXTURE_TEARDOWN_PARENT(migrate)
{
	EXPECT_EQ(0, ksm_stop());
	EXPECT_LE(0, ksm_validate());
	EXPECT_EQ(0, ksm_unmerge());
	ksm_cgroup_leave(CGROUP);
}

/* Nothing was unmerged by it, in either process, and no byte changed. */
#define EXPECT_STILL_MERGED()						\
do {									\
	EXPECT_EQ(CONTENTS, ksm_get("pages_shared"));			\
	EXPECT_EQ(CONTENTS, area_frames(self->area, PAGES));		\
	EXPECT_EQ(PAGES, area_ksm_pages(self->area, PAGES));		\
	EXPECT_EQ(PAGES, ksm_child_call(&self->sharer, sharer_merged, 0)); \
	EXPECT_EQ(0, area_wrong(self->area, PAGES, CONTENTS, self->seed)); \
	EXPECT_EQ(0, ksm_child_call(&self->sharer, sharer_wrong, self->seed)); \
	EXPECT_LE(0, ksm_validate());					\
} while (0)

KSM_TEST(migrate, by_move_pages)
{
	for (int round = 0; round < 6; round++) {
		int node = !(round % 2);

		EXPECT_EQ(PAGES, area_move(self->area, PAGES, node));
		EXPECT_EQ(PAGES, area_on_node(self->area, PAGES, node));
		EXPECT_STILL_MERGED();
	}
}

KSM_TEST(migrate, by_move_pages_while_ksmd_runs)
{
	double end = ksm_now() + 5;
	size_t wrong = 0;

	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	for (int round = 0; ksm_now() < end; round++) {
		/* Some are held just now: then they don't move. */
		area_move(self->area, PAGES, !(round % 2));
		area_fill(area_page(self->area, round % CONTENTS * 8), 8, 8,
			  self->seed);
		wrong += area_wrong(self->area, PAGES, CONTENTS, self->seed);
	}
	EXPECT_EQ(0, wrong);
	EXPECT_EQ(0, ksm_wait_passes(4));
	ASSERT_EQ(0, ksm_stop());
	EXPECT_STILL_MERGED();
}

KSM_TEST(migrate, by_migrate_pages)
{
	for (int round = 0; round < 4; round++) {
		unsigned long from = 1 << round % 2, to = 3 - from;

		/* Mappings of a page that is on its way already count as not moved. */
		ASSERT_LE(0, syscall(SYS_migrate_pages, 0, 64UL, &from, &to));
		EXPECT_EQ(0, area_on_node(self->area, PAGES, round % 2));
		EXPECT_EQ(PAGES, area_on_node(self->area, PAGES, !(round % 2)));
		EXPECT_STILL_MERGED();
	}
}

KSM_TEST(migrate, by_mbind)
{
	for (int round = 0; round < 4; round++) {
		unsigned long to = 1 << !(round % 2);

		ASSERT_EQ(0, syscall(SYS_mbind, self->area, PAGES * page_bytes(),
				     MPOL_BIND, &to, 64UL, MPOL_MF_MOVE_ALL));
		EXPECT_EQ(PAGES, area_on_node(self->area, PAGES, !(round % 2)));
		EXPECT_STILL_MERGED();
	}
}

/* The memory of a cgroup follows its cpuset, where the root cgroup hands them on. */
KSM_TEST(migrate, by_cpuset)
{
	if (ksm_cgroup_enter(CGROUP) || ksm_cgroup_set(CGROUP, "cpuset.mems", "0"))
		SKIP(return, "no cpuset");
	for (int round = 0; round < 4; round++) {
		ASSERT_EQ(0, ksm_cgroup_set(CGROUP, "cpuset.mems",
					    round % 2 ? "0" : "1"));
		EXPECT_EQ(PAGES, area_on_node(self->area, PAGES, !(round % 2)));
		EXPECT_STILL_MERGED();
	}
}

static void *sleep_on(void *unused)
{
	for (;;)
		pause();
	return NULL;
}

/*
 * NUMA balancing hides PTEs to see who touches them, also while they merge. In
 * a process with a single thread it would leave out what is on the right node.
 */
KSM_TEST(migrate, balancing_while_ksmd_runs)
{
	double end = ksm_now() + BALANCE_S;
	pthread_t other;
	int64_t faults;
	size_t wrong = 0;

	if (ksm_file_write(SYSCTL_BALANCING, "1"))
		SKIP(return, "no NUMA balancing");
	ksm_file_write(BALANCING "scan_delay_ms", "1");
	ksm_file_write(BALANCING "scan_period_min_ms", "10");
	ksm_file_write(BALANCING "scan_period_max_ms", "20");
	ASSERT_EQ(0, pthread_create(&other, NULL, sleep_on, NULL));
	faults = vmstat_field("numa_hint_faults");
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	for (int round = 0; ksm_now() < end; round++) {
		content_fill(area_page(self->area, round % PAGES), self->seed + 1, round);
		wrong += content_wrong(area_page(self->area, round % PAGES),
				       self->seed + 1, round);
		content_fill(area_page(self->area, round % PAGES), self->seed,
			     round % PAGES % CONTENTS);
		wrong += area_wrong(self->area, PAGES, CONTENTS, self->seed);
	}
	EXPECT_EQ(0, ksm_file_write(SYSCTL_BALANCING, "0"));
	EXPECT_EQ(0, wrong);
	faults = vmstat_field("numa_hint_faults") - faults;
	ksft_print_msg("%ld hinting faults\n", (long)faults);
	EXPECT_LT(0, faults);
	EXPECT_EQ(0, ksm_wait_passes(4));
	ASSERT_EQ(0, ksm_stop());
	EXPECT_STILL_MERGED();
}

/* Both go on at once; in the end no merged page is left, and nothing is lost. */
KSM_TEST(migrate, unmerging_meanwhile)
{
	for (int round = 0; round < 5; round++) {
		unsigned long from = 1 << round % 2, to = 3 - from;
		pid_t mover = fork();

		if (!mover) {
			for (int i = 0; i < 4; i++) {
				syscall(SYS_migrate_pages, getppid(), 64UL, &from, &to);
				syscall(SYS_migrate_pages, getppid(), 64UL, &to, &from);
			}
			_exit(0);
		}
		ASSERT_LT(0, mover);
		EXPECT_EQ(0, ksm_set("run", 2));
		EXPECT_EQ(0, ksm_get("pages_shared"));
		EXPECT_EQ(0, area_ksm_pages(self->area, PAGES));
		ASSERT_EQ(0, kill(mover, SIGKILL));
		ASSERT_EQ(mover, waitpid(mover, NULL, 0));
		EXPECT_EQ(0, area_ksm_pages(self->area, PAGES));
		EXPECT_EQ(0, ksm_child_call(&self->sharer, sharer_merged, 0));
		EXPECT_EQ(0, area_wrong(self->area, PAGES, CONTENTS, self->seed));
		ASSERT_EQ(0, ksm_passes(4));
	}
	EXPECT_STILL_MERGED();
}

KSM_TEST_MAIN_KEEPING(SYSCTL_BALANCING, BALANCING "scan_delay_ms",
		      BALANCING "scan_period_min_ms", BALANCING "scan_period_max_ms")
