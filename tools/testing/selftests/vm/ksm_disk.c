// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: an empty disk, swap space, and a cgroup of
 * one's own to reclaim from. See ksm_disk.h.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <unistd.h>

#include "kselftest.h"

#include "ksm_disk.h"
#include "ksm_page.h"
#include "ksm_util.h"

#define CGROUPS		"/sys/fs/cgroup/"
#define ZRAM		"/dev/zram0"
#define ZRAM_SYSFS	"/sys/block/zram0/"
#define SWAP_BYTES	(192ULL << 20)
#define RECLAIM_S	15

static bool empty_disk(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool empty = true;
	char block[4096];
	struct stat st;

	if (fd < 0)
		return false;
	if (fstat(fd, &st) || !S_ISBLK(st.st_mode))
		empty = false;
	for (size_t at = 0; empty && at < KSM_DISK_START; at += sizeof(block)) {
		if (pread(fd, block, sizeof(block), at) != sizeof(block) ||
		    block[0] || memcmp(block, block + 1, sizeof(block) - 1))
			empty = false;
	}
	close(fd);
	return empty;
}

/* NULL if there is none. */
const char *ksm_scratch_disk(void)
{
	static const char * const usual[] = {
		"/dev/vda", "/dev/vdb", "/dev/vdc", "/dev/vdd",
	};
	const char *named = getenv("KSM_SCRATCH_DISK");

	if (named)
		return empty_disk(named) ? named : NULL;
	for (size_t i = 0; i < ARRAY_SIZE(usual); i++) {
		if (empty_disk(usual[i]))
			return usual[i];
	}
	return NULL;
}

/* Write pages with the contents i % distinct to the disk. */
int ksm_disk_load(const char *disk, size_t pages, size_t distinct, uint64_t seed)
{
	int fd = open(disk, O_WRONLY | O_CLOEXEC), ret = 0;
	char page[page_bytes()];

	if (fd < 0)
		return -errno;
	for (size_t i = 0; i < pages && !ret; i++) {
		content_fill(page, seed, i % distinct);
		if (pwrite(fd, page, page_bytes(),
			   KSM_DISK_START + i * page_bytes()) != (ssize_t)page_bytes())
			ret = -EIO;
	}
	if (!ret && fsync(fd))
		ret = -errno;
	close(fd);
	return ret;
}

/* The header that mkswap writes. */
static int swap_make(const char *device)
{
	int fd = open(device, O_RDWR | O_CLOEXEC);
	uint32_t page[1024] = { 0 };
	uint64_t bytes = 0;
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (ioctl(fd, BLKGETSIZE64, &bytes))
		ret = -errno;
	if (bytes > SWAP_BYTES)
		bytes = SWAP_BYTES;
	page[256] = 1;					/* version */
	page[257] = bytes / page_bytes() - 1;		/* last page */
	memcpy((char *)page + sizeof(page) - 10, "SWAPSPACE2", 10);
	if (!ret && pwrite(fd, page, sizeof(page), 0) != sizeof(page))
		ret = -EIO;
	if (!ret && fsync(fd))
		ret = -errno;
	close(fd);
	return ret;
}

/* Empty again, as it was taken. */
static int swap_wipe(const char *device)
{
	int fd = open(device, O_WRONLY | O_CLOEXEC), ret = 0;
	char *zeroes = calloc(1, KSM_DISK_START);

	if (fd < 0 || !zeroes ||
	    write(fd, zeroes, KSM_DISK_START) != KSM_DISK_START || fsync(fd))
		ret = -EIO;
	if (fd >= 0)
		close(fd);
	free(zeroes);
	return ret;
}

static const char *zram_new(void)
{
	char size[32];

	if (access(ZRAM_SYSFS, F_OK))
		return NULL;
	/* In use by somebody else if it has a size already. */
	if (ksm_file_read(ZRAM_SYSFS "disksize", size, sizeof(size)) ||
	    strtoull(size, NULL, 10))
		return NULL;
	snprintf(size, sizeof(size), "%llu", SWAP_BYTES);
	return ksm_file_write(ZRAM_SYSFS "disksize", size) ? NULL : ZRAM;
}

/* The device that is swapped to from now on, NULL if there is none. */
const char *ksm_swap_on(enum ksm_swap_kind kind)
{
	const char *device = kind == KSM_SWAP_ZRAM ? zram_new() :
						     ksm_scratch_disk();

	if (!device || swap_make(device))
		return NULL;
	return swapon(device, 0) ? NULL : device;
}

int ksm_swap_off(const char *device)
{
	/* EINVAL: it is off already. */
	int ret = swapoff(device) && errno != EINVAL ? -errno : 0;

	if (!ret)
		ret = swap_wipe(device);
	if (!ret && !strcmp(device, ZRAM))
		ret = ksm_file_write(ZRAM_SYSFS "reset", "1");
	return ret;
}

int ksm_cgroup_set(const char *name, const char *file, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), CGROUPS "%s/%s", name, file);
	return ksm_file_write(path, text);
}

/* A new memory cgroup with this process in it. */
int ksm_cgroup_enter(const char *name)
{
	char path[256];

	if (access(CGROUPS "cgroup.controllers", F_OK))
		(void)!mount("cgroup2", CGROUPS, "cgroup2", 0, NULL);
	ksm_file_write(CGROUPS "cgroup.subtree_control", "+memory");
	snprintf(path, sizeof(path), CGROUPS "%s", name);
	if (mkdir(path, 0755) && errno != EEXIST)
		return -errno;
	snprintf(path, sizeof(path), CGROUPS "%s/memory.max", name);
	if (access(path, F_OK))
		return -ENOENT;
	return ksm_cgroup_set(name, "cgroup.procs", "0");
}

/* Reclaim from a cgroup until nothing of an area is mapped; how many pages still are. */
size_t ksm_cgroup_reclaim(const char *name, const void *area, size_t pages)
{
	double end = ksm_now() + RECLAIM_S;
	size_t left;

	while ((left = area_count(area, pages, PAGEMAP_PRESENT)) && ksm_now() < end) {
		/* EAGAIN if less was reclaimed: that is judged by the result. */
		ksm_cgroup_set(name, "memory.reclaim", "4M");
		usleep(10000);
	}
	return left;
}

/* Back to the root; the cgroup goes if it is empty. */
int ksm_cgroup_leave(const char *name)
{
	int ret = ksm_file_write(CGROUPS "cgroup.procs", "0");
	char path[256];

	snprintf(path, sizeof(path), CGROUPS "%s", name);
	rmdir(path);
	return ret;
}

/* Enter a new cgroup with something to swap to; NULL, and neither, if one can't be had. */
const char *ksm_cgroup_swap_on(const char *name, enum ksm_swap_kind kind)
{
	const char *device;

	if (ksm_cgroup_enter(name))
		return NULL;
	device = ksm_swap_on(kind);
	if (!device)
		ksm_cgroup_leave(name);
	return device;
}
