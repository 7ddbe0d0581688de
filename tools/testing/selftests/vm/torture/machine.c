// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging torture: what happens to the machine meanwhile. Blocks of
 * memory go and come, merged pages are taken out of use, and reclaim takes what
 * nobody asked it to. One after the other: a page that is being taken out of use
 * would keep its block from going, for ever.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "kselftest.h"

#include "ksm_disk.h"
#include "ksm_page.h"
#include "ksm_util.h"
#include "torture.h"

#define MEMORY	"/sys/devices/system/memory/"
#define CGROUP	"ksm_torture"
#define FRAMES	1024
#define LAST_FRAME (4ULL << 30 >> 12)

static uint64_t block_random(struct worker *w, const char *state, char *name, size_t size)
{
	struct dirent *entry;
	DIR *dir = opendir(MEMORY);
	char path[512], text[KSM_TEXT_MAX];
	uint64_t found = 0;

	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), MEMORY "%s/state", entry->d_name);
		if (strncmp(entry->d_name, "memory", 6) ||
		    ksm_file_read(path, text, sizeof(text)) ||
		    strncmp(text, state, strlen(state)))
			continue;
		snprintf(path, sizeof(path), MEMORY "%s/valid_zones", entry->d_name);
		if (!strcmp(state, "online") &&
		    (ksm_file_read(path, text, sizeof(text)) || strncmp(text, "Movable", 7)))
			continue;
		if (!worker_random(w, ++found))
			snprintf(name, size, MEMORY "%s/state", entry->d_name);
	}
	if (dir)
		closedir(dir);
	return found;
}

/* At most one block at a time is away. */
static void turn_memory(struct worker *w)
{
	char name[512];

	if (block_random(w, "offline", name, sizeof(name)))
		ksm_file_write(name, "online_movable");
	else if (block_random(w, "online", name, sizeof(name)) &&
		 !ksm_file_write(name, "offline"))
		atomic_fetch_add(&w->stats->offlined, 1);
}

/* The frame of some merged page, the next one from the place drawn; 0 if there is none. */
static uint64_t merged_frame(struct worker *w)
{
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	uint64_t flags[FRAMES], pfn = worker_random(w, LAST_FRAME), found = 0;

	for (size_t n = 0; n < LAST_FRAME / FRAMES && !found; n++) {
		ssize_t got = pread(fd, flags, sizeof(flags), pfn * sizeof(flags[0]));

		for (size_t i = 0; got > 0 && i < got / sizeof(flags[0]) && !found; i++) {
			if (flags[i] & 1ULL << KPF_KSM_BIT)
				found = pfn + i;
		}
		pfn = got > 0 ? pfn + FRAMES : 0;
	}
	close(fd);
	return found;
}

/* Who maps it gets another one, and this one is given back. */
static void turn_frame(struct worker *w)
{
	uint64_t pfn = merged_frame(w);
	char text[32];

	snprintf(text, sizeof(text), "%#llx", (unsigned long long)pfn * page_bytes());
	if (!pfn || ksm_file_write("/sys/devices/system/memory/soft_offline_page", text))
		return;
	atomic_fetch_add(&w->stats->retired, 1);
	snprintf(text, sizeof(text), "%#llx", (unsigned long long)pfn);
	ksm_file_write("/sys/kernel/debug/hwpoison/unpoison-pfn", text);
}

static void machine_run(struct worker *w)
{
	char bytes[32], name[512];

	while (!atomic_load(&w->stats->stop)) {
		switch (worker_random(w, 5)) {
		case 0:
			turn_memory(w);
			break;
		case 1:
			ksm_file_write("/proc/sys/vm/compact_memory", "1");
			break;
		case 2:
			turn_frame(w);
			break;
		default:
			snprintf(bytes, sizeof(bytes), "%d", 1 << 20 << worker_random(w, 5));
			ksm_file_write("/sys/fs/cgroup/memory.reclaim", bytes);
		}
		usleep(worker_random(w, 400000));
	}
	while (block_random(w, "offline", name, sizeof(name)) &&
	       !ksm_file_write(name, "online_movable"))
		;
	_exit(0);
}

/**
 * machine_start - have a process of its own disturb the machine
 * @stats: shared; the process ends when it says stop
 * @seed: of its random numbers
 *
 * Return: its pid.
 */
pid_t machine_start(struct stats *stats, uint64_t seed)
{
	static struct worker w;
	pid_t parent = getpid(), pid;

	/* For the mount only. */
	if (!ksm_cgroup_enter(CGROUP))
		ksm_cgroup_leave(CGROUP);
	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	w.stats = stats;
	w.random = seed;
	machine_run(&w);
	_exit(0);
}
