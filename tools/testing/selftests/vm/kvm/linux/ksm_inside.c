// SPDX-License-Identifier: GPL-2.0
/*
 * Same-page merging selftests: the first and only process of a small Linux in
 * a VM, whose memory somebody else merges.
 *
 *   ksm_inside ID [PAGES]	(on the guest's command line, behind `--`)
 *
 * It loads PAGES pages (4096), the same ones whatever its ID, and says so on
 * its serial line. Then, in rounds, it writes to some of them what no other ID
 * and no other round writes, looks at every byte of all pages, and writes
 * back what was there. Each round says how many pages were wrong so far.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ksm_page.h"

#define SEED		1
#define STEP		64	/* every so many pages are written to */
#define ID_SHIFT	24
#define PAUSE_US	100000

/* There is no console for the first process without a node in the initramfs. */
static void open_serial(void)
{
	int fd;

	mkdir("/dev", 0755);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	fd = open("/dev/ttyS0", O_RDWR | O_NOCTTY);
	if (fd < 0)
		return;
	for (int i = 0; i < 3; i++)
		dup2(fd, i);
	setvbuf(stdout, NULL, _IOLBF, 0);
}

/* Pages that are not as they should be, those of this round having @stamp. */
static size_t pages_wrong(char *area, size_t pages, unsigned long round, uint32_t stamp)
{
	char page[page_bytes()];
	size_t at = round * sizeof(stamp) % page_bytes(), wrong = 0;

	for (size_t i = 0; i < pages; i++) {
		content_fill(page, SEED, i);
		if (i % STEP == round % STEP)
			memcpy(page + at, &stamp, sizeof(stamp));
		wrong += !!memcmp(page, area_page(area, i), page_bytes());
	}
	return wrong;
}

static size_t one_round(char *area, size_t pages, unsigned long round, uint32_t stamp)
{
	size_t at = round * sizeof(stamp) % page_bytes(), wrong;

	for (size_t i = round % STEP; i < pages; i += STEP)
		memcpy((char *)area_page(area, i) + at, &stamp, sizeof(stamp));
	wrong = pages_wrong(area, pages, round, stamp);
	for (size_t i = round % STEP; i < pages; i += STEP)
		content_fill(area_page(area, i), SEED, i);
	return wrong;
}

int main(int argc, char **argv)
{
	uint32_t id = argc > 1 ? atoi(argv[1]) : 0;
	size_t pages = argc > 2 ? atoi(argv[2]) : 4096, wrong = 0;
	char *area;

	open_serial();
	area = area_new(pages, pages, SEED);
	if (!area) {
		printf("inside %u: no memory\n", id);
		return 1;
	}
	printf("inside %u: loaded %zu pages\n", id, pages);
	for (unsigned long round = 1;; round++) {
		wrong += one_round(area, pages, round, id << ID_SHIFT | round);
		printf("inside %u: round %lu, %zu wrong\n", id, round, wrong);
		usleep(PAUSE_US);
	}
}
