// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: areas with known contents, and what the
 * kernel says of a page. See ksm_page.h.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "ksm_page.h"
#include "ksm_util.h"

size_t page_bytes(void)
{
	static size_t bytes;

	if (!bytes)
		bytes = sysconf(_SC_PAGESIZE);
	return bytes;
}

/* KSM_SEED in the environment repeats a run; a fixed seed otherwise. */
uint64_t content_seed(void)
{
	const char *text = getenv("KSM_SEED");

	return text ? strtoull(text, NULL, 0) : 20240612;
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

void content_fill(void *page, uint64_t seed, uint64_t id)
{
	uint64_t state = mix(seed ^ mix(id)), *word = page;
	size_t i;

	for (i = 0; i < page_bytes() / sizeof(*word); i++) {
		state = state * 6364136223846793005ULL + 1442695040888963407ULL;
		word[i] = state ^ (state >> 29);
	}
}

/* The number of bytes in which a page differs from what it should hold. */
size_t content_wrong(const void *page, uint64_t seed, uint64_t id)
{
	uint64_t want[page_bytes() / sizeof(uint64_t)];
	const unsigned char *a = page, *b = (void *)want;
	size_t wrong = 0, i;

	content_fill(want, seed, id);
	if (!memcmp(page, want, page_bytes()))
		return 0;
	for (i = 0; i < page_bytes(); i++)
		wrong += a[i] != b[i];
	return wrong;
}

void *area_page(void *area, size_t index)
{
	return (char *)area + index * page_bytes();
}

/* Private anonymous memory that is never huge, NULL if there is none. */
void *area_map(size_t pages)
{
	void *area = mmap(NULL, pages * page_bytes(), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (area == MAP_FAILED)
		return NULL;
	/* EINVAL where the kernel knows no huge pages. */
	madvise(area, pages * page_bytes(), MADV_NOHUGEPAGE);
	return area;
}

void area_fill(void *area, size_t pages, size_t distinct, uint64_t seed)
{
	size_t i;

	for (i = 0; i < pages; i++)
		content_fill(area_page(area, i), seed, i % distinct);
}

int area_mergeable(void *area, size_t pages)
{
	return madvise(area, pages * page_bytes(), MADV_MERGEABLE) ? -errno : 0;
}

/* A filled and registered area, NULL if one of the steps fails. */
void *area_new(size_t pages, size_t distinct, uint64_t seed)
{
	void *area = area_map(pages);

	if (!area)
		return NULL;
	area_fill(area, pages, distinct, seed);
	return area_mergeable(area, pages) ? NULL : area;
}

size_t area_wrong(const void *area, size_t pages, size_t distinct, uint64_t seed)
{
	size_t wrong = 0, i;

	for (i = 0; i < pages; i++)
		wrong += content_wrong((const char *)area + i * page_bytes(),
				       seed, i % distinct);
	return wrong;
}

static uint64_t read_word(const char *path, off_t index)
{
	uint64_t word = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	if (pread(fd, &word, sizeof(word), index * sizeof(word)) != sizeof(word))
		word = 0;
	close(fd);
	return word;
}

#define LOOKALIKES 32
#define MOVE_BATCH 64

/*
 * Registered pages that differ from the content (@seed, 0) in one of as many
 * cache lines, most of which no sample reads: so pages of that content are told
 * apart by full digests, and all who are equal are found as equals.
 */
void *area_lookalikes(uint64_t seed)
{
	char *area = area_map(LOOKALIKES);

	if (!area)
		return NULL;
	for (size_t i = 0; i < LOOKALIKES; i++) {
		content_fill(area_page(area, i), seed, 0);
		area[i * page_bytes() + i * 64] ^= 0x11;
	}
	return area_mergeable(area, LOOKALIKES) ? NULL : area;
}

int area_hold(void *area, size_t pages, int fds[2])
{
	struct iovec vec = { area, pages * page_bytes() };

	if (pipe(fds) || fcntl(fds[1], F_SETPIPE_SZ, (int)vec.iov_len) < 0)
		return -errno;
	return vmsplice(fds[1], &vec, 1, 0) == (ssize_t)vec.iov_len ? 0 : -EIO;
}

/* By reading, as forks may have the pipe as well. */
int area_let_go(size_t pages, int fds[2])
{
	char page[page_bytes()];

	while (pages--) {
		if (read(fds[0], page, page_bytes()) != (ssize_t)page_bytes())
			return -EIO;
	}
	close(fds[0]);
	close(fds[1]);
	return 0;
}

uint64_t page_pagemap(const void *addr)
{
	return read_word("/proc/self/pagemap", (uintptr_t)addr / page_bytes());
}

/* 0 where no page is mapped. */
uint64_t page_pfn(const void *addr)
{
	uint64_t entry = page_pagemap(addr);

	return entry & PAGEMAP_PRESENT ? entry & PAGEMAP_PFN : 0;
}

uint64_t page_flags(uint64_t pfn)
{
	return read_word("/proc/kpageflags", pfn);
}

bool page_is_zero_page(const void *addr)
{
	uint64_t pfn = page_pfn(addr);

	return pfn && page_flags(pfn) & (1ULL << KPF_ZERO_PAGE_BIT);
}

bool pages_shared(const void *a, const void *b)
{
	uint64_t pfn = page_pfn(a);

	return pfn && pfn == page_pfn(b);
}

/* pagemap entries of a whole area in one read; the caller frees them. */
uint64_t *area_pagemap(const void *area, size_t pages)
{
	uint64_t *map = calloc(pages, sizeof(*map));
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	off_t from = (uintptr_t)area / page_bytes() * sizeof(*map);
	ssize_t bytes = pages * sizeof(*map);

	if (map && (fd < 0 || pread(fd, map, bytes, from) != bytes)) {
		free(map);
		map = NULL;
	}
	if (fd >= 0)
		close(fd);
	return map;
}

/* How many pages of an area have the frame of @page. */
size_t area_sharing_with(const void *area, size_t pages, const void *page)
{
	uint64_t *map = area_pagemap(area, pages), pfn = page_pfn(page);
	size_t n = 0, i;

	for (i = 0; map && pfn && i < pages; i++)
		n += (map[i] & PAGEMAP_PRESENT) && (map[i] & PAGEMAP_PFN) == pfn;
	free(map);
	return n;
}

/* How many pages of an area have a bit in pagemap. */
size_t area_count(const void *area, size_t pages, uint64_t pagemap_bit)
{
	uint64_t *map = area_pagemap(area, pages);
	size_t n = 0, i;

	for (i = 0; map && i < pages; i++)
		n += !!(map[i] & pagemap_bit);
	free(map);
	return n;
}

/* How many pages of an area are mapped to KSM pages, shared or not. */
size_t area_ksm_pages(const void *area, size_t pages)
{
	uint64_t *map = area_pagemap(area, pages), flags;
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	size_t n = 0, i;

	for (i = 0; map && fd >= 0 && i < pages; i++) {
		if (!(map[i] & PAGEMAP_PRESENT))
			continue;
		if (pread(fd, &flags, sizeof(flags), (map[i] & PAGEMAP_PFN) *
			  sizeof(flags)) == sizeof(flags))
			n += flags >> KPF_KSM_BIT & 1;
	}
	if (fd >= 0)
		close(fd);
	free(map);
	return n;
}

static int by_pfn(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a & PAGEMAP_PFN;
	uint64_t y = *(const uint64_t *)b & PAGEMAP_PFN;

	return x < y ? -1 : x > y;
}

/* The number of different frames that are mapped in an area. */
size_t area_frames(const void *area, size_t pages)
{
	uint64_t *map = area_pagemap(area, pages), last = 0;
	size_t n = 0, i;

	if (!map)
		return 0;
	for (i = 0; i < pages; i++)
		map[i] = map[i] & PAGEMAP_PRESENT ? map[i] & PAGEMAP_PFN : 0;
	qsort(map, pages, sizeof(*map), by_pfn);
	for (i = 0; i < pages; i++) {
		n += map[i] && map[i] != last;
		last = map[i];
	}
	free(map);
	return n;
}

/* Find the line of the VMA around @addr; its fields follow. */
static FILE *smaps_at(const void *addr)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	unsigned long from, to;
	char line[512];

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2 &&
		    from <= (uintptr_t)addr && (uintptr_t)addr < to)
			return file;
	}
	if (file)
		fclose(file);
	return NULL;
}

/* A field of the VMA around @addr, in kB; KSM_NOTHING if it is not there. */
int64_t area_smaps(const void *addr, const char *field)
{
	FILE *file = smaps_at(addr);
	int64_t value = KSM_NOTHING;
	size_t len = strlen(field);
	char line[512];

	while (file && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, field, len) && line[len] == ':') {
			value = strtoll(line + len + 1, NULL, 10);
			break;
		}
		if (!strncmp(line, "VmFlags:", 8))
			break;
	}
	if (file)
		fclose(file);
	return value;
}

bool area_vmflag(const void *addr, const char *flag)
{
	FILE *file = smaps_at(addr);
	char line[512], want[16];
	bool found = false;

	snprintf(want, sizeof(want), " %s ", flag);
	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, "VmFlags:", 8))
			continue;
		line[strcspn(line, "\n")] = ' ';
		found = strstr(line, want);
		break;
	}
	if (file)
		fclose(file);
	return found;
}

int64_t own_stat(const char *field)
{
	return ksm_file_field("/proc/self/ksm_stat", field);
}

int64_t own_merging_pages(void)
{
	char text[KSM_TEXT_MAX];

	if (ksm_file_read("/proc/self/ksm_merging_pages", text, sizeof(text)))
		return KSM_NOTHING;
	return strtoll(text, NULL, 10);
}

int64_t vmstat_field(const char *field)
{
	return ksm_file_field("/proc/vmstat", field);
}

/*
 * Have a userfaultfd protect an area from writing, for as long as the
 * descriptor that this returns is open; -errno if it can't.
 */
int area_uffd_wp(void *area, size_t pages)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	};
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)area, pages * page_bytes() },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	struct uffdio_register reg = {
		.range = wp.range,
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	if (ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg) ||
	    ioctl(fd, UFFDIO_WRITEPROTECT, &wp)) {
		close(fd);
		return -ENOTSUP;
	}
	return fd;
}

/* 0 where the kernel has no huge pages. */
size_t thp_bytes(void)
{
	char text[KSM_TEXT_MAX];

	if (ksm_file_read("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size",
			  text, sizeof(text)))
		return 0;
	return strtoull(text, NULL, 10);
}

/* Mapped huge pages, aligned, each one faulted in as one; NULL if not to be had. */
bool two_nodes(void)
{
	return !access("/sys/devices/system/node/node1", F_OK) &&
	       ksm_has("merge_across_nodes");
}

/* Where a page lies, or a negative errno. */
int page_node(const void *addr)
{
	int node = -EFAULT;

	return syscall(SYS_move_pages, 0, 1UL, &addr, NULL, &node, 0) ? -errno : node;
}

/* Move a page to a node, whoever maps it; where it lies then, or a negative errno. */
int page_move(void *addr, int node)
{
	int status = -EFAULT;

	if (syscall(SYS_move_pages, 0, 1UL, &addr, &node, &status, MPOL_MF_MOVE_ALL))
		return -errno;
	return status;
}

size_t area_on_node(const void *area, size_t pages, int node)
{
	size_t n = 0;

	for (size_t i = 0; i < pages; i++)
		n += page_node(area_page((void *)area, i)) == node;
	return n;
}

/*
 * Move an area; the number of pages that are there then. What the kernel says of each is no help:
 * a merged page is moved once, and busy for the others that map it.
 */
size_t area_move(void *area, size_t pages, int node)
{
	void *page[MOVE_BATCH];
	int to[MOVE_BATCH], status[MOVE_BATCH];
	size_t nr;

	for (size_t done = 0; done < pages; done += nr) {
		for (nr = 0; nr < MOVE_BATCH && done + nr < pages; nr++) {
			page[nr] = area_page(area, done + nr);
			to[nr] = node;
		}
		syscall(SYS_move_pages, 0, nr, page, to, status, MPOL_MF_MOVE_ALL);
	}
	return area_on_node(area, pages, node);
}

void *thp_map(size_t huge_pages)
{
	size_t huge = thp_bytes(), bytes = huge * huge_pages, i;
	uintptr_t start;
	void *area;

	if (!huge)
		return NULL;
	area = mmap(NULL, bytes + huge, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		return NULL;
	start = ((uintptr_t)area + huge - 1) / huge * huge;
	if (madvise((void *)start, bytes, MADV_HUGEPAGE))
		return NULL;
	for (i = 0; i < huge_pages; i++)
		*(volatile char *)(start + i * huge) = 1;
	if (area_smaps((void *)start, "AnonHugePages") < (int64_t)(bytes >> 10))
		return NULL;
	return (void *)start;
}

int64_t meminfo_kib(const char *field)
{
	return ksm_file_field("/proc/meminfo", field);
}

/*
 * A field of /proc/meminfo once it has the value @want, or after a while what
 * it has. Accounts are kept in batches per processor, which this drains.
 */
int64_t settled(const char *field, int64_t want)
{
	double end = ksm_now() + 10;

	while (meminfo_kib(field) != want && ksm_now() < end) {
		ksm_file_write("/proc/sys/vm/compact_memory", "1");
		usleep(50000);
	}
	return meminfo_kib(field);
}
