// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging regressions: VMA flags.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "ksm_test.h"

KSM_FIXTURE(flags)

/* CVE-2025-40040: the flags above bit 31 went with MADV_UNMERGEABLE. */
KSM_TEST(flags, unmergeable_keeps_userfaultfd_minor_mode)
{
	struct uffdio_api api = {
		.api = UFFD_API, .features = UFFD_FEATURE_MINOR_SHMEM,
	};
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MINOR };
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	int fd = memfd_create("ksm", MFD_CLOEXEC);
	size_t bytes = 4 * page_bytes();
	void *area;

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		SKIP(return, "no userfaultfd minor mode");
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, bytes));
	area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	ASSERT_NE(MAP_FAILED, area);
	reg.range.start = (uintptr_t)area;
	reg.range.len = bytes;
	ASSERT_EQ(0, madvise(area, bytes, MADV_MERGEABLE));
	if (ioctl(uffd, UFFDIO_REGISTER, &reg))
		SKIP(return, "no userfaultfd minor mode for private mappings");
	ASSERT_TRUE(area_vmflag(area, "ui"));
	ASSERT_EQ(0, madvise(area, bytes, MADV_UNMERGEABLE));
	EXPECT_TRUE(area_vmflag(area, "ui"));
	EXPECT_FALSE(area_vmflag(area, "mg"));
}

KSM_TEST_MAIN
