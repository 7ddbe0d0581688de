/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Same-page merging demonstration: what its two files share.
 */
#ifndef KSM_DEMO_H
#define KSM_DEMO_H

#include <stddef.h>
#include <stdint.h>

#define DEMO_MAX_FILES 16384

/* Files, mapped, and where each one stands in a process's memory (pages). */
struct demo_file {
	char *path;
	const char *data;
	size_t bytes;
	size_t first_page;
	size_t pages;
};

struct demo_files {
	struct demo_file file[DEMO_MAX_FILES];
	size_t files;
	size_t pages;
	size_t bytes;
};

/* ksm_demo_load.c */
int demo_collect(struct demo_files *files, const char *dir);
void demo_load(const struct demo_files *files, char *area, unsigned int proc);
size_t demo_rewrite(const struct demo_files *files, char *area,
		    unsigned int proc, uint64_t seed);
size_t demo_differ(const struct demo_files *files, const char *area,
		   unsigned int proc, uint64_t seed, int rewritten);

#endif /* KSM_DEMO_H */
