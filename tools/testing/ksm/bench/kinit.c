// SPDX-License-Identifier: GPL-2.0
/*
 * What the workloads of `make bench` have in common. See kinit.h.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kinit.h"

FILE *result;

noreturn void finish(void)
{
	fclose(result);
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

void write_num(const char *path, unsigned long value)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || dprintf(fd, "%lu\n", value) < 0)
		die("write %lu to %s", value, path);
	close(fd);
}

unsigned long read_num(const char *path)
{
	FILE *f = fopen(path, "r");
	unsigned long value;

	if (!f || fscanf(f, "%lu", &value) != 1)
		die("read %s", path);
	fclose(f);
	return value;
}

void nap(long ns)
{
	struct timespec ts = { .tv_nsec = ns };

	nanosleep(&ts, NULL);
}

void parse_options(int argc, char **argv, const struct option *options, size_t nr)
{
	for (int i = 1; i < argc; i++) {
		char *value = strchr(argv[i], '=');
		size_t n, length = value ? value - argv[i] : 0;

		for (n = 0; n < nr; n++)
			if (value && strlen(options[n].name) == length &&
			    !strncmp(options[n].name, argv[i], length))
				break;
		if (n == nr)
			die("unknown option %s", argv[i]);
		*options[n].value = strtoul(value + 1, NULL, 10);
	}
}

/* Start a process that owns memory and sleeps. */
pid_t start_owner(void (*own)(unsigned long), unsigned long arg)
{
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe(ready))
		die("pipe");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		close(ready[0]);
		own(arg);
		if (write(ready[1], "", 1) != 1)
			_exit(errno);
		for (;;)
			pause();
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1) {
		int status = 0;

		waitpid(pid, &status, 0);
		die("no memory for process %lu, status %d", arg, status);
	}
	close(ready[0]);
	return pid;
}
