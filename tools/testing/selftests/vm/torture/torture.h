/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Same-page merging torture: what the parts of ksm_torture share.
 *
 * main.c switches knobs and kills and restarts workers; worker.c is one
 * process with regions of memory whose contents it knows; ops.c is what may
 * happen to a region; machine.c takes memory away and brings it back.
 */
#ifndef TORTURE_H
#define TORTURE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define BASES		24	/* contents that everybody uses */
#define MAX_REGIONS	6
#define MAX_PAGES	96	/* of a region; 600 with huge pages */
#define MAX_PROCS	64
#define DISK_PAGES	256

/* In shared memory, written by all. */
struct stats {
	atomic_ulong rounds;
	atomic_ulong pages;		/* verified */
	atomic_ulong wrong;		/* bytes */
	atomic_ulong ops;
	atomic_ulong reads;		/* with O_DIRECT */
	atomic_ulong moved;		/* to the other NUMA node, as asked */
	atomic_ulong retired;		/* pages taken out of use */
	atomic_ulong offlined;		/* memory blocks */
	atomic_ulong broken;		/* children that ended otherwise than told */
	atomic_bool stop;
};

/* A page's content: 0 is all zeroes, else a base and one word changed. */
struct region {
	char *addr;
	size_t pages;
	int prot;
	uint32_t *id;
};

struct worker {
	struct stats *stats;
	uint64_t random;
	uint64_t *base[BASES];
	struct region region[MAX_REGIONS];
	int disk;			/* -1 if there is none */
	pid_t child;			/* a fork that verifies, 0 if none */
};

/* worker.c */
void worker_run(struct stats *stats, uint64_t seed, uint64_t slot, int disk);
uint64_t worker_random(struct worker *w, uint64_t below);
void content_put(struct worker *w, struct region *r, size_t page, uint32_t id);
uint32_t content_pick(struct worker *w);
size_t region_verify(struct worker *w, struct region *r);
void worker_verify(struct worker *w);
uint32_t disk_content(size_t page);
int disk_prepare(const char *disk, uint64_t seed);
int content_bases(uint64_t *base[BASES], uint64_t seed);

/* ops.c */
int region_new(struct worker *w, struct region *r);
void region_free(struct region *r);
void worker_op(struct worker *w);
int region_writable(struct region *r);

/* machine.c */
pid_t machine_start(struct stats *stats, uint64_t seed);

#endif /* TORTURE_H */
