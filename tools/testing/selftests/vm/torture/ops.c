// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging torture: what may happen to a worker's memory.
 *
 * An operation that the kernel refuses (for lack of memory, mostly) changes
 * neither the memory nor the oracle; it never ends the worker.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest.h"

#include "ksm_disk.h"
#include "ksm_page.h"
#include "ksm_util.h"
#include "torture.h"

static size_t bytes_of(const struct region *r)
{
	return r->pages * page_bytes();
}

/* A random part of a region: from page @from on, @n pages. */
static size_t some_pages(struct worker *w, struct region *r, size_t *n)
{
	size_t from = worker_random(w, r->pages);

	*n = 1 + worker_random(w, r->pages - from);
	return from;
}

int region_writable(struct region *r)
{
	if (r->prot & PROT_WRITE)
		return 0;
	if (mprotect(r->addr, bytes_of(r), PROT_READ | PROT_WRITE))
		return -errno;
	r->prot = PROT_READ | PROT_WRITE;
	return 0;
}

int region_new(struct worker *w, struct region *r)
{
	bool huge = !worker_random(w, 8);
	size_t pages = huge ? 600 : 1 + worker_random(w, MAX_PAGES);
	uint32_t *id = calloc(pages, sizeof(*id));
	void *addr = mmap(NULL, pages * page_bytes(), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!id || addr == MAP_FAILED) {
		free(id);
		return -ENOMEM;
	}
	madvise(addr, pages * page_bytes(), huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	*r = (struct region) {
		.addr = addr, .pages = pages, .id = id,
		.prot = PROT_READ | PROT_WRITE,
	};
	if (worker_random(w, 8))
		madvise(addr, pages * page_bytes(), MADV_MERGEABLE);
	for (size_t i = 0; i < pages; i++)
		content_put(w, r, i, content_pick(w));
	return 0;
}

void region_free(struct region *r)
{
	if (munmap(r->addr, bytes_of(r)))
		return;
	free(r->id);
	memset(r, 0, sizeof(*r));
}

static void op_write(struct worker *w, struct region *r)
{
	size_t n, from = some_pages(w, r, &n);

	if (region_writable(r))
		return;
	for (size_t i = from; i < from + n; i++)
		content_put(w, r, i, content_pick(w));
}

/* One content in all of it: many copies at once. */
static void op_flood(struct worker *w, struct region *r)
{
	uint32_t id = content_pick(w);

	if (region_writable(r))
		return;
	for (size_t i = 0; i < r->pages; i++)
		content_put(w, r, i, id);
}

static void op_advise(struct worker *w, struct region *r)
{
	static const int advices[] = {
		MADV_MERGEABLE, MADV_MERGEABLE, MADV_UNMERGEABLE, MADV_PAGEOUT,
		MADV_PAGEOUT, MADV_COLD, MADV_COLLAPSE,
	};
	size_t n, from = some_pages(w, r, &n);
	int advice = advices[worker_random(w, sizeof(advices) / sizeof(int))];

	madvise(r->addr + from * page_bytes(), n * page_bytes(), advice);
}

static void op_dontneed(struct worker *w, struct region *r)
{
	size_t n, from = some_pages(w, r, &n);

	if (!madvise(r->addr + from * page_bytes(), n * page_bytes(),
		     MADV_DONTNEED))
		memset(r->id + from, 0, n * sizeof(*r->id));
}

static void op_protect(struct worker *w, struct region *r)
{
	static const int prots[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
	int prot = prots[worker_random(w, 3)];

	if (!mprotect(r->addr, bytes_of(r), prot))
		r->prot = prot;
}

/* Move a region elsewhere, merged pages and all. */
static void op_move(struct worker *w, struct region *r)
{
	void *to = mmap(NULL, bytes_of(r), PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	void *moved;

	if (to == MAP_FAILED)
		return;
	/* mremap takes one VMA only, so make it one. */
	madvise(r->addr, bytes_of(r), MADV_MERGEABLE);
	moved = mremap(r->addr, bytes_of(r), bytes_of(r),
		       MREMAP_MAYMOVE | MREMAP_FIXED, to);
	if (moved == MAP_FAILED)
		munmap(to, bytes_of(r));
	else
		r->addr = moved;
}

/* Give up the last pages of a region. */
static void op_shrink(struct worker *w, struct region *r)
{
	size_t pages = 1 + worker_random(w, r->pages);

	if (pages < r->pages &&
	    !munmap(r->addr + pages * page_bytes(),
		    (r->pages - pages) * page_bytes()))
		r->pages = pages;
}

static void op_unmap(struct worker *w, struct region *r)
{
	region_free(r);
}

/* To a random node, with all who share them. */
static void op_migrate(struct worker *w, struct region *r)
{
	size_t n, from = some_pages(w, r, &n);
	size_t moved = area_move(r->addr + from * page_bytes(), n > 16 ? 16 : n,
				 worker_random(w, 2));

	atomic_fetch_add(&w->stats->moved, moved);
}

static void op_lock(struct worker *w, struct region *r)
{
	if (worker_random(w, 2))
		mlock(r->addr, bytes_of(r));
	else
		munlock(r->addr, bytes_of(r));
}

/* A device writes into the pages while ksmd looks at them. */
static void op_direct_read(struct worker *w, struct region *r)
{
	size_t n, from = some_pages(w, r, &n), at;
	ssize_t got;

	if (w->disk < 0 || region_writable(r))
		return;
	n = n > 32 ? 32 : n;
	at = worker_random(w, DISK_PAGES - n);
	got = pread(w->disk, r->addr + from * page_bytes(), n * page_bytes(),
		    KSM_DISK_START + at * page_bytes());
	for (ssize_t i = 0; i < got / (ssize_t)page_bytes(); i++)
		r->id[from + i] = disk_content(at + i);
	if (got > 0)
		atomic_fetch_add(&w->stats->reads, 1);
}

/* Pages held by a pipe for a while. */
static void op_pipe(struct worker *w, struct region *r)
{
	size_t n, from = some_pages(w, r, &n);
	char page[page_bytes()];
	struct iovec vec;
	int fds[2];

	if (!(r->prot & PROT_READ) || pipe(fds))
		return;
	n = n > 8 ? 8 : n;
	vec.iov_base = r->addr + from * page_bytes();
	vec.iov_len = n * page_bytes();
	if (vmsplice(fds[1], &vec, 1, SPLICE_F_NONBLOCK) == (ssize_t)vec.iov_len) {
		usleep(worker_random(w, 5000));
		for (size_t i = 0; i < n; i++) {
			void *at = r->addr + (from + i) * page_bytes();

			if (read(fds[0], page, page_bytes()) !=
			    (ssize_t)page_bytes() ||
			    memcmp(page, at, page_bytes()))
				atomic_fetch_add(&w->stats->wrong, 1);
		}
	}
	close(fds[0]);
	close(fds[1]);
}

/* The child has all the memory as it was, and changes its own copy. */
static void child_life(struct worker *w)
{
	w->child = 0;
	worker_verify(w);
	for (int i = 0; i < 6; i++) {
		struct region *r = &w->region[worker_random(w, MAX_REGIONS)];

		if (r->addr)
			op_write(w, r);
		usleep(worker_random(w, 8000));
	}
	worker_verify(w);
	_exit(0);
}

static void op_fork(struct worker *w, struct region *r)
{
	int status;
	pid_t pid;

	if (w->child) {
		pid = waitpid(w->child, &status, WNOHANG);
		if (!pid)
			return;
		if (pid < 0 || !WIFEXITED(status) || WEXITSTATUS(status))
			atomic_fetch_add(&w->stats->broken, 1);
		w->child = 0;
	}
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		child_life(w);
	}
	w->child = pid > 0 ? pid : 0;
}

static void op_prctl(struct worker *w, struct region *r)
{
	prctl(PR_SET_MEMORY_MERGE, worker_random(w, 3) != 0, 0, 0, 0);
}

static const struct {
	void (*fn)(struct worker *w, struct region *r);
	unsigned int weight;
} ops[] = {
	{ op_write, 12 }, { op_flood, 4 }, { op_advise, 12 }, { op_dontneed, 3 },
	{ op_protect, 4 }, { op_move, 3 }, { op_shrink, 1 }, { op_unmap, 2 },
	{ op_lock, 2 }, { op_direct_read, 6 }, { op_pipe, 2 }, { op_fork, 3 }, { op_prctl, 1 },
	{ op_migrate, 3 },
};

/* One operation on one region that there is. */
void worker_op(struct worker *w)
{
	unsigned int total = 0, pick;
	struct region *r;
	size_t i;

	do {
		r = &w->region[worker_random(w, MAX_REGIONS)];
	} while (!r->addr);
	for (i = 0; i < ARRAY_SIZE(ops); i++)
		total += ops[i].weight;
	pick = worker_random(w, total);
	for (i = 0; pick >= ops[i].weight; i++)
		pick -= ops[i].weight;
	ops[i].fn(w, r);
}
