// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging torture: a worker, its contents and their verification.
 *
 * The oracle is one number a page, kept outside of the memory that may merge.
 * Every byte of every page is compared with what its number stands for.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ksm_disk.h"
#include "ksm_page.h"
#include "torture.h"

#define OPS_PER_ROUND 24

uint64_t worker_random(struct worker *w, uint64_t below)
{
	w->random = w->random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (w->random >> 33) % below;
}

/* Mostly shared contents, some zeroes, some one word apart from a shared one. */
uint32_t content_pick(struct worker *w)
{
	uint64_t kind = worker_random(w, 10);
	uint32_t base = worker_random(w, BASES);

	if (kind == 0)
		return 0;
	if (kind < 7)
		return 1 + base;
	return 1 + base + BASES * (1 + worker_random(w, 5000));
}

static size_t changed_word(uint32_t variant)
{
	return variant * 37 % (page_bytes() / sizeof(uint64_t));
}

void content_put(struct worker *w, struct region *r, size_t page, uint32_t id)
{
	uint64_t *at = (uint64_t *)(r->addr + page * page_bytes());
	uint32_t variant = id ? (id - 1) / BASES : 0;

	if (!id) {
		memset(at, 0, page_bytes());
	} else {
		memcpy(at, w->base[(id - 1) % BASES], page_bytes());
		if (variant)
			at[changed_word(variant)] ^= variant;
	}
	r->id[page] = id;
}

/* The bytes of a page that are not as they should be. */
static size_t content_bad(struct worker *w, const uint64_t *at, uint32_t id)
{
	uint32_t variant = id ? (id - 1) / BASES : 0;
	uint64_t want[page_bytes() / sizeof(uint64_t)];
	size_t bad = 0, i;

	if (!id) {
		memset(want, 0, sizeof(want));
	} else {
		memcpy(want, w->base[(id - 1) % BASES], sizeof(want));
		if (variant)
			want[changed_word(variant)] ^= variant;
	}
	if (!memcmp(at, want, sizeof(want)))
		return 0;
	for (i = 0; i < sizeof(want); i++)
		bad += ((const char *)at)[i] != ((const char *)want)[i];
	return bad;
}

size_t region_verify(struct worker *w, struct region *r)
{
	size_t wrong = 0, bad, i;

	for (i = 0; i < r->pages; i++) {
		const uint64_t *at = (void *)(r->addr + i * page_bytes());

		bad = content_bad(w, at, r->id[i]);
		if (bad && !wrong)
			printf("# pid %d: page %zu of %zu at %p: %zu bytes are not content %u\n",
			       getpid(), i, r->pages, at, bad, r->id[i]);
		wrong += bad;
	}
	atomic_fetch_add(&w->stats->pages, r->pages);
	atomic_fetch_add(&w->stats->wrong, wrong);
	return wrong;
}

/* All regions; those that may not be read become readable for good. */
void worker_verify(struct worker *w)
{
	for (size_t i = 0; i < MAX_REGIONS; i++) {
		struct region *r = &w->region[i];

		if (!r->addr)
			continue;
		if (!(r->prot & PROT_READ)) {
			if (mprotect(r->addr, r->pages * page_bytes(), PROT_READ))
				continue;
			r->prot = PROT_READ;
		}
		region_verify(w, r);
	}
}

int content_bases(uint64_t *base[BASES], uint64_t seed)
{
	for (size_t i = 0; i < BASES; i++) {
		base[i] = aligned_alloc(page_bytes(), page_bytes());
		if (!base[i])
			return -1;
		content_fill(base[i], seed, 1000 + i);
	}
	return 0;
}

/* What a page of the scratch disk holds: bases only, so that reads merge. */
uint32_t disk_content(size_t page)
{
	return 1 + page / 2 % BASES;
}

int disk_prepare(const char *disk, uint64_t seed)
{
	int fd = open(disk, O_WRONLY | O_CLOEXEC), ret = 0;
	uint64_t *base[BASES];

	if (fd < 0 || content_bases(base, seed))
		return -1;
	for (size_t i = 0; i < DISK_PAGES && !ret; i++) {
		off_t at = KSM_DISK_START + i * page_bytes();

		if (pwrite(fd, base[disk_content(i) - 1], page_bytes(), at) !=
		    (ssize_t)page_bytes())
			ret = -1;
	}
	if (fsync(fd))
		ret = -1;
	close(fd);
	return ret;
}

/* Never returns: the process ends when told to, killed, or of itself. */
void worker_run(struct stats *stats, uint64_t seed, uint64_t slot, int disk)
{
	struct worker *w = calloc(1, sizeof(*w));

	if (!w || content_bases(w->base, seed))
		_exit(3);
	w->stats = stats;
	w->random = seed * 2654435761u + slot;
	w->disk = disk;
	while (!atomic_load(&stats->stop)) {
		for (int i = 0; i < OPS_PER_ROUND; i++) {
			struct region *r = &w->region[worker_random(w, MAX_REGIONS)];

			if (r->addr)
				worker_op(w);
			else
				region_new(w, r);
			atomic_fetch_add(&stats->ops, 1);
		}
		worker_verify(w);
		atomic_fetch_add(&stats->rounds, 1);
		/* Some go early, in the middle of a pass. */
		if (!worker_random(w, 200))
			break;
		/* Stillness, so that ksmd finds equal pages. */
		usleep(worker_random(w, 4) ? worker_random(w, 20000) : worker_random(w, 600000));
	}
	worker_verify(w);
	if (w->child)
		waitpid(w->child, NULL, 0);
	_exit(0);
}
