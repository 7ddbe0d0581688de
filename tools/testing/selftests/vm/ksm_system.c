// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: a part of the machine goes in the middle of a
 * pass, and comes back. ksmd goes on meanwhile and afterwards.
 */
#define _GNU_SOURCE
#include <stdio.h>

#include "ksm_test.h"

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

KSM_TEST_MAIN
