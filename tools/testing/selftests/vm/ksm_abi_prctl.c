// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: prctl(PR_SET_MEMORY_MERGE) and
 * prctl(PR_GET_MEMORY_MERGE), over fork, exec and new mappings.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "ksm_test.h"

/* Set for the program that test_exec() starts: it only answers. */
#define ANSWER_ENV "KSM_ANSWER_MEMORY_MERGE"

static int set_merge(unsigned long on)
{
	return prctl(PR_SET_MEMORY_MERGE, on, 0, 0, 0) ? -errno : 0;
}

static int get_merge(void)
{
	int ret = prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0);

	return ret < 0 ? -errno : ret;
}

static int set_odd(unsigned long a, unsigned long b, unsigned long c)
{
	return prctl(PR_SET_MEMORY_MERGE, 1, a, b, c) ? -errno : 0;
}

static int get_odd(unsigned long a, unsigned long b, unsigned long c,
		   unsigned long d)
{
	int ret = prctl(PR_GET_MEMORY_MERGE, a, b, c, d);

	return ret < 0 ? -errno : ret;
}

KSM_FIXTURE(prctl)

KSM_TEST(prctl, off_by_default_and_any_non_zero_value_enables)
{
	EXPECT_EQ(0, get_merge());
	EXPECT_EQ(0, set_merge(5));
	EXPECT_EQ(1, get_merge());
	EXPECT_EQ(0, set_merge(1));
	EXPECT_EQ(1, get_merge());
	EXPECT_EQ(0, set_merge(0));
	EXPECT_EQ(0, get_merge());
	EXPECT_EQ(0, set_merge(0));
}

KSM_TEST(prctl, unused_arguments_have_to_be_zero)
{
	EXPECT_EQ(-EINVAL, set_odd(1, 0, 0));
	EXPECT_EQ(-EINVAL, set_odd(0, 1, 0));
	EXPECT_EQ(-EINVAL, set_odd(0, 0, 1));
	EXPECT_EQ(0, get_merge());
	EXPECT_EQ(-EINVAL, get_odd(1, 0, 0, 0));
	EXPECT_EQ(-EINVAL, get_odd(0, 1, 0, 0));
	EXPECT_EQ(-EINVAL, get_odd(0, 0, 1, 0));
	EXPECT_EQ(-EINVAL, get_odd(0, 0, 0, 1));
}

KSM_TEST(prctl, areas_of_before_and_after_are_marked)
{
	void *old = area_map(4), *new;

	ASSERT_NE(NULL, old);
	ASSERT_EQ(0, set_merge(1));
	EXPECT_TRUE(area_vmflag(old, "mg"));
	new = area_map(4);
	ASSERT_NE(NULL, new);
	EXPECT_TRUE(area_vmflag(new, "mg"));
	ASSERT_EQ(0, set_merge(0));
	EXPECT_FALSE(area_vmflag(old, "mg"));
	EXPECT_FALSE(area_vmflag(new, "mg"));
}

KSM_TEST(prctl, pages_merge_without_madvise_and_unmerge_when_off)
{
	void *area = area_map(32);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, set_merge(1));
	area_fill(area, 32, 4, self->seed);
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(4, area_frames(area, 32));
	EXPECT_LE(32, own_merging_pages());
	ASSERT_EQ(0, set_merge(0));
	EXPECT_EQ(32, area_frames(area, 32));
	EXPECT_EQ(0, area_smaps(area, "KSM"));
	/* At the latest when ksmd has come by again. */
	EXPECT_EQ(0, ksm_wait_quiet());
	EXPECT_EQ(0, own_merging_pages());
	EXPECT_EQ(0, area_wrong(area, 32, 4, self->seed));
}

KSM_TEST(prctl, unmergeable_works_while_on)
{
	void *area = area_map(8);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, set_merge(1));
	area_fill(area, 8, 2, self->seed);
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(2, area_frames(area, 8));
	ASSERT_EQ(0, madvise(area, 8 * page_bytes(), MADV_UNMERGEABLE));
	EXPECT_EQ(8, area_frames(area, 8));
	EXPECT_EQ(1, get_merge());
	EXPECT_EQ(0, area_wrong(area, 8, 2, self->seed));
}

static long child_get(long arg)
{
	return get_merge();
}

static long child_new_area_is_marked(long arg)
{
	void *area = area_map(1);

	return area && area_vmflag(area, "mg");
}

KSM_TEST(prctl, survives_fork)
{
	struct ksm_child child;

	ASSERT_EQ(0, set_merge(1));
	ASSERT_EQ(0, ksm_child_start(&child));
	EXPECT_EQ(1, ksm_child_call(&child, child_get, 0));
	EXPECT_EQ(1, ksm_child_call(&child, child_new_area_is_marked, 0));
	EXPECT_EQ(0, ksm_child_end(&child));
}

/* How many areas there are between two addresses, KSM_NOTHING if none is told. */
static int64_t areas_between(const void *from, const void *to)
{
	FILE *file = fopen("/proc/self/maps", "re");
	unsigned long start, end;
	char line[512];
	int64_t n = 0;

	if (!file)
		return KSM_NOTHING;
	while (fgets(line, sizeof(line), file))
		n += sscanf(line, "%lx-%lx ", &start, &end) == 2 &&
		     start < (uintptr_t)to && end > (uintptr_t)from;
	fclose(file);
	return n;
}

/* A page at a time, as small programs' heaps grow. */
KSM_TEST(prctl, areas_that_grow_stay_one_area)
{
	char *heap, *end, *area, *page;

	ASSERT_EQ(0, set_merge(1));
	heap = sbrk(page_bytes());
	ASSERT_NE((void *)-1, heap);
	end = heap + page_bytes();
	*heap = 1;
	for (int i = 0; i < 100; i++) {
		/* stdio takes of the heap, too. */
		page = sbrk(page_bytes());
		ASSERT_NE((void *)-1, page);
		*page = 1;
		end = page + page_bytes();
	}
	EXPECT_TRUE(area_vmflag(heap, "mg"));
	EXPECT_GE(2, areas_between(heap, end));

	area = area_map(100);
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, munmap(area, 100 * page_bytes()));
	for (int i = 0; i < 100; i++) {
		ASSERT_EQ(area + i * page_bytes(),
			  mmap(area + i * page_bytes(), page_bytes(),
			       PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
			       MAP_FIXED_NOREPLACE, -1, 0));
		area[i * page_bytes()] = 1;
	}
	EXPECT_TRUE(area_vmflag(area, "mg"));
	EXPECT_GE(2, areas_between(area, area + 100 * page_bytes()));
}

/* What a program that was started by exec says; negative: it did not run. */
static int answer_after_exec(void)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setenv(ANSWER_ENV, "1", 1);
		execl("/proc/self/exe", "ksm_abi_prctl", NULL);
		_exit(100);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

KSM_TEST(prctl, survives_exec)
{
	EXPECT_EQ(10, answer_after_exec());
	ASSERT_EQ(0, set_merge(1));
	/* Bit 0: PR_GET_MEMORY_MERGE; bit 1: a new area is marked. */
	EXPECT_EQ(13, answer_after_exec());
}

static long set_without_privilege(long arg)
{
	if (setgid(65534) || setuid(65534))
		return -1;
	return set_merge(1) ? -errno : get_merge();
}

KSM_TEST(prctl, needs_no_capability)
{
	struct ksm_child child;

	ASSERT_EQ(0, ksm_child_start(&child));
	EXPECT_EQ(1, ksm_child_call(&child, set_without_privilege, 0));
	EXPECT_EQ(0, ksm_child_end(&child));
}

static int answer(void)
{
	return 10 + (get_merge() == 1) + 2 * !!child_new_area_is_marked(0);
}

int main(int argc, char **argv)
{
	if (getenv(ANSWER_ENV))
		return answer();
	return ksm_test_main(argc, argv);
}
