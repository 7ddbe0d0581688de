// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging regressions: unmerging without the memory for it, and
 * while others take the memory away.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "ksm_disk.h"
#include "ksm_test.h"

#define CGROUP "ksm_memory_test"
#define LIMIT_MIB 8
#define PAGES 6000
#define OOM_PAGES 12288
#define LEFT_KIB 16384
#define WRITER_PAGES 3072
#define REAPED 4
#define HUGE_PAGES "/proc/sys/vm/nr_hugepages"
#define HOG_STEP (1 << 20)

#ifndef SYS_process_mrelease
#define SYS_process_mrelease 448
#endif

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

static long child_enter(long arg)
{
	return ksm_cgroup_enter(CGROUP);
}

static long child_is_alive(long arg)
{
	return 0;
}

/* Its largest process is killed for it, and only that one: its memory is there at once. */
KSM_TEST(memory, run_2_in_a_cgroup_that_is_too_small)
{
	struct ksm_child owner, writer, bystander;
	void *area = area_new(30, 3, self->seed);
	int64_t killed = vmstat_field("oom_kill");
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
	ASSERT_EQ(0, ksm_child_start(&bystander));
	ASSERT_EQ(0, ksm_child_call(&bystander, child_enter, 0));
	ASSERT_EQ(0, ksm_start());
	ASSERT_EQ(0, ksm_child_call(&owner, child_load_slowly, 0));
	ASSERT_EQ(0, ksm_wait_passes(4));
	ASSERT_LT(PAGES * 9 / 10, ksm_get("pages_sharing"));

	ret = ksm_child_call(&writer, run_2, 0);
	EXPECT_NE(KSM_CHILD_LOST, ret);
	EXPECT_TRUE(!ret || ret == -ENOMEM || ret == -EINTR)
		TH_LOG("run=2 gave %ld", ret);
	EXPECT_EQ(0, ksm_child_call(&bystander, child_is_alive, 0));
	EXPECT_EQ(killed + 1, vmstat_field("oom_kill"));
	ksm_child_kill(&owner);
	ksm_child_kill(&writer);
	ksm_child_kill(&bystander);
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, area_wrong(area, 30, 3, self->seed));
	ksm_cgroup_leave(CGROUP);
}

static long child_load(long pages)
{
	child_area = area_new(pages, 3, child_seed);
	return !child_area;
}

static long child_wrong(long pages)
{
	return area_wrong(child_area, pages, 3, child_seed);
}

static long child_is_not_to_be_killed(long unused)
{
	return ksm_file_write("/proc/self/oom_score_adj", "-1000");
}

/*
 * What can be had, with the free pages that are kept for each processor, up to
 * an eighth of all; and without those that a zone holds back for a while when
 * its blocks of pages get mixed.
 */
static int64_t left_kib(void)
{
	int64_t kib = meminfo_kib("MemAvailable");
	FILE *file = fopen("/proc/zoneinfo", "re");
	char line[128];
	int pages;

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, " count: %d", &pages) == 1)
			kib += (int64_t)pages * page_bytes() / 1024;
		else if (sscanf(line, " boost %d", &pages) == 1)
			kib -= (int64_t)pages * page_bytes() / 1024;
	if (file)
		fclose(file);
	return kib;
}

/*
 * Take memory until so many KiB are left, or none but for what a reserve or a
 * processor's list holds back; most of it as huge pages, which takes no time.
 */
static long take_memory_but(long kib)
{
	char text[32];
	char *at;

	snprintf(text, sizeof(text), "%lld", (long long)(left_kib() - kib) / 2048);
	if (ksm_file_write(HUGE_PAGES, text))
		return -EIO;
	while (left_kib() > kib && meminfo_kib("MemAvailable")) {
		at = mmap(NULL, HOG_STEP, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (at == MAP_FAILED)
			return -errno;
	}
	return 0;
}

static long child_populate(long pages)
{
	void *area = area_map(pages);

	return area ? madvise(area, pages * page_bytes(), MADV_POPULATE_WRITE) : -ENOMEM;
}

/*
 * The machine as a whole runs out. Who wrote the 2 is to be killed for it, and
 * nobody else: neither those who are unmerged, large as they are, nor the rest.
 */
KSM_TEST(memory, run_2_in_a_machine_that_is_too_small)
{
	struct ksm_child owner, hog, writer;
	int64_t killed = vmstat_field("oom_kill");
	int huge_pages;
	long ret;

	if (meminfo_kib("SwapTotal"))
		SKIP(return, "there is swap");
	/* Opened before: a name can't be looked up without memory. */
	huge_pages = open(HUGE_PAGES, O_WRONLY | O_CLOEXEC);
	ASSERT_LE(0, huge_pages);
	child_seed = self->seed;
	ASSERT_EQ(0, ksm_child_start(&owner));
	ASSERT_EQ(0, ksm_child_call(&owner, child_load, OOM_PAGES));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_LT(OOM_PAGES * 9 / 10, ksm_get("pages_sharing"));
	ASSERT_EQ(0, ksm_child_start(&writer));
	/* Its end leaves memory for the others, who would be next. It is smaller than the owner. */
	ASSERT_EQ(0, ksm_child_call(&writer, child_populate, WRITER_PAGES));
	ASSERT_EQ(0, ksm_child_start(&hog));
	ASSERT_EQ(0, ksm_child_call(&hog, child_is_not_to_be_killed, 0));
	ASSERT_EQ(0, ksm_child_call(&hog, take_memory_but, LEFT_KIB));

	ret = ksm_child_call(&writer, run_2, 0);
	ksm_child_kill(&hog);
	EXPECT_EQ(1, write(huge_pages, "0", 1));
	close(huge_pages);
	EXPECT_TRUE(ret == KSM_CHILD_LOST || ret < 0) TH_LOG("run=2 gave %ld", ret);
	EXPECT_EQ(killed + 1, vmstat_field("oom_kill"));
	EXPECT_EQ(0, ksm_get("run"));
	EXPECT_EQ(0, ksm_child_call(&owner, child_wrong, OOM_PAGES));
	ksm_child_kill(&writer);
	/* With memory it goes on from there. */
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, ksm_child_call(&owner, child_wrong, OOM_PAGES));
	ksm_child_kill(&owner);
}

/* Killed, reaped by another process and unmerged, all at the same time. */
KSM_TEST(memory, run_2_while_the_memory_of_the_dead_is_reaped)
{
	struct ksm_child owner, writer;
	void *area = area_new(30, 3, self->seed);
	int reaped = 0;

	ASSERT_NE(NULL, area);
	child_seed = self->seed;
	ASSERT_EQ(0, ksm_child_start(&writer));
	for (int round = 0; round < REAPED; round++) {
		int64_t broken;
		double end;
		int fd;

		ASSERT_EQ(0, ksm_child_start(&owner));
		ASSERT_EQ(0, ksm_child_call(&owner, child_load, PAGES));
		ASSERT_EQ(0, ksm_passes(4));
		fd = syscall(SYS_pidfd_open, owner.pid, 0);
		ASSERT_LE(0, fd);
		broken = vmstat_field("cow_ksm");
		ASSERT_EQ(0, ksm_child_post(&writer, run_2, 0));
		/* In another moment of it each time. */
		end = ksm_now() + ksm_wait_seconds();
		while (vmstat_field("cow_ksm") < broken + round * PAGES / REAPED &&
		       ksm_now() < end)
			;
		ASSERT_EQ(0, kill(owner.pid, SIGKILL));
		reaped += !syscall(SYS_process_mrelease, fd, 0);
		ksm_child_kill(&owner);
		EXPECT_EQ(0, ksm_child_result(&writer));
		EXPECT_EQ(0, ksm_get("pages_shared"));
		EXPECT_EQ(0, ksm_get("pages_sharing"));
		EXPECT_EQ(0, area_wrong(area, 30, 3, self->seed));
		close(fd);
	}
	ksft_print_msg("reaped %d times\n", reaped);
	EXPECT_LT(0, reaped);
	EXPECT_EQ(0, ksm_child_end(&writer));
}

KSM_TEST_MAIN_KEEPING(HUGE_PAGES)
