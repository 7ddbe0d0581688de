// SPDX-License-Identifier: GPL-2.0
/*
 * The workload of the lock holds in `make bench`: the init process of a User
 * Mode Linux whose kernel has patches/bench. It lets ksmd merge pages of one
 * content that is mapped very often, has them migrated, unmerged and reclaimed,
 * and appends to /result how long ksmd, or who asked for it, held locks at most.
 *
 * Options, each `name=value` in argv:
 *   procs=N    processes
 *   pages=N    pages of each
 *   areas=1    each page is an area of its own, all of one anon_vma
 *   stride=N   distance of the pages in MiB, instead of none: all else is a hole
 *   sharing=N  max_page_sharing
 *
 * Result: lines "locks PHASE OTHER MMAP ANON_VMA FOLIO PTE", the longest holds in
 * nanoseconds of the host's CPU, and "merged N" after each merging.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/swap.h>
#include <time.h>
#include <unistd.h>

#include "kinit.h"

#define MIB		(1UL << 20)
#define PASSES		4
#define PASSES_LIMIT_S	600
#define LOCKS		4

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static unsigned long procs = 1, pages = 1, areas, stride, sharing = 256;

/* Written as asked; -1 if the kernel would not, as when nothing is left to reclaim. */
static int try_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	ssize_t n;

	if (fd < 0)
		die("%s", path);
	n = write(fd, text, strlen(text));
	close(fd);
	return n < 0 ? -1 : 0;
}

static void own(unsigned long unused)
{
	size_t step = stride ? stride * MIB : PAGE, bytes = pages * step;
	char *p = mmap(REGION, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);

	(void)unused;
	if (p != REGION)
		_exit(errno);
	/* Pages of zeroes, which are like any other with use_zero_pages 0. */
	for (unsigned long i = 0; i < pages; i++)
		if (madvise(p + i * step, PAGE, MADV_POPULATE_WRITE))
			_exit(errno);
	for (unsigned long i = 0; areas && i < pages; i += 2)
		if (mprotect(p + i * step, PAGE, PROT_READ))
			_exit(errno);
	if (madvise(p, bytes, MADV_MERGEABLE))
		_exit(errno);
}

static int ksmd_pid(void)
{
	FILE *f = fopen("/proc/umbench", "r");
	char line[8192];
	int pid, found = 0;

	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, " ksmd\n") && sscanf(line, "task %d", &pid) == 1)
			found = pid;
	if (!found)
		die("no ksmd");
	fclose(f);
	return found;
}

static void begin(int pid)
{
	write_num("/proc/umbench", pid);
}

/* Read before it ends, as what an empty loop takes is not asked for. */
static void report(const char *phase)
{
	static const char *const names[LOCKS] = { "other", "mmap", "anon_vma", "folio" };
	unsigned long longest[LOCKS] = { 0 }, pte = 0, pte_interrupted = 0, ns;
	FILE *f = fopen("/proc/umbench", "r");
	char line[8192], name[64];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "hold %*u %lu %lu", &pte, &pte_interrupted) == 2)
			continue;
		if (sscanf(line, "lock %63s %*u %lu", name, &ns) != 2)
			continue;
		for (int i = 0; i < LOCKS; i++)
			if (!strcmp(name, names[i]))
				longest[i] = ns;
	}
	if (!f)
		die("umbench");
	fclose(f);
	write_num("/proc/umbench", 0);
	fprintf(result, "locks %s", phase);
	for (int i = 0; i < LOCKS; i++)
		fprintf(result, " %lu", longest[i]);
	fprintf(result, " %lu\n", pte > pte_interrupted ? pte : pte_interrupted);
}

static void merge(const char *phase)
{
	unsigned long target = read_num(KSM "full_scans") + PASSES;
	time_t limit = time(NULL) + PASSES_LIMIT_S;

	begin(ksmd_pid());
	write_num(KSM "run", 1);
	while (read_num(KSM "full_scans") < target) {
		if (time(NULL) > limit)
			die("passes did not end");
		nap(POLL_NS);
	}
	report(phase);
	write_num(KSM "run", 0);
	fprintf(result, "merged %lu\n",
		read_num(KSM "pages_shared") + read_num(KSM "pages_sharing"));
}

static void parse(int argc, char **argv)
{
	static const struct option names[] = {
		{ "procs", &procs }, { "pages", &pages }, { "areas", &areas },
		{ "stride", &stride }, { "sharing", &sharing },
	};

	parse_options(argc, argv, names, sizeof(names) / sizeof(*names));
	if (!procs || procs > PROCS_MAX || !pages)
		die("options");
}

/* A header of swap space, as mkswap makes it. */
static void swap_on(const char *disk, unsigned long mib)
{
	static char header[PAGE];
	uint32_t *info = (uint32_t *)(header + 1024);
	int fd;

	write_num("/sys/block/zram0/disksize", mib * MIB);
	info[0] = 1;
	info[1] = mib * MIB / PAGE - 1;
	memcpy(header + PAGE - 10, "SWAPSPACE2", 10);
	fd = open(disk, O_WRONLY);
	if (fd < 0 || write(fd, header, PAGE) != (ssize_t)PAGE || fsync(fd))
		die("%s", disk);
	close(fd);
	if (swapon(disk, 0))
		die("swapon");
}

int main(int argc, char **argv)
{
	result = fopen("/result", "w");
	if (!result)
		return 1;
	if (mount("proc", "/proc", "proc", 0, NULL) || mount("sysfs", "/sys", "sysfs", 0, NULL) ||
	    mount("dev", "/dev", "devtmpfs", 0, NULL) ||
	    mount("cgroup", "/sys/fs/cgroup", "cgroup2", 0, NULL))
		die("mount");
	parse(argc, argv);
	swap_on("/dev/zram0", 256);
	for (unsigned long i = 0; i < procs; i++)
		start_owner(own, i);
	write_num(KSM "max_page_sharing", sharing);
	write_num(KSM "pages_to_scan", 1000);
	write_num(KSM "sleep_millisecs", 1);
	write_num(KSM "smart_scan", 0);

	merge("scan");
	begin(getpid());
	write_num("/proc/sys/vm/compact_memory", 1);
	report("migrate");
	begin(getpid());
	write_num(KSM "run", 2);
	report("unmerge");
	merge("scan");
	begin(getpid());
	try_write("/sys/fs/cgroup/memory.reclaim", "64M");
	report("reclaim");
	fprintf(result, "done 1\n");
	finish();
}
