// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging demonstration: several processes load real files into
 * their memory, and run=1 is all that happens next.
 *
 *   ksm_demo [--files DIR] [--procs N] [--seed N]
 *   ksm_demo --tsc-khz	print the speed of the time stamp counter, for a
 *			guest that can't find it out by itself
 *
 * A table shows the counters while ksmd works. Then each process rewrites
 * some pages, all bytes are compared with the files, run=2 unmerges, and all
 * are compared again. The exit status is 0 only if no byte differs, something
 * was merged, and nothing stayed merged at the end.
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#ifdef __x86_64__
#include <x86intrin.h>
#endif

#include "ksm_child.h"
#include "ksm_demo.h"
#include "ksm_page.h"
#include "ksm_util.h"

#define MAX_PROCS	16
#define TABLE_SECONDS	1
#define SETTLE_SECONDS	240

static struct demo_files *files;
static unsigned int procs = 4, proc;
static uint64_t seed = 1;
static char *area;
static double began;
static double ksmd_before;

static long child_load(long number)
{
	size_t bytes = files->pages * page_bytes();

	proc = number;
	area = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		return -1;
	demo_load(files, area, proc);
	return madvise(area, bytes, MADV_MERGEABLE);
}

static long child_rewrite(long arg)
{
	return demo_rewrite(files, area, proc, seed);
}

static long child_differ(long rewritten)
{
	return demo_differ(files, area, proc, seed, rewritten);
}

/* Seconds that ksmd ran for, from the scheduler's clock if there is one. */
static double ksmd_cpu(void)
{
	static pid_t pid;
	char path[64], text[512], *at;
	unsigned long user, system;

	if (!pid)
		pid = ksmd_pid();
	snprintf(path, sizeof(path), "/proc/%d/schedstat", pid);
	if (!ksm_file_read(path, text, sizeof(text)))
		return strtoull(text, NULL, 10) / 1e9;
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (ksm_file_read(path, text, sizeof(text)))
		return 0;
	at = strrchr(text, ')');
	if (!at || sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
			  &user, &system) != 2)
		return 0;
	return (double)(user + system) / sysconf(_SC_CLK_TCK);
}

/*
 * A kernel whose clock is the timer tick charges next to nothing to a thread
 * that is woken by the tick and sleeps before the next: better no number.
 */
static int clock_is_coarse(void)
{
	char text[64];

	return ksm_file_read("/sys/devices/system/clocksource/clocksource0/current_clocksource",
			     text, sizeof(text)) || strstr(text, "jiffies");
}

static void print_tsc_khz(void)
{
#ifdef __x86_64__
	double start = ksm_now();
	uint64_t tsc = __rdtsc();

	usleep(200000);
	tsc = __rdtsc() - tsc;
	printf("%.0f\n", tsc / (ksm_now() - start) / 1000);
#endif
}

static double saved_pages(void)
{
	return ksm_get("pages_sharing") + ksm_get("ksm_zero_pages");
}

static void table_head(void)
{
	printf("\n%6s %5s %6s %8s %8s %9s %9s %9s %6s %9s\n", "time", "procs",
	       "passes", "shared", "sharing", "unshared", "volatile", "saved",
	       "saved", "ksmd CPU");
	printf("%6s %5s %6s %8s %8s %9s %9s %9s %6s %9s\n", "s", "", "", "pages",
	       "pages", "pages", "pages", "MiB", "%", "s");
}

static void table_line(const char *remark)
{
	double saved = saved_pages();

	printf("%6.1f %5u %6lld %8lld %8lld %9lld %9lld %9.1f %6.1f %9.2f%s%s\n",
	       ksm_now() - began, procs, (long long)ksm_get("full_scans"),
	       (long long)ksm_get("pages_shared"),
	       (long long)ksm_get("pages_sharing"),
	       (long long)ksm_get("pages_unshared"),
	       (long long)ksm_get("pages_volatile"),
	       saved * page_bytes() / (1 << 20),
	       100 * saved / ((double)procs * files->pages),
	       ksmd_cpu() - ksmd_before, *remark ? "  " : "", remark);
}

/* Show the table until a whole pass has changed nothing. */
static void watch(void)
{
	double end = ksm_now() + SETTLE_SECONDS, saved = -1;
	int64_t pass = ksm_get("full_scans"), still = pass;

	while (ksm_now() < end) {
		sleep(TABLE_SECONDS);
		table_line("");
		pass = ksm_get("full_scans");
		if (saved_pages() != saved || saved <= 0) {
			saved = saved_pages();
			still = pass;
		} else if (pass > still + 1) {
			return;
		}
	}
}

/* Show the table until ksmd has come by everywhere once more. */
static void watch_a_pass(void)
{
	double end = ksm_now() + SETTLE_SECONDS;
	int64_t goal = ksm_get("full_scans") + 2;

	while (ksm_now() < end && ksm_get("full_scans") < goal) {
		sleep(TABLE_SECONDS);
		table_line("");
	}
}

static size_t compare(struct ksm_child *child, int rewritten, const char *when)
{
	size_t wrong = 0, answers = 0;

	/* All processes at once. */
	for (unsigned int i = 0; i < procs; i++)
		ksm_child_post(&child[i], child_differ, rewritten);
	for (unsigned int i = 0; i < procs; i++) {
		long result = ksm_child_result(&child[i]);

		if (result < 0)
			wrong += files->bytes;
		else
			wrong += result, answers++;
	}
	printf("%-28s %zu of %u processes, %zu bytes each: %zu bytes differ\n",
	       when, answers, procs, files->pages * page_bytes(), wrong);
	return wrong;
}

static void parse(int argc, char **argv, const char **dir)
{
	static const struct option names[] = {
		{ "files", required_argument, NULL, 'f' },
		{ "procs", required_argument, NULL, 'p' },
		{ "seed", required_argument, NULL, 's' },
		{ "tsc-khz", no_argument, NULL, 't' },
		{ }
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "f:p:s:t", names, NULL)) != -1) {
		if (opt == 'f')
			*dir = optarg;
		else if (opt == 'p')
			procs = strtoul(optarg, NULL, 0);
		else if (opt == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (opt == 't')
			print_tsc_khz(), exit(0);
		else
			procs = 0;
	}
	if (procs < 2 || procs > MAX_PROCS) {
		fprintf(stderr, "usage: %s [--files DIR] [--procs 2..%d] [--seed N]\n",
			argv[0], MAX_PROCS);
		exit(2);
	}
}

static void summary(double saved, double cost, int64_t scanned, double took,
		    int64_t profit)
{
	double total = (double)procs * files->pages;

	printf("\nmerged      %.0f of %.0f pages given back: %.1f MiB of %.1f MiB (%.1f %%)\n",
	       saved, total, saved * page_bytes() / (1 << 20),
	       total * page_bytes() / (1 << 20), 100 * saved / total);
	if (clock_is_coarse())
		printf("cost        ksmd's CPU is unknown: this kernel's clock is the tick");
	else
		printf("cost        %.2f s of ksmd's CPU, %.1f us a page",
		       cost, scanned ? cost * 1e6 / scanned : 0.0);
	printf(", for %lld pages scanned in %.1f s; %.1f MiB of metadata\n",
	       (long long)scanned, took,
	       (saved * page_bytes() - profit) / (1 << 20));
}

int main(int argc, char **argv)
{
	struct ksm_child child[MAX_PROCS];
	double saved, cost, took;
	const char *dir = "/files";
	size_t wrong = 0, written = 0;
	int64_t scanned, profit;

	parse(argc, argv, &dir);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!ksm_available()) {
		fprintf(stderr, "ksm_demo: needs a kernel with KSM, and root\n");
		return 2;
	}
	files = calloc(1, sizeof(*files));
	if (!files || demo_collect(files, dir)) {
		fprintf(stderr, "ksm_demo: no files in %s\n", dir);
		return 2;
	}
	printf("%zu files, %.1f MiB; %u processes load all of them, each at other offsets\n",
	       files->files, files->bytes / 1048576.0, procs);
	for (unsigned int i = 0; i < procs; i++) {
		if (ksm_child_start(&child[i]) ||
		    ksm_child_call(&child[i], child_load, i)) {
			fprintf(stderr, "ksm_demo: process %u could not load\n", i);
			return 2;
		}
	}

	printf("echo 1 > " KSM_SYSFS "run\n");
	ksmd_before = ksmd_cpu();
	scanned = ksm_get("pages_scanned");
	table_head();
	began = ksm_now();
	if (ksm_start())
		return 2;
	watch();
	saved = saved_pages();
	cost = ksmd_cpu() - ksmd_before;
	scanned = ksm_get("pages_scanned") - scanned;
	profit = ksm_get("general_profit");
	took = ksm_now() - began;

	for (unsigned int i = 0; i < procs; i++)
		written += ksm_child_call(&child[i], child_rewrite, 0);
	table_line("pages rewritten");
	watch_a_pass();
	printf("\n%zu pages were rewritten by their processes\n", written);
	wrong += compare(child, 1, "after the rewriting:");

	printf("echo 2 > " KSM_SYSFS "run\n");
	if (ksm_unmerge() || ksm_get("pages_shared") || ksm_get("pages_sharing")) {
		printf("pages stayed merged\n");
		wrong++;
	}
	table_line("unmerged");
	wrong += compare(child, 1, "after unmerging:");
	for (unsigned int i = 0; i < procs; i++)
		ksm_child_end(&child[i]);

	summary(saved, cost, scanned, took, profit);
	if (saved <= 0)
		printf("nothing was merged\n");
	printf("%zu bytes differ\n", wrong);
	return wrong || saved <= 0;
}
