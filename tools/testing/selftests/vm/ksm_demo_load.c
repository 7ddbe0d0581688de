// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging demonstration: real files in the memory of a process.
 *
 * A file starts on a page of its own. Where it has more pages than one, each
 * process turns it by another number of pages, so that equal pages stand at
 * different offsets. A rewritten page holds its file's bytes inverted.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ksm_demo.h"
#include "ksm_page.h"

/* One page in this many is rewritten. */
#define REWRITE_ONE_IN 20

static struct demo_files *collecting;

static int collect_one(const char *path, const struct stat *st, int type,
		       struct FTW *ftw)
{
	struct demo_files *files = collecting;
	struct demo_file *f = &files->file[files->files];
	void *data;
	int fd;

	if (type != FTW_F || !S_ISREG(st->st_mode) || !st->st_size)
		return 0;
	if (files->files == DEMO_MAX_FILES)
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	data = mmap(NULL, st->st_size, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (data == MAP_FAILED)
		return 0;
	*f = (struct demo_file) {
		.path = strdup(path), .data = data, .bytes = st->st_size,
		.first_page = files->pages,
		.pages = (st->st_size + page_bytes() - 1) / page_bytes(),
	};
	files->files++;
	files->pages += f->pages;
	files->bytes += f->bytes;
	return 0;
}

int demo_collect(struct demo_files *files, const char *dir)
{
	collecting = files;
	if (nftw(dir, collect_one, 32, FTW_PHYS))
		return -1;
	return files->files ? 0 : -1;
}

/* Page @page of a file is this page of the area. */
static size_t place(const struct demo_file *f, size_t page, unsigned int proc)
{
	return f->first_page + (page + 7 * proc) % f->pages;
}

static size_t bytes_in(const struct demo_file *f, size_t page)
{
	size_t from = page * page_bytes();

	return f->bytes - from < page_bytes() ? f->bytes - from : page_bytes();
}

static int is_rewritten(uint64_t seed, unsigned int proc, size_t place)
{
	uint64_t x = seed ^ (proc * 0x9e3779b97f4a7c15ULL + place + 1);

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return (x >> 33) % REWRITE_ONE_IN == 0;
}

void demo_load(const struct demo_files *files, char *area, unsigned int proc)
{
	for (size_t i = 0; i < files->files; i++) {
		const struct demo_file *f = &files->file[i];

		for (size_t page = 0; page < f->pages; page++)
			memcpy(area + place(f, page, proc) * page_bytes(),
			       f->data + page * page_bytes(), bytes_in(f, page));
	}
}

/* Returns the number of pages that were rewritten. */
size_t demo_rewrite(const struct demo_files *files, char *area,
		    unsigned int proc, uint64_t seed)
{
	size_t written = 0;

	for (size_t page = 0; page < files->pages; page++) {
		char *at = area + page * page_bytes();

		if (!is_rewritten(seed, proc, page))
			continue;
		for (size_t i = 0; i < page_bytes(); i++)
			at[i] = ~at[i];
		written++;
	}
	return written;
}

/* The bytes of a page that are neither the file's nor as rewritten. */
static size_t page_differs(const char *at, const char *data, size_t bytes,
			   int inverted)
{
	size_t wrong = 0;

	if (!inverted && !memcmp(at, data, bytes)) {
		data += bytes;
		at += bytes;
		for (bytes = page_bytes() - bytes; bytes--; )
			wrong += *at++ != 0;
		return wrong;
	}
	for (size_t i = 0; i < page_bytes(); i++) {
		char want = i < bytes ? data[i] : 0;

		wrong += at[i] != (char)(inverted ? ~want : want);
	}
	return wrong;
}

/* Compare every byte of the area with the files. */
size_t demo_differ(const struct demo_files *files, const char *area,
		   unsigned int proc, uint64_t seed, int rewritten)
{
	size_t wrong = 0;

	for (size_t i = 0; i < files->files; i++) {
		const struct demo_file *f = &files->file[i];

		for (size_t page = 0; page < f->pages; page++) {
			size_t at = place(f, page, proc);
			int inverted = rewritten && is_rewritten(seed, proc, at);

			wrong += page_differs(area + at * page_bytes(),
					      f->data + page * page_bytes(),
					      bytes_in(f, page), inverted);
		}
	}
	return wrong;
}
