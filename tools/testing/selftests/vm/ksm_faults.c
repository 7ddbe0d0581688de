// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: failing allocations, by the kernel's fault
 * injection in debugfs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ksm_faults.h"
#include "ksm_util.h"

/* That many failures at most: as good as no limit, and tells how many there were. */
#define TIMES_TEXT "1000000000"

static const char * const kinds[] = { "failslab", "fail_page_alloc" };

static int set(const char *kind, const char *file, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s", kind, file);
	return ksm_file_write(path, text);
}

static int fail_task(pid_t pid, bool on)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/make-it-fail", pid);
	return ksm_file_write(path, on ? "1" : "0");
}

/* 0, or non-zero where the kernel has no fault injection. */
int ksm_faults_on(const struct ksm_fault *fault)
{
	char percent[16], interval[16];

	snprintf(percent, sizeof(percent), "%u", fault->percent);
	snprintf(interval, sizeof(interval), "%u", fault->interval);
	for (size_t i = 0; i < 2; i++) {
		const char *kind = kinds[i];

		if (set(kind, "task-filter", "Y") || set(kind, "interval", interval) ||
		    set(kind, "times", TIMES_TEXT) || set(kind, "space", "0") ||
		    set(kind, "verbose", "0") || set(kind, "ignore-gfp-wait", "N") ||
		    set(kind, "probability", percent))
			return -1;
	}
	set("fail_page_alloc", "min-order", "0");
	return fail_task(ksmd_pid(), true);
}

/*
 * For the caller alone, and only around a system call: an allocation that fails in a page fault is
 * retried by the kernel, with a message.
 */
void ksm_faults_self(bool on)
{
	fail_task(getpid(), on);
}

/* How many allocations of objects failed. */
unsigned int ksm_faults_off(void)
{
	char times[32] = TIMES_TEXT;

	fail_task(ksmd_pid(), false);
	for (size_t i = 0; i < 2; i++)
		set(kinds[i], "probability", "0");
	ksm_file_read("/sys/kernel/debug/failslab/times", times, sizeof(times));
	return strtol(TIMES_TEXT, NULL, 0) - strtol(times, NULL, 0);
}
