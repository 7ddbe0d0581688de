/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the workloads of `make bench` have in common: each is the init process
 * of a user mode Linux, says what it found in /result, and switches it off.
 */

#ifndef KINIT_H
#define KINIT_H

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdnoreturn.h>
#include <string.h>
#include <sys/types.h>

#define PAGE		4096UL
#define KSM		"/sys/kernel/mm/ksm/"
#define REGION		((char *)0x1000000000UL)	/* where owners have their memory */
#define PROCS_MAX	1024
#define POLL_NS		4000000L

extern FILE *result;

/* An option `name=value`. */
struct option {
	const char *name;
	unsigned long *value;
};

/* Say what went wrong, as the last line of the result. */
#define die(...)						\
do {								\
	int err = errno;					\
								\
	fprintf(result, "error ");				\
	fprintf(result, __VA_ARGS__);				\
	fprintf(result, " (%s)\n", strerror(err));		\
	finish();						\
} while (0)

noreturn void finish(void);
void write_num(const char *path, unsigned long value);
unsigned long read_num(const char *path);
void nap(long ns);
void parse_options(int argc, char **argv, const struct option *options, size_t nr);
pid_t start_owner(void (*own)(unsigned long), unsigned long arg);

#endif /* KINIT_H */
