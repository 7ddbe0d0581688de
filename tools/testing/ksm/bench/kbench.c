// SPDX-License-Identifier: GPL-2.0
/*
 * The workload of `make bench`: the init process of a User Mode Linux whose
 * kernel has patches/bench. It fills memory, steps ksmd one pass at a time and
 * appends what each pass cost and found to /result, a line each, for
 * scripts/bench.py to read. It judges nothing.
 *
 * Options, each `name=value` in argv:
 *   mib=N      mergeable memory, split over processes of 64 MiB each
 *   copies=N   how often each content occurs (1: all pages differ)
 *   oneword=1  all pages are equal but for one word at a random offset
 *   small=N    instead: N processes with prctl, 300 areas of 1 to 5 pages each
 *   passes=N   passes to make
 *   write=N    percent of the pages rewritten before each pass but the first
 *   late=N     the second half of the memory is filled after pass N only
 *   smart=0|1  smart_scan
 *   unmerge=1  unmerge everything at the end
 *   hold=1     time the holds of page table locks (slows the passes down)
 *
 * The processes that own the memory sleep in pause() from before it is filled
 * until they are killed; it is filled from outside, by process_vm_writev(). So
 * UML never mirrors their page tables into host mappings, which would cost much
 * time and more mappings than a host allows.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "kinit.h"

#define WORDS		(PAGE / sizeof(uint64_t))
#define PAGES_PER_PROC	16384UL		/* 64 MiB */
#define BATCH		64UL		/* pages written by one system call */
#define AREAS		300UL		/* of a small process */
#define AREA_STRIDE	(16 * PAGE)
#define IDLE_POLLS	3		/* polls without CPU time: ksmd sleeps */
#define PASS_LIMIT_S	600

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#endif

static struct {
	unsigned long mib, copies, oneword, small, passes, write, smart;
	unsigned long late, unmerge, hold;
} opt = { .mib = 64, .copies = 1, .passes = 4 };

/* What /proc/umbench says about all kernel threads, and about ksmd alone. */
struct reading {
	int ksmd;
	uint64_t ksmd_ns, kthreads_ns, ranges, flushes;
	uint64_t self_ns;
};

static pid_t procs[PROCS_MAX];
static unsigned long nprocs, npages;

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static void random_page(uint64_t *page, uint64_t seed)
{
	uint64_t x = mix(seed) | 1;

	for (unsigned long i = 0; i < WORDS; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		page[i] = x;
	}
}

/* The page with number @content: two pages are equal if their numbers are. */
static void content_page(uint64_t *page, uint64_t content)
{
	if (!opt.oneword) {
		random_page(page, content);
		return;
	}
	random_page(page, ~0ULL);
	page[mix(content) % WORDS] = mix(~content);
}

static unsigned long area_pages(unsigned long proc, unsigned long area)
{
	return 1 + mix(proc * AREAS + area) % 5;
}

static void own_one_region(void)
{
	char *p = mmap(REGION, PAGES_PER_PROC * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (p != REGION || madvise(p, PAGES_PER_PROC * PAGE, MADV_MERGEABLE))
		_exit(errno);
}

static void own_small_areas(unsigned long proc)
{
	if (prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0))
		_exit(errno);
	for (unsigned long i = 0; i < AREAS; i++)
		if (mmap(REGION + i * AREA_STRIDE, area_pages(proc, i) * PAGE,
			 PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
		    MAP_FAILED)
			_exit(errno);
}

static void own_region(unsigned long unused)
{
	(void)unused;
	own_one_region();
}

static void put(pid_t pid, const void *from, char *to, size_t bytes)
{
	struct iovec local = { .iov_base = (void *)from, .iov_len = bytes };
	struct iovec remote = { .iov_base = to, .iov_len = bytes };

	if (process_vm_writev(pid, &local, 1, &remote, 1, 0) != (ssize_t)bytes)
		die("write to process %d", pid);
}

static uint64_t *batch_buffer(void)
{
	static uint64_t *buf;

	if (!buf)
		buf = mmap(NULL, BATCH * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buf == MAP_FAILED)
		die("no buffer");
	return buf;
}

static void fill_regions(unsigned long first, unsigned long end)
{
	unsigned long distinct = npages / opt.copies;
	uint64_t *buf = batch_buffer();

	for (unsigned long page = first; page < end; page += BATCH) {
		for (unsigned long i = 0; i < BATCH; i++)
			content_page(buf + i * WORDS, (page + i) % distinct);
		put(procs[page / PAGES_PER_PROC], buf,
		    REGION + page % PAGES_PER_PROC * PAGE, BATCH * PAGE);
	}
}

static void fill_small_areas(void)
{
	uint64_t *buf = batch_buffer();

	for (unsigned long proc = 0; proc < nprocs; proc++)
		for (unsigned long area = 0; area < AREAS; area++) {
			unsigned long n = area_pages(proc, area);

			for (unsigned long i = 0; i < n; i++)
				content_page(buf + i * WORDS, npages++);
			put(procs[proc], buf, REGION + area * AREA_STRIDE,
			    n * PAGE);
		}
}

/* Give new content, which occurs nowhere else, to some percent of the pages. */
static void rewrite(unsigned long percent)
{
	static uint64_t state, fresh = 1ULL << 40;
	uint64_t *buf = batch_buffer();

	for (unsigned long i = 0; i < npages * percent / 100; i++) {
		unsigned long page = mix(state++) % npages;

		content_page(buf, fresh++);
		put(procs[page / PAGES_PER_PROC], buf,
		    REGION + page % PAGES_PER_PROC * PAGE, PAGE);
	}
}

static unsigned long meminfo_kib(const char *name)
{
	FILE *f = fopen("/proc/meminfo", "r");
	char line[128], key[64];
	unsigned long value;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%63[^:]: %lu", key, &value) == 2 &&
		    !strcmp(key, name)) {
			fclose(f);
			return value;
		}
	die("no %s in /proc/meminfo", name);
}

/* Free pages, those in per-CPU lists included. */
static unsigned long free_pages(void)
{
	FILE *f = fopen("/proc/zoneinfo", "r");
	unsigned long total = 0, value;
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, " nr_free_pages %lu", &value) == 1 ||
		    sscanf(line, " count: %lu", &value) == 1)
			total += value;
	if (!total)
		die("no free pages in /proc/zoneinfo");
	fclose(f);
	return total;
}

static struct reading read_bench(void)
{
	FILE *f = fopen("/proc/umbench", "r");
	struct reading r = { 0 };
	char line[256], comm[64];
	int pid, kthread, self = getpid();
	uint64_t ns, ranges, flushes;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "task %d %d %lu %lu %lu %63s", &pid, &kthread,
			   &ns, &ranges, &flushes, comm) != 6)
			continue;
		if (pid == self)
			r.self_ns = ns;
		if (!kthread)
			continue;
		r.kthreads_ns += ns;
		r.ranges += ranges;
		r.flushes += flushes;
		if (!strcmp(comm, "ksmd")) {
			r.ksmd = pid;
			r.ksmd_ns = ns;
		}
	}
	if (!r.ksmd)
		die("no ksmd in /proc/umbench");
	fclose(f);
	return r;
}

/* How long page table locks were held: those lines as they are. */
static void report_holds(void)
{
	char line[8192];
	FILE *f;

	write_num("/proc/umbench", 0);
	f = fopen("/proc/umbench", "r");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "hold", 4))
			fputs(line, result);
	if (f)
		fclose(f);
}

/* A changed sleep_millisecs wakes ksmd. */
static void wake_ksmd(void)
{
	static unsigned long wakes;

	write_num(KSM "sleep_millisecs", 3600000 + ++wakes % 2);
}

/* Let ksmd complete the pass it is in, or its next one, and fall asleep. */
static void step(unsigned long target)
{
	time_t limit = time(NULL) + PASS_LIMIT_S;
	uint64_t before = read_bench().ksmd_ns;
	int idle = 0;

	while (time(NULL) < limit) {
		uint64_t now;

		nap(POLL_NS);
		now = read_bench().ksmd_ns;
		idle = now == before ? idle + 1 : 0;
		before = now;
		if (idle < IDLE_POLLS)
			continue;
		if (read_num(KSM "full_scans") >= target)
			return;
		wake_ksmd();
		idle = 0;
	}
	die("pass %lu did not end", target);
}

static void report_pass(unsigned long pass, const struct reading *a,
			const struct reading *b, unsigned long scanned)
{
	fprintf(result, "pass %lu %lu %lu %lu %lu %lu %lu %lu %lu %lu\n", pass,
		b->ksmd_ns - a->ksmd_ns, b->kthreads_ns - a->kthreads_ns,
		read_num(KSM "pages_scanned") - scanned,
		read_num(KSM "pages_shared"), read_num(KSM "pages_sharing"),
		read_num(KSM "pages_unshared"), read_num(KSM "pages_volatile"),
		b->ranges - a->ranges, b->flushes - a->flushes);
	if (read_num(KSM "full_scans") != pass)
		die("%lu passes made instead of %lu",
		    read_num(KSM "full_scans"), pass);
}

static void make_passes(void)
{
	for (unsigned long pass = 1; pass <= opt.passes; pass++) {
		struct reading a, b;
		unsigned long scanned;

		if (pass > 1 && opt.write)
			rewrite(opt.write);
		if (pass > 1 && pass == opt.late + 1)
			fill_regions(npages / 2, npages);
		scanned = read_num(KSM "pages_scanned");
		a = read_bench();
		if (pass == 1)
			write_num(KSM "run", 1);
		else
			wake_ksmd();
		step(pass);
		b = read_bench();
		report_pass(pass, &a, &b, scanned);
	}
}

static void unmerge_all(void)
{
	unsigned long merged = read_num(KSM "pages_shared") +
			       read_num(KSM "pages_sharing");
	struct reading a = read_bench(), b;

	write_num(KSM "run", 2);
	b = read_bench();
	fprintf(result, "unmerge %lu %lu\n", b.self_ns - a.self_ns, merged);
}

static void parse(int argc, char **argv)
{
	static const struct option names[] = {
		{ "mib", &opt.mib }, { "copies", &opt.copies },
		{ "oneword", &opt.oneword }, { "small", &opt.small },
		{ "passes", &opt.passes }, { "write", &opt.write },
		{ "smart", &opt.smart }, { "unmerge", &opt.unmerge },
		{ "hold", &opt.hold }, { "late", &opt.late },
	};

	parse_options(argc, argv, names, sizeof(names) / sizeof(*names));
	nprocs = opt.small ? opt.small : opt.mib / 64;
	if (!nprocs || nprocs > PROCS_MAX || !opt.copies)
		die("bad options");
}

static void start_owners(void)
{
	for (unsigned long i = 0; i < nprocs; i++)
		procs[i] = start_owner(opt.small ? own_small_areas : own_region,
				       i);
	if (opt.small) {
		fill_small_areas();
		return;
	}
	npages = nprocs * PAGES_PER_PROC;
	fill_regions(0, opt.late ? npages / 2 : npages);
}

int main(int argc, char **argv)
{
	unsigned long free_before, slab_before;

	result = fopen("/result", "w");
	if (!result)
		return 1;
	if (mount("proc", "/proc", "proc", 0, NULL) ||
	    mount("sysfs", "/sys", "sysfs", 0, NULL))
		die("mount");
	parse(argc, argv);
	fprintf(result, "boot %ld\n",
		(long)(meminfo_kib("MemTotal") - free_pages() * PAGE / 1024));
	start_owners();

	write_num(KSM "smart_scan", opt.smart);
	write_num(KSM "pages_to_scan", 1000000000);
	wake_ksmd();
	if (opt.hold)
		write_num("/proc/umbench", read_bench().ksmd);
	fprintf(result, "pages %lu\n", npages);
	free_before = free_pages();
	slab_before = meminfo_kib("Slab");
	make_passes();
	fprintf(result, "memory %ld %ld\n",
		(long)(free_before - free_pages()) * (long)PAGE,
		(long)(meminfo_kib("Slab") - slab_before) * 1024);
	if (opt.hold)
		report_holds();
	if (opt.unmerge)
		unmerge_all();
	fprintf(result, "done 1\n");
	finish();
}
