// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging torture: many processes change their memory in every way
 * there is while run and the knobs switch, and every byte is verified.
 *
 *   ksm_torture [--seconds N] [--seed N] [--procs N] [--faults]
 *
 * Ends with one line of TAP and a summary. It fails if a byte was wrong, if
 * the kernel's validator complained, or if nothing was ever merged.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ksm_disk.h"
#include "ksm_faults.h"
#include "ksm_util.h"
#include "torture.h"

#define ALL_KEY_BITS	"0xfffffff"

static struct options {
	unsigned int seconds;
	unsigned int procs;
	uint64_t seed;
	bool faults;
} options = { .seconds = 60, .procs = 8 };

static struct stats *stats;
static pid_t workers[MAX_PROCS];
static unsigned long started, killed, refused;
static uint64_t random_state;
static int disk = -1;

static uint64_t draw(uint64_t below)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (random_state >> 33) % below;
}

static void parse(int argc, char **argv)
{
	static const struct option names[] = {
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'S' },
		{ "procs", required_argument, NULL, 'p' },
		{ "faults", no_argument, NULL, 'f' },
		{ "fault-injection", no_argument, NULL, 'f' },
		{ }
	};
	int opt;

	options.seed = time(NULL) * 1000003u + getpid();
	while ((opt = getopt_long(argc, argv, "s:S:p:f", names, NULL)) != -1) {
		switch (opt) {
		case 's':
			options.seconds = strtoul(optarg, NULL, 0);
			break;
		case 'S':
			options.seed = strtoull(optarg, NULL, 0);
			break;
		case 'p':
			options.procs = strtoul(optarg, NULL, 0);
			break;
		case 'f':
			options.faults = true;
			break;
		default:
			fprintf(stderr, "usage: %s %s\n", argv[0],
				"[--seconds N] [--seed N] [--procs N] [--faults]");
			exit(2);
		}
	}
	if (!options.procs || options.procs > MAX_PROCS || !options.seconds) {
		fprintf(stderr, "ksm_torture: 1 to %d processes, 1 second or more\n",
			MAX_PROCS);
		exit(2);
	}
}

static void start_worker(unsigned int i)
{
	pid_t parent = getpid(), pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		/* Failing allocations are for ksmd and the knobs only. */
		if (options.faults)
			ksm_file_write("/proc/self/make-it-fail", "0");
		worker_run(stats, options.seed, 1000 * i + started, disk);
	}
	workers[i] = pid > 0 ? pid : 0;
	started++;
}

/* Replace workers that ended, and sometimes kill one in the middle of it. */
static void tend_workers(void)
{
	int status;

	for (unsigned int i = 0; i < options.procs; i++) {
		if (workers[i] && !draw(150)) {
			kill(workers[i], SIGKILL);
			waitpid(workers[i], &status, 0);
			killed++;
			workers[i] = 0;
		}
		if (workers[i] && waitpid(workers[i], &status, WNOHANG) > 0) {
			if (!WIFEXITED(status) || WEXITSTATUS(status)) {
				printf("# a worker ended with status %#x\n", status);
				atomic_fetch_add(&stats->broken, 1);
			}
			workers[i] = 0;
		}
		if (!workers[i])
			start_worker(i);
	}
}

/* A knob may be busy, or short of memory; anything else is a mistake. */
static void turn(const char *file, long value)
{
	int ret;

	if (!ksm_has(file))
		return;
	if (options.faults)
		ksm_faults_self(true);
	ret = ksm_set(file, value);
	if (options.faults)
		ksm_faults_self(false);
	if (ret == -EBUSY || ret == -ENOMEM || ret == -EINTR) {
		refused++;
	} else if (ret) {
		printf("# %s < %ld: %s\n", file, value, strerror(-ret));
		atomic_fetch_add(&stats->broken, 1);
	}
}

/* With few bits, contents collide. Debug kernels only, and only while nothing is shared. */
static void turn_key_bits(const char *bits)
{
	ksm_file_write("/sys/kernel/debug/ksm/key_bits", bits);
}

static void turn_knobs(void)
{
	static const long runs[] = { 1, 1, 1, 1, 1, 1, 0, 2 };
	static const long pages[] = { 20, 500, 5000, 50000 };
	static const long sharing[] = { 2, 3, 8, 256 };

	switch (draw(10)) {
	case 0:
	case 1:
		turn("run", runs[draw(8)]);
		break;
	case 2:
		turn("pages_to_scan", pages[draw(4)]);
		break;
	case 3:
		turn("sleep_millisecs", draw(4));
		break;
	case 4:
		turn("use_zero_pages", draw(2));
		break;
	case 5:
		turn("smart_scan", draw(2));
		break;
	case 6:
		/* Possible only while nothing is shared. */
		if (!draw(3))
			turn("run", 2);
		turn("max_page_sharing", sharing[draw(4)]);
		turn("merge_across_nodes", draw(2));
		turn_key_bits(draw(2) ? ALL_KEY_BITS : "0x1");
		turn("run", 1);
		break;
	default:
		turn("run", 1);
	}
}

static void wait_for_end(pid_t pid, double end)
{
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (ksm_now() > end) {
			printf("# process %d does not end\n", pid);
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			atomic_fetch_add(&stats->broken, 1);
			break;
		}
		usleep(2000);
	}
}

static void stop_workers(pid_t machine)
{
	double end = ksm_now() + ksm_wait_seconds();

	atomic_store(&stats->stop, true);
	for (unsigned int i = 0; i < options.procs; i++) {
		if (workers[i])
			wait_for_end(workers[i], end);
		workers[i] = 0;
	}
	wait_for_end(machine, end);
}

/* Switch, kill and restart until the time is over; the most pages ever saved. */
static int64_t torture(void)
{
	double begin = ksm_now(), told = begin;
	int64_t most = 0, saved;

	while (ksm_now() < begin + options.seconds) {
		tend_workers();
		turn_knobs();
		saved = ksm_get("pages_sharing") + ksm_get("ksm_zero_pages");
		most = saved > most ? saved : most;
		if (ksm_now() > told + 10) {
			told = ksm_now();
			printf("# %3.0f s: %lu rounds, %lu pages verified, ",
			       told - begin, atomic_load(&stats->rounds),
			       atomic_load(&stats->pages));
			printf("%lu bytes wrong, %lld pages saved\n",
			       atomic_load(&stats->wrong), (long long)saved);
		}
		usleep(10000 + draw(50000));
	}
	return most;
}

int main(int argc, char **argv)
{
	int64_t most, cow = ksm_file_field("/proc/vmstat", "cow_ksm");
	const struct ksm_fault fault = { .percent = 5, .interval = 3 };
	const char *swap = NULL, *path = NULL;
	int valid, nice;
	pid_t machine;
	bool ok;

	parse(argc, argv);
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 13\n1..1\n");
	printf("# seed %llu, %u processes, %u seconds%s\n",
	       (unsigned long long)options.seed, options.procs, options.seconds,
	       options.faults ? ", failing allocations" : "");
	if (!ksm_available()) {
		printf("ok 1 torture # SKIP needs KSM and root\n");
		return 4;
	}
	ksm_save_knobs();
	ksm_default_knobs();
	random_state = options.seed;
	stats = mmap(NULL, sizeof(*stats), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (stats == MAP_FAILED)
		return 1;
	path = ksm_scratch_disk();
	if (path && !disk_prepare(path, options.seed))
		disk = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	swap = ksm_swap_on(KSM_SWAP_ZRAM);
	printf("# O_DIRECT from %s, swap to %s\n", disk < 0 ? "nothing" : path,
	       swap ?: "nothing");
	if (options.faults && ksm_faults_on(&fault)) {
		printf("not ok 1 torture: no fault injection in this kernel\n");
		return 1;
	}

	/* Workers are many, and would leave it nothing. */
	nice = getpriority(PRIO_PROCESS, ksmd_pid());
	setpriority(PRIO_PROCESS, ksmd_pid(), -10);
	ksm_start();
	machine = machine_start(stats, options.seed);
	most = torture();
	setpriority(PRIO_PROCESS, ksmd_pid(), nice);
	if (options.faults)
		ksm_faults_off();
	stop_workers(machine);
	ksm_stop();
	valid = ksm_validate();
	if (ksm_restore_knobs())
		printf("# a knob could not be restored\n");
	turn_key_bits(ALL_KEY_BITS);
	if (swap && ksm_swap_off(swap))
		printf("# swapoff failed\n");

	ok = valid >= 0 && most > 0 && !atomic_load(&stats->wrong) &&
	     !atomic_load(&stats->broken) && atomic_load(&stats->rounds);
	printf("# %lu rounds, %lu operations, %lu O_DIRECT reads\n",
	       atomic_load(&stats->rounds), atomic_load(&stats->ops),
	       atomic_load(&stats->reads));
	printf("# %lu pages moved, %lu retired, %lu memory blocks taken away\n",
	       atomic_load(&stats->moved), atomic_load(&stats->retired),
	       atomic_load(&stats->offlined));
	printf("# %lu processes started, %lu killed, %lu knobs refused\n",
	       started, killed, refused);
	printf("# %lu pages verified, %lu bytes wrong, %lu errors\n",
	       atomic_load(&stats->pages), atomic_load(&stats->wrong),
	       atomic_load(&stats->broken));
	printf("# at most %lld pages saved at once, %lld merged pages written to, validator: %s\n",
	       (long long)most, (long long)(ksm_file_field("/proc/vmstat", "cow_ksm") - cow),
	       valid == 1 ? "none" : valid ? "BAD" : "ok");
	printf("%s 1 torture\n", ok ? "ok" : "not ok");
	return !ok;
}
