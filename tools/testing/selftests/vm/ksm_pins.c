// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: a page that a device or the kernel holds is
 * not merged, so that the holder and the owner go on seeing one page.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "ksm_disk.h"
#include "ksm_gup.h"
#include "ksm_test.h"

#define PAGES 16

KSM_FIXTURE(pins)

static void expect_not_merged(struct __test_metadata *_metadata, void *area)
{
	EXPECT_EQ(PAGES, area_frames(area, PAGES));
	EXPECT_EQ(0, ksm_get("pages_shared"));
	EXPECT_EQ(0, own_merging_pages());
}

static void pin_and_release(struct __test_metadata *_metadata, uint64_t seed,
			    uint32_t flags)
{
	void *area = area_new(PAGES, 1, seed), *seen = area_map(PAGES);
	struct gup_pin pin = {
		.addr = (uintptr_t)area,
		.size = PAGES * page_bytes(),
		.flags = flags,
	};
	uint64_t to = (uintptr_t)seen;
	int fd = open(GUP_TEST, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		SKIP(return, "no " GUP_TEST);
	ASSERT_NE(NULL, area);
	ASSERT_NE(NULL, seen);
	ASSERT_EQ(0, ioctl(fd, GUP_PIN_START, &pin));
	ASSERT_EQ(0, ksm_passes(5));
	expect_not_merged(_metadata, area);
	/* What the owner writes is what the holder of the pin reads. */
	area_fill(area, PAGES, 1, seed + 1);
	ASSERT_EQ(0, ksm_passes(3));
	ASSERT_EQ(0, ioctl(fd, GUP_PIN_READ, &to));
	EXPECT_EQ(0, area_wrong(seen, PAGES, 1, seed + 1));
	expect_not_merged(_metadata, area);
	ASSERT_EQ(0, ioctl(fd, GUP_PIN_STOP));
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_EQ(1, area_frames(area, PAGES));
	EXPECT_EQ(0, area_wrong(area, PAGES, 1, seed + 1));
	close(fd);
}

KSM_TEST(pins, pinned_for_reading)
{
	pin_and_release(_metadata, self->seed, 0);
}

KSM_TEST(pins, pinned_for_writing)
{
	pin_and_release(_metadata, self->seed, GUP_PIN_WRITE);
}

KSM_TEST(pins, pinned_for_writing_without_locks)
{
	pin_and_release(_metadata, self->seed, GUP_PIN_WRITE | GUP_PIN_FAST);
}

/* A pin that comes later takes a page of its own: the pinned one stays put. */
KSM_TEST(pins, pinning_merged_pages)
{
	void *area = area_new(PAGES, 1, self->seed), *seen = area_map(PAGES);
	struct gup_pin pin = {
		.addr = (uintptr_t)area,
		.size = PAGES / 2 * page_bytes(),
		.flags = GUP_PIN_WRITE,
	};
	uint64_t to = (uintptr_t)seen;
	int fd = open(GUP_TEST, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		SKIP(return, "no " GUP_TEST);
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(1, area_frames(area, PAGES));
	ASSERT_EQ(0, ioctl(fd, GUP_PIN_START, &pin));
	EXPECT_EQ(PAGES / 2 + 1, area_frames(area, PAGES));
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_EQ(PAGES / 2 + 1, area_frames(area, PAGES));
	area_fill(area, PAGES / 2, 1, self->seed + 1);
	ASSERT_EQ(0, ioctl(fd, GUP_PIN_READ, &to));
	EXPECT_EQ(0, area_wrong(seen, PAGES / 2, 1, self->seed + 1));
	EXPECT_EQ(0, area_wrong(area_page(area, PAGES / 2), PAGES / 2, 1,
				self->seed));
	ASSERT_EQ(0, ioctl(fd, GUP_PIN_STOP));
	close(fd);
}

KSM_TEST(pins, pages_in_a_pipe)
{
	void *area = area_new(PAGES, 1, self->seed);
	struct iovec vec = { area, PAGES * page_bytes() };
	char page[page_bytes()];
	int fds[2];

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, pipe(fds));
	ASSERT_EQ(PAGES * page_bytes(), vmsplice(fds[1], &vec, 1, 0));
	ASSERT_EQ(0, ksm_passes(5));
	expect_not_merged(_metadata, area);
	content_fill(area_page(area, 2), self->seed, 5);
	for (size_t i = 0; i < PAGES; i++) {
		ASSERT_EQ(page_bytes(), read(fds[0], page, page_bytes()));
		EXPECT_EQ(0, content_wrong(page, self->seed, i == 2 ? 5 : 0));
	}
	content_fill(area_page(area, 2), self->seed, 0);
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_EQ(1, area_frames(area, PAGES));
}

static int ring_call(int fd, unsigned int op, void *arg, unsigned int nr)
{
	return syscall(SYS_io_uring_register, fd, op, arg, nr) ? -errno : 0;
}

KSM_TEST(pins, registered_buffers_of_io_uring)
{
	struct io_uring_params params = { 0 };
	void *area = area_new(PAGES, 1, self->seed);
	struct iovec vec = { area, PAGES * page_bytes() };
	int fd = syscall(SYS_io_uring_setup, 4, &params);

	if (fd < 0)
		SKIP(return, "no io_uring");
	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, ring_call(fd, IORING_REGISTER_BUFFERS, &vec, 1));
	ASSERT_EQ(0, ksm_passes(5));
	expect_not_merged(_metadata, area);
	ASSERT_EQ(0, ring_call(fd, IORING_UNREGISTER_BUFFERS, NULL, 0));
	close(fd);
	/* The pages are let go of in the background. */
	ASSERT_EQ(0, ksm_start());
	EXPECT_EQ(0, ksm_wait_value("pages_sharing", PAGES - 1));
	ASSERT_EQ(0, ksm_stop());
	EXPECT_EQ(0, area_wrong(area, PAGES, 1, self->seed));
}

/* The disk's bytes are in the owner's pages after every single read. */
KSM_TEST(pins, o_direct_reads_race_with_merging)
{
	const char *disk = ksm_scratch_disk();
	size_t bytes = PAGES * page_bytes(), bad = 0;
	void *area = area_new(PAGES, 1, self->seed);
	unsigned int round;
	double end;
	int fd;

	if (!disk)
		SKIP(return, "no empty disk");
	ASSERT_NE(NULL, area);
	/* PAGES equal pages of one content, then PAGES of another. */
	ASSERT_EQ(0, ksm_disk_load(disk, PAGES, 1, self->seed + 1));
	fd = open(disk, O_RDONLY | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ksm_set("sleep_millisecs", 0));
	ASSERT_EQ(0, ksm_start());
	end = ksm_now() + 8;
	for (round = 0; round < 400 && ksm_now() < end; round++) {
		area_fill(area, PAGES, 1, self->seed);
		usleep(round % 7 * 1000);
		ASSERT_EQ(bytes, pread(fd, area, bytes, KSM_DISK_START));
		bad += area_wrong(area, PAGES, 1, self->seed + 1);
		if (round % 16 == 0)
			ASSERT_EQ(0, ksm_wait_passes(3));
		bad += area_wrong(area, PAGES, 1, self->seed + 1);
	}
	EXPECT_LT(10, round);
	EXPECT_EQ(0, bad);
	EXPECT_EQ(0, ksm_wait_value("pages_sharing", PAGES - 1));
	ASSERT_EQ(0, ksm_stop());
	EXPECT_EQ(0, area_wrong(area, PAGES, 1, self->seed + 1));
	close(fd);
}

/* And so are the owner's bytes on the disk after every write. */
KSM_TEST(pins, o_direct_writes_of_merged_pages)
{
	const char *disk = ksm_scratch_disk();
	size_t bytes = PAGES * page_bytes();
	void *area = area_new(PAGES, 2, self->seed), *seen = area_map(PAGES);
	int fd;

	if (!disk)
		SKIP(return, "no empty disk");
	ASSERT_NE(NULL, area);
	ASSERT_NE(NULL, seen);
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(2, area_frames(area, PAGES));
	fd = open(disk, O_RDWR | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(bytes, pwrite(fd, area, bytes, KSM_DISK_START));
	ASSERT_EQ(bytes, pread(fd, seen, bytes, KSM_DISK_START));
	EXPECT_EQ(0, area_wrong(seen, PAGES, 2, self->seed));
	EXPECT_EQ(0, area_wrong(area, PAGES, 2, self->seed));
	close(fd);
}

/* However long it took: one of the pages, and others that are merged already. */
KSM_TEST(pins, a_page_let_go_after_many_passes)
{
	void *area = area_new(PAGES, 1, self->seed);
	struct iovec vec = { area_page(area, 5), page_bytes() };
	char page[page_bytes()];
	int fds[2];

	ASSERT_NE(NULL, area);
	ASSERT_EQ(0, pipe(fds));
	ASSERT_EQ(page_bytes(), vmsplice(fds[1], &vec, 1, 0));
	ASSERT_EQ(0, ksm_passes(24));
	EXPECT_EQ(2, area_frames(area, PAGES));
	EXPECT_EQ(1, area_sharing_with(area, PAGES, area_page(area, 5)));
	ASSERT_EQ(page_bytes(), read(fds[0], page, page_bytes()));
	ASSERT_EQ(0, ksm_passes(8));
	EXPECT_EQ(1, area_frames(area, PAGES));
	EXPECT_EQ(0, area_wrong(area, PAGES, 1, self->seed));
}

KSM_TEST_MAIN
