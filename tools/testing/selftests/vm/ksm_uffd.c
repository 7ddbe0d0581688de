// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: userfaultfd and pages that were merged. A zero
 * page that is moved is not one of KSM's any more; a KSM page stays, and is in
 * the way of what would be put in its place.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "ksm_test.h"

#define PAGES 16

/* Since Linux 6.8, which may be newer than the headers. */
#ifndef UFFDIO_MOVE
struct uffdio_move {
	uint64_t dst;
	uint64_t src;
	uint64_t len;
	uint64_t mode;
	int64_t move;
};

#define UFFDIO_MOVE		_IOWR(UFFDIO, 0x05, struct uffdio_move)
#define UFFD_FEATURE_MOVE	(1 << 16)
#endif

KSM_FIXTURE(uffd)

/* For an area that pages can be moved to; a negative errno if there is none. */
static int move_target(void *area)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_MOVE };
	struct uffdio_register reg = {
		.range = { (uintptr_t)area, PAGES * page_bytes() },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	if (ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg)) {
		close(fd);
		return -ENOTSUP;
	}
	return fd;
}

static int move(int fd, void *to, void *from, size_t pages)
{
	struct uffdio_move move = {
		.dst = (uintptr_t)to,
		.src = (uintptr_t)from,
		.len = pages * page_bytes(),
	};

	return ioctl(fd, UFFDIO_MOVE, &move) ? -errno : 0;
}

static size_t not_zero(const char *area, size_t pages)
{
	size_t n = 0, i;

	for (i = 0; i < pages * page_bytes(); i++)
		n += area[i] != 0;
	return n;
}

KSM_TEST(uffd, zero_pages_that_are_moved_are_not_counted_any_more)
{
	char *from = area_map(PAGES), *to = area_map(PAGES);
	int fd;

	ASSERT_NE(NULL, from);
	ASSERT_NE(NULL, to);
	fd = move_target(to);
	if (fd < 0)
		SKIP(return, "no UFFDIO_MOVE");
	memset(from, 1, PAGES * page_bytes());
	memset(from, 0, PAGES * page_bytes());
	ASSERT_EQ(0, area_mergeable(from, PAGES));
	ASSERT_EQ(0, ksm_set("use_zero_pages", 1));
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(PAGES, ksm_get("ksm_zero_pages"));
	ASSERT_EQ(PAGES, own_stat("ksm_zero_pages"));
	ASSERT_EQ(0, move(fd, to, from, PAGES / 2));
	EXPECT_EQ(PAGES / 2, ksm_get("ksm_zero_pages"));
	EXPECT_EQ(PAGES / 2, own_stat("ksm_zero_pages"));
	EXPECT_TRUE(page_is_zero_page(to));
	ASSERT_EQ(0, move(fd, to + PAGES / 2 * page_bytes(),
			  from + PAGES / 2 * page_bytes(), PAGES / 2));
	EXPECT_EQ(0, not_zero(to, PAGES));
	EXPECT_EQ(0, ksm_get("ksm_zero_pages"));
	EXPECT_EQ(0, own_stat("ksm_zero_pages"));
	/* Neither are they counted when they go. */
	close(fd);
	ASSERT_EQ(0, munmap(to, PAGES * page_bytes()));
	EXPECT_EQ(0, ksm_get("ksm_zero_pages"));
	EXPECT_EQ(0, own_stat("ksm_zero_pages"));
}

KSM_TEST(uffd, merged_pages_are_not_moved)
{
	char *from = area_new(PAGES, 4, self->seed), *to = area_map(PAGES);
	int fd;

	ASSERT_NE(NULL, from);
	ASSERT_NE(NULL, to);
	fd = move_target(to);
	if (fd < 0)
		SKIP(return, "no UFFDIO_MOVE");
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(4, area_frames(from, PAGES));
	EXPECT_EQ(-EBUSY, move(fd, to, from, PAGES));
	EXPECT_EQ(0, area_count(to, PAGES, PAGEMAP_PRESENT));
	EXPECT_EQ(4, area_frames(from, PAGES));
	EXPECT_EQ(0, area_wrong(from, PAGES, 4, self->seed));
	/* Once they are unmerged, they can be. */
	ASSERT_EQ(0, ksm_unmerge());
	ASSERT_EQ(0, move(fd, to, from, PAGES));
	EXPECT_EQ(0, area_wrong(to, PAGES, 4, self->seed));
	close(fd);
}

KSM_TEST(uffd, nothing_is_put_where_a_merged_page_is)
{
	char *area = area_new(PAGES, 4, self->seed), *other = area_new(1, 1, self->seed + 1);
	struct uffdio_zeropage zero = { .range.len = page_bytes() };
	struct uffdio_copy copy = { .src = (uintptr_t)other, .len = page_bytes() };
	int fd;

	ASSERT_NE(NULL, area);
	ASSERT_NE(NULL, other);
	fd = move_target(area);
	if (fd < 0)
		SKIP(return, "no UFFDIO_MOVE");
	ASSERT_EQ(0, ksm_passes(4));
	ASSERT_EQ(4, area_frames(area, PAGES));
	for (size_t i = 0; i < PAGES; i++) {
		copy.dst = (uintptr_t)area_page(area, i);
		zero.range.start = copy.dst;
		EXPECT_EQ(-1, ioctl(fd, UFFDIO_COPY, &copy));
		EXPECT_EQ(-EEXIST, copy.copy);
		EXPECT_EQ(-1, ioctl(fd, UFFDIO_ZEROPAGE, &zero));
		EXPECT_EQ(-EEXIST, zero.zeropage);
	}
	EXPECT_EQ(4, area_frames(area, PAGES));
	EXPECT_EQ(0, area_wrong(area, PAGES, 4, self->seed));
	/* Where it has gone, its place is free, and what comes there is known. */
	ASSERT_EQ(0, madvise(area, page_bytes(), MADV_DONTNEED));
	copy.dst = (uintptr_t)area;
	ASSERT_EQ(0, ioctl(fd, UFFDIO_COPY, &copy));
	EXPECT_EQ(0, content_wrong(area, self->seed + 1, 0));
	ASSERT_EQ(0, ksm_passes(4));
	EXPECT_TRUE(pages_shared(area, other));
	EXPECT_EQ(0, content_wrong(area, self->seed + 1, 0));
	close(fd);
}

KSM_TEST_MAIN
