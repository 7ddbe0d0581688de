// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: a part of the machine goes in the middle of a
 * pass, and comes back. ksmd goes on meanwhile and afterwards.
 */
#define _GNU_SOURCE
#include <stdio.h>

#include "ksm_disk.h"
#include "ksm_test.h"

#define PM_TEST_DELAY	"/sys/module/suspend/parameters/pm_test_delay"
#define CONTENTS	64
#define PAGES		(16 * CONTENTS)

KSM_FIXTURE(system)

/* Slow enough that a pass lasts, and quick enough to see one end. */
static void *busy_scanner(struct __test_metadata *_metadata, uint64_t seed)
{
	void *area = area_new(PAGES, CONTENTS, seed);

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_set("pages_to_scan", 100));
	ASSERT_EQ(0, ksm_start());
	ASSERT_EQ(0, ksm_wait_passes(1));
	return area;
}

KSM_TEST(system, processors_come_and_go)
{
	static const char online[] = "/sys/devices/system/cpu/cpu1/online";
	char *area = busy_scanner(_metadata, self->seed);
	int ret = 0;

	if (access(online, W_OK))
		SKIP(return, "needs a second processor that can go offline");
	for (int round = 0; round < 10; round++) {
		ret |= ksm_file_write(online, "0");
		*(volatile char *)&area[round * page_bytes()] ^= 1;
		ret |= ksm_wait_passes(1);
		*(volatile char *)&area[round * page_bytes()] ^= 1;
		ret |= ksm_file_write(online, "1");
	}
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, ksm_wait_passes(4));
	ASSERT_EQ(0, ksm_stop());
	EXPECT_EQ(CONTENTS, area_frames(area, PAGES));
	EXPECT_EQ(0, area_wrong(area, PAGES, CONTENTS, self->seed));
}

/* Suspend as far as pm_test says, wait for a second there, and resume. */
static int suspend_to(const char *pm_test)
{
	int ret = ksm_file_write("/sys/power/pm_test", pm_test);

	if (!ret)
		ret = ksm_file_write(PM_TEST_DELAY, "1");
	if (!ret)
		ret = ksm_file_write("/sys/power/state", "freeze");
	ksm_file_write("/sys/power/pm_test", "none");
	return ret;
}

/* Freezing fails if anything doesn't go to sleep: ksmd in the middle of a pass, for one. */
KSM_TEST(system, suspended_in_the_middle_of_a_pass)
{
	static const char *const how_far[] = { "freezer", "freezer", "devices", "platform" };
	char *area = busy_scanner(_metadata, self->seed);
	size_t i;

	if (access("/sys/power/pm_test", W_OK))
		SKIP(return, "needs a kernel that can test suspending");
	for (i = 0; i < ARRAY_SIZE(how_far); i++) {
		EXPECT_EQ(0, suspend_to(how_far[i])) TH_LOG("%s", how_far[i]);
		*(volatile char *)&area[i * page_bytes()] ^= 1;
		EXPECT_EQ(0, ksm_wait_passes(1));
		*(volatile char *)&area[i * page_bytes()] ^= 1;
	}
	EXPECT_EQ(0, ksm_wait_passes(4));
	ASSERT_EQ(0, ksm_stop());
	EXPECT_EQ(CONTENTS, area_frames(area, PAGES));
	EXPECT_EQ(0, area_wrong(area, PAGES, CONTENTS, self->seed));
}

/*
 * All memory is written to a disk and read back, as if the machine had been
 * off: merged pages are where they were.
 */
KSM_TEST(system, hibernated_in_the_middle_of_a_pass)
{
	char *area = busy_scanner(_metadata, self->seed);
	const char *swap;

	if (ksm_file_write("/sys/power/disk", "test_resume"))
		SKIP(return, "needs a kernel that can test hibernation");
	swap = ksm_swap_on(KSM_SWAP_DISK);
	if (!swap)
		SKIP(return, "no empty disk to swap to");
	EXPECT_EQ(0, ksm_file_write("/sys/power/image_size", "0"));
	EXPECT_EQ(0, ksm_file_write("/sys/power/state", "disk"));
	/* Some had to go to swap, to make room for the image, and come back as copies. */
	EXPECT_EQ(0, area_wrong(area, PAGES, CONTENTS, self->seed));
	*(volatile char *)area ^= 1;
	EXPECT_EQ(0, ksm_wait_passes(1));
	*(volatile char *)area ^= 1;
	EXPECT_EQ(0, ksm_wait_passes(8));
	ASSERT_EQ(0, ksm_stop());
	EXPECT_EQ(CONTENTS, area_frames(area, PAGES));
	EXPECT_EQ(0, area_wrong(area, PAGES, CONTENTS, self->seed));
	EXPECT_EQ(0, ksm_swap_off(swap));
}

/* One that is stopped, or has no memory to look at, freezes too. */
KSM_TEST(system, suspended_while_ksmd_has_nothing_to_do)
{
	if (access("/sys/power/pm_test", W_OK))
		SKIP(return, "needs a kernel that can test suspending");
	EXPECT_EQ(0, suspend_to("freezer"));
	ASSERT_EQ(0, ksm_start());
	EXPECT_EQ(0, suspend_to("freezer"));
	ASSERT_EQ(0, ksm_stop());
}

KSM_TEST_MAIN_KEEPING(PM_TEST_DELAY, "/sys/power/disk", "/sys/power/image_size")
