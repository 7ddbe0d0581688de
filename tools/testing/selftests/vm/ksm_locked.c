// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: memory that is locked in every way there is.
 * It is merged as other memory is, its pages stay on the unevictable list for
 * as long as somebody has locked them, and the accounts end where they began.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "ksm_test.h"

#define CONTENTS		8
#define PAGES			(4 * CONTENTS)
#define KPF_UNEVICTABLE_BIT	18

#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT		1
#endif
#ifndef MCL_ONFAULT
#define MCL_ONFAULT		4
#endif

FIXTURE(locked)
{
	uint64_t seed;
	int64_t mlocked;
	int64_t unevictable;
};

KSM_FIXTURE_STEPS(locked)

static void begin(int64_t *mlocked, int64_t *unevictable)
{
	ksm_file_write("/proc/sys/vm/compact_memory", "1");
	*mlocked = meminfo_kib("Mlocked");
	*unevictable = meminfo_kib("Unevictable");
}

#define EXPECT_AS_BEFORE()							\
	do {									\
		EXPECT_EQ(self->mlocked, settled("Mlocked", self->mlocked));	\
		EXPECT_EQ(self->unevictable,					\
			  settled("Unevictable", self->unevictable));		\
	} while (0)

static size_t unevictable_pages(const void *area)
{
	size_t n = 0;

	for (size_t i = 0; i < PAGES; i++)
		n += page_flags(page_pfn(area_page((void *)area, i))) >> KPF_UNEVICTABLE_BIT & 1;
	return n;
}

static size_t wait_unevictable(const void *area, size_t want)
{
	double end = ksm_now() + 10;

	while (unevictable_pages(area) != want && ksm_now() < end) {
		ksm_file_write("/proc/sys/vm/compact_memory", "1");
		usleep(50000);
	}
	return unevictable_pages(area);
}

/* Locked pages join a KSM page that nobody had locked, and leave it again. */
KSM_TEST(locked, merged_with_pages_that_are_not)
{
	void *plain = area_new(PAGES, CONTENTS, self->seed), *area;

	ASSERT_NE(NULL, plain);
	begin(&self->mlocked, &self->unevictable);
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(CONTENTS, area_frames(plain, PAGES));
	area = area_new(PAGES, CONTENTS, self->seed);
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, mlock(area, PAGES * page_bytes()));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_TRUE(pages_shared(area, plain));
	EXPECT_EQ(PAGES, wait_unevictable(area, PAGES));
	ASSERT_EQ(0, munlock(area, PAGES * page_bytes()));
	EXPECT_EQ(0, wait_unevictable(plain, 0));
	EXPECT_TRUE(pages_shared(area, plain));
	EXPECT_EQ(0, area_wrong(area, PAGES, CONTENTS, self->seed));
	EXPECT_EQ(0, area_wrong(plain, PAGES, CONTENTS, self->seed));
	EXPECT_AS_BEFORE();
}

KSM_TEST(locked, on_fault)
{
	char *area = area_map(PAGES);

	ASSERT_NE(NULL, area);
	begin(&self->mlocked, &self->unevictable);
	ASSERT_EQ(0, mlock2(area, PAGES * page_bytes(), MLOCK_ONFAULT));
	area_fill(area, PAGES, CONTENTS, self->seed);
	ASSERT_EQ(0, area_mergeable(area, PAGES));
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(CONTENTS, area_frames(area, PAGES));
	EXPECT_EQ(PAGES, wait_unevictable(area, PAGES));
	/* Copies are locked as well. */
	for (size_t i = 0; i < CONTENTS; i++)
		area[i * page_bytes()] ^= 1;
	EXPECT_EQ(PAGES, wait_unevictable(area, PAGES));
	ASSERT_EQ(0, ksm_set("run", 2));
	EXPECT_EQ(PAGES, area_frames(area, PAGES));
	EXPECT_EQ(PAGES, wait_unevictable(area, PAGES));
	ASSERT_EQ(0, munmap(area, PAGES * page_bytes()));
	EXPECT_AS_BEFORE();
}

static uint64_t child_seed;
static int child_flags;

static long lock_all(long arg)
{
	void *area;

	if (mlockall(child_flags))
		return -1;
	area = area_new(PAGES, CONTENTS, child_seed);
	return !area || mprotect(area, page_bytes(), PROT_NONE);
}

static void all_locked(struct __test_metadata *_metadata, uint64_t seed, int flags)
{
	struct ksm_child child[2];

	child_seed = seed;
	child_flags = flags;
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, ksm_child_start(&child[i]));
		ASSERT_EQ(0, ksm_child_call(&child[i], lock_all, 0));
	}
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(CONTENTS, ksm_get("pages_shared"));
	EXPECT_EQ(0, ksm_child_end(&child[0]));
	ASSERT_EQ(0, ksm_passes(2));
	EXPECT_EQ(CONTENTS, ksm_get("pages_shared"));
	ksm_child_kill(&child[1]);
}

KSM_TEST(locked, all_that_is_and_will_be)
{
	begin(&self->mlocked, &self->unevictable);
	all_locked(_metadata, self->seed, MCL_CURRENT | MCL_FUTURE);
	EXPECT_AS_BEFORE();
}

KSM_TEST(locked, all_on_fault)
{
	begin(&self->mlocked, &self->unevictable);
	all_locked(_metadata, self->seed, MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
	EXPECT_AS_BEFORE();
}

/* What is on its way to the unevictable list while it merges and breaks. */
KSM_TEST(locked, locked_and_unlocked_while_ksmd_merges)
{
	char *area = area_new(PAGES, CONTENTS, self->seed);
	double end = ksm_now() + 5;

	ASSERT_NE(NULL, area);
	begin(&self->mlocked, &self->unevictable);
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	for (unsigned int round = 0; ksm_now() < end; round++) {
		ASSERT_EQ(0, mlock(area, PAGES * page_bytes()));
		area[round % PAGES * page_bytes()] ^= 1;
		usleep(round % 7 * 500);
		ASSERT_EQ(0, munlock(area, PAGES * page_bytes()));
		area[round % PAGES * page_bytes()] ^= 1;
		usleep(round % 5 * 500);
	}
	ASSERT_EQ(0, ksm_stop());
	EXPECT_EQ(0, area_wrong(area, PAGES, CONTENTS, self->seed));
	EXPECT_EQ(0, wait_unevictable(area, 0));
	EXPECT_AS_BEFORE();
}

KSM_TEST_MAIN
