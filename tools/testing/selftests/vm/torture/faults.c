// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging torture: failing allocations (failslab, fail_page_alloc)
 * in ksmd and in the process that writes the knobs, so in run=2 too. Not in
 * the workers: a fault of theirs that fails makes the kernel complain.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ksm_util.h"
#include "torture.h"

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

/* 0 if there is none. */
pid_t ksmd_pid(void)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	char path[300], comm[64];
	pid_t pid = 0;

	while (dir && !pid && (entry = readdir(dir))) {
		if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		if (!ksm_file_read(path, comm, sizeof(comm)) &&
		    !strcmp(comm, "ksmd\n"))
			pid = atoi(entry->d_name);
	}
	if (dir)
		closedir(dir);
	return pid;
}

/* 0, or non-zero where the kernel has no fault injection. */
int faults_on(void)
{
	for (size_t i = 0; i < 2; i++) {
		const char *kind = kinds[i];

		if (set(kind, "task-filter", "Y") ||
		    set(kind, "probability", "5") || set(kind, "interval", "3") ||
		    set(kind, "times", "-1") || set(kind, "space", "0") ||
		    set(kind, "verbose", "0") ||
		    set(kind, "ignore-gfp-wait", "N"))
			return -1;
	}
	set("fail_page_alloc", "min-order", "0");
	return fail_task(ksmd_pid(), true);
}

/*
 * For the caller alone, and only around a system call: an allocation that fails in a page fault is
 * retried by the kernel, with a message.
 */
void faults_self(bool on)
{
	fail_task(getpid(), on);
}

void faults_off(void)
{
	fail_task(ksmd_pid(), false);
	for (size_t i = 0; i < 2; i++)
		set(kinds[i], "probability", "0");
}
