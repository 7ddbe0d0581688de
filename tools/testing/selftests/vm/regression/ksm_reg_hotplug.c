// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: memory is plugged and unplugged. What is
 * unplugged has no struct pages any more, so that nothing may still point
 * there. Needs a virtio-mem device, whose memory is movable and the only one
 * that is, and somebody at the other end of a serial line who changes its size
 * (scripts/hotplug.py).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <termios.h>

#include "ksm_test.h"

#define DRIVER	"/sys/bus/virtio/drivers/virtio_mem"
#define LINE	"/dev/ttyS2"
#define MIB	512
#define PAGES	1600
#define DISTINCT (PAGES / 4)
#define FIRST_PLUGGED (4ULL << 30)	/* behind all that the machine began with */
#define ROUNDS	3

KSM_FIXTURE(reg_hotplug)

static int line = -1;

/* Raw, as what is written would come back else. */
static bool line_open(void)
{
	struct termios raw;

	if (access(DRIVER, R_OK))
		return false;
	line = open(LINE, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (line < 0 || tcgetattr(line, &raw))
		return false;
	cfmakeraw(&raw);
	return !tcsetattr(line, TCSANOW, &raw);
}

/* How many MiB there are when it has been done, or could not be. */
static long plug(int mib)
{
	struct pollfd there = { .fd = line, .events = POLLIN };
	char text[32];
	size_t n = 0;

	if (dprintf(line, "%d\n", mib) < 0)
		return -errno;
	while (n < sizeof(text) - 1 && poll(&there, 1, 1000 * ksm_wait_seconds()) == 1 &&
	       read(line, &text[n], 1) == 1 && text[n] != '\n')
		n++;
	text[n] = '\0';
	return n ? atol(text) : -ETIMEDOUT;
}

static size_t pages_plugged(void *area)
{
	size_t found = 0;

	for (size_t i = 0; i < PAGES; i++)
		found += page_pfn(area_page(area, i)) * page_bytes() >= FIRST_PLUGGED;
	return found;
}

static void expect_merged(struct __test_metadata *_metadata, void *area, uint64_t seed)
{
	EXPECT_EQ(DISTINCT, area_frames(area, PAGES));
	EXPECT_EQ(DISTINCT, ksm_get("pages_shared"));
	EXPECT_EQ(0, area_wrong(area, PAGES, DISTINCT, seed));
}

/* Merged pages in memory that has just been plugged. */
static void *merged(struct __test_metadata *_metadata, uint64_t seed)
{
	void *area;

	ASSERT_EQ(MIB, plug(MIB));
	area = area_new(PAGES, DISTINCT, seed);
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(DISTINCT, area_frames(area, PAGES));
	ASSERT_EQ(PAGES, pages_plugged(area));
	return area;
}

KSM_TEST(reg_hotplug, merged_pages_leave_what_is_unplugged)
{
	void *area;

	if (!line_open())
		SKIP(return, "no memory that can be unplugged");
	area = merged(_metadata, self->seed);
	ASSERT_EQ(0, plug(0));
	EXPECT_EQ(0, ksm_validate());
	EXPECT_EQ(0, pages_plugged(area));
	expect_merged(_metadata, area, self->seed);
	EXPECT_EQ(0, ksm_passes(4));
	expect_merged(_metadata, area, self->seed);
}

/* They are freed behind ksmd's back. It knows the frames still, when there are none. */
KSM_TEST(reg_hotplug, freed_pages_are_forgotten)
{
	void *area;

	if (!line_open())
		SKIP(return, "no memory that can be unplugged");
	area = merged(_metadata, self->seed);
	ASSERT_EQ(0, madvise(area, PAGES * page_bytes(), MADV_DONTNEED));
	ASSERT_EQ(0, plug(0));
	EXPECT_EQ(0, ksm_validate());
	area_fill(area, PAGES, DISTINCT, self->seed);
	EXPECT_EQ(0, ksm_passes(4));
	expect_merged(_metadata, area, self->seed);
}

static void *load_area;
static uint64_t load_seed;

/* Writes, frees and fills until it is told to end. */
static long load(long rounds)
{
	size_t wrong = 0;

	load_area = area_new(PAGES, DISTINCT, load_seed);
	if (!load_area)
		return -ENOMEM;
	for (long round = 0; round < rounds; round++) {
		void *part = area_page(load_area, round * 7 % (PAGES / 2));

		madvise(part, 64 * page_bytes(), MADV_DONTNEED);
		area_fill(load_area, PAGES, DISTINCT, load_seed);
		usleep(1000);
		wrong += area_wrong(load_area, PAGES, DISTINCT, load_seed);
	}
	return wrong;
}

KSM_TEST(reg_hotplug, again_and_again_while_pages_merge_and_break)
{
	struct ksm_child child;
	void *area;

	if (!line_open())
		SKIP(return, "no memory that can be unplugged");
	load_seed = self->seed;
	area = merged(_metadata, self->seed);
	ASSERT_EQ(0, ksm_child_start(&child));
	ASSERT_EQ(0, ksm_start());
	for (int round = 0; round < ROUNDS; round++) {
		ASSERT_EQ(0, ksm_child_post(&child, load, 50));
		EXPECT_EQ(0, plug(0));
		EXPECT_EQ(0, pages_plugged(area));
		EXPECT_EQ(0, area_wrong(area, PAGES, DISTINCT, self->seed));
		EXPECT_EQ(MIB, plug(MIB));
		EXPECT_EQ(0, ksm_child_result(&child));
	}
	EXPECT_EQ(0, ksm_child_end(&child));
	ASSERT_EQ(0, ksm_passes(4));
	expect_merged(_metadata, area, self->seed);
	EXPECT_EQ(0, plug(0));
}

KSM_TEST_MAIN
