// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: knobs, passes and the in-kernel validator.
 * See ksm_util.h for the rules that all of these functions keep.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include "kselftest.h"

#include "ksm_util.h"

#define DEBUGFS		"/sys/kernel/debug"
#define POLL_US		2000
#define VALIDATE_S	0.25	/* for each process */

/* Every writable file, in an order in which it can be restored. */
static struct knob {
	const char *file;
	const char *usual;	/* what the tests start from */
	char saved[KSM_TEXT_MAX];
} knobs[] = {
	{ "advisor_mode", "none" },
	{ "advisor_max_cpu", "70" },
	{ "advisor_min_pages_to_scan", "500" },
	{ "advisor_max_pages_to_scan", "30000" },
	{ "advisor_target_scan_time", "200" },
	{ "merge_across_nodes", "1" },
	{ "max_page_sharing", "256" },
	{ "stable_node_chains_prune_millisecs", "2000" },
	{ "use_zero_pages", "0" },
	{ "smart_scan", "0" },
	{ "pages_to_scan", "20000" },
	{ "sleep_millisecs", "1" },
};

#define NR_KNOBS (ARRAY_SIZE(knobs))

static char saved_run[KSM_TEXT_MAX];

double ksm_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

unsigned int ksm_wait_seconds(void)
{
	const char *factor = getenv("KSM_TIME_FACTOR");
	int n = factor ? atoi(factor) : 1;

	return KSM_WAIT_S * (n > 0 ? n : 1);
}

int ksm_file_read(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	while (len < size - 1) {
		n = read(fd, text + len, size - 1 - len);
		if (n < 0) {
			n = -errno;
			close(fd);
			return n;
		}
		if (!n)
			break;
		len += n;
	}
	close(fd);
	text[len] = '\0';
	return 0;
}

/* One write(2) of the whole text, since that is how sysfs parses. */
int ksm_file_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, text, strlen(text));
	if (n < 0)
		ret = -errno;
	else if ((size_t)n != strlen(text))
		ret = -EIO;
	close(fd);
	return ret;
}

/*
 * The number after the first line that starts with @name in a file like
 * /proc/meminfo or ksm_stat, KSM_NOTHING if there is no such line.
 */
int64_t ksm_file_field(const char *path, const char *name)
{
	int64_t value = KSM_NOTHING;
	FILE *file = fopen(path, "re");
	size_t len = strlen(name);
	char line[512];

	if (!file)
		return KSM_NOTHING;
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, name, len) ||
		    (line[len] != ':' && line[len] != ' '))
			continue;
		value = strtoll(line + len + strspn(line + len, ": \t"), NULL, 10);
		break;
	}
	fclose(file);
	return value;
}

static void knob_path(char *path, size_t size, const char *file)
{
	snprintf(path, size, KSM_SYSFS "%s", file);
}

bool ksm_has(const char *file)
{
	char path[256];

	knob_path(path, sizeof(path), file);
	return !access(path, F_OK);
}

bool ksm_available(void)
{
	return ksm_has("run") && !geteuid();
}

int ksm_read(const char *file, char *text, size_t size)
{
	char path[256];

	knob_path(path, sizeof(path), file);
	return ksm_file_read(path, text, size);
}

int64_t ksm_get(const char *file)
{
	char text[KSM_TEXT_MAX], *end;
	long long value;

	if (ksm_read(file, text, sizeof(text)))
		return KSM_NOTHING;
	value = strtoll(text, &end, 10);
	return end == text || *end != '\n' ? KSM_NOTHING : value;
}

int ksm_write(const char *file, const char *text)
{
	char path[256];

	knob_path(path, sizeof(path), file);
	return ksm_file_write(path, text);
}

int ksm_set(const char *file, long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", value);
	return ksm_write(file, text);
}

/* Of a text with all choices, such as advisor_mode's, the chosen one, which is in brackets. */
void ksm_keep_chosen(char *text)
{
	char *from = strchr(text, '['), *to = strchr(text, ']');

	text[strcspn(text, "\n")] = '\0';
	if (!from || !to || to < from)
		return;
	*to = '\0';
	memmove(text, from + 1, to - from);
}

void ksm_save_knobs(void)
{
	for (size_t i = 0; i < NR_KNOBS; i++) {
		if (ksm_read(knobs[i].file, knobs[i].saved, KSM_TEXT_MAX))
			knobs[i].saved[0] = '\0';
		else
			ksm_keep_chosen(knobs[i].saved);
	}
	if (ksm_read("run", saved_run, sizeof(saved_run)))
		saved_run[0] = '\0';
	ksm_keep_chosen(saved_run);
}

/* What a knob was when the program started, NULL if there is no such file. */
const char *ksm_saved_knob(const char *file)
{
	if (!strcmp(file, "run"))
		return saved_run;
	for (size_t i = 0; i < NR_KNOBS; i++) {
		if (!strcmp(knobs[i].file, file))
			return knobs[i].saved[0] ? knobs[i].saved : NULL;
	}
	return NULL;
}

int ksm_restore_knobs(void)
{
	int ret = ksm_unmerge(), err;

	for (size_t i = 0; i < NR_KNOBS; i++) {
		if (!knobs[i].saved[0])
			continue;
		err = ksm_write(knobs[i].file, knobs[i].saved);
		/* pages_to_scan belongs to the advisor while there is one. */
		if (err && !ret && strcmp(knobs[i].file, "pages_to_scan"))
			ret = err;
	}
	err = saved_run[0] ? ksm_write("run", saved_run) : 0;
	return ret ? ret : err;
}

/* Nothing merged, ksmd stopped, all knobs as the tests expect them. */
int ksm_default_knobs(void)
{
	int ret = ksm_unmerge();

	for (size_t i = 0; i < NR_KNOBS && !ret; i++) {
		if (!ksm_has(knobs[i].file))
			continue;
		ret = ksm_write(knobs[i].file, knobs[i].usual);
	}
	return ret;
}

int ksm_start(void)
{
	return ksm_set("run", 1);
}

int ksm_stop(void)
{
	return ksm_set("run", 0);
}

/* Break every merged page, then leave ksmd stopped. */
int ksm_unmerge(void)
{
	int ret = ksm_set("run", 2);

	return ret ? ret : ksm_stop();
}

int ksm_wait_value(const char *file, int64_t value)
{
	double end = ksm_now() + ksm_wait_seconds();

	while (ksm_get(file) != value) {
		if (ksm_now() > end)
			return -ETIME;
		usleep(POLL_US);
	}
	return 0;
}

/*
 * Wait, with ksmd running, until @passes whole passes are over: one more than
 * that many ends of a pass, as the first one may have begun before the call.
 */
int ksm_wait_passes(unsigned int passes)
{
	double end = ksm_now() + ksm_wait_seconds();
	int64_t goal = ksm_get("full_scans");

	if (goal == KSM_NOTHING)
		return -ENOENT;
	goal += passes + 1;
	while (ksm_get("full_scans") < goal) {
		if (ksm_now() > end)
			return -ETIME;
		usleep(POLL_US);
	}
	return 0;
}

/*
 * Have what was merged validated now, as it is gone when the test's process
 * has ended. On slow kernels that is for the first time only.
 */
static int validate_merged(void)
{
	static double took;
	double start = ksm_now();
	int ret = 0;

	if (took < VALIDATE_S)
		ret = ksm_validate();
	took += ksm_now() - start;
	/* Many kernels have no validator. */
	return ret < 0 ? ret : 0;
}

/*
 * Run @passes whole passes, then stop: the counters are at rest afterwards.
 * -EUCLEAN if the kernel then finds that its state disagrees with itself.
 */
int ksm_passes(unsigned int passes)
{
	int ret = ksm_start(), err;

	if (!ret)
		ret = ksm_wait_passes(passes);
	err = ksm_stop();
	if (!ret)
		ret = err;
	return ret ? ret : validate_merged();
}

/*
 * ksmd sleeps for long after each pass; a new value of sleep_millisecs wakes
 * it. One that comes before it has fallen asleep does not, so there are more.
 */
static int one_pass(void)
{
	static long sleep_ms = 1000000;
	double now = ksm_now(), end = now + ksm_wait_seconds(), again = now + 1;
	int64_t goal = ksm_get("full_scans") + 1;
	int ret = ksm_set("sleep_millisecs", ++sleep_ms);

	if (!ret)
		ret = ksm_start();
	while (!ret && ksm_get("full_scans") < goal) {
		now = ksm_now();
		if (now > end)
			return -ETIME;
		if (now > again) {
			ret = ksm_set("sleep_millisecs", ++sleep_ms);
			again = now + 1;
		}
		usleep(POLL_US);
	}
	return ret;
}

/*
 * Run @passes passes and not one more, then stop. The first one goes on with
 * what ksm_passes() may have left unfinished; a step ends with its pass.
 */
int ksm_step(unsigned int passes)
{
	int64_t sleep_ms = ksm_get("sleep_millisecs");
	int ret = 0, err;

	while (!ret && passes--)
		ret = one_pass();
	err = ksm_stop();
	if (!ret)
		ret = err;
	err = ksm_set("sleep_millisecs", sleep_ms);
	return ret ? ret : err;
}

/* Wait, with ksmd running, until nothing is shared: exits are noted by ksmd. */
int ksm_wait_quiet(void)
{
	int ret = ksm_start(), err;

	if (!ret)
		ret = ksm_wait_value("pages_shared", 0);
	if (!ret)
		ret = ksm_wait_value("pages_sharing", 0);
	err = ksm_stop();
	return ret ? ret : err;
}

/*
 * Have the kernel check all of its KSM state. 1 if this kernel has no
 * validator (it needs CONFIG_KSM_DEBUG), 0 if all agrees, -EUCLEAN if not.
 */
int ksm_validate(void)
{
	const char *path = DEBUGFS "/ksm/validate";

	if (access(DEBUGFS "/mm", F_OK) && access(DEBUGFS "/ksm", F_OK))
		(void)!mount("debugfs", DEBUGFS, "debugfs", 0, NULL);
	if (access(path, F_OK))
		return 1;
	return ksm_file_write(path, "1");
}

/* The scanner's thread; 0 if there is none. */
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
