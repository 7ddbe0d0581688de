// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging regressions: processes that end while ksmd, run=2 or a
 * knob is at work on them. Each of these was a crash or a deadlock once; the
 * kernel's console says so when it is again, and the bytes of the survivors.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "ksm_test.h"

#define CHILDREN 5
#define WRITERS 3
#define KNOBS_SECONDS 4

KSM_FIXTURE(reg_exit)

static uint64_t child_seed;

static long child_load(long pages)
{
	return !area_new(pages, pages / 2, child_seed);
}

/* Unmap and map again, with zeroes, for as long as the parent lets it. */
static long child_churn(long rounds)
{
	while (rounds--) {
		char *area = area_map(16);

		if (!area)
			return -1;
		memset(area, 1, 16 * page_bytes());
		memset(area, 0, 16 * page_bytes());
		area_mergeable(area, 16);
		usleep(rounds % 5 * 1000);
		munmap(area, 16 * page_bytes());
	}
	return 0;
}

static void start_all(struct __test_metadata *_metadata, struct ksm_child *child,
		      ksm_child_fn fn, long arg)
{
	for (int i = 0; i < CHILDREN; i++) {
		ASSERT_EQ(0, ksm_child_start(&child[i]));
		ASSERT_EQ(0, ksm_child_post(&child[i], fn, arg));
	}
}

/* 2023: run=2 walked the VMAs of a process that was being torn down. */
KSM_TEST(reg_exit, run_2_against_exiting_processes)
{
	struct ksm_child child[CHILDREN];

	child_seed = self->seed;
	for (int round = 0; round < 6; round++) {
		start_all(_metadata, child, child_load, 60);
		for (int i = 0; i < CHILDREN; i++)
			ASSERT_EQ(0, ksm_child_result(&child[i]));
		ASSERT_EQ(0, ksm_start());
		usleep(round * 4000);
		for (int i = 0; i < CHILDREN; i++)
			kill(child[i].pid, SIGKILL);
		EXPECT_EQ(0, ksm_set("run", 2));
		for (int i = 0; i < CHILDREN; i++)
			ksm_child_kill(&child[i]);
		EXPECT_EQ(0, ksm_get("pages_shared"));
	}
}

/* 2011: the last mm exits as a pass starts; 2016: as the cursor leaves it. */
KSM_TEST(reg_exit, the_only_process_exits_again_and_again)
{
	struct ksm_child child;

	child_seed = self->seed;
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_set("pages_to_scan", 3));
	ASSERT_EQ(0, ksm_start());
	for (int round = 0; round < 60; round++) {
		ASSERT_EQ(0, ksm_child_start(&child));
		ASSERT_EQ(0, ksm_child_call(&child, child_load, 2 + round % 5));
		usleep(round % 9 * 300);
		EXPECT_EQ(0, ksm_child_end(&child));
	}
}

/* 2020: munmap during a scan that places zero pages. */
KSM_TEST(reg_exit, munmap_while_zero_pages_are_placed)
{
	struct ksm_child child[CHILDREN];

	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	start_all(_metadata, child, child_churn, 60);
	for (int i = 0; i < CHILDREN; i++)
		EXPECT_EQ(0, ksm_child_result(&child[i]));
	for (int i = 0; i < CHILDREN; i++)
		EXPECT_EQ(0, ksm_child_end(&child[i]));
	EXPECT_EQ(0, ksm_wait_value("ksm_zero_pages", 0));
}

/* EBUSY, never worse: knobs that shape the trees, while processes die. */
KSM_TEST(reg_exit, knobs_switched_while_processes_die)
{
	struct ksm_child child[CHILDREN];
	int ret;

	child_seed = self->seed;
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	for (int round = 0; round < 12; round++) {
		start_all(_metadata, child, child_load, 40);
		ASSERT_EQ(0, ksm_start());
		for (int i = 0; i < 20; i++) {
			if (i % 4 == 0)
				kill(child[i / 4].pid, SIGKILL);
			ret = ksm_set("max_page_sharing", 2 + i % 3);
			EXPECT_TRUE(!ret || ret == -EBUSY);
			if (ksm_has("merge_across_nodes")) {
				ret = ksm_set("merge_across_nodes", i % 2);
				EXPECT_TRUE(!ret || ret == -EBUSY);
			}
			usleep(500);
		}
		for (int i = 0; i < CHILDREN; i++)
			ksm_child_kill(&child[i]);
		EXPECT_EQ(0, ksm_set("run", 2));
		EXPECT_EQ(0, ksm_set("max_page_sharing", 2 + round % 5));
	}
}

/* Knobs, values and what may be said to them. */
static const struct {
	const char *file;
	const char *value[3];
	int busy;
} knobs[] = {
	{ "run", { "1", "1", "2" } },
	{ "max_page_sharing", { "2", "3", "256" }, -EBUSY },
	{ "merge_across_nodes", { "0", "1", "0" }, -EBUSY },
	{ "use_zero_pages", { "0", "1", "1" } },
	{ "smart_scan", { "0", "1", "1" } },
	{ "sleep_millisecs", { "0", "1", "20" } },
	{ "stable_node_chains_prune_millisecs", { "0", "1", "2000" } },
	{ "advisor_mode", { "none", "scan-time", "none" } },
	{ "pages_to_scan", { "10", "100", "1000" }, -EINVAL },	/* of the advisor's */
};

/* Writes them at random for a while; returns how often one was busy, or another error. */
static long child_knobs(long seed)
{
	double end = ksm_now() + KNOBS_SECONDS;
	unsigned int random = seed;
	long busy = 0;
	int ret;

	for (; ksm_now() < end; usleep(1000)) {
		int knob = rand_r(&random) % ARRAY_SIZE(knobs);

		if (!ksm_has(knobs[knob].file))
			continue;
		ret = ksm_write(knobs[knob].file, knobs[knob].value[rand_r(&random) % 3]);
		if (ret && ret != knobs[knob].busy)
			return ret;
		busy += !!ret;
	}
	return busy;
}

/* Some write all knobs at once, others merge and exit. */
KSM_TEST(reg_exit, knobs_written_by_many_at_once)
{
	struct ksm_child writer[WRITERS], child[CHILDREN];
	double end = ksm_now() + KNOBS_SECONDS;
	long ret, busy = 0;

	child_seed = self->seed;
	for (int i = 0; i < WRITERS; i++) {
		ASSERT_EQ(0, ksm_child_start(&writer[i]));
		ASSERT_EQ(0, ksm_child_post(&writer[i], child_knobs, self->seed + i));
	}
	while (ksm_now() < end) {
		start_all(_metadata, child, child_load, 40);
		usleep(100000);
		for (int i = 0; i < CHILDREN; i++)
			ksm_child_kill(&child[i]);
	}
	for (int i = 0; i < WRITERS; i++) {
		ret = ksm_child_result(&writer[i]);
		EXPECT_LE(0, ret);
		busy += ret;
		EXPECT_EQ(0, ksm_child_end(&writer[i]));
	}
	ksft_print_msg("busy %ld times\n", busy);
	EXPECT_LT(0, busy);
	EXPECT_EQ(0, ksm_set("run", 2));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, ksm_get("pages_sharing"));
	EXPECT_EQ(0, ksm_set("max_page_sharing", 256));
}

/* Hundreds of passes with exits in between: counters of passes wrap. */
KSM_TEST(reg_exit, hundreds_of_passes_with_exits)
{
	void *area = area_new(8, 4, self->seed);
	double end = ksm_now() + 20;
	struct ksm_child child;
	int round;

	child_seed = self->seed;
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	for (round = 0; round < 100 && ksm_now() < end; round++) {
		ASSERT_EQ(0, ksm_child_start(&child));
		ASSERT_EQ(0, ksm_child_call(&child, child_load, 8));
		ASSERT_EQ(0, ksm_wait_passes(3));
		ksm_child_kill(&child);
	}
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_LE(100, ksm_get("full_scans"));
	EXPECT_EQ(4, area_frames(area, 8));
	EXPECT_EQ(4, ksm_get("pages_shared"));
	EXPECT_EQ(4, ksm_get("pages_sharing"));
	EXPECT_EQ(0, area_wrong(area, 8, 4, self->seed));
}

static long child_lock_all(long flags)
{
	void *none = mmap(NULL, 64 * page_bytes(), PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (none == MAP_FAILED || !area_new(32, 4, child_seed) ||
	    madvise(none, 64 * page_bytes(), MADV_MERGEABLE))
		return -1;
	return mlockall(flags) ? -errno : 0;
}

/* Exit hung where it tried to fault in what must not be touched. */
KSM_TEST(reg_exit, exit_of_a_process_that_locked_all_its_memory)
{
	static const long flags[] = { MCL_CURRENT, MCL_FUTURE,
				      MCL_CURRENT | MCL_FUTURE };
	struct ksm_child child;

	child_seed = self->seed;
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, ksm_child_start(&child));
		ASSERT_EQ(0, ksm_child_call(&child, child_lock_all, flags[i]));
		ASSERT_EQ(0, ksm_passes(4));
		EXPECT_LE(4, ksm_get("pages_shared"));
		ASSERT_EQ(0, ksm_start());
		EXPECT_EQ(0, ksm_child_end(&child));
		EXPECT_EQ(0, ksm_wait_value("pages_shared", 0));
		ASSERT_EQ(0, ksm_stop());
	}
}

/* The setting got lost where exec met a ksmd that never sleeps. */
KSM_TEST(reg_exit, prctl_survives_exec_while_ksmd_runs)
{
	int status;
	pid_t pid;

	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	for (int round = 0; round < 40; round++) {
		pid = fork();
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0);
			setenv("KSM_ANSWER_MEMORY_MERGE", "1", 1);
			execl("/proc/self/exe", "ksm_reg_exit", NULL);
			_exit(100);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFEXITED(status));
		EXPECT_EQ(11, WEXITSTATUS(status));
	}
}

int main(int argc, char **argv)
{
	if (getenv("KSM_ANSWER_MEMORY_MERGE"))
		return 10 + prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0);
	return ksm_test_main(argc, argv);
}
