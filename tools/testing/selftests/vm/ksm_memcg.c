// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: what memory cgroups are charged with. A merged
 * page is charged once, to the cgroup whose page it was; copies are charged to
 * who writes; and a cgroup that is gone holds nothing for long.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/mman.h>

#include "ksm_disk.h"
#include "ksm_test.h"

#define GROUPS		"/sys/fs/cgroup/"
#define CONTENTS	128
#define PAGES		(4 * CONTENTS)

/* Stacks and the like come and go. */
#define NEAR		16

#define EXPECT_NEAR(want, ...)							\
	do {									\
		int64_t __want = (want), __got;					\
										\
		__got = charged_settles(__want, (char[]){ __VA_ARGS__, 0 });	\
		EXPECT_GE(NEAR, llabs(__want - __got))				\
			TH_LOG("want %lld, got %lld", (long long)__want,	\
			       (long long)__got);				\
	} while (0)

KSM_FIXTURE(memcg)

static uint64_t child_seed;
static char *child_area;

static long enter(long group)
{
	char name[16];

	snprintf(name, sizeof(name), "ksm_test_%c", (char)group);
	return ksm_cgroup_enter(name);
}

static void remove_group(char group)
{
	char name[16];

	snprintf(name, sizeof(name), "ksm_test_%c", group);
	ksm_cgroup_leave(name);
}

/* Pages of anonymous memory that a cgroup is charged with. */
static int64_t charged(char group)
{
	char path[64];

	snprintf(path, sizeof(path), GROUPS "ksm_test_%c/memory.stat", group);
	return ksm_file_field(path, "anon") / (int64_t)page_bytes();
}

/*
 * The same for several cgroups together, once it is near what is wanted. The kernel lets
 * memory.stat be off by 64 pages a processor, and brings it up to date every 2 seconds.
 */
static int64_t charged_settles(int64_t want, const char *groups)
{
	double end = ksm_now() + 10;
	int64_t sum;

	do {
		sum = 0;
		for (const char *group = groups; *group; group++)
			sum += charged(*group);
		if (llabs(sum - want) <= NEAR)
			break;
		usleep(100000);
	} while (ksm_now() < end);
	return sum;
}

static long load(long pages)
{
	child_area = area_new(pages, CONTENTS, child_seed);
	return !child_area;
}

static long free_all(long pages)
{
	return munmap(child_area, pages * page_bytes());
}

static long write_all(long pages)
{
	for (long i = 0; i < pages; i++)
		child_area[i * page_bytes() + 7] ^= 1;
	return 0;
}

static long wrong(long pages)
{
	return area_wrong(child_area, pages, CONTENTS, child_seed);
}

/* A process in a cgroup of its own; what it is charged with already. */
static int64_t start_in(struct __test_metadata *_metadata, struct ksm_child *child, char group)
{
	ASSERT_EQ(0, ksm_child_start(child));
	if (ksm_child_call(child, enter, group))
		return KSM_NOTHING;
	return charged(group);
}

KSM_TEST(memcg, one_cgroup_pays_for_what_it_holds)
{
	struct ksm_child child;
	int64_t base;

	child_seed = self->seed;
	base = start_in(_metadata, &child, 'a');
	if (base == KSM_NOTHING)
		SKIP(return, "no memory cgroup");
	ASSERT_EQ(0, ksm_child_call(&child, load, PAGES));
	EXPECT_NEAR(base + PAGES, 'a');
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(CONTENTS, ksm_get("pages_shared"));
	EXPECT_NEAR(base + CONTENTS, 'a');
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_NEAR(base + PAGES, 'a');
	ASSERT_EQ(0, ksm_child_call(&child, free_all, PAGES));
	EXPECT_NEAR(base, 'a');
	EXPECT_EQ(0, ksm_child_end(&child));
	EXPECT_NEAR(0, 'a');
	remove_group('a');
}

KSM_TEST(memcg, two_cgroups_pay_once)
{
	struct ksm_child a, b;
	int64_t base_a, base_b;

	child_seed = self->seed;
	base_a = start_in(_metadata, &a, 'a');
	if (base_a == KSM_NOTHING)
		SKIP(return, "no memory cgroup");
	base_b = start_in(_metadata, &b, 'b');
	ASSERT_EQ(0, ksm_child_call(&a, load, CONTENTS));
	ASSERT_EQ(0, ksm_child_call(&b, load, CONTENTS));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(CONTENTS, ksm_get("pages_shared"));
	EXPECT_NEAR(base_a + base_b + CONTENTS, 'a', 'b');

	/* Who writes pays for the copies; the other keeps what there was. */
	ASSERT_EQ(0, ksm_child_call(&b, write_all, CONTENTS));
	EXPECT_NEAR(base_a + base_b + 2 * CONTENTS, 'a', 'b');
	EXPECT_LE(base_b + CONTENTS - NEAR, charged('b'));
	EXPECT_EQ(0, ksm_child_call(&a, wrong, CONTENTS));
	EXPECT_EQ(CONTENTS, ksm_child_call(&b, wrong, CONTENTS));
	EXPECT_EQ(0, ksm_child_end(&a));
	EXPECT_EQ(0, ksm_child_end(&b));
	EXPECT_NEAR(0, 'a');
	EXPECT_NEAR(0, 'b');
	remove_group('a');
	remove_group('b');
}

static int64_t dying(void)
{
	return ksm_file_field(GROUPS "cgroup.stat", "nr_dying_descendants");
}

/* The owner of the merged pages goes, and its cgroup with it. */
KSM_TEST(memcg, a_cgroup_goes_while_others_map_its_pages)
{
	int64_t before;
	struct ksm_child a, b;
	double end;

	child_seed = self->seed;
	if (start_in(_metadata, &a, 'a') == KSM_NOTHING)
		SKIP(return, "no memory cgroup");
	ASSERT_NE(KSM_NOTHING, start_in(_metadata, &b, 'b'));
	before = dying();
	ASSERT_EQ(0, ksm_child_call(&a, load, CONTENTS));
	ASSERT_EQ(0, ksm_child_call(&b, load, CONTENTS));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(CONTENTS, ksm_get("pages_shared"));
	EXPECT_EQ(0, ksm_child_end(&a));
	remove_group('a');
	EXPECT_NE(0, access(GROUPS "ksm_test_a", F_OK));
	ASSERT_EQ(0, ksm_passes(2));
	EXPECT_EQ(0, ksm_child_call(&b, wrong, CONTENTS));
	ASSERT_EQ(0, ksm_child_call(&b, write_all, CONTENTS));
	EXPECT_EQ(0, ksm_child_end(&b));
	remove_group('b');
	end = ksm_now() + 30;
	while (dying() > before && ksm_now() < end) {
		ksm_file_write("/proc/sys/vm/drop_caches", "3");
		usleep(200000);
	}
	EXPECT_GE(before, dying());
}

static long pages_out(long pages)
{
	return area_count(child_area, pages, PAGEMAP_SWAP);
}

static long pfn_of(long i)
{
	return page_pfn(child_area + i * page_bytes());
}

/* Swap-in maps a page for the first who comes, and copies it for the other: both are paid for. */
KSM_TEST(memcg, copies_of_what_was_in_swap_are_paid_for)
{
	int64_t base_a, base_b, copies = vmstat_field("ksm_swpin_copy");
	double end = ksm_now() + 20;
	struct ksm_child a, b;
	const char *device;
	size_t frames = 0;

	child_seed = self->seed;
	base_a = start_in(_metadata, &a, 'a');
	if (base_a == KSM_NOTHING)
		SKIP(return, "no memory cgroup");
	device = ksm_swap_on(KSM_SWAP_ZRAM);
	if (!device)
		SKIP(return, "no zram to swap to");
	base_b = start_in(_metadata, &b, 'b');
	ASSERT_EQ(0, ksm_child_call(&a, load, CONTENTS));
	ASSERT_EQ(0, ksm_child_call(&b, load, CONTENTS));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(CONTENTS, ksm_get("pages_shared"));
	while (ksm_child_call(&b, pages_out, CONTENTS) < CONTENTS / 2 && ksm_now() < end) {
		ksm_cgroup_set("ksm_test_a", "memory.reclaim", "1M");
		ksm_cgroup_set("ksm_test_b", "memory.reclaim", "1M");
		usleep(10000);
	}
	ASSERT_LE(CONTENTS / 2, ksm_child_call(&b, pages_out, CONTENTS));
	EXPECT_EQ(0, ksm_child_call(&b, wrong, CONTENTS));
	EXPECT_EQ(0, ksm_child_call(&a, wrong, CONTENTS));
	EXPECT_LT(copies, vmstat_field("ksm_swpin_copy"));
	for (long i = 0; i < CONTENTS; i++) {
		frames++;
		if (ksm_child_call(&a, pfn_of, i) != ksm_child_call(&b, pfn_of, i))
			frames++;
	}
	EXPECT_LT(CONTENTS, frames);
	EXPECT_NEAR(base_a + base_b + frames, 'a', 'b');
	/* Merged again, they are paid for once. */
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_EQ(CONTENTS, ksm_get("pages_shared"));
	EXPECT_NEAR(base_a + base_b + CONTENTS, 'a', 'b');
	EXPECT_EQ(0, ksm_child_end(&a));
	EXPECT_EQ(0, ksm_child_end(&b));
	EXPECT_NEAR(0, 'a');
	EXPECT_NEAR(0, 'b');
	remove_group('a');
	remove_group('b');
	EXPECT_EQ(0, ksm_swap_off(device));
}

KSM_TEST_MAIN
