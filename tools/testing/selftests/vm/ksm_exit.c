// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: processes that go while ksmd scans them. The
 * survivors keep their bytes, and nothing of the dead stays in the counters.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "ksm_test.h"

#define CHILDREN 6

KSM_FIXTURE(exit)

static uint64_t child_seed;

static long child_load(long pages)
{
	return !area_new(pages, pages / 4, child_seed);
}

KSM_TEST(exit, processes_killed_while_ksmd_scans)
{
	void *area = area_new(40, 40, self->seed);
	struct ksm_child child[CHILDREN];

	child_seed = self->seed;
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	for (int round = 0; round < 8; round++) {
		for (int i = 0; i < CHILDREN; i++) {
			ASSERT_EQ(0, ksm_child_start(&child[i]));
			ASSERT_EQ(0, ksm_child_post(&child[i], child_load, 160));
		}
		usleep(round * 7000);
		for (int i = 0; i < CHILDREN; i++)
			ksm_child_kill(&child[i]);
		EXPECT_EQ(0, area_wrong(area, 40, 40, self->seed));
	}
	EXPECT_EQ(0, ksm_wait_value("pages_sharing", 0));
	EXPECT_EQ(0, ksm_wait_passes(3));
	ASSERT_EQ(0, ksm_stop());
	/* What had an equal once stays a KSM page, mapped once. */
	EXPECT_EQ(40, ksm_get("pages_unshared") + ksm_get("pages_shared"));
	EXPECT_EQ(0, ksm_get("pages_sharing"));
	EXPECT_EQ(own_merging_pages(), ksm_get("pages_shared"));
}

/* The very last registered process goes: ksmd has nothing left to look at. */
KSM_TEST(exit, the_last_process_goes)
{
	struct ksm_child child;

	child_seed = self->seed;
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	for (int round = 0; round < 30; round++) {
		ASSERT_EQ(0, ksm_child_start(&child));
		ASSERT_EQ(0, ksm_child_call(&child, child_load, 8));
		usleep(round * 300);
		ksm_child_kill(&child);
	}
	EXPECT_EQ(0, ksm_wait_value("pages_shared", 0));
	EXPECT_EQ(0, ksm_wait_value("pages_unshared", 0));
}

/* An exit has not to wait for a pass, nor for a ksmd that sleeps for long. */
KSM_TEST(exit, does_not_wait_for_ksmd)
{
	struct ksm_child child;
	double start;

	child_seed = self->seed;
	ASSERT_EQ(0, ksm_child_start(&child));
	ASSERT_EQ(0, ksm_child_call(&child, child_load, 400));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(0, ksm_set("pages_to_scan", 10));
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 100000));
	ASSERT_EQ(0, ksm_start());
	usleep(100000);
	start = ksm_now();
	EXPECT_EQ(0, ksm_child_end(&child));
	EXPECT_GT(20.0, ksm_now() - start);
	ASSERT_EQ(0, ksm_set("pages_to_scan", 20000));
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 1));
	EXPECT_EQ(0, ksm_wait_value("pages_shared", 0));
}

#define FORKS	4
#define KILLS_S	3

/* Shares with its parent, breaks some of that, and has what merges anew: until it is killed. */
static void victim(void *area, uint64_t seed)
{
	content_fill(area_page(area, 1), seed, 1);
	area_new(32, 8, seed + 1);
	for (;;)
		pause();
}

/* Kill as many as this machine can start, print how many that are, return the longest wait. */
static double kill_some(struct __test_metadata *_metadata, void *area, uint64_t seed,
			const char *when)
{
	double start, longest = 0, end = ksm_now() + KILLS_S;
	pid_t pid[FORKS] = { 0 };
	unsigned int kills = 0;

	for (unsigned int i = 0; ksm_now() < end; i = (i + 1) % FORKS) {
		if (pid[i]) {
			start = ksm_now();
			ASSERT_EQ(0, kill(pid[i], SIGKILL));
			ASSERT_EQ(pid[i], waitpid(pid[i], NULL, 0));
			longest = ksm_now() - start > longest ? ksm_now() - start : longest;
			kills++;
		}
		pid[i] = fork();
		ASSERT_LE(0, pid[i]);
		if (!pid[i])
			victim(area, seed);
	}
	for (int i = 0; i < FORKS && pid[i]; i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
	ksft_print_msg("%s: %.0f killed per second, the longest took %.1f ms\n", when,
		       kills / (double)KILLS_S, longest * 1000);
	return longest;
}

static void *unmerge_now_and_then(void *unused)
{
	while (!ksm_set("run", 2) && !ksm_start())
		usleep(200000);
	return NULL;
}

KSM_TEST(exit, killed_one_after_the_other)
{
	void *area = area_new(64, 16, self->seed);
	pthread_t unmerger;
	int64_t before;

	ASSERT_NE(NULL, area);
	before = ksm_get("general_profit");
	kill_some(_metadata, area, self->seed, "ksmd stopped");
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 1));
	ASSERT_EQ(0, ksm_start());
	EXPECT_GT(5.0, kill_some(_metadata, area, self->seed, "ksmd scans"));
	ASSERT_EQ(0, pthread_create(&unmerger, NULL, unmerge_now_and_then, NULL));
	EXPECT_GT(5.0, kill_some(_metadata, area, self->seed, "and unmerges"));
	ASSERT_EQ(0, pthread_cancel(unmerger));
	ASSERT_EQ(0, pthread_join(unmerger, NULL));
	EXPECT_EQ(0, area_wrong(area, 64, 16, self->seed));
	ASSERT_EQ(0, ksm_unmerge());
	ASSERT_EQ(0, munmap(area, 64 * page_bytes()));
	ASSERT_EQ(0, ksm_passes(2));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, ksm_get("pages_unshared"));
	ASSERT_EQ(0, ksm_unmerge());
	EXPECT_EQ(before, ksm_get("general_profit"));
}

/* With run=0 no ksmd ever comes by to free what the dead leave behind. */
KSM_TEST(exit, memory_comes_back_while_ksmd_is_stopped)
{
	int64_t before = ksm_file_field("/proc/meminfo", "AnonPages"), kb;
	struct ksm_child child;

	child_seed = self->seed;
	ASSERT_EQ(0, ksm_child_start(&child));
	ASSERT_EQ(0, ksm_child_call(&child, child_load, 4000));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(1000, ksm_get("pages_shared"));
	kb = ksm_file_field("/proc/meminfo", "AnonPages");
	EXPECT_LT(before + 2000, kb);
	EXPECT_EQ(0, ksm_child_end(&child));
	/* 1,000 pages, less what the per-processor counters hide. */
	EXPECT_GT(kb - 2000, ksm_file_field("/proc/meminfo", "AnonPages"));
}

/* Nor does what was remembered of their pages stay. */
KSM_TEST(exit, nothing_is_remembered_of_the_dead)
{
	int64_t before = ksm_get("general_profit");
	struct ksm_child child;

	child_seed = self->seed;
	ASSERT_EQ(0, ksm_child_start(&child));
	ASSERT_EQ(0, ksm_child_call(&child, child_load, 400));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(100, ksm_get("pages_shared"));
	EXPECT_EQ(0, ksm_child_end(&child));
	ASSERT_EQ(0, ksm_unmerge());
	EXPECT_EQ(before, ksm_get("general_profit"));
}

static long child_exec(long arg)
{
	execl("/proc/self/exe", "ksm_exit", "-h", NULL);
	return -errno;
}

/* exec gives the old memory back, merged or not. */
KSM_TEST(exit, exec_of_merged_processes)
{
	struct ksm_child child;

	child_seed = self->seed;
	for (int round = 0; round < 4; round++) {
		ASSERT_EQ(0, ksm_child_start(&child));
		ASSERT_EQ(0, ksm_child_call(&child, child_load, 100));
		ASSERT_EQ(0, ksm_passes(4));
		ASSERT_EQ(25, ksm_get("pages_shared"));
		ASSERT_EQ(0, ksm_start());
		ASSERT_EQ(0, ksm_child_post(&child, child_exec, 0));
		EXPECT_EQ(0, ksm_wait_value("pages_shared", 0));
		ksm_child_kill(&child);
	}
}

KSM_TEST_MAIN
